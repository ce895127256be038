//! A whole conference arrives within a short time, each for the same package,
//! on a network that is no limit: does everybody get a fair share, and when
//! does the last one have it?

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    cells::{Cell, Turn, What},
    client::Client,
    contenders::{ALL, Kind, Scene},
};
use crate::support::{
    Patience, Report, Samples, Server, Table,
    packages::Package,
    quiet::{Watch, own_cpu_s},
    stats,
};

const WAIT: Duration = Duration::from_millis(5);
/// The connections that a server's capacity is measured with.
const CAPACITY_CONNECTIONS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    pub clients: usize,
    pub window: Duration,
}

struct Measured {
    /// All bytes at the throughput that 64 steady clients get.
    ideal_s: f64,
    /// From the first arrival.
    last_s: f64,
    /// Each from its own arrival, in seconds.
    took: Samples,
    first_byte: Samples,
}

pub(crate) fn run(
    scene: &Scene,
    package: &Package,
    storm: Storm,
    (rounds, turn): (usize, Turn),
    patience: &mut Patience,
    report: &mut Report,
) -> Result<()> {
    let mut table = Table::new(&[
        "storm",
        "bytes ÷ capacity",
        "last has it after",
        "÷ ideal",
        "median took",
        "worst took",
        "worst ÷ median",
        "first byte p99",
    ]);
    let mut measured: [Vec<Measured>; 3] = Default::default();
    for round in 1..=rounds {
        let mut order = [0, 1, 2];
        fastrand::shuffle(&mut order);
        for at in order {
            eprintln!("round {round}: storm, {}", ALL[at].label());
            let server = scene.start(ALL[at])?;
            let one = || one(ALL[at], &server, package, storm, turn);
            measured[at].push(patience.turn(|| scene.as_client(&server, one))?);
        }
    }
    for (kind, rounds) in ALL.iter().zip(&measured) {
        let of = |value: &dyn Fn(&Measured) -> f64| rounds.iter().map(value).collect::<Samples>();
        let seconds = |value: &dyn Fn(&Measured) -> f64| format!("{} s", of(value));
        table.row([
            kind.label().to_owned(),
            seconds(&|m| m.ideal_s),
            seconds(&|m| m.last_s),
            stats::ratio_spread(&of(&|m| m.last_s / m.ideal_s)),
            seconds(&|m| m.took.median()),
            seconds(&|m| m.took.max()),
            stats::ratio_spread(&of(&|m| m.took.max() / m.took.median())),
            seconds(&|m| m.first_byte.quantile(0.99)),
        ]);
    }
    report.say(&format!(
        "{} clients arrive within {} s, each for {} on a connection of its own:",
        storm.clients,
        storm.window.as_secs_f64(),
        package.label()
    ));
    report.table(&table);
    Ok(())
}

fn one(
    kind: Kind,
    server: &Server,
    package: &Package,
    storm: Storm,
    turn: Turn,
) -> Result<(Measured, f64)> {
    let steady =
        Cell { what: What::Whole, package: package.clone(), connections: CAPACITY_CONNECTIONS };
    let before = steady.taken(kind, server, turn)?.0.bytes_per_s;
    let (watch, cpu_before) = (Watch::begin()?, server.cpu_s()? + own_cpu_s());
    let asks = [kind.whole(package)];
    let mut client = Client::new(server.address, &asks)?;
    let begin = Instant::now();
    let (mut arrived, mut took, mut first) = (0, Vec::new(), Vec::new());
    while took.len() < storm.clients {
        let due = begin.elapsed().as_secs_f64() / storm.window.as_secs_f64();
        let due = (due * storm.clients as f64).ceil() as usize;
        while arrived < due.min(storm.clients) {
            client.connect(0)?;
            arrived += 1;
        }
        client.turn(WAIT, |done| {
            took.push((done.done - done.begun).as_secs_f64());
            first.push((done.first - done.begun).as_secs_f64());
            None
        })?;
    }
    let last_s = begin.elapsed().as_secs_f64();
    let others = watch.others(server.cpu_s()? + own_cpu_s() - cpu_before)?;
    let capacity = f64::midpoint(before, steady.taken(kind, server, turn)?.0.bytes_per_s);
    let measured = Measured {
        ideal_s: (package.size * storm.clients as u64) as f64 / capacity,
        last_s,
        took: took.into_iter().collect(),
        first_byte: first.into_iter().collect(),
    };
    Ok((measured, others))
}
