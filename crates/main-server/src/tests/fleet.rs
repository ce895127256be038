//! Nodes that are known, and those who may be one.

use edge_mirror_settings::SecurityConfig;
use edge_mirror_store::testing::zip_of;
use reqwest::RequestBuilder;

use super::*;
use crate::{LiveOptions, NodePolicy};

const NODES: &str = "/api/v1/fleet/nodes";
const HALL: &str = "10.0.0.7";
const STRANGER: &str = "10.0.0.66";

/// A main server that believes what a proxy on this machine says of clients.
async fn behind_proxy(policy: NodePolicy) -> TestMaster {
    let folder = tempfile::tempdir().unwrap();
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let security = SecurityConfig { trusted_proxies, ..SecurityConfig::default() };
    let live = LiveOptions { security, nodes: policy, ..LiveOptions::default() };
    let options = MasterOptions { live, ..options(&folder, LONG) };
    TestMaster::with_options(folder, options).await
}

impl TestMaster {
    fn sent_by(&self, method: Method, path: &str, client: &str) -> RequestBuilder {
        self.request(method, path).header("x-forwarded-for", client)
    }

    /// Registers and sends a heartbeat; both succeed for whoever does so.
    /// Returns how the node is told that it stands.
    async fn calls_from(
        &self,
        client: &str,
        node_id: &str,
        address: &str,
        sha256: Option<&str>,
    ) -> Value {
        let register = json!({"node_id": node_id, "address": address, "status": "online"});
        let request = self.sent_by(Method::POST, "/api/v1/nodes/register", client);
        let (status, answer) = both(request.json(&register)).await;
        let message = format!("Node {node_id} registered");
        assert_eq!((status, &answer["message"]), (StatusCode::OK, &json!(message)));
        let held: Vec<_> =
            sha256.iter().map(|sha256| json!({"id": "m", "sha256": sha256})).collect();
        let relay = json!({"address": address, "https": false, "site": "", "max_children": 4});
        let beat = json!({
            "node_id": node_id, "address": address, "status": "online",
            "active_meetings": [], "synced_meetings": [], "mirror": {
                "version": "1.0", "downloads": 0, "free_bytes": 1, "packages": held, "relay": relay,
            },
        });
        let request = self.sent_by(Method::POST, "/api/v1/nodes/heartbeat", client);
        let (status, answer) = both(request.json(&beat)).await;
        assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("success")), "{answer}");
        assert!(answer["timestamp"].is_f64());
        answer["mirror"]["admission"].clone()
    }

    /// The ids in a list of the fleet.
    async fn fleet(&self, list: &str) -> Vec<String> {
        let fleet = self.json(NODES).await;
        let nodes = fleet[list].as_array().unwrap().iter();
        nodes.map(|node| node["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn known_node(&self, id: &str) -> Value {
        let fleet = self.json(NODES).await;
        let nodes = fleet["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["id"] == id).unwrap_or_default()
    }

    pub(super) async fn until_known(&self, id: &str) {
        let ends = Instant::now() + GRACE * 4;
        while !self.fleet("nodes").await.contains(&id.to_owned()) {
            assert!(Instant::now() < ends, "{id} is not known");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn problem_codes(&self) -> Vec<String> {
        let overview = self.json("/api/v1/overview").await;
        let problems = overview["problems"].as_array().unwrap().iter();
        problems.map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
    }

    async fn decide(&self, id: &str, what: &str) -> (StatusCode, Value) {
        both(self.request(Method::POST, &format!("{NODES}/{id}/{what}"))).await
    }

    async fn edit(&self, id: &str, edit: Value) -> (StatusCode, Value) {
        both(self.request(Method::PATCH, &format!("{NODES}/{id}")).json(&edit)).await
    }

    async fn metric(&self, state: &str) -> String {
        let page = self.get("/metrics").await.text().await.unwrap();
        let name = format!("edge_mirror_master_nodes{{state=\"{state}\"}} ");
        let line = page.lines().find(|line| line.starts_with(&name)).unwrap();
        line[name.len()..].to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_waits_for_an_operator_and_gets_nothing_until_then() {
    let t = behind_proxy(NodePolicy::Approve).await;
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    let (address, _node) = fake_node("hall").await;
    assert_eq!(t.calls_from(HALL, "hall", &address, Some(&sha256)).await, "pending");
    t.started("m").await;
    assert_eq!(t.fleet("pending").await, ["hall"]);
    assert_eq!(t.fleet("nodes").await, [""; 0]);
    assert_eq!(t.json("/api/v1/nodes/list").await, json!([]));
    assert_eq!(t.json("/api/v1/nodes/available").await["count"], 0);
    assert_eq!(t.problem_codes().await, ["no_nodes", "nodes_pending"]);
    assert_eq!((t.metric("pending").await, t.metric("reachable").await), ("1".into(), "0".into()));
    let download = t.get("/api/v1/meetings/m/download-package").await;
    assert_eq!(download.status(), 200, "from here");

    let (status, node) = t.decide("hall", "approve").await;
    assert_eq!((status, &node["state"]), (StatusCode::OK, &json!("present")), "{node}");
    assert_eq!(node["client"], HALL);
    assert_eq!(t.calls_from(HALL, "hall", &address, Some(&sha256)).await, Value::Null);
    t.reached("hall").await;
    let download = t.get("/api/v1/meetings/m/download-package").await;
    assert_eq!(download.status(), 302);
    assert_eq!(t.fleet("pending").await, [""; 0]);
    assert_eq!(t.decide("hall", "approve").await.0, 404, "it does not wait any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_neither_the_key_of_the_fleet_nor_a_parent() {
    let t = behind_proxy(NodePolicy::Approve).await;
    t.meeting("m", &zip_of(b"x")).await;
    t.started("m").await;
    t.calls_from(HALL, "hall", "10.0.0.7:8001", None).await;
    t.decide("hall", "approve").await;
    t.calls_from(HALL, "hall", "10.0.0.7:8001", None).await;
    let poll = async |client: &str| {
        let request = t.sent_by(Method::GET, "/api/v1/meetings/status/node", client);
        let request = request.header("edge-mirror-accept", "version=1, packages, relay");
        let answer: Value =
            request.header("edge-mirror-node", "hall").send().await.unwrap().json().await.unwrap();
        answer["edge_mirror"]["relay"].clone()
    };
    assert!(poll(HALL).await["key"].is_string());
    assert_eq!(poll(STRANGER).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_proves_itself_is_known_at_once_and_stays_so() {
    let t = behind_proxy(NodePolicy::Approve).await;
    t.register("local", "127.0.0.1:1").await;
    t.until_known("local").await;
    let (_, key) = t.post("/api/v1/nodes/key", json!({})).await;
    let key = key["key"].as_str().unwrap().to_owned();
    let body = json!({"node_id": "keyed", "address": "10.0.0.7:8001", "status": "online"});
    let register = |client: &str| {
        let request = t.sent_by(Method::POST, "/api/v1/nodes/register", client);
        request.header("x-api-key", &key).json(&body)
    };
    assert_eq!(both(register(HALL)).await.0, 200);
    t.until_known("keyed").await;
    // It has another address since.
    assert_eq!(both(register("10.0.0.8")).await.0, 200);
    let ends = Instant::now() + GRACE * 4;
    while t.known_node("keyed").await["client"] != "10.0.0.8" {
        assert!(Instant::now() < ends);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(t.fleet("pending").await, [""; 0]);
    let t = t.restarted().await;
    assert_eq!(t.fleet("nodes").await, ["keyed", "local"]);
    let node = t.known_node("local").await;
    assert_eq!(node["state"], "awaited", "it has 30 s: {node}");
    assert!(node["last_seen"].is_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_is_not_taken_over_without_a_question() {
    let t = behind_proxy(NodePolicy::Approve).await;
    t.calls_from(HALL, "hall", "10.0.0.7:8001", None).await;
    t.decide("hall", "approve").await;
    t.calls_from(STRANGER, "hall", "10.0.0.66:8001", None).await;
    let listed = t.json("/api/v1/nodes/list").await;
    assert_eq!(listed[0]["address"], "10.0.0.7:8001");
    let fleet = t.json(NODES).await;
    let pending = &fleet["pending"][0];
    assert_eq!(
        (&pending["moves_from"], &pending["address"]),
        (&json!("10.0.0.7:8001"), &json!("10.0.0.66:8001"))
    );
    let codes = t.problem_codes().await;
    assert!(codes.contains(&"node_moves".into()) && !codes.contains(&"nodes_pending".into()));
    // Nor is it sent away, and of another one than was shown nothing is decided.
    let goodbye = t.sent_by(Method::POST, "/api/v1/nodes/unregister", "10.0.0.99");
    assert_eq!(both(goodbye.json(&json!({"node_id": "hall"}))).await.0, 404);
    assert_eq!(t.json("/api/v1/nodes/list").await.as_array().unwrap().len(), 1);
    assert_eq!(t.decide("hall", "approve?client=10.0.0.9").await.0, 409);
    assert_eq!(t.decide("hall", "refuse?client=10.0.0.9").await.0, 409);

    assert_eq!(t.decide("hall", "refuse").await.0, 200);
    t.calls_from(STRANGER, "hall", "10.0.0.66:8001", None).await;
    assert_eq!((t.fleet("pending").await, t.fleet("refused").await), (vec![], vec!["hall".into()]));
    let node = t.known_node("hall").await;
    assert_eq!(node["client"], HALL);

    // It moves in earnest.
    t.calls_from("10.0.0.8", "hall", "10.0.0.8:8001", None).await;
    let (status, node) = t.decide("hall", "approve?client=10.0.0.8").await;
    assert_eq!((status, &node["address"]), (StatusCode::OK, &json!("10.0.0.8:8001")));
    assert_eq!(t.json("/api/v1/nodes/list").await[0]["address"], "10.0.0.8:8001");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_name_is_not_taken_over_from_the_same_network_of_ipv6() {
    let t = behind_proxy(NodePolicy::Approve).await;
    t.calls_from("2001:db8::1", "hall", "[2001:db8::1]:8001", None).await;
    assert_eq!(t.decide("hall", "approve").await.0, 200);
    t.calls_from("2001:db8::2", "hall", "[2001:db8::2]:8001", None).await;
    let listed = t.json("/api/v1/nodes/list").await;
    assert_eq!(listed[0]["address"], "[2001:db8::1]:8001");
    let fleet = t.json(NODES).await;
    assert_eq!((&fleet["nodes"][0]["client"]), &json!("2001:db8::1"));
    assert_eq!(fleet["pending"][0]["client"], "2001:db8::2");
    let goodbye = t.sent_by(Method::POST, "/api/v1/nodes/unregister", "2001:db8::3");
    assert_eq!(both(goodbye.json(&json!({"node_id": "hall"}))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_node_stays_refused_until_somebody_thinks_better_of_it() {
    let t = behind_proxy(NodePolicy::Open).await;
    assert!(t.problem_codes().await.contains(&"open_nodes".to_owned()));
    t.calls_from(STRANGER, "x", "10.0.0.66:8001", None).await;
    t.until_known("x").await;
    assert_eq!(t.decide("x", "refuse").await.0, 404, "it does not wait");
    assert_eq!(t.decide("x", "refuse?client=10.0.0.9").await.0, 409);
    assert_eq!(t.fleet("nodes").await, ["x"]);
    assert_eq!(t.decide("x", &format!("refuse?client={STRANGER}")).await.0, 200);
    t.calls_from(STRANGER, "x", "10.0.0.66:8001", None).await;
    let t = {
        let TestMaster { folder, master, client } = t;
        drop(client);
        assert!(master.shut_down(GRACE).await);
        TestMaster::in_folder(folder, LONG).await
    };
    assert_eq!((t.fleet("nodes").await, t.fleet("refused").await), (vec![], vec!["x".into()]));
    assert_eq!(t.decide("x", "approve").await.0, 200);
    assert_eq!((t.fleet("nodes").await, t.fleet("refused").await), (vec!["x".into()], vec![]));
    assert_eq!(both(t.request(Method::DELETE, &format!("{NODES}/x"))).await.0, 200);
    assert_eq!(both(t.request(Method::DELETE, &format!("{NODES}/x"))).await.0, 404);
    assert_eq!(t.fleet("nodes").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_write_of_a_node_stays_and_a_drained_one_gets_no_clients() {
    let t = TestMaster::start().await;
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    let (address, _node) = fake_node("大厅").await;
    t.register("大厅", &address).await;
    t.beat("大厅", &address, &[("m", &sha256)], 0).await;
    t.reached("大厅").await;
    t.started("m").await;
    t.until_known("大厅").await;
    let download = async || t.get("/api/v1/meetings/m/download-package").await.status();
    assert_eq!(download().await, 302);
    let edit = json!({"name": "1 号厅", "labels": ["东"], "weight": 3, "drained": true});
    let (status, node) = t.edit("大厅", edit).await;
    assert_eq!(
        (status, &node["name"], &node["weight"]),
        (StatusCode::OK, &json!("1 号厅"), &json!(3))
    );
    assert_eq!(download().await, 200, "from here");
    assert_eq!(t.json("/api/v1/nodes/available").await["count"], 0);
    assert_eq!((t.metric("drained").await, t.metric("reachable").await), ("1".into(), "0".into()));
    assert_eq!(t.edit("大厅", json!({"site": "东区"})).await.1["name"], "1 号厅");
    let readiness = t.json("/api/v1/meetings/m/readiness").await;
    assert_eq!(readiness["nodes"][0]["site"], "东区");
    let overview = t.json("/api/v1/overview").await;
    assert_eq!(
        (&overview["nodes"][0]["site"], &overview["policy"]),
        (&json!("东区"), &json!("approve"))
    );
    let (status, refused) = t.edit("大厅", json!({"weight": 0})).await;
    assert_eq!(status, 400);
    assert!(refused["detail"].as_str().unwrap().contains("weight must be"), "{refused}");
    assert_eq!(t.edit("nobody", json!({})).await.0, 404);
    let t = t.restarted().await;
    let node = t.known_node("大厅").await;
    assert_eq!((&node["name"], &node["drained"]), (&json!("1 号厅"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_save_nothing() {
    let t = TestMaster::start().await;
    t.register("a", "127.0.0.1:1").await;
    t.until_known("a").await;
    let file = t.folder.path().join("data/state.sqlite-wal");
    let size = || std::fs::metadata(&file).map_or(0, |wal| wal.len());
    let before = size();
    for _ in 0..50 {
        t.beat("a", "127.0.0.1:1", &[], 0).await;
    }
    assert_eq!(size(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_nobody_of_a_start_before_the_nodes_are_back() {
    let t = TestMaster::start().await;
    let (address, _node) = fake_node("n1").await;
    t.register("n1", &address).await;
    t.beat("n1", &address, &[], 0).await;
    t.reached("n1").await;
    while t.master.server.known().get("n1").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    t.started("m").await;
    let before = t.token().await;
    let t = t.restarted().await;
    // With any change, starts that are due are announced.
    let (status, _) = t.post("/api/v1/meetings", json!({"title": "T", "id": "other"})).await;
    assert_eq!((status, t.token().await), (StatusCode::CREATED, before.clone()));
    t.register("n1", &address).await;
    t.reached("n1").await;
    let (status, _) = t.post("/api/v1/meetings", json!({"title": "T", "id": "third"})).await;
    assert_eq!((status, t.token().await), (StatusCode::CREATED, before.clone()));
    t.beat("n1", &address, &[("m", &sha256)], 0).await;
    t.until_token_changes(&before).await;
}
