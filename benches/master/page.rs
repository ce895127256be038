//! The page with 10,000 nodes and 1,000 meetings: what its updates cost the main server.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{
    Scene, redirects,
    support::{Limit, Patience, Report, Server, Table, cost, http, node, stats},
};

const NODES: usize = 10_000;
const MEETINGS: usize = 1_000;
/// So many of them run.
const RUNNING: usize = 20;
/// Measurements without the page and with it, in turns: heartbeats cost more than it does.
const ROUNDS: usize = 5;

pub(crate) fn run(
    scene: &Scene,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    eprintln!("a page, {NODES} nodes, {MEETINGS} meetings");
    let server = node::main_server(&scene.stage)?;
    let fleet = scene.runtime.block_on(redirects::prepare(&server, NODES))?;
    create_meetings(server.address)?;
    // Probes of all.
    std::thread::sleep(scene.time());
    let begun = Instant::now();
    let overview = http::get(server.address, "/api/v1/overview")?;
    let read = begun.elapsed();
    let (mut alone, mut updates, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let without = patience.turn(|| cost::of(&server, scene.time()))?;
        let with = patience.turn(|| page_cost(scene, &server))?;
        alone.push(1000.0 * without.core);
        updates.push(1000.0 * (with.cost.core - without.core));
        sent.push(with.bytes_per_s / 1e6);
    }
    scene.runtime.block_on(fleet.end());
    let update_ms = redirects::median(&updates);
    let mut table = Table::new(&["figure", "measured"]);
    let rows = [
        ("the overview, MB", overview.len() as f64 / 1e6),
        ("time until it is read, s", read.as_secs_f64()),
        ("CPU of heartbeats alone, ms a second", redirects::median(&alone)),
        ("CPU of the page's updates, ms a second", update_ms),
        ("updates, MB a second", redirects::median(&sent)),
    ];
    for (figure, value) in rows {
        table.row([figure.to_owned(), stats::figure(value)]);
    }
    report.say(&format!(
        "A page of {NODES} nodes that send a heartbeat each 10 s, and {MEETINGS} meetings of \
         which {RUNNING} run, one with a package that all nodes have:"
    ));
    report.table(&table);
    Ok(vec![Limit::new("a second's update of a page, CPU", 20.0, "ms", update_ms)])
}

struct PageCost {
    cost: cost::Cost,
    bytes_per_s: f64,
}

fn page_cost(scene: &Scene, server: &Server) -> Result<(PageCost, f64)> {
    let page = OpenPage::open(server.address)?;
    let (begun, before) = (Instant::now(), page.received());
    let (cost, others) = cost::of(server, scene.time())?;
    let bytes_per_s = (page.received() - before) as f64 / begun.elapsed().as_secs_f64();
    ensure!(bytes_per_s > 0.0, "the page gets no updates");
    Ok((PageCost { cost, bytes_per_s }, others))
}

fn create_meetings(server: SocketAddr) -> Result<()> {
    let post = |path: &str, body: &str| {
        http::send(server, "POST", path, ("application/json", body.as_bytes()))
    };
    for n in 1..MEETINGS {
        let meeting = json!({"id": format!("m{n}"), "title": format!("Meeting {n}")});
        post("/api/v1/meetings", &meeting.to_string())?;
    }
    for n in 1..RUNNING {
        post(&format!("/api/v1/meetings/m{n}/start"), "")?;
    }
    Ok(())
}

/// The events that a page follows, read by a thread of its own.
struct OpenPage {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl OpenPage {
    fn open(server: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {server}\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).context("the page's events")?;
        ensure!(start.ends_with(b"200"), "{}", String::from_utf8_lossy(&start));
        let page = Self { stream: stream.try_clone()?, received: Arc::default() };
        let received = page.received.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 1 << 20];
            while let Ok(count) = stream.read(&mut chunk)
                && count > 0
            {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        Ok(page)
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for OpenPage {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
