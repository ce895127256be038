//! The packages that nodes have in their current versions.

use std::ops::Range;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::{PackageId, Sha256};
use foldhash::{HashMap, HashMapExt};

use super::{NodeRegistry, RegisteredNode};
use crate::state::held_packages::HeldPackages;

/// The live nodes, and the packages that each has in their current versions.
#[derive(Debug)]
pub(crate) struct CurrentHoldings<'a> {
    /// In the order of their ids, each with its range of `packages`.
    nodes: Vec<(&'a str, &'a RegisteredNode, Range<usize>)>,
    packages: Vec<&'a PackageId>,
}

/// One of them; its packages are sorted by id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeHoldings<'a> {
    pub node_id: &'a str,
    pub node: &'a RegisteredNode,
    pub packages: &'a [&'a PackageId],
}

impl<'a> CurrentHoldings<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = NodeHoldings<'_>> {
        self.nodes.iter().map(|(node_id, node, range)| NodeHoldings {
            node_id,
            node,
            packages: &self.packages[range.clone()],
        })
    }

    /// The nodes alone.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&'a str, &'a RegisteredNode)> {
        self.nodes.iter().map(|(node_id, node, _)| (*node_id, *node))
    }

    /// The nodes by package.
    pub(crate) fn holders(&self) -> HashMap<&'a PackageId, Vec<&'a str>> {
        let mut holders: HashMap<&PackageId, Vec<&str>> = HashMap::new();
        for (node_id, _, range) in &self.nodes {
            for id in &self.packages[range.clone()] {
                holders.entry(id).or_default().push(node_id);
            }
        }
        holders
    }
}

impl NodeRegistry {
    /// The packages that live nodes have in their current versions. Which that is is looked
    /// up once per package, not per node.
    pub(crate) fn holdings(
        &self,
        now: UnixMillis,
        current: impl Fn(&PackageId) -> Option<Sha256>,
    ) -> CurrentHoldings<'_> {
        let mut versions: HashMap<&PackageId, Option<Sha256>> = HashMap::new();
        let mut holdings = CurrentHoldings { nodes: Vec::new(), packages: Vec::new() };
        for (node_id, node) in self.live(now) {
            let begins = holdings.packages.len();
            let held = node.holding.iter().filter(|_| node.reported).flat_map(HeldPackages::iter);
            let held = held.filter(|(id, version)| {
                let current = *versions.entry(id).or_insert_with(|| current(id));
                version.is_some_and(|version| {
                    Some(version) == current && !node.contents.is_wrong(id, version)
                })
            });
            holdings.packages.extend(held.map(|(id, _)| id));
            holdings.nodes.push((node_id, node, begins..holdings.packages.len()));
        }
        holdings
    }

    /// The live nodes that have each meeting's current package.
    pub(crate) fn holders(
        &self,
        now: UnixMillis,
        current: impl Fn(&PackageId) -> Option<Sha256>,
    ) -> HashMap<&PackageId, Vec<&str>> {
        self.holdings(now, current).holders()
    }
}
