//! The order of a tree, and whom each node asks when its parent fails. Pure.
//!
//! Only nodes that come earlier in breadth-first order: nobody asks its own
//! descendants, whatever fails. The first child of the root has nobody to ask but the
//! main server, so only one does when the root dies.

use edge_mirror_protocol::relay::MAX_SPARES;

use crate::state::relay::tree::{TreeMember, TreeParent};

/// A tree's nodes, breadth first.
#[derive(Debug)]
pub(crate) struct TreeOrder {
    pub(crate) nodes: Vec<usize>,
    /// The place of each node in it.
    pub(crate) places: Vec<u32>,
    /// Nodes between each and the main server, or one that has it all.
    pub(crate) depths: Vec<u32>,
}

impl TreeOrder {
    /// Siblings keep the order that they had.
    pub(crate) fn of(members: &[TreeMember], parents: &[TreeParent]) -> Self {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
        let mut nodes = Vec::with_capacity(members.len());
        for (node, parent) in parents.iter().enumerate() {
            match parent {
                TreeParent::Node(parent) => children[*parent].push(node),
                TreeParent::Nobody | TreeParent::MainServer => nodes.push(node),
            }
        }
        let key = |node: &usize| {
            let member = &members[*node];
            (member.degree == 0, member.place, member.rank)
        };
        nodes.sort_by_key(key);
        let (mut places, mut depths) = (vec![0; members.len()], vec![0; members.len()]);
        let mut at = 0;
        while let Some(&node) = nodes.get(at) {
            places[node] = u32::try_from(at).unwrap_or(u32::MAX);
            let below = &mut children[node];
            below.sort_by_key(key);
            for child in below.iter() {
                depths[*child] = depths[node] + 1;
            }
            nodes.append(below);
            at += 1;
        }
        Self { nodes, places, depths }
    }

    /// The nodes to ask after the parent: the grandparent, the parent's earlier
    /// sibling, for a child of the root its own, then any earlier ones.
    pub(crate) fn spares(
        &self,
        node: usize,
        members: &[TreeMember],
        parents: &[TreeParent],
    ) -> Vec<usize> {
        let TreeParent::Node(parent) = parents[node] else { return Vec::new() };
        let member = &members[node];
        let grandparent = match parents[parent] {
            TreeParent::Node(grandparent) => Some(grandparent),
            TreeParent::Nobody | TreeParent::MainServer => None,
        };
        let is_of_site = |spare: usize| members[spare].site == member.site;
        let feeds = |spare: &usize| {
            *spare != parent && members[*spare].degree > 0 && !member.left.contains(spare)
        };
        let before = |of: usize| {
            let earlier = self.nodes[..self.places[of] as usize].iter().rev().copied();
            earlier.take_while(move |&n| parents[n] == parents[of])
        };
        // A site's line is passed twice only if its root died, and then by one node.
        let is_first = before(node).next().is_none();
        let across = is_of_site(parent) && !grandparent.is_some_and(is_of_site) && !is_first;
        let nearest = grandparent.filter(|_| !across);
        let is_beside_parent = |n: &usize| members[*n].site == members[parent].site;
        let siblings_of_parent = before(parent).filter(is_beside_parent);
        let own = before(node).filter(|_| grandparent.is_none() || across);
        // Each begins elsewhere among those no lower than its parent, so that not all
        // children of one dead parent ask the same.
        let is_upper = |n: &usize| self.depths[*n] <= self.depths[parent];
        let upper = &self.nodes[..self.nodes.partition_point(is_upper)];
        let begin = (member.rank % upper.len().max(1) as u64) as usize;
        let others = upper[begin..].iter().chain(&upper[..begin]).copied();
        let mut spares = Vec::with_capacity(MAX_SPARES);
        for spare in nearest
            .into_iter()
            .chain(siblings_of_parent)
            .chain(own)
            .chain(others.filter(is_beside_parent))
            .filter(feeds)
        {
            if spares.len() == MAX_SPARES {
                break;
            }
            if !spares.contains(&spare) {
                spares.push(spare);
            }
        }
        spares
    }
}
