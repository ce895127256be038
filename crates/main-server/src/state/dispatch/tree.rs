//! The nodes that pass a task's files on to each other. Pure.

use edge_mirror_protocol::relay::{Sibling, rank};

use super::{DispatchTask, NodeOutcome};
use crate::state::relay::fleet::RelayNode;

/// The nodes of a task that others can pull from, in the order of their ranks: each asks
/// those before it. Nodes that have all files come first.
#[derive(Debug, Default)]
pub(crate) struct DeliveryTree(Vec<RankedNode>);

#[derive(Debug)]
struct RankedNode {
    rank: DeliveryRank,
    sibling: Sibling,
    site: String,
}

/// True while files are missing, and the hash that decides among others.
type DeliveryRank = (bool, [u8; 32]);

fn rank_of(task: &DispatchTask, node_id: &str) -> DeliveryRank {
    let is_missing = task.outcome(node_id) != Some(NodeOutcome::Done);
    (is_missing, rank::hash(&[task.id.as_str()], node_id))
}

impl DeliveryTree {
    pub(crate) fn new(task: &DispatchTask, nodes: &[RelayNode<'_>]) -> Self {
        let can_send = |node: &&RelayNode<'_>| {
            let outcome = task.outcome(node.node_id);
            let has_files = matches!(outcome, None | Some(NodeOutcome::Done));
            task.is_for(node.node_id) && has_files && node.max_children() > 0
        };
        let ranked = nodes.iter().filter(can_send).map(|node| RankedNode {
            rank: rank_of(task, node.node_id),
            sibling: node.sibling(),
            site: node.report.site.clone(),
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable_by_key(|node| node.rank);
        Self(ranked)
    }

    /// The nodes that a node of this task asks, the best one first.
    pub(crate) fn parents(&self, task: &DispatchTask, node_id: &str) -> Vec<Sibling> {
        let own = rank_of(task, node_id);
        let site = self.0.iter().find(|node| node.sibling.node_id == node_id);
        let site = site.map_or("", |node| &node.site);
        let lower = self.0.iter().take_while(|node| node.rank < own);
        let lower = lower.map(|node| (&node.sibling, &node.site));
        rank::parents(lower, site).into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use edge_mirror_protocol::relay::{RelayReport, rank::DEGREE};
    use proptest::prelude::*;

    use super::*;
    use crate::state::dispatch::{
        NodeResult,
        commands::tests::{at, task},
    };

    fn report(n: usize, site: usize, max_children: u32) -> RelayReport {
        RelayReport {
            address: format!("10.0.0.1:{n}"),
            https: false,
            certificate: None,
            site: format!("site-{site}"),
            max_children,
        }
    }

    fn relay_nodes(reports: &[(String, RelayReport)]) -> Vec<RelayNode<'_>> {
        let node = |(node_id, report)| RelayNode {
            node_id,
            report,
            is_reachable: true,
            holding: None,
            pulls: &[],
            report_age: Duration::ZERO,
        };
        reports.iter().map(|(node_id, report)| node((&**node_id, report))).collect()
    }

    proptest! {
        #[test]
        fn each_asks_those_before_it_and_one_asks_the_main_server(
            count in 1_usize..60,
            sites in proptest::collection::vec(0_usize..3, 60),
            done in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let mut task = task(1, None);
            let reports: Vec<_> =
                (0..count).map(|n| (format!("n{n}"), report(n, sites[n], 4))).collect();
            for (node_id, _) in reports.iter().enumerate().filter(|(n, _)| done[*n]).map(|(_, r)| r) {
                task.results.insert(node_id.clone(), NodeResult::new(NodeOutcome::Done, at(1)));
            }
            let tree = DeliveryTree::new(&task, &relay_nodes(&reports));
            let (mut roots, mut children) = (0, HashMap::<String, usize>::new());
            for (node_id, own) in &reports {
                let parents = tree.parents(&task, node_id);
                for parent in &parents {
                    prop_assert!(rank_of(&task, &parent.node_id) < rank_of(&task, node_id));
                }
                if task.outcome(node_id).is_some() {
                    continue;
                }
                roots += usize::from(parents.is_empty());
                if let Some(parent) = parents.first() {
                    let of = reports.iter().find(|(node_id, _)| *node_id == parent.node_id).unwrap();
                    if of.1.site == own.site {
                        *children.entry(parent.node_id.clone()).or_default() += 1;
                    }
                }
            }
            let has_done = done[..count].iter().any(|done| *done);
            let has_missing = done[..count].iter().any(|done| !done);
            prop_assert_eq!(roots, usize::from(has_missing && !has_done));
            prop_assert!(children.values().all(|children| *children <= DEGREE), "{:?}", children);
        }
    }

    #[test]
    fn nobody_asks_a_node_that_failed_passes_nothing_on_or_does_not_get_the_files() {
        let mut task = task(1, Some(&["failed", "full", "done", "me"]));
        let reports = ["failed", "full", "done", "stranger", "me"].map(|node_id| {
            (node_id.to_owned(), report(1, 0, if node_id == "full" { 0 } else { 4 }))
        });
        for (node_id, outcome) in [("failed", NodeOutcome::Failed), ("done", NodeOutcome::Done)] {
            task.results.insert(node_id.to_owned(), NodeResult::new(outcome, at(1)));
        }
        let tree = DeliveryTree::new(&task, &relay_nodes(&reports));
        let parents = tree.parents(&task, "me");
        assert_eq!(parents.iter().map(|parent| &*parent.node_id).collect::<Vec<_>>(), ["done"]);
        assert_eq!(tree.parents(&task, "full")[0].node_id, "done", "it may ask others");
    }
}
