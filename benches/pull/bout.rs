//! A package that node and curl pull in turns.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    cases::Case,
    node::{Node, Pull},
};
use crate::support::{Patience, Samples, Server, Stage, packages, process, quiet::Watch, stats};

/// A package, the server that has it, and the two that pull it.
pub(crate) struct Bout<'a> {
    folder: PathBuf,
    nginx: &'a Server,
    /// At the main server.
    path: String,
    package: PathBuf,
    node: Node,
}

#[derive(Clone, Copy)]
enum Turn {
    Node,
    Curl,
}

impl<'a> Bout<'a> {
    pub(crate) fn set(
        stage: &Stage,
        nginx: &'a Server,
        root: &Path,
        case: &Case,
        quick: bool,
    ) -> Result<Self> {
        eprintln!("{}", case.name(quick));
        let name = format!("{:?}-{}.zip", case.method, packages::short(case.size(quick)));
        let folder = root.join("uploads/packages");
        let package = folder.join(&name);
        fs::create_dir_all(folder)?;
        if !package.is_file() {
            packages::write(File::create(&package)?, case.size(quick), case.method)?;
        }
        let path = format!("{}{name}", case.folder());
        let folder = stage.make_new("pull")?;
        let node = Node::start(&folder, nginx.address, &path)?;
        Ok(Self { folder, nginx, path, package, node })
    }

    pub(crate) fn run(&self, rounds: usize, patience: &mut Patience) -> Result<Found> {
        let mut found =
            Found { bytes: self.package.metadata()?.len(), pulls: vec![], curls_s: vec![] };
        // The first round warms up what is warm ever after: caches, connections.
        for round in 0..=rounds {
            eprintln!("round {round}");
            let mut turns = [Turn::Node, Turn::Curl];
            turns.rotate_left(round % 2);
            for turn in turns {
                match turn {
                    Turn::Node => found.pulls.push(patience.turn(|| self.watched(Node::pull))?),
                    Turn::Curl => {
                        let curl = |_: &Node| self.curl();
                        found.curls_s.push(patience.turn(|| self.watched(curl))?);
                    }
                }
            }
        }
        found.pulls.remove(0);
        found.curls_s.remove(0);
        Ok(found)
    }

    /// Also says what share of a core others had. Who writes a file has the
    /// kernel's threads work for it.
    fn watched<T>(&self, work: impl FnOnce(&Node) -> Result<T>) -> Result<(T, f64)> {
        self.settle()?;
        let ours_s = || {
            let kernel_s = process::kernel_threads_s()?;
            anyhow::Ok(process::all_ours_s()? + self.nginx.cpu_s()? + kernel_s)
        };
        let (watch, before) = (Watch::begin()?, ours_s()?);
        let found = work(&self.node)?;
        Ok((found, watch.others(ours_s()? - before)?))
    }

    /// Nothing of the turn before is left to write when the next one begins. And
    /// what it will need was in use a moment ago, the package that nginx sends as
    /// well as the memory for another one of its size: a virtual machine may have
    /// given back to its host what was not, and gets it again at a cost that comes
    /// and goes.
    fn settle(&self) -> Result<()> {
        let copy = self.folder.join("warm");
        fs::copy(&self.package, &copy)?;
        rustix::fs::sync();
        io::copy(&mut File::open(&self.package)?, &mut io::sink())?;
        Ok(fs::remove_file(&copy)?)
    }

    /// What curl itself takes for its time: its start does not count.
    fn curl(&self) -> Result<f64> {
        let target = self.folder.join("curled");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "-w", "%{time_total}", "-o"]).arg(&target);
        let curl = curl.arg(format!("http://{}{}", self.nginx.address, self.path)).output()?;
        ensure!(curl.status.success(), "curl: {}", String::from_utf8_lossy(&curl.stderr));
        fs::remove_file(&target)?;
        String::from_utf8(curl.stdout)?.trim().parse().context("curl says no time")
    }
}

/// Round by round.
pub(crate) struct Found {
    bytes: u64,
    pulls: Vec<Pull>,
    curls_s: Vec<f64>,
}

impl Found {
    fn of(&self, figure: impl Fn(&Pull) -> f64) -> Vec<f64> {
        self.pulls.iter().map(figure).collect()
    }

    pub(crate) fn ratio(&self) -> Samples {
        Samples::ratios(&self.of(|pull| pull.received_s), &self.curls_s)
    }

    pub(crate) fn share(&self) -> Samples {
        Samples::ratios(&self.of(Pull::after_s), &self.of(|pull| pull.received_s))
    }

    pub(crate) fn row(&self, name: &str) -> [String; 8] {
        let samples = |values: Vec<f64>| values.into_iter().collect::<Samples>();
        let gigabytes = self.bytes as f64 / 1e9;
        let received = samples(self.of(|pull| pull.received_s));
        [
            name.to_owned(),
            received.spread(1e3),
            samples(self.curls_s.clone()).spread(1e3),
            stats::ratio_spread(&self.ratio()),
            stats::figure(gigabytes * 1e3 / received.median()),
            samples(self.of(|pull| pull.cpu_s)).spread(1.0 / gigabytes),
            samples(self.of(Pull::after_s)).spread(1e3),
            self.share().to_string(),
        ]
    }
}
