//! How much comes through, and what it costs: sizes by connections, and
//! ranges of a big package. The contenders take turns, in another order each
//! time, so that whatever else the machine does hits all of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    client::{Ask, Client},
    contenders::{ALL, Kind, Scene},
    paced::Crowd,
    wrk,
};
use crate::support::{
    Patience, Report, Samples, Server, Table,
    packages::{KB, Package, label},
    process::all_ours_s,
    quiet::{Watch, own_cpu_s},
    stats,
};

const WAIT: Duration = Duration::from_millis(50);
/// Different ranges that are asked for in turn.
const RANGES: usize = 64;
pub(crate) const RANGE_BYTES: u64 = 1 << 20;

/// How long a turn takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub warm_up: Duration,
    pub measured: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Whole,
    Range,
    /// Taken by each client with so many bytes a second.
    Paced(u64),
    /// A connection for each request, by wrk.
    Fresh,
    /// Whole, over HTTPS, by wrk.
    Https,
}

/// One combination that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub what: What,
    pub package: Package,
    pub connections: usize,
}

/// Of one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub bytes_per_s: f64,
    pub answers_per_s: f64,
    pub server_cpu_s: f64,
    pub bytes: f64,
    pub answers: f64,
    /// Share of its core; near 1, the client is what was measured.
    pub client_busy: f64,
}

impl Cell {
    fn asks(&self, kind: Kind) -> Vec<Ask> {
        if self.what != What::Range {
            return vec![kind.whole(&self.package)];
        }
        let path = kind.path(&self.package);
        let last = self.package.size / RANGE_BYTES;
        let mut random = fastrand::Rng::with_seed(7);
        let mut part = || Ask::part(&path, random.u64(..last) * RANGE_BYTES, RANGE_BYTES);
        (0..RANGES).map(|_| part()).collect()
    }

    fn label(&self) -> String {
        match self.what {
            What::Whole => self.package.label(),
            What::Paced(rate) => format!("{} at {}/s", self.package.label(), label(rate)),
            What::Fresh => format!("{}, a connection each", self.package.label()),
            What::Https => format!("{} over HTTPS", self.package.label()),
            What::Range => format!("1 MiB of {}", self.package.label()),
        }
    }

    /// Small answers are counted, big ones weighed.
    fn small(&self) -> bool {
        self.what != What::Range && self.package.size <= KB
    }

    /// Also says what share of a core others had.
    pub(crate) fn measure(
        &self,
        scene: &Scene,
        (kind, server): (Kind, &Server),
        turn: Turn,
    ) -> Result<(Measured, f64)> {
        match self.what {
            What::Whole | What::Range => self.taken(kind, server, turn),
            What::Paced(rate) => self.paced(kind, server, (rate, turn)),
            What::Fresh | What::Https => self.asked_by_wrk(scene, (kind, server), turn),
        }
    }

    fn paced(
        &self,
        kind: Kind,
        server: &Server,
        (rate, turn): (u64, Turn),
    ) -> Result<(Measured, f64)> {
        let ask = kind.whole(&self.package);
        let mut crowd = Crowd::gather(server.address, &ask, (self.connections, rate))?;
        crowd.read_for(turn.warm_up)?;
        let before = (crowd.received, crowd.answered);
        let clock = Clock::begin(server, own_cpu_s)?;
        // Long enough for what happens once in each download.
        crowd.read_for(turn.measured * 4)?;
        clock.end(crowd.received - before.0, crowd.answered - before.1)
    }

    fn asked_by_wrk(
        &self,
        scene: &Scene,
        (kind, server): (Kind, &Server),
        turn: Turn,
    ) -> Result<(Measured, f64)> {
        let scheme = if self.what == What::Https { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", server.address, kind.path(&self.package));
        let close = self.what == What::Fresh;
        let way = wrk::Way { connections: self.connections, time: turn.measured * 2, close };
        let clock = Clock::begin(server, || all_ours_s().unwrap_or_default())?;
        let seen = wrk::run(scene.stage(), &url, way)?;
        let (mut measured, others) = clock.end(seen.bytes as u64, seen.answers as u64)?;
        measured.bytes_per_s = seen.bytes / seen.took_s;
        measured.answers_per_s = seen.answers / seen.took_s;
        Ok((measured, others))
    }

    pub(crate) fn taken(&self, kind: Kind, server: &Server, turn: Turn) -> Result<(Measured, f64)> {
        let asks = self.asks(kind);
        let mut client = Client::new(server.address, &asks)?;
        for at in 0..self.connections {
            client.connect(at % asks.len())?;
        }
        let mut ask = 0;
        let mut run = |client: &mut Client<'_>, until: Instant| {
            while Instant::now() < until {
                client.turn(WAIT, |_| {
                    ask = (ask + 1) % asks.len();
                    Some(ask)
                })?;
            }
            anyhow::Ok(())
        };
        run(&mut client, Instant::now() + turn.warm_up)?;
        let before = (client.received, client.answered);
        let clock = Clock::begin(server, own_cpu_s)?;
        run(&mut client, Instant::now() + turn.measured)?;
        clock.end(client.received - before.0, client.answered - before.1)
    }
}

/// What passes while a turn is measured.
struct Clock<'a> {
    server: &'a Server,
    client: fn() -> f64,
    cpu_s: (f64, f64),
    watch: Watch,
    begin: Instant,
}

impl<'a> Clock<'a> {
    fn begin(server: &'a Server, client: fn() -> f64) -> Result<Self> {
        let cpu_s = (server.cpu_s()?, client());
        Ok(Self { server, client, cpu_s, watch: Watch::begin()?, begin: Instant::now() })
    }

    fn end(self, bytes: u64, answers: u64) -> Result<(Measured, f64)> {
        let took = self.begin.elapsed().as_secs_f64();
        let server_cpu_s = self.server.cpu_s()? - self.cpu_s.0;
        let client_cpu_s = (self.client)() - self.cpu_s.1;
        let others = self.watch.others(server_cpu_s + client_cpu_s)?;
        let client_busy = client_cpu_s / took;
        let (bytes, answers) = (bytes as f64, answers as f64);
        let (bytes_per_s, answers_per_s) = (bytes / took, answers / took);
        let measured =
            Measured { bytes_per_s, answers_per_s, server_cpu_s, bytes, answers, client_busy };
        Ok((measured, others))
    }
}

/// A cell's rounds, by contender in the order of [`ALL`].
struct Row {
    cell: Cell,
    rounds: [Vec<Measured>; 3],
}

impl Row {
    fn values(&self, kind: usize, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.rounds[kind].iter().map(of).collect()
    }

    fn throughput(&self, kind: usize) -> Vec<f64> {
        if self.cell.small() {
            return self.values(kind, |m| m.answers_per_s);
        }
        self.values(kind, |m| m.bytes_per_s)
    }

    /// Per 100,000 answers, or per GB.
    fn cost(&self, kind: usize) -> Vec<f64> {
        if self.cell.small() {
            return self.values(kind, |m| m.server_cpu_s / m.answers * 1e5);
        }
        self.values(kind, |m| m.server_cpu_s / m.bytes * 1e9)
    }
}

/// Measures the cells and reports throughput and cost.
pub(crate) fn run(
    scene: &Scene,
    cells: &[Cell],
    (rounds, turn): (usize, Turn),
    patience: &mut Patience,
    report: &mut Report,
) -> Result<()> {
    let tls = cells.iter().any(|cell| cell.what == What::Https);
    let servers = ALL.map(|kind| scene.start_with(kind, tls));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<_> =
        cells.iter().map(|cell| Row { cell: cell.clone(), rounds: Default::default() }).collect();
    for round in 1..=rounds {
        for row in &mut rows {
            eprintln!("round {round}: {}, {}", row.cell.label(), row.cell.connections);
            let mut order = [0, 1, 2];
            fastrand::shuffle(&mut order);
            for at in order {
                let one = || row.cell.measure(scene, (ALL[at], &servers[at]), turn);
                row.rounds[at].push(patience.turn(|| scene.as_client(&servers[at], one))?);
            }
        }
    }
    report.table(&throughput(&rows));
    report.table(&cost(&rows));
    report.say(&summary(&rows));
    Ok(())
}

const RATIOS: [&str; 2] = ["÷ nginx", "÷ nginx, open_file_cache"];

fn head(first: &str) -> Vec<String> {
    let kinds = ALL.iter().map(|kind| kind.label().to_owned());
    let mut head = vec![first.to_owned(), "connections".to_owned()];
    head.extend(kinds);
    head.extend(RATIOS.map(str::to_owned));
    head
}

fn table(first: &str, more: &[&str]) -> Table {
    let head = head(first);
    let head: Vec<_> = head.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Table::new(&head)
}

fn throughput(rows: &[Row]) -> Table {
    let mut table = table("throughput", &["client busy"]);
    for row in rows {
        let mut cells = vec![row.cell.label(), row.cell.connections.to_string()];
        for kind in 0..ALL.len() {
            let (values, unit) = if row.cell.small() {
                (row.throughput(kind).into_iter().collect::<Samples>().spread(1e-3), "k req/s")
            } else {
                (row.throughput(kind).into_iter().collect::<Samples>().spread(1e-6), "MB/s")
            };
            let answers: Samples = row.values(kind, |m| m.answers_per_s).into_iter().collect();
            let bytes: Samples = row.values(kind, |m| m.bytes_per_s).into_iter().collect();
            let other = match unit {
                "MB/s" if answers.median() >= 100.0 => {
                    format!(", {} req/s", stats::figure(answers.median()))
                }
                "MB/s" => String::new(),
                _ => format!(", {} MB/s", stats::figure(bytes.median() / 1e6)),
            };
            cells.push(format!("{values} {unit}{other}"));
        }
        for other in 0..RATIOS.len() {
            let ratios = Samples::ratios(&row.throughput(2), &row.throughput(other));
            cells.push(stats::ratio_spread(&ratios));
        }
        let busy = (0..ALL.len()).map(|kind| {
            let busy: Samples = row.values(kind, |m| m.client_busy).into_iter().collect();
            format!("{:.0}", busy.median() * 100.0)
        });
        cells.push(format!("{} %", busy.collect::<Vec<_>>().join(" / ")));
        table.row(cells);
    }
    table
}

fn cost(rows: &[Row]) -> Table {
    let mut table = table("CPU seconds of the server", &["per"]);
    for row in rows {
        let mut cells = vec![row.cell.label(), row.cell.connections.to_string()];
        cells.extend(
            (0..ALL.len()).map(|kind| row.cost(kind).into_iter().collect::<Samples>().to_string()),
        );
        for other in 0..RATIOS.len() {
            let ratios = Samples::ratios(&row.cost(2), &row.cost(other));
            cells.push(stats::ratio_spread(&ratios));
        }
        cells.push(if row.cell.small() { "100,000 requests" } else { "GB" }.to_owned());
        table.row(cells);
    }
    table
}

fn summary(rows: &[Row]) -> String {
    let mut lines = String::new();
    for (other, name) in RATIOS.iter().enumerate() {
        let of = |ratios: &dyn Fn(&Row) -> Samples| {
            rows.iter().map(|row| ratios(row).median()).collect::<Samples>()
        };
        let through = of(&|row| Samples::ratios(&row.throughput(2), &row.throughput(other)));
        let cost = of(&|row| Samples::ratios(&row.cost(2), &row.cost(other)));
        lines += &format!(
            "- Over these {} cells, {name}: throughput {} in the median, {} in the worst; \
             CPU {} in the median, {} in the worst.\n",
            rows.len(),
            stats::ratio(through.median()),
            stats::ratio(through.min()),
            stats::ratio(cost.median()),
            stats::ratio(cost.max()),
        );
    }
    lines
}
