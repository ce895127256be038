//! Clients and agents of GoFD at the main server.

use std::path::PathBuf;

use edge_mirror_gofd::{ConfigReading, GofdConfig};

use super::*;
use crate::{DispatchOptions, GofdOptions};

const TASKS: &str = "/api/v1/server/tasks";

/// A main server with the gateway, and a client of it.
pub(super) struct TestGateway {
    pub(super) t: TestMaster,
    pub(super) root: PathBuf,
    pub(super) mgnt: u16,
    pub(super) data: u16,
}

/// A configuration with the password `gofd`; agents have these ports.
fn config(agent_ports: (u16, u16)) -> GofdConfig {
    let (mgnt, data) = agent_ports;
    let text = format!(
        "net:\n  ip: 127.0.0.1\n  agentMgntPort: {mgnt}\n  agentDataPort: {data}\nauth:\n  \
         username: gofd\n  passowrd: yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc=\n  factor: 9427e80d\n"
    );
    let ConfigReading { config, unknown } = GofdConfig::parse(&text).unwrap();
    assert!(unknown.is_empty());
    config
}

impl TestGateway {
    async fn start() -> Self {
        Self::with_agents((0, 0)).await
    }

    pub(super) async fn with_agents(agent_ports: (u16, u16)) -> Self {
        Self::with_silence(agent_ports, LONG).await
    }

    /// Agents may be silent for so long.
    pub(super) async fn with_silence(agent_ports: (u16, u16), silence: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let (listen, data) = (([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into());
        let gofd = GofdOptions { listen, data, config: config(agent_ports), silence };
        let dispatch = DispatchOptions { root: Some(root.clone()), ..DispatchOptions::default() };
        let options = MasterOptions { dispatch, gofd: Some(gofd), ..options(&folder, LONG) };
        let t = TestMaster::with_options(folder, options).await;
        let (mgnt, data) = t.master.gofd_ports().unwrap();
        Self { t, root, mgnt, data }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://127.0.0.1:{}{path}", self.mgnt);
        self.t.client.request(method, url).basic_auth("gofd", Some("gofd"))
    }

    /// Status, media type and text of the answer to a body.
    async fn post_text(&self, path: &str, kind: &str, body: &str) -> (u16, String, String) {
        let request = self.call(Method::POST, path).header(header::CONTENT_TYPE, kind);
        told(request.body(body.to_owned())).await
    }

    pub(super) async fn post_task(&self, id: &str, files: &[&str], ips: &[&str]) -> (u16, String) {
        let body = json!({"id": id, "dispatchFiles": files, "destIPs": ips}).to_string();
        let (status, _, text) = self.post_text(TASKS, "application/json", &body).await;
        (status, text)
    }

    async fn shown(&self, id: &str) -> Value {
        let (status, _, text) = told(self.call(Method::GET, &format!("{TASKS}/{id}"))).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(super) async fn until(&self, id: &str, status: &str) -> Value {
        let ends = Instant::now() + Duration::from_secs(20);
        loop {
            let shown = self.shown(id).await;
            if shown["status"] == status {
                return shown;
            }
            assert!(Instant::now() < ends, "{shown:#} is not {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn report(&self, id: &str, ip: &str, percent: f64) -> u16 {
        let body = json!({"taskId": id, "ip": ip, "percentComplete": percent}).to_string();
        self.post_text(&format!("{TASKS}/status"), "application/json", &body).await.0
    }
}

async fn told(request: reqwest::RequestBuilder) -> (u16, String, String) {
    let answer = request.send().await.unwrap();
    let kind =
        answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.unwrap())
}

const JSON: &str = "application/json; charset=UTF-8";
const TEXT: &str = "text/plain; charset=UTF-8";

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_the_contract_is_there() {
    let f = TestGateway::start().await;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", f.mgnt);
    for path in [TASKS, "/", "/api/v1/meetings"] {
        for password in [None, Some("wrong")] {
            let answer =
                f.t.client.get(url(path)).basic_auth("gofd", password).send().await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "basic realm=Restricted");
            assert_eq!(answer.text().await.unwrap(), "{\"message\":\"Unauthorized\"}\n");
        }
    }
    let undecodable = f.t.client.get(url(TASKS)).header(header::AUTHORIZATION, "Basic !");
    assert_eq!(told(undecodable).await.0, 401);
    for (method, path, status, text) in [
        (Method::GET, "/", 404, "Not Found"),
        (Method::GET, "/api/v1/server/tasks/", 404, "Not Found"),
        (Method::GET, "/api/v1/dispatch", 404, "Not Found"),
        (Method::GET, TASKS, 405, "Method Not Allowed"),
        (Method::PUT, "/api/v1/server/tasks/1", 405, "Method Not Allowed"),
    ] {
        let expected = (status, JSON.to_owned(), format!("{{\"message\":\"{text}\"}}\n"));
        assert_eq!(told(f.call(method, path)).await, expected, "{path}");
    }
    for method in [Method::GET, Method::DELETE] {
        let unknown = told(f.call(method, &format!("{TASKS}/none"))).await;
        assert_eq!(unknown, (400, TEXT.to_owned(), "TASK_NOT_EXISTED".to_owned()));
    }
    for (kind, body, status, text) in [
        ("application/json", "", 400, "Request body can't be empty"),
        ("text/plain", "{}", 415, "Unsupported Media Type"),
        ("application/x-www-form-urlencoded", "id=1", 415, "Unsupported Media Type"),
        ("application/json", "{x", 400, "Syntax error: offset=2, error="),
        (
            "application/json; charset=utf-8",
            "{\"id\":1}",
            400,
            "Unmarshal type error: expected=string, got=number, field=id, offset=7",
        ),
        ("application/json", "{\"id\":", 400, "unexpected EOF"),
        ("application/json", "{}", 400, "id must have 1 to 124 bytes"),
    ] {
        let (got, media, told) = f.post_text(TASKS, kind, body).await;
        assert_eq!((got, media.as_str()), (status, JSON), "{told}");
        assert!(told.starts_with("{\"message\":\"") && told.contains(text), "{told}");
    }
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(f.post_text(TASKS, "application/json", &large).await.0, 413);
    // Reports are well received, whatever they say.
    assert_eq!(f.report("none", "127.0.0.9", 50.0).await, 200);
    let metrics = f.t.get("/metrics").await.text().await.unwrap();
    let count = |line: &str| metrics.lines().any(|found| found == line);
    assert!(
        count("edge_mirror_master_gofd_calls_refused_total{reason=\"password\"} 7"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_and_a_missing_file_has_its_word() {
    let f = TestGateway::start().await;
    f.t.taking_files("a").await;
    let good = f.write("a.bin", b"abc");
    let link = f.root.join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let up = f.root.join("../root/a.bin");
    for (files, ips, text) in [
        (vec!["/etc/passwd"], vec!["127.0.0.1"], "is not below --dispatch-root"),
        (vec![up.to_str().unwrap()], vec!["127.0.0.1"], "is not below --dispatch-root"),
        (vec!["a.bin"], vec!["127.0.0.1"], "is not below --dispatch-root"),
        (vec![link.to_str().unwrap()], vec!["127.0.0.1"], "is a link"),
        (vec![], vec!["127.0.0.1"], "dispatchFiles"),
        (vec![&*good], vec![], "destIPs"),
        (vec![&*good], vec!["127.0.0.1:80"], "no IP address"),
        (vec![&*good], vec!["127.0.0.9"], "there is no node at 127.0.0.9"),
        (vec![&*good, &*good], vec!["127.0.0.1"], "the same name"),
    ] {
        let (status, told) = f.post_task("1", &files, &ips).await;
        assert_eq!(status, 400, "{told}");
        assert!(told.contains(text), "{told}");
    }
    let missing = f.root.join("none").display().to_string();
    assert_eq!(f.post_task("1", &[&good, &missing], &["127.0.0.1"]).await, (202, String::new()));
    let shown = f.shown("1").await;
    assert_eq!(shown["status"], "FILE_NOT_EXISTED");
    assert_eq!(shown["dispatchInfos"]["127.0.0.1"]["status"], "INIT");
    assert_ne!(shown["finishedAt"], "0001-01-01T00:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_reaches_our_node_and_has_gofds_shape() {
    let f = TestGateway::start().await;
    f.t.taking_files("a").await;
    let (one, two) = (f.write("a.bin", b"abc"), f.write("fw/b.bin", b"defg"));
    let posted = f.post_task("t 1", &[&one, &two], &["127.0.0.1"]).await;
    assert_eq!(posted, (202, String::new()));
    let ordered = f.t.until_ordered("a", 1).await;
    let files: Value = f.t.as_node("a", &format!("/{}", ordered[0].0)).await.json().await.unwrap();
    assert_eq!(files["files"][1]["name"], "fw/b.bin");
    let shown = f.until("t%201", "INPROGESS").await;
    assert_eq!(shown["finishedAt"], "0001-01-01T00:00:00Z");
    let info = &shown["dispatchInfos"]["127.0.0.1"];
    assert_eq!(info["dispatchFiles"], json!([{"filename": one}, {"filename": two}]));
    assert_eq!(f.post_task("t 1", &[&two, &one], &["127.0.0.1"]).await.0, 202, "the same again");
    let other = f.post_task("t 1", &[&one], &["127.0.0.1"]).await;
    assert_eq!(other, (400, "TASK_EXISTED".to_owned()));
    f.t.reported("a", &ordered[0].0, "done").await;
    let shown = f.until("t%201", "COMPLETED").await;
    assert_eq!(shown["dispatchInfos"]["127.0.0.1"]["percentComplete"], json!(100));
    let (_, _, pretty) = told(f.call(Method::GET, &format!("{TASKS}/t%201?pretty"))).await;
    assert!(pretty.starts_with("{\n  \"id\": \"t 1\",\n  \"status\": \"COMPLETED\""), "{pretty}");
    let deleted = told(f.call(Method::DELETE, &format!("{TASKS}/t%201"))).await;
    assert_eq!(deleted, (202, JSON.to_owned(), "\"\"\n".to_owned()));
    assert_eq!(f.shown("t%201").await["status"], "COMPLETED", "what is over stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_has_failed_and_the_nodes_remove_its_files() {
    let f = TestGateway::start().await;
    f.t.taking_files("a").await;
    let file = f.write("a.bin", b"abc");
    f.post_task("1", &[&file], &["127.0.0.1"]).await;
    f.t.until_ordered("a", 1).await;
    assert_eq!(told(f.call(Method::DELETE, &format!("{TASKS}/1"))).await.0, 202);
    assert_eq!(f.shown("1").await["status"], "FAILED");
    let ends = Instant::now() + Duration::from_secs(10);
    while f.t.until_ordered("a", 1).await[0].1 != "remove" {
        assert!(Instant::now() < ends);
    }
}
