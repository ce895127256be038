//! The nodes, as their calls and our probes describe them. Pure: the time is
//! passed in, and probing is `probe`'s.

use std::collections::{BTreeMap, HashMap};

use super::{
    holding::{Holding, Offered, Report},
    refusal::Refusal,
};
use crate::{
    package::{PackageId, Sha256},
    protocol::MeetingRef,
};

/// Who was not heard from for so long counts for nothing.
const HEARD_WITHIN_S: f64 = 30.0;
/// A venue has dozens; anybody on the network can register.
pub const MAX_NODES: usize = 4096;
const PROBE_EVERY_S: f64 = 10.0;

/// Whether clients could get at a node, by our own probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    #[default]
    Unknown,
    /// By which scheme, as the node itself answers.
    Reachable {
        https: bool,
    },
    Unreachable(String),
}

/// A heartbeat, read.
#[derive(Clone, Debug)]
pub struct Beat {
    pub address: String,
    pub status: String,
    pub active: Vec<MeetingRef>,
    pub synced: Vec<String>,
    pub report: Report,
    pub downloads: u64,
    pub version: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub address: String,
    pub status: String,
    pub registered_s: f64,
    pub heard_s: f64,
    pub active: Vec<MeetingRef>,
    pub synced: Vec<String>,
    pub downloads: u64,
    pub version: Option<String>,
    pub reach: Reach,
    /// Clients sent there since the last heartbeat.
    redirects: u64,
    /// None before the first heartbeat.
    holding: Option<Holding>,
    /// A heartbeat came since the registration: a node that registers anew
    /// was restarted, perhaps on an empty disk.
    reported: bool,
    probe_due_s: f64,
    probing: bool,
}

impl Node {
    fn new(address: String, status: String, now_s: f64) -> Self {
        Self {
            address,
            status,
            registered_s: now_s,
            heard_s: now_s,
            active: Vec::new(),
            synced: Vec::new(),
            downloads: 0,
            version: None,
            reach: Reach::Unknown,
            redirects: 0,
            holding: None,
            reported: false,
            probe_due_s: now_s,
            probing: false,
        }
    }

    fn alive(&self, now_s: f64) -> bool {
        now_s - self.heard_s < HEARD_WITHIN_S
    }

    fn has(&self, id: &PackageId, current: Sha256) -> bool {
        self.reported && self.holding.as_ref().is_some_and(|holding| holding.has(id, current))
    }

    fn busy(&self) -> u64 {
        self.downloads.saturating_add(self.redirects)
    }
}

/// A node that clients may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node_id: String,
    pub address: String,
    pub https: bool,
    pub busy: u64,
}

#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Node>,
    /// Forgotten but not yet told of; emptied every second.
    lost: Vec<String>,
}

impl Registry {
    /// True when the node was not known.
    pub fn register(
        &mut self,
        node_id: &str,
        address: String,
        status: String,
        now_s: f64,
    ) -> Result<bool, Refusal> {
        self.forget_dead(now_s);
        let Some(old) = self.nodes.get(node_id) else {
            self.add(node_id, Node::new(address, status, now_s))?;
            return Ok(true);
        };
        let reach = if old.address == address { old.reach.clone() } else { Reach::Unknown };
        let (holding, probing) = (old.holding.clone(), old.probing);
        let node = Node { reach, holding, probing, ..Node::new(address, status, now_s) };
        self.nodes.insert(node_id.to_owned(), node);
        Ok(false)
    }

    /// True when the node was not known. The address of one that was known is
    /// not taken: that takes a registration, as with the real main server.
    pub fn heartbeat(
        &mut self,
        node_id: &str,
        beat: Beat,
        now_s: f64,
        offered: impl Fn(&PackageId) -> Option<Offered>,
    ) -> Result<bool, Refusal> {
        self.forget_dead(now_s);
        let new = !self.nodes.contains_key(node_id);
        if new {
            self.add(node_id, Node::new(beat.address, beat.status.clone(), now_s))?;
        }
        if let Some(node) = self.nodes.get_mut(node_id) {
            node.holding = Some(Holding::after(node.holding.as_ref(), beat.report, offered));
            node.reported = true;
            node.heard_s = now_s;
            node.status = beat.status;
            node.active = beat.active;
            node.synced = beat.synced;
            node.downloads = beat.downloads;
            node.version = beat.version;
            node.redirects = 0;
        }
        Ok(new)
    }

    /// False when no such node is alive.
    pub fn unregister(&mut self, node_id: &str, now_s: f64) -> bool {
        self.forget_dead(now_s);
        self.nodes.remove(node_id).is_some()
    }

    /// Why clients can't get at a node, if our probe found that they can't.
    pub fn unreachable(&self, node_id: &str) -> Option<String> {
        match &self.nodes.get(node_id)?.reach {
            Reach::Unreachable(reason) => Some(reason.clone()),
            Reach::Unknown | Reach::Reachable { .. } => None,
        }
    }

    pub fn live(&self, now_s: f64) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter().filter(move |(_, node)| node.alive(now_s))
    }

    /// Live nodes that clients can reach.
    pub fn available(&self, now_s: f64) -> impl Iterator<Item = (&String, &Node)> {
        self.live(now_s).filter(|(_, node)| matches!(node.reach, Reach::Reachable { .. }))
    }

    pub fn candidates(&self, id: &PackageId, current: Sha256, now_s: f64) -> Vec<Candidate> {
        let having = self.available(now_s).filter(|(_, node)| node.has(id, current));
        having
            .map(|(node_id, node)| Candidate {
                node_id: node_id.clone(),
                address: node.address.clone(),
                https: node.reach == Reach::Reachable { https: true },
                busy: node.busy(),
            })
            .collect()
    }

    /// Whether each available node has the package.
    pub fn readiness(
        &self,
        id: &PackageId,
        current: Sha256,
        now_s: f64,
    ) -> impl Iterator<Item = bool> {
        self.available(now_s).map(move |(_, node)| node.has(id, current))
    }

    pub fn redirected(&mut self, node_id: &str) {
        if let Some(node) = self.nodes.get_mut(node_id) {
            node.redirects = node.redirects.saturating_add(1);
        }
    }

    /// The live nodes that have each meeting's current package. What is
    /// current is asked once for each, however many nodes have it.
    pub fn holders(
        &self,
        now_s: f64,
        current: impl Fn(&PackageId) -> Option<Sha256>,
    ) -> HashMap<&PackageId, Vec<&str>> {
        let mut holders: HashMap<&PackageId, (Option<Sha256>, Vec<&str>)> = HashMap::new();
        for (node_id, node) in self.live(now_s).filter(|(_, node)| node.reported) {
            for (id, version) in node.holding.iter().flat_map(Holding::iter) {
                let (current, nodes) =
                    holders.entry(id).or_insert_with(|| (current(id), Vec::new()));
                if version.is_some() && version == *current {
                    nodes.push(node_id);
                }
            }
        }
        let held = holders.into_iter().filter(|(_, (_, nodes))| !nodes.is_empty());
        held.map(|(id, (_, nodes))| (id, nodes)).collect()
    }

    /// Up to `room` nodes and addresses whose probe is due; they count as
    /// being probed until [`probed`](Self::probed).
    pub fn take_due_probes(&mut self, room: usize, now_s: f64) -> Vec<(String, String)> {
        let due = self
            .nodes
            .iter_mut()
            .filter(|(_, node)| node.alive(now_s) && !node.probing && node.probe_due_s <= now_s);
        due.take(room)
            .map(|(node_id, node)| {
                node.probing = true;
                node.probe_due_s = now_s + PROBE_EVERY_S;
                (node_id.clone(), node.address.clone())
            })
            .collect()
    }

    /// True when that is news. What was found at an address that the node
    /// has left meanwhile is not.
    pub fn probed(&mut self, node_id: &str, address: &str, reach: &Reach) -> bool {
        let Some(node) = self.nodes.get_mut(node_id) else { return false };
        node.probing = false;
        if node.address != address {
            return false;
        }
        let news = std::mem::discriminant(&node.reach) != std::mem::discriminant(reach);
        node.reach = reach.clone();
        news
    }

    fn add(&mut self, node_id: &str, node: Node) -> Result<(), Refusal> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::TooManyNodes(MAX_NODES));
        }
        self.nodes.insert(node_id.to_owned(), node);
        Ok(())
    }

    /// Nodes that fell silent since the last time.
    pub fn take_lost(&mut self, now_s: f64) -> Vec<String> {
        self.forget_dead(now_s);
        std::mem::take(&mut self.lost)
    }

    fn forget_dead(&mut self, now_s: f64) {
        let dead = self.nodes.extract_if(.., |_, node| !node.alive(now_s));
        self.lost.extend(dead.map(|(node_id, _)| node_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn digest() -> Sha256 {
        Sha256::new([1; 32])
    }

    fn beat(address: &str, has: bool, downloads: u64) -> Beat {
        let packages = if has { vec![(m(), digest())] } else { vec![] };
        Beat {
            address: address.into(),
            status: "online".into(),
            active: vec![],
            synced: vec![],
            report: Report::Digests(packages),
            downloads,
            version: None,
        }
    }

    fn register(registry: &mut Registry, node_id: &str, address: &str, now_s: f64) -> bool {
        registry.register(node_id, address.into(), "online".into(), now_s).unwrap()
    }

    fn heard(registry: &mut Registry, node_id: &str, beat: Beat, now_s: f64) -> bool {
        registry.heartbeat(node_id, beat, now_s, |_| None).unwrap()
    }

    fn names(registry: &Registry, now_s: f64) -> Vec<String> {
        registry.live(now_s).map(|(id, _)| id.clone()).collect()
    }

    #[test]
    fn a_node_not_heard_from_for_thirty_seconds_is_gone() {
        let mut registry = Registry::default();
        register(&mut registry, "a", "1.1.1.1:1", 0.0);
        heard(&mut registry, "b", beat("2.2.2.2:2", false, 0), 10.0);
        assert_eq!(names(&registry, 29.9), ["a", "b"]);
        assert_eq!(names(&registry, 30.0), ["b"]);
        assert!(!registry.unregister("a", 30.0) && registry.unregister("b", 30.0));
        assert!(heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), 31.0), "new again");
        assert_eq!(
            (registry.take_lost(31.0), registry.take_lost(31.0)),
            (vec!["a".into()], vec![])
        );
    }

    #[test]
    fn an_address_is_taken_from_a_registration_only() {
        let mut registry = Registry::default();
        assert!(heard(&mut registry, "a", beat("1.1.1.1:1", false, 0), 0.0));
        assert!(!heard(&mut registry, "a", beat("2.2.2.2:2", false, 0), 1.0));
        let address = |registry: &Registry| registry.live(1.0).next().unwrap().1.address.clone();
        assert_eq!(address(&registry), "1.1.1.1:1");
        assert!(!register(&mut registry, "a", "2.2.2.2:2", 1.0));
        assert_eq!(address(&registry), "2.2.2.2:2");
    }

    #[test]
    fn clients_are_sent_to_nodes_that_live_and_are_reached_and_have_it() {
        let mut registry = Registry::default();
        let candidates = |registry: &Registry, now_s| {
            let found = registry.candidates(&m(), digest(), now_s);
            found.into_iter().map(|c| (c.node_id, c.busy)).collect::<Vec<_>>()
        };
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 2), 0.0);
        assert_eq!(candidates(&registry, 1.0), [], "not probed yet");
        registry.probed("a", "1.1.1.1:1", &Reach::Reachable { https: false });
        assert_eq!(candidates(&registry, 1.0), [("a".into(), 2)]);
        registry.redirected("a");
        assert_eq!(candidates(&registry, 1.0), [("a".into(), 3)]);
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 1), 2.0);
        assert_eq!(candidates(&registry, 2.0), [("a".into(), 1)]);
        assert_eq!(candidates(&registry, 32.0), [], "not heard from");
        register(&mut registry, "a", "1.1.1.1:1", 3.0);
        assert_eq!(candidates(&registry, 3.0), [], "no heartbeat since it registered");
        heard(&mut registry, "a", beat("1.1.1.1:1", true, 0), 4.0);
        assert_eq!(candidates(&registry, 4.0).len(), 1);
        assert_eq!(registry.holders(4.0, |_| Some(digest()))[&m()], ["a"]);
        registry.probed("a", "1.1.1.1:1", &Reach::Unreachable("refused".into()));
        assert_eq!(candidates(&registry, 4.0), []);
        assert_eq!(registry.readiness(&m(), digest(), 4.0).count(), 0);
    }

    #[test]
    fn a_probe_is_due_at_once_and_then_every_ten_seconds_and_never_twice_at_a_time() {
        let mut registry = Registry::default();
        register(&mut registry, "a", "1.1.1.1:1", 0.0);
        let a = |address: &str| vec![("a".to_owned(), address.to_owned())];
        assert_eq!(registry.take_due_probes(0, 0.0), []);
        assert_eq!(registry.take_due_probes(9, 0.0), a("1.1.1.1:1"));
        register(&mut registry, "a", "2.2.2.2:2", 1.0);
        assert_eq!(registry.take_due_probes(9, 1.0), [], "one is under way");
        assert!(
            !registry.probed("a", "1.1.1.1:1", &Reach::Reachable { https: false }),
            "of the old address"
        );
        assert_eq!(registry.live(1.0).next().unwrap().1.reach, Reach::Unknown);
        assert_eq!(registry.take_due_probes(9, 1.0), a("2.2.2.2:2"));
        assert!(registry.probed("a", "2.2.2.2:2", &Reach::Reachable { https: false }));
        assert_eq!(registry.take_due_probes(9, 10.9), []);
        assert_eq!(registry.take_due_probes(9, 11.0), a("2.2.2.2:2"));
        assert!(!registry.probed("a", "2.2.2.2:2", &Reach::Reachable { https: false }), "no news");
    }

    #[test]
    fn the_registry_is_bounded_and_the_dead_make_room() {
        let mut registry = Registry::default();
        for n in 0..MAX_NODES {
            register(&mut registry, &format!("n{n}"), "1.1.1.1:1", 0.0);
        }
        let more = registry.register("x", "1.1.1.1:1".into(), "online".into(), 1.0);
        assert!(matches!(more, Err(Refusal::TooManyNodes(_))));
        let more = registry.heartbeat("x", beat("1.1.1.1:1", false, 0), 1.0, |_| None);
        assert!(matches!(more, Err(Refusal::TooManyNodes(_))));
        assert!(!register(&mut registry, "n1", "1.1.1.1:1", 1.0), "known ones stay welcome");
        assert!(register(&mut registry, "x", "1.1.1.1:1", 30.5));
    }
}
