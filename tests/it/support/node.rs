//! A real node in a folder of its own.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use edge_mirror_base::log::Journal;
use edge_mirror_http::access::Vault;
use edge_mirror_node::{Node, NodeOptions};
use edge_mirror_protocol::package::percent_encoded;
use edge_mirror_settings::Settings;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::client;

pub(crate) struct TestNode {
    node: Option<Node>,
    url: String,
    folder: Arc<tempfile::TempDir>,
}

/// What a test's node differs by from the defaults; quick where those are slow.
pub(crate) struct Builder {
    config: Value,
    host: IpAddr,
    folder: Arc<tempfile::TempDir>,
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl TestNode {
    /// A node of the main server at `authority` (`host:port`).
    pub(crate) fn of(authority: &str) -> Builder {
        let (host, port) = authority.rsplit_once(':').unwrap();
        let config = json!({
            "mainServerIp": host,
            "mainServerPort": port.parse::<u16>().unwrap(),
            "nodeId": "node-test",
            "syncInterval": 1,
            "network": {"retryDelay": 0, "connectionTimeout": 5},
            "heartbeat": {"interval": 1, "timeout": 3},
            "logging": {"fileEnabled": false},
            "shutdownGrace": 5,
        });
        Builder { config, host: HERE, folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn package_url(&self, id: &str) -> String {
        self.url(&format!("/api/v1/meetings/{}/download-package", percent_encoded(id)))
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("node_config.json")
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.node.as_ref().unwrap().address()
    }

    /// As `edge-mirror token --new` makes it.
    pub(crate) fn new_token(&self) -> String {
        Vault::at(Vault::path_beside(&self.config_path())).replace_token().unwrap().token
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        client().get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    pub(crate) async fn status(&self) -> Value {
        self.json("/api/status").await
    }

    /// The status page's entry of a meeting, null where there is none.
    pub(crate) async fn meeting(&self, id: &str) -> Value {
        super::meeting_in(&self.status().await, id)
    }

    pub(crate) async fn until_synced(&self, id: &str) -> Value {
        super::until_synced(id, async || self.meeting(id).await).await
    }

    /// The package as a tablet gets it.
    pub(crate) async fn download(&self, id: &str) -> (StatusCode, Vec<u8>) {
        let response = client().get(self.package_url(id)).send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    /// As [`download`](Self::download); none where the connection breaks.
    pub(crate) async fn try_download(&self, id: &str) -> Option<Vec<u8>> {
        let response = client().get(self.package_url(id)).send().await.ok()?;
        Some(response.bytes().await.ok()?.to_vec())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response =
            client().request(Method::POST, self.url(path)).json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    pub(crate) async fn configure(&self, patch: Value) {
        let (status, answer) = self.post("/api/config", patch).await;
        assert_eq!(
            (status, answer["message"].as_str()),
            (StatusCode::OK, Some("配置已更新")),
            "{answer}"
        );
    }

    /// Stops in order; the folder stays for another node to start in.
    pub(crate) async fn stop(mut self) -> Builder {
        self.node.take().unwrap().shut_down().await;
        let config: Value =
            serde_json::from_slice(&std::fs::read(self.config_path()).unwrap()).unwrap();
        Builder { config, host: HERE, folder: self.folder.clone() }
    }

    pub(crate) async fn shut_down(mut self) -> bool {
        self.node.take().unwrap().shut_down().await
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The log is printed as it is written; this is the other half.
            let list =
                std::process::Command::new("ls").arg("-lRA").arg(self.folder.path()).output();
            println!("{}", String::from_utf8_lossy(&list.unwrap().stdout));
        }
    }
}

impl Builder {
    pub(crate) fn with(mut self, patch: Value) -> Self {
        let base = self.config.as_object_mut().unwrap();
        edge_mirror_settings::merge::merge(base, patch.as_object().unwrap());
        self
    }

    /// Where it listens, instead of 127.0.0.1.
    pub(crate) fn at(self, host: IpAddr) -> Self {
        Self { host, ..self }
    }

    /// Puts a file into the node's folder before it starts.
    pub(crate) fn file(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) async fn start(self) -> TestNode {
        super::log_to_the_tests_output();
        let path = self.folder.path().join("node_config.json");
        let config: &Map<String, Value> = self.config.as_object().unwrap();
        std::fs::write(&path, serde_json::to_vec_pretty(config).unwrap()).unwrap();
        let settings = Arc::new(Settings::load_or_create(&path).unwrap());
        // With a port in its configuration the node listens there, else anywhere.
        let port = if config.contains_key("nodePort") { None } else { Some(0) };
        let journal = Journal::default();
        let options = NodeOptions { host: self.host, port, journal };
        let node = Node::start(settings, options).await.unwrap();
        TestNode {
            url: match self.host.is_unspecified() {
                true => format!("http://127.0.0.1:{}", node.address().port()),
                false => format!("http://{}", node.address()),
            },
            node: Some(node),
            folder: self.folder,
        }
    }
}

/// A port that was free a moment ago, below those that the system gives to
/// clients, one of which might take it before it is listened to.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(10_000..32_000)).find(is_free).unwrap()
}
