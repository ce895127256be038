//! Main servers that name parents that are none.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    by_rank::{KEY, pulls},
    scripted::{ME, announce, answer, naming, node_of},
};
use crate::support::{
    LogCopy, ScriptedMain, TestNode,
    old_node::OldNode,
    sibling::{ScriptedSibling, Trick},
    until,
    zips::big_zip,
};

/// The package comes from the main server whatever it says of parents, soon, and the log
/// has one line with these parts.
async fn ignored(log: &LogCopy, name: &str, relay: impl FnOnce(&str) -> Value, line: [&str; 3]) {
    let (main, package) = (ScriptedMain::start().await, big_zip(2 << 20, 7));
    let id = format!("{ME}-{name}");
    let node = node_of(&main, &id).await;
    let own = main.knows(&id).unwrap();
    let began = Instant::now();
    announce(&main, &package, Some(relay(&own)));
    node.until_synced("m").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
    assert!(node.download("m").await.1 == package, "{name}");
    assert_eq!(pulls(&main), 1, "{name}");
    // Also of what comes with each answer.
    let polls = main.asked("status/node").len();
    until("more answers", async || (main.asked("status/node").len() > polls + 1).then_some(()))
        .await;
    assert_eq!(log.lines_with(&line).len(), 1, "{name}: {:?}", log.lines_with(&line));
    node.shut_down().await;
}

fn node(id: &str, address: &str) -> Value {
    json!({"node_id": id, "address": address})
}

/// A port that nobody listens at, for as long as the socket lives.
fn closed_port() -> (std::net::UdpSocket, String) {
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    (held, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_cannot_be_one_is_ignored_with_a_line_and_the_main_server_asked() {
    let log = LogCopy::begin();
    let old = OldNode::of("127.0.0.1:1", "old");
    let old_address = old.address().to_owned();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let (_held, closed) = closed_port();
    let no_longer = |id: &'static str, reason: &'static str| {
        ["now from the main server, no longer from node", id, reason]
    };
    let itself = format!("{ME}-itself");
    tokio::join!(
        ignored(
            &log,
            "itself",
            |own| naming(&node(&itself, own), &[]),
            ["meeting m", "names this node as its own parent", "ignored"],
        ),
        // It proves the key, and to be another one than is named.
        ignored(
            &log,
            "alias",
            |own| naming(&node("an-alias", own), &[]),
            no_longer("an-alias", "(unproven)"),
        ),
        ignored(
            &log,
            "unreachable",
            |_| naming(&node("unreachable", &closed), &[]),
            no_longer("unreachable ", "(unreachable)"),
        ),
        ignored(
            &log,
            "silent",
            |_| naming(&node("silent-one", &silent_address), &[]),
            no_longer("silent-one", "(unreachable)"),
        ),
        ignored(
            &log,
            "older",
            |_| naming(&node("old-one", &old_address), &[]),
            no_longer("old-one", "(unproven)"),
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_not_asked() {
    let log = LogCopy::begin();
    let addresses = [
        ("empty", ""),
        ("word", "nonsense here"),
        ("port", "127.0.0.1:99999"),
        ("path", "127.0.0.1:1/api"),
        ("user", "somebody@127.0.0.1:1"),
        ("query", "127.0.0.1:1?a=b"),
    ];
    join_all(addresses.map(async |(name, address)| {
        let id = format!("at-{name}");
        let line = ["no longer from node", id.as_str(), "its address is"];
        ignored(&log, name, |_| naming(&node(&id, address), &[]), line).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_the_answer_is_one_line_and_spoils_nothing_else() {
    const LINE: &str = "part of the main server's answer is ignored: relay";
    let log = LogCopy::begin();
    let nonsense = [
        json!(5),
        json!({"key": KEY, "packages": 5}),
        json!({"key": KEY, "packages": [{"id": "m", "parent": 5}]}),
        json!({"key": KEY, "packages": [{"id": "../m", "parent": node("n", "127.0.0.1:1")}]}),
        json!({"key": "short", "packages": [{"id": "m", "parent": node("n", "127.0.0.1:1")}]}),
        json!({"key": KEY, "packages": [{"id": "m", "parent": {"node_id": "n"}}]}),
    ];
    for (n, relay) in nonsense.into_iter().enumerate() {
        let before = log.lines_with(&[LINE]).len();
        let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
        let node = node_of(&main, ME).await;
        announce(&main, &package, Some(relay.clone()));
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package, "{n}");
        assert_eq!(pulls(&main), 1, "{n}");
        assert_eq!(log.lines_with(&[LINE]).len(), before + 1, "{relay}");
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_spares_two_count() {
    let log = LogCopy::begin();
    let (main, package) = (ScriptedMain::start().await, big_zip(2 << 20, 7));
    let (_held, closed) = closed_port();
    let mut spares = vec![node("first", &closed)];
    let good = ScriptedSibling::start(&main, "second", KEY, &package, Trick::None).await;
    spares.push(node("second", &good.address()));
    let third = ScriptedSibling::start(&main, "third", KEY, &package, Trick::None).await;
    spares.extend((0..10_000).map(|_| node("third", &third.address())));
    let me = node_of(&main, ME).await;
    announce(&main, &package, Some(naming(&node("parent", &closed), &spares)));
    me.until_synced("m").await;
    assert!(me.download("m").await.1 == package);
    assert_eq!(pulls(&main), 0);
    assert_eq!(third.count(&reqwest::Method::GET, "m", true), 0);
    assert_eq!(log.lines_with(&["10002 spares for m"]).len(), 1);
    me.shut_down().await;
    good.stop().await;
    third.stop().await;
}

/// Each is told another one's name, round in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_told_to_pull_from_each_other_in_a_circle_get_the_package() {
    join_all([2, 4].map(async |count| {
        let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
        let ids: Vec<_> = (0..count).map(|n| format!("node-{n}")).collect();
        let nodes: Vec<TestNode> = join_all(ids.iter().map(|id| node_of(&main, id))).await;
        let began = Instant::now();
        for (n, id) in ids.iter().enumerate() {
            let next = &ids[(n + 1) % count];
            let parent = node(next, &main.knows(next).unwrap());
            let own = answer(&package, Some(naming(&parent, &[])));
            main.play().status_answers.insert(id.clone(), own);
        }
        announce(&main, &package, None);
        for node in &nodes {
            node.until_synced("m").await;
            assert!(node.download("m").await.1 == package);
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert!((1..=count).contains(&pulls(&main)), "{count}: {}", pulls(&main));
        for node in nodes {
            node.shut_down().await;
        }
    }))
    .await;
}
