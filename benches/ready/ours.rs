//! The embedded main server, behind a proxy that sees what passes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::header,
    response::Response,
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use edge_mirror_main_server::{Master, MasterOptions};
use reqwest::{Client, RequestBuilder};
use serde_json::json;
use tempfile::TempDir;

use super::log::{Log, id_of};

pub(crate) struct Ours {
    pub log: Log,
    master: Master,
    /// Of the proxy.
    pub address: SocketAddr,
    client: Client,
    _folder: TempDir,
}

#[derive(Clone)]
struct Proxy {
    log: Log,
    origin: String,
    client: Client,
}

impl Ours {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the main server");
        let options = MasterOptions {
            data: folder.path().to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            announce_timeout: Duration::from_secs(1),
            ..MasterOptions::default()
        };
        let master = Master::start(options).await.expect("it starts");
        let client = edge_mirror_http::tls::http(edge_mirror_http::tls::client())
            .build()
            .expect("its TLS is given");
        let origin = format!("http://{}", master.address());
        let log = Log::default();
        let proxy = Proxy { log: log.clone(), origin, client: client.clone() };
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
        let address = listener.address();
        let router = Router::new().fallback(pass).with_state(proxy);
        tasks.spawn("proxy", listener.serve(router, tasks.clone(), tasks.token().clone()));
        Self { log, master, address, client, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/meetings{path}", self.master.address())
    }

    /// A meeting with this package, not started.
    pub(crate) async fn prepare(&self, id: &str, package: &[u8]) {
        accepted(self.client.post(self.url("")).json(&json!({"id": id, "title": "Board"}))).await;
        let put = self.client.put(self.url(&format!("/{id}/package")));
        accepted(put.body(package.to_vec())).await;
    }

    /// When the start was answered.
    pub(crate) async fn begin(&self, id: &str) -> Instant {
        accepted(self.client.post(self.url(&format!("/{id}/start")))).await;
        Instant::now()
    }

    pub(crate) async fn end(&self, id: &str) {
        accepted(self.client.post(self.url(&format!("/{id}/end")))).await;
    }
}

async fn accepted(request: RequestBuilder) {
    let answer = request.send().await.expect("it answers");
    assert!(answer.status().is_success(), "{answer:?}");
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let id = id_of(&path).filter(|_| parts.method == axum::http::Method::GET);
    if let Some(id) = id {
        proxy.log.asked(id);
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("nodes send whole bodies");
    if path.ends_with("/heartbeat") {
        proxy.log.heartbeat(&body);
    }
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    let url = format!("{}{}", proxy.origin, parts.uri);
    let sent = proxy.client.request(parts.method, url).headers(headers).body(body).send().await;
    let answer = sent.expect("it answers");
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    let body = match id {
        Some(id) => proxy.log.passing(id, answer.bytes_stream()),
        None => Body::from_stream(answer.bytes_stream()),
    };
    response.body(body).expect("its parts were those of an answer")
}
