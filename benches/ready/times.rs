//! How long it takes from a meeting's start until the main server is told that
//! the node has its package.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{
    Scene,
    log::{Log, Times},
    ours::Ours,
    theirs::Theirs,
};
use crate::support::{
    Common, Limit, Patience, Report, Samples, Server, Table,
    packages::{self, KB, MB},
    process,
    quiet::Watch,
    stats,
};

/// Of a round; at a main server that is polled they begin at as many moments
/// of the interval.
const STARTS: usize = 4;
const INTERVAL: Duration = Duration::from_secs(1);
const OURS_MS: f64 = 100.0;
const THEIRS_MS: f64 = 50.0 + 1000.0 / 2.0;

pub(crate) fn run(
    scene: &Scene,
    common: &Common,
    patience: &mut Patience,
    report: &mut Report,
) -> Result<Vec<Limit>> {
    let mut table = Table::new(&[
        "main server",
        "package",
        "started → told, ms",
        "pull, ms",
        "rest, ms",
        "rest, mean, ms",
    ]);
    let mut limits = Vec::new();
    for size in [10 * KB, MB, 50 * MB] {
        let label = packages::label(size);
        let taken = ours(scene, size, common.rounds(), patience)?;
        table.row(row("ours, held polls", &label, &taken));
        let (what, rest) =
            (format!("ours, {label}: all but the pull"), samples(&taken, Times::rest_ms));
        limits.push(Limit::new(what, OURS_MS, "ms", rest.median()));
    }
    for size in [10 * KB, MB] {
        let label = packages::label(size);
        let taken = theirs(scene, size, common.rounds(), patience)?;
        table.row(row("theirs, polled each 1 s", &label, &taken));
        let what = format!("theirs, {label}: all but the pull, on average");
        let rest = samples(&taken, Times::rest_ms);
        limits.push(Limit::new(what, THEIRS_MS, "ms", rest.mean()));
    }
    let starts = STARTS * common.rounds();
    report.say(&format!(
        "{starts} starts of each; where the main server is polled, at {starts} moments of the \
         interval that are equally far apart. Medians, with the least and the most."
    ));
    report.table(&table);
    Ok(limits)
}

fn samples(taken: &[Times], of: fn(&Times) -> f64) -> Samples {
    taken.iter().map(of).collect()
}

fn row(main_server: &str, label: &str, taken: &[Times]) -> [String; 6] {
    let rest = samples(taken, Times::rest_ms);
    [
        main_server.to_owned(),
        label.to_owned(),
        samples(taken, Times::all_ms).to_string(),
        samples(taken, Times::pull_ms).to_string(),
        rest.to_string(),
        stats::figure(rest.mean()),
    ]
}

fn ours(scene: &Scene, size: u64, rounds: usize, patience: &mut Patience) -> Result<Vec<Times>> {
    let ours = scene.runtime.block_on(Ours::start(&scene.tasks));
    let node = scene.node(ours.address, &json!({"syncInterval": 3600}))?;
    scene.runtime.block_on(ours.log.until_heard());
    let package = packages::in_memory(size)?;
    let mut ids = ids();
    watched(scene, &node, rounds, patience, async |_| {
        let id = ids();
        ours.prepare(&id, &package).await;
        // So that the node's own rhythms do not matter.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..1200))).await;
        let began = ours.begin(&id).await;
        let taken = ours.log.times(&id, began).await;
        ours.end(&id).await;
        taken
    })
}

fn theirs(scene: &Scene, size: u64, rounds: usize, patience: &mut Patience) -> Result<Vec<Times>> {
    let theirs = scene.runtime.block_on(Theirs::start(&scene.tasks));
    let node = scene.node(theirs.address, &json!({"syncInterval": INTERVAL.as_secs()}))?;
    scene.runtime.block_on(theirs.log.until_heard());
    let package = packages::in_memory(size)?;
    let mut ids = ids();
    let starts = (STARTS * rounds) as f64;
    watched(scene, &node, rounds, patience, async |start| {
        let id = ids();
        after_a_poll(&theirs.log, (start as f64 + 0.5) / starts).await;
        let began = theirs.begin(&id, &package);
        let taken = theirs.log.times(&id, began).await;
        theirs.end(&id);
        taken
    })
}

async fn after_a_poll(log: &Log, share: f64) {
    log.until_polled().await;
    tokio::time::sleep(INTERVAL.mul_f64(share)).await;
}

fn ids() -> impl FnMut() -> String {
    let mut next = 0;
    move || {
        next += 1;
        format!("m{next}")
    }
}

/// Rounds of starts; `one` is told which start of all it is.
fn watched(
    scene: &Scene,
    node: &Server,
    rounds: usize,
    patience: &mut Patience,
    mut one: impl AsyncFnMut(usize) -> Times,
) -> Result<Vec<Times>> {
    let ours_s = || anyhow::Ok(process::all_ours_s()? + node.cpu_s()?);
    let mut all = Vec::new();
    for round in 0..rounds {
        eprintln!("round {}", round + 1);
        let turn = || {
            let (watch, before) = (Watch::begin()?, ours_s()?);
            let mut taken = Vec::new();
            for at in 0..STARTS {
                // Each round has starts from all over the interval.
                taken.push(scene.runtime.block_on(one(at * rounds + round)));
            }
            Ok((taken, watch.others(ours_s()? - before)?))
        };
        all.extend(patience.turn(turn)?);
    }
    Ok(all)
}
