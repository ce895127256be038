//! The help: commands in groups by their purpose, in the operator's language.

use clap::{Arg, Command, CommandFactory};

use super::{Cli, chinese};
use crate::terminal::Language;

/// Chinese heading, English heading, commands.
const GROUPS: &[(&str, &str, &[&str])] = &[
    ("运行", "Run", &["node", "master", "demo"]),
    ("查看", "Look", &["status", "nodes", "meetings", "ready", "casts", "verify"]),
    (
        "更改",
        "Change",
        &["publish", "push", "run", "tasks", "cast", "sync", "config", "token", "gofd-password"],
    ),
    ("下载", "Download", &["get", "bench"]),
    ("安装", "Install", &["install", "uninstall", "completions"]),
];

const NAME_COLUMNS: usize = 14;

/// Returns the command line with its help.
pub(super) fn command(language: Language) -> Command {
    let mut command = <Cli as CommandFactory>::command();
    // Adds what clap adds by itself, so that it can be translated.
    command.build();
    if language == Language::Chinese {
        command = translated(command, "");
    }
    let groups = groups(&command, language);
    let usage = language.of("用法：", "Usage: ");
    let options = language.of("选项：", "Options:");
    command.help_template(format!(
        "{{about-with-newline}}\n{usage}{{usage}}\n\n{groups}{options}\n{{options}}{{after-help}}"
    ))
}

/// Formats a heading and a line for each command; the first sentence is enough.
fn groups(command: &Command, language: Language) -> String {
    let mut text = String::new();
    for (chinese, english, names) in GROUPS {
        text += &language.of(format!("{chinese}：\n"), format!("{english}:\n"));
        for name in *names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text += &format!("  {name:NAME_COLUMNS$} {about}\n");
        }
        text.push('\n');
    }
    text
}

/// Translates a command line to Chinese; `path` is `config get`, for example.
fn translated(mut command: Command, path: &str) -> Command {
    if let Some(text) = chinese::of_command(path) {
        command = command.about(text);
    }
    if let Some(text) = chinese::detail(path) {
        command = command.long_about(text);
    }
    if let Some(after) = command.get_after_help() {
        let after = chinese::headings(&after.to_string());
        command = command.after_help(after);
    }
    let arguments: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
    for id in arguments {
        command = command.mut_arg(id, |arg| translated_argument(arg, path));
    }
    let below: Vec<_> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let is_leaf = below.is_empty();
    for name in below {
        let path = format!("{path} {name}").trim_start().to_owned();
        command = command.mut_subcommand(&name, |command| translated(command, &path));
    }
    let commands = if is_leaf { "" } else { "命令：\n{subcommands}\n\n" };
    let positionals = match command.get_positionals().next() {
        Some(_) => "参数：\n{positionals}\n\n",
        None => "",
    };
    command.help_template(format!(
        "{{about-with-newline}}\n用法：{{usage}}\n\n{commands}{positionals}选项：\n{{options}}{{after-help}}"
    ))
}

fn translated_argument(argument: Arg, command: &str) -> Arg {
    let Some(text) = chinese::of_argument(command, argument.get_id().as_str()) else {
        return argument;
    };
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match defaults.is_empty() || !argument.get_action().takes_values() {
        true => String::new(),
        false => format!("（默认 {}）", defaults.join("、")),
    };
    let text = format!("{text}{default}");
    let argument = argument.help(&text).long_help(text);
    argument.hide_default_value(true).hide_possible_values(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &Command) -> impl Iterator<Item = &Command> {
        command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
    }

    #[test]
    fn every_command_is_in_one_group() {
        let command = <Cli as CommandFactory>::command();
        let mut all: Vec<_> = shown(&command).map(Command::get_name).collect();
        let mut grouped: Vec<_> =
            GROUPS.iter().flat_map(|(_, _, names)| names.iter().copied()).collect();
        all.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(all, grouped);
    }

    #[test]
    fn every_text_of_the_help_is_there_in_chinese() {
        fn walk(command: &Command, missing: &mut Vec<String>) {
            for argument in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                if !help.contains(|c| matches!(c, '\u{4e00}'..='\u{9fff}')) {
                    missing.push(format!("{} {}: {help}", command.get_name(), argument.get_id()));
                }
            }
            for below in shown(command) {
                let about = below.get_about().map(ToString::to_string).unwrap_or_default();
                if !about.contains(|c| matches!(c, '\u{4e00}'..='\u{9fff}')) {
                    missing.push(format!("{}: {about}", below.get_name()));
                }
                if below.get_long_about().is_some_and(|about| about.to_string().is_ascii()) {
                    missing.push(format!("{}: its details", below.get_name()));
                }
                walk(below, missing);
            }
        }
        let mut missing = Vec::new();
        walk(&command(Language::Chinese), &mut missing);
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn help_is_in_the_operators_language() {
        let help = |line: &[&str], language| {
            let error = command(language).try_get_matches_from(line).unwrap_err();
            error.to_string()
        };
        let english = help(&["edge-mirror", "--help"], Language::English);
        for part in ["Usage: edge-mirror", "\nLook:\n  status ", "\nOptions:\n", "  -h, --help"] {
            assert!(english.contains(part), "{part}: {english}");
        }
        let chinese = help(&["edge-mirror", "--help"], Language::Chinese);
        for part in ["用法：edge-mirror", "\n查看：\n  status ", "\n选项：\n", "显示帮助"]
        {
            assert!(chinese.contains(part), "{part}: {chinese}");
        }
        let chinese = help(&["edge-mirror", "bench", "--help"], Language::Chinese);
        for part in ["用法：edge-mirror bench", "选项：", "（默认 500）", "客户端"] {
            assert!(chinese.contains(part), "{part}: {chinese}");
        }
        for english in ["Usage", "Options", "default", "Print help"] {
            assert!(!chinese.contains(english), "{english}: {chinese}");
        }
    }
}
