//! The nodes that have a package, for the packages that clients ask for: whom to send one
//! to must cost the same with ten nodes and with ten thousand.
//!
//! A package enters when it is asked for, by going through all nodes once, and is kept up
//! with each change of a node from then on. Those that nobody asked for lately make room.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use edge_mirror_protocol::package::{PackageId, Sha256};

use super::node::RegisteredNode;

/// Each change of a node looks at each of them.
const MAX_PACKAGES: usize = 1024;
/// Of all packages together; 16 bytes each.
const MAX_ENTRIES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct HolderIndex {
    packages: HashMap<PackageId, PackageHolders>,
    /// Counts calls.
    turn: u64,
}

#[derive(Debug)]
struct PackageHolders {
    sha256: Sha256,
    /// Sorted.
    nodes: Vec<Arc<str>>,
    asked_in: u64,
}

impl HolderIndex {
    /// The ids of the nodes that have a package and take clients, sorted.
    pub(super) fn find(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        nodes: &BTreeMap<Arc<str>, RegisteredNode>,
    ) -> &[Arc<str>] {
        self.turn += 1;
        let is_known = self.packages.get(id).is_some_and(|package| package.sha256 == sha256);
        if !is_known {
            self.packages.remove(id);
            let having = nodes.iter().filter(|(_, node)| is_holder(node, id, sha256));
            let having: Vec<_> = having.map(|(node_id, _)| node_id.clone()).collect();
            self.make_room(having.len());
            let package = PackageHolders { sha256, nodes: having, asked_in: self.turn };
            self.packages.insert(id.clone(), package);
        }
        let Some(package) = self.packages.get_mut(id) else { return &[] };
        package.asked_in = self.turn;
        &package.nodes
    }

    #[cfg(test)]
    pub(super) fn indexed(&self, id: &PackageId, sha256: Sha256) -> Option<&[Arc<str>]> {
        let package = self.packages.get(id).filter(|package| package.sha256 == sha256)?;
        Some(&package.nodes)
    }

    /// Takes a changed node, or a new one, into account.
    pub(super) fn update(&mut self, node_id: &Arc<str>, node: &RegisteredNode) {
        for (id, package) in &mut self.packages {
            let is_holder = is_holder(node, id, package.sha256);
            match (package.nodes.binary_search(node_id), is_holder) {
                (Err(place), true) => package.nodes.insert(place, node_id.clone()),
                (Ok(place), false) => drop(package.nodes.remove(place)),
                (Ok(_), true) | (Err(_), false) => {}
            }
        }
    }

    pub(super) fn remove(&mut self, node_id: &str) {
        for package in self.packages.values_mut() {
            if let Ok(place) = package.nodes.binary_search_by(|other| (**other).cmp(node_id)) {
                package.nodes.remove(place);
            }
        }
    }

    fn make_room(&mut self, entries: usize) {
        let mut taken = self.packages.values().map(|package| package.nodes.len()).sum::<usize>();
        while self.packages.len() >= MAX_PACKAGES || taken + entries > MAX_ENTRIES {
            let oldest = self.packages.iter().min_by_key(|(_, package)| package.asked_in);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { return };
            taken -= self.packages.remove(&oldest).map_or(0, |package| package.nodes.len());
        }
    }
}

fn is_holder(node: &RegisteredNode, id: &PackageId, sha256: Sha256) -> bool {
    node.takes_clients() && node.has(id, sha256)
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
        /// With the versions of two packages that it has, 0 for none.
        Heartbeat(u8, [u8; 2]),
        Probe(u8, bool),
        Unregister(u8),
        Wait(u64),
        /// Somebody asks for a version of a package.
        Ask(u8, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let node = 0_u8..6;
        prop_oneof![
            node.clone().prop_map(Step::Register),
            (node.clone(), any::<[u8; 2]>())
                .prop_map(|(node, versions)| Step::Heartbeat(node, versions.map(|v| v % 3))),
            (node.clone(), any::<bool>()).prop_map(|(node, good)| Step::Probe(node, good)),
            node.prop_map(Step::Unregister),
            (0_u64..20).prop_map(Step::Wait),
            (0_u8..2, 1_u8..3).prop_map(|(package, version)| Step::Ask(package, version)),
        ]
    }

    fn id(package: usize) -> PackageId {
        format!("p{package}").parse().unwrap()
    }

    fn beat(versions: [u8; 2]) -> HeartbeatReport {
        let held = versions.iter().enumerate().filter(|(_, version)| **version > 0);
        let held = held.map(|(package, version)| (id(package), Sha256::new([*version; 32])));
        HeartbeatReport {
            address: "1.1.1.1:1".into(),
            client: [10, 0, 0, 1].into(),
            status: "online".into(),
            active: vec![],
            report: HeldPackagesReport::Digests(held.collect()),
            downloads: 0,
            version: None,
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
            Step::Heartbeat(node, versions) => {
                let _ = registry.heartbeat(&name(node), beat(*versions), *now);
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
            Step::Ask(package, version) => {
                let (id, sha256) = (id((*package).into()), Sha256::new([*version; 32]));
                registry.send_client(&id, sha256, *now, |_| 0);
            }
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
                for (package, version) in [(0, 1), (1, 2)] {
                    let sha256 = Sha256::new([version; 32]);
                    let having = registry.available(now);
                    let having = having.filter(|(_, node)| node.has(&id(package), sha256));
                    let expected: Vec<_> = having.map(|(id, _)| id.to_owned()).collect();
                    // Without an effect on what is indexed.
                    let found = registry.nodes.indexed(&id(package), sha256);
                    let Some(found) = found else { continue };
                    let live = found.iter().filter(|node_id| {
                        registry.nodes.get(node_id).is_some_and(|node| node.is_alive(now))
                    });
                    let live: Vec<_> = live.map(|node_id| String::from(&**node_id)).collect();
                    prop_assert_eq!(live, expected);
                }
            }
        }
    }

    #[test]
    fn packages_that_nobody_asked_for_lately_make_room() {
        let mut index = HolderIndex::default();
        let sha256 = Sha256::new([1; 32]);
        let nodes = BTreeMap::new();
        for n in 0..=MAX_PACKAGES {
            index.find(&id(n), sha256, &nodes);
            index.find(&id(0), sha256, &nodes);
        }
        assert_eq!(index.packages.len(), MAX_PACKAGES);
        assert!(index.packages.contains_key(&id(0)) && !index.packages.contains_key(&id(1)));
    }
}
