//! A tablet's first request at a node that has not got the package.

use edge_mirror_protocol::relay::auth::PackageVersion;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    by_rank::{KEY, pulls},
    planned::{fleet, served},
    scripted::{ME, announce, answer, first_version, naming, node_of},
};
use crate::support::{
    ScriptedMain, TestMaster, TestNode,
    sibling::{ScriptedSibling, Trick, lower_than},
    until,
    zips::big_zip,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_just_started_gets_its_first_tablets_package_from_another_one() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 2).await;
    let package = big_zip(3 << 20, 1);
    master.begin_with("m", &package).await;
    for node in &nodes {
        node.until_synced("m").await;
    }
    for id in ["cold-1", "cold-2"] {
        // Asked as soon as it listens, before it hears of the meeting.
        let cold = TestNode::of(&master.authority()).with(json!({"nodeId": id})).start().await;
        assert!(cold.download("m").await == (StatusCode::OK, package.clone()));
        nodes.push(cold);
    }
    assert_eq!(served(&master).await as usize, package.len(), "as ever: once");
    for node in nodes {
        node.shut_down().await;
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_rank_too_a_node_that_has_just_started_asks_the_others_first() {
    let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    let holder = lower_than("cold", "m", &first_version(&package), "holder");
    let holder = node_of(&main, &holder).await;
    main.activate("m", "Board", &package);
    holder.until_synced("m").await;
    let config = json!({"nodeId": "cold", "relay": {"key": KEY}});
    let cold = TestNode::of(&main.authority()).with(config).start().await;
    assert!(cold.download("m").await == (StatusCode::OK, package.clone()));
    assert_eq!(pulls(&main), 1);
    cold.shut_down().await;
    holder.shut_down().await;
}

/// Of a meeting that is not active there is nothing to tell two versions apart, so that
/// what was pulled under another token may be another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_not_active_is_passed_on_by_who_pulled_it_under_the_same_token() {
    let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    main.activate("m", "Board", &package);
    let before = node_of(&main, "before").await;
    before.until_synced("m").await;
    main.end("m");
    let url = format!("http://{}/api/v1/meetings/status/node", main.authority());
    let status = crate::support::client().get(url).send().await.unwrap();
    let status: serde_json::Value = status.json().await.unwrap();
    let origin = format!("http://{}", main.authority());
    let version = PackageVersion::from_token(&origin, status["id"].as_str().unwrap());
    let first = node_of(&main, &lower_than("second", "m", &version, "first")).await;
    let second = node_of(&main, "second").await;
    assert_eq!(pulls(&main), 1);
    assert!(first.download("m").await == (StatusCode::OK, package.clone()));
    assert_eq!(pulls(&main), 2, "another token");
    assert!(second.download("m").await == (StatusCode::OK, package.clone()));
    assert_eq!(pulls(&main), 2, "the same token");
    assert_eq!(main.count(Method::GET, "download-package-direct"), 1);
    for node in [before, first, second] {
        node.shut_down().await;
    }
}

/// The main server names a parent once its own bytes are on their way: before the first one
/// of them, and after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tablet_goes_on_with_its_download_when_the_pull_moves_to_a_parent() {
    for received in [0, 1 << 20] {
        let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
        let parent = ScriptedSibling::start(&main, "parent", KEY, &package, Trick::None).await;
        let node = node_of(&main, ME).await;
        let valve = main.valve(received);
        announce(&main, &package, None);
        until("the pull has begun", async || {
            let now = node.meeting("m").await["received"].as_u64().unwrap_or(0);
            (valve.is_in_use() && now == received as u64).then_some(())
        })
        .await;
        let tablet = crate::support::client().get(node.package_url("m")).send().await.unwrap();
        assert_eq!(tablet.status(), StatusCode::OK);
        let parent_of = json!({"node_id": "parent", "address": parent.address()});
        let named = answer(&package, Some(naming(&parent_of, &[])));
        main.play().status_answer = Some(named);
        assert!(tablet.bytes().await.unwrap() == package, "from byte {received} on");
        assert_eq!(pulls(&main), 1);
        assert_eq!(parent.count(&Method::GET, "m", true), 1);
        node.shut_down().await;
        parent.stop().await;
    }
}
