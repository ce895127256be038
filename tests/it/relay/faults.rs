//! Parents that misbehave although they know the key, and children that don't know it.

use std::time::Duration;

use edge_mirror_protocol::relay::auth::PackageVersion;
use futures_util::{StreamExt, future::join_all, stream};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    by_rank::{KEY, pulls},
    scripted::{ME, digest, first_version, node_of, plan},
};
use crate::support::{
    LogCopy, ScriptedMain, TestNode,
    certificates::Authority,
    metrics::Metrics,
    old_node::OldNode,
    proxy::{Proxy, Way},
    sibling::{ScriptedChild, ScriptedSibling, Trick, lower_than, register},
    until,
    zips::big_zip,
};

/// A node whose parent is a scripted sibling.
struct Pair {
    main: ScriptedMain,
    sibling: ScriptedSibling,
    name: String,
    node: TestNode,
}

impl Pair {
    async fn start(name: &str, package: &[u8], trick: Trick) -> Self {
        let main = ScriptedMain::start().await;
        let name = lower_than(ME, "m", &first_version(package), name);
        let sibling = ScriptedSibling::start(&main, &name, KEY, package, trick).await;
        let node = node_of(&main, ME).await;
        Self { main, sibling, name, node }
    }

    async fn left(&self, reason: &str) -> f64 {
        let sample = format!("edge_mirror_relay_parent_changes_total{{reason=\"{reason}\"}}");
        Metrics::of(&self.node.url("")).await.get(&sample)
    }

    async fn end(self) {
        self.node.shut_down().await;
        self.sibling.stop().await;
    }
}

/// The package arrives whole although the parent does this, no tablet completes anything
/// else, and the parent is left for the reason.
async fn recovers(log: &LogCopy, name: &str, trick: Trick, reason: &str) {
    let package = big_zip(2 << 20, 7);
    let pair = Pair::start(name, &package, trick).await;
    pair.main.activate("m", "Board", &package);
    let tablet = async {
        let got = pair.node.try_download("m").await;
        assert!(got.is_none_or(|got| got == package), "{name}");
    };
    tokio::join!(pair.node.until_synced("m"), tablet);
    assert!(pair.node.download("m").await == (StatusCode::OK, package.clone()), "{name}");
    assert_eq!(pulls(&pair.main), 1, "{name}");
    assert_eq!(pair.left(reason).await, 1.0, "{name}");
    let line = log.lines_with(&["from the main server, no longer from node", &pair.name]);
    assert_eq!(line.len(), 1, "{name}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_answers_nonsense_is_left_and_the_package_comes_from_the_main_server() {
    let log = LogCopy::begin();
    let elsewhere = Proxy::before(([127, 0, 0, 1], 9).into(), Way::Closed);
    let to = elsewhere.url("/api/v1/meetings/m/download-package");
    let more = (2 << 20) + 5000;
    join_all([
        recovers(&log, "page", Trick::Page { length: true }, "refused"),
        recovers(&log, "page-without-length", Trick::Page { length: false }, "unreachable"),
        recovers(&log, "other-length", Trick::Length(more), "refused"),
        recovers(&log, "other-version", Trick::OtherVersion, "refused"),
        recovers(&log, "redirect", Trick::Redirect(to), "refused"),
    ])
    .await;
    assert_eq!(elsewhere.asked(), "", "nobody follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_sends_wrong_bytes_is_left_and_no_tablet_completes_them() {
    let log = LogCopy::begin();
    join_all([
        recovers(&log, "flip", Trick::Flip(1 << 20), "damaged"),
        recovers(&log, "flip-at-the-end", Trick::Flip((2 << 20) + 100), "damaged"),
        recovers(&log, "endless", Trick::Endless, "damaged"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_stops_is_left_with_what_it_has_sent() {
    let log = LogCopy::begin();
    join_all([
        recovers(&log, "cut", Trick::CutAfter(1 << 20), "unreachable"),
        recovers(&log, "drip", Trick::Drip, "no_progress"),
        recovers(&log, "silence", Trick::Silence, "unreachable"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_without_its_own_proof_is_left_before_a_byte_is_taken() {
    let log = LogCopy::begin();
    join_all([
        recovers(&log, "wrong-proof", Trick::WrongProof, "unproven"),
        recovers(&log, "no-proof", Trick::NoProof, "unproven"),
        recovers(&log, "old-proof", Trick::OldProof, "unproven"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_the_one_of_the_proof_is_not_trusted() {
    let log = LogCopy::begin();
    for (trick, is_good) in [(Trick::OtherCertificate, false), (Trick::None, true)] {
        let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
        let name = lower_than(ME, "m", &first_version(&package), "secure");
        let own = Authority::new().own();
        let shown = (own.server(None), digest(&own.der()));
        let sibling =
            ScriptedSibling::start_secure(&main, &name, KEY, &package, trick, shown).await;
        let node = node_of(&main, ME).await;
        main.activate("m", "Board", &package);
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
        assert_eq!(pulls(&main), usize::from(!is_good));
        let unproven = log.lines_with(&["no longer from node", &name, "unproven"]);
        assert_eq!(unproven.len(), 1, "{is_good}");
        node.shut_down().await;
        sibling.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablet_that_asks_for_what_no_node_lists_does_not_wait_for_them() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    main.activate("m", "Board", &package);
    main.end("m");
    let nodes = join_all((0..5).map(|n| node_of(&main, ["a", "b", "c", "d", "e"][n]))).await;
    main.activate("n", "Other", &package);
    for node in &nodes {
        node.until_synced("n").await;
    }
    // The one of the highest rank has asked all that it would ask.
    for node in &nodes {
        let began = std::time::Instant::now();
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
        assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    }
    for node in nodes {
        node.shut_down().await;
    }
}

/// A name in the list says nothing: nodes prove which one they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_lists_nodes_under_other_names_moves_nobody() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    let node = node_of(&main, ME).await;
    let version = first_version(&package);
    let address = main.knows(ME).unwrap();
    for n in 0..5 {
        // It would wait for itself.
        let name = lower_than(ME, "m", &version, &format!("alias-{n}"));
        register(&main, &name, &address).await;
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    register(&main, "silent", &silent.local_addr().unwrap().to_string()).await;
    let began = std::time::Instant::now();
    main.activate("m", "Board", &package);
    node.until_synced("m").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(pulls(&main), 1);
    let changes = Metrics::of(&node.url("")).await;
    let changed = changes.samples().filter(|name| name.contains("parent_changes_total"));
    assert_eq!(changed.map(|name| changes.get(name)).sum::<f64>(), 0.0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_nodes_are_asked_for_nothing() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    let old = OldNode::of(&main.authority(), "old");
    let proxy = Proxy::before(old.address().parse().unwrap(), Way::Hold(usize::MAX));
    let version = first_version(&package);
    let address = proxy.address().to_string();
    register(&main, &lower_than(ME, "m", &version, "old"), &address).await;
    let name = lower_than(ME, "m", &version, "keyless");
    let keyless = ScriptedSibling::start(&main, &name, KEY, &package, Trick::Old).await;
    let node = node_of(&main, ME).await;
    main.activate("m", "Board", &package);
    node.until_synced("m").await;
    assert!(node.download("m").await.1 == package);
    assert_eq!(pulls(&main), 1);
    let asked = proxy.asked();
    let lines = asked.lines().filter(|line| line.ends_with("http/1.1")).collect::<Vec<_>>();
    assert_eq!(lines, ["head /api/v1/meetings/-/download-package http/1.1"]);
    assert_eq!(keyless.count(&Method::HEAD, "-", false), 1);
    for proven in [false, true] {
        assert_eq!(keyless.count(&Method::GET, "m", proven), 0);
        assert_eq!(keyless.count(&Method::HEAD, "m", proven), 0);
    }
    node.shut_down().await;
    keyless.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_prove_the_key_for_this_very_request_is_refused_and_tablets_go_on() {
    let (main, package) = (ScriptedMain::start().await, big_zip(1 << 20, 7));
    let node = node_of(&main, ME).await;
    main.activate("m", "Board", &package);
    main.activate("n", "Other", &big_zip(1 << 20, 8));
    node.until_synced("m").await;
    node.until_synced("n").await;
    let (version, address) = (first_version(&package), main.knows(ME).unwrap());
    let child = ScriptedChild::of(&address, KEY);
    let refused = async || {
        let metrics = Metrics::of(&node.url("")).await;
        ["proof", "nonce"].map(|reason| {
            let name = "edge_mirror_relay_refused_children_total";
            metrics.get(&format!("{name}{{reason=\"{reason}\"}}"))
        })
    };
    let good = child.request(&version).await;
    let answer = child.get(&good, "m", "m").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.bytes().await.unwrap() == package);
    assert_eq!(refused().await, [0.0, 0.0]);
    // The same again.
    assert_eq!(child.get(&good, "m", "m").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused().await, [0.0, 1.0]);
    // A nonce of somebody else's.
    let mut other = child.request(&version).await;
    other.nonce = good.nonce.replace('.', "1.");
    assert_eq!(child.get(&other, "m", "m").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused().await, [0.0, 2.0]);
    // Without the key.
    let stranger = ScriptedChild::of(&address, "a-key-of-somebody-else");
    let wrong = stranger.request(&version).await;
    assert_eq!(stranger.get(&wrong, "m", "m").await.status(), StatusCode::UNAUTHORIZED);
    // For another package, and for another node.
    let elsewhere = child.request(&version).await;
    assert_eq!(child.get(&elsewhere, "n", "m").await.status(), StatusCode::UNAUTHORIZED);
    let mut elsewhere = child.request(&version).await;
    elsewhere.parent_address = "127.0.0.1:2".into();
    assert_eq!(child.get(&elsewhere, "m", "m").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused().await, [3.0, 2.0]);
    // A nonce that a stranger has tried is as good as before.
    assert_eq!(child.get(&wrong, "m", "m").await.status(), StatusCode::OK);
    // The proof is good, and there is no such version.
    let version = PackageVersion::Digest(digest(b"another"));
    let absent = child.request(&version).await;
    assert_eq!(child.get(&absent, "m", "m").await.status(), StatusCode::PRECONDITION_FAILED);

    let challenges = stream::iter(0..10_000).map(|_| child.nonce()).buffer_unordered(32);
    let tablet = async {
        for _ in 0..20 {
            assert!(node.download("m").await == (StatusCode::OK, package.clone()));
        }
    };
    tokio::join!(challenges.for_each(async |_| ()), tablet);
    let next = child.request(&first_version(&package)).await;
    assert_eq!(child.get(&next, "m", "m").await.status(), StatusCode::OK);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_at_its_parent_goes_elsewhere() {
    let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    let version = first_version(&package);
    let parent = lower_than(ME, "m", &version, "parent");
    let parent_node = node_of(&main, &parent).await;
    parent_node.configure(json!({"relay": {"maxChildren": 1}})).await;
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &package);
    until("the parent has begun", async || {
        parent_node.meeting("m").await["received"].as_u64().filter(|received| *received > 0)
    })
    .await;
    let child = ScriptedChild::of(&main.knows(&parent).unwrap(), KEY);
    let request = child.request(&version).await;
    let first = child.get(&request, "m", "m").await;
    assert_eq!(first.status(), StatusCode::OK);
    let node = node_of(&main, ME).await;
    until("the main server is asked", async || (pulls(&main) == 2).then_some(())).await;
    valve.open();
    node.until_synced("m").await;
    assert!(node.download("m").await.1 == package);
    assert!(first.bytes().await.unwrap() == package);
    let busy = "edge_mirror_relay_refused_children_total{reason=\"busy\"}";
    assert!(Metrics::of(&parent_node.url("")).await.get(busy) >= 1.0);
    node.shut_down().await;
    parent_node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_a_node_serves_no_child_and_leaves_its_parent_at_once() {
    let (main, package) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    let version = first_version(&package);
    let parent = lower_than(ME, "m", &version, "parent");
    let (parent_node, node) = (node_of(&main, &parent).await, node_of(&main, ME).await);
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &package);
    until("the parent sends", async || {
        (node.meeting("m").await["source"]["node"] == *parent).then_some(())
    })
    .await;
    assert_eq!(pulls(&main), 1);
    node.configure(json!({"relay": {"enabled": false}})).await;
    until("it pulls directly", async || (pulls(&main) == 2).then_some(())).await;
    let child = ScriptedChild::of(&main.knows(&parent).unwrap(), KEY);
    let before = child.request(&version).await;
    parent_node.configure(json!({"relay": {"enabled": false}})).await;
    assert_eq!(child.get(&before, "m", "m").await.status(), StatusCode::FORBIDDEN);
    valve.open();
    for node in [&parent_node, &node] {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
    }
    assert_eq!(pulls(&main), 2);
    node.shut_down().await;
    parent_node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_piece_is_taken_back_and_only_who_sent_it_is_left() {
    let log = LogCopy::begin();
    let package = big_zip(3 << 20, 7);
    let middle = (1 << 20) + 5000;
    for (name, trick, reason, condemned) in [
        // It has sent the whole piece.
        ("whole", Trick::Flip(middle), "damaged", true),
        // The spare completes the piece.
        ("part", Trick::FlipAndCut(middle, middle + 5000), "reassigned", false),
    ] {
        let main = ScriptedMain::start().await;
        let bad_name = format!("{name}-bad");
        let start =
            async |name, trick| ScriptedSibling::start(&main, name, KEY, &package, trick).await;
        let (bad, good) = (start(&bad_name, trick).await, start("good", Trick::None).await);
        plan(&main, &package, &[(&bad_name, &bad), ("good", &good)]);
        let node = node_of(&main, ME).await;
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == package);
        assert_eq!(pulls(&main), 0, "{name}");
        // One that broke off, and is there, goes on; with the next byte it breaks off again.
        let tries = if condemned { 1 } else { 2 };
        assert_eq!(bad.count(&Method::GET, "m", true), tries, "{name}");
        // The bad piece began with the other one's bytes: it is not the spare's fault.
        let asked = good.count(&Method::GET, "m", true);
        assert_eq!(asked, if condemned { 1 } else { 2 }, "{name}");
        let metrics = Metrics::of(&node.url("")).await;
        let left = |reason: &str| {
            metrics.get(&format!("edge_mirror_relay_parent_changes_total{{reason=\"{reason}\"}}"))
        };
        assert_eq!((left(reason), left("damaged")), (1.0, f64::from(u8::from(condemned))));
        assert_eq!(log.lines_with(&["no longer from node", &bad_name]).len(), 1);
        node.shut_down().await;
        bad.stop().await;
        good.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_piece_that_the_main_server_completes_is_the_only_one_that_it_sends_again() {
    let (log, package) = (LogCopy::begin(), big_zip(3 << 20, 7));
    let main = ScriptedMain::start().await;
    let at = (2 << 20) + 5000;
    let trick = Trick::FlipAndCut(at, at + 5000);
    let bad = ScriptedSibling::start(&main, "bad", KEY, &package, trick).await;
    plan(&main, &package, &[("bad", &bad)]);
    let node = node_of(&main, ME).await;
    node.until_synced("m").await;
    assert!(node.download("m").await.1 == package);
    let asked = main.asked("_m_pdfs.zip");
    let ranges: Vec<_> =
        asked.iter().map(|asked| asked.headers["range"].to_str().unwrap()).collect();
    assert_eq!(ranges, [&*format!("bytes={}-", at + 5000), &*format!("bytes={}-", 2 << 20)]);
    assert_eq!(bad.count(&Method::GET, "m", true), 2);
    assert_eq!(
        log.lines_with(&["from the main server, no longer from node bad (damaged)"]).len(),
        1
    );
    node.shut_down().await;
    bad.stop().await;
}
