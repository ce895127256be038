//! Changes that are on disk when they are answered, with SQLite and with PostgreSQL.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{
    Scene,
    connection::Connection,
    postgres::Postgres,
    support::{
        Limit, Patience, Report, Samples, Server, Table, node, process, quiet::Watch, stats,
    },
};

const AT_ONCE: usize = 64;
const ALONE: usize = 500;
/// More than a main server has, by many.
const MEETINGS: usize = 64;

struct Measured {
    rate: f64,
    /// In milliseconds.
    alone: Samples,
}

pub(crate) fn run(
    scene: &Scene,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    let mut table =
        Table::new(&["meetings are kept in", "changes/s, 64 at once", "one alone, p50 / p99, ms"]);
    let mut row = |name: &str, measured: &Measured| {
        let (p50, p99) = (measured.alone.quantile(0.5), measured.alone.quantile(0.99));
        table.row([
            name.to_owned(),
            format!("{:.0}", measured.rate),
            format!("{} / {}", stats::figure(p50), stats::figure(p99)),
        ]);
    };
    let sqlite = measure(scene, &node::main_server(&scene.stage)?, patience)?;
    row("SQLite, in the data folder", &sqlite);
    match Postgres::start(&scene.stage)? {
        Some(postgres) => {
            let server = node::main_server_with(&scene.stage, &["--state", &postgres.url])?;
            row("PostgreSQL, on the same machine", &measure(scene, &server, patience)?);
        }
        None => report.say("PostgreSQL is not installed here, so it was not measured."),
    }
    report.say("Starts and ends of meetings, answered once they are on disk:");
    report.table(&table);
    Ok(vec![
        Limit::new("ms for each change, SQLite, 64 at once", 1e3 / 5_000.0, "", 1e3 / sqlite.rate),
        Limit::new("a change alone, SQLite, p99", 5.0, "ms", sqlite.alone.quantile(0.99)),
    ])
}

fn measure(scene: &Scene, server: &Server, patience: &mut Patience) -> Result<Measured> {
    let address = server.address;
    scene.runtime.block_on(create(address))?;
    let rate = patience.turn(|| {
        let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
        let rate = scene.runtime.block_on(many(scene, address))?;
        Ok((rate, watch.others(process::process_tree_s()? - before)?))
    })?;
    let alone = patience.turn(|| {
        let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
        let alone = scene.runtime.block_on(alone(address))?;
        Ok((alone, watch.others(process::process_tree_s()? - before)?))
    })?;
    Ok(Measured { rate, alone })
}

async fn create(address: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(address, Ipv4Addr::LOCALHOST.into()).await?;
    for n in 0..MEETINGS {
        let body = json!({"id": format!("m{n}"), "title": "M"}).to_string();
        let answer = connection.ask("POST", "/api/v1/meetings", "", &body).await?;
        ensure!(answer.status == 201, "{}", answer.head);
    }
    Ok(())
}

/// Starts or ends a meeting: each of the two is a change.
async fn change(connection: &mut Connection, meeting: usize, turn: usize) -> Result<()> {
    let what = if turn.is_multiple_of(2) { "start" } else { "end" };
    let path = format!("/api/v1/meetings/m{meeting}/{what}");
    let answer = connection.ask("POST", &path, "", "").await?;
    ensure!(answer.status == 200, "{}: {}", answer.head, String::from_utf8_lossy(&answer.body));
    Ok(())
}

/// Changes a second, each client with a meeting of its own.
async fn many(scene: &Scene, address: SocketAddr) -> Result<f64> {
    let done = Arc::new(AtomicUsize::new(0));
    let (begin, time) = (Instant::now(), scene.time() / 2);
    let clients = (0..AT_ONCE).map(|meeting| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(address, Ipv4Addr::LOCALHOST.into()).await?;
            let mut turn = 0;
            while begin.elapsed() < time || turn % 2 == 1 {
                change(&mut connection, meeting, turn).await?;
                turn += 1;
            }
            done.fetch_add(turn, Ordering::Relaxed);
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.context("a client panicked")??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

async fn alone(address: SocketAddr) -> Result<Samples> {
    let mut connection = Connection::open(address, Ipv4Addr::LOCALHOST.into()).await?;
    let mut times = Vec::new();
    for turn in 0..ALONE {
        let begin = Instant::now();
        change(&mut connection, 0, turn).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times.into_iter().collect())
}
