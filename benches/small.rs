//! What a node needs before it does anything: the time until it serves, memory
//! and wake-ups while it idles, with few and with many packages on its disk.

mod support;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use serde_json::json;

use support::{
    Common, Limit, Patience, Places, Report, Samples, Server, Stage, Table,
    cost::{self, Cost},
    http, node, process,
    quiet::Watch,
    stats, storage,
};

const COUNTS: [usize; 3] = [10, 1_000, 10_000];
/// What the limits are set for.
const LIMITED: usize = 1_000;
/// In a round: one alone is over before the machine's clock has ticked thrice.
const STARTS: usize = 20;
const STATUSES: usize = 20;
const MIB: f64 = (1 << 20) as f64;

/// What a node needs before it does anything.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments.common))
}

/// A storage folder with so many packages, and a main server without meetings.
struct Scene<'a> {
    stage: &'a Stage,
    main_server: &'a Server,
    storage: std::path::PathBuf,
    count: usize,
}

struct Measured {
    /// In milliseconds.
    starts: Samples,
    statuses: Samples,
    idle: Cost,
}

fn bench(stage: &Stage, common: &Common) -> Result<()> {
    let mut report = Report::begin("small", &[])?;
    let mut patience = common.patience();
    let main_server = node::main_server(stage)?;
    let mut table = Table::new(&[
        "packages on disk",
        "start → first download, ms",
        "resident when idle",
        "anonymous of that",
        "wake-ups/s",
        "of a core",
        "`GET /api/status`, ms",
    ]);
    let mut limited = None;
    for count in COUNTS {
        eprintln!("{count} packages");
        let storage = stage.make_new("storage")?;
        storage::fill(&storage, count, &format!("http://{}", main_server.address))?;
        let scene = Scene { stage, main_server: &main_server, storage, count };
        let measured = scene.measure(common, &mut patience)?;
        table.row(row(count, &measured));
        if count == LIMITED {
            limited = Some(measured);
        }
    }
    let size_mb = node::program()?.metadata()?.len() as f64 / 1e6;
    report.say(&format!(
        "{} starts of each, and {} s of idling. The binary, stripped: {} MB.",
        STARTS * common.rounds(),
        idle_time(common).as_secs(),
        stats::figure(size_mb),
    ));
    report.table(&table);
    if let Some(measured) = limited {
        report.limits(&[
            Limit::new("start to serving, 1,000 packages", 100.0, "ms", measured.starts.median()),
            Limit::new("resident", 12.0, "MiB", measured.idle.memory.resident as f64 / MIB),
            Limit::new("wake-ups a second", 5.0, "", measured.idle.wakes_per_s),
            Limit::new("the binary, stripped", 25.0, "MB", size_mb),
        ]);
    }
    report.finish(common, &patience)
}

fn idle_time(common: &Common) -> Duration {
    Duration::from_secs(if common.quick { 3 } else { 20 })
}

fn row(count: usize, measured: &Measured) -> [String; 7] {
    let mib = |bytes: u64| format!("{} MiB", stats::figure(bytes as f64 / MIB));
    [
        count.to_string(),
        measured.starts.to_string(),
        mib(measured.idle.memory.resident),
        mib(measured.idle.memory.anonymous),
        stats::figure(measured.idle.wakes_per_s),
        format!("{} %", stats::figure(100.0 * measured.idle.core)),
        measured.statuses.to_string(),
    ]
}

impl Scene<'_> {
    fn measure(&self, common: &Common, patience: &mut Patience) -> Result<Measured> {
        let mut starts = Vec::new();
        for _ in 0..common.rounds() {
            starts.extend(patience.turn(|| self.starts())?);
        }
        let (node, _) = self.start()?;
        let idle = patience.turn(|| cost::of(&node, idle_time(common)))?;
        let status = || {
            let begin = std::time::Instant::now();
            http::get(node.address, "/api/status")?;
            anyhow::Ok(begin.elapsed().as_secs_f64() * 1e3)
        };
        let statuses = (0..STATUSES).map(|_| status()).collect::<Result<Vec<_>>>()?;
        let (starts, statuses) = (starts.into_iter().collect(), statuses.into_iter().collect());
        Ok(Measured { starts, statuses, idle })
    }

    fn starts(&self) -> Result<(Vec<f64>, f64)> {
        let (watch, before) = (Watch::begin()?, process::all_ours_s()?);
        let one = |_| Ok(self.start()?.1);
        let starts = (0..STARTS).map(one).collect::<Result<Vec<_>>>()?;
        Ok((starts, watch.others(process::all_ours_s()? - before)?))
    }

    /// A node that serves, and how many milliseconds it took to.
    fn start(&self) -> Result<(Server, f64)> {
        let (main_server, places) = (self.main_server.address, Places::default());
        let mut node = node::start(self.stage, main_server, &self.storage, places, &json!({}))?;
        let last = self.count - 1;
        let url = format!("/api/v1/meetings/meeting-{last}/download-package");
        node.until("it serves", |node| Ok(http::get(node.address, &url).is_ok()))?;
        let took = node.begun.elapsed().as_secs_f64() * 1e3;
        Ok((node, took))
    }
}
