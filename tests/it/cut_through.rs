//! What clients get of a package while it is being pulled.

use std::io::Cursor;

use edge_mirror_protocol::package::Sha256;
use edge_mirror_store::growing::HELD_BACK_BYTES;
use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::Digest;

use crate::support::{
    Fault, PATIENCE, ScriptedMain, TestNode, client, main_server::Valve, until, zips::big_zip,
};

const HELD_BACK: usize = HELD_BACK_BYTES as usize;
const PATH: &str = "/uploads/";

/// Somebody who downloads, reading when told to.
struct Tablet {
    answer: Response,
    got: Vec<u8>,
}

impl Tablet {
    async fn asks(node: &TestNode, id: &str, fields: &[(&str, &str)]) -> Self {
        let mut request = client().get(node.package_url(id));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = tokio::time::timeout(PATIENCE, request.send()).await;
        Self { answer: answer.expect("an answer in time").unwrap(), got: Vec::new() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// Reads until it has so many bytes.
    async fn reads(&mut self, bytes: usize) {
        while self.got.len() < bytes {
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{} of {bytes} came", self.got.len()));
            self.got.extend_from_slice(&chunk.unwrap().expect("more"));
        }
    }

    /// Reads to the end: the whole, or what came before the connection broke.
    async fn ends(mut self) -> Result<Vec<u8>, Vec<u8>> {
        loop {
            match tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("an end") {
                Ok(Some(chunk)) => self.got.extend_from_slice(&chunk),
                Ok(None) => return Ok(self.got),
                Err(_) => return Err(self.got),
            }
        }
    }
}

/// A node whose pull of the one meeting gets so far.
async fn stage(zip: &[u8], passes: usize, settings: Value) -> (ScriptedMain, TestNode, Valve) {
    prepared(zip, passes, settings, |_| {}).await
}

/// As [`stage`], at a main server that was told more before it is asked.
async fn prepared(
    zip: &[u8],
    passes: usize,
    settings: Value,
    tell: impl FnOnce(&ScriptedMain),
) -> (ScriptedMain, TestNode, Valve) {
    let main = ScriptedMain::start().await;
    let valve = main.valve(passes);
    tell(&main);
    main.activate("m1", "Board", zip);
    let node = TestNode::of(&main.authority()).with(json!({"syncInterval": 3600})).with(settings);
    (main, node.start().await, valve)
}

fn one_attempt() -> Value {
    json!({"network": {"retryCount": 1}})
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::new(sha2::Sha256::digest(bytes).into())
}

fn repr_digest(bytes: &[u8]) -> Option<String> {
    Some(format!("sha-256=:{}:", sha256(bytes).base64()))
}

fn opens_as_zip(bytes: &[u8]) -> bool {
    zip::ZipArchive::new(Cursor::new(bytes)).is_ok()
}

async fn until_received(node: &TestNode, bytes: usize) {
    until("that many bytes at the node", async || {
        (node.meeting("m1").await["received"] == bytes).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_reach_a_client_before_the_pull_has_ended() {
    let zip = big_zip(1_000_000, 1);
    let (main, node, valve) = stage(&zip, 0, json!({})).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    assert_eq!(tablet.answer.status(), StatusCode::OK);
    for (name, value) in [
        ("content-length", Some(zip.len().to_string().as_str())),
        ("content-type", Some("application/zip")),
        ("content-disposition", Some("attachment; filename=\"meeting_m1.zip\"")),
        ("accept-ranges", Some("bytes")),
        ("cache-control", Some("no-cache")),
        ("access-control-allow-origin", Some("*")),
        // Neither is known before the bytes are.
        ("etag", None),
        ("repr-digest", None),
        ("last-modified", None),
    ] {
        assert_eq!(tablet.field(name), value, "{name}");
    }
    // Every byte that the node has, in steps that no buffer is filled by.
    for passed in [1, 300, 300_001, 600_000] {
        valve.let_through(passed);
        tablet.reads(passed).await;
    }
    assert_eq!(node.meeting("m1").await["state"], "pulling");
    assert_eq!(node.status().await["downloads_under_way"], 1);
    valve.open();
    assert_eq!(tablet.ends().await.as_deref(), Ok(&*zip));
    let meeting = node.until_synced("m1").await;
    assert_eq!((&meeting["downloads"], meeting["last_served"].is_u64()), (&json!(1), true));
    let status = node.status().await;
    assert_eq!(
        (&status["bytes_served"], &status["bytes_pulled"]),
        (&json!(zip.len()), &json!(zip.len()))
    );
    until("no download under way", async || {
        (node.status().await["downloads_under_way"] == 0).then_some(())
    })
    .await;
    assert_eq!(main.count(Method::GET, PATH), 1);
    node.shut_down().await;
}

/// How often this process has a package in its address space.
fn mappings_of(node: &TestNode) -> usize {
    let path = node.storage().join("meeting_m1/package.zip");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // A mapping may lie there in parts; only its first begins with the file.
    let begins = |line: &&str| line.split_whitespace().nth(2).is_some_and(|at| at == "00000000");
    maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).filter(begins).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_followed_goes_on_from_the_copy_that_all_use() {
    let zip = big_zip(24_000_000, 7);
    let (_main, node, valve) = stage(&zip, 8_000_000, json!({})).await;
    let mut slow = Tablet::asks(&node, "m1", &[]).await;
    slow.reads(1_000_000).await;
    valve.open();
    node.until_synced("m1").await;
    assert_eq!(node.download("m1").await.1, zip);
    // It has all that it was given before; what comes now is from elsewhere.
    slow.reads(12_000_000).await;
    until("one copy", async || (mappings_of(&node) == 1).then_some(())).await;
    assert_eq!(node.status().await["downloads_under_way"], 1);
    assert_eq!(slow.ends().await.as_deref(), Ok(&*zip));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_readers_go_at_their_own_pace() {
    // More than the sockets of a reader that reads nothing can hold.
    let zip = big_zip(24_000_000, 2);
    let (main, node, valve) = stage(&zip, 8_000_000, json!({})).await;
    let mut tablets = join_all((0..20).map(|_| Tablet::asks(&node, "m1", &[]))).await.into_iter();
    let mut quick = tablets.next().unwrap();
    quick.reads(8_000_000).await;
    let mut late = Tablet::asks(&node, "m1", &[]).await;
    valve.let_through(16_000_000);
    late.reads(12_000_000).await;
    quick.reads(16_000_000).await;
    valve.open();
    // Nobody waits for those who have read nothing yet.
    assert_eq!(quick.ends().await.as_deref(), Ok(&*zip));
    assert_eq!(late.ends().await.as_deref(), Ok(&*zip));
    for slow in tablets {
        assert_eq!(slow.ends().await.as_deref(), Ok(&*zip));
    }
    assert_eq!(main.count(Method::GET, PATH), 1);
    assert_eq!(node.meeting("m1").await["downloads"], 21);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_given_of_what_is_there_and_of_what_is_yet_to_come() {
    let zip = big_zip(1_000_000, 3);
    let (_main, node, valve) = stage(&zip, 500_000, json!({})).await;
    let size = zip.len();
    let mut parts = Vec::new();
    for (from, end) in [(0, 100), (100_000, 200_000), (400_000, 700_000), (900_000, size)] {
        let range = format!("bytes={from}-{}", end - 1);
        let mut tablet = Tablet::asks(&node, "m1", &[("range", &range)]).await;
        assert_eq!(tablet.answer.status(), StatusCode::PARTIAL_CONTENT);
        let content_range = format!("bytes {from}-{}/{size}", end - 1);
        assert_eq!(tablet.field("content-range"), Some(content_range.as_str()));
        assert_eq!(tablet.field("content-length"), Some((end - from).to_string().as_str()));
        // What is there of it, but for its last byte.
        tablet.reads(500_000.min(end - 1).saturating_sub(from)).await;
        parts.push((tablet, from..end));
    }
    let whole = Tablet::asks(&node, "m1", &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!(whole.answer.status(), StatusCode::OK);
    let suffix = Tablet::asks(&node, "m1", &[("range", "bytes=-5")]).await;
    parts.push((suffix, size - 5..size));
    let beyond = Tablet::asks(&node, "m1", &[("range", &format!("bytes={size}-"))]).await;
    assert_eq!(beyond.answer.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.field("content-range"), Some(format!("bytes */{size}").as_str()));
    valve.open();
    for (tablet, part) in parts {
        assert_eq!(tablet.ends().await.as_deref(), Ok(&zip[part]));
    }
    assert_eq!(whole.ends().await.as_deref(), Ok(&*zip));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_is_answered_before_the_first_byte() {
    let zip = big_zip(300_000, 4);
    let (_main, node, valve) = stage(&zip, 0, json!({})).await;
    let head = client().head(node.package_url("m1")).timeout(PATIENCE).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[header::CONTENT_LENGTH], zip.len().to_string());
    valve.open();
    node.until_synced("m1").await;
    assert_eq!(node.meeting("m1").await["downloads"], 0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_bad_reaches_nobody_whole() {
    let good = big_zip(600_000, 5);
    let mut damaged = good.clone();
    damaged[300_000] ^= 1;
    let cut = &good[..good.len() - 100];
    for (what, sent, digest) in [
        ("another digest", &*good, repr_digest(b"something else")),
        ("a damaged entry", &*damaged, None),
        ("an archive without its end", cut, None),
    ] {
        let tell = |main: &ScriptedMain| main.play().repr_digest = digest;
        let (_main, node, valve) = prepared(sent, 100_000, one_attempt(), tell).await;
        let early = Tablet::asks(&node, "m1", &[]).await;
        let unread = Tablet::asks(&node, "m1", &[]).await;
        let mut part = Tablet::asks(&node, "m1", &[("range", "bytes=50-99")]).await;
        part.reads(49).await;
        valve.open();
        assert_eq!(part.ends().await.unwrap_err(), sent[50..99], "{what}");
        for tablet in [early, unread] {
            let got = tablet.ends().await.unwrap_err();
            assert!(got.len() <= sent.len() - HELD_BACK, "{what}: {}", got.len());
            assert!(sent.starts_with(&got) && !opens_as_zip(&got), "{what}");
        }
        assert!(!node.storage().join("meeting_m1").exists(), "{what}");
        assert_eq!(node.status().await["downloads_under_way"], 0);
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_bytes_are_held_back_until_the_last_one_is_there() {
    let zip = big_zip(600_000, 6);
    let (_main, node, valve) = stage(&zip, zip.len() - 1, one_attempt()).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    let last = format!("bytes={}-", zip.len() - 10);
    let tail = Tablet::asks(&node, "m1", &[("range", &last)]).await;
    until_received(&node, zip.len() - 1).await;
    tablet.reads(zip.len() - HELD_BACK).await;
    drop(valve);
    let got = tablet.ends().await.unwrap_err();
    assert_eq!(got.len(), zip.len() - HELD_BACK);
    assert!(zip.starts_with(&got) && !opens_as_zip(&got));
    assert_eq!(tail.ends().await.unwrap_err(), b"");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_live_through_an_attempt_that_breaks_off() {
    let zip = big_zip(900_000, 7);
    // With ranges the rest is asked for; without, all is told again.
    for ranges in [true, false] {
        let tell = |main: &ScriptedMain| main.play().ranges = ranges;
        let (main, node, first) = prepared(&zip, 300_000, json!({}), tell).await;
        let mut tablet = Tablet::asks(&node, "m1", &[]).await;
        tablet.reads(300_000).await;
        let second = main.valve(200_000);
        drop(first);
        until("the second attempt", async || second.is_in_use().then_some(())).await;
        // It breaks off before it gets as far as the first one, if it began anew.
        let third = main.valve(600_000);
        drop(second);
        tablet.reads(600_000).await;
        let late = Tablet::asks(&node, "m1", &[]).await;
        third.open();
        assert_eq!(tablet.ends().await.as_deref(), Ok(&*zip), "ranges {ranges}");
        assert_eq!(late.ends().await.as_deref(), Ok(&*zip), "ranges {ranges}");
        let pulls = main.asked(PATH).into_iter().filter(|asked| asked.method == Method::GET);
        let begins: Vec<bool> =
            pulls.map(|asked| asked.headers.contains_key(header::RANGE)).collect();
        assert_eq!(begins, [false, ranges, ranges]);
        node.shut_down().await;
    }
}

/// Of this process: each test has its own.
fn threads(name: &str) -> usize {
    let all = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = all.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_attempts_no_thread_waits_for_bytes() {
    let zip = big_zip(4_000_000, 20);
    let rare = json!({"network": {"retryDelay": 3600}});
    let (main, node, first) = stage(&zip, 3_000_000, rare).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    tablet.reads(3_000_000).await;
    let count = |each| ["hash", "unpack", "sync"].map(threads) == [each; 3];
    until("a thread for each", async || count(1).then_some(())).await;
    let second = main.valve(zip.len());
    drop(first);
    until("no threads", async || count(0).then_some(())).await;
    node.post("/api/meetings/m1/sync", json!({})).await;
    assert_eq!(tablet.ends().await.as_deref(), Ok(&*zip));
    drop(second);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_version_that_went_are_cut_off() {
    let (old, new) = (big_zip(900_000, 8), big_zip(900_000, 9));
    // Whether tags and dates tell of the change or not.
    for told in [true, false] {
        for ranges in [true, false] {
            let tell = |main: &ScriptedMain| main.play().ranges = ranges && told;
            let (main, node, first) = prepared(&old, 300_000, json!({}), tell).await;
            let mut tablet = Tablet::asks(&node, "m1", &[]).await;
            tablet.reads(300_000).await;
            match told {
                true => main.replace_quietly("m1", &new),
                false => main.swap("m1", &new),
            }
            let second = main.valve(300_000);
            drop(first);
            assert_eq!(tablet.ends().await.unwrap_err(), old[..300_000]);
            let mut next = Tablet::asks(&node, "m1", &[]).await;
            next.reads(300_000).await;
            second.open();
            assert_eq!(next.ends().await.as_deref(), Ok(&*new));
            node.shut_down().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn turned_off_clients_wait_for_the_whole_and_it_is_turned_on_live() {
    let zip = big_zip(600_000, 10);
    let off = json!({"network": {"retryCount": 1}, "serve": {"cutThrough": false}});
    let (main, node, valve) = stage(&zip, 300_000, off).await;
    let waiting = async {
        until_received(&node, 300_000).await;
        node.configure(json!({"serve": {"cutThrough": true}})).await;
        Tablet::asks(&node, "m1", &[]).await.reads(300_000).await;
        drop(valve);
    };
    let (refused, ()) = futures_util::future::join(node.download("m1"), waiting).await;
    assert_eq!(refused.0, StatusCode::BAD_GATEWAY);
    assert_eq!(main.count(Method::GET, PATH), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_followed_is_waited_for() {
    let (large, small) = (big_zip(600_000, 11), big_zip(HELD_BACK - 1000, 12));
    let page: &str = Box::leak("<html>502</html>".repeat(10_000).into_boxed_str());
    for (what, zip, offers, page) in [
        ("no length", &large, false, None),
        ("all of it is held back", &small, true, None),
        ("a page", &large, true, Some(page)),
    ] {
        let tell = |main: &ScriptedMain| {
            main.play().offers = offers;
            main.fail(PATH, page.map(Fault::Instead));
        };
        let (_main, node, valve) = prepared(zip, 50_000, one_attempt(), tell).await;
        let failing = async {
            if page.is_none() {
                until_received(&node, 50_000).await;
            }
            drop(valve);
        };
        let (refused, ()) = futures_util::future::join(node.download("m1"), failing).await;
        assert_eq!(refused.0, StatusCode::BAD_GATEWAY, "{what}");
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_judged_early_where_the_digest_was_announced() {
    let zip = big_zip(600_000, 13);
    let tell = |main: &ScriptedMain| main.play().repr_digest = repr_digest(&zip);
    let (_main, node, valve) = prepared(&zip, 300_000, json!({}), tell).await;
    let etag = format!("\"{}\"", sha256(&zip));
    let weak = format!("W/{etag}");
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", &weak, 304),
        ("if-none-match", "\"other\"", 200),
        ("if-match", &etag, 200),
        ("if-match", "\"other\"", 412),
    ] {
        let tablet = Tablet::asks(&node, "m1", &[(name, value)]).await;
        assert_eq!(tablet.answer.status().as_u16(), status, "{name}: {value}");
        // What was not verified yet may not be completed by what is.
        assert_eq!(tablet.field("etag"), Some(weak.as_str()));
        assert_eq!(tablet.field("last-modified"), None);
    }
    let mut parts = Vec::new();
    for (if_range, status) in
        [(etag.as_str(), 206), (&weak, 200), ("Sat, 21 Nov 2026 07:00:01 GMT", 200)]
    {
        let fields = [("range", "bytes=100-"), ("if-range", if_range)];
        let mut part = Tablet::asks(&node, "m1", &fields).await;
        assert_eq!(part.answer.status().as_u16(), status, "{if_range}");
        assert_eq!(part.field("repr-digest"), repr_digest(&zip).as_deref());
        part.reads(200_000).await;
        parts.push((part, if status == 206 { 100 } else { 0 }));
    }
    valve.open();
    for (part, from) in parts {
        assert_eq!(part.ends().await.as_deref(), Ok(&zip[from..]));
    }
    let after = Tablet::asks(&node, "m1", &[]).await;
    assert_eq!(after.field("etag"), Some(etag.as_str()));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_that_only_the_verified_package_can_answer_wait_for_it() {
    let zip = big_zip(600_000, 14);
    let (_main, node, valve) = stage(&zip, 300_000, json!({})).await;
    let etag = format!("\"{}\"", sha256(&zip));
    let date = "Sat, 21 Nov 2026 07:00:01 GMT";
    let (matching, dated) = ([("if-none-match", etag.as_str())], [("if-modified-since", date)]);
    let meanwhile = async {
        for _ in 0..5 {
            Tablet::asks(&node, "m1", &[]).await.reads(300_000).await;
        }
        valve.open();
    };
    let (matched, dated, ()) = tokio::join!(
        Tablet::asks(&node, "m1", &matching),
        Tablet::asks(&node, "m1", &dated),
        meanwhile
    );
    for answered in [matched, dated] {
        assert_eq!(answered.answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answered.field("etag"), Some(etag.as_str()));
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_the_service_cuts_followers_off() {
    let zip = big_zip(600_000, 15);
    let (_main, node, _valve) = stage(&zip, 300_000, json!({})).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    tablet.reads(300_000).await;
    node.post("/api/service/stop", json!({})).await;
    assert_eq!(tablet.ends().await.unwrap_err(), zip[..300_000]);
    assert_eq!(node.download("m1").await.0, StatusCode::SERVICE_UNAVAILABLE);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_lets_followers_finish_within_the_grace_time() {
    let zip = big_zip(600_000, 16);
    let (main, node, valve) = stage(&zip, 300_000, json!({})).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    tablet.reads(300_000).await;
    let (address, ending) = (node.address(), tokio::spawn(node.shut_down()));
    until("unregistered", async || main.knows("node-test").is_none().then_some(())).await;
    until("no new connections", async || tokio::net::TcpStream::connect(address).await.err()).await;
    valve.open();
    assert_eq!(tablet.ends().await.as_deref(), Ok(&*zip));
    assert!(ending.await.unwrap(), "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_meeting_ends_no_pull_that_is_followed() {
    let zip = big_zip(600_000, 17);
    let (main, node, valve) = stage(&zip, 300_000, json!({"syncInterval": 1})).await;
    let mut tablet = Tablet::asks(&node, "m1", &[]).await;
    main.end("m1");
    until("the end of the meeting", async || {
        (node.meeting("m1").await["active"] != true).then_some(())
    })
    .await;
    tablet.reads(300_000).await;
    valve.open();
    assert_eq!(tablet.ends().await.as_deref(), Ok(&*zip));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_another_main_servers_package_of_the_same_name() {
    let (theirs, ours) = (big_zip(600_000, 18), big_zip(600_000, 19));
    let (_old, node, valve) = stage(&theirs, 300_000, json!({})).await;
    let mut before = Tablet::asks(&node, "m1", &[]).await;
    before.reads(300_000).await;
    let new = ScriptedMain::start().await;
    new.activate("m1", "Board", &ours);
    let port: u16 = new.authority().rsplit_once(':').unwrap().1.parse().unwrap();
    node.configure(json!({"mainServerPort": port})).await;
    let ending = async {
        until("the new main server", async || new.knows("node-test")).await;
        valve.open();
    };
    let (after, ()) = futures_util::future::join(node.download("m1"), ending).await;
    assert!(after == (StatusCode::OK, ours));
    assert_eq!(before.ends().await.as_deref(), Ok(&*theirs));
    node.shut_down().await;
}
