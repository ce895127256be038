//! A real main server on loopback, spoken to over HTTP.

mod cast_delivery;
mod castray;
mod casts;
mod dispatch;
mod dispatch_urls;
mod fleet;
mod gofd;
mod gofd_agents;
mod history;
mod live_casts;
mod packages;
mod remote_tasks;
mod routing;
mod sharing;
mod virtual_nodes;

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::get};
use edge_mirror_base::tasks::{self, Tasks};
use edge_mirror_http::{listen::Listener, tls};
use edge_mirror_protocol::package::Sha256;
use edge_mirror_store::testing::{put, zip_of};
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::Digest;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    Master, MasterError, MasterOptions, StateError, StateLocation,
    repository::{
        OpenedRepository, StateRepository,
        testing::{PASSWORD, TestPostgres},
    },
    state::newcomers::MAX_A_MINUTE,
};

const GRACE: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(600);

pub(crate) struct TestMaster {
    folder: TempDir,
    pub(crate) master: Master,
    client: Client,
}

impl TestMaster {
    pub(crate) async fn start() -> Self {
        Self::with(LONG).await
    }

    async fn with(announce_timeout: Duration) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), announce_timeout).await
    }

    async fn in_folder(folder: TempDir, announce_timeout: Duration) -> Self {
        let options = options(&folder, announce_timeout);
        Self::with_options(folder, options).await
    }

    async fn with_options(folder: TempDir, options: MasterOptions) -> Self {
        let master = Master::start(options).await.unwrap();
        let client =
            tls::http(tls::client()).redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { folder, master, client }
    }

    async fn restarted(self) -> Self {
        Self::in_folder(self.stopped().await, LONG).await
    }

    /// Stops it, and returns its folder.
    async fn stopped(self) -> TempDir {
        let Self { folder, master, client } = self;
        drop(client);
        assert!(master.shut_down(GRACE).await);
        folder
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.master.address())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        both(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn upload(&self, id: &str, zip: Vec<u8>) -> (StatusCode, Value) {
        let path = format!("/api/v1/meetings/{id}/package");
        both(self.request(Method::PUT, &path).body(zip)).await
    }

    /// A meeting with a package, not started.
    pub(crate) async fn meeting(&self, id: &str, zip: &[u8]) -> String {
        let (status, _) =
            self.post("/api/v1/meetings", json!({"title": "会议 <b>", "id": id})).await;
        assert_eq!(status, 201);
        let (status, meeting) = self.upload(id, zip.to_vec()).await;
        assert_eq!(status, 200, "{meeting}");
        meeting["sha256"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn started(&self, id: &str) {
        let (status, meeting) =
            self.post(&format!("/api/v1/meetings/{id}/start"), Value::Null).await;
        assert_eq!((status, &meeting["status"]), (StatusCode::OK, &json!("进行中")));
    }

    async fn token(&self) -> String {
        let status = self.json("/api/v1/meetings/status/token").await;
        status["id"].as_str().unwrap().to_owned()
    }

    async fn register(&self, node_id: &str, address: &str) {
        let body = json!({"node_id": node_id, "address": address, "status": "online"});
        let (status, answer) = self.post("/api/v1/nodes/register", body).await;
        let message = format!("Node {node_id} registered");
        assert_eq!((status, &answer["message"]), (StatusCode::OK, &json!(message)));
    }

    /// A heartbeat of our kind of node, with the packages that it has.
    async fn beat(&self, node_id: &str, address: &str, packages: &[(&str, &str)], downloads: u64) {
        let held: Vec<_> =
            packages.iter().map(|(id, sha256)| json!({"id": id, "sha256": sha256})).collect();
        let ids: Vec<_> = packages.iter().map(|(id, _)| id).collect();
        let body = json!({
            "node_id": node_id, "address": address, "status": "online",
            "active_meetings": [], "synced_meetings": ids, "mirror": {
                "version": "1.0", "downloads": downloads, "free_bytes": 1, "packages": held,
            },
        });
        let (status, answer) = self.post("/api/v1/nodes/heartbeat", body).await;
        assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("success")));
    }

    /// A heartbeat of the old kind.
    async fn old_beat(&self, node_id: &str, address: &str, synced: &[&str]) {
        let body = json!({
            "node_id": node_id, "address": address, "status": "online",
            "active_meetings": [{"id": "x", "title": "X"}], "synced_meetings": synced,
        });
        assert_eq!(self.post("/api/v1/nodes/heartbeat", body).await.0, 200);
    }

    async fn node(&self, node_id: &str) -> Value {
        let list = self.json("/api/v1/nodes/list").await;
        let found = list.as_array().unwrap().iter().find(|node| node["node_id"] == node_id);
        found.cloned().unwrap_or_default()
    }

    /// Waits until the node's listing is as wanted.
    async fn until(&self, node_id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let node = self.node(node_id).await;
                if wanted(&node) {
                    return node;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(node) => node,
            Err(_) => panic!("in vain: {}", self.node(node_id).await),
        }
    }

    pub(crate) async fn reached(&self, node_id: &str) {
        self.until(node_id, |node| node["reachable"] == true).await;
    }

    async fn until_token_changes(&self, from: &str) {
        let waiting = async {
            while self.token().await == from {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the token stayed");
    }
}

fn options(folder: &TempDir, announce_timeout: Duration) -> MasterOptions {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    MasterOptions {
        data: folder.path().join("data"),
        listen,
        announce_timeout,
        ..MasterOptions::default()
    }
}

async fn both(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

/// Something that answers `/api/status` as a node does.
pub(crate) async fn fake_node(node_id: &'static str) -> (String, Tasks) {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.address().to_string();
    let status = get(move || async move { Json(json!({"node_id": node_id})) });
    let tasks = Tasks::new();
    let router = Router::new().route("/api/status", status);
    tasks.spawn("fake node", listener.serve(router, tasks.clone(), CancellationToken::new()));
    (address, tasks)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn location(answer: &reqwest::Response) -> Option<&str> {
    answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digests_of_a_packages_pieces_are_told_with_the_version_that_they_are_of() {
    let t = TestMaster::start().await;
    let papers = zip_of(&vec![7; (2 << 20) + 5]);
    let sha256 = t.meeting("m", &papers).await;
    let path = "/api/v1/meetings/m/package-pieces";
    let answer = t.get(path).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["etag"], format!("\"{sha256}\""));
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let expected: Vec<u8> = papers.chunks(1 << 20).flat_map(sha2::Sha256::digest).collect();
    assert_eq!(answer.bytes().await.unwrap(), expected);
    t.upload("m", zip_of(b"others")).await;
    assert_eq!(t.get(path).await.bytes().await.unwrap().len(), 32);
    t.post("/api/v1/meetings", json!({"title": "without", "id": "bare"})).await;
    assert_eq!(t.get("/api/v1/meetings/bare/package-pieces").await.status(), 404);
    assert_eq!(t.get("/api/v1/meetings/none/package-pieces").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go_as_the_contract_says() {
    let t = TestMaster::start().await;
    t.register("a", "127.0.0.1:1").await;
    for (id, title) in [("x", "X"), ("m1", "M")] {
        t.post("/api/v1/meetings", json!({"id": id, "title": title})).await;
    }
    t.old_beat("b", "127.0.0.1:2", &["m1"]).await;
    t.old_beat("a", "127.0.0.1:9", &[]).await;
    let (a, b) = (t.node("a").await, t.node("b").await);
    assert_eq!(a["address"], "127.0.0.1:1", "not taken from a heartbeat");
    assert_eq!(b["active_meetings"], json!([{"id": "x", "title": "X"}]));
    assert_eq!((&b["active_meeting"], &b["synced_meetings"]), (&json!("X"), &json!(["m1"])));
    assert!(b["last_seen"].is_f64() && b["uptime"].is_number());

    let gone = t.post("/api/v1/nodes/unregister", json!({"node_id": "a"})).await;
    assert_eq!(
        gone,
        (StatusCode::OK, json!({"status": "success", "message": "Node a unregistered"}))
    );
    let again = t.post("/api/v1/nodes/unregister", json!({"node_id": "a"})).await;
    assert_eq!(again, (StatusCode::NOT_FOUND, json!({"detail": "Node a not found"})));
    assert_eq!(t.node("a").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_nodes_names_titles_and_leaves_out_what_is_empty() {
    let t = TestMaster::start().await;
    for (id, title) in [("x", "X"), ("y", "预算")] {
        t.post("/api/v1/meetings", json!({"id": id, "title": title})).await;
    }
    let active = json!([{"id": "x", "title": "X"}, {"id": "y", "title": "预算"}]);
    let beat = async |node_id: &str, active: &Value| {
        let body = json!({
            "node_id": node_id, "address": "127.0.0.1:1", "status": "online",
            "active_meetings": active,
        });
        assert_eq!(t.post("/api/v1/nodes/heartbeat", body).await.0, 200);
        t.node(node_id).await
    };
    let strange =
        json!([{"id": "x", "title": "another title"}, {"id": "z", "title": "no meeting"}]);
    let stranger = beat("stranger", &strange).await;
    assert_eq!(stranger["active_meetings"], json!([{"id": "x", "title": "X"}]));
    assert_eq!(stranger["synced_meetings"], json!(["x"]));
    let busy = beat("busy", &active).await;
    assert_eq!((&busy["active_meeting"], &busy["active_meetings"]), (&json!("X, 预算"), &active));
    assert_eq!(busy["synced_meetings"], json!(["x", "y"]), "older nodes send one list");
    let idle = beat("idle", &json!([])).await;
    assert!(idle.get("active_meeting").is_none() && idle.get("active_meetings").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_nodes_comes_in_pieces_and_whole() {
    let t = TestMaster::start().await;
    assert_eq!(t.json("/api/v1/nodes/list").await, json!([]));
    let long = "x".repeat(200);
    let ids: Vec<_> = (0..200).map(|n| format!("{n:03}-{long}")).collect();
    for id in &ids {
        t.register(id, "127.0.0.1:1").await;
    }
    let list = t.json("/api/v1/nodes/list").await;
    assert!(list.to_string().len() > 2 * (32 << 10), "more than one piece");
    let listed: Vec<_> = list.as_array().unwrap().iter().map(|node| &node["node_id"]).collect();
    assert_eq!(json!(listed), json!(ids));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_brings_too_many_nodes_is_told_and_shown_and_others_still_register() {
    let t = TestMaster::start().await;
    let register = async |n: u32| {
        let body =
            json!({"node_id": format!("n{n}"), "address": "127.0.0.1:1", "status": "online"});
        t.post("/api/v1/nodes/register", body).await
    };
    for n in 0..MAX_A_MINUTE {
        assert_eq!(register(n).await.0, 200);
    }
    let metric = "edge_mirror_limits_reached_total{limit=\"new_nodes_per_client\"}";
    let metrics = async || t.get("/metrics").await.text().await.unwrap();
    assert!(metrics().await.contains(&format!("{metric} 0\n")));
    let (status, answer) = register(MAX_A_MINUTE).await;
    assert_eq!(status, 429);
    assert!(answer["detail"].as_str().unwrap().contains("at most 300 new nodes"), "{answer}");
    assert_eq!(register(0).await.0, 200, "known ones stay welcome");
    let elsewhere = tls::http(tls::client()).local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let body = json!({"node_id": "other", "address": "127.0.0.1:1", "status": "online"});
    let url = t.url("/api/v1/nodes/register");
    let answer = elsewhere.build().unwrap().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(metrics().await.contains(&format!("{metric} 1\n")));
    let problems = t.json("/api/v1/overview").await["problems"].clone();
    let limited = json!({
        "code": "limit_reached", "severity": "warning", "limit": "new_nodes_per_client",
    });
    assert!(problems.as_array().unwrap().contains(&limited), "{problems}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_running_meetings_only_and_no_token_without_one() {
    let t = TestMaster::start().await;
    let polled = async || {
        let polled = t.json("/api/v1/meetings/status/token").await;
        let ids = polled["meetings"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|meeting| meeting["id"].clone()).collect();
        (polled["id"].as_str().unwrap().to_owned(), ids)
    };
    let nothing = ("none".to_owned(), vec![]);
    t.meeting("m", &zip_of(b"x")).await;
    t.meeting("waits", &zip_of(b"x")).await;
    assert_eq!(polled().await, nothing);
    let (address, _node) = fake_node("n").await;
    t.register("n", &address).await;
    t.reached("n").await;
    t.started("m").await;
    assert_eq!(polled().await, nothing, "the node does not have it yet");
    t.old_beat("n", &address, &["m"]).await;
    t.until_token_changes("none").await;
    assert_eq!(polled().await.1, ["m"]);
    t.post("/api/v1/meetings/m/end", Value::Null).await;
    assert_eq!(polled().await, nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_site_may_download_ranges() {
    let t = TestMaster::start().await;
    t.meeting("m", &zip_of(b"x")).await;
    t.started("m").await;
    let offered = t.json("/api/v1/meetings/active/meetings").await[0]["package_url"].clone();
    for (path, readable) in [
        ("/api/v1/meetings/m/download-package", true),
        ("/api/v1/meetings/m/download-package-direct", true),
        (offered.as_str().unwrap(), true),
        ("/api/v1/meetings/status/token", true),
        ("/api/v1/meetings", false),
        ("/api/v1/nodes/list", false),
    ] {
        let asks = |method| t.request(method, path).header("origin", "http://elsewhere.test");
        let preflight = asks(Method::OPTIONS)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "range, if-range");
        let answer = preflight.send().await.unwrap();
        assert_eq!(answer.status().is_success(), readable, "{path}: {}", answer.status());
        let field = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(field("access-control-allow-headers"), readable.then(|| "*".into()), "{path}");
        let got = asks(Method::GET).send().await.unwrap();
        assert_eq!(got.headers().contains_key("access-control-allow-origin"), readable, "{path}");
        assert_eq!(got.headers().contains_key("access-control-expose-headers"), readable, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_calls_are_told_what_is_wrong_and_break_nothing() {
    let t = TestMaster::start().await;
    let good = json!({"node_id": "a", "address": "h:1", "status": "online", "active_meetings": []});
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for (body, loc) in [
        (
            json!({"address": "h:1", "status": "online", "active_meetings": []}),
            json!(["body", "node_id"]),
        ),
        (with("node_id", json!(5)), json!(["body", "node_id"])),
        (with("active_meetings", Value::Null), json!(["body", "active_meetings"])),
        (
            with("active_meetings", json!([{"id": "m"}])),
            json!(["body", "active_meetings", 0, "title"]),
        ),
        (
            with("active_meetings", json!([{"id": "m", "title": null}])),
            json!(["body", "active_meetings", 0, "title"]),
        ),
        (with("synced_meetings", Value::Null), json!(["body", "synced_meetings"])),
        (json!([1]), json!(["body"])),
    ] {
        let (status, answer) = t.post("/api/v1/nodes/heartbeat", body.clone()).await;
        assert_eq!((status.as_u16(), &answer["detail"][0]["loc"]), (422, &loc), "{body}");
    }
    for field in ["node_id", "address"] {
        let (status, answer) = t.post("/api/v1/nodes/heartbeat", with(field, json!(""))).await;
        assert_eq!(status, 400);
        assert!(answer["detail"].is_string());
    }
    let heartbeat = || t.request(Method::POST, "/api/v1/nodes/heartbeat");
    let not_json = heartbeat().header("content-type", "application/json").body("{");
    assert_eq!(both(not_json).await.1["detail"][0]["type"], "json_invalid");
    assert_eq!(
        both(heartbeat().body(good.to_string()).header("content-type", "text/plain")).await.0,
        422
    );
    let large = heartbeat().header("content-type", "application/json").body(vec![b' '; 2 << 20]);
    assert_eq!(both(large).await.0, 413);

    assert_eq!(t.json("/api/v1/nodes/list").await, json!([]));
    assert_eq!(t.post("/api/v1/nodes/heartbeat", with("more", json!(1))).await.0, 200);
    assert_eq!(t.get("/nowhere").await.status(), 404);
    assert_eq!(t.get("/api/v1/nodes/register").await.status(), 405);
    assert_eq!(t.get("/api/v1/meetings/..%2fx/download-package").await.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_node_is_listed_with_the_reason_and_not_available() {
    let t = TestMaster::start().await;
    let (address, _node) = fake_node("real").await;
    t.register("real", &address).await;
    t.register("impostor", &address).await;
    t.register("bare", "127.0.0.1").await;
    t.reached("real").await;
    for (node_id, reason) in
        [("impostor", "answers as node real, not impostor"), ("bare", "has no port")]
    {
        let node = t.until(node_id, |node| node["reachable"] == false).await;
        assert!(node["unreachable_reason"].as_str().unwrap().contains(reason), "{node}");
    }
    let available = t.json("/api/v1/nodes/available").await;
    assert_eq!(available, json!({"count": 1, "nodes": [address]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn meetings_are_made_listed_and_deleted() {
    let t = TestMaster::start().await;
    let (status, made) = t.post("/api/v1/meetings", json!({"title": "标题", "time": "明天"})).await;
    assert_eq!(status, 201);
    assert_eq!(
        (&made["title"], &made["time"], &made["status"]),
        (&json!("标题"), &json!("明天"), &json!("未开始"))
    );
    let path = format!("/api/v1/meetings/{}", made["id"].as_str().unwrap());
    assert_eq!(t.json(&path).await, made);
    let mut listed = made.clone();
    listed["readiness"] = Value::Null;
    assert_eq!(t.json("/api/v1/meetings").await, json!([listed]));
    for (body, expected) in [
        (json!({"title": "T", "id": made["id"]}), 409),
        (json!({"title": "T", "id": "a/b"}), 400),
        (json!({"title": ""}), 400),
        (json!({"title": "x".repeat(201)}), 400),
        (json!({"id": "b"}), 422),
    ] {
        assert_eq!(t.post("/api/v1/meetings", body.clone()).await.0, expected, "{body}");
    }
    let (status, answer) = both(t.request(Method::DELETE, &path)).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("success")));
    assert_eq!(t.get(&path).await.status(), 404);
    assert_eq!(both(t.request(Method::DELETE, &path)).await.0, 404);
    assert_eq!(t.post("/api/v1/meetings/nope/start", Value::Null).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_upload_changes_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let t = TestMaster::start().await;
    let zip = zip_of(b"good");
    let sha256 = t.meeting("m", &zip).await;
    t.started("m").await;
    let token = t.token().await;

    let (status, answer) = t.upload("m", b"<html>".to_vec()).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("ZIP"), "{answer}");
    assert_eq!(t.upload("m", zip[..zip.len() / 2].to_vec()).await.0, 400);
    assert_eq!(t.upload("nope", zip.clone()).await.0, 404);
    // Larger than any socket's buffer, and yet the answer arrives.
    assert_eq!(t.upload("nope", vec![0; 32 << 20]).await.0, 404);
    let put = || t.request(Method::PUT, "/api/v1/meetings/m/package").body(zip_of(b"other"));
    for field in [format!("sha-256=:{}:", Sha256::new([1; 32]).base64()), "sha-256=:x:".into()] {
        assert_eq!(both(put().header("repr-digest", field)).await.0, 400);
    }
    // Cut in the middle: the length was announced, half of it came.
    let mut cut = tokio::net::TcpStream::connect(t.master.address()).await.unwrap();
    let head = format!(
        "PUT /api/v1/meetings/m/package HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        zip.len()
    );
    cut.write_all(head.as_bytes()).await.unwrap();
    cut.write_all(&zip[..zip.len() / 2]).await.unwrap();
    cut.shutdown().await.unwrap();
    cut.read_to_end(&mut Vec::new()).await.unwrap();

    let meeting = t.json("/api/v1/meetings/m").await;
    assert_eq!((meeting["sha256"].as_str(), t.token().await), (Some(&*sha256), token));
    let served = t.get("/api/v1/meetings/m/download-package").await;
    assert_eq!(served.bytes().await.unwrap(), zip);
    let scratch = t.folder.path().join("data/packages/.scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_served_with_length_ranges_and_validators() {
    let t = TestMaster::start().await;
    // Larger than a write's batch and axum's own limit for bodies.
    let content: Vec<_> = std::iter::repeat_with(|| fastrand::u8(..)).take(3 << 20).collect();
    let zip = zip_of(&content);
    let sha256 = t.meeting("m", &zip).await;
    t.started("m").await;
    let direct = "/api/v1/meetings/m/download-package-direct";
    let offers = t.json("/api/v1/meetings/active/meetings").await;
    assert_eq!(offers[0]["status"], "进行中");
    let offered = offers[0]["package_url"].as_str().unwrap().to_owned();
    assert_eq!(offered, "/uploads/packages/meeting_m_pdfs.zip");
    for path in [direct, &offered, "/api/v1/meetings/m/download-package"] {
        let whole = t.get(path).await;
        let field = |name: &str| whole.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (whole.status().as_u16(), field("content-length")),
            (200, zip.len().to_string())
        );
        assert_eq!(field("content-disposition"), "attachment; filename=\"meeting_m_pdfs.zip\"");
        assert_eq!(field("etag"), format!("\"{sha256}\""));
        assert!(field("repr-digest").starts_with("sha-256=:"));
        let etag = field("etag");
        assert_eq!(whole.bytes().await.unwrap(), zip);

        let part =
            t.request(Method::GET, path).header("range", "bytes=10-19").send().await.unwrap();
        assert_eq!((part.status().as_u16(), &*part.bytes().await.unwrap()), (206, &zip[10..20]));
        let same = t.request(Method::GET, path).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(same.status(), 304);
        let head = t.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], zip.len().to_string().as_str());
    }
    assert_eq!(t.get("/uploads/packages/meeting_x_pdfs.zip").await.status(), 404);
    let status = t.json("/api/v1/meetings/status/node").await;
    assert_eq!(
        status["active_meetings"],
        json!([{
            "id": "m", "title": "会议 <b>", "sha256": sha256, "size": zip.len(),
            "package_url": "/uploads/packages/meeting_m_pdfs.zip",
        }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_cannot_be_has_the_contracts_words() {
    let t = TestMaster::start().await;
    t.post("/api/v1/meetings", json!({"title": "T", "id": "m"})).await;
    let refused = async |path: &str| {
        let (status, answer) = both(t.request(Method::GET, path)).await;
        (status.as_u16(), answer["detail"].as_str().unwrap_or_default().to_owned())
    };
    let of = |id: &str| format!("/api/v1/meetings/{id}/download-package");
    assert_eq!(refused(&of("x")).await, (404, "会议未找到".into()));
    assert_eq!(refused(&(of("x") + "-direct")).await, (404, "会议 x 不存在".into()));
    assert_eq!(refused(&of("m")).await, (404, "会议 m 不是进行中状态".into()));
    t.started("m").await;
    assert_eq!(refused(&of("m")).await, (500, "会议包不存在".into()));
    assert_eq!(refused(&(of("m") + "-direct")).await, (500, "会议包不存在".into()));
    let status = t.json("/api/v1/meetings/status/node").await;
    assert_eq!(status["active_meetings"], json!([{"id": "m", "title": "T", "package_url": null}]));
    let offers = t.json("/api/v1/meetings/active/meetings").await;
    assert!(offers[0].get("package_url").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_to_the_node_that_has_this_very_package() {
    let t = TestMaster::start().await;
    let old = t.meeting("m", &zip_of(b"old")).await;
    let (address, _node) = fake_node("n").await;
    t.register("n", &address).await;
    t.reached("n").await;
    t.started("m").await;
    let ask = async || t.get("/api/v1/meetings/m/download-package").await;
    assert_eq!(ask().await.status(), 200, "no node has it");

    t.beat("n", &address, &[("m", &old)], 0).await;
    let sent = ask().await;
    let expected = format!("http://{address}/api/v1/meetings/m/download-package");
    assert_eq!((sent.status().as_u16(), location(&sent)), (302, Some(&*expected)));
    assert_eq!(sent.headers()["content-length"], "0");
    let sources = t.json("/api/v1/meetings/m/download-nodes-info").await;
    let own = t.master.address().to_string();
    assert_eq!((&sources[0]["ip"], &sources[1]["download_url"]), (&json!(own), &json!(expected)));
    assert_eq!(t.json("/api/v1/meetings/m").await["nodes"], json!(["n"]));

    let (_, meeting) = t.upload("m", zip_of(b"new")).await;
    assert_eq!(ask().await.status(), 200, "the node has the old one");
    t.beat("n", &address, &[("m", meeting["sha256"].as_str().unwrap())], 0).await;
    assert_eq!(ask().await.status(), 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_old_kind_does_not_count_for_a_package_replaced_under_it() {
    let t = TestMaster::start().await;
    t.meeting("m", &zip_of(b"old")).await;
    t.started("m").await;
    let (address, _node) = fake_node("n").await;
    let ask = async || t.get("/api/v1/meetings/m/download-package").await.status().as_u16();
    t.old_beat("n", &address, &["m"]).await;
    t.reached("n").await;
    assert_eq!(ask().await, 302);
    assert_eq!(t.upload("m", zip_of(b"new")).await.0, 200);
    assert_eq!(ask().await, 200);
    t.old_beat("n", &address, &["m"]).await;
    assert_eq!(ask().await, 200);
    t.old_beat("n", &address, &[]).await;
    t.old_beat("n", &address, &["m"]).await;
    assert_eq!(ask().await, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_less_busy_of_two_nodes_gets_the_client() {
    let t = TestMaster::start().await;
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    t.started("m").await;
    let ((idle, _a), (busy, _b)) = (fake_node("idle").await, fake_node("busy").await);
    t.beat("idle", &idle, &[("m", &sha256)], 0).await;
    t.beat("busy", &busy, &[("m", &sha256)], 5).await;
    t.reached("idle").await;
    t.reached("busy").await;
    // Five to catch up with the busy one, and five of the ten after that:
    // those on their way count before a heartbeat tells of them.
    let mut to_idle = 0;
    for n in 0..15 {
        let sent = t.get("/api/v1/meetings/m/download-package").await;
        to_idle += u32::from(location(&sent).unwrap().contains(&idle));
        assert!(n >= 5 || to_idle == n + 1);
    }
    assert_eq!(to_idle, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_tells_of_a_start_once_the_nodes_have_the_package() {
    let t = TestMaster::start().await;
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    let (address, _node) = fake_node("n").await;
    t.register("n", &address).await;
    t.reached("n").await;
    let before = t.token().await;
    t.started("m").await;
    t.beat("n", &address, &[], 0).await;
    assert_eq!(t.token().await, before, "the node does not have it yet");
    assert_eq!(t.json("/api/v1/meetings/status/node").await["active_meetings"][0]["id"], "m");
    t.beat("n", &address, &[("m", &sha256)], 0).await;
    t.until_token_changes(&before).await;

    let running = t.token().await;
    t.started("m").await;
    assert_eq!(t.token().await, running, "it was started already");
    t.post("/api/v1/meetings/m/end", Value::Null).await;
    assert_ne!(t.token().await, running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_holds_up_a_start_no_longer_than_the_timeout() {
    let t = TestMaster::with(Duration::from_millis(300)).await;
    t.meeting("m", &zip_of(b"x")).await;
    let (address, _node) = fake_node("n").await;
    t.register("n", &address).await;
    t.reached("n").await;
    let before = t.token().await;
    t.started("m").await;
    t.until_token_changes(&before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nodes_a_start_is_told_at_once_and_so_is_a_new_package() {
    let t = TestMaster::start().await;
    t.meeting("m", &zip_of(b"x")).await;
    let mut tokens = vec![t.token().await];
    t.started("m").await;
    tokens.push(t.token().await);
    t.upload("m", zip_of(b"y")).await;
    tokens.push(t.token().await);
    t.upload("m", zip_of(b"y")).await;
    assert_eq!(tokens.last(), Some(&t.token().await), "the same bytes are no news");
    both(t.request(Method::DELETE, "/api/v1/meetings/m")).await;
    tokens.push(t.token().await);
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let t = TestMaster::start().await;
    let zip = zip_of(b"x");
    t.meeting("m", &zip).await;
    t.started("m").await;
    t.post("/api/v1/meetings", json!({"title": "second", "id": "a"})).await;
    let before = (t.token().await, t.json("/api/v1/meetings").await);
    // A kill leaves the files as they are now.
    let killed = tempfile::tempdir().unwrap();
    copy(&t.folder.path().join("data"), &killed.path().join("data"));
    // Read from there: a copied package is another file, which a main server
    // verifies again, and that changes the token.
    let (state, data) = (StateLocation::default(), killed.path().join("data"));
    let opening = StateRepository::open(&state, &data);
    let OpenedRepository { repository, state: saved, .. } = opening.await.unwrap();
    repository.close().await;
    assert_eq!(saved.meetings.token, before.0);
    let after_kill = TestMaster::in_folder(killed, LONG).await;
    assert_eq!(after_kill.json("/api/v1/meetings").await.as_array().unwrap().len(), 2);
    let t = t.restarted().await;
    assert_eq!((t.token().await, t.json("/api/v1/meetings").await), before);
    assert_eq!(t.get("/api/v1/meetings/m/download-package").await.bytes().await.unwrap(), zip);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_without_its_manifest_is_verified_and_a_damaged_one_goes() {
    let t = TestMaster::start().await;
    let zip = zip_of(b"x");
    t.meeting("good", &zip).await;
    t.meeting("bad", &zip).await;
    t.started("good").await;
    let packages = t.folder.path().join("data/packages");
    std::fs::remove_file(packages.join("meeting_good/manifest.json")).unwrap();
    std::fs::write(packages.join("meeting_bad/package.zip"), "junk").unwrap();
    let t = t.restarted().await;
    let settled = async {
        loop {
            let good = t.get("/api/v1/meetings/good/download-package").await.status();
            let bad = t.get("/api/v1/meetings/bad/download-package-direct").await.status();
            let gone = !packages.join("meeting_bad").exists();
            if (good.as_u16(), bad.as_u16(), gone) == (200, 500, true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap();
}

/// Like [`copy`], by links: the packages stay the files that were verified.
fn link(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => link(&entry.path(), &to),
            // The process that holds it lives on.
            false if entry.file_name() == ".lock" => {}
            // Changed in place, but not between two changes.
            false if entry.file_name().to_string_lossy().starts_with("state.sqlite") => {
                std::fs::copy(entry.path(), to).map(drop).unwrap();
            }
            false => std::fs::hard_link(entry.path(), to).unwrap(),
        }
    }
}

/// Each file is replaced by a rename: a kill leaves what the links lead to.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_at_any_step_of_a_replacement_no_old_node_passes_for_current() {
    for runs in [true, false] {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"old")).await;
        if runs {
            t.started("m").await;
        }
        let (data, kills) = (t.folder.path().join("data"), tempfile::tempdir().unwrap());
        let killed = |step: &str| link(&data, &kills.path().join(step).join("data"));
        killed("before");
        let (server, folders) = (t.master.server.clone(), (data.clone(), kills.path().to_owned()));
        let replacing = tasks::blocking(move || {
            let killed = |step: &str| link(&folders.0, &folders.1.join(step).join("data"));
            server.replace_package(&"m".parse().unwrap(), None, || {
                killed("announced");
                let stored = put(&server.store, "m", &zip_of(b"new"));
                killed("manifest");
                Ok(stored)
            })
        });
        replacing.await.unwrap();
        killed("state");
        let at = |step: &str, name: &str| kills.path().join(step).join("data").join(name);
        // Between the rename of the package and its manifest.
        link(&kills.path().join("manifest"), &kills.path().join("renamed"));
        let manifest = "packages/meeting_m/manifest.json";
        std::fs::remove_file(at("renamed", manifest)).unwrap();
        std::fs::hard_link(at("before", manifest), at("renamed", manifest)).unwrap();
        assert!(t.master.shut_down(GRACE).await);

        for step in ["before", "announced", "renamed", "manifest", "state"] {
            let folder = tempfile::tempdir().unwrap();
            link(&kills.path().join(step), folder.path());
            let t = TestMaster::in_folder(folder, LONG).await;
            let meeting = async || t.json("/api/v1/meetings/m").await;
            let verified = async {
                while meeting().await["sha256"].is_null() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), verified).await.expect(step);
            // It has the old one, and all that it says is that it has one.
            t.old_beat("n", "127.0.0.1:1", &["m"]).await;
            let passes = meeting().await["nodes"] == json!(["n"]);
            assert_eq!(passes, step == "before", "killed at {step}, running: {runs}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_state_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let path = folder.path().join("data/state.json");
    std::fs::write(&path, "{half").unwrap();
    let refused = Master::start(options(&folder, LONG)).await.err().unwrap();
    assert!(matches!(refused, MasterError::State(StateError::DamagedFile { .. })), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"{half");
    std::fs::remove_file(&path).unwrap();
    let path = folder.path().join("data/state.sqlite");
    let junk = b"no database ".repeat(1000);
    std::fs::write(&path, &junk).unwrap();
    let refused = Master::start(options(&folder, LONG)).await.err().unwrap();
    assert!(matches!(refused, MasterError::State(StateError::Damaged { .. })), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), junk);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_or_moved_under_a_running_main_server() {
    let t = TestMaster::start().await;
    t.meeting("m", &zip_of(b"x")).await;
    let (data, state) = (t.folder.path().join("data"), StateLocation::default());
    let file = t.folder.path().join("backup");
    assert_eq!(crate::back_up(&state, &data, &file).await.unwrap(), 1);
    let other = "postgres://nobody@127.0.0.1:1/x".parse().unwrap();
    for refused in [
        crate::restore(&state, &data, &file).await.map(drop),
        crate::move_state(&state, &other, &data).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StateError::InUse { .. })), "{refused:?}");
    }
    t.started("m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_what_was_saved_is_served_and_changes_are_refused() {
    const PROBLEM: &str = "state_unavailable";
    let mut postgres = TestPostgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let state = postgres.database("fleet").await;
    let options = MasterOptions { state, ..options(&folder, LONG) };
    let t = TestMaster::with_options(folder, options).await;
    let zip = zip_of(b"x");
    t.meeting("m", &zip).await;
    t.started("m").await;
    let before = (t.token().await, t.json("/api/v1/meetings").await);
    let is_away = async || {
        let problems = t.json("/api/v1/overview").await["problems"].to_string();
        assert!(!problems.contains(PASSWORD), "{problems}");
        problems.contains(PROBLEM)
    };
    let ready = async || t.get("/api/health/ready").await;
    assert!(!is_away().await && !ready().await.text().await.unwrap().contains(PROBLEM));
    assert!(t.get("/metrics").await.text().await.unwrap().contains("state_available 1\n"));

    postgres.kill();
    // Noticed by itself, without a change.
    let noticed = async {
        while !is_away().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    let (status, answer) = t.post("/api/v1/meetings/m/end", Value::Null).await;
    let detail = answer["detail"].as_str().unwrap();
    assert_eq!(status, 503, "{detail}");
    assert!(detail.contains("try again later") && !detail.contains(PASSWORD), "{detail}");
    let upload = t.upload("m", zip_of(b"another")).await;
    assert_eq!(upload.0, 503, "{}", upload.1);
    assert_eq!((t.token().await, t.json("/api/v1/meetings").await), before);
    assert_eq!(t.get("/api/v1/meetings/m/download-package").await.bytes().await.unwrap(), zip);
    assert_eq!(t.get("/api/v1/meetings/status/node").await.status(), 200);
    let ready = ready().await;
    assert_eq!(ready.status(), 200);
    let said = ready.text().await.unwrap();
    assert!(said.contains(PROBLEM) && !said.contains("postgres"), "not for everybody: {said}");
    assert!(t.get("/metrics").await.text().await.unwrap().contains("state_available 0\n"));

    postgres.resume();
    let back = Instant::now();
    while t.post("/api/v1/meetings/m/end", Value::Null).await.0 != 200 {
        assert!(back.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!is_away().await);
    assert_eq!(t.json("/api/v1/meetings/m").await["status"], "已结束");
    assert_ne!(t.token().await, before.0);
    let folder = t.folder.path().to_owned();
    assert!(t.master.shut_down(GRACE).await);
    assert!(!folder.join("data/state.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_there_for_everybody_and_old_nodes_find_the_main_server_by_it() {
    let t = TestMaster::start().await;
    let page = t.request(Method::GET, "/").header("host", "elsewhere").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.text().await.unwrap().contains("/static/js/master.js"));
}
