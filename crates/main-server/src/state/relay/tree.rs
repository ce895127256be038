//! The tree of one package. Nodes that have it, or else one that pulls from the main
//! server, feed their site; each further site has one root, which pulls from a node of
//! those. Everybody keeps the parent that it has while that parent can feed it, so a
//! death moves the dead node's children only.
//!
//! It grows from the top, and a node is given a parent that hangs in the tree already,
//! so it has no loops, whatever the parents were before. While some nodes follow one
//! tree and others its successor, there may be one for a moment; a node sees it in the
//! path that its parent names, and asks its next spare.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// A smaller gap is only what is under way.
pub(crate) const GAP_BYTES: u64 = 4 << 20;
/// The position of a node that has it all.
pub(crate) const COMPLETE: u64 = u64::MAX;
/// Most hops below a site's root, where fewer would do: each takes some 20 ms and may fail.
const MAX_DEPTH: u32 = 8;

/// The place that a node gets its package from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeParent {
    /// It has it.
    Nobody,
    MainServer,
    Node(usize),
}

/// A node as one package's tree knows it.
#[derive(Clone, Debug)]
pub(crate) struct TreeMember {
    pub site: usize,
    /// Decides between equals: a hash, so that each package has another root.
    pub rank: u64,
    pub max_children: u32,
    /// Children that its uplink bears, `max_children` at most. Without any, it is a leaf.
    pub degree: u32,
    /// Bytes that it has by now.
    pub position: u64,
    /// It pulls from the main server, whether or not it is to.
    pub uses_main_server: bool,
    /// Its parent in the previous tree.
    pub planned: Option<TreeParent>,
    /// The parent that it keeps if possible: the planned one, or the one that it uses.
    pub parent: Option<TreeParent>,
    /// Its place in the previous tree, breadth first; the largest if it had none.
    pub place: u32,
    /// Nodes that it left because they did not keep up.
    pub left: Vec<usize>,
    /// It pulls from a node that is not known here yet, and is best left alone.
    pub(crate) has_unknown_parent: bool,
}

impl TreeMember {
    fn is_complete(&self) -> bool {
        self.position == COMPLETE
    }
}

/// Returns the parent of each member.
pub(crate) fn grow(members: &[TreeMember]) -> Vec<TreeParent> {
    let mut growth = TreeGrowth::new(members);
    growth.plant();
    let parents = growth.parents.into_iter();
    parents.map(|parent| parent.unwrap_or(TreeParent::MainServer)).collect()
}

/// A free place below a node, best first.
type Slot = (u32, u32, u64, usize);

/// The order in which nodes get places: who feeds many others first, then who has one
/// already, then who is far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence(Reverse<u32>, bool, Reverse<u64>, u32, u64, usize);

fn precedence(members: &[TreeMember], node: usize) -> Precedence {
    let member = &members[node];
    let (degree, position) = (Reverse(member.degree), Reverse(member.position));
    let is_new = !matches!(member.parent, Some(TreeParent::Node(_)));
    Precedence(degree, is_new, position, member.place, member.rank, node)
}

struct TreeGrowth<'a> {
    members: &'a [TreeMember],
    parents: Vec<Option<TreeParent>>,
    children: Vec<u32>,
    /// Below the root of the node's site.
    depths: Vec<u32>,
    sites: Vec<TreeSite>,
    /// Nodes by the parent that they would keep.
    claims: BTreeMap<usize, Vec<usize>>,
    /// Nodes that can't keep their parents; their children move with them.
    heads: Vec<usize>,
}

#[derive(Default)]
struct TreeSite {
    members: Vec<usize>,
    /// The one that would pull for the others, from another site or the main server.
    root: Option<usize>,
    slots: BTreeSet<Slot>,
    depth_limit: u32,
}

impl<'a> TreeGrowth<'a> {
    fn new(members: &'a [TreeMember]) -> Self {
        let mut sites: Vec<TreeSite> = Vec::new();
        for (node, member) in members.iter().enumerate() {
            sites.resize_with(sites.len().max(member.site + 1), TreeSite::default);
            sites[member.site].members.push(node);
        }
        for site in &mut sites {
            site.root = elect_of_site(members, &site.members);
            site.depth_limit = depth_limit(site.members.iter().map(|&n| members[n].degree));
        }
        let mut claims: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (child, member) in members.iter().enumerate() {
            if let Some(TreeParent::Node(parent)) = member.parent {
                claims.entry(parent).or_default().push(child);
            }
        }
        for (parent, children) in &mut claims {
            let is_new = |child: usize| members[child].planned != Some(TreeParent::Node(*parent));
            let is_remote = |child: usize| members[child].site != members[*parent].site;
            children.sort_by_key(|&child| {
                (is_new(child), is_remote(child), precedence(members, child))
            });
        }
        Self {
            members,
            parents: vec![None; members.len()],
            children: vec![0; members.len()],
            depths: vec![0; members.len()],
            sites,
            claims,
            heads: Vec::new(),
        }
    }

    fn plant(&mut self) {
        let members = self.members;
        let holders: Vec<_> = (0..members.len()).filter(|&n| members[n].is_complete()).collect();
        let feeding = holders.iter().filter(|&&holder| members[holder].max_children > 0);
        let mut sources: BTreeSet<_> = feeding.map(|&holder| members[holder].site).collect();
        for holder in &holders {
            self.hang(*holder, TreeParent::Nobody);
        }
        for holder in holders {
            self.keep_children(holder, &sources);
        }
        let apart: Vec<_> = (0..members.len()).filter(|&n| members[n].has_unknown_parent).collect();
        let root = if sources.is_empty() { self.elect_root(!apart.is_empty()) } else { None };
        for node in root.into_iter().chain(apart) {
            sources.insert(members[node].site);
            self.hang(node, TreeParent::MainServer);
            self.keep_children(node, &sources);
        }
        if sources.is_empty() {
            return;
        }
        for site in &sources {
            self.attach_rest(*site, &sources);
        }
        // Some have kept their places below a node of those.
        let hangs = |site: &usize| {
            let members = &self.sites[*site].members;
            members.iter().any(|&node| self.parents[node].is_some())
        };
        let mut fed: BTreeSet<_> = (0..self.sites.len()).filter(hangs).collect();
        for site in (0..self.sites.len()).filter(|site| !sources.contains(site)) {
            let Some(root) = self.sites[site].root else { continue };
            if self.parents[root].is_none() {
                // Through a third site rather than from the main server.
                let feeders = if self.has_room(&sources) { &sources } else { &fed };
                self.attach(root, feeders);
                self.keep_children(root, &sources);
            }
            self.attach_rest(site, &sources);
            fed.insert(site);
        }
    }

    /// While some pull from nodes that are not known yet, only who pulls from the main
    /// server already.
    fn elect_root(&self, any_apart: bool) -> Option<usize> {
        let members = self.members;
        let can = |of: &TreeMember| !any_apart || !of.has_unknown_parent && of.uses_main_server;
        let candidates: Vec<_> = (0..members.len()).filter(|&n| can(&members[n])).collect();
        // One that did not follow, but pulls from another node, is none.
        let is_root = |member: &TreeMember| {
            member.planned == Some(TreeParent::MainServer)
                && !matches!(member.parent, Some(TreeParent::Node(_)))
        };
        elect(members, &candidates, |member| u8::from(!is_root(member)))
    }

    fn has_room(&self, sites: &BTreeSet<usize>) -> bool {
        let mut of_sites = sites.iter().flat_map(|site| &self.sites[*site].members);
        of_sites
            .any(|&n| self.parents[n].is_some() && self.children[n] < self.members[n].max_children)
    }

    /// Gives a node its parent, which hangs already.
    fn hang(&mut self, node: usize, parent: TreeParent) {
        let members = self.members;
        if let TreeParent::Node(parent) = parent {
            let slot = self.slot(parent);
            self.sites[members[parent].site].slots.remove(&slot);
            self.children[parent] += 1;
            self.offer_slot(parent);
            let same_site = members[node].site == members[parent].site;
            self.depths[node] = if same_site { self.depths[parent] + 1 } else { 0 };
        }
        self.parents[node] = Some(parent);
        self.offer_slot(node);
    }

    fn offer_slot(&mut self, node: usize) {
        if self.children[node] < self.members[node].degree {
            let slot = self.slot(node);
            self.sites[self.members[node].site].slots.insert(slot);
        }
    }

    fn slot(&self, node: usize) -> Slot {
        (self.depths[node], self.children[node], self.members[node].rank, node)
    }

    /// Hangs up those who keep their parents, from a node down.
    fn keep_children(&mut self, from: usize, sources: &BTreeSet<usize>) {
        let mut parents = vec![from];
        while let Some(parent) = parents.pop() {
            for child in self.claims.remove(&parent).unwrap_or_default() {
                if self.parents[child].is_some() {
                    continue;
                }
                if self.can_keep(child, parent, sources) {
                    self.hang(child, TreeParent::Node(parent));
                    parents.push(child);
                } else {
                    self.heads.push(child);
                }
            }
        }
    }

    fn can_keep(&self, child: usize, parent: usize, sources: &BTreeSet<usize>) -> bool {
        let (of_child, of_parent) = (&self.members[child], &self.members[parent]);
        let is_near = match of_child.site == of_parent.site {
            true => self.depths[parent] < self.sites[of_child.site].depth_limit,
            // Only a site's root has its parent elsewhere.
            false => {
                !sources.contains(&of_child.site) && self.sites[of_child.site].root == Some(child)
            }
        };
        is_near && self.children[parent] < of_parent.degree && !of_child.left.contains(&parent)
    }

    /// Finds parents for the nodes of a site that could not keep theirs.
    fn attach_rest(&mut self, site: usize, sources: &BTreeSet<usize>) {
        let members = self.members;
        let key = |node: usize| precedence(members, node);
        let is_loose =
            |growth: &Self, n: usize| members[n].site == site && growth.parents[n].is_none();
        // Who waits for a parent that hangs nowhere yet moves with it.
        let waits = |growth: &Self, n: usize| match members[n].parent {
            Some(TreeParent::Node(parent)) => {
                is_loose(growth, parent) && parent != n && !members[n].left.contains(&parent)
            }
            Some(TreeParent::Nobody | TreeParent::MainServer) | None => false,
        };
        let of_site = self.sites[site].members.clone();
        let loose = of_site.iter().copied().filter(|&n| is_loose(self, n) && !waits(self, n));
        let mut heads: BTreeSet<_> = loose.map(key).collect();
        loop {
            while let Some(Precedence(.., head)) = heads.pop_first() {
                if self.parents[head].is_some() {
                    continue;
                }
                self.heads.clear();
                self.attach(head, &BTreeSet::from([site]));
                self.keep_children(head, sources);
                let refused = std::mem::take(&mut self.heads).into_iter();
                heads.extend(refused.filter(|&n| members[n].site == site).map(key));
            }
            // What is left claims each other in a ring.
            let ring = of_site.iter().copied().filter(|&n| is_loose(self, n));
            match ring.map(key).min() {
                Some(first) => heads.insert(first),
                None => return,
            };
        }
    }

    /// Gives a node the best parent in some sites; without any, the main server.
    fn attach(&mut self, node: usize, sites: &BTreeSet<usize>) {
        let member = &self.members[node];
        let free = self.free_parent(node, sites);
        let leaf = self.leaf_to_replace(node, sites).filter(|&leaf| {
            let is_higher = free.is_none_or(|free| self.depths[leaf] <= self.depths[free]);
            let moves_others = free.is_none() || self.claims.contains_key(&node);
            member.degree > 0 && is_higher && moves_others
        });
        if let Some(leaf) = leaf {
            return self.replace(leaf, node);
        }
        let feeds = |n: &usize| self.members[*n].max_children > 0;
        let is_of_site = sites.contains(&member.site);
        let remote = self.remote_root_to_replace(sites).filter(|_| is_of_site && feeds(&node));
        // Not from a parent that the node left: that one it is given only for want of another.
        let is_of_left = |other: &usize| member.left.iter().any(|&n| self.is_child(*other, n));
        let can_displace = free.is_none() && member.degree > 0;
        let displaced = remote.filter(|other| can_displace && !is_of_left(other));
        if let Some(remote) = displaced {
            return self.replace(remote, node);
        }
        let parent = free.or_else(|| self.crowded_parent(node, sites));
        if let Some(parent) = parent {
            return self.hang(node, TreeParent::Node(parent));
        }
        let last_place = self.leaf_to_replace(node, sites).filter(|leaf| !feeds(leaf));
        match last_place.filter(|_| feeds(&node)).or(remote) {
            Some(other) => self.replace(other, node),
            None => self.hang(node, TreeParent::MainServer),
        }
    }

    fn is_child(&self, node: usize, parent: usize) -> bool {
        self.parents[node] == Some(TreeParent::Node(parent))
    }

    /// Gives a node the place of another one, which is given a place below it or elsewhere.
    fn replace(&mut self, other: usize, node: usize) {
        let Some(TreeParent::Node(parent)) = self.parents[other] else { return };
        let slot = self.slot(parent);
        self.sites[self.members[parent].site].slots.remove(&slot);
        self.children[parent] -= 1;
        self.offer_slot(parent);
        self.hang(node, TreeParent::Node(parent));
        if self.members[other].site == self.members[node].site {
            self.parents[other] = None;
            self.heads.push(other);
        } else {
            self.hang(other, TreeParent::Node(node));
        }
    }

    /// The highest node with a free place that is no less far, else the farthest one.
    fn free_parent(&self, node: usize, sites: &BTreeSet<usize>) -> Option<usize> {
        let member = &self.members[node];
        let is_far = |slot: &&Slot| {
            self.members[slot.3].position.saturating_add(GAP_BYTES) >= member.position
        };
        let free = |site: &usize| {
            let can_feed = |slot: &&Slot| !member.left.contains(&slot.3);
            self.sites[*site].slots.iter().filter(can_feed)
        };
        let is_high = |site: &usize, slot: &&Slot| slot.0 < self.sites[*site].depth_limit;
        let high = |site| free(site).take_while(move |slot| is_high(site, slot));
        let best = sites.iter().filter_map(|site| high(site).find(is_far)).min();
        let farthest = || {
            let all = sites.iter().flat_map(high);
            all.min_by_key(|slot| (Reverse(self.members[slot.3].position), **slot))
        };
        let deep = || sites.iter().filter_map(|site| free(site).next()).min();
        best.or_else(farthest).or_else(deep).map(|slot| slot.3)
    }

    /// A leaf that takes a place from a node that others can pull from.
    fn leaf_to_replace(&self, node: usize, sites: &BTreeSet<usize>) -> Option<usize> {
        let site = self.members[node].site;
        let is_below_node = |n: usize| matches!(self.parents[n], Some(TreeParent::Node(_)));
        let of_site = self.sites[site].members.iter().copied().filter(|_| sites.contains(&site));
        let leaves = of_site
            .filter(|&n| self.members[n].degree == 0 && self.children[n] == 0 && is_below_node(n));
        leaves.min_by_key(|&n| (self.depths[n], self.members[n].max_children, self.members[n].rank))
    }

    /// The root of another site, which takes the last place that this one's nodes have.
    fn remote_root_to_replace(&self, sites: &BTreeSet<usize>) -> Option<usize> {
        let remote = self.sites.iter().enumerate().filter(|(site, _)| !sites.contains(site));
        let mut roots = remote.filter_map(|(_, site)| site.root);
        roots.find(|root| match self.parents[*root] {
            Some(TreeParent::Node(parent)) => sites.contains(&self.members[parent].site),
            Some(TreeParent::Nobody | TreeParent::MainServer) | None => false,
        })
    }

    /// Where no uplink has room: the node with the fewest children, a leaf last.
    fn crowded_parent(&self, node: usize, sites: &BTreeSet<usize>) -> Option<usize> {
        let member = &self.members[node];
        let kept = match member.parent {
            Some(TreeParent::Node(parent)) => Some(parent),
            Some(TreeParent::Nobody | TreeParent::MainServer) | None => None,
        };
        let of_sites = sites.iter().flat_map(|site| self.sites[*site].members.iter().copied());
        let hangs = of_sites.filter(|&n| {
            self.parents[n].is_some() && self.children[n] < self.members[n].max_children
        });
        hangs.min_by_key(|&n| {
            let other = &self.members[n];
            let is_bad = other.degree == 0 || member.left.contains(&n);
            (is_bad, kept != Some(n), self.children[n], self.depths[n], other.rank)
        })
    }
}

/// The node that pulls for others: one that can feed others rather than a leaf, the
/// present root rather than another, and none that is far behind.
fn elect(
    members: &[TreeMember],
    candidates: &[usize],
    turn: impl Fn(&TreeMember) -> u8,
) -> Option<usize> {
    let all = || candidates.iter().copied().filter(|&n| !members[n].is_complete());
    let feeding = all().filter(|&n| members[n].degree > 0);
    let farthest = feeding.map(|n| members[n].position).max().unwrap_or(0);
    all().min_by_key(|&n| {
        let member = &members[n];
        let is_behind = member.position.saturating_add(GAP_BYTES) < farthest;
        let is_leaf = member.degree == 0;
        (is_leaf, turn(member), is_behind, !member.uses_main_server, member.place, member.rank)
    })
}

fn elect_of_site(members: &[TreeMember], of_site: &[usize]) -> Option<usize> {
    elect(members, of_site, |member| match member.planned {
        Some(TreeParent::Node(parent)) if members[parent].site != member.site => 0,
        // Several did, where nobody had a place for them.
        Some(TreeParent::MainServer) => 1,
        Some(TreeParent::Node(_) | TreeParent::Nobody) | None => 2,
    })
}

/// Depth that a site's tree needs and some room, so that a death does not move many.
fn depth_limit(degrees: impl Iterator<Item = u32>) -> u32 {
    let mut degrees: Vec<_> = degrees.collect();
    degrees.sort_unstable_by_key(|degree| Reverse(*degree));
    let (mut depth, mut level, mut rest) = (0_u32, 1_usize, &degrees[..]);
    while level > 0 && level < rest.len() {
        let (above, below) = rest.split_at(level);
        level = above.iter().map(|degree| *degree as usize).sum();
        (depth, rest) = (depth + 1, below);
    }
    MAX_DEPTH.max(depth + 1)
}
