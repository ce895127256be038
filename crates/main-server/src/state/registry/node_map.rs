//! The nodes by id, and what has to be known of them all without going through them: how
//! much of the memory each client has taken, and which nodes have a package.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::Bound,
    sync::Arc,
};

use edge_mirror_http::listen::rate_limit_key;
use edge_mirror_protocol::package::{PackageId, Sha256};

use super::{
    holder_index::{HolderIndex, HolderTiers},
    node::RegisteredNode,
};
use crate::state::{
    redirect,
    routing::{NodeLoad, RoutingRules},
};

/// The places and bytes that the nodes of a client, or all nodes, take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeUsage {
    pub(super) nodes: usize,
    /// The size of their lists.
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct NodeMap {
    nodes: BTreeMap<Arc<str>, RegisteredNode>,
    /// IPv6 by network.
    clients: HashMap<IpAddr, NodeUsage>,
    total: NodeUsage,
    holders: HolderIndex,
}

impl NodeMap {
    pub(super) fn get(&self, node_id: &str) -> Option<&RegisteredNode> {
        self.nodes.get(node_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &RegisteredNode)> {
        self.nodes.iter().map(|(node_id, node)| (&**node_id, node))
    }

    /// In the order of their ids, from behind one on.
    pub(super) fn after(
        &self,
        node_id: Option<&str>,
    ) -> impl Iterator<Item = (&str, &RegisteredNode)> {
        let from = node_id.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.nodes.range::<str, _>((from, Bound::Unbounded));
        behind.map(|(node_id, node)| (&**node_id, node))
    }

    pub(super) fn total(&self) -> NodeUsage {
        self.total
    }

    pub(super) fn usage_of(&self, client: IpAddr) -> NodeUsage {
        self.clients.get(&rate_limit_key(client)).copied().unwrap_or_default()
    }

    /// Inserts a node, or replaces it.
    pub(super) fn insert(&mut self, node_id: &str, node: RegisteredNode) {
        self.remove(node_id);
        let node_id = Arc::<str>::from(node_id);
        self.count(&node);
        self.holders.update(&node_id, &node);
        self.nodes.insert(node_id, node);
    }

    pub(super) fn remove(&mut self, node_id: &str) -> Option<RegisteredNode> {
        let node = self.nodes.remove(node_id)?;
        self.uncount(&node);
        self.holders.remove(node_id);
        Some(node)
    }

    /// Takes out those that `is_gone` names.
    pub(super) fn extract(
        &mut self,
        is_gone: impl Fn(&str, &RegisteredNode) -> bool,
    ) -> Vec<(String, RegisteredNode)> {
        let gone = self.nodes.iter().filter(|(node_id, node)| is_gone(node_id, node));
        let gone: Vec<_> = gone.map(|(node_id, _)| String::from(&**node_id)).collect();
        let taken = gone.into_iter().filter_map(|node_id| {
            let node = self.remove(&node_id)?;
            Some((node_id, node))
        });
        taken.collect()
    }

    /// Changes a node in a way that makes no difference to what it takes, and to the packages
    /// that clients are sent there for.
    pub(super) fn touch<T>(
        &mut self,
        node_id: &str,
        change: impl FnOnce(&mut RegisteredNode) -> T,
    ) -> Option<T> {
        self.nodes.get_mut(node_id).map(change)
    }

    /// Changes the memory that a node takes, and nothing about the packages that clients are
    /// sent there for.
    pub(super) fn resize<T>(
        &mut self,
        node_id: &str,
        change: impl FnOnce(&mut RegisteredNode) -> T,
    ) -> Option<T> {
        let (node_id, mut node) = self.nodes.remove_entry(node_id)?;
        self.uncount(&node);
        let outcome = change(&mut node);
        self.count(&node);
        self.nodes.insert(node_id, node);
        Some(outcome)
    }

    pub(super) fn change<T>(
        &mut self,
        node_id: &str,
        change: impl FnOnce(&mut RegisteredNode) -> T,
    ) -> Option<T> {
        let outcome = self.resize(node_id, change)?;
        let (node_id, node) = self.nodes.get_key_value(node_id)?;
        self.holders.update(node_id, node);
        Some(outcome)
    }

    pub(super) fn rules(&self) -> &RoutingRules {
        self.holders.rules()
    }

    /// The rule for a client, by its place.
    pub(super) fn rule_of(&self, client: IpAddr) -> Option<usize> {
        self.holders.rule_of(client)
    }

    /// Forgets the holders of packages that no client can ask for any more.
    pub(super) fn retain_packages(&mut self, is_wanted: impl Fn(&PackageId) -> bool) {
        self.holders.retain_packages(is_wanted);
    }

    pub(super) fn set_rules(&mut self, rules: Arc<RoutingRules>) {
        self.holders.set_rules(rules);
    }

    /// The nodes that have a package and take clients of a rule.
    pub(super) fn holders(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        rule: Option<usize>,
    ) -> HolderTiers {
        self.holders.find(id, sha256, rule, &self.nodes).clone()
    }

    /// Chooses one of the nodes that have a package and take clients of a rule: of the first
    /// tier, by load. None is the load of one that can't be chosen now.
    pub(super) fn choose_holder(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        rule: Option<usize>,
        load: impl Fn(&RegisteredNode) -> Option<NodeLoad>,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Option<(Arc<str>, &mut RegisteredNode)> {
        let tiers = self.holders.find(id, sha256, rule, &self.nodes);
        let chosen = tiers.values().find_map(|nodes| {
            let cost = |place: usize| {
                let node = self.nodes.get(nodes.get(place)?)?;
                load(node).map(|load| load.cost(node.placement.weight))
            };
            redirect::choose(nodes.len(), cost, &mut draw).map(|place| nodes[place].clone())
        })?;
        let node = self.nodes.get_mut(&chosen)?;
        Some((chosen, node))
    }

    #[cfg(test)]
    pub(super) fn indexed(
        &self,
        id: &PackageId,
        sha256: Sha256,
        rule: Option<usize>,
    ) -> Option<&HolderTiers> {
        self.holders.indexed(id, sha256, rule)
    }

    fn count(&mut self, node: &RegisteredNode) {
        let bytes = node.bytes();
        let client = self.clients.entry(rate_limit_key(node.client)).or_default();
        for usage in [client, &mut self.total] {
            usage.nodes += 1;
            usage.bytes += bytes;
        }
    }

    fn uncount(&mut self, node: &RegisteredNode) {
        let bytes = node.bytes();
        let client = self.clients.entry(rate_limit_key(node.client)).or_default();
        for usage in [client, &mut self.total] {
            usage.nodes -= 1;
            usage.bytes -= bytes;
        }
        if self.usage_of(node.client).nodes == 0 {
            self.clients.remove(&rate_limit_key(node.client));
        }
    }
}
