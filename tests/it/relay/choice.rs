//! Whom a node asks, why, and when it leaves whom it asked.

use std::time::{Duration, Instant};

use edge_mirror_protocol::relay::auth::PackageVersion;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    by_rank::{KEY, pulls},
    scripted::{ME, digest, first_version, node_of, plan_at},
};
use crate::support::{
    LogCopy, ScriptedMain, TestNode,
    metrics::Metrics,
    proxy::{Proxy, Way},
    sibling::{ScriptedChild, ScriptedSibling, Trick, lower_than, register},
    until,
    zips::big_zip,
};

async fn left(node: &TestNode, reason: &str) -> f64 {
    let sample = format!("edge_mirror_relay_parent_changes_total{{reason=\"{reason}\"}}");
    Metrics::of(&node.url("")).await.get(&sample)
}

async fn until_received(node: &TestNode, bytes: u64) {
    until("so much of it", async || {
        let received = node.meeting("m").await["received"].as_u64();
        received.filter(|received| *received >= bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sent_wrong_bytes_of_one_version_is_asked_for_the_next_one() {
    let (main, old, new) = (ScriptedMain::start().await, big_zip(3 << 20, 7), big_zip(3 << 20, 8));
    let sibling = ScriptedSibling::start(&main, "bad", KEY, &old, Trick::Flip(5000)).await;
    let named = [("bad", sibling.address())];
    plan_at(&main, &old, &named);
    let node = node_of(&main, ME).await;
    node.until_synced("m").await;
    assert_eq!((pulls(&main), left(&node, "damaged").await), (1, 1.0));
    sibling.replace(&new);
    sibling.play(Trick::None);
    plan_at(&main, &new, &named);
    until("the next version", async || (node.download("m").await.1 == new).then_some(())).await;
    assert_eq!(pulls(&main), 1);
    node.shut_down().await;
    sibling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_tells_another_length_has_another_version() {
    let (log, package) = (LogCopy::begin(), big_zip(3 << 20, 7));
    let total = package.len() as u64;
    for (name, length, with_size) in [
        ("longer", total + (2 << 20), true),
        ("a-little-longer", total + 1, true),
        // The main server tells no more than the digests of the pieces.
        ("much-longer", total + (2 << 20), false),
    ] {
        let main = ScriptedMain::start().await;
        let (open, valve) = watch::channel(100);
        let trick = match with_size {
            true => Trick::Length(length),
            false => Trick::LengthThrough(length, valve),
        };
        let liar = ScriptedSibling::start(&main, name, KEY, &package, trick).await;
        let good = ScriptedSibling::start(&main, "good", KEY, &package, Trick::None).await;
        plan_at(&main, &package, &[(name, liar.address()), ("good", good.address())]);
        if !with_size {
            let mut play = main.play();
            let answer = play.status_answer.take().unwrap();
            let size = format!(",\"size\":{total}");
            assert!(answer.contains(&size), "{answer}");
            play.status_answer = Some(answer.replace(&size, ""));
        }
        let node = node_of(&main, ME).await;
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package, "{name}");
        assert_eq!((pulls(&main), left(&node, "refused").await), (0, 1.0), "{name}");
        let line = ["no longer from node", name, "it has another version, of", &length.to_string()];
        assert_eq!(log.lines_with(&line).len(), 1, "{name}");
        node.shut_down().await;
        liar.stop().await;
        good.stop().await;
        drop(open);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_takes_back_a_piece_keeps_its_children() {
    let package = big_zip(3 << 20, 7);
    let (first, second) = (ScriptedMain::start().await, ScriptedMain::start().await);
    let (open, valve) = watch::channel((1 << 20) + (700 << 10));
    let trick = Trick::FlipThrough((1 << 20) + 5000, valve);
    let bad = ScriptedSibling::start(&first, "bad", KEY, &package, trick).await;
    let good = ScriptedSibling::start(&first, "good", KEY, &package, Trick::None).await;
    let of = async |main: &ScriptedMain, id: &str| {
        let config = json!({"nodeId": id, "network": {"retryDelay": 0}});
        let node = TestNode::of(&main.authority()).with(config).start().await;
        until("it is registered", async || main.knows(id)).await;
        node
    };
    let (parent, child) = (of(&first, "parent").await, of(&second, "child").await);
    plan_at(&first, &package, &[("bad", bad.address()), ("good", good.address())]);
    until_received(&parent, 1 << 20).await;
    plan_at(&second, &package, &[("parent", first.knows("parent").unwrap())]);
    until_received(&child, (1 << 20) + (600 << 10)).await;
    open.send_replace(usize::MAX);
    for node in [&parent, &child] {
        node.until_synced("m").await;
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    assert_eq!((pulls(&first), pulls(&second)), (0, 0));
    assert_eq!((left(&parent, "damaged").await, left(&child, "unreachable").await), (1.0, 0.0));
    child.shut_down().await;
    parent.shut_down().await;
    bad.stop().await;
    good.stop().await;
}

/// As our main server: these meetings are running, and nobody is named as a parent.
fn run_meetings(main: &ScriptedMain, package: &[u8], names: &[(&str, &str)]) {
    let meeting = |(id, title): &(&str, &str)| json!({"id": id, "title": title});
    let hint = |(id, title): &(&str, &str)| {
        let url = format!("/uploads/packages/{title}_{id}_pdfs.zip");
        json!({"id": id, "package_url": url, "sha256": digest(package).to_string()})
    };
    for (id, title) in names {
        main.activate(id, title, package);
    }
    let sections = json!({
        "version": 1,
        "packages": names.iter().map(hint).collect::<Vec<_>>(),
        "relay": {"key": KEY, "packages": []},
    });
    let answer = json!({
        "id": format!("token-{}", names.len()),
        "timestamp": 1.5,
        "active_meetings": names.iter().map(meeting).collect::<Vec<_>>(),
        "edge_mirror": sections,
    });
    let mut play = main.play();
    play.repr_digest = Some(format!("sha-256=:{}:", digest(package).base64()));
    play.status_answer = Some(answer.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_waits_for_further_down_is_pulled_first() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    let valve = main.valve(1000);
    // One at a time.
    let network = json!({"maxConcurrentDownloads": 1, "connectionTimeout": 20});
    let config = json!({"nodeId": "parent", "network": network});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    until("it is registered", async || main.knows("parent")).await;
    let names = [("a", "A"), ("b", "B"), ("m", "M")];
    for (count, id) in [(1, "a"), (2, "b"), (3, "m")] {
        run_meetings(&main, &package, &names[..count]);
        until("its turn has come, or not yet", async || {
            let meeting = node.meeting(id).await;
            let is_queued = meeting["source"].is_object();
            let state = if id == "a" { "pulling" } else { "waiting" };
            (is_queued && meeting["state"] == state).then_some(())
        })
        .await;
    }
    let child = ScriptedChild::of(&main.knows("parent").unwrap(), KEY);
    let request = child.request(&PackageVersion::Digest(digest(&package))).await;
    // It is kept until the parent would have to answer.
    assert_eq!(child.get_urgently(&request).await, StatusCode::SERVICE_UNAVAILABLE);
    valve.open();
    for id in ["a", "b", "m"] {
        node.until_synced(id).await;
    }
    let asked = main.asked("_pdfs.zip");
    let pulled: Vec<_> = asked.iter().filter(|asked| asked.method == Method::GET).collect();
    let order = pulled.iter().map(|asked| asked.path.split('_').nth(1).unwrap());
    assert_eq!(order.collect::<Vec<_>>(), ["a", "m", "b"]);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_is_told_at_once_that_a_client_has_come() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    // It keeps the question.
    let parent = ScriptedSibling::start(&main, "parent", KEY, &package, Trick::Silence).await;
    plan_at(&main, &package, &[("parent", parent.address())]);
    let node = node_of(&main, ME).await;
    until("the parent is asked", async || {
        (parent.count(&Method::GET, "m", true) == 1).then_some(())
    })
    .await;
    assert_eq!(parent.urgent(), 0);
    let tablet = async { assert!(node.download("m").await.1 == package) };
    let parent_is_told = async {
        until("it is urgent", async || (parent.urgent() > 0).then_some(())).await;
        assert_eq!(pulls(&main), 0);
    };
    tokio::join!(tablet, parent_is_told);
    node.shut_down().await;
    parent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_are_too_many_now_are_ended_and_all_where_it_is_switched_off() {
    let log = LogCopy::begin();
    let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    let parent = node_of(&main, ME).await;
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &package);
    until_received(&parent, 1 << 20).await;
    let child = ScriptedChild::of(&main.knows(ME).unwrap(), KEY);
    let version = first_version(&package);
    let begin = async || {
        let request = child.request(&version).await;
        let mut answer = child.get(&request, "m", "m").await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.chunk().await.unwrap().is_some());
        answer
    };
    let [first, second, third] = [begin().await, begin().await, begin().await];
    let refused = async |reason: &str| {
        let name = "edge_mirror_relay_refused_children_total";
        Metrics::of(&parent.url("")).await.get(&format!("{name}{{reason=\"{reason}\"}}"))
    };
    parent.configure(json!({"relay": {"maxChildren": 2}})).await;
    assert!(third.bytes().await.is_err(), "the youngest");
    let request = child.request(&version).await;
    assert_eq!(child.get(&request, "m", "m").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((refused("busy").await, refused("off").await), (1.0, 0.0));
    let request = child.request(&version).await;
    parent.configure(json!({"relay": {"enabled": false}})).await;
    assert!(first.bytes().await.is_err() && second.bytes().await.is_err());
    assert_eq!(child.get(&request, "m", "m").await.status(), StatusCode::FORBIDDEN);
    assert_eq!((refused("busy").await, refused("off").await), (1.0, 1.0));
    for line in ["relay.maxChildren is 2: ended what 1", "relaying is off: ended what 2"] {
        assert_eq!(log.lines_with(&[line]).len(), 1, "{line}");
    }
    valve.open();
    parent.until_synced("m").await;
    parent.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_no_other_answers_any_more_soon_asks_the_main_server() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    let version = first_version(&package);
    let mut others = Vec::new();
    for n in 0..4 {
        let name = lower_than(ME, "m", &version, &format!("other-{n}"));
        let sibling = ScriptedSibling::start(&main, &name, KEY, &package, Trick::None).await;
        let way = Proxy::before(sibling.address().parse().unwrap(), Way::Hold(usize::MAX));
        register(&main, &name, &way.address().to_string()).await;
        others.push((sibling, way));
    }
    let node = node_of(&main, ME).await;
    until("it knows them", async || (node.status().await["relay"]["siblings"] == 4).then_some(()))
        .await;
    for (_, way) in &others {
        way.set(Way::Hold(0));
    }
    let began = Instant::now();
    main.activate("m", "Board", &package);
    node.until_synced("m").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((pulls(&main), left(&node, "unreachable").await), (1, 4.0));
    assert!(node.download("m").await.1 == package);
    node.shut_down().await;
    join_all(others.iter().map(|(sibling, _)| sibling.stop())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_for_a_pull_from_the_main_server_is_the_true_one() {
    let source = async |main: &ScriptedMain, id: &str, relay: Value| {
        let config = json!({"nodeId": id, "relay": relay});
        let node = TestNode::of(&main.authority()).with(config).start().await;
        let source = until("it pulls", async || {
            let source = node.meeting("m").await["source"].clone();
            (source["reason"] != "undecided" && source.is_object()).then_some(source)
        })
        .await;
        assert_eq!(source["node"], Value::Null);
        (node, source["reason"].as_str().unwrap().to_owned())
    };
    let package = big_zip(1 << 20, 7);
    let main = ScriptedMain::start().await;
    let valve = main.valve(1000);
    main.activate("m", "Board", &package);
    let mut nodes = Vec::new();
    for (id, relay, expected) in [
        ("node-off", json!({"enabled": false, "key": KEY}), "off"),
        ("node-keyless", json!({}), "no_key"),
        ("node-alone", json!({"key": KEY}), "no_sibling"),
    ] {
        let (node, reason) = source(&main, id, relay).await;
        assert_eq!(reason, expected, "{id}");
        nodes.push(node);
    }
    let ranks_first = lower_than("node-alone", "m", &first_version(&package), "first");
    until("the other is listed", async || main.knows("node-alone")).await;
    let (first, reason) = source(&main, &ranks_first, json!({"key": KEY})).await;
    assert_eq!(reason, "ranked");
    let planned = ScriptedMain::start().await;
    let closed = planned.valve(1000);
    plan_at(&planned, &package, &[]);
    let (told, reason) = source(&planned, "node-told", json!({})).await;
    assert_eq!(reason, "assigned");
    valve.open();
    closed.open();
    for node in nodes.into_iter().chain([first, told]) {
        node.until_synced("m").await;
        node.shut_down().await;
    }
}
