//! HTTPS: serving it, its certificates, and talking it to a main server.

mod commands;
mod files;
mod lines;
mod main_server;
mod our_main_server;
mod secure_main_server;
mod plain;
mod serving;

use std::net::SocketAddr;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::support::{
    certificates::{Authority, Pair},
    process::{NodeFolder, NodeProcess},
    until,
};

const HERE: &[&str] = &["127.0.0.1", "localhost", "::1"];

/// A node that speaks HTTPS, and who knows its authority.
struct Secure {
    authority: Authority,
    pair: Pair,
    folder: NodeFolder,
    node: NodeProcess,
    client: Client,
}

impl Secure {
    async fn of(main_server: &str, patch: Value) -> Self {
        let authority = Authority::new();
        let pair = authority.pair(HERE);
        let folder = NodeFolder::of(main_server);
        pair.write(folder.path());
        let folder = folder.with(json!({"tls": {"cert": "cert.pem", "key": "key.pem"}}));
        let folder = folder.with(patch);
        let node = folder.start().await;
        let client = authority.client();
        Self { authority, pair, folder, node, client }
    }

    fn address(&self) -> SocketAddr {
        self.node.address()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address())
    }

    fn package_url(&self, id: &str) -> String {
        self.url(&format!("/api/v1/meetings/{id}/download-package"))
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn status(&self) -> Value {
        self.get("/api/status").await.json().await.unwrap()
    }

    async fn until_synced(&self, id: &str) {
        crate::support::until_synced(id, async || {
            crate::support::meeting_in(&self.status().await, id)
        })
        .await;
    }

    async fn patch(&self, patch: Value) -> (u16, Value) {
        let answer = self.client.post(self.url("/api/config")).json(&patch).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The problems' texts, once there are such as `wanted`.
    async fn until_problems(&self, wanted: impl Fn(&str) -> bool) -> String {
        until("other problems", async || {
            let problems = self.status().await["problems"].to_string();
            wanted(&problems).then_some(problems)
        })
        .await
    }
}
