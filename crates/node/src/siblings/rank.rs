//! The nodes to pull a package from where no main server names them: all rank themselves
//! by the same hash, and each asks nodes of lower rank only, so that no loop can form
//! whatever each believes of the others. Pure.

use std::collections::BTreeMap;

use edge_mirror_protocol::{
    package::PackageId,
    relay::{Sibling, auth::PackageVersion},
};
use sha2::Digest;

/// Children of a node.
const DEGREE: usize = 2;
/// Nodes of lower rank that are tried; then the main server is asked.
const MAX_TRIED: usize = 4;

/// Returns the nodes to ask, the parent first; none for the node that asks the main
/// server.
pub(super) fn parents(
    me: &str,
    siblings: &BTreeMap<String, Sibling>,
    id: &PackageId,
    version: &PackageVersion,
) -> Vec<Sibling> {
    let version = version.to_string();
    let rank = |node_id: &str| -> [u8; 32] {
        let mut hasher = sha2::Sha256::new();
        for field in [id.as_str(), &version, node_id] {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.finalize().into()
    };
    let mine = (rank(me), me);
    let others = siblings.iter().filter(|(node_id, _)| *node_id != me);
    let mut lower: Vec<_> = others
        .map(|(node_id, sibling)| ((rank(node_id), node_id.as_str()), sibling))
        .filter(|(rank, _)| *rank < mine)
        .collect();
    lower.sort_unstable_by_key(|(rank, _)| *rank);
    let mut chosen: Vec<usize> = Vec::new();
    // The ancestors, the nearest first; then its neighbours.
    let mut at = lower.len();
    while at > 0 {
        at = (at - 1) / DEGREE;
        chosen.push(at);
    }
    let neighbours = (0..lower.len()).rev().filter(|at| !chosen.contains(at));
    let neighbours: Vec<_> = neighbours.take(MAX_TRIED).collect();
    chosen.truncate(MAX_TRIED - 1);
    chosen.extend(neighbours);
    chosen.into_iter().take(MAX_TRIED).map(|at| lower[at].1.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use edge_mirror_protocol::package::Sha256;
    use proptest::prelude::*;

    use super::*;

    fn fleet(nodes: impl IntoIterator<Item = usize>) -> BTreeMap<String, Sibling> {
        let sibling = |n: usize| {
            let node_id = format!("node-{n}");
            let address = format!("10.0.0.1:{n}");
            (node_id.clone(), Sibling { node_id, address, https: false, certificate: None })
        };
        nodes.into_iter().map(sibling).collect()
    }

    fn version() -> PackageVersion {
        PackageVersion::Digest(Sha256::new([1; 32]))
    }

    proptest! {
        #[test]
        fn whatever_each_believes_of_the_others_there_is_no_loop(seen in proptest::collection::vec(any::<u32>(), 24)) {
            let id = "m".parse().unwrap();
            let mut asks: HashMap<String, Vec<String>> = HashMap::new();
            for (me, seen) in seen.iter().enumerate() {
                let known = fleet((0..24).filter(|n| seen >> n & 1 == 1));
                let parents = parents(&format!("node-{me}"), &known, &id, &version());
                prop_assert!(parents.len() <= MAX_TRIED);
                asks.insert(format!("node-{me}"), parents.into_iter().map(|p| p.node_id).collect());
            }
            // Nodes whose parents have all gone before are taken away, until none is left.
            let mut left = asks.len();
            while !asks.is_empty() {
                let free: Vec<_> = asks.iter().filter(|(_, of)| of.iter().all(|p| !asks.contains_key(p))).map(|(n, _)| n.clone()).collect();
                prop_assert!(!free.is_empty());
                free.iter().for_each(|n| { asks.remove(n); });
                left -= free.len();
            }
            prop_assert_eq!(left, 0);
        }

        #[test]
        fn who_all_know_each_other_has_one_that_asks_the_main_server(count in 1_usize..60) {
            let (known, id) = (fleet(0..count), "m".parse().unwrap());
            let mut children: HashMap<String, usize> = HashMap::new();
            let mut roots = 0;
            for me in known.keys() {
                let parents = parents(me, &known, &id, &version());
                roots += usize::from(parents.is_empty());
                prop_assert!(parents.iter().all(|parent| parent.node_id != *me));
                let mut names: Vec<_> = parents.iter().map(|p| &p.node_id).collect();
                names.dedup();
                prop_assert_eq!(names.len(), parents.len());
                if let Some(parent) = parents.first() {
                    *children.entry(parent.node_id.clone()).or_default() += 1;
                }
            }
            prop_assert_eq!(roots, 1);
            prop_assert!(children.values().all(|children| *children <= DEGREE));
        }
    }
}
