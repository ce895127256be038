//! Kept casts: how many a second are on disk when they are acknowledged, how long one takes,
//! and how long it takes to a node that asks another main server.
//!
//! `cargo bench --bench casts -- --help`; `just bench` prepares everything.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

mod support;

#[path = "master/connection.rs"]
mod connection;
#[path = "casts/follow.rs"]
mod follow;
#[path = "master/postgres.rs"]
mod postgres;
#[path = "casts/send.rs"]
mod send;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use tokio::runtime::Runtime;

use postgres::Postgres;
use support::{Common, Limit, Patience, Report, Samples, Server, Stage, Table, node, stats};

/// Casts to all nodes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// Room for more than are sent.
const ROOM: [&str; 4] = ["--casts-max", "10000000", "--casts-size", "100GB"];

struct Scene {
    stage: Stage,
    runtime: Runtime,
    time: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Stage::run(move |stage| bench(stage, &arguments))
}

fn bench(stage: &Stage, arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let mut report = Report::begin("casts", &postgres::version().into_iter().collect::<Vec<_>>())?;
    let mut patience = common.patience();
    let time = Duration::from_secs(if common.quick { 3 } else { 10 });
    let scene = Scene { stage: stage.clone(), runtime: Runtime::new()?, time };
    let mut limits = sent(&scene, &mut patience, &mut report)?;
    limits.extend(followed(&scene, &mut patience, &mut report)?);
    report.limits(&limits);
    report.finish(common, &patience)
}

fn main_server(stage: &Stage, options: &[&str]) -> Result<Server> {
    node::main_server_with(stage, &[&ROOM, options].concat())
}

/// Casts of 1 KB that are acknowledged, with either database.
fn sent(scene: &Scene, patience: &mut Patience, report: &mut Report) -> Result<Vec<Limit>> {
    let mut table = Table::new(&[
        "casts are kept in",
        "in lists of 1,000 by 4 senders, casts/s",
        "one by one, by 64 senders, casts/s",
        "at 3,000/s by 64 senders, p50 / p99, ms",
    ]);
    let mut row = |name: &str, measured: &send::Sending| {
        let paced = pair(&measured.paced_ms);
        let rates = [measured.listed, measured.single].map(|rate| format!("{rate:.0}"));
        let [listed, single] = rates;
        table.row([name.to_owned(), listed, single, paced]);
    };
    let sqlite = send::measure(scene, &main_server(&scene.stage, &[])?, patience)?;
    row("SQLite, in the data folder", &sqlite);
    if let Some(postgres) = Postgres::start(&scene.stage)? {
        let server = main_server(&scene.stage, &["--state", &postgres.url])?;
        row("PostgreSQL, on the same machine", &send::measure(scene, &server, patience)?);
    }
    report.say("Casts of 1 KB to all nodes, acknowledged once they are on disk:");
    report.table(&table);
    Ok(vec![
        Limit::new(
            "ms for 1,000 casts in lists, SQLite",
            1e6 / 20_000.0,
            "ms",
            1e6 / sqlite.listed,
        ),
        Limit::new("ms for 1,000 casts one by one, SQLite", 333.0, "ms", 1e6 / sqlite.single),
        Limit::new(
            "acknowledged, SQLite, at 3,000/s, p99",
            5.0,
            "ms",
            sqlite.paced_ms.quantile(0.99),
        ),
    ])
}

/// Casts of two main servers, seen by a node that asks the other one.
fn followed(scene: &Scene, patience: &mut Patience, report: &mut Report) -> Result<Vec<Limit>> {
    let Some(postgres) = Postgres::start(&scene.stage)? else {
        report.say("PostgreSQL is not installed here, so several main servers were not measured.");
        return Ok(Vec::new());
    };
    let server = || main_server(&scene.stage, &["--state", &postgres.url]);
    let (one, other) = (server()?, server()?);
    let measured = follow::measure(scene, [one.address, other.address], patience)?;
    report.say(&format!(
        "Two main servers on one PostgreSQL took {:.0} casts/s in lists of 100. At 500/s, a cast \
         sent to one of them reached a node that asks the other one after {} ms (p50 / p99), from \
         the begin of its sending.",
        measured.rate,
        pair(&measured.latency_ms),
    ));
    Ok(vec![
        Limit::new(
            "ms for 1,000 casts, two main servers",
            1e6 / 5_000.0,
            "ms",
            1e6 / measured.rate,
        ),
        Limit::new(
            "to a node at another main server, p50",
            3.0,
            "ms",
            measured.latency_ms.median(),
        ),
        Limit::new(
            "to a node at another main server, p99",
            25.0,
            "ms",
            measured.latency_ms.quantile(0.99),
        ),
    ])
}

fn pair(samples: &Samples) -> String {
    let quantile = |share| stats::figure(samples.quantile(share));
    format!("{} / {}", quantile(0.5), quantile(0.99))
}
