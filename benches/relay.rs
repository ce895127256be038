//! A package on its way to a whole fleet: from the start of a meeting until the last
//! node has verified it, against what one copy takes over the main server's uplink, and
//! how often the main server sent it. Each node is on a machine of its own, a network
//! namespace with a limited uplink; nodes die, links stall and bytes go wrong.
//!
//! `cargo bench --bench relay -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

#[path = "relay/cases.rs"]
mod cases;
#[path = "relay/fleet.rs"]
mod fleet;
#[path = "relay/network.rs"]
mod network;
#[path = "relay/ours.rs"]
mod ours;
#[path = "relay/poison.rs"]
mod poison;
#[path = "relay/sandbox.rs"]
mod sandbox;
#[path = "relay/swarm.rs"]
mod swarm;
#[path = "relay/theirs.rs"]
mod theirs;
#[path = "relay/tablets.rs"]
mod tablets;
#[path = "relay/tree.rs"]
mod tree;
#[path = "relay/trial.rs"]
mod trial;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use axum::body::Bytes;
use clap::Parser;

use cases::{CASES, Case, MainServerKind};
use support::{
    Common, Limit, Report, Samples, Stage, Table, machine, packages, process, quiet::Watch, stats,
};
use trial::Trial;

/// Each takes as long as a package does.
const MOST_ROUNDS: usize = 3;
const MIB: f64 = (1 << 20) as f64;
/// A wrong byte is found within so many.
const FOUND_MIB: f64 = 2.0;
/// A tablet at the deepest node has its first byte after so many.
const FIRST_BYTE_MS: f64 = 150.0;
/// Above a node that pulls alone.
const MEMORY_MIB: f64 = 4.0;

/// From "started" to "everyone has it", for a fleet that passes packages on.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only the cases that have one of these in their names; may be given several times.
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// As many nodes in each case.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// The package in each case, in MiB.
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// The main server's uplink in each case, in MiB/s; nodes' in proportion.
    #[arg(long, value_name = "MIB")]
    cap: Option<u64>,
    /// The main server in each case but that of aria2c.
    #[arg(long, value_enum)]
    main_server: Option<MainServerKind>,
    /// Keep the logs of the last round of each case in this folder.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

impl Arguments {
    /// Returns the cases as they are run.
    fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        let wanted = |name: &str| self.only.iter().any(|words| name.contains(words.as_str()));
        let cases = CASES.into_iter().filter(move |case| self.only.is_empty() || wanted(case.name));
        cases.map(|mut case| {
            if self.common.quick {
                case = case.quick();
            }
            case.nodes = self.nodes.unwrap_or(case.nodes);
            case.size = self.size.map_or(case.size, |mib| mib << 20);
            if let Some(mib) = self.cap {
                case.uplink = case.uplink * (mib << 20) / case.cap;
                case.cap = mib << 20;
            }
            if case.main_server != MainServerKind::Swarm {
                case.main_server = self.main_server.unwrap_or(case.main_server);
            }
            case
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    sandbox::run_inside(|| Stage::run(move |stage| bench(stage, &arguments)))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    network::make()?;
    let common = &arguments.common;
    let mut report = Report::begin("relay", &[machine::said(Path::new("aria2c"), "--version")])?;
    let mut patience = common.patience();
    let rounds = common.rounds().min(MOST_ROUNDS);
    let mut found = Vec::new();
    for case in arguments.cases() {
        let package = Bytes::from(packages::in_memory(case.size)?);
        let mut trials = Vec::new();
        for round in 1..=rounds {
            eprintln!("{}, round {round}", case.name);
            let trial = patience
                .turn(|| watched(|| run(stage, &case, &package, arguments.logs.as_deref())));
            match trial {
                Ok(trial) => {
                    eprintln!("{:.2} × a copy, sent {:.3} ×", trial.ratio(&case), trial.sent);
                    trials.push(trial);
                }
                // The others still say something.
                Err(error) => eprintln!("{}: {error:#}", case.name),
            }
        }
        found.push(Found { case, trials });
    }
    report.say(&format!(
        "{rounds} rounds. Medians, with the least and the most. Rates are of payload; a node's \
         uplink does not slow down what it receives. All storage is in memory."
    ));
    report.table(&table(&found));
    report.limits(&limits(&found));
    report.finish(common, &patience)
}

fn run(stage: &Stage, case: &Case, package: &Bytes, logs: Option<&Path>) -> Result<Trial> {
    match case.main_server {
        MainServerKind::Ours | MainServerKind::Theirs => {
            let logs = logs.map(|folder| folder.join(case.name.replace([' ', '/'], "-")));
            Trial::run(stage, case, package, logs.as_deref())
        }
        MainServerKind::Swarm => Trial::run_swarm(stage, case, package),
    }
}

/// Also says what share of a core others had.
fn watched<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let (watch, before) = (Watch::begin()?, process::all_ours_s()?);
    let found = work()?;
    // All processes that took part have ended.
    Ok((found, watch.others(process::all_ours_s()? - before)?))
}

struct Found {
    case: Case,
    trials: Vec<Trial>,
}

impl Found {
    fn of(&self, figure: impl Fn(&Trial) -> f64) -> Samples {
        self.trials.iter().map(figure).collect()
    }

    fn ratio(&self) -> Samples {
        self.of(|trial| trial.ratio(&self.case))
    }

    fn row(&self) -> [String; 11] {
        let case = &self.case;
        let mib = |bytes: u64| stats::figure(bytes as f64 / MIB);
        [
            case.name.to_owned(),
            case.nodes.to_string(),
            mib(case.size),
            format!("{} / {}", mib(case.cap), mib(case.uplink)),
            self.of(|trial| trial.seconds).spread(1.0),
            stats::ratio_spread(&self.ratio()),
            stats::ratio_spread(&self.of(|trial| trial.ratio_to_curl(case))),
            thousandths(&self.of(|trial| trial.sent)),
            thousandths(&self.of(|trial| trial.sent_on_the_wire)),
            thousandths(&self.of(|trial| trial.depth)).replace(".000", ""),
            self.of(|trial| trial.memory).spread(1.0 / MIB),
        ]
    }
}

/// Formats the most of them: [`stats::ratio`] would round a hundredth away.
fn thousandths(samples: &Samples) -> String {
    if samples.count() == 0 { "–".to_owned() } else { format!("{:.3}", samples.max()) }
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&[
        "case",
        "nodes",
        "package, MiB",
        "uplinks of main server / node, MiB/s",
        "last node verified, s",
        "÷ (size ÷ uplink)",
        "÷ `curl`, one copy",
        "main server sent, ÷ size",
        "on the wire, ÷ size",
        "depth",
        "anonymous memory of a node, MiB",
    ]);
    found.iter().for_each(|found| table.row(found.row()));
    table
}

fn limits(found: &[Found]) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut limit = |what, at_most, unit, measured| {
        limits.push(Limit::new(what, at_most, unit, measured));
    };
    for of in found {
        let name = of.case.name;
        if let Some((time, sent)) = of.case.at_most {
            limit(format!("{name}: time"), time, "", of.ratio().median());
            limit(format!("{name}: sent"), sent, "", of.of(|trial| trial.sent).median());
        }
        let taken = of.of(|trial| trial.taken / MIB);
        if of.case.has_tablets() {
            let first_byte = of.of(|trial| trial.first_byte_s * 1000.0);
            limit(
                format!("{name}: first byte at the deepest node"),
                FIRST_BYTE_MS,
                "ms",
                first_byte.median(),
            );
        }
        if of.case.is_poisoned() {
            limit(format!("{name}: found after"), FOUND_MIB, "MiB", taken.max());
        }
    }
    let memory = |name: &str| {
        let of = found.iter().find(|of| of.case.name == name);
        of.map_or(f64::NAN, |of| of.of(|trial| trial.memory / MIB).median())
    };
    let more = memory("8 nodes") - memory("one node");
    limit("memory above a node alone".to_owned(), MEMORY_MIB, "MiB", more);
    limits
}
