//! Under a main server that knows nothing of it: nodes that share a key find each other
//! in its list.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{ScriptedMain, TestNode, metrics::Metrics, until, zips::big_zip};

pub(super) const KEY: &str = "a-key-of-this-fleet";

/// Nodes that know each other.
pub(super) async fn fleet(main: &ScriptedMain, count: usize, key: Option<&str>) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for n in 0..count {
        let config = json!({"nodeId": format!("node-{n}"), "relay": {"key": key}});
        nodes.push(TestNode::of(&main.authority()).with(config).start().await);
    }
    until("all are registered", async || {
        (0..count).all(|n| main.knows(&format!("node-{n}")).is_some()).then_some(())
    })
    .await;
    nodes
}

/// Until each has received some of it.
pub(super) async fn until_under_way(nodes: &[TestNode]) {
    for node in nodes {
        until("some of it", async || {
            let received = node.meeting("m").await["received"].as_u64();
            received.is_some_and(|received| received > 1 << 20).then_some(())
        })
        .await;
    }
}

pub(super) fn pulls(main: &ScriptedMain) -> usize {
    main.count(Method::GET, "_m_pdfs.zip") + main.count(Method::GET, "download-package-direct")
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_a_key_pull_each_package_once_from_the_main_server() {
    for offers in [true, false] {
        let main = ScriptedMain::start().await;
        main.play().offers = offers;
        let nodes = fleet(&main, 4, Some(KEY)).await;
        let package = big_zip(3 << 20, 7);
        main.activate("m", "Board", &package);
        for node in &nodes {
            node.until_synced("m").await;
            assert!(node.download("m").await == (StatusCode::OK, package.clone()));
        }
        assert_eq!(pulls(&main), 1, "with offers: {offers}");
        for node in nodes {
            node.shut_down().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_and_with_another_one_all_pull_directly() {
    let main = ScriptedMain::start().await;
    let (mut nodes, package) = (fleet(&main, 2, None).await, big_zip(1 << 20, 7));
    for (n, key) in ["another-key-of-somebody", "yet-another-key-here"].iter().enumerate() {
        let config = json!({"nodeId": format!("other-{n}"), "relay": {"key": key}});
        nodes.push(TestNode::of(&main.authority()).with(config).start().await);
    }
    main.activate("m", "Board", &package);
    for node in &nodes {
        node.until_synced("m").await;
    }
    assert_eq!(pulls(&main), 4);
    for node in nodes {
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_from_node_to_node_while_they_arrive_and_to_tablets_up_to_the_end() {
    let main = ScriptedMain::start().await;
    let (nodes, package) = (fleet(&main, 3, Some(KEY)).await, big_zip(4 << 20, 7));
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &package);
    until_under_way(&nodes).await;
    assert_eq!(pulls(&main), 1);
    let [mut children, mut roots] = [0, 0];
    for node in &nodes {
        let (status, source) = (node.status().await, node.meeting("m").await["source"].clone());
        let metrics = Metrics::of(&node.url("")).await;
        children += status["relay"]["children"].as_u64().unwrap();
        roots += u64::from(source["node"].is_null());
        let depth = metrics.get("edge_mirror_relay_depth");
        assert_eq!(depth, source["path"].as_array().unwrap().len() as f64);
        assert_eq!(status["relay"]["siblings"], 2);
    }
    assert_eq!((children, roots), (2, 1));
    valve.open();
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
    }
    let [mut sent, mut received] = [0.0, 0.0];
    for node in &nodes {
        let (relay, metrics) = (&node.status().await["relay"], Metrics::of(&node.url("")).await);
        let count = |name: &str| metrics.get(&format!("edge_mirror_relay_{name}_bytes_total"));
        assert_eq!(relay["received_bytes"].as_f64(), Some(count("received")));
        sent += count("sent");
        received += count("received");
    }
    assert_eq!((sent, received), (2.0 * package.len() as f64, 2.0 * package.len() as f64));
    for node in nodes {
        assert!(node.shut_down().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_root_dies_one_of_its_children_goes_on() {
    let main = ScriptedMain::start().await;
    let (mut nodes, package) = (fleet(&main, 4, Some(KEY)).await, big_zip(4 << 20, 7));
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &package);
    until_under_way(&nodes).await;
    let mut root = None;
    for (at, node) in nodes.iter().enumerate() {
        if node.meeting("m").await["source"]["node"].is_null() {
            assert_eq!(root.replace(at), None, "one root");
        }
    }
    let root = nodes.swap_remove(root.unwrap());
    let gone = tokio::time::timeout(Duration::from_secs(30), root.shut_down()).await;
    assert!(gone.is_ok());
    valve.open();
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
    }
    assert_eq!(pulls(&main), 2, "only one of them asked the main server again");
    for node in nodes {
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_with_a_slow_uplink_is_left_for_another_node() {
    const SLOW: &str = "edge_mirror_relay_parent_changes_total{reason=\"slow\"}";
    let main = ScriptedMain::start().await;
    let nodes = fleet(&main, 3, Some(KEY)).await;
    for node in &nodes {
        node.configure(json!({"relay": {"uploadLimit": 1_000_000}})).await;
    }
    let package = big_zip(8 << 20, 7);
    main.activate("m", "Board", &package);
    until("one has changed its parent", async || {
        for node in &nodes {
            if Metrics::of(&node.url("")).await.get(SLOW) > 0.0 {
                return Some(());
            }
        }
        None
    })
    .await;
    for node in &nodes {
        node.configure(json!({"relay": {"uploadLimit": 0}})).await;
    }
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
    }
    assert_eq!(pulls(&main), 1);
    for node in nodes {
        node.shut_down().await;
    }
}
