//! Files on their way to a fleet: a large one from node to node, and very many small ones.
//!
//! `cargo bench --bench dispatch -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};

use support::{Common, Limit, Places, Report, Samples, Server, Stage, http, node};

const NODES: usize = 8;
/// Bytes per second that the main server sends of files.
const CAP: u64 = 20 << 20;
const SMALL_FILES: usize = 10_000;
const SMALL_TASKS: usize = 3;
const LOOK: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(600);
const DISPATCH: &str = "/api/v1/dispatch";

/// Files to eight nodes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("dispatch", &[])?;
    let patience = common.patience();
    let bytes: u64 = if common.quick { 100 << 20 } else { 1 << 30 };
    let large = large(stage, bytes)?;
    let ideal = bytes as f64 / CAP as f64;
    report.say(&format!(
        "A file of {} MiB to {NODES} nodes, of which the main server sends at most {} MiB/s: the \
         last node had verified it after {:.2} s, {:.3} times as long as one copy takes at that \
         rate. The main server sent it {:.3} times.",
        bytes >> 20,
        CAP >> 20,
        large.seconds,
        large.seconds / ideal,
        large.sent / bytes as f64,
    ));
    let small = small(stage)?;
    report.say(&format!(
        "{SMALL_FILES} files of 1 KB in one task to {NODES} nodes, without a limit: the last \
         node had all after {:.2} s, in the median of {} tasks.",
        small.median(),
        small.count(),
    ));
    report.limits(&[
        Limit::new("large file: time to the last node", 1.05, "", large.seconds / ideal),
        Limit::new("large file: sent by the main server", 1.05, "", large.sent / bytes as f64),
        Limit::new("small files: time to the last node", 10.0, "s", small.median()),
    ]);
    report.finish(common, &patience)
}

struct Delivery {
    /// From the moment that the task was there.
    seconds: f64,
    /// Bytes that the main server sent.
    sent: f64,
}

fn large(stage: &Stage, bytes: u64) -> Result<Delivery> {
    let root = stage.make_new("root")?;
    let mut random = fastrand::Rng::with_seed(1);
    let block: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
    let mut contents = Vec::with_capacity(bytes as usize);
    for n in 0..bytes >> 20 {
        contents.extend_from_slice(&n.to_be_bytes());
        contents.extend_from_slice(&block[8..]);
    }
    fs::write(root.join("large"), contents)?;
    let cap = format!("{}MiB/s", CAP >> 20);
    Fleet::start(stage, root, &["--dispatch-limit", &cap])?.deliver("large")
}

fn small(stage: &Stage) -> Result<Samples> {
    let root = stage.make_new("root")?;
    for n in 0..SMALL_FILES {
        let folder = root.join(format!("small/{}", n / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{n}.txt")), format!("{n:01024}"))?;
    }
    let fleet = Fleet::start(stage, root, &[])?;
    (0..SMALL_TASKS).map(|_| Ok(fleet.deliver("small")?.seconds)).collect()
}

struct Fleet {
    main: Server,
    _nodes: Vec<Server>,
}

impl Fleet {
    /// Starts all of them, and waits until the main server knows the nodes.
    fn start(stage: &Stage, root: PathBuf, options: &[&str]) -> Result<Self> {
        let root = root.to_str().context("a path that is no text")?;
        let main = node::main_server_with(stage, &[&["--dispatch-root", root], options].concat())?;
        let mut nodes = Vec::new();
        for n in 0..NODES {
            let settings = json!({"nodeId": format!("node-{n}")});
            let storage = stage.make_new("storage")?;
            nodes.push(node::start(stage, main.address, &storage, Places::default(), &settings)?);
        }
        let fleet = Self { main, _nodes: nodes };
        fleet.until("all nodes are there", || {
            let found = fleet.get("/api/v1/nodes/available")?;
            Ok((found["count"] == NODES).then_some(()))
        })?;
        // Accepted, too, which is saved a moment later: before, they get no files.
        fleet.until("all nodes are known", || {
            let found = fleet.get("/api/v1/fleet/nodes")?;
            Ok((found["nodes"].as_array().map(Vec::len) == Some(NODES)).then_some(()))
        })?;
        Ok(fleet)
    }

    fn deliver(&self, path: &str) -> Result<Delivery> {
        let task = json!({"files": [{"path": path}], "to": {"all": true}});
        let task: Value = serde_json::from_str(&post(self.main.address, &task.to_string())?)?;
        let began = Instant::now();
        let id = task["id"].as_str().context("no id")?;
        let place = format!("{DISPATCH}/{id}?limit=1");
        self.until("all nodes have it", || {
            let now = self.get(&place)?;
            ensure!(now["nodes"]["failed"] == 0, "{now}");
            Ok((now["status"] == "completed").then_some(()))
        })?;
        let seconds = began.elapsed().as_secs_f64();
        let metrics = http::get(self.main.address, "/metrics")?;
        let name = "edge_mirror_master_dispatch_sent_bytes_total ";
        let sent = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        Ok(Delivery { seconds, sent: sent.context("no such metric")? })
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&http::get(self.main.address, path)?)?)
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let ends = Instant::now() + LONGEST;
        while Instant::now() < ends {
            if let Some(found) = look()? {
                return Ok(found);
            }
            std::thread::sleep(LOOK);
        }
        bail!("not within {LONGEST:?}: {what}")
    }
}

fn post(address: SocketAddr, body: &str) -> Result<String> {
    http::send(address, "POST", DISPATCH, ("application/json", body.as_bytes()))
}
