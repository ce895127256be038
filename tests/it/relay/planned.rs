//! Under our own main server, which names the parents.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{TestMaster, TestNode, metrics::Metrics, until, zips::big_zip};

/// Nodes that the main server knows.
pub(super) async fn fleet(master: &TestMaster, count: usize) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for n in 0..count {
        let config = json!({"nodeId": format!("node-{n}")});
        nodes.push(TestNode::of(&master.authority()).with(config).start().await);
    }
    until("all are there", async || {
        let nodes = master.json("/api/v1/nodes/available").await;
        (nodes["count"] == count).then_some(())
    })
    .await;
    nodes
}

pub(super) async fn served(master: &TestMaster) -> f64 {
    Metrics::of(&master.url("")).await.get("edge_mirror_served_bytes_total")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_server_sends_a_package_once_and_a_late_node_gets_it_from_another() {
    let master = TestMaster::build().start().await;
    let (mut nodes, package) = (fleet(&master, 5).await, big_zip(8 << 20, 1));
    let size = package.len() as f64;
    master.begin_with("m", &package).await;
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    assert_eq!(served(&master).await, size);
    for node in &nodes {
        assert_eq!(node.meeting("m").await["downloads"], 1, "nodes are no clients");
    }

    let late = json!({"nodeId": "late"});
    nodes.push(TestNode::of(&master.authority()).with(late).start().await);
    nodes[5].until_synced("m").await;
    assert_eq!(served(&master).await, size);
    for node in nodes {
        assert!(node.shut_down().await);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_goes_the_same_way() {
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 4).await;
    let versions: Vec<_> = (1..4).map(|seed| big_zip(3 << 20, seed)).collect();
    master.begin_with("m", &versions[0]).await;
    for package in &versions {
        master.put("m", package).await;
        for node in &nodes {
            let current = async || (node.download("m").await.1 == *package).then_some(());
            until("the new version", current).await;
        }
    }
    let sent = served(&master).await;
    let size: usize = versions.iter().map(Vec::len).sum();
    assert!(sent <= 1.34 * size as f64, "{sent} of {size}");
    for node in nodes {
        assert!(node.shut_down().await);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_relays_nothing_pulls_from_the_main_server() {
    let master = TestMaster::build().start().await;
    let package = big_zip(1 << 20, 1);
    let mut nodes = Vec::new();
    for n in 0..2 {
        let config = json!({"nodeId": format!("node-{n}"), "relay": {"enabled": false}});
        nodes.push(TestNode::of(&master.authority()).with(config).start().await);
        master.until_reached(&format!("node-{n}")).await;
    }
    master.begin_with("m", &package).await;
    for node in &nodes {
        node.until_synced("m").await;
    }
    assert_eq!(served(&master).await, 2.0 * package.len() as f64);
    for node in nodes {
        node.shut_down().await;
    }
    master.stop().await;
}
