//! Senders of casts, as many as fit or at a pace.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Scene,
    connection::Connection,
    support::{Patience, Samples, Server, process, quiet::Watch},
};

const SENDERS: usize = 64;
/// Of lists, which have more than enough in them.
const LIST_SENDERS: usize = 4;
const LIST: usize = 1_000;
/// Casts a second of all senders together.
const PACE: f64 = 3_000.0;
const BODY_BYTES: usize = 1_000;

pub(crate) struct Sending {
    /// Casts a second.
    pub listed: f64,
    pub single: f64,
    pub paced_ms: Samples,
}

pub(crate) fn cast(topic: usize) -> Value {
    json!({"topic": format!("t{topic}"), "body": "x".repeat(BODY_BYTES), "to": {"all": true}})
}

pub(crate) async fn send(connection: &mut Connection, body: &str) -> Result<()> {
    let answer = connection.ask("POST", "/api/v1/casts", "", body).await?;
    ensure!(answer.status == 201, "{}: {}", answer.head, String::from_utf8_lossy(&answer.body));
    Ok(())
}

pub(crate) fn measure(scene: &Scene, server: &Server, patience: &mut Patience) -> Result<Sending> {
    let address = server.address;
    scene.runtime.block_on(become_node(address))?;
    let mut turn = |senders, list, pace| {
        patience.turn(|| {
            let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
            let sent = scene.runtime.block_on(many(&[address], scene.time, senders, list, pace))?;
            Ok((sent, watch.others(process::process_tree_s()? - before)?))
        })
    };
    let (listed, _) = turn(LIST_SENDERS, LIST, None)?;
    let (single, _) = turn(SENDERS, 1, None)?;
    let (_, paced_ms) = turn(SENDERS, 1, Some(PACE))?;
    Ok(Sending { listed, single, paced_ms })
}

/// Casts need somebody to be sent to.
pub(crate) async fn become_node(server: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(server, Ipv4Addr::LOCALHOST.into()).await?;
    let body = json!({
        "node_id": "node-0", "address": "127.0.0.1:9", "status": "online", "active_meetings": [],
        "synced_meetings": [],
        "mirror": {"version": "1.0", "downloads": 0, "free_bytes": 1, "packages": []},
    });
    let body = body.to_string();
    let answer = connection.ask("POST", "/api/v1/nodes/heartbeat", "", &body).await?;
    ensure!(answer.status == 200, "{}", answer.head);
    // It is saved a moment later.
    let ends = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = connection.ask("GET", "/api/v1/fleet/nodes", "", "").await?;
        let fleet: Value = serde_json::from_slice(&answer.body)?;
        if fleet["nodes"][0]["id"] == "node-0" {
            return Ok(());
        }
        ensure!(Instant::now() < ends, "the node is not known: {fleet}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends for some time, from so many senders, spread over the servers; returns casts a second
/// and how long each request took in milliseconds. At a pace, from when it was due.
pub(crate) async fn many(
    servers: &[SocketAddr],
    time: Duration,
    senders: usize,
    list: usize,
    pace: Option<f64>,
) -> Result<(f64, Samples)> {
    let begin = Instant::now();
    let senders_count = senders;
    let senders = (0..senders).map(|n| {
        let server = servers[n % servers.len()];
        let between = pace.map(|pace| Duration::from_secs_f64(senders_count as f64 / pace));
        tokio::spawn(async move {
            let mut connection = Connection::open(server, Ipv4Addr::LOCALHOST.into()).await?;
            let body = match list {
                1 => cast(n).to_string(),
                _ => Value::from(vec![cast(n); list]).to_string(),
            };
            let (mut times, mut due) = (Vec::new(), begin);
            if let Some(between) = between {
                due += between.mul_f64(n as f64 / senders_count as f64);
            }
            while begin.elapsed() < time {
                if between.is_some() {
                    tokio::time::sleep_until(due.into()).await;
                }
                let sent = if between.is_some() { due } else { Instant::now() };
                send(&mut connection, &body).await?;
                times.push(sent.elapsed().as_secs_f64() * 1e3);
                due += between.unwrap_or_default();
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        times.extend(sender.await.context("a sender panicked")??);
    }
    let rate = (times.len() * list) as f64 / begin.elapsed().as_secs_f64();
    Ok((rate, times.into_iter().collect()))
}
