//! Known nodes and those that wait, and what is wrong with them.

use std::sync::Arc;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::wire::snapshot::ItemWriter;

use crate::{
    api::fleet,
    server::Server,
    state::{
        fleet::{KnownNode, KnownNodes, NodeClaims, NodePolicy, NodePresence},
        problems::FleetSnapshot,
        registry::NodeRegistry,
    },
};

/// Adds all known nodes. `version` is that of what is saved of them.
pub(crate) fn add_known(
    version: u64,
    presences: &[(&Arc<KnownNode>, NodePresence)],
    registry: &NodeRegistry,
    items: &mut ItemWriter<'_>,
) {
    // When an awaited one was last heard is the registry's to say.
    let awaits = presences.iter().any(|(_, presence)| *presence == NodePresence::Awaited);
    let source = (version, presences.iter().map(|(_, presence)| presence).collect::<Vec<_>>());
    if !awaits && items.repeat(&source) {
        return;
    }
    for (node, presence) in presences {
        items.add_hashed(&node.id, &fleet::known_view(registry, node, *presence));
    }
}

/// Adds the nodes that wait for an operator.
pub(crate) fn add_pending(known: &KnownNodes, claims: &NodeClaims, items: &mut ItemWriter<'_>) {
    for (id, claim) in claims.iter() {
        items.add(id, &fleet::pending_view(known, id, claim));
    }
}

pub(crate) fn snapshot(
    server: &Server,
    known: &KnownNodes,
    presences: &[(&Arc<KnownNode>, NodePresence)],
    claims: &NodeClaims,
    now: UnixMillis,
) -> FleetSnapshot {
    // One that is drained may be switched off.
    let in_use = presences.iter().filter(|(node, _)| !node.profile.drained);
    let silent = in_use.filter_map(|(node, presence)| match presence {
        NodePresence::Silent(since) => Some((Arc::clone(node), *since)),
        NodePresence::Present | NodePresence::Awaited => None,
    });
    let moving = claims
        .iter()
        .filter_map(|(id, claim)| known.get(id).map(|node| (node.clone(), claim.address.clone())));
    let asks_for_key = server.outside.borrow().node_key;
    FleetSnapshot {
        silent: silent.collect(),
        moving: moving.collect(),
        stubborn: server.remote_tasks.stubborn_nodes(now),
        pending: claims.len(),
        accepting_until: known.open_until(now),
        is_open: server.node_policy() == NodePolicy::Open && !asks_for_key,
    }
}
