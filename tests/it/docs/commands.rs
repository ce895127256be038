//! The reference of commands: what the program's own help says.

use std::process::{Command, Stdio};

use clap::CommandFactory;

use super::{Language, Language::*, cell, compare};
use edge_mirror::cli::Cli;

/// What help is folded to where there is no terminal.
const COLUMNS: &str = "100";

#[test]
fn the_reference_of_commands_is_the_programs_help() {
    let mut command = <Cli as CommandFactory>::command();
    command.build();
    let mut paths = Vec::new();
    leaves(&command, &[], &mut paths);
    assert!(paths.len() > 15, "{paths:?}");
    for language in [English, Chinese] {
        let columns = language.of("命令 | 说明", "Command | What it does");
        let (mut table, mut details) = (format!("| {columns} |\n|---|---|\n"), String::new());
        for path in &paths {
            let name = path.join(" ");
            let anchor = format!("edge-mirror-{}", path.join("-"));
            let about = cell(&first_paragraph(&help(path, "-h", language)));
            table += &format!("| [`edge-mirror {name}`](#{anchor}) | {about} |\n");
            let help = help(path, "--help", language);
            details += &format!("\n### edge-mirror {name}\n\n```text\n{}\n```\n", help.trim_end());
        }
        compare(language, "commands.md", "commands", &(table + &details));
    }
}

/// Commands that do something by themselves, and not only hold others.
fn leaves(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for below in below {
        let path = [path, &[below.get_name().to_owned()]].concat();
        match below.has_subcommands() {
            true => {
                if !below.is_subcommand_required_set() {
                    found.push(path.clone());
                }
                leaves(below, &path, found);
            }
            false => found.push(path),
        }
    }
}

fn help(path: &[String], flag: &str, language: Language) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-mirror"));
    command.env_remove("LC_MESSAGES").env("LC_ALL", language.of("zh_CN.UTF-8", "en_US.UTF-8"));
    let asked = command.args(path).arg(flag).env("COLUMNS", COLUMNS).stdin(Stdio::null());
    let output = asked.output().unwrap();
    assert!(output.status.success(), "{path:?} {flag}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// On one line; Chinese is put together without a space.
fn first_paragraph(text: &str) -> String {
    let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    lines.into_iter().fold(String::new(), |mut text, line| {
        if !text.is_empty() && text.is_ascii() {
            text.push(' ');
        }
        text + line
    })
}
