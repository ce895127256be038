//! The probes of nodes: those that are due, and their outcomes.

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::listen::rate_limit_key;

use super::{NodeReachability, NodeRegistry};
use crate::state::probing::{self, ActiveProbe, DueProbe};

impl NodeRegistry {
    /// Begins up to `room` probes, and returns their nodes and addresses; they are
    /// under way until [`record_probe`](Self::record_probe).
    pub(crate) fn take_due_probes(
        &mut self,
        room: usize,
        now: UnixMillis,
    ) -> Vec<(String, String)> {
        let under_way = self.nodes.iter().filter_map(|(_, node)| {
            Some(ActiveProbe {
                address: &node.address,
                client: rate_limit_key(node.client),
                standing: node.probing?,
            })
        });
        let due = self
            .live(now)
            .filter(|(_, node)| {
                node.via.is_none() && node.probing.is_none() && node.probe_due_at <= now
            })
            .map(|(node_id, node)| DueProbe {
                node_id,
                address: &node.address,
                client: rate_limit_key(node.client),
                standing: node.probe_state(),
                due_at: node.probe_due_at,
            })
            .collect();
        let begun: Vec<_> = probing::next(due, under_way, room)
            .into_iter()
            .map(|due| (due.node_id.to_owned(), due.address.to_owned()))
            .collect();
        for (node_id, _) in &begun {
            self.nodes.touch(node_id, |node| node.probing = Some(node.probe_state()));
        }
        begun
    }

    /// True when the reachability changed. A result for an address that the node
    /// has left meanwhile is dropped.
    pub(crate) fn record_probe(
        &mut self,
        node_id: &str,
        address: &str,
        reach: &NodeReachability,
        now: UnixMillis,
    ) -> bool {
        let failed = matches!(reach, NodeReachability::Unreachable(_));
        let nodes = self.nodes.total().nodes;
        let news = self.nodes.touch(node_id, |node| {
            node.probing = None;
            if node.address != address {
                return false;
            }
            node.failures = if failed { node.failures.saturating_add(1) } else { 0 };
            node.probe_due_at = now + probing::pause(node.failures, nodes);
            let news = std::mem::discriminant(&node.reach) != std::mem::discriminant(reach);
            if !news {
                node.reach.clone_from(reach);
            }
            news
        });
        let news = news == Some(true);
        if news {
            self.nodes.change(node_id, |node| {
                (node.reach, node.reached_at) = (reach.clone(), now);
            });
        }
        self.relay_changed |= news;
        news
    }
}
