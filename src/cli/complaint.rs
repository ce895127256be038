//! Errors of a command line, on one line and in the operator's language: the argument,
//! what it should be, where to read on.

use std::{error::Error, ffi::OsString};

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use crate::terminal::Language;

pub(super) fn one_line(error: &clap::Error, arguments: &[OsString], language: Language) -> String {
    let command = named_command(arguments);
    let said = said(error, &command, language);
    language.of(format!("{said}；用法见 {command} --help"), format!("{said}; see {command} --help"))
}

/// Returns `edge-mirror config`, if such a command was named.
fn named_command(arguments: &[OsString]) -> String {
    let named = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    let known = <Cli as CommandFactory>::command();
    match known.find_subcommand(named) {
        Some(command) => format!("edge-mirror {}", command.get_name()),
        None => "edge-mirror".to_owned(),
    }
}

fn said(error: &clap::Error, command: &str, language: Language) -> String {
    let comma = language.of("、", ", ");
    let text = |kind| error.get(kind).map(|value| listed(value, comma)).unwrap_or_default();
    let argument = text(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let near = text(ContextKind::SuggestedArg);
            suggested(unknown(language, "参数", "argument", &argument), &near, language)
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand);
            // The last one is the likeliest.
            let near = match error.get(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(all)) => all.last().cloned().unwrap_or_default(),
                _ => text(ContextKind::SuggestedSubcommand),
            };
            suggested(unknown(language, "命令", "command", &name), &near, language)
        }
        ErrorKind::MissingRequiredArgument => {
            language.of(format!("缺少 {argument}"), format!("missing {argument}"))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let choices = subcommands(command).join(comma);
            language.of(
                format!("{command} 后面需要一个命令：{choices}"),
                format!("{command} needs one of these commands: {choices}"),
            )
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg);
            match argument == other || other.is_empty() {
                true => language.of(
                    format!("{argument} 只能写一次"),
                    format!("{argument} can't be used more than once"),
                ),
                false => language.of(
                    format!("{argument} 不能与 {other} 同时使用"),
                    format!("{argument} can't be used with {other}"),
                ),
            }
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let given = format!("{} {value}", bare(&argument)).trim().to_owned();
            language.of(format!("{given}：{why}"), format!("{given}: {why}"))
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            language.of(format!("{argument} 后面需要一个值"), format!("{argument} needs a value"))
        }
        ErrorKind::InvalidValue => {
            let choices = text(ContextKind::ValidValue);
            let given = format!("{} {value}", bare(&argument)).trim().to_owned();
            language.of(
                format!("{given}：应为以下之一：{choices}"),
                format!("{given}: it must be one of {choices}"),
            )
        }
        _ => as_clap_says(error),
    }
}

/// The reason that a value is not allowed.
pub(super) fn reason(error: &clap::Error, language: Language) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(choices) => {
            let choices = listed(choices, language.of("、", ", "));
            language.of(format!("应为以下之一：{choices}"), format!("it must be one of {choices}"))
        }
        None => error.source().map(ToString::to_string).unwrap_or_default(),
    }
}

fn unknown(language: Language, chinese: &str, english: &str, name: &str) -> String {
    language.of(format!("没有这个{chinese}：{name}"), format!("unknown {english} {name}"))
}

fn suggested(said: String, near: &str, language: Language) -> String {
    match near {
        "" => said,
        near => language
            .of(format!("{said}，是否想写 {near}？"), format!("{said}, did you mean {near}?")),
    }
}

fn subcommands(command: &str) -> Vec<String> {
    let all = <Cli as CommandFactory>::command();
    let name = command.strip_prefix("edge-mirror ").unwrap_or_default();
    let of = all.find_subcommand(name).unwrap_or(&all);
    let shown = of.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).collect()
}

fn listed(value: &ContextValue, comma: &str) -> String {
    match value {
        ContextValue::Strings(all) => all.join(comma),
        ContextValue::String(one) => one.clone(),
        other => other.to_string(),
    }
}

/// Returns `--port` for `--port <N>`, and "" for an argument without dashes.
fn bare(argument: &str) -> &str {
    match argument.split_once(' ') {
        Some((name, _)) if name.starts_with('-') => name,
        None if argument.starts_with('-') => argument,
        _ => "",
    }
}

/// Other errors: clap's first sentence.
fn as_clap_says(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::help;
    use super::*;

    fn complaint(line: &str, language: Language) -> String {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let error = help::command(language).try_get_matches_from(&arguments).unwrap_err();
        one_line(&error, &arguments, language)
    }

    #[test]
    fn complaints_fit_on_one_line_and_say_what_to_do() {
        for (line, said) in [
            (
                "edge-mirror --prot 1",
                "unknown argument --prot, did you mean --port?; see edge-mirror --help",
            ),
            (
                "edge-mirror --port abc",
                "--port abc: a port is a whole number from 0 to 65535; see edge-mirror --help",
            ),
            (
                "edge-mirror statsu",
                "unknown command statsu, did you mean status?; see edge-mirror --help",
            ),
            (
                "edge-mirror config",
                "edge-mirror config needs one of these commands: get, set, check; see edge-mirror config --help",
            ),
            (
                "edge-mirror bench",
                "missing --url <URL>, --meeting <ID>; see edge-mirror bench --help",
            ),
            (
                "edge-mirror completions cmd",
                "cmd: it must be one of bash, elvish, fish, powershell, zsh; see edge-mirror completions --help",
            ),
            (
                "edge-mirror status --node",
                "--node <URL> needs a value; see edge-mirror status --help",
            ),
            (
                "edge-mirror status --json --json",
                "--json can't be used more than once; see edge-mirror status --help",
            ),
            (
                "edge-mirror token --config a --data b",
                "--config <FILE> can't be used with --data <DIR>; see edge-mirror token --help",
            ),
            (
                "edge-mirror config set x",
                "x: KEY=VALUE is needed, such as syncInterval=5; see edge-mirror config --help",
            ),
        ] {
            assert_eq!(complaint(line, Language::English), said);
        }
    }

    #[test]
    fn complaints_are_in_the_operators_language() {
        for (line, said) in [
            (
                "edge-mirror --prot 1",
                "没有这个参数：--prot，是否想写 --port？；用法见 edge-mirror --help",
            ),
            (
                "edge-mirror bench",
                "缺少 --url <URL>、--meeting <ID>；用法见 edge-mirror bench --help",
            ),
            (
                "edge-mirror config",
                "edge-mirror config 后面需要一个命令：get、set、check；用法见 edge-mirror config --help",
            ),
        ] {
            assert_eq!(complaint(line, Language::Chinese), said);
        }
    }
}
