//! Pulling from a main server: against `curl -o`, and how long after the last
//! byte a package is committed.
//!
//! `cargo bench --bench pull [-- ROUNDS] [WORDS OF THE CASES' NAMES]`. nginx on
//! loopback is the main server; node and curl take turns on the same file and
//! the same disk. Prints a table in Markdown.

#![allow(clippy::disallowed_methods, reason = "a bench makes its own files and threads")]

mod nginx;
mod node;
mod packages;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use nginx::Nginx;
use node::{Node, Pull};
use packages::{MEBIBYTE, Method};

const ROUNDS: usize = 7;

/// A package, and how fast the main server sends it.
struct Case {
    name: &'static str,
    mebibytes: u64,
    method: Method,
    way: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "1 GB stored", mebibytes: 1024, method: Method::Stored, way: "packages" },
    Case { name: "300 MB stored", mebibytes: 300, method: Method::Stored, way: "packages" },
    Case { name: "300 MB deflated", mebibytes: 300, method: Method::Deflated, way: "packages" },
    Case {
        name: "300 MB stored, 1 Gbit/s",
        mebibytes: 300,
        method: Method::Stored,
        way: nginx::GIGABIT,
    },
    Case {
        name: "300 MB deflated, 1 Gbit/s",
        mebibytes: 300,
        method: Method::Deflated,
        way: nginx::GIGABIT,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let words: Vec<&String> = arguments.iter().filter(|a| a.parse::<usize>().is_err()).collect();
    let wanted = |case: &&Case| words.iter().all(|word| case.name.contains(word.as_str()));
    // Under target, not under /tmp: that may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let Some(nginx) = Nginx::start(folder.path()) else {
        eprintln!("nginx is not in PATH or /usr/sbin: apt-get install nginx-light");
        return ExitCode::FAILURE;
    };
    println!(
        "| package | node: to the last byte | spread | `curl -o` | spread | ratio | MB/s | node's CPU s/GB | committed after the last byte | spread | of the pull |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for case in CASES.iter().filter(wanted) {
        let path = packages::make(folder.path(), case.mebibytes, case.method);
        println!("{}", row(case, rounds, folder.path(), &path, &nginx));
    }
    ExitCode::SUCCESS
}

fn row(case: &Case, rounds: usize, folder: &Path, package: &Path, nginx: &Nginx) -> String {
    let file_name = package.file_name().expect("a file").to_str().expect("ASCII");
    let offered = format!("/uploads/{}/{file_name}", case.way);
    let node = Node::start(folder, nginx.port(), &offered);
    let target = folder.join("curled");
    let (mut pulls, mut curls) = (Vec::new(), Vec::new());
    // The first round warms up what is warm ever after: caches, connections.
    for round in 0..=rounds {
        let mut turns = [Turn::Node, Turn::Curl];
        turns.rotate_left(round % 2);
        for turn in turns {
            settle(folder, package);
            match turn {
                Turn::Node => pulls.push(node.pull()),
                Turn::Curl => curls.push(curl(&nginx.url(&offered), &target)),
            }
        }
    }
    let (pulls, curls) = (&pulls[1..], &curls[1..]);
    let of = |figure: fn(&Pull) -> Duration| Figures::of(pulls.iter().map(figure));
    let (received, after) = (of(|pull| pull.received), of(|pull| pull.committed - pull.received));
    let curl = Figures::of(curls.iter().copied());
    let share = median(
        pulls.iter().map(|p| (p.committed - p.received).as_secs_f64() / p.received.as_secs_f64()),
    );
    let bytes = (case.mebibytes * MEBIBYTE) as f64;
    let cpu = median(pulls.iter().map(|pull| pull.cpu.as_secs_f64())) * 1e9 / bytes;
    format!(
        "| {} | {} | {} | {} | {} | {:.2} | {:.0} | {cpu:.2} | {} | {} | {share:.3} |",
        case.name,
        received.median(),
        received.spread(),
        curl.median(),
        curl.spread(),
        received.median / curl.median,
        bytes / received.median / 1e3,
        after.median(),
        after.spread(),
    )
}

#[derive(Clone, Copy)]
enum Turn {
    Node,
    Curl,
}

/// Nothing of the turn before is left to write when the next one begins. And what
/// it will need was in use a moment ago, the package that nginx sends as well as
/// the memory for another one of its size: a virtual machine may have given back
/// to its host what was not, and gets it again at a cost that comes and goes.
fn settle(folder: &Path, package: &Path) {
    let path = folder.join("warm");
    std::fs::copy(package, &path).expect("room for a copy");
    rustix::fs::sync();
    let (mut file, mut buffer) = (File::open(package).expect("the package"), vec![0; 1 << 20]);
    while file.read(&mut buffer).expect("the package") > 0 {}
    std::fs::remove_file(&path).expect("the copy");
}

/// What curl itself takes for its time: its start does not count.
fn curl(url: &str, target: &PathBuf) -> Duration {
    let curl = Command::new("curl")
        .args(["-sS", "--fail", "-w", "%{time_total}", "-o"])
        .arg(target)
        .arg(url)
        .output()
        .expect("curl is there");
    assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
    std::fs::remove_file(target).expect("what curl wrote");
    let seconds = String::from_utf8_lossy(&curl.stdout);
    Duration::from_secs_f64(seconds.trim().parse().expect("seconds"))
}

/// In milliseconds.
struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Self { median: sorted[sorted.len() / 2], least: sorted[0], most: sorted[sorted.len() - 1] }
    }

    fn median(&self) -> String {
        format!("{:.0} ms", self.median)
    }

    fn spread(&self) -> String {
        format!("{:.0}–{:.0}", self.least, self.most)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
