//! Faults of the network between a parent and its child: real nodes, with a proxy in
//! between.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{
    by_rank::pulls,
    planned::{fleet, served},
    scripted::{first_version, node_of},
};
use crate::support::{
    ScriptedMain, TestMaster, TestNode,
    metrics::Metrics,
    proxy::{Proxy, Way},
    sibling::{lower_than, register},
    until,
    zips::big_zip,
};

const MIB: usize = 1 << 20;
/// More than the heads of answers that pass by.
const SLACK: usize = 256 << 10;
const EVERYTHING: Way = Way::Hold(usize::MAX);

/// A node that others reach through the proxy.
async fn stand_before(node: &TestNode, way: Way) -> Proxy {
    let proxy = Proxy::before(node.address(), way);
    node.configure(json!({"relay": {"address": proxy.address().to_string()}})).await;
    proxy
}

/// Waits until the main server has been told where others reach them now.
async fn until_known(nodes: &[TestNode]) {
    for node in nodes {
        let beats = async || {
            let metrics = Metrics::of(&node.url("")).await;
            metrics.get("edge_mirror_heartbeats_total{outcome=\"ok\"}")
        };
        let before = beats().await;
        // The first one may have been on its way.
        until("two heartbeats", async || (beats().await >= before + 2.0).then_some(())).await;
    }
}

/// What happens to the connections of a child, and what becomes of them once the child
/// has so much.
#[derive(Clone, Copy)]
struct LinkFault {
    name: &'static str,
    way: Way,
    then: Option<(u64, Way)>,
    /// What the child got by then, of what the main server need not send again.
    kept: usize,
}

impl LinkFault {
    /// The parent is there, and may go on over another connection.
    fn is_passing(&self) -> bool {
        matches!(self.way, Way::Cut(_) | Way::Reset(_))
    }
}

const FAULTS: [LinkFault; 6] = [
    // It goes on over one connection after the other.
    LinkFault { name: "cut in good order", way: Way::Cut(MIB), then: None, kept: 4 * MIB },
    LinkFault {
        name: "reset",
        way: Way::Reset(MIB),
        then: None,
        // What was on its way is lost.
        kept: 0,
    },
    LinkFault { name: "closed", way: Way::Closed, then: None, kept: 0 },
    // The download stands still, and questions are answered.
    LinkFault { name: "stuck", way: Way::Hold(MIB), then: None, kept: MIB },
    // Nothing passes any more.
    LinkFault {
        name: "black hole",
        way: Way::Hold(MIB),
        then: Some((MIB as u64 / 2, Way::Hold(0))),
        kept: MIB / 2,
    },
    LinkFault { name: "black hole from the start", way: Way::Hold(0), then: None, kept: 0 },
];

/// The node that gets the package from another one, if there is one now.
async fn child_of(nodes: &[TestNode]) -> Option<&TestNode> {
    for node in nodes {
        if node.meeting("m").await["source"]["node"].is_string() {
            return Some(node);
        }
    }
    None
}

/// How often they left a parent.
async fn changes(nodes: &[TestNode]) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        let metrics = Metrics::of(&node.url("")).await;
        let changed = metrics.samples().filter(|name| name.contains("parent_changes_total"));
        sum += changed.map(|name| metrics.get(name)).sum::<f64>();
    }
    sum
}

/// Waits until they know of the meeting, and so from whom to pull it: who is asked by a
/// client before that turns to the main server.
async fn until_listed(nodes: &[TestNode]) {
    for node in nodes {
        let listed = async || node.meeting("m").await["active"].as_bool().filter(|active| *active);
        until("the meeting is active", listed).await;
    }
}

async fn until_whole(nodes: &[TestNode], package: &[u8], name: &str) {
    for node in nodes {
        until(&format!("the package, {name}"), async || {
            let got = node.try_download("m").await;
            // An end in good order has all of it.
            assert!(got.as_ref().is_none_or(|got| got == package), "{name}: other bytes");
            got
        })
        .await;
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package, "{name}");
    }
}

async fn survives(fault: LinkFault) {
    let LinkFault { name, way, then, kept } = fault;
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 2).await;
    let mut proxies = Vec::new();
    for node in &nodes {
        node.configure(json!({"network": {"connectionTimeout": 1}})).await;
        proxies.push(stand_before(node, way).await);
    }
    let package = big_zip(4 * MIB, 1);
    until_known(&nodes).await;
    master.begin_with("m", &package).await;
    until_listed(&nodes).await;
    if let Some((bytes, way)) = then {
        until("half way", async || {
            let child = child_of(&nodes).await?;
            let received = child.meeting("m").await["received"].as_u64();
            received.filter(|received| *received >= bytes)
        })
        .await;
        proxies.iter().for_each(|proxy| proxy.set(way));
    }
    until_whole(&nodes, &package, name).await;
    let (sent, size) = (served(&master).await as usize, package.len());
    assert!(sent <= 2 * size - kept + SLACK, "{name}: the main server sent {sent} of {size}");
    assert!(fault.is_passing() || changes(&nodes).await >= 1.0, "{name}: the parent is left");
    // The next version comes as if nothing had been.
    proxies.iter().for_each(|proxy| proxy.set(EVERYTHING));
    let next = big_zip(4 * MIB, 2);
    master.put("m", &next).await;
    for node in &nodes {
        let current = async || (node.try_download("m").await? == next).then_some(());
        until(&format!("the next version, {name}"), current).await;
    }
    assert_eq!(served(&master).await as usize, sent + next.len(), "{name}");
    for node in nodes {
        node.shut_down().await;
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_costs_the_rest_of_one_package_and_no_byte_of_another() {
    join_all(FAULTS.map(survives)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_no_reason_to_ask_the_main_server() {
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 2).await;
    let mut proxies = Vec::new();
    for node in &nodes {
        proxies.push(stand_before(node, Way::Delay(Duration::from_millis(10))).await);
    }
    until_known(&nodes).await;
    let package = big_zip(3 * MIB, 1);
    master.begin_with("m", &package).await;
    until_listed(&nodes).await;
    until_whole(&nodes, &package, "slow").await;
    assert_eq!(served(&master).await as usize, package.len());
    let passed = proxies.iter().map(Proxy::passed).sum::<usize>();
    assert!(passed > package.len(), "it came through a proxy");
    for node in nodes {
        node.shut_down().await;
    }
    master.stop().await;
}

/// Under a main server that names nobody.
async fn survives_by_rank(fault: LinkFault) {
    let (main, package) = (ScriptedMain::start().await, big_zip(4 * MIB, 7));
    let parent_id = lower_than("child", "m", &first_version(&package), "parent");
    let parent = node_of(&main, &parent_id).await;
    let proxy = stand_before(&parent, fault.way).await;
    until_known(std::slice::from_ref(&parent)).await;
    register(&main, &parent_id, &proxy.address().to_string()).await;
    let child = node_of(&main, "child").await;
    main.activate("m", "Board", &package);
    if let Some((bytes, way)) = fault.then {
        until("half way", async || {
            let received = child.meeting("m").await["received"].as_u64();
            received.filter(|received| *received >= bytes)
        })
        .await;
        proxy.set(way);
    }
    let nodes = [parent, child];
    until_whole(&nodes, &package, fault.name).await;
    assert!(pulls(&main) <= 2, "{}: {} pulls", fault.name, pulls(&main));
    // One that answers nothing at all is not known to be of the fleet.
    if !fault.is_passing() && !matches!(fault.way, Way::Closed | Way::Hold(0)) {
        assert!(changes(&nodes).await >= 1.0, "{}: the parent is left", fault.name);
    }
    for node in nodes {
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_rank_a_link_that_breaks_costs_one_more_pull_at_most() {
    join_all(FAULTS.map(survives_by_rank)).await;
}
