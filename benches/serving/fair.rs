//! How long small requests wait beside one client that drains a big package
//! on the same worker: with the package in memory, and with it on disk only.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};

use super::{
    client::Client,
    contenders::{ALL, Kind, Scene},
};
use crate::support::{
    Patience, Report, Samples, Server, Table,
    packages::{MB, Package},
    quiet::{Watch, own_cpu_s},
    stats,
};

const WAIT: Duration = Duration::from_millis(50);
const SMALL: usize = 0;
const BIG: usize = 1;

/// Of one turn.
struct Measured {
    /// In milliseconds, of the small requests.
    waits: Vec<f64>,
    drained_per_s: f64,
    disk_bytes: u64,
}

pub(crate) struct Packages<'a> {
    pub small: &'a Package,
    pub big: &'a Package,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Warm,
    Cold,
}

pub(crate) fn run(
    scene: &Scene,
    packages: &Packages<'_>,
    (rounds, time): (usize, Duration),
    patience: &mut Patience,
    report: &mut Report,
) -> Result<()> {
    let mut table = Table::new(&[
        "beside one that drains",
        "server",
        "p50 ms",
        "p99 ms",
        "max ms",
        "requests",
        "drained MB/s",
        "from disk",
    ]);
    for cache in [Cache::Warm, Cache::Cold] {
        let mut measured: [Vec<Measured>; 3] = Default::default();
        for round in 1..=rounds {
            let mut order = [0, 1, 2];
            fastrand::shuffle(&mut order);
            for at in order {
                let name = if cache == Cache::Warm { "warm" } else { "cold" };
                eprintln!("round {round}: beside a drain, {name}, {}", ALL[at].label());
                let one = || turn(scene, ALL[at], packages, cache, time);
                measured[at].push(patience.turn(one)?);
            }
        }
        for (kind, turns) in ALL.iter().zip(&measured) {
            table.row(row(*kind, packages, cache, turns));
        }
    }
    report.table(&table);
    Ok(())
}

fn turn(
    scene: &Scene,
    kind: Kind,
    packages: &Packages<'_>,
    cache: Cache,
    time: Duration,
) -> Result<(Measured, f64)> {
    let file = packages.big.file(scene.storage());
    match cache {
        Cache::Warm => drop(std::io::copy(&mut File::open(&file)?, &mut std::io::sink())?),
        // Before the server starts: pages that somebody has mapped stay.
        Cache::Cold => forget(&file)?,
    }
    let server = scene.start(kind)?;
    scene.as_client(&server, || match cache {
        Cache::Warm => drain(kind, &server, packages, |_, begun| begun.elapsed() < time),
        // One time through: then it is in memory.
        Cache::Cold => drain(kind, &server, packages, |drained, _| drained == 0),
    })
}

fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

fn drain(
    kind: Kind,
    server: &Server,
    packages: &Packages<'_>,
    goes_on: impl Fn(u32, Instant) -> bool,
) -> Result<(Measured, f64)> {
    let asks = [kind.whole(packages.small), kind.whole(packages.big)];
    let mut client = Client::new(server.address, &asks)?.attentive();
    let small = client.connect(SMALL)?;
    let warm_up = Instant::now();
    while warm_up.elapsed() < Duration::from_millis(200) {
        client.turn(WAIT, |_| Some(SMALL))?;
    }
    let before = (server.disk_bytes()?, client.received, server.cpu_s()? + own_cpu_s());
    let watch = Watch::begin()?;
    client.connect(BIG)?;
    let begin = Instant::now();
    let (mut waits, mut drained) = (Vec::new(), 0);
    while goes_on(drained, begin) {
        client.turn(WAIT, |done| {
            if done.connection != small {
                drained += 1;
                return Some(BIG);
            }
            waits.push((done.done - done.begun).as_secs_f64() * 1e3);
            Some(SMALL)
        })?;
    }
    let drained_per_s = (client.received - before.1) as f64 / begin.elapsed().as_secs_f64();
    let disk_bytes = server.disk_bytes()? - before.0;
    let others = watch.others(server.cpu_s()? + own_cpu_s() - before.2)?;
    Ok((Measured { waits, drained_per_s, disk_bytes }, others))
}

fn row(kind: Kind, packages: &Packages<'_>, cache: Cache, turns: &[Measured]) -> Vec<String> {
    let quantile = |share: f64| {
        let of_turns: Samples = turns
            .iter()
            .map(|turn| turn.waits.iter().copied().collect::<Samples>().quantile(share))
            .collect();
        of_turns.to_string()
    };
    let drained: Samples = turns.iter().map(|turn| turn.drained_per_s / 1e6).collect();
    let disk: Samples = turns.iter().map(|turn| turn.disk_bytes as f64 / MB as f64).collect();
    let cached = if cache == Cache::Warm { "in memory" } else { "on disk" };
    vec![
        format!("{} {cached}", packages.big.label()),
        kind.label().to_owned(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
        turns.iter().map(|turn| turn.waits.len()).sum::<usize>().to_string(),
        drained.to_string(),
        format!("{} MB", stats::figure(disk.median())),
    ]
}
