//! How long after the main server wrote a byte a waiting client has it: while
//! the pull goes on (`serve.cutThrough`), and waiting for the whole.
//!
//! `cargo bench --bench cut_through -- --help`; `just bench` prepares
//! everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench's main server and clients are no tasks of the product"
)]

mod support;

#[path = "cut_through/client.rs"]
mod client;
#[path = "cut_through/main_server.rs"]
mod main_server;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use edge_mirror_store::growing::HELD_BACK_BYTES;
use serde_json::json;
use tokio::{runtime::Runtime, task::JoinSet};

use main_server::MainServer;
use support::{
    Common, Limit, Patience, Places, Report, Samples, Server, Stage, Table, node,
    packages::{self, MB},
    process,
    quiet::Watch,
};

const PACKAGE_BYTES: u64 = MB;
/// What the main server writes at a time, and how often: 3 MB/s, so that a
/// hundred clients in this process can keep up.
const PIECE_BYTES: usize = 16 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(5);
/// For all clients to have asked.
const SETTLE: Duration = Duration::from_millis(200);
/// Clients, and pulls in a round.
const CROWDS: [(usize, usize); 2] = [(1, 8), (100, 2)];
const LIMIT_MS: f64 = 20.0;

/// How long after the main server wrote a byte a waiting client has it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments.common))
}

#[derive(Clone, Copy)]
enum Mode {
    CutThrough,
    Whole,
}

const MODES: [Mode; 2] = [Mode::CutThrough, Mode::Whole];

impl Mode {
    fn label(self) -> &'static str {
        match self {
            Self::CutThrough => "cut-through",
            Self::Whole => "whole",
        }
    }
}

/// In milliseconds, of all clients of a round.
#[derive(Default)]
struct Measured {
    first: Vec<f64>,
    every: Vec<f64>,
}

fn bench(stage: &Stage, common: &Common) -> Result<()> {
    let mut report = Report::begin("cut_through", &[])?;
    let (mut patience, runtime) = (common.patience(), Runtime::new()?);
    let main_server = runtime.block_on(MainServer::start(packages::in_memory(PACKAGE_BYTES)?))?;
    let start = |mode| {
        let patch = json!({"syncInterval": 3600, "serve": {"cutThrough": matches!(mode, Mode::CutThrough)}});
        let storage = stage.make_new("storage")?;
        node::start(stage, main_server.address, &storage, Places::default(), &patch)
    };
    let nodes = MODES.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let scene = Scene { runtime, main_server, nodes };
    let mut table = Table::new(&[
        "clients",
        "mode",
        "first byte, p50 ms",
        "p99 ms",
        "every piece, p50 ms",
        "p99 ms",
    ]);
    let mut limits = Vec::new();
    for (clients, pulls) in CROWDS {
        let rounds = scene.rounds(clients, (common.rounds(), pulls), &mut patience)?;
        for (mode, rounds) in MODES.into_iter().zip(&rounds) {
            table.row(row(clients, mode, rounds));
            if let Mode::CutThrough = mode {
                let first = quantiles(rounds, 0.99, |round| &round.first);
                let what = format!("first byte, p99, clients: {clients}");
                limits.push(Limit::new(what, LIMIT_MS, "ms", first.median()));
            }
        }
    }
    report.say(&format!(
        "{} rounds, the modes in turns; {} and {} pulls of {} in each, of {} KiB each {} ms. \
         Medians of the rounds, with the least and the most.",
        common.rounds(),
        CROWDS[0].1,
        CROWDS[1].1,
        packages::label(PACKAGE_BYTES),
        PIECE_BYTES >> 10,
        PIECE_EVERY.as_millis(),
    ));
    report.table(&table);
    report.limits(&limits);
    report.finish(common, &patience)
}

fn row(clients: usize, mode: Mode, rounds: &[Measured]) -> [String; 6] {
    let first = |share| quantiles(rounds, share, |round| &round.first).to_string();
    let every = |share| quantiles(rounds, share, |round| &round.every).to_string();
    let mode = mode.label().to_owned();
    [clients.to_string(), mode, first(0.5), first(0.99), every(0.5), every(0.99)]
}

/// Of each round.
fn quantiles(rounds: &[Measured], share: f64, of: impl Fn(&Measured) -> &Vec<f64>) -> Samples {
    let all = rounds.iter().map(|round| of(round).iter().copied().collect::<Samples>());
    all.map(|samples| samples.quantile(share)).collect()
}

struct Scene {
    runtime: Runtime,
    main_server: MainServer,
    /// As in [`MODES`].
    nodes: Vec<Server>,
}

impl Scene {
    fn rounds(
        &self,
        clients: usize,
        (rounds, pulls): (usize, usize),
        patience: &mut Patience,
    ) -> Result<[Vec<Measured>; 2]> {
        let mut measured: [Vec<Measured>; 2] = Default::default();
        for round in 1..=rounds {
            let mut order = [0, 1];
            fastrand::shuffle(&mut order);
            for at in order {
                eprintln!("round {round}: {clients}, {}", MODES[at].label());
                measured[at].push(patience.turn(|| self.turn(&self.nodes[at], clients, pulls))?);
            }
        }
        Ok(measured)
    }

    fn turn(&self, node: &Server, clients: usize, pulls: usize) -> Result<(Measured, f64)> {
        let ours_s = || anyhow::Ok(process::all_ours_s()? + node.cpu_s()?);
        let (watch, before) = (Watch::begin()?, ours_s()?);
        let mut measured = Measured::default();
        for _ in 0..pulls {
            self.runtime.block_on(self.pull(node, clients, &mut measured))?;
        }
        Ok((measured, watch.others(ours_s()? - before)?))
    }

    async fn pull(&self, node: &Server, count: usize, measured: &mut Measured) -> Result<()> {
        let (id, size) = (next_id(), self.main_server.package().len());
        let mut clients = JoinSet::new();
        for _ in 0..count {
            clients.spawn(client::download(node.address, id.clone(), size));
        }
        tokio::time::sleep(SETTLE).await;
        self.main_server.go();
        let arrivals = clients.join_all().await;
        let written = self.main_server.written();
        let after = |(arrived, written): (&Instant, &Instant)| {
            arrived.saturating_duration_since(*written).as_secs_f64() * 1e3
        };
        for arrived in arrivals {
            let arrived = arrived?;
            measured.first.extend(arrived.iter().zip(&written).map(after).take(1));
            // The last ones wait for the verification.
            let early = (size - HELD_BACK_BYTES as usize) / PIECE_BYTES;
            measured.every.extend(arrived.iter().zip(&written).map(after).take(early));
        }
        Ok(())
    }
}

fn next_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
