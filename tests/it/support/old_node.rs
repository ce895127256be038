//! A node of the kind that ours replaces, as far as main servers see it:
//! written from the wire contract, with the old fields only.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use serde_json::{Value, json};

use super::client;

type Packages = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

pub(crate) struct OldNode {
    id: &'static str,
    main_server: String,
    address: String,
    packages: Packages,
    tasks: Tasks,
}

impl OldNode {
    /// Serves already; nobody knows of it.
    pub(crate) fn of(main_server: &str, id: &'static str) -> Self {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, tasks) = (listener.address().to_string(), Tasks::new());
        let packages = Packages::default();
        let status = move || async move { Json(json!({"node_id": id, "running": true})) };
        let router = Router::new()
            .route("/api/status", get(status))
            .route("/api/v1/meetings/{id}/download-package", get(package))
            .with_state(packages.clone());
        let stop = tasks.token().clone();
        tasks.spawn("old node", listener.serve(router, tasks.clone(), stop));
        let main_server = format!("http://{main_server}");
        Self { id, main_server, address, packages, tasks }
    }

    pub(crate) fn package_url(&self, id: &str) -> String {
        format!("http://{}/api/v1/meetings/{id}/download-package", self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn register(&self) {
        let body = json!({"node_id": self.id, "address": self.address, "status": "online"});
        let answer = self.post("/api/v1/nodes/register", body).await;
        let message = format!("Node {} registered", self.id);
        assert_eq!(answer, json!({"status": "success", "message": message}));
    }

    /// Lists what was pulled; says what is active as the status answer does.
    pub(crate) async fn heartbeat(&self) {
        self.heartbeat_with(None).await;
    }

    /// With what versions of ours add to it.
    pub(crate) async fn heartbeat_with(&self, mirror: Option<Value>) {
        let active: Vec<_> = self
            .active()
            .await
            .into_iter()
            .map(|(id, title)| json!({"id": id, "title": title}))
            .collect();
        let synced: Vec<_> = self.packages.lock().unwrap().keys().cloned().collect();
        let mut body = json!({
            "node_id": self.id,
            "address": self.address,
            "status": "online",
            "active_meetings": active,
            "synced_meetings": synced,
        });
        if let Some(mirror) = mirror {
            body["mirror"] = mirror;
        }
        let answer = self.post("/api/v1/nodes/heartbeat", body).await;
        assert!(answer["status"] == "success" && answer["timestamp"].is_f64(), "{answer}");
    }

    /// Ids and titles of the active meetings.
    pub(crate) async fn active(&self) -> Vec<(String, String)> {
        let status = self.get("/api/v1/meetings/status/node").await;
        let status: Value = serde_json::from_slice(&status).unwrap();
        assert!(status["id"].is_string() && status["timestamp"].is_f64(), "{status}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let active = status["active_meetings"].as_array().unwrap().iter();
        active.map(|meeting| (text(&meeting["id"]), text(&meeting["title"]))).collect()
    }

    /// Pulls what is active and not here, once each and whole; drops what is
    /// no longer active.
    pub(crate) async fn sync(&self) {
        let active = self.active().await;
        self.packages.lock().unwrap().retain(|id, _| active.iter().any(|(other, _)| other == id));
        for (id, _) in active {
            let here = self.packages.lock().unwrap().contains_key(&id);
            if !here {
                let direct = format!("/api/v1/meetings/{id}/download-package-direct");
                let package = self.get(&direct).await;
                self.packages.lock().unwrap().insert(id, package);
            }
        }
    }

    /// Other bytes lie where its package lay, and it does not notice.
    pub(crate) fn replace(&self, id: &str, bytes: Vec<u8>) {
        self.packages.lock().unwrap().insert(id.to_owned(), bytes).expect("a package");
    }

    /// How it finds out whether the main server lives.
    pub(crate) async fn finds_the_main_server(&self) -> bool {
        self.get("/").await.starts_with(b"<")
    }

    pub(crate) async fn unregister(self) {
        let answer = self.post("/api/v1/nodes/unregister", json!({"node_id": self.id})).await;
        assert_eq!(answer["message"], format!("Node {} unregistered", self.id));
        self.tasks.shut_down(Duration::from_secs(5)).await;
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        let answer = client().get(format!("{}{path}", self.main_server)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.bytes().await.unwrap().to_vec()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = client().post(format!("{}{path}", self.main_server)).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path} {body}");
        answer.json().await.unwrap()
    }
}

async fn package(State(packages): State<Packages>, Path(id): Path<String>) -> Response {
    match packages.lock().unwrap().get(&id) {
        Some(package) => ([("content-type", "application/zip")], package.clone()).into_response(),
        None => {
            let detail = json!({"detail": "Meeting package not found"});
            (StatusCode::NOT_FOUND, Json(detail)).into_response()
        }
    }
}
