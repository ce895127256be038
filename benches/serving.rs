//! The node's serving against nginx's, on one machine, over the same files,
//! in turns: throughput and CPU, memory under slow readers, the waits of
//! small requests beside a big one, and a storm of clients.
//!
//! `cargo bench --bench serving -- --help`; `just bench` prepares everything.

mod support;

#[path = "serving/cells.rs"]
mod cells;
#[path = "serving/client.rs"]
mod client;
#[path = "serving/contenders.rs"]
mod contenders;
#[path = "serving/fair.rs"]
mod fair;
#[path = "serving/paced.rs"]
mod paced;
#[path = "serving/slow.rs"]
mod slow;
#[path = "serving/storm.rs"]
mod storm;
#[path = "serving/wrk.rs"]
mod wrk;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use cells::{Cell, Turn, What};
use contenders::Scene;
use storm::Storm;
use support::{
    Common, Report, Stage, nginx,
    packages::{KB, MB, Package, parse_size},
};

const SIZES: [u64; 4] = [KB, 100 * KB, 10 * MB, 300 * MB];
const CONNECTIONS: [usize; 4] = [1, 8, 64, 512];
const RANGE_CONNECTIONS: [usize; 3] = [1, 8, 64];
/// Clients and bytes a second of each: a room over a good network, and a hall.
const PACED: [(usize, u64); 2] = [(60, 8 * MB), (200, 2 * MB)];
const FRESH_CONNECTIONS: [usize; 3] = [8, 64, 256];
const HTTPS: [(u64, usize); 8] = [
    (KB, 1),
    (KB, 64),
    (100 * KB, 1),
    (100 * KB, 64),
    (10 * MB, 1),
    (10 * MB, 8),
    (300 * MB, 1),
    (300 * MB, 64),
];
/// So big that the storm's clients pile up while they arrive.
const STORM_BYTES: u64 = 30 * MB;
const DRAINED_BYTES: u64 = 1000 * MB;

/// The node's serving against nginx's.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only these parts; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Only these cells, as SIZE:CONNECTIONS, with commas: 1k:64,10m:8.
    #[arg(long, value_parser = cell, value_delimiter = ',')]
    cells: Vec<(u64, usize)>,
    /// Of each server; with more than one, servers and client share all cores.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Seconds of each turn, after 0.3 s of warming up.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Of slow readers.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    readers: usize,
    /// In the storm.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    clients: usize,
    /// Within which the storm's clients arrive.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    window: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Sizes by connections.
    Cells,
    /// 1 MiB ranges of a big package.
    Range,
    /// Clients slower than the server.
    Paced,
    /// A connection for each request.
    Fresh,
    /// Over HTTPS.
    Https,
    /// Memory under slow readers.
    Slow,
    /// Small requests beside a big one, warm and cold.
    Fair,
    /// Many clients at once.
    Storm,
}

fn cell(text: &str) -> Result<(u64, usize), String> {
    let parts = text.split_once(':').and_then(|(size, connections)| {
        Some((parse_size(size)?, connections.parse().ok().filter(|n| *n > 0)?))
    });
    parts.ok_or_else(|| "SIZE:CONNECTIONS is wanted, such as 10m:8".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    raise_file_limit()?;
    let mut report = Report::begin("serving", &[nginx::version()])?;
    let (small, big) = (Package::of(KB), Package::of(300 * MB));
    let (stormy, drained) = (Package::of(STORM_BYTES), Package::of(DRAINED_BYTES));
    let cells = arguments.cells();
    let mut packages = vec![small.clone(), big.clone()];
    packages.extend(cells.iter().map(|cell| cell.package.clone()));
    packages.push(stormy.clone());
    packages.extend(HTTPS.map(|(size, _)| Package::of(size)));
    packages.extend(arguments.plays(Part::Fair).then(|| drained.clone()));
    packages.sort_by_key(|package| package.size);
    packages.dedup();
    let scene = Scene::set(stage, packages, arguments.workers)?;
    let (rounds, turn) = (arguments.common.rounds(), arguments.turn());
    let mut patience = arguments.common.patience();

    report.say(&arguments.described(&scene));
    if arguments.plays(Part::Cells) {
        cells::run(&scene, &cells, (rounds, turn), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Range) {
        let range = |connections| Cell { what: What::Range, package: big.clone(), connections };
        let cells = RANGE_CONNECTIONS.map(range);
        cells::run(&scene, &cells, (rounds, turn), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Paced) {
        let cells = PACED.map(|(connections, rate)| Cell {
            what: What::Paced(rate),
            package: stormy.clone(),
            connections,
        });
        cells::run(&scene, &cells, (rounds, turn), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Fresh) {
        let package = Package::of(100 * KB);
        let fresh = |connections| Cell { what: What::Fresh, package: package.clone(), connections };
        let cells = FRESH_CONNECTIONS.map(fresh);
        cells::run(&scene, &cells, (rounds, turn), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Https) {
        let cells = HTTPS.map(|(size, connections)| Cell {
            what: What::Https,
            package: Package::of(size),
            connections,
        });
        cells::run(&scene, &cells, (rounds, turn), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Slow) {
        let time = Duration::from_secs(if arguments.common.quick { 3 } else { 10 });
        slow::run(&scene, &big, (arguments.readers, time), &mut report)?;
    }
    if arguments.plays(Part::Fair) {
        let packages = fair::Packages { small: &small, big: &drained };
        let time = turn.measured * 2;
        fair::run(&scene, &packages, (rounds, time), &mut patience, &mut report)?;
    }
    if arguments.plays(Part::Storm) {
        // Each takes as long as 60 GB take.
        let rounds = rounds.min(if arguments.common.quick { 1 } else { 3 });
        let turn = Turn { measured: turn.measured * 2, ..turn };
        let storm = arguments.storm();
        storm::run(&scene, &stormy, storm, (rounds, turn), &mut patience, &mut report)?;
    }
    report.finish(&arguments.common, &patience)
}

impl Arguments {
    fn plays(&self, part: Part) -> bool {
        match (self.only.is_empty(), self.cells.is_empty()) {
            (true, true) => true,
            // Who names cells wants these.
            (true, false) => part == Part::Cells,
            (false, _) => self.only.contains(&part),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        if !self.plays(Part::Cells) {
            return Vec::new();
        }
        let all = || SIZES.iter().flat_map(|size| CONNECTIONS.map(|n| (*size, n))).collect();
        let cells: Vec<_> = if self.cells.is_empty() { all() } else { self.cells.clone() };
        let cell = |(size, connections)| Cell {
            what: What::Whole,
            package: Package::of(size),
            connections,
        };
        cells.into_iter().map(cell).collect()
    }

    fn storm(&self) -> Storm {
        let part = if self.common.quick { 4 } else { 1 };
        let window = Duration::from_secs_f64(self.window / f64::from(part));
        Storm { clients: self.clients / part as usize, window }
    }

    fn turn(&self) -> Turn {
        let part = if self.common.quick { 0.3 } else { 1.0 };
        Turn {
            warm_up: Duration::from_secs_f64(0.3 * part),
            measured: Duration::from_secs_f64(self.seconds * part),
        }
    }

    fn described(&self, scene: &Scene) -> String {
        let who = match scene.workers() {
            1 => "One worker to each server, on a core of its own; the client on another.",
            n => &format!("{n} workers to each server, which share all cores with the client."),
        };
        format!(
            "{who} Loopback, the same files, {} rounds of {} s each, in turns and in another \
             order each time. Medians, with the least and the most; ratios are those of \
             rounds, below 1 means less than nginx.",
            self.common.rounds(),
            self.turn().measured.as_secs_f64(),
        )
    }
}

/// The storm's clients are descriptors of this one process.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot raise the limit of open files")
}
