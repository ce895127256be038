//! The nodes that pass a task's files on to each other. Pure.

use std::collections::BTreeMap;

use edge_mirror_protocol::relay::{Sibling, rank};

use super::{DispatchTask, NodeOutcome};
use crate::state::relay::fleet::RelayNode;

/// The nodes of a task that others can pull from, in the order of their ranks: each asks
/// those before it. Nodes that have all files come first.
#[derive(Debug, Default)]
pub(crate) struct DeliveryTree {
    ranked: Vec<RankedNode>,
    /// The sites of all nodes, also of those that can't send.
    sites: BTreeMap<String, String>,
}

/// A node as far as it counts here.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryNode {
    sibling: Sibling,
    site: String,
    /// Others can pull from it.
    can_send: bool,
}

impl From<&RelayNode<'_>> for DeliveryNode {
    fn from(node: &RelayNode<'_>) -> Self {
        let can_send = node.max_children() > 0;
        Self { sibling: node.sibling(), site: node.report.site.clone(), can_send }
    }
}

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
    pub(crate) fn new(task: &DispatchTask, nodes: Vec<DeliveryNode>) -> Self {
        let (mut ranked, mut sites) = (Vec::new(), BTreeMap::new());
        for DeliveryNode { sibling, site, can_send } in nodes {
            let node_id = &sibling.node_id;
            if !task.is_for(node_id) {
                continue;
            }
            sites.insert(node_id.clone(), site.clone());
            let has_files = matches!(task.outcome(node_id), None | Some(NodeOutcome::Done));
            if can_send && has_files {
                ranked.push(RankedNode { rank: rank_of(task, node_id), sibling, site });
            }
        }
        ranked.sort_unstable_by_key(|node| node.rank);
        Self { ranked, sites }
    }

    /// The nodes that a node of this task asks, the best one first.
    pub(crate) fn parents(&self, task: &DispatchTask, node_id: &str) -> Vec<Sibling> {
        // Nobody asks one that can't send, or has not said yet that it can: it asks all others.
        let is_asked = self.ranked.iter().any(|node| node.sibling.node_id == node_id);
        let own = is_asked.then(|| rank_of(task, node_id));
        let site = self.sites.get(node_id).map_or("", String::as_str);
        let lower = self.ranked.iter().take_while(|node| own.is_none_or(|own| node.rank < own));
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

    fn delivery_nodes(reports: &[(String, RelayReport)]) -> Vec<DeliveryNode> {
        let node = |(node_id, report)| RelayNode {
            node_id,
            report,
            is_reachable: true,
            holding: None,
            pulls: &[],
            report_age: Duration::ZERO,
        };
        let nodes = reports.iter().map(|(node_id, report)| node((&**node_id, report)));
        nodes.map(|node| DeliveryNode::from(&node)).collect()
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
            let tree = DeliveryTree::new(&task, delivery_nodes(&reports));
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
    fn a_node_that_can_not_send_asks_those_of_its_site_first() {
        let mut task = task(1, None);
        let ids = ["far-1", "far-2", "far-3", "near", "me"];
        let reports = ids.map(|node_id| {
            let site = usize::from(node_id.starts_with("far"));
            (node_id.to_owned(), report(1, site, if node_id == "me" { 0 } else { 4 }))
        });
        for node_id in &ids[..4] {
            let done = NodeResult::new(NodeOutcome::Done, at(1));
            task.results.insert((*node_id).to_owned(), done);
        }
        let tree = DeliveryTree::new(&task, delivery_nodes(&reports));
        assert_eq!(tree.parents(&task, "me")[0].node_id, "near");
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
        let tree = DeliveryTree::new(&task, delivery_nodes(&reports));
        assert!(!tree.parents(&task, "late").is_empty(), "one that is not listed yet is no root");
        let parents = tree.parents(&task, "me");
        assert_eq!(parents.iter().map(|parent| &*parent.node_id).collect::<Vec<_>>(), ["done"]);
        assert_eq!(tree.parents(&task, "full")[0].node_id, "done", "it may ask others");
    }
}
