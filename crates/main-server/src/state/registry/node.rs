//! One node, as its calls and our probes describe it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    DownloadTotals, FailedPull,
    package::{PackageId, Sha256},
    relay::{PullReport, RelayReport},
};

use super::NodeReachability;
use crate::state::{
    contents::ContentRecords,
    fleet::SILENCE,
    held_packages::HeldPackages,
    probing::ProbeState,
    relay::fleet::RelayNode,
    routing::{NodeLoad, NodePlacement},
};

/// A node that pulls sends a heartbeat each second; one that is silent for this long
/// feeds nobody.
const PULLING_NODE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct RegisteredNode {
    pub address: String,
    pub status: String,
    pub(crate) registered_at: UnixMillis,
    pub(crate) heard_at: UnixMillis,
    pub active: Vec<PackageId>,
    pub downloads: u64,
    /// None if it does not say.
    pub(crate) ended: Option<DownloadTotals>,
    pub version: Option<String>,
    pub(super) takes_files: bool,
    /// The busiest of CPU, memory and uplink, as it reports them.
    pub(super) percent: u8,
    /// The busier of CPU and uplink.
    pub(super) work_percent: u8,
    /// None if it does not say.
    pub(super) memory_percent: Option<u8>,
    pub(super) placement: NodePlacement,
    pub(crate) reach: NodeReachability,
    /// The time since which it is so.
    pub(crate) reached_at: UnixMillis,
    /// None if it passes no packages on.
    pub relay: Option<RelayReport>,
    pub pulls: Vec<PullReport>,
    /// Sorted by id.
    pub(super) failed_pulls: Vec<FailedPullRecord>,
    /// The client that registered it.
    pub(super) client: IpAddr,
    /// Clients sent there since the last heartbeat.
    pub(super) redirects: u64,
    /// None before the first heartbeat.
    pub(super) holding: Option<HeldPackages>,
    /// A heartbeat came since the registration: a node that registers again was
    /// restarted, perhaps on an empty disk.
    pub(super) reported: bool,
    pub(super) probe_due_at: UnixMillis,
    /// Set while a probe is under way: the probe state when it began.
    pub(super) probing: Option<ProbeState>,
    /// Probes that failed since the last good one.
    pub(super) failures: u32,
    /// Outcomes of probes of its packages' bytes.
    pub(crate) contents: ContentRecords,
    /// The main server that it calls, if that is another one: it probes the node, and tells it
    /// whom to pull from.
    pub(super) via: Option<Arc<str>>,
}

/// A package that a node can't pull, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedPullRecord {
    pub pull: FailedPull,
    /// The heartbeat that named it first.
    pub since: UnixMillis,
}

impl RegisteredNode {
    pub(super) fn new(address: String, client: IpAddr, status: String, now: UnixMillis) -> Self {
        Self {
            address,
            client,
            status,
            registered_at: now,
            heard_at: now,
            active: Vec::new(),
            downloads: 0,
            ended: None,
            version: None,
            takes_files: false,
            percent: 0,
            work_percent: 0,
            memory_percent: None,
            placement: NodePlacement::default(),
            reach: NodeReachability::Unknown,
            reached_at: now,
            relay: None,
            pulls: Vec::new(),
            failed_pulls: Vec::new(),
            redirects: 0,
            holding: None,
            reported: false,
            probe_due_at: now,
            probing: None,
            failures: 0,
            contents: ContentRecords::default(),
            via: None,
        }
    }

    /// The meetings of which it has a package, of whatever version.
    pub(crate) fn synced(&self) -> impl Iterator<Item = &PackageId> {
        self.holding.iter().flat_map(HeldPackages::iter).map(|(id, _)| id)
    }

    /// Bytes of its lists in memory. Its own texts are bounded by the number of nodes.
    pub(super) fn bytes(&self) -> usize {
        let pulls = self.pulls.iter().map(pull_bytes).sum::<usize>();
        let holding = self.holding.as_ref().map_or(0, HeldPackages::bytes);
        let failed = self
            .failed_pulls
            .iter()
            .map(|failed| size_of_val(failed) + failed.pull.text.capacity());
        size_of_val(&*self.active) + self.contents.bytes() + holding + pulls + failed.sum::<usize>()
    }

    /// True if it should have been heard by now.
    pub(super) fn is_silent(&self, now: UnixMillis) -> bool {
        !self.pulls.is_empty() && now.saturating_since(self.heard_at) >= PULLING_NODE_TIMEOUT
    }

    /// Since `missed_since`, nothing that seems to be gone is believed to be.
    pub(super) fn relay_node<'a>(
        &'a self,
        node_id: &'a str,
        missed_since: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Option<RelayNode<'a>> {
        let is_unreachable = matches!(self.reach, NodeReachability::Unreachable(_))
            && missed_since.is_none_or(|since| self.reached_at < since);
        let is_silent = missed_since.is_none() && self.is_silent(now);
        Some(RelayNode {
            node_id,
            report: self.relay.as_ref()?,
            is_reachable: !is_silent && !is_unreachable,
            // Also between a registration and the heartbeat that follows: who feeds others
            // would lose them each time.
            holding: self.holding.as_ref(),
            pulls: &self.pulls,
            report_age: now.saturating_since(self.heard_at),
        })
    }

    /// Its site, as an operator says, or else the node itself; may be empty.
    pub(crate) fn site(&self) -> &str {
        &self.placement.site
    }

    pub(super) fn probe_state(&self) -> ProbeState {
        match self.reach {
            NodeReachability::Reachable { .. } => ProbeState::Reached,
            NodeReachability::Unknown => ProbeState::New,
            NodeReachability::Unreachable(_) => ProbeState::Failing,
        }
    }

    pub(super) fn is_alive(&self, now: UnixMillis) -> bool {
        now.saturating_since(self.heard_at) < SILENCE
    }

    /// True if it has the package, and nobody found its bytes to be wrong.
    pub(super) fn has(&self, id: &PackageId, current: Sha256) -> bool {
        self.holds(id, current).is_some() && !self.contents.is_wrong(id, current)
    }

    /// Forgets the probes of packages that it does not have any more.
    pub(super) fn forget_contents(&mut self) {
        let holding = self.holding.as_ref();
        self.contents.retain(|id, sha256| holding.is_some_and(|held| held.has(id, sha256)));
    }

    /// The time since which it has the package, if it has it; that is None if it is not
    /// known.
    pub(crate) fn holds(&self, id: &PackageId, current: Sha256) -> Option<Option<UnixMillis>> {
        let holding = self.holding.as_ref().filter(|_| self.reported)?;
        holding.holds(id, current)
    }

    /// Its pull of the package.
    pub(crate) fn pull(&self, id: &PackageId) -> Option<&PullReport> {
        let at = self.pulls.binary_search_by(|pull| pull.id.cmp(id)).ok()?;
        Some(&self.pulls[at])
    }

    /// Its last error with the package, if it could not pull it.
    pub(crate) fn failed_pull(&self, id: &PackageId) -> Option<&FailedPullRecord> {
        let at = self.failed_pulls.binary_search_by(|failed| failed.pull.id.cmp(id)).ok()?;
        Some(&self.failed_pulls[at])
    }

    /// True if it named these very failures before.
    pub(super) fn names_failed(&self, pulls: &[FailedPull]) -> bool {
        self.failed_pulls.iter().map(|failed| &failed.pull).eq(pulls)
    }

    /// Those that it names now, and since when.
    pub(super) fn note_failed_pulls(&mut self, named: Vec<FailedPull>, now: UnixMillis) {
        let since = |pull: &FailedPull| self.failed_pull(&pull.id).map_or(now, |known| known.since);
        let named = named.into_iter().map(|pull| FailedPullRecord { since: since(&pull), pull });
        self.failed_pulls = named.collect();
    }

    /// True if clients may be sent there while it is alive.
    pub(super) fn takes_clients(&self) -> bool {
        !self.placement.drained && matches!(self.reach, NodeReachability::Reachable { .. })
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.placement.drained
    }

    /// The work that clients make it, if it takes them.
    pub(crate) fn work(&self) -> Option<NodeLoad> {
        self.takes_clients().then(|| NodeLoad { percent: self.work_percent, ..self.load() })
    }

    pub(super) fn load(&self) -> NodeLoad {
        let downloads = self.downloads.saturating_add(self.redirects);
        NodeLoad { downloads, percent: self.percent }
    }
}

fn pull_bytes(pull: &PullReport) -> usize {
    let texts = pull.slow_parents.iter().map(|text| size_of_val(text) + text.capacity());
    size_of_val(pull) + pull.parent.as_ref().map_or(0, String::capacity) + texts.sum::<usize>()
}
