//! What it costs a node to keep up with a main server: its processor, how often
//! it wakes up, its memory.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Scene, log::Log, ours::Ours, theirs::Theirs};
use crate::support::{
    Common, Limit, Patience, Report, Table,
    cost::{self, Cost},
    packages::{self, KB},
    stats,
};

/// A node takes 48 s to ask for the versions of 1,000 packages: the time that
/// its costs are taken over has one such sweep in it.
const OVER_MANY: Duration = Duration::from_secs(48);
const OVER_FEW: Duration = Duration::from_secs(15);
const QUICK: Duration = Duration::from_secs(2);
const MANY: usize = 1_000;
/// The most whose versions are asked for after each poll and before each heartbeat.
const IN_ONE_GO: usize = 50;
const PERCENT: f64 = 2.0;

pub(crate) fn run(
    scene: &Scene,
    common: &Common,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    let mut table = Table::new(&[
        "main server",
        "active meetings",
        "of a core",
        "wake-ups/s",
        "versions asked for/s",
        "anonymous",
    ]);
    let mut limits = Vec::new();
    let package = packages::in_memory(KB)?;
    let each_second = json!({"syncInterval": 1});
    for count in [0, IN_ONE_GO, MANY] {
        let mut of = |what: &str, address, log: &Log, settings: &Value| {
            eprintln!("{what}, {count} active meetings");
            let (cost, heads_per_s) =
                measured(scene, common, patience, (address, log, count), settings)?;
            table.row(row(what, count, &cost, heads_per_s));
            if count == MANY {
                let what = format!("{what}: 1,000 active meetings");
                limits.push(Limit::new(what, PERCENT, "% of a core", 100.0 * cost.core));
            }
            anyhow::Ok(())
        };
        let theirs = scene.runtime.block_on(started_theirs(scene, count, &package));
        of("theirs, polled each second", theirs.address, &theirs.log, &each_second)?;
        if count == 0 {
            // Nothing that it heard of the first node may be taken for this one's.
            let theirs = scene.runtime.block_on(started_theirs(scene, count, &package));
            of("theirs, all settings as they come", theirs.address, &theirs.log, &json!({}))?;
        }
        let ours = scene.runtime.block_on(started_ours(scene, count, &package));
        of("ours, polls held for 1 s", ours.address, &ours.log, &each_second)?;
    }
    report.table(&table);
    Ok(limits)
}

/// A node of a main server with so many meetings, once it has all of them.
fn measured(
    scene: &Scene,
    common: &Common,
    patience: &mut Patience,
    (address, log, count): (SocketAddr, &Log, usize),
    settings: &Value,
) -> Result<(Cost, f64)> {
    let node = scene.node(address, settings)?;
    scene.runtime.block_on(log.until_synced(count));
    let over = if count == MANY { OVER_MANY } else { OVER_FEW };
    let over = if common.quick { QUICK } else { over };
    let mut heads_per_s = 0.0;
    let turn = || {
        let before = (log.heads(), Instant::now());
        let cost = cost::of(&node, over)?;
        heads_per_s = (log.heads() - before.0) as f64 / before.1.elapsed().as_secs_f64();
        Ok(cost)
    };
    let cost = patience.turn(turn)?;
    Ok((cost, heads_per_s))
}

fn row(what: &str, count: usize, cost: &Cost, heads_per_s: f64) -> [String; 6] {
    [
        what.to_owned(),
        count.to_string(),
        format!("{} %", stats::figure(100.0 * cost.core)),
        stats::figure(cost.wakes_per_s),
        stats::figure(heads_per_s),
        format!("{} MiB", stats::figure(cost.memory.anonymous as f64 / f64::from(1 << 20))),
    ]
}

async fn started_theirs(scene: &Scene, count: usize, package: &[u8]) -> Theirs {
    let theirs = Theirs::start(&scene.tasks).await;
    for n in 0..count {
        theirs.begin(&format!("meeting-{n}"), package);
    }
    theirs
}

async fn started_ours(scene: &Scene, count: usize, package: &[u8]) -> Ours {
    let ours = Ours::start(&scene.tasks).await;
    for n in 0..count {
        let id = format!("meeting-{n}");
        ours.prepare(&id, package).await;
        ours.begin(&id).await;
    }
    ours
}
