//! Fleets that change, and the trees of one package that they are given.

mod simulation;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    package::{PackageId, Sha256},
    relay::{PullReport, RelayReport},
};
use proptest::prelude::*;

use super::{RelayPlan, fleet::RelayNode, uplink::UplinkMemory};
use crate::state::held_packages::{HeldPackages, HeldPackagesReport};

const MIB: u64 = 1 << 20;

fn package() -> PackageId {
    "m".parse().unwrap()
}

fn version() -> Sha256 {
    Sha256::new([1; 32])
}

#[derive(Clone, Debug)]
struct TestNode {
    report: RelayReport,
    is_reachable: bool,
    holding: Option<HeldPackages>,
    pulls: Vec<PullReport>,
}

/// Nodes by id, and the plan that they were told last.
#[derive(Clone, Debug, Default)]
struct TestFleet {
    nodes: BTreeMap<String, TestNode>,
    plan: RelayPlan,
    uplinks: UplinkMemory,
    seconds: u64,
}

/// A node's parent, and the nodes to ask after it.
type Asked = (Option<String>, Vec<String>);

impl TestFleet {
    fn of(count: usize) -> Self {
        let mut fleet = Self::default();
        (0..count).for_each(|n| fleet.join(&format!("n{n:03}"), "", 4));
        fleet.replan();
        fleet
    }

    fn join(&mut self, node_id: &str, site: &str, max_children: u32) {
        let report = RelayReport {
            address: format!("{node_id}:1"),
            https: false,
            certificate: None,
            site: site.into(),
            max_children,
        };
        let node = TestNode { report, is_reachable: true, holding: None, pulls: vec![] };
        self.nodes.insert(node_id.into(), node);
    }

    fn completes(&mut self, node_id: &str) {
        let node = self.nodes.get_mut(node_id).unwrap();
        let all = HeldPackagesReport::Digests(vec![(package(), version())]);
        node.holding = Some(HeldPackages::from_report(None, all, UnixMillis::default()));
        node.pulls.clear();
    }

    fn has_all(&self, node_id: &str) -> bool {
        self.nodes[node_id].holding.is_some()
    }

    /// Follows its plan, with so much received at such a rate.
    fn pulls(&mut self, node_id: &str, received_mib: u64, rate_mib: u64, behind_mib: u64) {
        let parent = self.asked()[node_id].0.clone();
        let pull = PullReport {
            id: package(),
            received_bytes: received_mib * MIB,
            total_bytes: None,
            parent,
            rate: rate_mib * MIB,
            behind_bytes: behind_mib * MIB,
            slow_parents: vec![],
        };
        self.nodes.get_mut(node_id).unwrap().pulls = vec![pull];
    }

    /// It is new here, and pulls from a node that may not be known yet.
    fn joins_pulling(&mut self, node_id: &str, parent: Option<&str>) {
        self.join(node_id, "", 4);
        let pull = PullReport {
            id: package(),
            received_bytes: 40 * MIB,
            total_bytes: None,
            parent: parent.map(str::to_owned),
            rate: 20 * MIB,
            behind_bytes: 0,
            slow_parents: vec![],
        };
        self.nodes.get_mut(node_id).unwrap().pulls = vec![pull];
    }

    fn pull(&mut self, node_id: &str) -> &mut PullReport {
        &mut self.nodes.get_mut(node_id).unwrap().pulls[0]
    }

    fn now(&self) -> UnixMillis {
        UnixMillis::from_secs(1000 + self.seconds)
    }

    fn planned(&self) -> (RelayPlan, UplinkMemory) {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(node_id, node)| RelayNode {
                node_id,
                report: &node.report,
                is_reachable: node.is_reachable,
                holding: node.holding.as_ref(),
                pulls: &node.pulls,
                report_age: Duration::ZERO,
            })
            .collect();
        let uplinks = self.uplinks.with_reports(&nodes, self.now());
        (self.plan.next(&nodes, &[(package(), version())], &uplinks, self.now()), uplinks)
    }

    fn replan(&mut self) {
        (self.plan, self.uplinks) = self.planned();
    }

    fn asked(&self) -> BTreeMap<String, Asked> {
        let asked = self.nodes.keys().filter_map(|node_id| {
            let mut assigned = self.plan.assignments(node_id)?;
            let assignment = assigned.pop()?.assignment;
            let spares = assignment.spares.into_iter().map(|spare| spare.node_id).collect();
            Some((node_id.clone(), (assignment.parent.map(|parent| parent.node_id), spares)))
        });
        asked.collect()
    }

    fn parent(&self, node_id: &str) -> Option<String> {
        self.asked()[node_id].0.clone()
    }

    fn children(&self, node_id: &str) -> Vec<String> {
        let asked = self.asked().into_iter();
        asked
            .filter(|(_, (parent, _))| parent.as_deref() == Some(node_id))
            .map(|(id, _)| id)
            .collect()
    }

    /// The nodes that pull from the main server.
    fn roots(&self) -> Vec<String> {
        let asked = self.asked().into_iter();
        asked.filter(|(_, (parent, _))| parent.is_none()).map(|(id, _)| id).collect()
    }

    fn root(&self) -> String {
        let roots = self.roots();
        assert_eq!(roots.len(), 1, "{roots:?}");
        roots[0].clone()
    }

    /// Breadth first, by the plan itself.
    fn order(&self) -> Vec<(String, u32)> {
        let trees = self.plan.trees().iter().flat_map(|tree| self.plan.parents(tree));
        trees.map(|planned| (planned.node_id.to_owned(), planned.depth)).collect()
    }

    fn depth(&self) -> u32 {
        self.order().into_iter().map(|(_, depth)| depth).max().unwrap_or(0)
    }

    fn site(&self, node_id: &str) -> &str {
        &self.nodes[node_id].report.site
    }

    fn check(&self) {
        let asked = self.asked();
        let lacking = self.nodes.keys().filter(|id| !self.has_all(id)).count();
        assert_eq!(asked.len(), lacking, "each node that lacks it has a parent or the main server");
        let place: BTreeMap<_, _> =
            self.order().into_iter().enumerate().map(|(place, (id, _))| (id, place)).collect();
        let is_earlier =
            |other: &String, than: &str| self.has_all(other) || place[other] < place[than];
        for (id, (parent, spares)) in &asked {
            assert!(spares.len() <= 2 && !spares.contains(id));
            for other in parent.iter().chain(spares) {
                assert!(is_earlier(other, id), "{id} asks {other}, which comes later");
            }
            for spare in spares {
                assert!(parent.as_ref().is_some_and(|parent| parent != spare));
                assert!(self.nodes[spare].is_reachable);
            }
            self.walk_up(id, &asked, |_| false);
        }
        let mut children: BTreeMap<&String, u32> = BTreeMap::new();
        for parent in asked.values().filter_map(|(parent, _)| parent.as_ref()) {
            *children.entry(parent).or_default() += 1;
        }
        for (parent, count) in children {
            let node = &self.nodes[parent];
            assert!(count <= node.report.max_children && node.is_reachable, "{parent}: {count}");
        }
        self.check_sites(&asked);
    }

    fn is_roomy(&self) -> bool {
        let is_roomy = |node: &TestNode| node.is_reachable && node.report.max_children > 1;
        self.nodes.values().all(is_roomy)
    }

    fn check_sites(&self, asked: &BTreeMap<String, Asked>) {
        let feeding = |id: &String| {
            self.has_all(id)
                && self.nodes[id].is_reachable
                && self.nodes[id].report.max_children > 0
        };
        let sources: BTreeSet<_> =
            self.nodes.keys().filter(|id| feeding(id)).map(|id| self.site(id)).collect();
        let sites: BTreeSet<_> = self.nodes.keys().map(|id| self.site(id)).collect();
        // Where some feed nobody, others may find no place.
        let is_roomy = self.is_roomy();
        let mut at_main_server = Vec::new();
        for site in sites {
            let of_site = || self.nodes.keys().filter(|id| self.site(id) == site);
            let hanging = of_site().filter(|id| asked.contains_key(*id));
            let entering: Vec<_> = hanging
                .filter(|id| match &asked[*id].0 {
                    None => true,
                    Some(parent) => self.site(parent) != site,
                })
                .collect();
            let expected = usize::from(!sources.contains(site));
            assert!(!is_roomy || entering.len() <= expected, "{site}: {entering:?}");
            at_main_server.extend(entering.into_iter().filter(|id| asked[*id].0.is_none()));
        }
        if !sources.is_empty() && is_roomy {
            assert!(at_main_server.is_empty(), "{at_main_server:?}");
        }
    }

    /// Follows the parents of a plan, or of another one where `other` says so, to the
    /// main server, a node that has it, or one that is gone.
    fn walk_up(
        &self,
        from: &str,
        other: &BTreeMap<String, Asked>,
        uses_other: impl Fn(&str) -> bool,
    ) {
        let asked = self.asked();
        let (mut at, mut steps) = (from.to_owned(), 0);
        loop {
            let plan = if uses_other(&at) { other } else { &asked };
            let Some((Some(parent), _)) = plan.get(&at) else { return };
            at.clone_from(parent);
            steps += 1;
            assert!(steps <= self.nodes.len(), "{from} is in or above a loop");
        }
    }
}

fn moved(before: &BTreeMap<String, Asked>, after: &BTreeMap<String, Asked>) -> Vec<String> {
    let differs = |id: &String| before.get(id).is_some_and(|old| old.0 != after[id].0);
    after.keys().filter(|id| differs(id)).cloned().collect()
}

#[test]
fn two_hundred_nodes_have_one_root_and_nobody_is_farther_than_eight_hops() {
    for count in [1, 2, 3, 8, 32, 200] {
        let fleet = TestFleet::of(count);
        fleet.check();
        fleet.root();
        let expected = (count as f64 + 1.0).log2().ceil() as u32 - 1;
        assert_eq!(fleet.depth(), expected, "{count} nodes");
    }
    let fleet = TestFleet::of(200);
    let many = fleet.nodes.keys().map(|id| fleet.children(id).len()).max();
    assert_eq!(many, Some(2), "two children each, though they would take more");
}

#[test]
fn only_one_node_asks_the_main_server_when_the_root_dies() {
    let mut fleet = TestFleet::of(7);
    let root = fleet.root();
    let asked = fleet.asked();
    assert_eq!(asked[&root], (None, vec![]));
    let children = fleet.children(&root);
    let spares: Vec<_> = children.iter().map(|child| asked[child].1.clone()).collect();
    let first = spares.iter().position(Vec::is_empty).unwrap();
    assert_eq!(spares[1 - first], [children[first].clone()]);
    for child in children.iter().flat_map(|child| fleet.children(child)) {
        assert_eq!(asked[&child].1[0], root, "the grandparent first");
        assert_eq!(asked[&child].1.len(), 2);
    }
    // The one that asked is the one that is planned for it.
    fleet.nodes.remove(&root);
    fleet.replan();
    fleet.check();
    assert_eq!(fleet.root(), children[first]);
    assert_eq!(moved(&asked, &fleet.asked()).len(), 2);
}

#[test]
fn who_has_it_feeds_the_others_and_the_main_server_is_not_asked() {
    let mut fleet = TestFleet::of(6);
    let root = fleet.root();
    let children = fleet.children(&root);
    fleet.completes(&root);
    fleet.replan();
    fleet.check();
    assert_eq!(fleet.children(&root), children, "nothing moves");
    assert!(fleet.roots().is_empty());
    for id in fleet.nodes.keys().cloned().collect::<Vec<_>>() {
        fleet.completes(&id);
    }
    fleet.replan();
    assert!(!fleet.plan.is_busy());
    fleet.join("late", "", 4);
    fleet.join("later", "elsewhere", 4);
    fleet.replan();
    fleet.check();
    for late in ["late", "later"] {
        assert!(fleet.has_all(&fleet.parent(late).unwrap()));
        assert_eq!(fleet.asked()[late].1.len(), 2);
    }
}

#[test]
fn between_sites_the_package_travels_once() {
    let mut fleet = TestFleet::default();
    for n in 0..30 {
        fleet.join(&format!("n{n:02}"), ["north", "south", "west"][n % 3], 4);
    }
    fleet.replan();
    fleet.check();
    let root = fleet.root();
    let asked = fleet.asked();
    let across: Vec<_> = asked
        .iter()
        .filter_map(|(id, (parent, _))| Some((id, parent.as_ref()?)))
        .filter(|(id, parent)| fleet.site(id) != fleet.site(parent))
        .collect();
    assert_eq!(across.len(), 2);
    for (remote, parent) in &across {
        assert_eq!(fleet.site(parent), fleet.site(&root));
        // If it dies, one of its children crosses again, and the others ask that one.
        let crossing = fleet.children(remote).into_iter().filter(|child| {
            asked[child].1.iter().any(|spare| fleet.site(spare) != fleet.site(child))
        });
        assert_eq!(crossing.count(), 1);
    }
}

#[test]
fn where_the_only_holder_has_no_place_left_a_new_site_is_fed_through_another_one() {
    let mut fleet = TestFleet::default();
    fleet.join("holder", "north", 2);
    fleet.completes("holder");
    // Sites are planned for in the order of their first nodes.
    for (id, site) in [("z1", "south"), ("z2", "west")] {
        fleet.join(id, site, 2);
        fleet.replan();
        assert_eq!(fleet.parent(id).as_deref(), Some("holder"));
    }
    fleet.join("late", "east", 2);
    fleet.replan();
    fleet.check();
    assert_ne!(fleet.parent("late"), None, "not the main server");
}

#[test]
fn a_node_that_has_to_stay_at_a_parent_that_it_left_takes_nobodys_place_there() {
    let mut fleet = TestFleet::default();
    for (id, site) in
        [("a", "north"), ("x", "south"), ("b", "north"), ("c", "north"), ("y", "west")]
    {
        fleet.join(id, site, 4);
        fleet.replan();
    }
    let parents = ["x", "b", "c", "y"].map(|id| fleet.parent(id));
    assert_eq!(
        parents.each_ref().map(Option::as_deref),
        [Some("a"), Some("a"), Some("b"), Some("b")]
    );
    fleet.pulls("a", 40, 20, 0);
    fleet.pulls("b", 20, 10, 20);
    fleet.pull("b").slow_parents = vec!["a".into()];
    fleet.replan();
    fleet.check();
    let before = fleet.asked();
    fleet.replan();
    assert_eq!(moved(&before, &fleet.asked()), [""; 0]);
    assert_eq!(fleet.parent("b").as_deref(), Some("a"), "there is no other one");
}

#[test]
fn children_that_share_what_the_root_gets_make_a_chain_of_all() {
    let mut fleet = TestFleet::of(16);
    let root = fleet.root();
    fleet.pulls(&root, 40, 20, 0);
    for child in fleet.children(&root) {
        fleet.pulls(&child, 20, 10, 20);
    }
    fleet.replan();
    fleet.check();
    assert_eq!((fleet.root(), fleet.depth()), (root, 15));
    fleet.seconds += 60;
    let before = fleet.asked();
    fleet.replan();
    assert_eq!(moved(&before, &fleet.asked()), [""; 0], "it lasts");
}

#[test]
fn a_narrow_uplink_that_bears_two_slow_children_is_not_wide() {
    let mut fleet = TestFleet::of(16);
    let root = fleet.root();
    fleet.pulls(&root, 40, 20, 0);
    for child in fleet.children(&root) {
        fleet.pulls(&child, 20, 10, 20);
        // They get all that it gets, which is half of what the main server sends.
        for grandchild in fleet.children(&child) {
            fleet.pulls(&grandchild, 20, 10, 0);
        }
    }
    fleet.replan();
    fleet.check();
    assert_eq!((fleet.root(), fleet.depth()), (root, 15));
}

#[test]
fn children_that_keep_up_stay_two() {
    let mut fleet = TestFleet::of(16);
    let (root, before) = (fleet.root(), fleet.asked());
    fleet.pulls(&root, 40, 20, 0);
    for child in fleet.children(&root) {
        fleet.pulls(&child, 39, 19, 1);
    }
    fleet.replan();
    assert_eq!(moved(&before, &fleet.asked()), [""; 0]);
}

#[test]
fn a_node_with_a_slow_uplink_becomes_a_leaf() {
    let mut fleet = TestFleet::of(15);
    let root = fleet.root();
    let slow = fleet.children(&root)[0].clone();
    fleet.pulls(&root, 40, 20, 0);
    fleet.pulls(&slow, 40, 20, 0);
    for child in fleet.children(&slow) {
        fleet.pulls(&child, 8, 2, 32);
    }
    fleet.replan();
    fleet.check();
    assert_eq!(fleet.children(&slow), [""; 0]);
    assert_eq!(fleet.root(), root);
    assert!(fleet.depth() <= 4, "{}", fleet.depth());
    assert!(!fleet.asked().values().any(|(_, spares)| spares.contains(&slow)));
    // It is remembered for other packages, and forgiven.
    fleet.nodes.values_mut().for_each(|node| node.pulls.clear());
    fleet.plan = RelayPlan::default();
    fleet.replan();
    assert_eq!(fleet.children(&slow), [""; 0]);
    assert_ne!(fleet.root(), slow);
    fleet.seconds += 601;
    let (_, uplinks) = fleet.planned();
    assert_eq!(uplinks.width(&slow, fleet.now()), None);
}

#[test]
fn a_node_that_a_child_left_as_slow_becomes_a_leaf_unless_another_child_keeps_up() {
    let leaves = |keeps_up: bool| {
        let mut fleet = TestFleet::of(15);
        let slow = fleet.children(&fleet.root())[0].clone();
        let children = fleet.children(&slow);
        fleet.pulls(&slow, 40, 20, 0);
        fleet.pulls(&children[0], 10, 3, 0);
        fleet.pull(&children[0]).parent = Some(fleet.root());
        fleet.pull(&children[0]).slow_parents = vec![slow.clone()];
        if keeps_up {
            fleet.pulls(&children[1], 39, 20, 1);
        }
        fleet.replan();
        assert!(!fleet.children(&slow).is_empty(), "reports may be late");
        fleet.seconds += 2;
        fleet.replan();
        fleet.check();
        assert_ne!(fleet.parent(&children[0]), Some(slow.clone()), "that child never again");
        fleet.children(&slow).is_empty()
    };
    assert!(leaves(false));
    assert!(!leaves(true));
}

#[test]
fn a_slow_root_becomes_a_child_and_its_best_child_the_root() {
    let mut fleet = TestFleet::of(15);
    let slow = fleet.root();
    let children = fleet.children(&slow);
    fleet.pulls(&slow, 60, 20, 0);
    fleet.pulls(&children[0], 10, 2, 50);
    fleet.pulls(&children[1], 10, 2, 50);
    fleet.replan();
    fleet.check();
    assert!(children.contains(&fleet.root()));
    assert_eq!(fleet.children(&slow), [""; 0]);
    assert!(fleet.parent(&slow).is_some());
}

#[test]
fn a_node_that_moved_by_itself_stays_where_it_went() {
    let mut fleet = TestFleet::of(15);
    let leaf = fleet.order().pop().unwrap().0;
    let before = fleet.parent(&leaf).unwrap();
    let free = fleet.order().into_iter().rev().map(|(id, _)| id).find(|id| *id != leaf).unwrap();
    fleet.pulls(&leaf, 10, 20, 0);
    fleet.pull(&leaf).parent = Some(free.clone());
    fleet.replan();
    assert_eq!(fleet.parent(&leaf), Some(before), "it may not have read the plan yet");
    fleet.seconds += 6;
    fleet.replan();
    fleet.check();
    assert_eq!(fleet.parent(&leaf), Some(free));
    // One that asks the main server for want of another answer does not become a root.
    fleet.pull(&leaf).parent = None;
    fleet.seconds += 6;
    fleet.replan();
    fleet.check();
    assert_ne!(fleet.root(), leaf);
}

#[test]
fn a_main_server_that_has_just_started_waits_for_the_parents_that_nodes_name() {
    let mut fleet = TestFleet::default();
    fleet.joins_pulling("c", Some("b"));
    fleet.joins_pulling("b", Some("a"));
    fleet.replan();
    fleet.join("late", "", 4);
    fleet.replan();
    fleet.check();
    assert_eq!(fleet.parent("c"), Some("b".into()));
    assert_ne!(fleet.parent("late"), None, "others have it, wherever they get it from");
    let mut other = fleet.clone();
    fleet.joins_pulling("a", None);
    fleet.replan();
    fleet.check();
    assert_eq!((fleet.root(), fleet.parent("b")), ("a".into(), Some("a".into())));
    // The node that feeds it never calls.
    other.seconds += 11;
    other.replan();
    other.check();
    assert_eq!((other.root(), other.parent("c")), ("b".into(), Some("b".into())));
}

#[test]
fn the_position_of_a_late_report_is_not_taken_for_a_gap() {
    let node = TestFleet::of(1).nodes.remove("n000").unwrap();
    let report_age = Duration::from_millis(500);
    let of = |received_bytes, total_bytes| {
        let pulls = vec![];
        let pull = PullReport {
            id: package(),
            received_bytes,
            total_bytes,
            parent: None,
            rate: 20 * MIB,
            behind_bytes: 0,
            slow_parents: vec![],
        };
        let node = RelayNode {
            node_id: "n000",
            report: &node.report,
            is_reachable: true,
            holding: None,
            pulls: &pulls,
            report_age,
        };
        node.position(&pull, pull.rate) / MIB
    };
    assert_eq!(of(40 * MIB, None), 50);
    assert_eq!(of(40 * MIB, Some(45 * MIB)), 45);
}

#[test]
fn who_does_not_pull_while_others_do_feeds_nobody() {
    let mut fleet = TestFleet::of(15);
    let root = fleet.root();
    for id in fleet.nodes.keys().cloned().collect::<Vec<_>>() {
        if id != root {
            fleet.pulls(&id, 10, 20, 0);
        }
    }
    fleet.seconds += 9;
    fleet.replan();
    assert_eq!(fleet.root(), root);
    fleet.seconds += 1;
    fleet.replan();
    fleet.check();
    assert_ne!(fleet.root(), root);
    assert_eq!(fleet.children(&root), [""; 0]);
}

#[test]
fn a_node_that_is_not_reached_is_a_leaf_and_one_that_takes_no_children_too() {
    let mut fleet = TestFleet::of(15);
    let root = fleet.root();
    let child = fleet.children(&root)[0].clone();
    fleet.nodes.get_mut(&root).unwrap().is_reachable = false;
    fleet.nodes.get_mut(&child).unwrap().report.max_children = 0;
    fleet.replan();
    fleet.check();
    assert_ne!(fleet.root(), root);
    assert!(fleet.children(&root).is_empty() && fleet.children(&child).is_empty());
    let mut alone = TestFleet::default();
    (0..3).for_each(|n| alone.join(&format!("n{n}"), "", 0));
    alone.replan();
    assert_eq!(alone.roots().len(), 3, "nobody feeds anybody");
}

/// A change of a fleet; the numbers choose nodes, sites and amounts.
#[derive(Clone, Debug)]
enum FleetChange {
    Join { node: u16, site: u8, max_children: u32 },
    Die { node: u16 },
    Complete { node: u16 },
    Pull { node: u16, received_mib: u8, rate_mib: u8, behind_mib: u8 },
    Stray { node: u16, to: u16 },
    Leave { node: u16, slow: u16 },
    Vanish { node: u16 },
    Wait { seconds: u8 },
}

fn change() -> impl Strategy<Value = FleetChange> {
    use FleetChange::*;
    prop_oneof![
        4 => (any::<u16>(), 0_u8..3, prop_oneof![9 => 2_u32..5, 1 => 0_u32..2])
            .prop_map(|(node, site, max_children)| Join { node, site, max_children }),
        3 => any::<u16>().prop_map(|node| Die { node }),
        1 => any::<u16>().prop_map(|node| Complete { node }),
        4 => (any::<u16>(), any::<u8>(), any::<u8>(), 0_u8..20).prop_map(
            |(node, received_mib, rate_mib, behind_mib)| Pull { node, received_mib, rate_mib, behind_mib }
        ),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(node, to)| Stray { node, to }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(node, slow)| Leave { node, slow }),
        1 => any::<u16>().prop_map(|node| Vanish { node }),
        1 => (0_u8..30).prop_map(|seconds| Wait { seconds }),
    ]
}

impl TestFleet {
    fn named(&self, n: u16) -> Option<String> {
        let at = usize::from(n) % self.nodes.len().max(1);
        self.nodes.keys().nth(at).cloned()
    }

    fn apply(&mut self, change: &FleetChange) -> Option<()> {
        match change {
            FleetChange::Join { node, site, max_children } => {
                self.join(&format!("j{node:05}"), &format!("s{site}"), *max_children);
            }
            FleetChange::Die { node } => drop(self.nodes.remove(&self.named(*node)?)),
            FleetChange::Complete { node } => self.completes(&self.named(*node)?),
            FleetChange::Pull { node, received_mib, rate_mib, behind_mib } => {
                let node = self.named(*node).filter(|node| !self.has_all(node))?;
                if self.asked().contains_key(&node) {
                    let [received, rate, behind] =
                        [received_mib, rate_mib, behind_mib].map(|n| u64::from(*n));
                    self.pulls(&node, received, rate, behind);
                }
            }
            FleetChange::Stray { node, to } => {
                let (node, to) = (self.named(*node)?, self.named(*to)?);
                self.nodes.get_mut(&node)?.pulls.first_mut()?.parent = Some(to);
            }
            FleetChange::Leave { node, slow } => {
                let (node, slow) = (self.named(*node)?, self.named(*slow)?);
                self.nodes.get_mut(&node)?.pulls.first_mut()?.slow_parents = vec![slow];
            }
            FleetChange::Vanish { node } => {
                let node = self.named(*node)?;
                self.nodes.get_mut(&node)?.is_reachable = false;
            }
            FleetChange::Wait { seconds } => self.seconds += u64::from(*seconds),
        }
        Some(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everybody_is_fed_without_loops_and_comes_to_rest(
        count in 0_usize..20,
        changes in prop::collection::vec(change(), 1..60),
    ) {
        let mut fleet = TestFleet::of(count);
        for change in &changes {
            let _ = fleet.apply(change);
            let (plan, _) = fleet.planned();
            fleet.replan();
            fleet.check();
            prop_assert!(fleet.plan.assigns_as(&plan), "the same fleet has the same plan");
            // A place that one leaves may serve another, and that is the end of it.
            for _ in 0..3 {
                fleet.replan();
                fleet.check();
            }
            let before = fleet.asked();
            fleet.replan();
            let sites: BTreeSet<_> = fleet.nodes.keys().map(|id| fleet.site(id)).collect();
            if sites.len() < 2 || fleet.is_roomy() {
                prop_assert_eq!(moved(&before, &fleet.asked()), [""; 0]);
            }
        }
    }

    #[test]
    fn deaths_move_the_children_of_the_dead_only_and_half_heard_plans_have_no_loops(
        deaths in prop::collection::vec(any::<u16>(), 1..30),
        heard in any::<u64>(),
    ) {
        let mut fleet = TestFleet::of(40);
        for death in deaths {
            let before = fleet.asked();
            let dead = fleet.named(death).unwrap();
            let children = fleet.children(&dead);
            fleet.nodes.remove(&dead);
            fleet.replan();
            fleet.check();
            let moved = moved(&before, &fleet.asked());
            let depths: BTreeMap<_, _> = fleet.order().into_iter().collect();
            for id in moved.iter().filter(|id| !children.contains(id)) {
                let was_below = before[id].0.as_ref().unwrap();
                prop_assert!(depths[was_below] >= 8, "{id} need not move from {was_below}");
            }
            prop_assert!(fleet.depth() <= 8);
            for id in fleet.nodes.keys() {
                let has_heard = |id: &str| heard >> (id[1..].parse::<u64>().unwrap() % 64) & 1 == 0;
                fleet.walk_up(id, &before, |id| !has_heard(id));
            }
        }
    }

    #[test]
    fn two_hundred_nodes_stay_flat_through_joins_and_deaths(seed in any::<u64>()) {
        let mut fleet = TestFleet::of(200);
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..8 {
            for _ in 0..random.usize(1..10) {
                let dead = fleet.named(random.u16(..)).unwrap();
                fleet.nodes.remove(&dead);
                fleet.join(&format!("r{round}-{}", random.u32(..)), "", 4);
            }
            fleet.replan();
            prop_assert!(fleet.depth() <= 8, "{}", fleet.depth());
        }
        fleet.check();
    }
}
