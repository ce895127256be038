//! Pulling from a main server: against `curl -o`, and how long after the last
//! byte a package is committed. nginx is the main server; node and curl take
//! turns on the same file and the same disk.
//!
//! `cargo bench --bench pull -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

#[path = "pull/bout.rs"]
mod bout;
#[path = "pull/cases.rs"]
mod cases;
#[path = "pull/node.rs"]
mod node;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use bout::Bout;
use cases::{CASES, Case, Line, PACED};
use support::{Common, Places, Report, Stage, Table, machine, nginx};

/// A line takes its time, and always the same.
const PACED_ROUNDS: usize = 3;

/// Pulling from a main server, against curl.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only the cases that have this word in their names; may be given several
    /// times.
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("pull", &[nginx::version(), curl_version()])?;
    let mut patience = common.patience();
    let site =
        nginx::Site { root: &stage.make("www")?, cache: false, paced: &PACED, certificate: None };
    let nginx = nginx::start(stage, &site, Places::default())?;
    let wanted = |case: &&Case| {
        let name = case.name(common.quick);
        arguments.only.iter().all(|word| name.contains(word.as_str()))
    };
    let mut table = Table::new(&[
        "package",
        "node, to the last byte, ms",
        "`curl -o`, ms",
        "÷ curl",
        "MB/s",
        "CPU of the node, s/GB",
        "committed after the last byte, ms",
        "÷ pull",
    ]);
    let mut limits = Vec::new();
    for case in CASES.iter().filter(wanted) {
        let bout = Bout::set(stage, &nginx, site.root, case, common.quick)?;
        let rounds = match case.line {
            Line::Loopback => common.rounds(),
            _ => common.rounds().min(PACED_ROUNDS),
        };
        let found = bout.run(rounds, &mut patience)?;
        let name = case.name(common.quick);
        table.row(found.row(&name));
        limits.push(case.limited.held(&name, &found));
    }
    report.say(&format!(
        "{} rounds, {PACED_ROUNDS} at most at the pace of a line; node and curl in turns. \
         Medians, with the least and the most; ratios are those of rounds.",
        common.rounds()
    ));
    report.table(&table);
    report.limits(&limits);
    report.finish(common, &patience)
}

fn curl_version() -> String {
    let said = machine::said(Path::new("curl"), "--version");
    // It goes on with the versions of all that it uses.
    said.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
