//! Redirects a second, and how long one takes when they come at a steady rate.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    COUNTS, Scene,
    connection::Connection,
    fleet::Fleet,
    support::{
        Limit, Patience, Report, Samples, Server, Table, http, node, packages, process,
        quiet::Watch, stats,
    },
    wrk::{self, Way},
};

const PATH: &str = "/api/v1/meetings/m/download-package";
const CONNECTIONS: usize = 64;
const STEADY_PER_S: usize = 5_000;
const ROUNDS: usize = 3;

#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    costs_us: Vec<f64>,
    /// In milliseconds.
    p99s: Vec<f64>,
}

pub(crate) fn run(
    scene: &Scene,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    let mut fleets = Vec::new();
    for count in COUNTS {
        eprintln!("redirects, {count} nodes");
        let server = node::main_server(&scene.stage)?;
        let fleet = scene.runtime.block_on(prepare(&server, count))?;
        fleets.push((count, server, fleet, Measured::default()));
    }
    for _ in 0..ROUNDS {
        for (_, server, _, measured) in &mut fleets {
            let (rate, cost_us) = patience.turn(|| most(scene, server))?;
            measured.rates.push(rate);
            measured.costs_us.push(cost_us);
            measured.p99s.push(patience.turn(|| steady(scene, server))?);
        }
    }
    let mut table = Table::new(&["nodes", "redirects/s", "CPU of each, µs", "p99 at 5,000/s, ms"]);
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    let mut slowest = 0.0_f64;
    for (count, server, fleet, measured) in fleets {
        scene.runtime.block_on(fleet.end());
        drop(server);
        let (rate, cost_us) = (median(&measured.rates), median(&measured.costs_us));
        let p99 = median(&measured.p99s);
        let cost = stats::figure(cost_us);
        table.row([count.to_string(), format!("{rate:.0}"), cost, stats::figure(p99)]);
        rates.push(rate);
        costs.push(cost_us);
        slowest = slowest.max(p99);
    }
    report.say(&format!(
        "Redirects, with wrk (64 kept connections) on the same two cores, and with requests \
         that begin at fixed times whether or not the one before is answered. Three main servers \
         stand side by side, and take turns, {ROUNDS} each, of which the median is shown. All \
         nodes, which are simulated there, too, go on sending heartbeats meanwhile, and what \
         these cost a main server is left out of the CPU of a redirect:",
    ));
    report.table(&table);
    let least = rates.iter().copied().fold(f64::MAX, f64::min);
    let most = rates.into_iter().fold(0.0, f64::max);
    let (cheapest, dearest) = costs.iter().fold((f64::MAX, 0.0_f64), |(least, greatest), cost| {
        (least.min(*cost), greatest.max(*cost))
    });
    Ok(vec![
        Limit::new("redirects/s, most by least of the three", 1.2, "", most / least),
        Limit::new("CPU of a redirect, most by least of the three", 1.2, "", dearest / cheapest),
        Limit::new("µs of two cores for each redirect", 1e6 / 15_000.0, "", 1e6 / least),
        Limit::new("redirect at 5,000/s, p99", 20.0, "ms", slowest),
    ])
}

pub(crate) fn median(values: &[f64]) -> f64 {
    values.iter().copied().collect::<Samples>().median()
}

/// A running meeting whose package all nodes have.
pub(crate) async fn prepare(server: &Server, count: usize) -> Result<Fleet> {
    let fleet = Fleet::start(server.address, count, false).await?;
    let address = server.address;
    let send = |method, path: &str, body: &[u8]| {
        http::send(address, method, path, ("application/json", body))
    };
    send("POST", "/api/v1/meetings", &json!({"id": "m", "title": "M"}).to_string().into_bytes())?;
    let package = packages::in_memory(4096)?;
    let uploaded =
        http::send(address, "PUT", "/api/v1/meetings/m/package", ("application/zip", &package))?;
    let uploaded: Value = serde_json::from_str(&uploaded)?;
    fleet.hold(vec![json!({"id": "m", "sha256": uploaded["sha256"]})]).await?;
    send("POST", "/api/v1/meetings/m/start", b"")?;
    until_all_are_reached(server, count).await?;
    Ok(fleet)
}

async fn until_all_are_reached(server: &Server, count: usize) -> Result<()> {
    let ends = Instant::now() + Duration::from_secs(120);
    loop {
        let available: Value =
            serde_json::from_str(&http::get(server.address, "/api/v1/nodes/available")?)?;
        if available["count"].as_u64() == Some(count as u64) {
            return Ok(());
        }
        ensure!(Instant::now() < ends, "only {} of {count} nodes are reached", available["count"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As many as wrk gets, and the microseconds of the main server's CPU that each takes.
fn most(scene: &Scene, server: &Server) -> Result<((f64, f64), f64)> {
    let (began, before_s) = (Instant::now(), server.cpu_s()?);
    std::thread::sleep(scene.time() / 2);
    let heartbeats = (server.cpu_s()? - before_s) / began.elapsed().as_secs_f64();
    let cpu_before_s = server.cpu_s()?;
    let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
    let way = Way { connections: CONNECTIONS, time: scene.time() / 2, close: false };
    let seen = wrk::run(&scene.stage, &format!("http://{}{PATH}", server.address), way)?;
    let others = watch.others(process::process_tree_s()? - before)?;
    let cpu_s = server.cpu_s()? - cpu_before_s - heartbeats * seen.took_s;
    let cost_us = cpu_s * 1e6 / seen.answers;
    Ok(((seen.answers / seen.took_s, cost_us), others))
}

/// The 99th percentile in milliseconds, counted from when a request should have begun.
fn steady(scene: &Scene, server: &Server) -> Result<(f64, f64)> {
    let (watch, before) = (Watch::begin()?, process::process_tree_s()?);
    let times = Arc::new(Mutex::new(Vec::new()));
    let (address, time) = (server.address, scene.time() / 2);
    let begin = Instant::now() + Duration::from_millis(200);
    let asking = (0..CONNECTIONS).map(|n| {
        let times = times.clone();
        scene.runtime.spawn(async move {
            let mut connection = Connection::open(address, Ipv4Addr::LOCALHOST.into()).await?;
            let mut own = Vec::new();
            for turn in (n..).step_by(CONNECTIONS) {
                let due = begin + Duration::from_secs(1) * turn as u32 / STEADY_PER_S as u32;
                if due > begin + time {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let answer = connection.ask("GET", PATH, "", "").await?;
                ensure!(answer.status == 302, "{}", answer.head);
                own.push(due.elapsed().as_secs_f64() * 1e3);
            }
            times.lock().expect("nobody panicked").extend(own);
            Ok(())
        })
    });
    for asking in asking.collect::<Vec<_>>() {
        scene.runtime.block_on(asking).context("a client panicked")??;
    }
    let others = watch.others(process::process_tree_s()? - before)?;
    let times = std::mem::take(&mut *times.lock().expect("nobody panicked"));
    Ok((times.into_iter().collect::<Samples>().quantile(0.99), others))
}
