//! Groups, live casts and the stream of all casts.

use super::*;

const CASTS: &str = "/api/v1/casts";
const LIVE: &str = "/api/v1/casts/live";

impl TestMaster {
    async fn with_two_nodes() -> Self {
        let t = Self::start().await;
        for id in ["a", "b"] {
            t.register(id, "127.0.0.1:1").await;
            t.until_known(id).await;
        }
        t
    }

    /// Asks for a node's casts after its places, and returns the answer.
    fn node_poll(&self, id: &str, places: &Value, wait_s: u64) -> reqwest::RequestBuilder {
        let place = |name: &str| places[name].as_str().unwrap_or_default().to_owned();
        let (stream, live) = (place("stream"), place("live"));
        let after = places["after"].as_u64().unwrap_or_default();
        let path = format!("/api/v1/nodes/casts?stream={stream}&after={after}&live={live}");
        let request = self.request(Method::GET, &path).header("edge-mirror-node", id);
        request.header("prefer", format!("wait={wait_s}"))
    }

    async fn polled(&self, id: &str, places: &Value, wait_s: u64) -> Value {
        let (status, answer) = both(self.node_poll(id, places, wait_s)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn count(&self, line: &str) -> u64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).trim().parse().unwrap()
    }
}

fn live(to: Value, body: Value) -> Value {
    json!({"topic": "t", "body": body, "to": to})
}

fn bodies(casts: &Value) -> Vec<Value> {
    casts.as_array().unwrap_or(&vec![]).iter().map(|cast| cast["body"].clone()).collect()
}

/// A program that follows all casts.
struct Subscriber {
    stream: reqwest::Response,
    read: Vec<u8>,
}

impl Subscriber {
    async fn of(t: &TestMaster, query: &str) -> Self {
        let stream = t.get(&format!("{CASTS}/stream{query}")).await;
        assert_eq!(stream.status(), 200);
        Self { stream, read: Vec::new() }
    }

    /// The next event that is no comment.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let Some(event) = event.strip_prefix("event: ") else { continue };
                let (name, data) = event.split_once("\ndata: ").unwrap();
                return (name.to_owned(), serde_json::from_str(data).unwrap());
            }
            let more = tokio::time::timeout(GRACE * 4, self.stream.chunk()).await;
            self.read.extend(more.expect("no event").unwrap().expect("the stream ended"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_cast_goes_to_whoever_is_there_and_is_nowhere_afterwards() {
    let t = TestMaster::with_two_nodes().await;
    let mut subscriber = Subscriber::of(&t, "").await;
    let (a, b) = (t.polled("a", &json!({}), 60).await, t.polled("b", &json!({}), 60).await);
    let waiting = t.node_poll("a", &a, 60);
    let (answer, sent) = tokio::join!(both(waiting), async {
        let begun = Instant::now();
        while t.master.server.live_casts.waiters() != 1 {
            assert!(begun.elapsed() < GRACE * 4);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        t.post(LIVE, live(json!({"nodes": ["a"]}), json!({"text": "移到"}))).await
    });
    let (status, sent) = sent;
    assert_eq!(
        (status.as_u16(), &sent["nodes"], &sent["subscribers"]),
        (202, &json!(1), &json!(1))
    );
    let a = answer.1;
    assert_eq!(
        (bodies(&a["live_casts"]), bodies(&a["casts"])),
        (vec![json!({"text": "移到"})], vec![])
    );
    assert_eq!(a["live_casts"][0]["id"], sent["id"]);
    let (name, cast) = subscriber.next().await;
    assert_eq!((&*name, &cast["body"]), ("live", &json!({"text": "移到"})));
    // Whoever is between two requests gets it with the next one, also of a list.
    let list =
        json!([live(json!({"all": true}), json!(1)), live(json!({"nodes": ["b"]}), json!(2))]);
    let (_, sent) = t.post(LIVE, list).await;
    assert_eq!(sent["casts"].as_array().unwrap().len(), 2);
    assert_eq!(bodies(&t.polled("a", &a, 60).await["live_casts"]), [json!(1)]);
    assert_eq!(bodies(&t.polled("b", &b, 60).await["live_casts"]), [json!(1), json!(2)]);
    // Who comes only then gets none, and nobody finds them.
    assert_eq!(bodies(&t.polled("b", &json!({}), 60).await["live_casts"]), [] as [Value; 0]);
    assert_eq!(t.json(CASTS).await["casts"], json!([]));
    assert_eq!(t.count("edge_mirror_master_casts_total{kind=\"live\"}").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_kept_and_live_casts_of_a_topic_in_order() {
    let t = TestMaster::with_two_nodes().await;
    let mut subscriber = Subscriber::of(&t, "?topic=t").await;
    let cast =
        |topic: &str, body: usize| json!({"topic": topic, "body": body, "to": {"all": true}});
    for n in 0..6 {
        let (path, status) = if n % 3 == 0 { (LIVE, 202) } else { (CASTS, 201) };
        let topic = if n == 2 { "other" } else { "t" };
        assert_eq!(t.post(path, cast(topic, n)).await.0, status);
    }
    let mut events = Vec::new();
    for _ in 0..5 {
        let (name, cast) = subscriber.next().await;
        events.push((name, cast["body"].as_u64().unwrap()));
    }
    let expected = [("live", 0), ("cast", 1), ("live", 3), ("cast", 4), ("cast", 5)];
    assert_eq!(events, expected.map(|(name, n)| (name.to_owned(), n)));
    for (field, value) in [("key", json!("k")), ("expires_in_s", json!(9))] {
        let mut cast = cast("t", 1);
        cast[field] = value;
        let (status, refusal) = t.post(LIVE, cast).await;
        assert_eq!(status, 400, "{refusal}");
        assert!(refusal["detail"].as_str().unwrap().contains("a live cast has no"), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_loses_the_oldest_live_casts_and_they_are_counted() {
    let t = TestMaster::with_two_nodes().await;
    let a = t.polled("a", &json!({}), 60).await;
    let mut subscriber = Subscriber::of(&t, "").await;
    let large = "x".repeat(4000);
    for n in 0..30 {
        let many: Vec<_> =
            (0..200).map(|m| live(json!({"nodes": ["a"]}), json!([n * 200 + m, large]))).collect();
        assert_eq!(t.post(LIVE, json!(many)).await.0, 202);
    }
    // The node gets the newest ones, in order.
    let answer = t.polled("a", &a, 60).await;
    let first = bodies(&answer["live_casts"])[0][0].as_u64().unwrap();
    assert!(first > 0);
    let counted = "edge_mirror_master_casts_dropped_total{reader=\"node\"}";
    assert_eq!(t.count(counted).await, first);
    let (mut last, mut received, mut dropped) = (0, 0, 0);
    while last < 5999 {
        let (name, event) = subscriber.next().await;
        match &*name {
            "dropped" => dropped += event["count"].as_u64().unwrap(),
            _ => {
                let number = event["body"][0].as_u64().unwrap();
                assert!(number == 0 || number > last, "{number} after {last}");
                (last, received) = (number, received + 1);
            }
        }
    }
    assert_eq!(received + dropped, 6000);
    assert!(dropped > 0, "it got all of 24 MB");
    let counted = "edge_mirror_master_casts_dropped_total{reader=\"subscriber\"}";
    assert_eq!(t.count(counted).await, dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_group_goes_to_the_nodes_that_are_in_it_then() {
    let t = TestMaster::with_two_nodes().await;
    let put = async |t: &TestMaster, name: &str, group: Value| {
        both(t.request(Method::PUT, &format!("/api/v1/groups/{name}")).json(&group)).await
    };
    let edit =
        t.request(Method::PATCH, "/api/v1/fleet/nodes/b").json(&json!({"labels": ["screen"]}));
    assert_eq!(both(edit).await.0, 200);
    let (status, group) = put(&t, "大屏", json!({"labels": "screen & !old"})).await;
    assert_eq!(
        (status.as_u16(), &group["members"], &group["count"]),
        (200, &json!(["b"]), &json!(1))
    );
    let send = async |t: &TestMaster, group: &str| {
        t.post(CASTS, live(json!({"groups": [group]}), json!("x"))).await
    };
    let (status, cast) = send(&t, "大屏").await;
    assert_eq!(status, 201, "{cast}");
    assert_eq!(bodies(&t.polled("a", &json!({}), 1).await["casts"]), [] as [Value; 0]);
    assert_eq!(bodies(&t.polled("b", &json!({}), 1).await["casts"]), [json!("x")]);
    // It is changed, and what was sent stays where it went.
    assert_eq!(put(&t, "大屏", json!({"nodes": ["a"]})).await.1["members"], json!(["a"]));
    let t = t.restarted().await;
    let groups = t.json("/api/v1/groups").await["groups"].clone();
    assert_eq!(groups, json!([{"name": "大屏", "nodes": ["a"], "sites": [], "count": 1}]));
    let path = format!("{CASTS}/{}", cast["id"].as_str().unwrap());
    assert_eq!(t.json(&path).await["delivery"]["nodes"][0]["node_id"], "b");
    for (group, told) in [
        (json!({}), "is empty"),
        (json!({"labels": "a b"}), "missing at byte 2"),
        (json!({"nodes": ["x"]}), "no such node: x"),
    ] {
        let (status, refusal) = put(&t, "bad", group).await;
        assert_eq!(status, 400);
        assert!(refusal["detail"].as_str().unwrap().contains(told), "{refusal}");
    }
    let audit = t.json("/api/v1/audit").await["changes"].clone();
    let actions: Vec<_> = audit.as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert!(actions.contains(&&json!("group_set")), "{actions:?}");
    let remove = async || both(t.request(Method::DELETE, "/api/v1/groups/大屏")).await.0.as_u16();
    assert_eq!((remove().await, remove().await), (200, 404));
    assert_eq!(t.get("/api/v1/groups/大屏").await.status(), 404);
    let (status, refusal) = send(&t, "大屏").await;
    assert_eq!(status, 400);
    assert!(refusal["detail"].as_str().unwrap().contains("no such group: 大屏"), "{refusal}");
}
