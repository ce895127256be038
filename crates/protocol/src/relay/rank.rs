//! A tree over ranked nodes: each asks nodes of lower rank only, so that no loop can form
//! whatever each believes of the others. Pure.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

/// Children of a node.
pub const DEGREE: usize = 2;
/// Nodes of lower rank that are tried; then the main server is asked.
pub const MAX_TRIED: usize = 4;

/// Returns the hash by which nodes are ranked: another one for each subject, so that not the
/// same node is always the first.
pub fn hash(subject: &[&str], node_id: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for field in subject.iter().chain(&[node_id]) {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().into()
}

/// Returns the nodes to ask, the parent first, of those of `lower` rank, in the order of
/// their ranks and with their sites. Nodes of the own site come first. The first one of a
/// site asks the first ones of the others, so that bytes travel between sites once.
pub fn parents<T: Copy>(
    lower: impl IntoIterator<Item = (T, impl AsRef<str>)>,
    site: &str,
) -> Vec<T> {
    let (mut own, mut first_ones, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut sites = HashSet::new();
    for (node, of) in lower {
        let of = of.as_ref();
        if of == site {
            own.push(node);
        } else if sites.contains(of) {
            others.push(node);
        } else {
            sites.insert(of.to_owned());
            first_ones.push(node);
        }
    }
    [own, first_ones, others].into_iter().flat_map(nearest_first).take(MAX_TRIED).collect()
}

/// Orders the nodes before the last one of a tree: its ancestors, the nearest first; then
/// its neighbours.
fn nearest_first<T: Copy>(lower: Vec<T>) -> impl Iterator<Item = T> {
    let mut ancestors: Vec<usize> = Vec::new();
    let mut at = lower.len();
    while at > 0 {
        at = (at - 1) / DEGREE;
        ancestors.push(at);
    }
    let neighbours = (0..lower.len()).rev().filter(|at| !ancestors.contains(at));
    let neighbours: Vec<_> = neighbours.take(MAX_TRIED).collect();
    // Leaves room for one neighbour, however many ancestors there are.
    ancestors.truncate(MAX_TRIED - 1);
    ancestors.into_iter().chain(neighbours).map(move |at| lower[at])
}
