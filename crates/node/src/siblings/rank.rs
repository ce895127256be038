//! The nodes to pull a package from where no main server names them: all rank themselves
//! by the same hash, and each asks nodes of lower rank only, so that no loop can form
//! whatever each believes of the others. Pure.

use std::collections::BTreeMap;

use edge_mirror_protocol::{
    package::PackageId,
    relay::{Sibling, auth::PackageVersion, rank},
};

use super::KnownSibling;

/// Returns the nodes to ask, the parent first; none for the node that asks the main
/// server. Nodes of the own site come first. The first one of a site asks the first ones of
/// the others, so that a package travels between sites once.
pub(super) fn parents(
    (me, site): (&str, &str),
    siblings: &BTreeMap<String, KnownSibling>,
    id: &PackageId,
    version: &PackageVersion,
) -> Vec<Sibling> {
    let version = version.to_string();
    let rank = |node_id: &str| rank::hash(&[id.as_str(), &version], node_id);
    let mine = (rank(me), me);
    let others = siblings.iter().filter(|(node_id, _)| *node_id != me);
    let mut lower: Vec<_> = others
        .map(|(node_id, known)| ((rank(node_id), node_id.as_str()), known))
        .filter(|(rank, _)| *rank < mine)
        .collect();
    lower.sort_unstable_by_key(|(rank, _)| *rank);
    let lower = lower.into_iter().map(|(_, known)| (known, &known.site));
    rank::parents(lower, site).into_iter().map(|known| known.sibling.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use edge_mirror_protocol::{
        package::Sha256,
        relay::rank::{DEGREE, MAX_TRIED},
    };
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    /// Each at the site that its number gives.
    fn fleet(
        nodes: impl IntoIterator<Item = usize>,
        site: impl Fn(usize) -> usize,
    ) -> BTreeMap<String, KnownSibling> {
        let known = |n: usize| {
            let node_id = format!("node-{n}");
            let address = format!("10.0.0.1:{n}");
            let sibling =
                Sibling { node_id: node_id.clone(), address, https: false, certificate: None };
            let (site, proven_at) = (site(n).to_string(), Instant::now());
            (node_id, KnownSibling { sibling, site, proven_at })
        };
        nodes.into_iter().map(known).collect()
    }

    fn version() -> PackageVersion {
        PackageVersion::Digest(Sha256::new([1; 32]))
    }

    proptest! {
        #[test]
        fn whatever_each_believes_of_the_others_there_is_no_loop(seen in proptest::collection::vec(any::<u32>(), 24), sites in proptest::collection::vec(0_usize..4, 24 * 24)) {
            let id = "m".parse().unwrap();
            let mut asks: HashMap<String, Vec<String>> = HashMap::new();
            for (me, seen) in seen.iter().enumerate() {
                // Of their sites, too.
                let site = |n: usize| sites[me * 24 + n];
                let known = fleet((0..24).filter(|n| seen >> n & 1 == 1), site);
                let (name, own) = (format!("node-{me}"), site(me).to_string());
                let parents = parents((&name, &own), &known, &id, &version());
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
            let (known, id) = (fleet(0..count, |_| 0), "m".parse().unwrap());
            let mut children: HashMap<String, usize> = HashMap::new();
            let mut roots = 0;
            for me in known.keys() {
                let parents = parents((me, "0"), &known, &id, &version());
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

        #[test]
        fn between_sites_a_package_travels_once(count in 1_usize..60, sites in 1_usize..6, each in proptest::collection::vec(0_usize..6, 60)) {
            let site = |n: usize| each[n] % sites;
            let (known, id) = (fleet(0..count, site), "m".parse().unwrap());
            let mut fed_from_elsewhere: HashMap<&str, usize> = HashMap::new();
            let mut children: HashMap<String, usize> = HashMap::new();
            for (me, own) in &known {
                let parents = parents((me, &own.site), &known, &id, &version());
                let fed = fed_from_elsewhere.entry(&own.site).or_default();
                let parent = parents.first().map(|parent| &known[&parent.node_id]);
                *fed += usize::from(parent.is_none_or(|parent| parent.site != own.site));
                if let Some(parent) = parent.filter(|parent| parent.site == own.site) {
                    *children.entry(parent.sibling.node_id.clone()).or_default() += 1;
                }
            }
            prop_assert!(fed_from_elsewhere.values().all(|fed| *fed == 1), "{fed_from_elsewhere:?}");
            prop_assert!(children.values().all(|children| *children <= DEGREE));
        }
    }
}
