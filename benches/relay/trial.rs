//! One fleet, from the start of a meeting until all nodes have the package.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::body::Bytes;

use super::{
    cases::{Case, Incident},
    fleet::{Fleet, SentBytes},
    sandbox, swarm,
    tablets::{Tablets, WaitingTablets},
    tree::Tree,
};
use crate::support::Stage;

/// Times that of a copy for each node: without relaying, it takes that once.
const PATIENCE: f64 = 2.0;
const STALL: Duration = Duration::from_secs(60);
/// When the tree stands.
const SETTLED: f64 = 0.3;
const SLOWED: f64 = 0.05;
const HALF: f64 = 0.5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    /// To the last node's verified package.
    pub seconds: f64,
    /// That `curl` takes for one copy over the same link.
    pub curl_s: f64,
    /// By the main server, as times the size; on the wire, too.
    pub sent: f64,
    pub sent_on_the_wire: f64,
    /// Edges from the main server to the farthest node.
    pub depth: f64,
    /// Anonymous bytes of the node that used most.
    pub memory: f64,
    /// Bytes that a child took after a wrong one before it left.
    pub taken: f64,
    /// From the main server's answer that the meeting is started, to the first byte at the
    /// tablet that was last of those at the deepest nodes.
    pub first_byte_s: f64,
}

impl Trial {
    pub(crate) fn run(
        stage: &Stage,
        case: &Case,
        package: &Bytes,
        logs: Option<&Path>,
    ) -> Result<Self> {
        // The main server's, each node's, and a replacement of one.
        let folder = match sandbox::memory(case.size * (case.nodes as u64 + 2))? {
            Some(folder) => folder,
            None => stage.make_new("fleet")?,
        };
        let mut fleet = Fleet::start(stage, folder, case, package.clone())?;
        let measured = Self::measure(&mut fleet, case);
        if let Some(logs) = logs {
            fleet.copy_logs(logs)?;
        }
        measured
    }

    fn measure(fleet: &mut Fleet, case: &Case) -> Result<Self> {
        let curl_s = fleet.curl()?;
        let before = fleet.sent_bytes()?;
        let tablets = case.has_tablets().then(|| fleet.tablets()).transpose()?;
        let begin = fleet.start_meeting()?;
        let (started, tablets) = (Instant::now(), tablets.map(Tablets::ask).transpose()?);
        let patience = Duration::from_secs_f64(case.copy_s() * case.nodes as f64 * PATIENCE);
        let scene = Scene { case, before, patience: patience + STALL };
        let Played { tree, taken } = scene.play(fleet)?;
        let first_byte_s = match tablets {
            Some(tablets) => last_first_byte(&tree, started, tablets)?,
            None => f64::NAN,
        };
        let finished = fleet.finished()?;
        let sent = fleet.sent_bytes()?;
        let share = |bytes: u64| bytes as f64 / case.size as f64;
        let on_the_wire = sent.on_the_wire.zip(before.on_the_wire);
        let on_the_wire = on_the_wire.map_or(f64::NAN, |(sent, before)| share(sent - before));
        Ok(Self {
            seconds: (finished - begin).as_secs_f64(),
            curl_s,
            // What waited in a connection that died was given to the network, and not sent.
            sent: share(sent.of_packages - before.of_packages).min(on_the_wire),
            sent_on_the_wire: on_the_wire,
            depth: tree.depth() as f64,
            memory: fleet.memory() as f64,
            taken: taken.map_or(f64::NAN, |bytes| bytes as f64),
            first_byte_s,
        })
    }

    /// Tries the same by BitTorrent.
    pub(crate) fn run_swarm(stage: &Stage, case: &Case, package: &Bytes) -> Result<Self> {
        let (seconds, sent) = swarm::run_once(stage, case, package)?;
        let [curl_s, sent_of_package, depth, memory, taken, first_byte_s] = [f64::NAN; 6];
        let sent_on_the_wire = sent as f64 / case.size as f64;
        Ok(Self {
            seconds,
            curl_s,
            sent: sent_of_package,
            sent_on_the_wire,
            depth,
            memory,
            taken,
            first_byte_s,
        })
    }

    /// Returns the times of what a copy needs at least.
    pub(crate) fn ratio(&self, case: &Case) -> f64 {
        (self.seconds - case.pause_s()) / case.copy_s()
    }

    pub(crate) fn ratio_to_curl(&self, case: &Case) -> f64 {
        (self.seconds - case.pause_s()) / self.curl_s
    }
}

struct Scene<'a> {
    case: &'a Case,
    before: SentBytes,
    patience: Duration,
}

struct Played {
    tree: Tree,
    /// Bytes that went after a wrong one.
    taken: Option<u64>,
}

/// Returns the seconds after which the deepest nodes' tablets all had a byte.
fn last_first_byte(tree: &Tree, started: Instant, tablets: WaitingTablets) -> Result<f64> {
    let first_bytes = tablets.first_bytes()?;
    let after = |at: &Instant| (*at - started).as_secs_f64();
    let deepest = tree.deepest();
    let last = deepest.iter().map(|node| after(&first_bytes[*node])).fold(0.0, f64::max);
    let all = first_bytes.iter().map(after);
    let (least, most) = all.fold((f64::MAX, 0.0), |(a, b), s| (f64::min(a, s), f64::max(b, s)));
    eprintln!(
        "first bytes after {:.0} to {:.0} ms, at the deepest {} nodes by {:.0} ms",
        least * 1e3,
        most * 1e3,
        deepest.len(),
        last * 1e3
    );
    Ok(last)
}

impl Scene<'_> {
    fn play(&self, fleet: &mut Fleet) -> Result<Played> {
        let until = |fleet: &mut Fleet, share| fleet.until_sent(share, self.before, self.patience);
        if let Incident::SlowUplink(bytes_per_s) = self.case.incident {
            until(fleet, SLOWED)?;
            match fleet.tree()?.inner() {
                Some(node) => fleet.host(node).limit_uplink(bytes_per_s)?,
                None => eprintln!("no node passes anything on: none is slowed down"),
            }
        }
        until(fleet, SETTLED)?;
        let tree = fleet.tree()?;
        until(fleet, HALF)?;
        let poisoned = self.interfere(fleet)?;
        fleet.until_finished(self.patience)?;
        let taken = poisoned.zip(fleet.poisoner()).map(|(node, poisoner)| {
            let (connections, bytes) = poisoner.found(node);
            eprintln!("{connections} connections had a wrong byte");
            bytes
        });
        Ok(Played { tree, taken })
    }

    /// Returns the node that is poisoned.
    fn interfere(&self, fleet: &mut Fleet) -> Result<Option<usize>> {
        let tree = fleet.tree()?;
        let victim = match self.case.incident {
            Incident::None | Incident::SlowUplink(_) | Incident::Tablets => return Ok(None),
            Incident::Unplugged(time) => {
                fleet.unplug_main_server()?;
                fleet.wait(time)?;
                fleet.plug_in_main_server()?;
                return Ok(None);
            }
            Incident::RootKilled => tree.root(),
            Incident::InnerKilled | Incident::Poisoned => tree.inner(),
        };
        let Some(victim) = victim else {
            eprintln!("no node passes anything on: nothing happens to any");
            return Ok(None);
        };
        if self.case.is_poisoned() {
            fleet.poisoner().inspect(|poisoner| poisoner.poison(victim));
            return Ok(Some(victim));
        }
        eprintln!("node-{} is killed", victim + 1);
        fleet.kill(victim);
        Ok(None)
    }
}
