//! Nodes, as far as a main server can tell: they send a heartbeat each 10 s, hold a poll, and
//! answer its probes. One port serves them all, each at a loopback address of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use edge_mirror_base::tasks::Tasks;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::connection::Connection;

const HEARTBEAT: Duration = Duration::from_secs(10);
/// A venue's nodes come from many addresses, and a main server takes so many from each.
const NODES_OF_CLIENT: usize = 128;

pub(crate) struct Fleet {
    pub count: usize,
    /// The packages that all have, as heartbeats list them.
    packages: watch::Sender<Vec<Value>>,
    /// How many nodes their polls have told that a meeting runs, each once for a start.
    pub told: Arc<AtomicUsize>,
    pub heartbeats: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Fleet {
    /// Returns once the main server has heard of all of them.
    pub(crate) async fn start(server: SocketAddr, count: usize, polls: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        let (tasks, packages) = (Tasks::new(), watch::Sender::new(Vec::new()));
        tasks.spawn("probed", answer_probes(listener, tasks.child()));
        let (told, heartbeats) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        for first in (0..count).step_by(NODES_OF_CLIENT) {
            let nodes = first..count.min(first + NODES_OF_CLIENT);
            let client = client_address(first / NODES_OF_CLIENT);
            if polls {
                for node in nodes.clone() {
                    let told = told.clone();
                    let poll =
                        async move { while poll(server, client, node, &told).await.is_ok() {} };
                    tasks.spawn("poll", poll);
                }
            }
            let beats = Heartbeats { server, client, nodes, port, heard: heartbeats.clone() };
            let packages = packages.subscribe();
            tasks.spawn("heartbeats", async move {
                beats.run(packages).await.expect("the main server answers heartbeats");
            });
        }
        let fleet = Self { count, packages, told, heartbeats, tasks };
        fleet.until_heard().await?;
        Ok(fleet)
    }

    /// From now on, all have these packages; returns once the main server has heard so.
    pub(crate) async fn hold(&self, packages: Vec<Value>) -> Result<()> {
        self.packages.send_replace(packages);
        self.heartbeats.store(0, Ordering::Relaxed);
        self.until_heard().await
    }

    async fn until_heard(&self) -> Result<()> {
        let ends = Instant::now() + 6 * HEARTBEAT;
        while self.heartbeats.load(Ordering::Relaxed) < self.count {
            ensure!(Instant::now() < ends, "the main server does not answer all heartbeats");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) async fn end(self) {
        self.tasks.shut_down(Duration::from_secs(1)).await;
    }
}

fn client_address(n: usize) -> IpAddr {
    let [.., high, low] = (n as u32 + 1).to_be_bytes();
    Ipv4Addr::new(127, 2, high, low).into()
}

fn node_address(node: usize) -> Ipv4Addr {
    let [.., high, low] = (node as u32 + 1).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// The heartbeats of a client's nodes, spread over the time between two of one node. They
/// share a connection.
struct Heartbeats {
    server: SocketAddr,
    client: IpAddr,
    nodes: std::ops::Range<usize>,
    port: u16,
    heard: Arc<AtomicUsize>,
}

impl Heartbeats {
    async fn run(self, mut packages: watch::Receiver<Vec<Value>>) -> Result<()> {
        let mut connection = Connection::open(self.server, self.client).await?;
        let mut is_hurried = true;
        loop {
            let held = packages.borrow_and_update().clone();
            let (begun, count) = (Instant::now(), self.nodes.len() as u32);
            let time = if is_hurried { Duration::ZERO } else { HEARTBEAT };
            is_hurried = false;
            for (n, node) in self.nodes.clone().enumerate() {
                self.send(&mut connection, node, &held).await?;
                let due = time * (n as u32 + 1) / count;
                tokio::select! {
                    () = tokio::time::sleep(due.saturating_sub(begun.elapsed())) => {}
                    changed = packages.changed() => {
                        if changed.is_err() {
                            // The fleet is over.
                            return Ok(());
                        }
                        is_hurried = true;
                        break;
                    }
                }
            }
        }
    }

    async fn send(&self, connection: &mut Connection, node: usize, held: &[Value]) -> Result<()> {
        let ids: Vec<_> = held.iter().map(|package| &package["id"]).collect();
        let body = json!({
            "node_id": format!("node-{node}"),
            "address": format!("{}:{}", node_address(node), self.port),
            "status": "online", "active_meetings": [], "synced_meetings": ids,
            "mirror": {"version": "1.0", "downloads": 0, "free_bytes": 1, "packages": held},
        });
        let answer =
            connection.ask("POST", "/api/v1/nodes/heartbeat", "", &body.to_string()).await?;
        ensure!(answer.status == 200, "{}: {}", answer.head, String::from_utf8_lossy(&answer.body));
        self.heard.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn poll(server: SocketAddr, client: IpAddr, node: usize, told: &AtomicUsize) -> Result<()> {
    let mut connection = Connection::open(server, client).await?;
    let (mut known, mut runs) = (String::new(), false);
    loop {
        let fields = format!("Prefer: wait=60\r\nEdge-Mirror-Node: node-{node}\r\n{known}");
        let answer = connection.ask("GET", "/api/v1/meetings/status/node", &fields, "").await?;
        let version = answer.field("etag").context("a poll's answer has a version")?;
        if answer.status == 200 {
            let news: Value = serde_json::from_slice(&answer.body)?;
            let active = news["active_meetings"].as_array().context("a poll lists meetings")?;
            // Answers that come for other reasons, such as another parent, tell of no start.
            if !runs && !active.is_empty() {
                told.fetch_add(1, Ordering::Relaxed);
            }
            runs = !active.is_empty();
        }
        known = format!("If-None-Match: {version}\r\n");
    }
}

async fn answer_probes(listener: TcpListener, tasks: Tasks) {
    while let Ok((stream, _)) = listener.accept().await {
        tasks.spawn("probe", async move { drop(answer_probe(stream).await) });
    }
}

async fn answer_probe(mut stream: TcpStream) -> Result<()> {
    let IpAddr::V4(address) = stream.local_addr()?.ip() else { return Ok(()) };
    let [.., high, low] = address.octets();
    let node = u32::from(high) * 256 + u32::from(low) - 1;
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    let body = json!({"node_id": format!("node-{node}")}).to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
