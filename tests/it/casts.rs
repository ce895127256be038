//! Casts from an operator at the main server to programs at nodes.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{SocketClient, TestMaster, TestNode, client, until};

const PATIENCE: Duration = Duration::from_secs(30);

async fn node(main: &TestMaster, id: &str) -> TestNode {
    TestNode::of(&main.authority()).with(json!({"nodeId": id})).start().await
}

/// Sends a cast, and returns its path.
async fn send(main: &TestMaster, topic: &str, body: Value, to: Value) -> String {
    let cast = json!({"topic": topic, "body": body, "to": to});
    let answer = client().post(main.url("/api/v1/casts")).json(&cast).send().await.unwrap();
    let status = answer.status();
    let cast: Value = answer.json().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{cast}");
    format!("/api/v1/casts/{}", cast["id"].as_str().unwrap())
}

async fn until_known(main: &TestMaster, id: &str) {
    until(&format!("node {id} is known"), async || {
        let nodes = main.json("/api/v1/fleet/nodes").await["nodes"].clone();
        nodes.as_array().unwrap().iter().any(|node| node["id"] == id).then_some(())
    })
    .await;
}

async fn until_received(main: &TestMaster, path: &str, count: u64) {
    until(&format!("{path} is at {count} nodes"), async || {
        let delivery = main.json(path).await["delivery"].clone();
        (delivery["received"] == count).then_some(())
    })
    .await;
}

/// A program that follows a node's casts.
struct Consumer {
    stream: Response,
    read: Vec<u8>,
}

impl Consumer {
    async fn of(node: &TestNode, query: &str) -> Self {
        let stream = node.get(&format!("/api/casts{query}")).await;
        assert_eq!(stream.status(), StatusCode::OK);
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        Self { stream, read: Vec::new() }
    }

    /// The next event that is no comment: its name, and what it says.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(str::to_owned)
                };
                let Some(data) = field("data: ") else { continue };
                let data: Value = serde_json::from_str(&data).unwrap();
                if let Some(id) = field("id: ") {
                    assert_eq!(json!(id.parse::<u64>().unwrap()), data["n"]);
                }
                return (field("event: ").unwrap(), data);
            }
            let more = tokio::time::timeout(PATIENCE, self.stream.chunk()).await;
            self.read.extend(more.expect("no event").unwrap().expect("the stream ended"));
        }
    }

    async fn bodies(&mut self, count: usize) -> Vec<Value> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let (name, cast) = self.next().await;
            assert_eq!(name, "cast", "{cast}");
            bodies.push(cast["body"].clone());
        }
        bodies
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_reaches_all_nodes_and_one_that_was_away_when_it_returns() {
    let main = TestMaster::build().start().await;
    let (here, away) = (node(&main, "here").await, node(&main, "away").await);
    for id in ["here", "away"] {
        until_known(&main, id).await;
    }
    let away = away.stop().await;
    let mut consumer = Consumer::of(&here, "").await;
    let notice = send(&main, "notices", json!("会议改到 10:30"), json!({"all": true})).await;
    let (name, cast) = consumer.next().await;
    assert_eq!((&*name, &cast["body"]), ("cast", &json!("会议改到 10:30")));
    assert_eq!((&cast["topic"], &cast["priority"]), (&json!("notices"), &json!("normal")));
    send(&main, "screens", json!({"show": 3}), json!({"nodes": ["away"]})).await;
    send(&main, "notices", json!("second"), json!({"nodes": ["here", "away"]})).await;
    assert_eq!(consumer.bodies(1).await, [json!("second")], "not what is for others");
    until_received(&main, &notice, 1).await;
    let away = away.start().await;
    let mut late = Consumer::of(&away, "?after=0").await;
    let expected = [json!("会议改到 10:30"), json!({"show": 3}), json!("second")];
    assert_eq!(late.bodies(3).await, expected);
    until_received(&main, &notice, 2).await;
    let mut of_topic = Consumer::of(&away, "?after=0&topic=screens").await;
    assert_eq!(of_topic.bodies(1).await, [json!({"show": 3})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_either_side_lose_nothing_and_bring_nothing_twice() {
    let main = TestMaster::build().start().await;
    let first = node(&main, "a").await;
    until_known(&main, "a").await;
    let all = || json!({"all": true});
    let path = send(&main, "t", json!(1), all()).await;
    until_received(&main, &path, 1).await;
    // The main server is away and comes back.
    let main = main.stop().await.start().await;
    let path = send(&main, "t", json!(2), all()).await;
    until_received(&main, &path, 1).await;
    // So does the node; what was cast meanwhile comes then.
    let stopped = first.stop().await;
    send(&main, "t", json!(3), all()).await;
    let again = stopped.start().await;
    let mut consumer = Consumer::of(&again, "?after=0").await;
    assert_eq!(consumer.bodies(3).await, [json!(1), json!(2), json!(3)]);
    // A consumer that reconnects says where it was.
    let request = client().get(again.url("/api/casts?after=0")).header("last-event-id", "2");
    let mut consumer = Consumer { stream: request.send().await.unwrap(), read: Vec::new() };
    assert_eq!(consumer.bodies(1).await, [json!(3)]);
    send(&main, "t", json!(4), all()).await;
    assert_eq!(consumer.bodies(1).await, [json!(4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_node_and_those_who_follow_it_are_bounded() {
    let main = TestMaster::build().start().await;
    let limits = json!({"nodeId": "a", "casts": {"maxCount": 2, "maxConsumers": 1}});
    let node = TestNode::of(&main.authority()).with(limits).start().await;
    until_known(&main, "a").await;
    let mut last = String::new();
    for n in 1..=5 {
        last = send(&main, "t", json!(n), json!({"nodes": ["a"]})).await;
    }
    until_received(&main, &last, 1).await;
    let mut consumer = Consumer::of(&node, "?after=1").await;
    assert_eq!(consumer.next().await, ("lost".to_owned(), json!({"before": 4})));
    assert_eq!(consumer.bodies(2).await, [json!(4), json!(5)]);
    assert_eq!(node.get("/api/casts").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(consumer);
    until("its place is free", async || {
        (node.get("/api/casts").await.status() == StatusCode::OK).then_some(())
    })
    .await;
    // Switched off, it does not ask, and gets what is still valid later.
    node.configure(json!({"casts": {"enabled": false}})).await;
    let path = send(&main, "t", json!(6), json!({"nodes": ["a"]})).await;
    assert_eq!(main.json(&path).await["delivery"]["received"], 0);
    node.configure(json!({"casts": {"enabled": true}})).await;
    until_received(&main, &path, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_cast_reaches_a_program_at_a_node_that_is_connected() {
    let main = TestMaster::build().start().await;
    let node = node(&main, "a").await;
    until_known(&main, "a").await;
    let mut consumer = Consumer::of(&node, "?topic=live").await;
    let cast = json!({"topic": "live", "body": {"show": 3}, "to": {"nodes": ["a"]}});
    until("the node waits for casts", async || {
        let sending = client().post(main.url("/api/v1/casts/live")).json(&cast).send();
        let sent: Value = sending.await.unwrap().json().await.unwrap();
        (sent["nodes"] == 1).then_some(())
    })
    .await;
    let (name, cast) = consumer.next().await;
    assert_eq!((&*name, &cast["body"], &cast["n"]), ("live", &json!({"show": 3}), &Value::Null));
    // It is not kept here either.
    let path = send(&main, "live", json!("kept"), json!({"all": true})).await;
    until_received(&main, &path, 1).await;
    let mut late = Consumer::of(&node, "?after=0").await;
    assert_eq!(late.bodies(1).await, [json!("kept")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_at_a_node_has_read_is_known_at_the_main_server() {
    let main = TestMaster::build().start().await;
    let node = node(&main, "a").await;
    until_known(&main, "a").await;
    let first = send(&main, "t", json!(1), json!({"all": true})).await;
    let second = send(&main, "t", json!(2), json!({"all": true})).await;
    let mut consumer = Consumer::of(&node, "?after=0").await;
    let n = consumer.next().await.1["n"].clone();
    let read = async |n: &Value| {
        let url = node.url(&format!("/api/casts/read?n={n}"));
        client().post(url).send().await.unwrap().status()
    };
    assert_eq!((read(&n).await, read(&json!(99)).await), (StatusCode::OK, StatusCode::NOT_FOUND));
    until("the first one was read", async || {
        (main.json(&first).await["delivery"]["read"] == 1).then_some(())
    })
    .await;
    until_received(&main, &second, 1).await;
    assert_eq!(main.json(&second).await["delivery"]["read"], 0);
}

async fn socket(node: &TestNode, query: &str, fields: &str) -> Result<SocketClient, String> {
    let path = format!("/api/casts/ws{query}");
    SocketClient::connect(&node.address().to_string(), &path, fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_follows_over_a_websocket_and_says_there_what_it_has_read() {
    let main = TestMaster::build().start().await;
    let node = node(&main, "a").await;
    until_known(&main, "a").await;
    let first = send(&main, "t", json!({"text": "移到"}), json!({"all": true})).await;
    let large = send(&main, "other", json!("x".repeat(4000)), json!({"nodes": ["a"]})).await;
    let mut program = socket(&node, "?after=0", "").await.unwrap();
    let cast = program.json().await;
    assert_eq!((&cast["event"], &cast["n"]), (&json!("cast"), &json!(1)));
    assert_eq!((&cast["topic"], &cast["body"]), (&json!("t"), &json!({"text": "移到"})));
    assert_eq!(program.json().await["body"].as_str().unwrap().len(), 4000);
    program.send(0x81, b"{\"read\": 1}").await;
    until("the first one was read", async || {
        (main.json(&first).await["delivery"]["read"] == 1).then_some(())
    })
    .await;
    assert_eq!(main.json(&large).await["delivery"]["read"], 0, "of another topic");
    // One that comes again goes on where it was, and by its topic.
    let mut again = socket(&node, "?after=1&topic=other", "").await.unwrap();
    assert_eq!(again.json().await["n"], 2);
    let live = json!({"topic": "other", "body": 7, "to": {"nodes": ["a"]}});
    until("the node waits for casts", async || {
        let sending = client().post(main.url("/api/v1/casts/live")).json(&live).send();
        let sent: Value = sending.await.unwrap().json().await.unwrap();
        (sent["nodes"] == 1).then_some(())
    })
    .await;
    let cast = again.json().await;
    assert_eq!((&cast["event"], &cast["body"]), (&json!("live"), &json!(7)));
    again.send(0x82, b"x").await;
    assert_eq!(again.closed().await.0, 1003);
    let mut wrong = socket(&node, "", "").await.unwrap();
    wrong.send(0x81, b"{\"read\": 99}").await;
    let (code, reason) = wrong.closed().await;
    assert_eq!((code, &*reason), (1008, "there is no cast with number 99"));
    let metrics = node.get("/metrics").await.text().await.unwrap();
    for (reason, count) in [("kind", 1), ("message", 1), ("size", 0)] {
        let line = format!("edge_mirror_cast_socket_refusals_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    drop(node.stop().await);
    assert_eq!(program.closed().await.0, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_has_the_rights_and_the_bound_of_the_event_stream() {
    let main = TestMaster::build().start().await;
    let limits = json!({"nodeId": "a", "casts": {"maxConsumers": 1}});
    let node = TestNode::of(&main.authority()).with(limits).start().await;
    let status = |answer: Result<SocketClient, String>| {
        answer.err().map(|head| head.split(' ').nth(1).unwrap().to_owned())
    };
    let foreign = "origin: http://elsewhere\r\nsec-fetch-site: cross-site\r\n";
    assert_eq!(status(socket(&node, "", foreign).await).as_deref(), Some("403"));
    let own = format!("origin: http://{}\r\n", node.address());
    let program = socket(&node, "", &own).await.unwrap();
    assert_eq!(status(socket(&node, "", "").await).as_deref(), Some("503"));
    assert_eq!(node.get("/api/casts").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(node.get("/api/casts/ws?after=x").await.status(), StatusCode::BAD_REQUEST);
    drop(program);
    until("its place is free", async || {
        (node.get("/api/casts").await.status() == StatusCode::OK).then_some(())
    })
    .await;
    until("nobody follows", async || {
        (node.get("/api/casts/ws").await.status() == StatusCode::UPGRADE_REQUIRED).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_at_a_node_send_casts_where_its_operator_allows_it() {
    let main = TestMaster::build().start().await;
    let (from, to) = (node(&main, "from").await, node(&main, "to").await);
    for id in ["from", "to"] {
        until_known(&main, id).await;
    }
    let cast = json!({"topic": "t", "body": "hello", "to": {"nodes": ["to"]}, "key": "k"});
    let (status, refusal) = from.post("/api/casts", cast.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refusal}");
    from.configure(json!({"casts": {"allowSend": true}})).await;
    let (status, sent) = from.post("/api/casts", cast.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{sent}");
    assert_eq!((&sent["from"], &sent["by"]["how"]), (&json!("from"), &json!("node")));
    assert_eq!(from.post("/api/casts", cast.clone()).await.1, sent, "sent once");
    let mut program = Consumer::of(&to, "?after=0").await;
    let (_, received) = program.next().await;
    assert_eq!((&received["body"], &received["from"]), (&json!("hello"), &json!("from")));
    let mut other = cast.clone();
    other["body"] = json!("another");
    assert_eq!(from.post("/api/casts", other).await.0, StatusCode::CONFLICT);
    // The key is this node's alone.
    let of_operator = client().post(main.url("/api/v1/casts")).json(&cast).send().await.unwrap();
    let of_operator: Value = of_operator.json().await.unwrap();
    assert!(of_operator["id"] != sent["id"] && of_operator["key"] == "k", "{of_operator}");
    let nobody = json!({"topic": "t", "body": 1, "to": {"nodes": ["x"]}});
    let (status, refusal) = from.post("/api/casts", nobody).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refusal["detail"].as_str().unwrap().ends_with("no such node: x"), "{refusal}");
    let (status, sent) = from.post("/api/casts", json!([cast, cast])).await;
    assert_eq!((status, sent["casts"].as_array().unwrap().len()), (StatusCode::CREATED, 2));
    let _stopped = main.stop().await;
    let (status, refusal) = from.post("/api/casts", cast).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal["detail"].as_str().unwrap().contains("did not answer"), "{refusal}");
}
