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
    fmt,
    fs::File,
    io::Read,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use nginx::Nginx;
use node::{Node, Pull};
use packages::Method;

const ROUNDS: usize = 5;

/// A package, and the folder from which the main server sends it, each at its
/// own pace.
struct Case {
    name: &'static str,
    mebibytes: u64,
    method: Method,
    way: &'static str,
}

const fn case(name: &'static str, mebibytes: u64, method: Method, way: &'static str) -> Case {
    Case { name, mebibytes, method, way }
}

const CASES: &[Case] = &[
    case("1 GiB stored", 1024, Method::Stored, "packages"),
    case("300 MiB stored", 300, Method::Stored, "packages"),
    case("300 MiB deflated", 300, Method::Deflated, "packages"),
    case("300 MiB stored, 1 Gbit/s", 300, Method::Stored, nginx::GIGABIT),
    case("300 MiB deflated, 1 Gbit/s", 300, Method::Deflated, nginx::GIGABIT),
    case("300 MiB deflated, 2.5 Gbit/s", 300, Method::Deflated, nginx::FASTER),
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
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let linux = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores, Linux {}, {}, {rounds} rounds", linux.trim(), Nginx::version());
    println!();
    println!(
        "| package | node, to the last byte (ms) | `curl -o` (ms) | ratio | MB/s | CPU of the node, s/GB | committed after the last byte (ms) | of the pull |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
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
    let of = |figure: fn(&Pull) -> f64| Figures::of(pulls.iter().map(figure));
    let received = of(|pull| milliseconds(pull.received));
    let after = of(|pull| milliseconds(pull.committed - pull.received));
    let share =
        of(|pull| milliseconds(pull.committed - pull.received) / milliseconds(pull.received));
    let curl = Figures::of(curls.iter().copied().map(milliseconds));
    let gigabytes = package.metadata().expect("the package").len() as f64 / 1e9;
    let cpu = of(|pull| pull.cpu.as_secs_f64()).median / gigabytes;
    format!(
        "| {} | {received} | {curl} | {:.2} | {:.0} | {cpu:.2} | {after} | {:.3} |",
        case.name,
        received.median / curl.median,
        gigabytes * 1e6 / received.median,
        share.median,
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
fn curl(url: &str, target: &Path) -> Duration {
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

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Shown as the median, and the least and the most.
struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        Self { median: sorted[sorted.len() / 2], least, most }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.0}–{:.0})", self.median, self.least, self.most)
    }
}
