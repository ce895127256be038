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

#[path = "pull/node.rs"]
mod node;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use node::{Node, Pull};
use support::{
    Common, Limit, Patience, Places, Report, Samples, Server, Stage, Table, machine, nginx,
    packages::{self, MB, Method},
    process,
    quiet::Watch,
    stats,
};

/// At the pace of a line of 1 or 2.5 Gbit/s, a bit less than the line's own: it
/// carries headers, too.
const PACED: [(&str, &str); 2] = [("/uploads/gigabit/", "112m"), ("/uploads/faster/", "280m")];
/// A line takes its time, and always the same.
const PACED_ROUNDS: usize = 3;
/// A quick look is at packages that are as many times smaller.
const QUICK: u64 = 10;

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

struct Case {
    size: u64,
    method: Method,
    line: Line,
    limited: Limited,
}

#[derive(Clone, Copy)]
enum Line {
    Loopback,
    Gigabit,
    Faster,
}

/// What the product promises itself of it.
#[derive(Clone, Copy)]
enum Limited {
    Pull,
    Commit,
}

impl Limited {
    fn held(self, name: &str, found: &Found) -> Limit {
        let (what, at_most, measured) = match self {
            Self::Pull => ("÷ curl", 0.8, found.ratio().median()),
            Self::Commit => ("commit ÷ pull", 0.2, found.share().median()),
        };
        Limit { what: format!("{name}: {what}"), at_most, unit: "", measured }
    }
}

const fn case(megabytes: u64, method: Method, line: Line, limited: Limited) -> Case {
    Case { size: megabytes * MB, method, line, limited }
}

const CASES: [Case; 6] = [
    case(1000, Method::Stored, Line::Loopback, Limited::Pull),
    case(300, Method::Stored, Line::Loopback, Limited::Commit),
    case(300, Method::Deflated, Line::Loopback, Limited::Commit),
    case(300, Method::Stored, Line::Gigabit, Limited::Commit),
    case(300, Method::Deflated, Line::Gigabit, Limited::Commit),
    case(300, Method::Deflated, Line::Faster, Limited::Commit),
];

impl Case {
    fn size(&self, quick: bool) -> u64 {
        self.size / if quick { QUICK } else { 1 }
    }

    fn name(&self, quick: bool) -> String {
        let (size, method) = (packages::label(self.size(quick)), self.method);
        let line = match self.line {
            Line::Loopback => "",
            Line::Gigabit => ", 1 Gbit/s",
            Line::Faster => ", 2.5 Gbit/s",
        };
        format!("{size} {}{line}", format!("{method:?}").to_lowercase())
    }

    fn folder(&self) -> &'static str {
        match self.line {
            Line::Loopback => "/uploads/packages/",
            Line::Gigabit => PACED[0].0,
            Line::Faster => PACED[1].0,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("pull", &[nginx::version(), curl_version()])?;
    let mut patience = common.patience();
    let site = nginx::Site { root: &stage.make("www")?, cache: false, paced: &PACED };
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

/// A package, the server that has it, and the two that pull it.
struct Bout<'a> {
    folder: PathBuf,
    nginx: &'a Server,
    /// At the main server.
    path: String,
    package: PathBuf,
    node: Node,
}

#[derive(Clone, Copy)]
enum Turn {
    Node,
    Curl,
}

impl<'a> Bout<'a> {
    fn set(
        stage: &Stage,
        nginx: &'a Server,
        root: &Path,
        case: &Case,
        quick: bool,
    ) -> Result<Self> {
        eprintln!("{}", case.name(quick));
        let name = format!("{:?}-{}.zip", case.method, packages::short(case.size(quick)));
        let folder = root.join("uploads/packages");
        let package = folder.join(&name);
        fs::create_dir_all(folder)?;
        if !package.is_file() {
            packages::write(File::create(&package)?, case.size(quick), case.method)?;
        }
        let path = format!("{}{name}", case.folder());
        let folder = stage.make_new("pull")?;
        let node = Node::start(&folder, nginx.address, &path)?;
        Ok(Self { folder, nginx, path, package, node })
    }

    fn run(&self, rounds: usize, patience: &mut Patience) -> Result<Found> {
        let mut found =
            Found { bytes: self.package.metadata()?.len(), pulls: vec![], curls_s: vec![] };
        // The first round warms up what is warm ever after: caches, connections.
        for round in 0..=rounds {
            eprintln!("round {round}");
            let mut turns = [Turn::Node, Turn::Curl];
            turns.rotate_left(round % 2);
            for turn in turns {
                match turn {
                    Turn::Node => found.pulls.push(patience.turn(|| self.watched(Node::pull))?),
                    Turn::Curl => {
                        let curl = |_: &Node| self.curl();
                        found.curls_s.push(patience.turn(|| self.watched(curl))?);
                    }
                }
            }
        }
        found.pulls.remove(0);
        found.curls_s.remove(0);
        Ok(found)
    }

    /// Also says what share of a core others had. Who writes a file has the
    /// kernel's threads work for it.
    fn watched<T>(&self, work: impl FnOnce(&Node) -> Result<T>) -> Result<(T, f64)> {
        self.settle()?;
        let ours_s = || {
            let kernel_s = process::kernel_threads_s()?;
            anyhow::Ok(process::all_ours_s()? + self.nginx.cpu_s()? + kernel_s)
        };
        let (watch, before) = (Watch::begin()?, ours_s()?);
        let found = work(&self.node)?;
        Ok((found, watch.others(ours_s()? - before)?))
    }

    /// Nothing of the turn before is left to write when the next one begins. And
    /// what it will need was in use a moment ago, the package that nginx sends as
    /// well as the memory for another one of its size: a virtual machine may have
    /// given back to its host what was not, and gets it again at a cost that comes
    /// and goes.
    fn settle(&self) -> Result<()> {
        let copy = self.folder.join("warm");
        fs::copy(&self.package, &copy)?;
        rustix::fs::sync();
        io::copy(&mut File::open(&self.package)?, &mut io::sink())?;
        Ok(fs::remove_file(&copy)?)
    }

    /// What curl itself takes for its time: its start does not count.
    fn curl(&self) -> Result<f64> {
        let target = self.folder.join("curled");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "-w", "%{time_total}", "-o"]).arg(&target);
        let curl = curl.arg(format!("http://{}{}", self.nginx.address, self.path)).output()?;
        ensure!(curl.status.success(), "curl: {}", String::from_utf8_lossy(&curl.stderr));
        fs::remove_file(&target)?;
        String::from_utf8(curl.stdout)?.trim().parse().context("curl says no time")
    }
}

/// Round by round.
struct Found {
    bytes: u64,
    pulls: Vec<Pull>,
    curls_s: Vec<f64>,
}

impl Found {
    fn of(&self, figure: impl Fn(&Pull) -> f64) -> Vec<f64> {
        self.pulls.iter().map(figure).collect()
    }

    fn ratio(&self) -> Samples {
        Samples::ratios(&self.of(|pull| pull.received_s), &self.curls_s)
    }

    fn share(&self) -> Samples {
        Samples::ratios(&self.of(Pull::after_s), &self.of(|pull| pull.received_s))
    }

    fn row(&self, name: &str) -> [String; 8] {
        let samples = |values: Vec<f64>| values.into_iter().collect::<Samples>();
        let gigabytes = self.bytes as f64 / 1e9;
        let received = samples(self.of(|pull| pull.received_s));
        [
            name.to_owned(),
            received.spread(1e3),
            samples(self.curls_s.clone()).spread(1e3),
            stats::ratio_spread(&self.ratio()),
            stats::figure(gigabytes * 1e3 / received.median()),
            samples(self.of(|pull| pull.cpu_s)).spread(1.0 / gigabytes),
            samples(self.of(Pull::after_s)).spread(1e3),
            self.share().to_string(),
        ]
    }
}
