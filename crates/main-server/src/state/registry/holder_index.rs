//! The nodes that have a package, for the packages that clients ask for: whom to send one
//! to must cost the same with ten nodes and with ten thousand.
//!
//! A package enters when the clients of a rule ask for it, by going through all nodes once,
//! and is kept up with each change of a node from then on. It leaves when its meeting ends,
//! and those that nobody asked for lately make room.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use edge_mirror_protocol::package::{PackageId, Sha256};

use super::node::RegisteredNode;
use crate::state::routing::{ClientRules, RoutingRules, Tier};

/// Each change of a node looks at each of them.
const MAX_PACKAGES: usize = 1024;
/// Entries of all packages together; 16 bytes each.
const MAX_ENTRIES: usize = 1 << 20;

/// The ids of nodes by tier, sorted; no tier is empty.
pub(super) type HolderTiers = BTreeMap<Tier, Vec<Arc<str>>>;

/// A package as the clients of a rule ask for it, or those of no rule.
type HolderKey = (PackageId, Option<usize>);

#[derive(Debug, Default)]
pub(super) struct HolderIndex {
    rules: Arc<RoutingRules>,
    by_client: ClientRules,
    packages: HashMap<HolderKey, PackageHolders>,
    /// Counts calls.
    turn: u64,
}

#[derive(Debug)]
struct PackageHolders {
    sha256: Sha256,
    tiers: HolderTiers,
    asked_in: u64,
}

impl HolderIndex {
    pub(super) fn rules(&self) -> &RoutingRules {
        &self.rules
    }

    pub(super) fn set_rules(&mut self, rules: Arc<RoutingRules>) {
        self.by_client = ClientRules::new(&rules);
        self.rules = rules;
        self.packages.clear();
    }

    pub(super) fn rule_of(&self, client: IpAddr) -> Option<usize> {
        self.by_client.find(client)
    }

    pub(super) fn retain_packages(&mut self, is_wanted: impl Fn(&PackageId) -> bool) {
        self.packages.retain(|(id, _), _| is_wanted(id));
    }

    /// The nodes that have a package and take clients of a rule.
    pub(super) fn find(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        rule: Option<usize>,
        nodes: &BTreeMap<Arc<str>, RegisteredNode>,
    ) -> &HolderTiers {
        self.turn += 1;
        let key = (id.clone(), rule);
        let known = self.packages.get(&key);
        if known.is_none_or(|package| package.sha256 != sha256) {
            self.packages.remove(&key);
            let mut package = PackageHolders { sha256, tiers: BTreeMap::new(), asked_in: 0 };
            for (node_id, node) in nodes {
                if let Some(tier) = package.tier_of(&self.rules, &key, node_id, node) {
                    package.tiers.entry(tier).or_default().push(node_id.clone());
                }
            }
            self.make_room(1, package.entries());
            self.packages.insert(key.clone(), package);
        }
        static NONE: HolderTiers = BTreeMap::new();
        let Some(package) = self.packages.get_mut(&key) else { return &NONE };
        package.asked_in = self.turn;
        &package.tiers
    }

    #[cfg(test)]
    pub(super) fn indexed(
        &self,
        id: &PackageId,
        sha256: Sha256,
        rule: Option<usize>,
    ) -> Option<&HolderTiers> {
        let package = self.packages.get(&(id.clone(), rule))?;
        (package.sha256 == sha256).then_some(&package.tiers)
    }

    /// Takes a changed node, or a new one, into account.
    pub(super) fn update(&mut self, node_id: &Arc<str>, node: &RegisteredNode) {
        for (key, package) in &mut self.packages {
            let tier = package.tier_of(&self.rules, key, node_id, node);
            package.put(node_id, tier);
        }
        self.make_room(0, 0);
    }

    pub(super) fn remove(&mut self, node_id: &str) {
        for package in self.packages.values_mut() {
            package.remove_from_all_but(None, node_id);
        }
    }

    /// Makes room for more packages that have this many entries.
    fn make_room(&mut self, packages: usize, entries: usize) {
        let mut taken = self.packages.values().map(PackageHolders::entries).sum::<usize>();
        while self.packages.len() + packages > MAX_PACKAGES || taken + entries > MAX_ENTRIES {
            let oldest = self.packages.iter().min_by_key(|(_, package)| package.asked_in);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            taken -= self.packages.remove(&oldest).map_or(0, |package| package.entries());
        }
    }
}

impl PackageHolders {
    fn entries(&self) -> usize {
        self.tiers.values().map(Vec::len).sum()
    }

    fn tier_of(
        &self,
        rules: &RoutingRules,
        (id, rule): &HolderKey,
        node_id: &str,
        node: &RegisteredNode,
    ) -> Option<Tier> {
        let is_holder = node.takes_clients() && node.has(id, self.sha256);
        is_holder.then(|| rules.tier(*rule, node_id, &node.placement, node.percent)).flatten()
    }

    fn put(&mut self, node_id: &Arc<str>, tier: Option<Tier>) {
        self.remove_from_all_but(tier, node_id);
        let Some(tier) = tier else { return };
        let nodes = self.tiers.entry(tier).or_default();
        if let Err(place) = nodes.binary_search(node_id) {
            nodes.insert(place, node_id.clone());
        }
    }

    fn remove_from_all_but(&mut self, tier: Option<Tier>, node_id: &str) {
        self.tiers.retain(|other, nodes| {
            let place = nodes.binary_search_by(|other| (**other).cmp(node_id));
            if let Some(place) = place.ok().filter(|_| Some(*other) != tier) {
                nodes.remove(place);
            }
            !nodes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::{
        held_packages::HeldPackagesReport,
        registry::{HeartbeatReport, NodeReachability, NodeRegistry},
    };
    use edge_mirror_base::clock::UnixMillis;

    /// What happens to a node, by number.
    #[derive(Clone, Debug)]
    enum Step {
        Register(u8),
        /// With the versions of two packages that it has, 0 for none, and whether it is busy.
        Heartbeat(u8, [u8; 2], bool),
        Probe(u8, bool),
        Unregister(u8),
        Wait(u64),
        /// Somebody asks for a version of a package.
        Ask(u8, u8, u8),
        /// Site and priority.
        Place(u8, u8, u8),
        /// The rules become others.
        Rules(bool),
    }

    const CLIENTS: [&str; 3] = ["10.3.0.1", "10.4.0.1", "192.168.0.1"];
    const SITES: [&str; 3] = ["", "3", "4"];

    fn rules(only: bool) -> Arc<RoutingRules> {
        let rules = serde_json::json!({"rules": [
            {"clients": ["10.3.0.0/16"], "sites": ["3"], "only": only},
            {"clients": ["10.4.0.0/16"], "sites": ["4"], "nodes": ["n1"]},
        ]});
        Arc::new(serde_json::from_value(rules).unwrap())
    }

    fn step() -> impl Strategy<Value = Step> {
        let node = 0_u8..6;
        prop_oneof![
            node.clone().prop_map(Step::Register),
            (node.clone(), any::<[u8; 2]>(), any::<bool>()).prop_map(
                |(node, versions, is_busy)| {
                    Step::Heartbeat(node, versions.map(|v| v % 3), is_busy)
                }
            ),
            (node.clone(), any::<bool>()).prop_map(|(node, good)| Step::Probe(node, good)),
            node.clone().prop_map(Step::Unregister),
            (0_u64..20).prop_map(Step::Wait),
            (0_u8..2, 1_u8..3, 0_u8..3)
                .prop_map(|(package, version, client)| Step::Ask(package, version, client)),
            (node.clone(), 0_u8..3, 0_u8..3)
                .prop_map(|(node, site, priority)| Step::Place(node, site, priority)),
            any::<bool>().prop_map(Step::Rules),
        ]
    }

    fn id(package: usize) -> PackageId {
        format!("p{package}").parse().unwrap()
    }

    fn beat(versions: [u8; 2], is_busy: bool) -> HeartbeatReport {
        let held = versions.iter().enumerate().filter(|(_, version)| **version > 0);
        let held = held.map(|(package, version)| (id(package), Sha256::new([*version; 32])));
        HeartbeatReport {
            address: "1.1.1.1:1".into(),
            client: [10, 0, 0, 1].into(),
            status: "online".into(),
            active: vec![],
            report: HeldPackagesReport::Digests(held.collect()),
            downloads: 0,
            ended: None,
            version: None,
            takes_files: false,
            percent: if is_busy { 95 } else { 5 },
            work_percent: 0,
            memory_percent: None,
            relay: None,
            pulls: vec![],
            failed_pulls: vec![],
        }
    }

    fn take(registry: &mut NodeRegistry, step: &Step, now: &mut UnixMillis) {
        let name = |node: &u8| format!("n{node}");
        let address = || "1.1.1.1:1".to_owned();
        match step {
            Step::Register(node) => {
                let client = [10, 0, 0, 1].into();
                let _ = registry.register(&name(node), address(), client, "online".into(), *now);
            }
            Step::Heartbeat(node, versions, is_busy) => {
                let _ = registry.heartbeat(&name(node), beat(*versions, *is_busy), *now);
            }
            Step::Probe(node, good) => {
                let reach = match good {
                    true => NodeReachability::Reachable { https: false },
                    false => NodeReachability::Unreachable("refused".into()),
                };
                registry.record_probe(&name(node), &address(), &reach, *now);
            }
            Step::Unregister(node) => drop(registry.unregister(&name(node), *now)),
            Step::Wait(seconds) => *now = *now + std::time::Duration::from_secs(*seconds),
            Step::Ask(package, version, client) => {
                let (id, sha256) = (id((*package).into()), Sha256::new([*version; 32]));
                let client = CLIENTS[usize::from(*client)].parse().unwrap();
                registry.send_client(&id, sha256, client, *now, |_| 0);
            }
            Step::Place(node, site, priority) => {
                registry.nodes.change(&name(node), |node| {
                    node.placement.site = SITES[usize::from(*site)].to_owned();
                    node.placement.priority = (*priority).into();
                });
            }
            Step::Rules(only) => registry.set_rules(rules(*only)),
        }
    }

    proptest! {
        #[test]
        fn whom_clients_are_sent_to_is_whom_going_through_all_nodes_finds(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut registry = NodeRegistry::default();
            let mut now = UnixMillis::from_secs_f64(100.0);
            for step in &steps {
                take(&mut registry, step, &mut now);
                for (package, version, rule) in
                    [(0, 1, None), (1, 2, None), (0, 1, Some(0)), (0, 2, Some(1))]
                {
                    let (id, sha256) = (id(package), Sha256::new([version; 32]));
                    let Some(found) = registry.nodes.indexed(&id, sha256, rule) else { continue };
                    let rules = registry.nodes.rules();
                    let having = registry.available(now).filter(|(_, node)| node.has(&id, sha256));
                    let mut expected: BTreeMap<Tier, Vec<&str>> = BTreeMap::new();
                    for (node_id, node) in having {
                        let tier = rules.tier(rule, node_id, &node.placement, node.percent);
                        if let Some(tier) = tier {
                            expected.entry(tier).or_default().push(node_id);
                        }
                    }
                    let is_alive = |node_id: &str| {
                        registry.nodes.get(node_id).is_some_and(|node| node.is_alive(now))
                    };
                    let live = found.iter().map(|(tier, nodes)| {
                        (*tier, nodes.iter().map(|id| &**id).filter(|id| is_alive(id)).collect())
                    });
                    let live = live.filter(|(_, nodes): &(_, Vec<&str>)| !nodes.is_empty());
                    prop_assert_eq!(live.collect::<BTreeMap<_, _>>(), expected);
                }
            }
        }
    }

    #[test]
    fn a_package_leaves_with_its_meeting() {
        let (mut index, sha256) = (HolderIndex::default(), Sha256::new([1; 32]));
        index.find(&id(0), sha256, None, &BTreeMap::new());
        index.find(&id(1), sha256, None, &BTreeMap::new());
        index.retain_packages(|running| *running == id(1));
        assert!(index.indexed(&id(0), sha256, None).is_none());
        assert!(index.indexed(&id(1), sha256, None).is_some());
    }

    #[test]
    fn packages_that_nobody_asked_for_lately_make_room() {
        let mut index = HolderIndex::default();
        let sha256 = Sha256::new([1; 32]);
        let nodes = BTreeMap::new();
        for n in 0..=MAX_PACKAGES {
            index.find(&id(n), sha256, None, &nodes);
            index.find(&id(0), sha256, None, &nodes);
        }
        assert_eq!(index.packages.len(), MAX_PACKAGES);
        assert!(
            index.packages.contains_key(&(id(0), None))
                && !index.packages.contains_key(&(id(1), None))
        );
    }
}
