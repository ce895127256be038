//! 10,000 nodes that send heartbeats and hold polls: CPU, memory, and how soon all of them
//! know that a meeting has started.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    COUNTS, Scene,
    fleet::Fleet,
    support::{Limit, Patience, Report, Server, Table, cost, http, node, stats},
};

const MIB: f64 = (1 << 20) as f64;

struct Measured {
    core: f64,
    resident: u64,
    told: Duration,
}

pub(crate) fn run(
    scene: &Scene,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    let mut table = Table::new(&["nodes", "of a core", "resident", "all know of a start after, s"]);
    let mut last = None;
    for count in COUNTS {
        eprintln!("heartbeats and polls, {count} nodes");
        let server = node::main_server(&scene.stage)?;
        let fleet = scene.runtime.block_on(Fleet::start(server.address, count, true))?;
        // Probes of all, and what they leave in memory.
        std::thread::sleep(scene.time());
        let cost = patience.turn(|| cost::of(&server, scene.time()))?;
        let told = scene.runtime.block_on(time_to_tell(&server, &fleet))?;
        scene.runtime.block_on(fleet.end());
        let measured = Measured { core: cost.core, resident: cost.memory.resident, told };
        table.row([
            count.to_string(),
            format!("{} %", stats::figure(100.0 * measured.core)),
            format!("{} MiB", stats::figure(measured.resident as f64 / MIB)),
            stats::figure(measured.told.as_secs_f64()),
        ]);
        last = Some(measured);
    }
    report.say(
        "Heartbeats each 10 s, a probe of each node by the main server, and a poll of each node \
         that is held until something changes:",
    );
    report.table(&table);
    let Some(last) = last else { return Ok(Vec::new()) };
    Ok(vec![
        Limit::new("10,000 nodes, of a core", 25.0, "%", 100.0 * last.core),
        Limit::new("10,000 nodes, resident", 250.0, "MiB", last.resident as f64 / MIB),
        Limit::new("all of 10,000 nodes know of a start after", 2.0, "s", last.told.as_secs_f64()),
    ])
}

async fn time_to_tell(server: &Server, fleet: &Fleet) -> Result<Duration> {
    let address = server.address;
    let send = |path: &str, body: &str| {
        http::send(address, "POST", path, ("application/json", body.as_bytes()))
    };
    send("/api/v1/meetings", &json!({"id": "m", "title": "M"}).to_string())?;
    fleet.told.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    send("/api/v1/meetings/m/start", "")?;
    while fleet.told.load(Ordering::Relaxed) < fleet.count {
        ensure!(begun.elapsed() < Duration::from_secs(60), "not all nodes know of the start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}
