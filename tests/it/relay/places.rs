//! Children and tablets side by side at one node.

use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::json;

use super::by_rank::KEY;
use super::scripted::{first_version, node_of};
use crate::support::{
    ScriptedMain, TestNode, client, metrics::Metrics, sibling::ScriptedChild, until, zips::big_zip,
};

/// More than the sockets of a reader that reads nothing can hold.
const LARGE: usize = 40 << 20;
const TABLETS: usize = 12;
const CHILDREN: usize = 2;

async fn tablet(node: &TestNode) -> Response {
    client().get(node.package_url("m")).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tablets_take_no_places_of_children_and_children_none_of_tablets() {
    let (main, package) = (ScriptedMain::start().await, big_zip(LARGE, 7));
    let node = node_of(&main, "parent").await;
    let limits = json!({"serve": {"maxDownloads": TABLETS}, "relay": {"maxChildren": CHILDREN}});
    node.configure(limits).await;
    main.activate("m", "Board", &package);
    node.until_synced("m").await;
    let child = ScriptedChild::of(&main.knows("parent").unwrap(), KEY);
    let as_child = async || {
        let request = child.request(&first_version(&package)).await;
        child.get(&request, "m", "m").await
    };

    // All places of tablets are taken, by readers that read nothing.
    let tablets = join_all((0..TABLETS).map(|_| tablet(&node))).await;
    assert!(tablets.iter().all(|answer| answer.status() == StatusCode::OK));
    until("all are under way", async || {
        (node.status().await["downloads_under_way"] == TABLETS).then_some(())
    })
    .await;
    assert_eq!(tablet(&node).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..CHILDREN {
        let answer = as_child().await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await.unwrap() == package, "and comes to its end");
        until("its place is free again", async || {
            (node.status().await["relay"]["children"] == 0).then_some(())
        })
        .await;
    }
    // All those of children, too, and one more child is refused.
    let children = [as_child().await, as_child().await];
    assert!(children.iter().all(|answer| answer.status() == StatusCode::OK));
    assert_eq!(as_child().await.status(), StatusCode::TOO_MANY_REQUESTS);
    let bodies = join_all(tablets.into_iter().map(|answer| answer.bytes())).await;
    assert!(bodies.into_iter().all(|body| body.unwrap() == package));
    // Tablets come and go while the children still hold their places.
    for _ in 0..3 {
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    assert_eq!(node.status().await["relay"]["children"], CHILDREN);
    let bodies = join_all(children.map(|answer| answer.bytes())).await;
    assert!(bodies.into_iter().all(|body| body.unwrap() == package));
    let metrics = Metrics::of(&node.url("")).await;
    let busy = "edge_mirror_relay_refused_children_total{reason=\"busy\"}";
    assert_eq!(metrics.get(busy), 1.0);
    node.shut_down().await;
}

/// The limit of one side holds up nothing of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn the_bandwidth_of_children_is_not_that_of_tablets() {
    let (main, package) = (ScriptedMain::start().await, big_zip(LARGE, 7));
    let node = node_of(&main, "parent").await;
    main.activate("m", "Board", &package);
    node.until_synced("m").await;
    let child = ScriptedChild::of(&main.knows("parent").unwrap(), KEY);
    let request = child.request(&first_version(&package)).await;
    // At these rates the one that is limited takes far longer than a test may.
    node.configure(json!({"relay": {"uploadLimit": 10_000}})).await;
    let slow = child.get(&request, "m", "m").await;
    for _ in 0..3 {
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    drop(slow);
    node.configure(json!({"relay": {"uploadLimit": 0}, "serve": {"bandwidth": 10_000}})).await;
    let slow = tablet(&node).await;
    for _ in 0..3 {
        let request = child.request(&first_version(&package)).await;
        assert!(child.get(&request, "m", "m").await.bytes().await.unwrap() == package);
    }
    drop(slow);
    node.shut_down().await;
}
