//! A node that asks one main server for the casts that another one takes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Scene,
    connection::Connection,
    send,
    support::{Patience, Samples, process, quiet::Watch},
};

const LIST_SENDERS: usize = 8;
const LIST: usize = 100;
const BETWEEN: Duration = Duration::from_millis(2);

pub(crate) struct Following {
    /// Casts a second that both take together.
    pub rate: f64,
    pub latency_ms: Samples,
}

pub(crate) fn measure(
    scene: &Scene,
    servers: [SocketAddr; 2],
    patience: &mut Patience,
) -> Result<Following> {
    scene.runtime.block_on(send::become_node(servers[1]))?;
    let mut turn = |work: &dyn Fn() -> Result<(f64, Samples)>| {
        patience.turn(|| {
            let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
            let measured = work()?;
            Ok((measured, watch.others(process::process_tree_s()? - before)?))
        })
    };
    let runtime = &scene.runtime;
    let (_, latency_ms) = turn(&|| Ok((0.0, runtime.block_on(latencies(servers, scene.time))?)))?;
    let (rate, _) =
        turn(&|| runtime.block_on(send::many(&servers, scene.time, LIST_SENDERS, LIST, None)))?;
    Ok(Following { rate, latency_ms })
}

/// The time from the begin of sending at one to the arrival from the other.
async fn latencies([here, there]: [SocketAddr; 2], time: Duration) -> Result<Samples> {
    let start = Instant::now();
    let mut node = NodeAsking::begin(there).await?;
    let arrivals = tokio::spawn(async move {
        let mut times = Vec::new();
        while let Some(sent_us) = node.next().await? {
            times.push((start.elapsed().as_micros() as f64 - sent_us) / 1e3);
        }
        anyhow::Ok(times)
    });
    let mut senders = Vec::new();
    for n in 0..4 {
        senders.push(tokio::spawn(async move {
            let mut connection = Connection::open(here, Ipv4Addr::LOCALHOST.into()).await?;
            let mut due = start + BETWEEN * n;
            while start.elapsed() < time {
                tokio::time::sleep_until(due.into()).await;
                let mut cast = send::cast(0);
                cast["body"] = json!({"sent_us": start.elapsed().as_micros(), "x": cast["body"]});
                send::send(&mut connection, &cast.to_string()).await?;
                due += BETWEEN * 4;
            }
            anyhow::Ok(())
        }));
    }
    for sender in senders {
        sender.await.context("a sender panicked")??;
    }
    let mut last = Connection::open(here, Ipv4Addr::LOCALHOST.into()).await?;
    send::send(&mut last, &json!({"topic": "end", "body": "end", "to": {"all": true}}).to_string())
        .await?;
    let times = arrivals.await.context("the node panicked")??;
    ensure!(!times.is_empty(), "no cast arrived");
    Ok(times.into_iter().collect())
}

/// The node's side of its held request.
struct NodeAsking {
    connection: Connection,
    stream: String,
    after: u64,
    ready: Vec<Value>,
}

impl NodeAsking {
    /// From what comes next.
    async fn begin(server: SocketAddr) -> Result<Self> {
        let connection = Connection::open(server, Ipv4Addr::LOCALHOST.into()).await?;
        let mut node = Self { connection, stream: String::new(), after: 0, ready: Vec::new() };
        node.ask("").await?;
        node.ready.clear();
        Ok(node)
    }

    async fn ask(&mut self, wait: &str) -> Result<()> {
        let path = format!("/api/v1/nodes/casts?stream={}&after={}", self.stream, self.after);
        let fields = format!("Edge-Mirror-Node: node-0\r\n{wait}");
        let answer = self.connection.ask("GET", &path, &fields, "").await?;
        ensure!(answer.status == 200, "{}", answer.head);
        let mut found: Value = serde_json::from_slice(&answer.body)?;
        found["stream"].as_str().context("a stream")?.clone_into(&mut self.stream);
        self.after = found["after"].as_u64().context("a place")?;
        if let Value::Array(casts) = found["casts"].take() {
            self.ready.extend(casts.into_iter().rev());
        }
        Ok(())
    }

    /// The time at which the next cast was sent; None at the last one.
    async fn next(&mut self) -> Result<Option<f64>> {
        loop {
            if let Some(cast) = self.ready.pop() {
                return Ok(cast["body"]["sent_us"].as_f64());
            }
            self.ask("Prefer: wait=60\r\n").await?;
        }
    }
}
