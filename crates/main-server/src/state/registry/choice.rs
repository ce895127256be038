//! The choice of a node for a client.

use std::{net::IpAddr, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::{PackageId, Sha256};

use super::{NodeReachability, NodeRegistry, RegisteredNode};
use crate::state::routing::RoutingRules;

/// A node that clients may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectCandidate {
    pub node_id: String,
    pub address: String,
    pub https: bool,
}

impl NodeRegistry {
    pub(crate) fn set_rules(&mut self, rules: Arc<RoutingRules>) {
        self.nodes.set_rules(rules);
    }

    /// Forgets whom to send clients to for packages that they can't ask for any more.
    pub(crate) fn retain_packages(&mut self, is_wanted: impl Fn(&PackageId) -> bool) {
        self.nodes.retain_packages(is_wanted);
    }

    /// The nodes that a client could be sent to for a package, by tier, then by id.
    pub(crate) fn candidates(
        &mut self,
        id: &PackageId,
        current: Sha256,
        client: IpAddr,
        now: UnixMillis,
    ) -> Vec<RedirectCandidate> {
        let rule = self.nodes.rule_of(client);
        let holders = self.nodes.holders(id, current, rule);
        let holders = holders.values().flatten();
        let nodes = holders.filter_map(|node_id| Some((node_id, self.nodes.get(node_id)?)));
        let live = nodes.filter(|(_, node)| node.is_alive(now));
        live.map(|(node_id, node)| candidate(node_id, node)).collect()
    }

    /// Chooses the node that a client is sent to for a package, and counts that. Takes the
    /// same time however many nodes there are.
    pub(crate) fn send_client(
        &mut self,
        id: &PackageId,
        current: Sha256,
        client: IpAddr,
        now: UnixMillis,
        draw: impl FnMut(usize) -> usize,
    ) -> Option<RedirectCandidate> {
        let rule = self.nodes.rule_of(client);
        let load = |node: &RegisteredNode| node.is_alive(now).then(|| node.load());
        let (node_id, node) = self.nodes.choose_holder(id, current, rule, load, draw)?;
        node.redirects = node.redirects.saturating_add(1);
        Some(candidate(&node_id, node))
    }
}

fn candidate(node_id: &str, node: &RegisteredNode) -> RedirectCandidate {
    RedirectCandidate {
        node_id: node_id.to_owned(),
        address: node.address.clone(),
        https: node.reach == NodeReachability::Reachable { https: true },
    }
}
