//! Packages that are spread before their meetings start.

use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::planned::{fleet, served};
use crate::support::{TestMaster, TestNode, client, metrics::Metrics, until, zips::big_zip};

/// A meeting that has not been started, whose package is being spread.
async fn distributed(master: &TestMaster, id: &str, package: &[u8]) {
    master.create(id, "Budget").await;
    master.put(id, package).await;
    master.distribute(id).await;
}

async fn until_early(node: &TestNode, id: &str) -> Value {
    until(&format!("{id} waits for its start"), async || {
        let meeting = node.meeting(id).await;
        (meeting["state"] == "prestaged").then_some(meeting)
    })
    .await
}

/// Waits until the pull under way has received some bytes, and returns how many.
async fn until_received(node: &TestNode, id: &str, bytes: u64) -> u64 {
    until(&format!("{bytes} bytes of {id}"), async || {
        node.meeting(id).await["received"].as_u64().filter(|received| *received >= bytes)
    })
    .await
}

async fn pulled(node: &TestNode) -> f64 {
    Metrics::of(&node.url("")).await.get("edge_mirror_pulled_bytes_total")
}

async fn told(answer: Response) -> (StatusCode, Vec<String>, String) {
    let mut headers: Vec<_> =
        answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
    headers.sort();
    (answer.status(), headers, answer.text().await.unwrap())
}

/// Checks that a tablet learns as little of the meeting as of one that there is not.
async fn assert_unknown(node: &TestNode, id: &str) {
    let routes = ["/api/v1/meetings/ID/download-package", "/api/meetings/ID/download"];
    let asked = routes.into_iter().flat_map(|route| {
        [
            (route, Method::GET, None),
            (route, Method::HEAD, None),
            (route, Method::GET, Some("bytes=0-9")),
            (route, Method::GET, Some("bytes=-5")),
        ]
    });
    let checks = asked.map(|(route, method, range)| async move {
        let ask = async |id: &str| {
            let request = client().request(method.clone(), node.url(&route.replace("ID", id)));
            let request = match range {
                Some(range) => request.header("range", range),
                None => request,
            };
            told(request.send().await.unwrap()).await
        };
        let (known, unknown) = tokio::join!(ask(id), ask("no-such-meeting"));
        assert_eq!(known.0, StatusCode::NOT_FOUND, "{method} {route} {range:?}");
        assert_eq!(known, unknown, "{method} {route} {range:?}");
    });
    join_all(checks).await;
}

async fn end(nodes: Vec<TestNode>, master: TestMaster) {
    for node in nodes {
        assert!(node.shut_down().await);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_everywhere_before_the_start_and_ready_at_once_then() {
    let master = TestMaster::build().start().await;
    let (nodes, package) = (fleet(&master, 2).await, big_zip(4 << 20, 1));
    distributed(&master, "m", &package).await;
    for node in &nodes {
        let meeting = until_early(node, "m").await;
        let shown = ["title", "active", "prestaged"].map(|field| meeting[field].clone());
        assert_eq!(shown, [json!("Budget"), json!(false), json!(true)]);
        let status = node.status().await;
        assert_eq!(status["active_meetings"], json!([]), "clients that list them find none");
        let removed = client().delete(node.url("/api/meetings/m")).send().await.unwrap();
        assert_eq!(removed.status(), StatusCode::CONFLICT, "{}", removed.text().await.unwrap());
    }
    assert_eq!(served(&master).await, package.len() as f64, "once");
    master.until_held_by("m", &["node-0", "node-1"]).await;
    master.distribute("m").await;
    for node in &nodes {
        assert_unknown(node, "m").await;
    }
    assert_eq!(master.ask_for("m").await.status(), StatusCode::NOT_FOUND);

    let (sent, token) = (served(&master).await, master.token().await);
    master.begin("m").await;
    assert_ne!(master.token().await, token, "clients are told at once");
    for node in &nodes {
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
        node.until_synced("m").await;
        assert_eq!(node.meeting("m").await.get("prestaged"), None);
    }
    assert!(master.redirect("m").await.is_some(), "clients are sent to nodes");
    assert_eq!(served(&master).await, sent, "no byte more");
    end(nodes, master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_node_that_has_not_heard_of_it_yet_gets_nothing_either() {
    for relaying in [true, false] {
        let master = TestMaster::build().start().await;
        let (authority, package) = (master.authority(), big_zip(1 << 20, 1));
        distributed(&master, "m", &package).await;
        let master = master.stop().await;
        let config = json!({
            "relay": {"enabled": relaying},
            "network": {"retryCount": 100, "retryDelay": 1},
        });
        let node = TestNode::of(&authority).with(config).start().await;
        // Its pull begins before the node knows of any meeting.
        let asked = async {
            let (status, bytes) = node.download("m").await;
            assert_eq!(status, StatusCode::NOT_FOUND, "relaying: {relaying}, {}", bytes.len());
        };
        let comes_back = async {
            until("the pull has begun", async || {
                (!node.meeting("m").await.is_null()).then_some(())
            })
            .await;
            master.start().await
        };
        let ((), master) = tokio::join!(asked, comes_back);
        // Who does not pass packages on is told nothing of it.
        if relaying {
            until_early(&node, "m").await;
        }
        assert_unknown(&node, "m").await;
        master.begin("m").await;
        assert!(node.download("m").await == (StatusCode::OK, package));
        end(vec![node], master).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_way_to_a_meeting_that_starts_and_keeps_what_it_has() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 1).await;
    let (early, urgent) = (big_zip(6 << 20, 1), big_zip(3 << 20, 2));
    let node = nodes.remove(0);
    node.configure(json!({"network": {"bandwidth": 1_000_000, "maxConcurrentDownloads": 1}})).await;
    distributed(&master, "early", &early).await;
    until_received(&node, "early", 1 << 19).await;
    assert_unknown(&node, "early").await;
    master.begin_with("urgent", &urgent).await;
    until_received(&node, "urgent", 1 << 19).await;
    let before = node.meeting("early").await;
    assert_eq!(before["state"], "waiting", "{before}");
    until_received(&node, "urgent", 2 << 20).await;
    assert_eq!(node.meeting("early").await["received"], before["received"]);
    node.until_synced("urgent").await;
    node.configure(json!({"network": {"bandwidth": 0}})).await;
    until_early(&node, "early").await;
    assert_eq!(pulled(&node).await, (early.len() + urgent.len()) as f64, "nothing twice");
    end(vec![node], master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_gives_way_too_and_goes_on_from_its_parent() {
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 3).await;
    let (early, urgent) = (big_zip(6 << 20, 1), big_zip(3 << 20, 2));
    for node in &nodes {
        node.configure(json!({"network": {"bandwidth": 3_000_000}})).await;
    }
    distributed(&master, "early", &early).await;
    for node in &nodes {
        until_received(node, "early", 1 << 20).await;
    }
    master.begin_with("urgent", &urgent).await;
    for node in &nodes {
        node.until_synced("urgent").await;
    }
    for node in &nodes {
        until_early(node, "early").await;
        assert_eq!(pulled(node).await, (early.len() + urgent.len()) as f64, "nothing twice");
    }
    end(nodes, master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_way_is_not_held_up_by_the_schedule() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 1).await;
    let (node, package) = (nodes.remove(0), big_zip(3 << 20, 1));
    let schedule = |limit: &str| json!({"network": {"schedule": [format!("00:00-24:00 {limit}")]}});
    node.configure(schedule("off")).await;
    distributed(&master, "m", &package).await;
    until("it waits", async || (node.meeting("m").await["state"] == "waiting").then_some(())).await;
    assert_eq!(served(&master).await, 0.0);
    // Live.
    node.configure(schedule("100KB")).await;
    let received = until_received(&node, "m", 1 << 17).await;
    assert!(received < 2 << 20, "{received} at once");
    node.configure(schedule("off")).await;
    until("it waits", async || (node.meeting("m").await["state"] == "waiting").then_some(())).await;
    node.configure(schedule("100KB")).await;
    until_received(&node, "m", received + 1).await;
    // The rest would take half a minute.
    let began = std::time::Instant::now();
    master.begin("m").await;
    node.until_synced("m").await;
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert_eq!(pulled(&node).await, package.len() as f64, "nothing twice");
    end(vec![node], master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_parent_sends_early_is_limited_by_its_own_schedule_until_the_start() {
    let master = TestMaster::build().start().await;
    let (nodes, package) = (fleet(&master, 2).await, big_zip(3 << 20, 1));
    let schedule = |limit: &str| json!({"relay": {"schedule": [format!("00:00-24:00 {limit}")]}});
    for node in &nodes {
        node.configure(schedule("100KB")).await;
    }
    distributed(&master, "m", &package).await;
    let (child, _) = until("one has it, and one does not", async || {
        let states = [nodes[0].meeting("m").await, nodes[1].meeting("m").await];
        let child = states.iter().position(|meeting| meeting["state"] == "pulling")?;
        (states[1 - child]["state"] == "prestaged").then_some((child, states))
    })
    .await;
    let began = std::time::Instant::now();
    master.begin("m").await;
    nodes[child].until_synced("m").await;
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert_eq!(served(&master).await, package.len() as f64);

    // Where it allows nothing, the main server sends it.
    let other = big_zip(1 << 20, 2);
    for node in &nodes {
        node.configure(schedule("off")).await;
    }
    distributed(&master, "n", &other).await;
    for node in &nodes {
        until_early(node, "n").await;
    }
    assert_eq!(served(&master).await, (package.len() + 2 * other.len()) as f64);
    let mut refused = [0.0; 2];
    for node in &nodes {
        let metrics = Metrics::of(&node.url("")).await;
        for (sum, reason) in refused.iter_mut().zip(["schedule", "busy"]) {
            let name = "edge_mirror_relay_refused_children_total";
            *sum += metrics.get(&format!("{name}{{reason=\"{reason}\"}}"));
        }
    }
    assert!(refused[0] > 0.0 && refused[1] == 0.0, "{refused:?}");
    end(nodes, master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_survives_restarts_and_clients_get_nothing_meanwhile() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 2).await;
    let package = big_zip(3 << 20, 1);
    for node in &nodes {
        node.configure(json!({"network": {"schedule": ["00:00-24:00 200KB"]}})).await;
    }
    distributed(&master, "m", &package).await;
    for node in &nodes {
        until_received(node, "m", 1 << 18).await;
    }
    let master = master.stop().await.start().await;
    let stopped = nodes.remove(0).stop().await;
    nodes.push(stopped.with(json!({"network": {"schedule": []}})).start().await);
    nodes[0].configure(json!({"network": {"schedule": []}})).await;
    for node in &nodes {
        until_early(node, "m").await;
    }
    // Without a main server, the node knows by itself that it must not give it.
    let master = master.stop().await;
    let node = nodes.remove(0).stop().await.start().await;
    let refused = node.download("m").await.0;
    assert_eq!(refused, StatusCode::NOT_FOUND);
    nodes.push(node);
    let master = master.start().await;
    for node in &nodes {
        until_early(node, "m").await;
    }
    let sent = served(&master).await;
    master.begin("m").await;
    for node in &nodes {
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    assert_eq!(served(&master).await, sent);
    end(nodes, master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_taken_back_goes_and_another_version_takes_its_place() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 1).await;
    let node = nodes.remove(0);
    node.configure(json!({"cleanup": {"graceSeconds": 0}})).await;
    for id in ["deleted", "back", "changed"] {
        distributed(&master, id, &big_zip(1 << 20, 1)).await;
    }
    for id in ["deleted", "back", "changed"] {
        until_early(&node, id).await;
    }
    master.delete("deleted").await;
    master.end_distribution("back").await;
    master.end_distribution("back").await;
    let other = big_zip(1 << 20, 2);
    master.put("changed", &other).await;
    for id in ["deleted", "back"] {
        until("it is gone", async || node.meeting(id).await.is_null().then_some(())).await;
    }
    let sha256 = master.json("/api/v1/meetings/changed").await["sha256"].clone();
    until("the other version", async || {
        let meeting = node.meeting("changed").await;
        (meeting["state"] == "prestaged" && meeting["sha256"] == sha256).then_some(())
    })
    .await;
    let sent = served(&master).await;
    master.begin("changed").await;
    assert!(node.download("changed").await == (StatusCode::OK, other));
    assert_eq!(served(&master).await, sent);
    end(vec![node], master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_it_is_left_out_and_goes_before_what_is_needed() {
    let master = TestMaster::build().start().await;
    let mut nodes = Vec::new();
    for (n, megabytes) in [(0, 10), (1, 100)] {
        let config =
            json!({"nodeId": format!("node-{n}"), "storage": {"maxSize": megabytes << 20}});
        nodes.push(TestNode::of(&master.authority()).with(config).start().await);
        master.until_reached(&format!("node-{n}")).await;
    }
    distributed(&master, "early", &big_zip(5 << 20, 1)).await;
    distributed(&master, "large", &big_zip(12 << 20, 2)).await;
    until_early(&nodes[1], "large").await;
    for node in &nodes {
        until_early(node, "early").await;
    }
    until("it says so", async || {
        let meeting = nodes[0].meeting("large").await;
        (meeting["state"] == "failing" && meeting["cause"] == "no_room").then_some(())
    })
    .await;
    master.until_held_by("early", &["node-0", "node-1"]).await;
    let urgent = big_zip(6 << 20, 3);
    master.begin_with("urgent", &urgent).await;
    for node in &nodes {
        node.until_synced("urgent").await;
        assert!(node.download("urgent").await == (StatusCode::OK, urgent.clone()));
    }
    master.until_held_by("early", &["node-1"]).await;
    end(nodes, master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_know_of_it_hold_nobody_up() {
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 2).await;
    for name in ["a", "b"] {
        let heartbeat = json!({
            "node_id": name, "address": "127.0.0.1:9", "status": "online",
            "active_meetings": [], "synced_meetings": [],
            "mirror": {
                "version": "0", "downloads": 0, "free_bytes": 1, "packages": [], "pulls": [],
                "relay": {"address": "127.0.0.1:9", "max_children": 4},
            },
        });
        let url = master.url("/api/v1/nodes/heartbeat");
        let answer = client().post(url).json(&heartbeat).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let package = big_zip(1 << 20, 1);
    distributed(&master, "m", &package).await;
    for node in &nodes {
        until_early(node, "m").await;
    }
    master.begin("m").await;
    for node in &nodes {
        assert!(node.download("m").await == (StatusCode::OK, package.clone()));
    }
    end(nodes, master).await;
}
