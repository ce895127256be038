//! `serve.maxDownloads`, `serve.maxPerClient`, `serve.bandwidth` and
//! `network.bandwidth`, while they bite.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{Either, join_all, select};
use reqwest::{Client, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{
    Fault, PATIENCE, ScriptedMain, TestNode, client,
    metrics::{Metrics, until_metrics},
    until, zip_of,
    zips::big_zip,
};

/// More than the sockets of a reader that reads nothing can hold.
const LARGE: usize = 8 << 20;

async fn node_with(zip: &[u8], settings: Value) -> (ScriptedMain, TestNode) {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", zip);
    let node = TestNode::of(&main.authority()).with(settings).start().await;
    node.until_synced("m1").await;
    (main, node)
}

/// A client at one of this machine's addresses.
fn client_at(last: u8) -> Client {
    let address = Ipv4Addr::new(127, 0, 0, last);
    edge_mirror_http::tls::http(edge_mirror_http::tls::client())
        .pool_max_idle_per_host(0)
        .local_address(Some(address.into()))
        .build()
        .unwrap()
}

/// Asks, and reads nothing.
async fn ask(client: &Client, node: &TestNode) -> Response {
    let answer = tokio::time::timeout(PATIENCE, client.get(node.package_url("m1")).send()).await;
    answer.expect("an answer in time").unwrap()
}

/// As [`ask`], until there is a place.
async fn admitted(client: &Client, node: &TestNode) -> Response {
    until("a place", async || {
        Some(ask(client, node).await).filter(|answer| answer.status() == StatusCode::OK)
    })
    .await
}

/// The download was refused in the words of the contract.
async fn refused(answer: Response) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let again_after_s = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>();
    assert!((1..60).contains(&again_after_s.unwrap()));
    let said: Value = answer.json().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("请稍后重试"), "{said}");
}

async fn until_under_way(node: &TestNode, downloads: usize) {
    until(&format!("{downloads} downloads under way"), async || {
        (node.status().await["downloads_under_way"] == downloads).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_clients_are_served_by_three_at_a_time() {
    let zip = big_zip(LARGE, 1);
    let (_main, node) = node_with(&zip, json!({"serve": {"maxDownloads": 3}})).await;
    let (inside, most, refusals) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (go, gate) = watch::channel(false);
    let one = async || {
        loop {
            let answer = ask(&client(), &node).await;
            if answer.status() != StatusCode::OK {
                refused(answer).await;
                refusals.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            gate.clone().wait_for(|go| *go).await.unwrap();
            // The node can't be done with this one before it is read.
            inside.fetch_sub(1, Ordering::SeqCst);
            return answer.bytes().await.unwrap();
        }
    };
    let watching = async {
        until_under_way(&node, 3).await;
        // Those who wait for longer than clients like to are told so.
        until("a refusal", async || (refusals.load(Ordering::SeqCst) > 0).then_some(())).await;
        until_under_way(&node, 3).await;
        go.send_replace(true);
    };
    let (got, ()) = futures_util::future::join(join_all((0..20).map(|_| one())), watching).await;
    assert!(got.iter().all(|body| *body == zip));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let metrics = Metrics::of(&node.url("")).await;
    let sample = "edge_mirror_downloads_refused_total{limit=\"max_downloads\"}";
    assert_eq!(metrics.get(sample), refusals.load(Ordering::SeqCst) as f64);
    assert!(metrics.get("edge_mirror_downloads_waited_total{limit=\"max_downloads\"}") > 0.0);
    until_under_way(&node, 0).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_and_others_have_theirs() {
    let zip = big_zip(LARGE, 2);
    let (_main, node) = node_with(&zip, json!({"serve": {"maxPerClient": 1}})).await;
    let (first, second) = (client_at(1), client_at(2));
    let held = ask(&first, &node).await;
    assert_eq!(held.status(), StatusCode::OK);
    // What sends nothing of the package needs no place.
    let etag = held.headers()[header::ETAG].clone();
    for (method, name, value, status) in [
        (Method::HEAD, header::ACCEPT, "*/*", 200),
        (Method::GET, header::IF_NONE_MATCH, etag.to_str().unwrap(), 304),
        (Method::GET, header::RANGE, "bytes=99999999-", 416),
    ] {
        let request = first.request(method, node.package_url("m1")).header(name, value);
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    let part = first.get(node.package_url("m1")).header(header::RANGE, "bytes=0-0");
    refused(part.send().await.unwrap()).await;
    let other = ask(&second, &node).await;
    assert_eq!(other.status(), StatusCode::OK);
    let metrics = Metrics::of(&node.url("")).await;
    let sample = "edge_mirror_downloads_refused_total{limit=\"max_per_client\"}";
    assert_eq!(metrics.get(sample), 1.0);
    until_under_way(&node, 2).await;
    // The place of one that has gone is the next one's.
    let next = async { admitted(&first, &node).await.bytes().await.unwrap() };
    let leave = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    let (got, ()) = futures_util::future::join(next, leave).await;
    assert!(got == zip && other.bytes().await.unwrap() == zip);
    until_under_way(&node, 0).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_client_counts_and_not_the_proxy() {
    let zip = big_zip(LARGE, 3);
    let settings =
        json!({"serve": {"maxPerClient": 1}, "security": {"trustedProxies": ["127.0.0.1"]}});
    let (_main, node) = node_with(&zip, settings).await;
    let through = async |proxy: u8, of: &str| {
        let request = client_at(proxy).get(node.package_url("m1"));
        request.header("x-forwarded-for", of).send().await.unwrap()
    };
    let first = through(1, "10.0.0.1").await;
    let second = through(1, "10.0.0.2").await;
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    refused(through(1, "10.0.0.1").await).await;
    // What somebody else writes there is not believed.
    let stranger = through(2, "10.0.0.3").await;
    assert_eq!(stranger.status(), StatusCode::OK);
    refused(through(2, "10.0.0.4").await).await;
    drop((first, second, stranger));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_breaks_nothing_and_counts_those_under_way() {
    let zip = big_zip(LARGE, 4);
    let (_main, node) = node_with(&zip, json!({})).await;
    let mut under_way = Vec::new();
    for _ in 0..4 {
        under_way.push(ask(&client(), &node).await);
    }
    node.configure(json!({"serve": {"maxDownloads": 2, "bandwidth": 200_000_000}})).await;
    until("the limit", async || {
        let answer = ask(&client(), &node).await;
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let late = Arc::new(AtomicUsize::new(0));
    let next = async {
        let answer = admitted(&client(), &node).await;
        late.store(1, Ordering::SeqCst);
        answer.bytes().await.unwrap()
    };
    let others = async {
        for (left, answer) in under_way.into_iter().enumerate().map(|(n, a)| (4 - n, a)) {
            if left >= 2 {
                assert_eq!(late.load(Ordering::SeqCst), 0, "{left} under way");
            }
            assert!(answer.bytes().await.unwrap() == zip);
        }
    };
    let (got, ()) = futures_util::future::join(next, others).await;
    assert!(got == zip);
    // Who waits is let in when the limit goes.
    let held = (ask(&client(), &node).await, ask(&client(), &node).await);
    let lift = async { node.configure(json!({"serve": {"maxDownloads": 0}})).await };
    let plain = client();
    let (answer, ()) = futures_util::future::join(admitted(&plain, &node), lift).await;
    drop((held, answer));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_pull_has_a_place_as_others_have() {
    let zip = big_zip(1_000_000, 8);
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip);
    let valve = main.valve(100_000);
    let settings = json!({"syncInterval": 3600, "serve": {"maxDownloads": 1}});
    let node = TestNode::of(&main.authority()).with(settings).start().await;
    let follower = ask(&client(), &node).await;
    assert_eq!(follower.status(), StatusCode::OK);
    refused(ask(&client(), &node).await).await;
    valve.open();
    assert!(follower.bytes().await.unwrap() == zip);
    assert!(admitted(&client(), &node).await.bytes().await.unwrap() == zip);
    until_under_way(&node, 0).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_downloads_together_take_the_time_that_the_bandwidth_gives_them() {
    const RATE: usize = 1_000_000;
    let zip = big_zip(500_000, 5);
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip);
    let settings = json!({"syncInterval": 3600, "serve": {"bandwidth": RATE}});
    let node = TestNode::of(&main.authority()).with(settings).start().await;
    // The first time they follow a pull, the second time it is here.
    for _ in 0..2 {
        let began = Instant::now();
        let got = join_all((0..3).map(|_| node.download("m1"))).await;
        let took = began.elapsed();
        assert!(got.iter().all(|(status, body)| *status == StatusCode::OK && *body == zip));
        // What may be made up for after a rest, and the last portions.
        let at_once = Duration::from_millis(150);
        let least = Duration::from_secs_f64(3.0 * zip.len() as f64 / RATE as f64) - at_once;
        assert!(took >= least, "{took:?} < {least:?}");
    }
    until_metrics(&node.url(""), "downloads that waited", |metrics| {
        metrics.get("edge_mirror_downloads_waited_total{limit=\"bandwidth\"}") >= 5.0
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_our_own_limit_slows_down_is_neither_stalled_nor_too_slow() {
    const RATE: usize = 25_000;
    const FIRST: usize = 160_000;
    let zip = big_zip(200_000, 6);
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip);
    // What comes first takes longer than either may, and the rest is not there
    // at once, so that somebody looks at the clock.
    let valve = main.valve(FIRST);
    let network = json!({
        "bandwidth": RATE, "connectionTimeout": 5, "downloadTimeout": 5, "retryCount": 1,
    });
    let began = Instant::now();
    let settings = json!({"syncInterval": 3600, "network": network});
    let node = TestNode::of(&main.authority()).with(settings).start().await;
    let rest = async {
        until("the first part", async || {
            (node.meeting("m1").await["received"] == FIRST).then_some(())
        })
        .await;
        valve.open();
    };
    let ((status, got), ()) = futures_util::future::join(node.download("m1"), rest).await;
    let took = began.elapsed();
    assert!(status == StatusCode::OK && got == zip);
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    let least = Duration::from_secs_f64(zip.len() as f64 / RATE as f64 - 0.15);
    assert!(took >= least, "{took:?} < {least:?}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_under_way_follows_another_bandwidth() {
    // Ten minutes by the first one.
    let zip = big_zip(6_000_000, 9);
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip);
    let settings = json!({"network": {"bandwidth": 10_000}});
    let node = TestNode::of(&main.authority()).with(settings).start().await;
    until("the first bytes", async || {
        (node.meeting("m1").await["received"].as_u64()? > 0).then_some(())
    })
    .await;
    node.configure(json!({"network": {"bandwidth": 0}})).await;
    node.until_synced("m1").await;
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_make_no_sense_are_refused_by_name_value_and_mend() {
    let (_main, node) = node_with(&big_zip(1000, 7), json!({})).await;
    for (section, name, value, mend) in [
        ("serve", "bandwidth", json!(100), "at least 10000 bytes per second, or 0 for no limit"),
        ("network", "bandwidth", json!("1 MB"), "不能小于每秒 10000 字节；0 表示不限制"),
        ("serve", "maxDownloads", json!(-1), "a whole number from 1 to 100000, or 0 for no limit"),
        ("serve", "maxPerClient", json!(1.5), "1 到 100000 的整数，或 0（不限制）"),
    ] {
        let (status, said) = node.post("/api/config", json!({section: {name: value}})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let said = said["detail"].as_str().unwrap();
        assert!(said.starts_with(&format!("{section}.{name} = {value}: ")), "{said}");
        assert!(said.contains(mend), "{said}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_causes_so_many_pulls_of_what_is_not_active_and_no_more() {
    let main = ScriptedMain::start().await;
    main.fail("invented-", vec![Fault::Silence(PATIENCE); 100]);
    let zip = big_zip(1000, 3);
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let asked_for = async |client: Client, n: usize| {
        client.get(node.package_url(&format!("invented-{n}"))).send().await.unwrap()
    };
    let under_way = async |count: usize| {
        until("pulls", async || {
            (node.status().await["meetings"].as_array().unwrap().len() == count + 1).then_some(())
        })
        .await;
    };
    let at_once = select(
        Box::pin(join_all((0..16).map(|n| asked_for(client_at(1), n)))),
        Box::pin(async {
            under_way(16).await;
            refused(asked_for(client_at(1), 16).await).await;
            // What is under way or active, and others, are not counted.
            let metrics = Metrics::of(&node.url("")).await;
            let sample = "edge_mirror_limits_reached_total{limit=\"pulls_per_client\"}";
            assert_eq!(metrics.get(sample), 1.0);
            assert_eq!(node.download("m1").await.1, zip);
            let another = Box::pin(asked_for(client_at(2), 17));
            let same = Box::pin(asked_for(client_at(1), 0));
            select(select(another, same), Box::pin(under_way(17))).await;
        }),
    );
    assert!(matches!(at_once.await, Either::Right(_)), "all ended before one was refused");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_compares_begins_when_the_schedule_allows_it() {
    let main = ScriptedMain::start().await;
    main.play().offers = false;
    main.activate("m1", "Board", &zip_of("the first papers"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let pulls = || main.count(Method::GET, "download-package-direct");
    let polls = || main.count(Method::GET, "status/node");
    node.configure(json!({"network": {"schedule": ["00:00-24:00 off"]}})).await;
    let (before, polled) = (pulls(), polls());
    let papers = zip_of("other papers");
    main.swap("m1", &papers);
    main.change_token();
    until("some polls", async || (polls() >= polled + 3).then_some(())).await;
    assert_eq!(pulls(), before);
    node.configure(json!({"network": {"schedule": []}})).await;
    until("the other papers", async || (node.download("m1").await.1 == papers).then_some(())).await;
    node.shut_down().await;
}
