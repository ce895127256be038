//! The nodes, as their calls and our probes describe them. Pure: the time is
//! passed in, and probing is `probe`'s.
//!
//! Anybody on the network can register and send heartbeats: each text that is
//! kept is short, each list is of meetings of this main server, and nodes and
//! bytes are bounded, in all and for each client, so that nobody fills the
//! memory or takes all the room.

mod choice;
mod contents;
mod explanation;
mod following;
mod holder_index;
mod holdings;
mod node;
mod node_map;
mod outage;
mod probes;
mod via;

use std::{collections::BTreeMap, net::IpAddr};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    DownloadTotals, FailedPull,
    package::{PackageId, Sha256},
    relay::{PullReport, RelayReport},
};

use crate::{
    refusal::RequestError,
    state::{
        MAX_NODES,
        fleet::KnownNodes,
        held_packages::{HeldPackages, HeldPackagesReport},
        newcomers::NewcomerLimiter,
        relay::fleet::RelayNode,
        routing::NodePlacement,
    },
};

pub(crate) use choice::RedirectCandidate;
pub(crate) use contents::ContentProbe;
use contents::ContentRounds;
pub(crate) use explanation::{Candidate, CandidateTier, ChoiceExplanation, Exclusion};
pub(crate) use holdings::NodeHoldings;
pub(crate) use node::RegisteredNode;
use node_map::NodeMap;
use outage::ContactHistory;

/// Behind one address, or in one network of IPv6; more than any venue has.
const MAX_NODES_OF_CLIENT: usize = MAX_NODES / 4;
/// Memory of nodes' lists: two hundred nodes with a thousand meetings each take a
/// seventh of it.
const MAX_BYTES: usize = 96 << 20;
/// The same for the nodes of one client.
const MAX_BYTES_OF_CLIENT: usize = MAX_BYTES / 4;

/// Reachability of a node for clients, by our own probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NodeReachability {
    #[default]
    Unknown,
    /// Speaks HTTPS or not, as the node itself answers.
    Reachable {
        https: bool,
    },
    Unreachable(String),
}

/// A parsed heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct HeartbeatReport {
    pub address: String,
    /// The sender.
    pub client: IpAddr,
    pub status: String,
    pub active: Vec<PackageId>,
    pub report: HeldPackagesReport,
    pub downloads: u64,
    pub ended: Option<DownloadTotals>,
    pub version: Option<String>,
    pub(crate) takes_files: bool,
    /// The busiest of CPU, memory and uplink.
    pub percent: u8,
    /// The busier of CPU and uplink.
    pub work_percent: u8,
    /// None if it does not say.
    pub(crate) memory_percent: Option<u8>,
    pub relay: Option<RelayReport>,
    /// Sorted by id, each id once; so are the next.
    pub pulls: Vec<PullReport>,
    pub failed_pulls: Vec<FailedPull>,
}

#[derive(Debug, Default)]
pub(crate) struct NodeRegistry {
    nodes: NodeMap,
    /// Removed but not yet reported; emptied every second.
    lost: Vec<String>,
    newcomers: NewcomerLimiter,
    contact: ContactHistory,
    /// All that is saved of nodes, as it was last shown.
    known: KnownNodes,
    /// The times at which known nodes that are gone were last heard.
    gone: BTreeMap<String, UnixMillis>,
    /// Something changed that trees depend on; emptied by the planner.
    relay_changed: bool,
    contents: ContentRounds,
}

impl NodeRegistry {
    /// True when the node was not known.
    pub(crate) fn register(
        &mut self,
        node_id: &str,
        address: String,
        client: IpAddr,
        status: String,
        now: UnixMillis,
    ) -> Result<bool, RequestError> {
        self.note_call(now);
        self.forget_if_dead(node_id, now);
        self.relay_changed = true;
        let mut node = RegisteredNode::new(address, client, status, now);
        let Some(old) = self.nodes.remove(node_id) else {
            node.placement = self.placement(node_id, None);
            self.add(node_id, node, now)?;
            return Ok(true);
        };
        if old.address == node.address {
            (node.reach, node.failures) = (old.reach, old.failures);
            node.reached_at = old.reached_at;
        }
        (node.holding, node.probing) = (old.holding, old.probing);
        // Until the heartbeat that follows: nodes register again after each outage, and
        // all trees would be turned over meanwhile.
        (node.relay, node.pulls, node.failed_pulls) = (old.relay, old.pulls, old.failed_pulls);
        node.contents = old.contents.into_wrong();
        node.placement = self.placement(node_id, node.relay.as_ref());
        self.nodes.insert(node_id, node);
        Ok(false)
    }

    /// True when the node was not known. A known node's address does not change:
    /// that takes a registration, as with the real main server.
    pub(crate) fn heartbeat(
        &mut self,
        node_id: &str,
        beat: HeartbeatReport,
        now: UnixMillis,
    ) -> Result<bool, RequestError> {
        self.note_call(now);
        self.forget_if_dead(node_id, now);
        let new = self.nodes.get(node_id).is_none();
        if new {
            let (address, status) = (beat.address.clone(), beat.status.clone());
            self.add(node_id, RegisteredNode::new(address, beat.client, status, now), now)?;
        }
        let Some(node) = self.nodes.get(node_id) else { return Ok(new) };
        let (before, client) = (node.bytes(), node.client);
        let holding = Some(HeldPackages::from_report(node.holding.as_ref(), beat.report, now));
        let has_news = !node.reported || node.holding != holding;
        self.relay_changed |= new
            || !(node.pulls.is_empty() && beat.pulls.is_empty())
            || node.relay != beat.relay
            || (beat.relay.is_some() && has_news);
        let placement = self.placement(node_id, beat.relay.as_ref());
        // All that clients are sent there by, and beside it the lists that take memory.
        let is_busy = |percent| self.nodes.rules().is_busy(percent);
        let is_moved = has_news
            || node.placement != placement
            || is_busy(node.percent) != is_busy(beat.percent);
        let is_resized = node.pulls != beat.pulls
            || node.active != beat.active
            || !node.names_failed(&beat.failed_pulls);
        let record = |node: &mut RegisteredNode| {
            node.reported = true;
            (node.relay, node.pulls) = (beat.relay, beat.pulls);
            node.note_failed_pulls(beat.failed_pulls, now);
            node.heard_at = now;
            node.status = beat.status;
            node.active = beat.active;
            (node.downloads, node.ended) = (beat.downloads, beat.ended);
            node.version = beat.version;
            node.takes_files = beat.takes_files;
            node.percent = beat.percent;
            node.work_percent = beat.work_percent;
            node.memory_percent = beat.memory_percent;
            node.placement = placement;
            node.redirects = 0;
            node.holding = holding;
            if has_news {
                node.forget_contents();
            }
            node.bytes()
        };
        let after = match (is_moved, is_resized) {
            (true, _) => self.nodes.change(node_id, record),
            (false, true) => self.nodes.resize(node_id, record),
            (false, false) => self.nodes.touch(node_id, record),
        };
        if after > Some(before) && !self.is_within_limits(client) {
            return Err(self.drop_lists(node_id));
        }
        Ok(new)
    }

    /// The place of a node among those that clients may be sent to.
    fn placement(&self, node_id: &str, relay: Option<&RelayReport>) -> NodePlacement {
        let profile = self.known.get(node_id).map(|node| &node.profile);
        NodePlacement::of(profile, relay.map_or("", |relay| &relay.site))
    }

    fn is_within_limits(&self, client: IpAddr) -> bool {
        self.nodes.total().bytes <= MAX_BYTES
            && self.nodes.usage_of(client).bytes <= MAX_BYTES_OF_CLIENT
    }

    /// The node stays known; without its lists it gets no clients.
    fn drop_lists(&mut self, node_id: &str) -> RequestError {
        self.nodes.change(node_id, |node| {
            (node.active, node.holding, node.pulls) = (Vec::new(), None, Vec::new());
            node.failed_pulls = Vec::new();
        });
        RequestError::NodesBytes(MAX_BYTES)
    }

    /// False when no such node is alive.
    pub(crate) fn unregister(&mut self, node_id: &str, now: UnixMillis) -> bool {
        self.forget_if_dead(node_id, now);
        self.relay_changed = true;
        let Some(node) = self.nodes.remove(node_id) else { return false };
        self.note_gone(node_id, &node);
        self.contents.note_gone(node_id, node.contents);
        true
    }

    /// The nodes that pass packages on, sorted by id.
    pub(crate) fn relay_nodes(&self, now: UnixMillis) -> Vec<RelayNode<'_>> {
        let pulling =
            || self.live(now).filter(|(_, node)| node.via.is_none() && !node.pulls.is_empty());
        let silent = pulling().filter(|(_, node)| node.is_silent(now)).count();
        // Where most are, this machine was cut off, not they.
        let is_cut_off = silent > 0 && silent * 2 > pulling().count();
        let missed_since = self.contact.missed_since(is_cut_off, now);
        let nodes = self.live(now);
        nodes.filter_map(|(node_id, node)| node.relay_node(node_id, missed_since, now)).collect()
    }

    /// True if the node is there and passes packages on.
    pub(crate) fn has_relay(&self, node_id: &str, now: UnixMillis) -> bool {
        let node = self.nodes.get(node_id).filter(|node| node.is_alive(now));
        node.is_some_and(|node| node.relay.is_some())
    }

    /// The node's pull of a package, as it reports it.
    pub(crate) fn pull(&self, node_id: &str, id: &PackageId) -> Option<&PullReport> {
        self.nodes.get(node_id)?.pull(id)
    }

    /// True if trees may have to change since the last call.
    pub(crate) fn take_relay_change(&mut self) -> bool {
        std::mem::take(&mut self.relay_changed)
    }

    /// The reason that clients can't reach a node, if our probe found one.
    pub(crate) fn unreachable_reason(&self, node_id: &str) -> Option<String> {
        match &self.nodes.get(node_id)?.reach {
            NodeReachability::Unreachable(reason) => Some(reason.clone()),
            NodeReachability::Unknown | NodeReachability::Reachable { .. } => None,
        }
    }

    /// The site of a node that is known here, as it says or its operator does.
    pub(crate) fn site(&self, node_id: &str) -> Option<&str> {
        self.nodes.get(node_id).map(RegisteredNode::site)
    }

    /// Live nodes that take no files that operators send.
    pub(crate) fn without_files(&self, now: UnixMillis) -> impl Iterator<Item = &str> {
        let without = |(_, node): &(&str, &RegisteredNode)| node.reported && !node.takes_files;
        self.live(now).filter(without).map(|(node_id, _)| node_id)
    }

    /// True if the node has this version of a package.
    pub(crate) fn has_package(&self, node_id: &str, id: &PackageId, current: Sha256) -> bool {
        self.nodes.get(node_id).is_some_and(|node| node.holds(id, current).is_some())
    }

    /// CPU, or uplink where that is busier, and memory of a node's machine in percent; None if
    /// it does not say.
    pub(crate) fn machine(&self, node_id: &str) -> Option<(u8, u8)> {
        let node = self.nodes.get(node_id)?;
        Some((node.work_percent, node.memory_percent?))
    }

    pub(crate) fn live(&self, now: UnixMillis) -> impl Iterator<Item = (&str, &RegisteredNode)> {
        self.nodes.iter().filter(move |(_, node)| node.is_alive(now))
    }

    /// Like [`live`](Self::live), in the order of their ids, from behind one on.
    pub(crate) fn live_after(
        &self,
        after: Option<&str>,
        now: UnixMillis,
    ) -> impl Iterator<Item = (&str, &RegisteredNode)> {
        self.nodes.after(after).filter(move |(_, node)| node.is_alive(now))
    }

    /// Live nodes that clients can be sent to.
    pub(crate) fn available(
        &self,
        now: UnixMillis,
    ) -> impl Iterator<Item = (&str, &RegisteredNode)> {
        self.live(now).filter(|(_, node)| node.takes_clients())
    }

    /// For each available node, true if it has the package.
    pub(crate) fn readiness(
        &self,
        id: &PackageId,
        current: Sha256,
        now: UnixMillis,
    ) -> impl Iterator<Item = bool> {
        // One with wrong bytes gets no clients, and holds up no start.
        let right = move |node: &RegisteredNode| !node.contents.is_wrong(id, current);
        let nodes = self.available(now).filter(move |(_, node)| right(node));
        nodes.map(move |(_, node)| node.has(id, current))
    }

    fn add(
        &mut self,
        node_id: &str,
        mut node: RegisteredNode,
        now: UnixMillis,
    ) -> Result<(), RequestError> {
        let is_full = |registry: &Self| {
            let of_client = registry.nodes.usage_of(node.client).nodes;
            (registry.nodes.total().nodes >= MAX_NODES, of_client >= MAX_NODES_OF_CLIENT)
        };
        if is_full(self) != (false, false) {
            self.forget_dead(now);
        }
        match is_full(self) {
            (true, _) => return Err(RequestError::TooManyNodes(MAX_NODES)),
            (_, true) => return Err(RequestError::TooManyNodesOfClient(MAX_NODES_OF_CLIENT)),
            (false, false) => {}
        }
        self.newcomers.admit(node.client, now)?;
        node.contents = self.contents.take_gone(node_id);
        self.nodes.insert(node_id, node);
        Ok(())
    }

    fn note_call(&mut self, now: UnixMillis) {
        self.contact.note_call(|| self.nodes.iter().any(|(_, node)| !node.pulls.is_empty()), now);
    }

    /// Returns nodes that fell silent since the last call.
    pub(crate) fn take_lost(&mut self, now: UnixMillis) -> Vec<String> {
        self.forget_dead(now);
        std::mem::take(&mut self.lost)
    }

    fn forget_dead(&mut self, now: UnixMillis) {
        let dead = self.nodes.extract(|_, node| !node.is_alive(now));
        dead.into_iter().for_each(|(node_id, node)| self.note_lost(node_id, node));
    }

    fn forget_if_dead(&mut self, node_id: &str, now: UnixMillis) {
        if self.nodes.get(node_id).is_some_and(|node| !node.is_alive(now))
            && let Some(node) = self.nodes.remove(node_id)
        {
            self.note_lost(node_id.to_owned(), node);
        }
    }

    fn note_lost(&mut self, node_id: String, node: RegisteredNode) {
        self.relay_changed = true;
        self.note_gone(&node_id, &node);
        self.contents.note_gone(&node_id, node.contents);
        self.lost.push(node_id);
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::MAX_HELD_PACKAGES;

    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis::from_secs_f64(seconds)
    }

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn digest() -> Sha256 {
        Sha256::new([1; 32])
    }

    fn beat(address: &str, has: bool, downloads: u64) -> HeartbeatReport {
        let packages = if has { vec![(m(), digest())] } else { vec![] };
        HeartbeatReport {
            address: address.into(),
            client: client(1),
            status: "online".into(),
            active: vec![],
            report: HeldPackagesReport::Digests(packages),
            downloads,
            ended: None,
            version: None,
            takes_files: false,
            percent: 0,
            work_percent: 0,
            memory_percent: None,
            relay: None,
            pulls: vec![],
            failed_pulls: vec![],
        }
    }

    fn register(
        registry: &mut NodeRegistry,
        node_id: &str,
        address: &str,
        now: UnixMillis,
    ) -> bool {
        registry.register(node_id, address.into(), client(1), "online".into(), now).unwrap()
    }

    fn heard(
        registry: &mut NodeRegistry,
        node_id: &str,
        beat: HeartbeatReport,
        now: UnixMillis,
    ) -> bool {
        registry.heartbeat(node_id, beat, now).unwrap()
    }

    fn names(registry: &NodeRegistry, now: UnixMillis) -> Vec<String> {
        registry.live(now).map(|(id, _)| id.to_owned()).collect()
    }

    #[test]
    fn a_node_not_heard_from_for_thirty_seconds_is_gone() {
        let mut registry = NodeRegistry::default();
        register(&mut registry, "a", "1.1.1.1:1", at(0.0));
        heard(&mut registry, "b", beat("2.2.2.2:2", false, 0), at(10.0));
        assert_eq!(names(&registry, at(29.9)), ["a", "b"]);
        assert_eq!(names(&registry, at(30.0)), ["b"]);
        assert!(!registry.unregister("a", at(30.0)) && registry.unregister("b", at(30.0)));
        assert!(heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), at(31.0)), "new again");
        assert_eq!(
            (registry.take_lost(at(31.0)), registry.take_lost(at(31.0))),
            (vec!["a".into()], vec![])
        );
    }

    #[test]
    fn an_address_is_taken_from_a_registration_only() {
        let mut registry = NodeRegistry::default();
        assert!(heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), at(0.0)));
        assert!(!heard(&mut registry, "a", beat("2.2.2.2:2", false, 0), at(1.0)));
        let address =
            |registry: &NodeRegistry| registry.live(at(1.0)).next().unwrap().1.address.clone();
        assert_eq!(address(&registry), "1.1.1.1:1");
        assert!(!register(&mut registry, "a", "2.2.2.2:2", at(1.0)));
        assert_eq!(address(&registry), "2.2.2.2:2");
    }

    #[test]
    fn clients_are_sent_to_nodes_that_live_and_are_reached_and_have_it() {
        let mut registry = NodeRegistry::default();
        let candidates = |registry: &mut NodeRegistry, now| {
            let found = registry.candidates(&m(), digest(), client(9), now);
            let load = |node: &RegisteredNode| node.is_alive(now).then(|| node.load());
            let sent_to = registry.nodes.choose_holder(&m(), digest(), None, load, |_| 0);
            assert_eq!(
                sent_to.map(|(id, _)| String::from(&*id)),
                found.first().map(|first| first.node_id.clone())
            );
            let load = |registry: &NodeRegistry, id: &str| {
                registry.nodes.get(id).unwrap().load().downloads
            };
            let found = found.into_iter();
            found.map(|c| (load(registry, &c.node_id), c.node_id)).collect::<Vec<_>>()
        };
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 2), at(0.0));
        assert_eq!(candidates(&mut registry, at(1.0)), [], "not probed yet");
        registry.record_probe(
            "a",
            "1.1.1.1:1",
            &NodeReachability::Reachable { https: false },
            at(0.0),
        );
        assert_eq!(candidates(&mut registry, at(1.0)), [(2, "a".into())]);
        let sent = registry.send_client(&m(), digest(), client(9), at(1.0), |_| 0).unwrap();
        assert_eq!((&*sent.node_id, &*sent.address, sent.https), ("a", "1.1.1.1:1", false));
        assert_eq!(candidates(&mut registry, at(1.0)), [(3, "a".into())]);
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 1), at(2.0));
        assert_eq!(candidates(&mut registry, at(2.0)), [(1, "a".into())]);
        assert_eq!(candidates(&mut registry, at(32.0)), [], "not heard from");
        register(&mut registry, "a", "1.1.1.1:1", at(3.0));
        assert_eq!(candidates(&mut registry, at(3.0)), [], "no heartbeat since it registered");
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 0), at(4.0));
        assert_eq!(candidates(&mut registry, at(4.0)).len(), 1);
        assert_eq!(registry.holders(at(4.0), |_| Some(digest()))[&m()], ["a"]);
        registry.record_probe(
            "a",
            "1.1.1.1:1",
            &NodeReachability::Unreachable("refused".into()),
            at(4.0),
        );
        assert_eq!(candidates(&mut registry, at(4.0)), []);
        assert_eq!(registry.readiness(&m(), digest(), at(4.0)).count(), 0);
    }

    #[test]
    fn a_probe_is_due_at_once_and_then_every_ten_seconds_and_never_twice_at_a_time() {
        let mut registry = NodeRegistry::default();
        register(&mut registry, "a", "1.1.1.1:1", at(0.0));
        let a = |address: &str| vec![("a".to_owned(), address.to_owned())];
        let well = NodeReachability::Reachable { https: false };
        assert_eq!(registry.take_due_probes(0, at(0.0)), []);
        assert_eq!(registry.take_due_probes(9, at(0.0)), a("1.1.1.1:1"));
        register(&mut registry, "a", "2.2.2.2:2", at(1.0));
        assert_eq!(registry.take_due_probes(9, at(1.0)), [], "one is under way");
        assert!(!registry.record_probe("a", "1.1.1.1:1", &well, at(1.0)), "of the old address");
        assert_eq!(registry.live(at(1.0)).next().unwrap().1.reach, NodeReachability::Unknown);
        assert_eq!(registry.take_due_probes(9, at(1.0)), a("2.2.2.2:2"));
        assert!(registry.record_probe("a", "2.2.2.2:2", &well, at(1.0)));
        assert_eq!(registry.take_due_probes(9, at(10.9)), []);
        assert_eq!(registry.take_due_probes(9, at(11.0)), a("2.2.2.2:2"));
        assert!(!registry.record_probe("a", "2.2.2.2:2", &well, at(11.0)), "no news");
    }

    #[test]
    fn one_that_fails_is_asked_less_often_until_it_registers_again() {
        let mut registry = NodeRegistry::default();
        register(&mut registry, "a", "1.1.1.1:1", at(0.0));
        let refused = NodeReachability::Unreachable("refused".into());
        let (mut now, mut pauses) = (at(0.0), Vec::new());
        for _ in 0..3 {
            registry.take_due_probes(9, now);
            registry.record_probe("a", "1.1.1.1:1", &refused, now);
            let began = now;
            while registry.take_due_probes(9, now).is_empty() {
                now = now + SECOND;
                heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), now);
            }
            pauses.push(now.saturating_since(began).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40]);
        registry.record_probe("a", "1.1.1.1:1", &refused, now);
        register(&mut registry, "a", "1.1.1.1:1", now);
        assert_eq!(registry.take_due_probes(9, now).len(), 1, "it was restarted");
    }

    #[test]
    fn the_registry_is_bounded_and_the_dead_make_room() {
        let mut registry = NodeRegistry::default();
        let add = |registry: &mut NodeRegistry, node_id: &str, of: u8, now| {
            registry.register(node_id, "1.1.1.1:1".into(), client(of), "online".into(), now)
        };
        // As many as there may be of each client, in as many minutes as it takes.
        for n in 0..MAX_NODES {
            let (of, nth) = (n / MAX_NODES_OF_CLIENT, n % MAX_NODES_OF_CLIENT);
            registry.newcomers = NewcomerLimiter::default();
            add(&mut registry, &format!("n{of}-{nth}"), of as u8, at(0.0)).unwrap();
            if nth == MAX_NODES_OF_CLIENT - 1 && n < MAX_NODES - 1 {
                let beyond = add(&mut registry, "x", of as u8, at(0.0));
                assert!(matches!(beyond, Err(RequestError::TooManyNodesOfClient(_))), "{beyond:?}");
            }
        }
        let more = add(&mut registry, "x", 99, at(1.0));
        assert!(matches!(more, Err(RequestError::TooManyNodes(_))));
        let more = registry.heartbeat("x", beat("1.1.1.1:1", false, 0), at(1.0));
        assert!(matches!(more, Err(RequestError::TooManyNodes(_))));
        assert!(!add(&mut registry, "n0-1", 0, at(1.0)).unwrap(), "known ones stay welcome");
        assert!(add(&mut registry, "x", 99, at(30.5)).unwrap());
    }

    /// A heartbeat that lists as many meetings as are kept.
    fn longest(ids: &[PackageId], of: u8) -> HeartbeatReport {
        let report =
            HeldPackagesReport::Digests(ids.iter().map(|id| (id.clone(), digest())).collect());
        HeartbeatReport {
            client: client(of),
            active: ids.to_vec(),
            report,
            ..beat("1.1.1.1:1", false, 0)
        }
    }

    #[test]
    fn what_nodes_pull_counts_and_goes_with_them() {
        let mut registry = NodeRegistry::default();
        let pull = PullReport {
            id: m(),
            received_bytes: 1,
            total_bytes: None,
            parent: Some("p".repeat(256)),
            rate: 0,
            behind_bytes: 0,
            slow_parents: vec!["s".repeat(256); 8],
        };
        let relay = RelayReport {
            address: "a:1".into(),
            https: false,
            certificate: None,
            site: String::new(),
            max_children: 4,
        };
        let relaying = HeartbeatReport {
            relay: Some(relay),
            pulls: vec![pull],
            ..beat("1.1.1.1:1", false, 0)
        };
        heard(&mut registry, "a", relaying.clone(), at(0.0));
        assert!(registry.take_relay_change() && !registry.take_relay_change());
        assert!(registry.nodes.get("a").unwrap().bytes() > 9 * 256);
        heard(&mut registry, "a", relaying.clone(), at(1.0));
        assert!(registry.take_relay_change(), "it pulls");
        let again = registry.register("a", "1.1.1.1:1".into(), client(1), "online".into(), at(1.0));
        assert!(!again.unwrap(), "it was known");
        let pulls: Vec<_> = registry.relay_nodes(at(1.0)).iter().map(|of| of.pulls.len()).collect();
        assert_eq!(pulls, [1], "it registers again after an outage, and still pulls");
        let node = |registry: &NodeRegistry, seconds| {
            let nodes = registry.relay_nodes(at(seconds));
            nodes.iter().find(|node| node.node_id == "a").map(|node| node.is_reachable)
        };
        assert_eq!(node(&registry, 6.0), Some(true), "all are silent: it is this machine");
        for id in ["b", "c"] {
            let pulls = relaying.pulls.clone();
            heard(&mut registry, id, HeartbeatReport { pulls, ..relaying.clone() }, at(3.0));
        }
        assert_eq!(node(&registry, 5.9), Some(true));
        assert_eq!(node(&registry, 6.0), Some(false), "silent while it pulls");
        assert_eq!(node(&registry, 31.0), None);
        heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), at(7.0));
        assert!(registry.take_relay_change());
        assert_eq!(node(&registry, 7.0), None, "it passes nothing on any more");
        heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), at(8.0));
        assert!(!registry.take_relay_change(), "an idle node costs nothing");
    }

    #[test]
    fn after_an_outage_nobody_counts_as_gone_until_all_had_time_to_call() {
        let mut registry = NodeRegistry::default();
        let relay = RelayReport {
            address: "a:1".into(),
            https: false,
            certificate: None,
            site: String::new(),
            max_children: 4,
        };
        let pull = PullReport {
            id: m(),
            received_bytes: 1,
            total_bytes: None,
            parent: None,
            rate: 0,
            behind_bytes: 0,
            slow_parents: vec![],
        };
        let relaying = HeartbeatReport {
            relay: Some(relay),
            pulls: vec![pull],
            ..beat("1.1.1.1:1", false, 0)
        };
        let beats = |registry: &mut NodeRegistry, ids: &[&str], seconds: f64| {
            for id in ids {
                heard(registry, id, relaying.clone(), at(seconds));
            }
        };
        let gone = |registry: &NodeRegistry, seconds| {
            let nodes = registry.relay_nodes(at(seconds)).into_iter();
            nodes
                .filter(|node| !node.is_reachable)
                .map(|node| node.node_id.to_owned())
                .collect::<Vec<_>>()
        };
        let nobody = [""; 0];
        beats(&mut registry, &["a", "b", "c"], 0.0);
        // Its probes fail, too.
        let failed = NodeReachability::Unreachable("no route".into());
        for id in ["a", "b", "c"] {
            registry.record_probe(id, "1.1.1.1:1", &failed, at(7.0));
        }
        assert_eq!(gone(&registry, 9.0), nobody, "this machine is cut off");
        beats(&mut registry, &["a", "b"], 10.0);
        assert_eq!(gone(&registry, 10.1), nobody);
        (11..=22).for_each(|second| beats(&mut registry, &["a", "b"], f64::from(second)));
        registry.record_probe("a", "1.1.1.1:1", &NodeReachability::Unknown, at(22.0));
        registry.record_probe("b", "1.1.1.1:1", &NodeReachability::Unknown, at(22.0));
        assert_eq!(gone(&registry, 22.1), ["c"], "it did not come back");
    }

    #[test]
    fn what_nodes_list_is_bounded_for_each_client_and_in_all() {
        let ids: Vec<_> =
            (0..MAX_HELD_PACKAGES).map(|n| format!("m{n}").parse().unwrap()).collect();
        let mut registry = NodeRegistry::default();
        heard(&mut registry, "honest", longest(&ids, 0), at(0.0));
        let one = registry.nodes.get("honest").unwrap().bytes();
        assert!(200 * one < MAX_BYTES_OF_CLIENT, "a venue of large nodes: {one} bytes each");
        let mut fill = |of: u8| {
            let heard = |n: &usize| {
                registry.newcomers = NewcomerLimiter::default();
                let node_id = format!("{of}-{n}");
                match registry.heartbeat(&node_id, longest(&ids, of), at(0.0)) {
                    Ok(new) => new,
                    Err(RequestError::NodesBytes(_)) => false,
                    Err(other) => panic!("{other}"),
                }
            };
            (0..MAX_NODES).take_while(heard).count()
        };
        for of in 1..=3 {
            assert_eq!(fill(of), MAX_BYTES_OF_CLIENT / one);
        }
        let _ = fill(4) + fill(5);
        assert_eq!(fill(6), 0, "there is no more room in all");
        let all = registry.nodes.iter().map(|(_, node)| node.bytes()).sum::<usize>();
        assert!(all <= MAX_BYTES && all > MAX_BYTES - one, "{all}");
        assert!(
            !heard(&mut registry, "honest", longest(&ids, 0), at(1.0)),
            "who has room keeps it"
        );
        assert_eq!(registry.nodes.get("honest").unwrap().synced().count(), MAX_HELD_PACKAGES);
        assert_eq!(registry.nodes.get("6-0").unwrap().synced().count(), 0, "but it is known");
    }
}
