use std::net::IpAddr;

use edge_mirror_protocol::{Cause, FailedPull, relay::PullReport};
use proptest::prelude::*;

use super::*;
use crate::state::{
    held_packages::HeldPackagesReport,
    meetings::MeetingPhase,
    registry::{HeartbeatReport, NodeRegistry},
};

const SIZE: u64 = 1000;
const ADDRESS: &str = "1.1.1.1:1";

fn at(seconds: f64) -> UnixMillis {
    UnixMillis::from_secs_f64(seconds)
}

fn m() -> PackageId {
    "m".parse().unwrap()
}

fn digest(n: u8) -> Sha256 {
    Sha256::new([n; 32])
}

fn pull(received_bytes: u64, rate: u64) -> PullReport {
    PullReport {
        id: m(),
        received_bytes,
        total_bytes: Some(SIZE),
        parent: None,
        rate,
        behind_bytes: 0,
        slow_parents: vec![],
    }
}

/// What a node says: the version that it has, its pull, and its last error.
#[derive(Clone, Debug, Default)]
struct Said {
    has: Option<u8>,
    pull: Option<(u64, u64)>,
    failed: Option<&'static str>,
}

fn heard(registry: &mut NodeRegistry, node_id: &str, said: &Said, now: f64) {
    let failed = |text: &str| FailedPull { id: m(), cause: Cause::NoRoom, text: text.to_owned() };
    let beat = HeartbeatReport {
        address: ADDRESS.into(),
        client: IpAddr::from([10, 0, 0, 1]),
        status: "online".into(),
        active: vec![],
        report: HeldPackagesReport::Digests(said.has.iter().map(|n| (m(), digest(*n))).collect()),
        downloads: 0,
        ended: None,
        version: None,
        takes_files: false,
        percent: 0,
        work_percent: 0,
        memory_percent: None,
        relay: None,
        pulls: said.pull.iter().map(|(received, rate)| pull(*received, *rate)).collect(),
        failed_pulls: said.failed.iter().map(|text| failed(text)).collect(),
    };
    registry.heartbeat(node_id, beat, at(now)).unwrap();
}

fn reached(registry: &mut NodeRegistry, node_id: &str, reach: NodeReachability, now: f64) {
    registry.record_probe(node_id, ADDRESS, &reach, at(now));
}

fn good() -> NodeReachability {
    NodeReachability::Reachable { https: false }
}

fn package(id: &PackageId) -> AwaitedPackage<'_> {
    AwaitedPackage { id, sha256: digest(2), size: SIZE, demand: PackageDemand::Running }
}

fn expected(registry: &NodeRegistry, now: f64) -> Vec<ExpectedNode<'_>> {
    let live = registry.live(at(now));
    let live =
        live.map(|(node_id, node)| ExpectedNode { node_id, contact: NodeContact::Live(node) });
    live.collect()
}

#[test]
fn each_node_is_in_the_state_that_an_operator_has_to_know_with_the_reason() {
    let mut registry = NodeRegistry::default();
    let said = |has, pull, failed| Said { has, pull, failed };
    for (node_id, first, then) in [
        ("ready", said(Some(1), None, None), said(Some(2), None, None)),
        ("early", said(Some(2), None, None), said(Some(2), None, None)),
        ("old", said(Some(1), None, None), said(Some(1), None, None)),
        ("pulling", Said::default(), said(None, Some((250, 50)), None)),
        ("slow", Said::default(), said(None, Some((999, 0)), None)),
        ("retrying", said(None, None, Some("full")), said(None, Some((0, 0)), Some("full"))),
        ("recovering", said(None, None, Some("full")), said(None, Some((1, 1)), Some("full"))),
        ("cut", Said::default(), said(Some(2), None, None)),
        ("lost", said(None, None, Some("full")), said(None, None, Some("full"))),
    ] {
        heard(&mut registry, node_id, &first, 10.0);
        heard(&mut registry, node_id, &then, 20.0);
        reached(&mut registry, node_id, good(), 20.0);
    }
    heard(&mut registry, "new", &Said::default(), 20.0);
    heard(&mut registry, "new", &said(Some(2), None, None), 21.0);
    for node_id in ["cut", "lost"] {
        reached(&mut registry, node_id, NodeReachability::Unreachable("refused".into()), 22.0);
    }
    let mut nodes = expected(&registry, 25.0);
    nodes.push(ExpectedNode {
        node_id: "gone",
        contact: NodeContact::Away { since: at(3.0), site: "east" },
    });
    let id = m();
    let found = assess(&package(&id), &nodes);
    let told: Vec<_> = found
        .iter()
        .map(|node| {
            let text = node.text.as_deref();
            let (state, percent, left) = (node.state, node.percent, node.seconds_left);
            (&*node.node_id, state, percent, left, node.reason, text, node.since)
        })
        .collect();
    use NodeReadinessState::*;
    assert_eq!(
        told,
        [
            ("retrying", Failing, Some(0), None, Some("no_room"), Some("full"), Some(10.0)),
            ("gone", Away, None, None, None, None, Some(3.0)),
            ("cut", Unreachable, Some(100), None, None, Some("refused"), Some(22.0)),
            ("lost", Unreachable, None, None, None, Some("refused"), Some(22.0)),
            ("new", Waiting, Some(100), None, Some("unprobed"), None, None),
            ("old", Waiting, None, None, None, None, None),
            ("pulling", Pulling, Some(25), Some(15), None, None, None),
            ("recovering", Pulling, Some(0), Some(999), Some("no_room"), Some("full"), None),
            ("slow", Pulling, Some(99), None, None, None, None),
            ("early", Ready, Some(100), None, None, None, None),
            ("ready", Ready, Some(100), None, None, None, Some(20.0)),
        ]
    );
    assert_eq!(found[1].site, "east");
    let summary = summarize(&found);
    assert_eq!((summary.counts.total, summary.counts.ready, summary.is_ready), (11, 2, false));
    assert_eq!((summary.last_ready_at, summary.seconds_left), (Some(20.0), None));
}

#[test]
fn a_package_that_nobody_pulls_yet_says_why() {
    let mut registry = NodeRegistry::default();
    heard(&mut registry, "a", &Said::default(), 1.0);
    reached(&mut registry, "a", good(), 1.0);
    let id = m();
    for (demand, reason) in [
        (PackageDemand::Running, None),
        (PackageDemand::Prestaged, Some("after_start")),
        (PackageDemand::Nobody, Some("unstarted")),
    ] {
        let package = AwaitedPackage { demand, ..package(&id) };
        assert_eq!(assess(&package, &expected(&registry, 2.0))[0].reason, reason, "{demand:?}");
    }
}

#[test]
fn a_node_that_registers_again_still_cannot_pull() {
    let mut registry = NodeRegistry::default();
    heard(&mut registry, "a", &Said { failed: Some("full"), ..Said::default() }, 1.0);
    reached(&mut registry, "a", good(), 1.0);
    let client = IpAddr::from([10, 0, 0, 1]);
    registry.register("a", ADDRESS.into(), client, "online".into(), at(2.0)).unwrap();
    let id = m();
    let found = &assess(&package(&id), &expected(&registry, 3.0))[0];
    assert_eq!((found.state, found.since), (NodeReadinessState::Failing, Some(1.0)));
}

#[test]
fn running_meetings_come_first_and_the_newest_of_them_before_others() {
    let meeting = |id: &str, started_at: Option<f64>, status| Meeting {
        started_at: started_at.map(at),
        status,
        ..Meeting::new(id.parse().unwrap(), String::new(), String::new(), at(0.0))
    };
    let meetings = [
        meeting("old", Some(1.0), MeetingPhase::Running),
        meeting("ended", Some(9.0), MeetingPhase::Ended),
        meeting("new", Some(2.0), MeetingPhase::Running),
        meeting("later", None, MeetingPhase::Waiting),
    ];
    assert_eq!(by_urgency(&meetings)[..2], [2, 0]);
}

#[test]
fn nobody_is_ready_where_there_are_no_nodes() {
    let id = m();
    let summary = summarize(&assess(&package(&id), &[]));
    assert_eq!(summary, ReadinessSummary::default());
}

#[test]
fn the_time_left_is_that_of_the_slowest_and_known_only_if_all_are_on_their_way() {
    let mut registry = NodeRegistry::default();
    let id = m();
    let mut left = |pulls: &[(&str, u64, u64)]| {
        for (node_id, received, rate) in pulls {
            let said = Said { pull: Some((*received, *rate)), ..Said::default() };
            heard(&mut registry, node_id, &said, 1.0);
        }
        summarize(&assess(&package(&id), &expected(&registry, 1.0))).seconds_left
    };
    assert_eq!(left(&[("a", 0, 100)]), Some(10));
    assert_eq!(left(&[("b", 500, 10)]), Some(50));
    assert_eq!(left(&[("c", 500, 0)]), None);
}

fn said() -> impl Strategy<Value = Said> {
    let pull = proptest::option::of((0..2 * SIZE, 0..3_u64));
    let failed = proptest::option::of(Just("full"));
    (proptest::option::of(1..4_u8), pull, failed).prop_map(|(has, pull, failed)| Said {
        has,
        pull,
        failed,
    })
}

fn reach() -> impl Strategy<Value = NodeReachability> {
    prop_oneof![
        Just(NodeReachability::Unknown),
        Just(good()),
        Just(NodeReachability::Unreachable("refused".into())),
    ]
}

proptest! {
    #[test]
    fn a_node_is_ready_exactly_if_clients_are_sent_there_for_the_package(
        nodes in proptest::collection::vec((said(), said(), reach()), 0..12),
    ) {
        let mut registry = NodeRegistry::default();
        for (n, (first, then, reach)) in nodes.iter().enumerate() {
            let node_id = format!("n{n}");
            heard(&mut registry, &node_id, first, 1.0);
            reached(&mut registry, &node_id, reach.clone(), 1.0);
            heard(&mut registry, &node_id, then, 2.0);
        }
        let id = m();
        let package = package(&id);
        let candidates = registry.candidates(&id, package.sha256, [10, 0, 0, 9].into(), at(3.0));
        let mut candidates: Vec<_> = candidates.into_iter().map(|found| found.node_id).collect();
        candidates.sort();
        let found = assess(&package, &expected(&registry, 3.0));
        let summary = summarize(&found);
        let mut ready: Vec<_> = found
            .iter()
            .filter(|node| node.state == NodeReadinessState::Ready)
            .map(|node| node.node_id.clone().into_owned())
            .collect();
        ready.sort();
        prop_assert_eq!(&ready, &candidates);
        let ReadinessCounts { total: all, ready: _, pulling, waiting, failing, away, unreachable } =
            summary.counts;
        prop_assert_eq!(all, nodes.len());
        prop_assert_eq!(ready.len() + pulling + waiting + failing + away + unreachable, all);
        prop_assert_eq!(summary.is_ready, all > 0 && ready.len() == all);
        let lacking = found.iter().filter(|node| node.state != NodeReadinessState::Ready);
        let lacking: Vec<_> = lacking.cloned().collect();
        let board = assess_lacking(&package, &expected(&registry, 3.0));
        prop_assert_eq!(board, (summary, lacking));
        for node in &found {
            prop_assert!(node.percent != Some(100) || node.seconds_left.is_none());
            prop_assert!(node.seconds_left.is_none() || node.state == NodeReadinessState::Pulling);
        }
    }
}
