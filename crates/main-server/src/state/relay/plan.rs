//! All trees, as nodes are told of them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::{MAX_SLOW_PARENTS, PackageAssignment, RelayAssignment, Sibling},
};

use crate::state::relay::{
    fleet::RelayNode,
    spares::TreeOrder,
    tree::{self, COMPLETE, TreeMember, TreeParent},
    uplink::UplinkMemory,
};

/// Until then a node may still report the parent that it had before.
const PLAN_SETTLED_AFTER: Duration = Duration::from_secs(5);
/// A node that did not begin by then, while most others did, feeds nobody: its pull may
/// be switched off, or its disk full.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// A main server that has just started hears of a node before it hears of the one that
/// feeds it: by then, all have called.
const UNKNOWN_PARENT_GRACE: Duration = Duration::from_secs(10);
/// Nodes above one that are looked at: reports may be of a loop, or a long chain.
const MAX_PATH: usize = 16;
/// Pulls that are planned for: two hundred nodes that miss a thousand packages each. Who
/// gets no parent pulls from the main server.
const MAX_EDGES: usize = 200_000;

/// The parents of all nodes that have a package yet to get.
#[derive(Clone, Debug, Default)]
pub(crate) struct RelayPlan {
    /// By id.
    nodes: Vec<Sibling>,
    /// All that are planned for, also those that every node has.
    packages: Vec<(PackageId, Sha256)>,
    trees: Vec<PackageTree>,
}

/// The tree of one package.
#[derive(Clone, Debug)]
pub(crate) struct PackageTree {
    pub id: PackageId,
    /// By node.
    edges: Vec<TreeEdge>,
}

/// A node and its parent.
#[derive(Clone, Debug)]
struct TreeEdge {
    node: u32,
    /// None for the main server.
    parent: Option<u32>,
    spares: Vec<u32>,
    depth: u32,
    place: u32,
    since: UnixMillis,
    /// The node was seen to pull it.
    has_begun: bool,
    has_unknown_parent: bool,
}

/// A node's place in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedParent<'a> {
    pub node_id: &'a str,
    /// None for the main server.
    pub parent: Option<&'a str>,
    #[cfg(test)]
    pub depth: u32,
}

impl RelayPlan {
    /// Plans all packages, in this order. `nodes` are sorted by id.
    #[must_use]
    pub(crate) fn next(
        &self,
        nodes: &[RelayNode<'_>],
        packages: &[(PackageId, Sha256)],
        uplinks: &UplinkMemory,
        now: UnixMillis,
    ) -> Self {
        let index: HashMap<_, _> =
            nodes.iter().enumerate().map(|(n, of)| (of.node_id, n)).collect();
        let now_at: Vec<Option<usize>> =
            self.nodes.iter().map(|node| index.get(&*node.node_id).copied()).collect();
        let mut site_numbers = HashMap::new();
        let sites: Vec<usize> = nodes
            .iter()
            .map(|node| {
                let next = site_numbers.len();
                *site_numbers.entry(&*node.report.site).or_insert(next)
            })
            .collect();
        let degrees: Vec<_> = nodes.iter().map(|node| uplinks.degree(node, now)).collect();
        let previous: HashMap<_, _> = self.trees.iter().map(|tree| (&tree.id, tree)).collect();
        let (mut trees, mut count) = (Vec::new(), 0);
        for (id, current) in packages {
            let missing = nodes.iter().filter(|node| !node.has(id, *current)).count();
            count += missing;
            if missing == 0 || count > MAX_EDGES {
                continue;
            }
            let mut survey = PackageSurvey {
                id,
                current: *current,
                nodes,
                sites: &sites,
                degrees: &degrees,
                index: &index,
                edges: vec![None; nodes.len()],
                now_at: &now_at,
                now,
            };
            for edge in previous.get(id).iter().flat_map(|tree| &tree.edges) {
                if let Some(node) = now_at[edge.node as usize] {
                    survey.edges[node] = Some(edge);
                }
            }
            trees.push(survey.plan());
        }
        let nodes = nodes.iter().map(RelayNode::sibling).collect();
        Self { nodes, packages: packages.to_vec(), trees }
    }

    /// The packages that a node is to pull, and from whom.
    pub(crate) fn assignments(&self, node_id: &str) -> Option<Vec<PackageAssignment>> {
        let node = self.find(node_id)?;
        let sibling = |n: u32| self.nodes[n as usize].clone();
        let assigned = self.trees.iter().filter_map(|tree| {
            let edge = tree.edge(node)?;
            let parent = edge.parent.map(sibling);
            let spares = edge.spares.iter().copied().map(sibling).collect();
            let assignment = RelayAssignment { parent, spares };
            Some(PackageAssignment { id: tree.id.clone(), assignment, prestage: None })
        });
        Some(assigned.collect())
    }

    /// True if no node has another parent or spare in the other plan, or another package
    /// to get.
    pub(crate) fn assigns_as(&self, other: &Self) -> bool {
        let same = |a: &TreeEdge, b: &TreeEdge| {
            a.node == b.node && a.parent == b.parent && a.spares == b.spares
        };
        self.nodes == other.nodes
            && self.packages == other.packages
            && self.trees.len() == other.trees.len()
            && self.trees.iter().zip(&other.trees).all(|(a, b)| {
                a.id == b.id
                    && a.edges.len() == b.edges.len()
                    && a.edges.iter().zip(&b.edges).all(|(a, b)| same(a, b))
            })
    }

    pub(crate) fn trees(&self) -> &[PackageTree] {
        &self.trees
    }

    /// The nodes of a tree that don't have it all yet, breadth first.
    pub(crate) fn parents<'a>(
        &'a self,
        tree: &'a PackageTree,
    ) -> impl Iterator<Item = PlannedParent<'a>> {
        let mut edges: Vec<_> = tree.edges.iter().collect();
        edges.sort_by_key(|edge| edge.place);
        edges.into_iter().map(|edge| PlannedParent {
            node_id: &self.nodes[edge.node as usize].node_id,
            parent: edge.parent.map(|parent| &*self.nodes[parent as usize].node_id),
            #[cfg(test)]
            depth: edge.depth,
        })
    }

    /// True while anybody has anything to pull.
    pub(crate) fn is_busy(&self) -> bool {
        !self.trees.is_empty()
    }

    fn find(&self, node_id: &str) -> Option<u32> {
        let at = self.nodes.binary_search_by(|node| (*node.node_id).cmp(node_id)).ok()?;
        u32::try_from(at).ok()
    }
}

impl PackageTree {
    /// The number of nodes that lack the package.
    pub(crate) fn len(&self) -> usize {
        self.edges.len()
    }

    /// The most nodes between any and the main server, or one that has it all.
    pub(crate) fn depth(&self) -> u32 {
        self.edges.iter().map(|edge| edge.depth).max().unwrap_or(0)
    }

    fn edge(&self, node: u32) -> Option<&TreeEdge> {
        let at = self.edges.binary_search_by_key(&node, |edge| edge.node).ok()?;
        Some(&self.edges[at])
    }
}

/// All that the tree of one package depends on.
struct PackageSurvey<'a> {
    id: &'a PackageId,
    current: Sha256,
    nodes: &'a [RelayNode<'a>],
    sites: &'a [usize],
    degrees: &'a [u32],
    index: &'a HashMap<&'a str, usize>,
    /// The previous tree, by node.
    edges: Vec<Option<&'a TreeEdge>>,
    /// Today's index of the previous plan's nodes.
    now_at: &'a [Option<usize>],
    now: UnixMillis,
}

impl PackageSurvey<'_> {
    fn plan(&self) -> PackageTree {
        let is_under_way = self.is_under_way();
        let mut members: Vec<_> =
            (0..self.nodes.len()).map(|node| self.member(node, is_under_way)).collect();
        self.bound_positions(&mut members);
        let parents = tree::grow(&members);
        let order = TreeOrder::of(&members, &parents);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let edges = (0..members.len()).filter_map(|node| {
            let parent = match parents[node] {
                TreeParent::Nobody => return None,
                TreeParent::MainServer => None,
                TreeParent::Node(parent) => Some(number(parent)),
            };
            let before = self.edges[node];
            let is_same = members[node].planned == Some(parents[node]);
            let pulls = self.nodes[node].pull(self.id).is_some();
            let spares = order.spares(node, &members, &parents).into_iter().map(number);
            Some(TreeEdge {
                node: number(node),
                parent,
                spares: spares.collect(),
                depth: order.depths[node],
                place: order.places[node],
                since: before.filter(|_| is_same).map_or(self.now, |edge| edge.since),
                has_unknown_parent: members[node].has_unknown_parent,
                has_begun: pulls || before.is_some_and(|edge| edge.has_begun),
            })
        });
        PackageTree { id: self.id.clone(), edges: edges.collect() }
    }

    /// Nobody has more than those above it: a rate that has just dropped makes a node seem
    /// farther than it is.
    fn bound_positions(&self, members: &mut [TreeMember]) {
        let pull = |n: usize| self.nodes[n].pull(self.id);
        let parent = |n: usize| self.index.get(pull(n)?.parent.as_deref()?).copied();
        let positions: Vec<_> = members.iter().map(|member| member.position).collect();
        for (n, member) in members.iter_mut().enumerate().filter(|(_, of)| of.position < COMPLETE) {
            let above = std::iter::successors(parent(n), |above| parent(*above));
            let least = above.take(MAX_PATH).map(|above| positions[above]).min();
            let reported = pull(n).map_or(0, |pull| pull.received_bytes);
            member.position = member.position.min(least.unwrap_or(COMPLETE)).max(reported);
        }
    }

    fn member(&self, n: usize, is_under_way: bool) -> TreeMember {
        let (node, edge) = (&self.nodes[n], self.edges[n]);
        let pull = node.pull(self.id);
        let is_complete = node.has(self.id, self.current);
        let is_idle = is_under_way && !is_complete && self.is_idle(n);
        let planned = edge.and_then(|edge| match edge.parent {
            None => Some(TreeParent::MainServer),
            Some(parent) => self.now_at[parent as usize].map(TreeParent::Node),
        });
        let find = |node_id: &String| self.index.get(&**node_id).copied();
        let used = pull.map(|pull| match pull.parent.as_ref().map(find) {
            None => Some(TreeParent::MainServer),
            Some(parent) => parent.filter(|parent| *parent != n).map(TreeParent::Node),
        });
        let lasts = |time| edge.is_none_or(|edge| self.now.saturating_since(edge.since) >= time);
        let is_settled =
            lasts(PLAN_SETTLED_AFTER) || edge.is_some_and(|edge| edge.has_unknown_parent);
        let has_unknown_parent = !is_complete
            && pull.is_some_and(|pull| pull.parent.as_ref().is_some_and(|id| find(id).is_none()))
            && edge.is_none_or(|edge| edge.has_unknown_parent && !lasts(UNKNOWN_PARENT_GRACE));
        // Who asks the main server for want of an answer comes back to its parent.
        let used = used.flatten().filter(|used| match used {
            TreeParent::MainServer => planned.is_none(),
            TreeParent::Node(_) | TreeParent::Nobody => is_settled,
        });
        let left = pull.map(|pull| pull.slow_parents.iter().take(MAX_SLOW_PARENTS));
        TreeMember {
            site: self.sites[n],
            rank: rank(self.id, node.node_id),
            max_children: node.max_children(),
            degree: if is_idle { 0 } else { self.degrees[n] },
            position: match is_complete {
                true => COMPLETE,
                false => pull.map_or(0, |pull| node.position(pull, pull.rate).min(COMPLETE - 1)),
            },
            uses_main_server: pull.is_some_and(|of| of.parent.is_none() && of.received_bytes > 0),
            planned,
            parent: used.or(planned),
            place: edge.map_or(u32::MAX, |edge| edge.place),
            left: left.into_iter().flatten().filter_map(find).collect(),
            has_unknown_parent,
        }
    }

    fn is_idle(&self, n: usize) -> bool {
        let has_begun = |edge: &TreeEdge| edge.has_begun || self.nodes[n].pull(self.id).is_some();
        self.edges[n].is_some_and(|edge| {
            !has_begun(edge) && self.now.saturating_since(edge.since) >= IDLE_AFTER
        })
    }

    /// Most nodes that lack it are pulling it.
    fn is_under_way(&self) -> bool {
        let lacking = self.nodes.iter().filter(|node| !node.has(self.id, self.current));
        let (mut all, mut pulling) = (0, 0);
        for node in lacking {
            all += 1;
            pulling += usize::from(node.pull(self.id).is_some());
        }
        pulling * 2 > all
    }
}

fn rank(id: &PackageId, node_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id.as_str(), node_id).hash(&mut hasher);
    hasher.finish()
}
