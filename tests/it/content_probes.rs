//! The main server compares parts of packages with those at nodes, and sends no tablets to
//! one whose bytes are others.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    TestMaster, TestNode, client,
    metrics::{Metrics, until_metrics},
    old_node::OldNode,
    until, zip_of,
};

const PROBES: &str = "edge_mirror_master_content_probes_total";

/// A node that lists the meeting and has these bytes.
async fn node_with(master: &TestMaster, id: &'static str, bytes: Vec<u8>) -> OldNode {
    let node = OldNode::of(&master.authority(), id);
    node.register().await;
    node.heartbeat().await;
    node.sync().await;
    node.replace("m", bytes);
    node.heartbeat().await;
    node
}

async fn until_probed(master: &TestMaster, outcome: &str) -> Metrics {
    let sample = format!("{PROBES}{{outcome=\"{outcome}\"}}");
    until_metrics(&master.url(""), &sample, |metrics| metrics.get(&sample) >= 1.0).await
}

/// The totals that the only node tells.
async fn ended(master: &TestMaster) -> Value {
    master.json("/api/v1/overview").await["nodes"][0]["ended"].clone()
}

async fn problem(master: &TestMaster) -> Option<Value> {
    let overview = master.json("/api/v1/overview").await;
    let problems = overview["problems"].as_array().unwrap();
    problems.iter().find(|problem| problem["code"] == "node_wrong_content").cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_wrong_bytes_gets_no_tablets_for_that_package() {
    let master = TestMaster::build().start().await;
    let package = zip_of("papers");
    master.begin_with("m", &package).await;
    let mut wrong = package.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let node = node_with(&master, "wrong", wrong).await;
    let told = until("a problem", async || problem(&master).await).await;
    assert_eq!((&told["node"], &told["meeting"]), (&json!("wrong"), &json!("m")));
    assert_eq!(told["text"], format!("byte {last} is another one there"));
    assert_eq!(master.redirect("m").await, None, "it is served from here");
    let metrics = Metrics::of(&master.url("")).await;
    assert_eq!(metrics.get("edge_mirror_master_wrong_packages"), 1.0);
    let explained = master.json("/api/v1/meetings/m/explain?client=10.0.0.1").await;
    assert_eq!(explained["excluded"], json!([{"node_id": "wrong", "reason": "wrong_content"}]));
    let readiness = master.json("/api/v1/meetings/m/readiness").await;
    let states = readiness["nodes"].as_array().unwrap();
    assert_eq!(
        (&states[0]["state"], &states[0]["reason"]),
        (&json!("failing"), &json!("wrong_content"))
    );
    let overview = master.json("/api/v1/overview").await;
    assert_eq!(overview["nodes"][0]["wrong_packages"], json!(["m"]));

    // Of another version, nothing is known.
    master.put("m", &zip_of("other papers")).await;
    assert_eq!(problem(&master).await, None);
    // And right again, it is used again.
    master.put("m", &package).await;
    until("the problem again", async || problem(&master).await).await;
    node.replace("m", package);
    let url = node.package_url("m");
    until("tablets sent there", async || {
        node.heartbeat().await;
        master.redirect("m").await.filter(|to| *to == url)
    })
    .await;
    assert_eq!(problem(&master).await, None);
    node.unregister().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_another_file_is_not_said_to_be_wrong() {
    let master = TestMaster::build().start().await;
    master.begin_with("m", &zip_of("papers")).await;
    let node = node_with(&master, "other", zip_of("these are others")).await;
    until_probed(&master, "unknown").await;
    master.until_reached("other").await;
    assert_eq!(master.redirect("m").await, Some(node.package_url("m")));
    assert_eq!(problem(&master).await, None);
    node.unregister().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_ours_is_asked_for_a_part_and_found_to_be_right() {
    let master = TestMaster::build().start().await;
    // Nodes whose machine is busy are not asked; here, other tests may keep it so.
    let rules = json!({"rules": [], "overflow": 100});
    let set = client().put(master.url("/api/v1/fleet/rules")).json(&rules).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::OK);
    master.begin_with("m", &zip_of("papers")).await;
    let node = TestNode::of(&master.authority()).start().await;
    master.until_held_by("m", &["node-test"]).await;
    let metrics = until_probed(&master, "same").await;
    assert_eq!(metrics.get("edge_mirror_master_wrong_packages"), 0.0);
    assert!(master.redirect("m").await.unwrap().starts_with(&node.url("")));
    assert_eq!(node.meeting("m").await["downloads"], 0, "it is no client's");
    let metrics = Metrics::of(&node.url("")).await;
    assert_eq!(metrics.get("edge_mirror_downloads_total{outcome=\"completed\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_how_its_downloads_ended() {
    let master = TestMaster::build().start().await;
    master.begin_with("m", &zip_of("papers")).await;
    let node = TestNode::of(&master.authority()).start().await;
    master.until_held_by("m", &["node-test"]).await;
    let url = node.url("/api/v1/meetings/m/download-package");
    client().get(url).send().await.unwrap().bytes().await.unwrap();
    let told = json!({"completed": 1, "broken_off": 0});
    until("the download among the totals", async || (ended(&master).await == told).then_some(()))
        .await;
}
