//! The registry's side of what is saved of nodes: it does what operators decided, and
//! tells what is to be saved.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use edge_mirror_base::clock::UnixMillis;

use super::{NodeRegistry, RegisteredNode};
use crate::state::fleet::{
    self, Admission, AvailabilityChange, KnownNode, KnownNodes, LearnedNode, NodeCaller,
    NodeClaims, NodePolicy, NodePresence, SILENCE,
};

/// Nodes that are saved in one transaction; the others follow within seconds.
const MAX_SAVED: usize = 512;

impl NodeRegistry {
    /// Does what was decided: nodes that were removed, or are another client's now, go;
    /// clients are kept from nodes that are drained; and nodes that waited to be accepted
    /// are registered without having to call again.
    pub(crate) fn apply_known_nodes(
        &mut self,
        known: KnownNodes,
        claims: &mut NodeClaims,
        now: UnixMillis,
    ) {
        let before = std::mem::replace(&mut self.known, known);
        let known = self.known.clone();
        let removed = self.nodes.extract(|node_id, node| {
            let is_over = before.get(node_id).is_some_and(|old| match known.get(node_id) {
                Some(new) => new.client != old.client && node.client == old.client,
                None => true,
            });
            is_over || known.is_refused(node_id, node.client)
        });
        self.relay_changed |= !removed.is_empty();
        let placed = self
            .nodes
            .iter()
            .map(|(node_id, node)| (node_id, node, self.placement(node_id, node.relay.as_ref())));
        let placed = placed.filter(|(_, node, placement)| node.placement != *placement);
        let placed: Vec<_> =
            placed.map(|(node_id, _, placement)| (node_id.to_owned(), placement)).collect();
        for (node_id, placement) in placed {
            self.nodes.change(&node_id, |node| node.placement = placement);
        }
        self.gone.retain(|node_id, _| self.known.get(node_id).is_some());
        self.settle(claims, now);
    }

    /// Takes those out of `claims` that are decided upon.
    fn settle(&mut self, claims: &mut NodeClaims, now: UnixMillis) {
        let known = self.known.clone();
        let is_accepted = |id: &str, client| known.get(id).is_some_and(|of| of.client == client);
        let settled = claims
            .take(|id, claim| is_accepted(id, claim.client) || known.is_refused(id, claim.client));
        for (id, claim) in settled {
            let is_here = now.saturating_since(claim.heard_at) < SILENCE;
            if is_here && is_accepted(&id, claim.client) {
                // Beyond a limit, its next call is refused, too.
                let _ = self.register(&id, claim.address, claim.client, claim.status, now);
            }
        }
    }

    /// Remembers when a known node that leaves was last heard.
    pub(super) fn note_gone(&mut self, node_id: &str, node: &RegisteredNode) {
        if self.known.get(node_id).is_some() {
            self.gone.insert(node_id.to_owned(), node.heard_at);
        }
    }

    /// Decides about a call of somebody who says to be a node. It counts for as long as the
    /// registry is not let go: what is decided of nodes changes it, too.
    pub(crate) fn admission(
        &self,
        policy: NodePolicy,
        node_id: &str,
        caller: NodeCaller,
        now: UnixMillis,
    ) -> Admission {
        let registered = self.client_of(node_id, now);
        fleet::admit(&self.known, policy, node_id, registered, caller, now)
    }

    /// The client of a node that is there.
    pub(crate) fn client_of(&self, node_id: &str, now: UnixMillis) -> Option<IpAddr> {
        let node = self.nodes.get(node_id).filter(|node| node.is_alive(now));
        node.map(|node| node.client)
    }

    /// Nodes that are here and not known yet, or known by other addresses.
    pub(crate) fn unsaved(&self, now: UnixMillis) -> Vec<LearnedNode> {
        let here = self.live(now).filter(|(_, node)| node.via.is_none());
        let unsaved = here.filter(|(node_id, node)| {
            let known = self.known.get(node_id);
            known.is_none_or(|known| known.client != node.client || known.address != node.address)
        });
        let learned = unsaved.take(MAX_SAVED).map(|(node_id, node)| LearnedNode {
            id: node_id.to_owned(),
            address: node.address.clone(),
            client: node.client,
            first_seen: node.registered_at,
            heard_at: node.registered_at,
            known_client: self.known.get(node_id).map(|known| known.client),
        });
        learned.collect()
    }

    /// The time at which a known node was last heard, as far as anybody knows.
    pub(crate) fn last_seen(&self, known: &KnownNode) -> UnixMillis {
        let here = self.nodes.get(&known.id).map(|node| node.heard_at);
        let heard_at = here.or_else(|| self.gone.get(&known.id).copied());
        heard_at.unwrap_or_else(|| self.known.last_seen(known))
    }

    pub(crate) fn presence(
        &self,
        known: &KnownNode,
        listening_since: UnixMillis,
        now: UnixMillis,
    ) -> NodePresence {
        let is_there = self.client_of(&known.id, now).is_some();
        self.presence_if(is_there, known, listening_since, now)
    }

    /// All of `known` with their presence. Both sides are in the order of ids, so that none of
    /// ten thousand has to be looked up.
    pub(crate) fn presences<'a>(
        &self,
        known: &'a KnownNodes,
        listening_since: UnixMillis,
        now: UnixMillis,
    ) -> impl Iterator<Item = (&'a Arc<KnownNode>, NodePresence)> {
        let mut live = self.live(now).peekable();
        known.iter().map(move |node| {
            while live.next_if(|(node_id, _)| *node_id < &*node.id).is_some() {}
            let is_there = live.peek().is_some_and(|(node_id, _)| *node_id == &*node.id);
            (node, self.presence_if(is_there, node, listening_since, now))
        })
    }

    fn presence_if(
        &self,
        is_there: bool,
        known: &KnownNode,
        listening_since: UnixMillis,
        now: UnixMillis,
    ) -> NodePresence {
        match is_there {
            true => NodePresence::Present,
            false => NodePresence::of_absent(self.last_seen(known), listening_since, now),
        }
    }

    /// Known nodes that fell silent or came back since that was saved.
    pub(crate) fn presence_changes(
        &self,
        listening_since: UnixMillis,
        now: UnixMillis,
    ) -> Vec<(String, AvailabilityChange)> {
        let presences = self.presences(&self.known, listening_since, now);
        let changes = presences.filter_map(|(known, presence)| {
            let change = match presence {
                NodePresence::Present => AvailabilityChange { at: now, present: true },
                NodePresence::Silent(at) => AvailabilityChange { at, present: false },
                NodePresence::Awaited => return None,
            };
            (known.was_present() != change.present).then(|| (known.id.clone(), change))
        });
        changes.take(MAX_SAVED).collect()
    }

    /// The times at which known nodes were last heard.
    pub(crate) fn sightings(&self) -> BTreeMap<String, UnixMillis> {
        self.known.iter().map(|known| (known.id.clone(), self.last_seen(known))).collect()
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::package::{PackageId, Sha256};
    use proptest::prelude::*;

    use super::*;
    use crate::state::{
        fleet::{
            FleetRecord, NodeClaim, NodeProfile, RefusedNode,
            commands::{self, NodeCommand},
        },
        held_packages::HeldPackagesReport,
        registry::{HeartbeatReport, NodeReachability},
    };

    fn m() -> PackageId {
        "m".parse().unwrap()
    }

    fn digest() -> Sha256 {
        Sha256::new([1; 32])
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn known(drained: bool, of: u8) -> KnownNodes {
        let learned = LearnedNode::new("a".into(), "a:1".into(), client(of), at(0));
        let profile = NodeProfile { drained, ..NodeProfile::default() };
        let node = KnownNode { profile, ..KnownNode::from(learned) };
        KnownNodes::new([node], [], FleetRecord::default())
    }

    fn follow(registry: &mut NodeRegistry, known: KnownNodes) {
        registry.apply_known_nodes(known, &mut NodeClaims::default(), at(1));
    }

    fn registry() -> NodeRegistry {
        let mut registry = NodeRegistry::default();
        registry.register("a", "a:1".into(), client(1), "online".into(), at(0)).unwrap();
        registry
    }

    #[test]
    fn a_node_is_to_be_saved_until_it_is_known_as_it_is() {
        let mut registry = registry();
        assert_eq!(registry.unsaved(at(1))[0].id, "a");
        follow(&mut registry, known(false, 1));
        assert_eq!(registry.unsaved(at(1)), []);
        registry.register("a", "a:2".into(), client(1), "online".into(), at(2)).unwrap();
        assert_eq!(registry.unsaved(at(2))[0].address, "a:2");
        assert_eq!(registry.unsaved(at(32)), [], "it is gone");
    }

    #[test]
    fn a_node_that_was_removed_or_handed_over_is_gone_at_once() {
        let mut registry = registry();
        follow(&mut registry, known(false, 1));
        follow(&mut registry, known(false, 2));
        assert_eq!(registry.client_of("a", at(1)), None, "it is another client's");
        registry.register("a", "a:1".into(), client(2), "online".into(), at(1)).unwrap();
        follow(&mut registry, known(true, 2));
        assert_eq!(registry.client_of("a", at(1)), Some(client(2)));
        follow(&mut registry, KnownNodes::default());
        assert_eq!(registry.client_of("a", at(1)), None, "it was removed");
        // Proven under another address: known as before until that is saved.
        follow(&mut registry, known(false, 1));
        registry.register("a", "a:1".into(), client(2), "online".into(), at(1)).unwrap();
        follow(&mut registry, known(true, 1));
        assert_eq!(registry.client_of("a", at(1)), Some(client(2)));
    }

    #[test]
    fn a_drained_node_gets_no_clients_also_after_it_registers_again() {
        let mut registry = registry();
        let reached = NodeReachability::Reachable { https: false };
        registry.record_probe("a", "a:1", &reached, at(0));
        assert_eq!(registry.available(at(1)).count(), 1);
        follow(&mut registry, known(true, 1));
        assert_eq!(registry.available(at(1)).count(), 0);
        registry.register("a", "a:1".into(), client(1), "online".into(), at(1)).unwrap();
        assert_eq!((registry.available(at(1)).count(), registry.live(at(1)).count()), (0, 1));
        follow(&mut registry, known(false, 1));
        assert_eq!(registry.available(at(1)).count(), 1);
    }

    #[test]
    fn silence_and_return_are_told_once_they_are_certain() {
        let mut registry = registry();
        follow(&mut registry, known(false, 1));
        let told = |registry: &NodeRegistry, seconds| {
            let changes = registry.presence_changes(at(0), at(seconds));
            changes.first().map(|(_, change)| (change.at.as_secs(), change.present))
        };
        assert_eq!(told(&registry, 29), None);
        assert_eq!(told(&registry, 30), Some((0, false)));
        registry.unregister("a", at(20));
        follow(&mut registry, known(false, 1));
        assert_eq!(told(&registry, 29), None, "it said goodbye");
        assert_eq!(told(&registry, 30), Some((0, false)));
        // A start: the record is an hour old, and nothing was heard meanwhile.
        let restarted = |listening_since| {
            let mut registry = NodeRegistry::default();
            follow(&mut registry, known(false, 1));
            registry.presence_changes(listening_since, at(3630)).len()
        };
        assert_eq!((restarted(at(3601)), restarted(at(3600))), (0, 1));
        // It is back, and what is saved says that it was away.
        let mut silent = KnownNode::clone(known(false, 1).get("a").unwrap());
        silent.note(AvailabilityChange { at: at(0), present: false });
        follow(&mut registry, KnownNodes::new([silent], [], FleetRecord::default()));
        assert_eq!(told(&registry, 40), None);
        registry.register("a", "a:1".into(), client(1), "online".into(), at(41)).unwrap();
        assert_eq!(told(&registry, 41), Some((41, true)));
        assert_eq!(registry.sightings()["a"], at(41));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Register { client: u8, is_proven: bool },
        Beat { client: u8 },
        Approve,
        Refuse { client: u8 },
        Remove,
        Save,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0_u8..3, prop::bool::weighted(0.2))
                .prop_map(|(client, is_proven)| Event::Register { client, is_proven }),
            4 => (0_u8..3).prop_map(|client| Event::Beat { client }),
            2 => Just(Event::Approve),
            1 => (0_u8..3).prop_map(|client| Event::Refuse { client }),
            1 => Just(Event::Remove),
            2 => Just(Event::Save),
        ]
    }

    /// A main server as far as node `a` is concerned, and those who claim to be it.
    #[derive(Default)]
    struct Fleet {
        registry: NodeRegistry,
        claims: NodeClaims,
        known: KnownNodes,
        /// Clients that an operator accepted, or that proved themselves.
        accepted: Vec<IpAddr>,
        seconds: u64,
    }

    impl Fleet {
        fn admission(&self, of: u8, is_proven: bool) -> Admission {
            let caller = NodeCaller { client: client(of), is_proven };
            self.registry.admission(NodePolicy::Approve, "a", caller, at(self.seconds))
        }

        fn claims(&mut self, of: u8) {
            let now = at(self.seconds);
            let claim = NodeClaim {
                address: format!("10.0.0.{of}:1"),
                client: client(of),
                status: String::new(),
                version: None,
                first_seen: now,
                heard_at: now,
            };
            self.claims.note("a", claim).unwrap();
        }

        fn registers(&mut self, of: u8, is_proven: bool) {
            let (address, now) = (format!("10.0.0.{of}:1"), at(self.seconds));
            match self.admission(of, is_proven) {
                Admission::Accepted => {
                    let client = client(of);
                    self.registry.register("a", address, client, String::new(), now).unwrap();
                    self.accepted.extend(is_proven.then_some(client));
                }
                Admission::Pending => self.claims(of),
                Admission::Refused => {}
            }
        }

        fn beats(&mut self, of: u8) {
            let now = at(self.seconds);
            match self.admission(of, false) {
                Admission::Accepted => {
                    let beat = HeartbeatReport {
                        address: format!("10.0.0.{of}:1"),
                        client: client(of),
                        status: String::new(),
                        active: vec![],
                        report: HeldPackagesReport::Digests(vec![(m(), digest())]),
                        downloads: 0,
                        ended: None,
                        version: None,
                        takes_files: false,
                        percent: 0,
                        work_percent: 0,
                        memory_percent: None,
                        relay: None,
                        pulls: vec![],
                        failed_pulls: vec![],
                    };
                    self.registry.heartbeat("a", beat, now).unwrap();
                    let address = self.registry.nodes.get("a").unwrap().address.clone();
                    let reached = NodeReachability::Reachable { https: false };
                    self.registry.record_probe("a", &address, &reached, now);
                }
                Admission::Pending => self.claims(of),
                Admission::Refused => {}
            }
        }

        fn decide(&mut self, command: NodeCommand) {
            let Ok(changes) = commands::apply(&self.known, &command) else { return };
            self.known.merge(&changes);
            self.registry.apply_known_nodes(self.known.clone(), &mut self.claims, at(self.seconds));
        }

        fn happens(&mut self, event: Event) {
            self.seconds += 1;
            let (id, at) = ("a".to_owned(), at(self.seconds));
            match event {
                Event::Register { client, is_proven } => self.registers(client, is_proven),
                Event::Beat { client } => self.beats(client),
                Event::Approve => {
                    let Some(claim) = self.claims.get("a").cloned() else { return };
                    let NodeClaim { address, client, .. } = claim;
                    let before = self.known.get("a").map(|node| node.client);
                    self.accepted.retain(|accepted| Some(*accepted) != before);
                    self.accepted.push(client);
                    let learned = LearnedNode::new(id, address, client, at);
                    self.decide(NodeCommand::Approve(learned));
                }
                Event::Refuse { client: of } => {
                    let (address, client) = (format!("10.0.0.{of}:1"), client(of));
                    self.decide(NodeCommand::Refuse(RefusedNode { id, address, client, at }));
                    self.accepted.retain(|accepted| *accepted != client);
                }
                Event::Remove => {
                    self.claims.remove("a");
                    let is_known = self.known.get("a").is_some();
                    self.decide(NodeCommand::Remove(id));
                    self.accepted.retain(|_| !is_known);
                }
                Event::Save => {
                    let learned = self.registry.unsaved(at);
                    self.decide(NodeCommand::Learn(learned));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn all_presences_are_those_of_each(
            live in prop::collection::btree_set("[ab-]{1,2}", 0..6),
            saved in prop::collection::btree_set("[ab-]{1,2}", 0..6),
        ) {
            let mut registry = NodeRegistry::default();
            for id in &live {
                registry.register(id, "a:1".into(), client(1), "online".into(), at(9)).unwrap();
            }
            let learned = |id: &String| LearnedNode::new(id.clone(), "a:1".into(), client(1), at(0));
            let known = saved.iter().map(|id| KnownNode::from(learned(id)));
            let known = KnownNodes::new(known, [], FleetRecord::default());
            let each = known.iter().map(|node| registry.presence(node, at(0), at(35)));
            let all = registry.presences(&known, at(0), at(35)).map(|(_, presence)| presence);
            prop_assert!(all.eq(each));
        }

        #[test]
        fn clients_are_never_sent_to_a_node_that_waits_or_was_refused(
            events in prop::collection::vec(event(), 1..60),
        ) {
            let mut fleet = Fleet::default();
            for event in events {
                fleet.happens(event.clone());
                for candidate in fleet.registry.candidates(&m(), digest(), client(9), at(fleet.seconds)) {
                    let node = fleet.registry.nodes.get(&candidate.node_id).unwrap();
                    prop_assert!(fleet.accepted.contains(&node.client), "after {:?}", event);
                    let address = format!("{}:1", node.client);
                    prop_assert_eq!(&candidate.address, &address, "after {:?}", event);
                }
            }
        }
    }
}
