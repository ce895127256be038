//! The nodes that call another main server of the fleet.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;

use super::NodeRegistry;

/// Delay with which another main server's calls arrive: the node may have come here meanwhile.
const REPLICATION_DELAY: Duration = Duration::from_secs(3);

impl NodeRegistry {
    /// Notes which main server a node calls; None: this one.
    pub(crate) fn set_via(&mut self, node_id: &str, via: Option<&Arc<str>>) {
        self.nodes.resize(node_id, |node| {
            if node.via.as_ref() != via {
                node.via = via.cloned();
            }
            if via.is_some() {
                // Another main server tells it whom to pull from.
                (node.relay, node.pulls) = (None, Vec::new());
            }
        });
    }

    /// Takes nodes that call other main servers for present: nothing is heard of these.
    pub(crate) fn keep_others(&mut self, now: UnixMillis) {
        let others = self.live(now).filter(|(_, node)| node.via.is_some());
        let others: Vec<_> = others.map(|(node_id, _)| node_id.to_owned()).collect();
        for node_id in others {
            self.nodes.touch(&node_id, |node| node.heard_at = now);
        }
    }

    pub(crate) fn is_via(&self, node_id: &str, server: &str) -> bool {
        self.nodes.get(node_id).is_some_and(|node| node.via.as_deref() == Some(server))
    }

    /// True if it has called this or a third main server after that time.
    pub(crate) fn has_left(&self, node_id: &str, via: &str, at: UnixMillis) -> bool {
        self.nodes
            .get(node_id)
            .is_some_and(|node| node.via.as_deref() != Some(via) && at < node.heard_at)
    }

    /// True if it has called here a moment ago.
    pub(crate) fn calls_here(&self, node_id: &str, now: UnixMillis) -> bool {
        self.nodes.get(node_id).is_some_and(|node| {
            node.via.is_none() && now.saturating_since(node.heard_at) < REPLICATION_DELAY
        })
    }
}
