//! Several main servers, as processes, on one PostgreSQL and one package store.

mod faults;

use std::{net::SocketAddr, path::Path};

use edge_mirror_base::tasks;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client,
    postgres::TestPostgres,
    process::{NodeFolder, NodeProcess, Process, binary},
    until, zip_of,
    zips::big_zip,
};

/// One of them, and where it is started again.
struct ClusterServer {
    process: Process,
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl ClusterServer {
    async fn start(database: &str, packages: &Path) -> Self {
        Self::begin(database, packages, tempfile::tempdir().unwrap(), 0).await
    }

    async fn begin(database: &str, packages: &Path, data: tempfile::TempDir, port: u16) -> Self {
        let mut command = binary();
        command.args(["master", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--state", database]);
        command.arg("--packages").arg(packages).arg("--data").arg(data.path());
        let mut process = Process::spawn(command);
        let address = process.until_listening().await;
        Self { process, address, data }
    }

    /// Kills it, and starts it again at the same address.
    async fn restarted(mut self, database: &str, packages: &Path) -> Self {
        self.process.kill();
        Self::begin(database, packages, self.data, self.address.port()).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.address)
    }

    async fn json(&self, path: &str) -> Value {
        client().get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn create(&self, id: &str) {
        let body = json!({"id": id, "title": "Board"});
        let made = client().post(self.url("meetings")).json(&body).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
    }

    async fn put(&self, id: &str, zip: &[u8]) {
        let url = self.url(&format!("meetings/{id}/package"));
        let put = client().put(url).body(zip.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::OK);
    }

    async fn begin_meeting(&self, id: &str) {
        let url = self.url(&format!("meetings/{id}/start"));
        let begun = client().post(url).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::OK);
    }

    /// Waits until it sends tablets to all these nodes for a meeting.
    async fn until_held_by(&self, id: &str, nodes: usize) {
        until(&format!("{nodes} nodes have {id}"), async || {
            let meeting = self.json(&format!("meetings/{id}")).await;
            (meeting["nodes"].as_array()?.len() == nodes).then_some(())
        })
        .await;
    }
}

/// The addresses of a cluster, in which tablets and nodes try one after the other.
fn addresses(servers: &[ClusterServer]) -> Vec<String> {
    servers.iter().map(|server| server.address.to_string()).collect()
}

async fn node_of(addresses: &[String], id: &str) -> (NodeFolder, NodeProcess) {
    let folder = NodeFolder::of(&addresses[0]);
    let folder = folder.with(json!({"nodeId": id, "mainServers": addresses}));
    let node = folder.start().await;
    (folder, node)
}

/// Downloads as a tablet behind a load balancer does: at whichever answers.
async fn download(addresses: &[String], id: &str) -> Vec<u8> {
    until("a download", async || {
        for address in addresses {
            let url = format!("http://{address}/api/v1/meetings/{id}/download-package");
            let Ok(sent) = client().get(url).send().await else { continue };
            let Some(node) = sent.headers().get("location").and_then(|url| url.to_str().ok())
            else {
                continue;
            };
            let Ok(answer) = client().get(node).send().await else { continue };
            if answer.status() == StatusCode::OK
                && let Ok(bytes) = answer.bytes().await
            {
                return Some(bytes.to_vec());
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn either_main_server_may_be_killed_and_nothing_is_lost_or_pulled_again() {
    let (postgres, packages) = (TestPostgres::start().await, tempfile::tempdir().unwrap());
    let database = tasks::blocking(postgres.creation("fleet")).await;
    let one = ClusterServer::start(&database, packages.path()).await;
    let other = ClusterServer::start(&database, packages.path()).await;
    let mut servers = [one, other];
    let addresses = addresses(&servers);
    let mut nodes = Vec::new();
    for n in 0..3 {
        nodes.push(node_of(&addresses, &format!("node-{n}")).await);
    }
    let first = big_zip(3 << 20, 1);
    servers[0].create("first").await;
    servers[0].put("first", &first).await;
    servers[0].begin_meeting("first").await;
    for server in &servers {
        server.until_held_by("first", 3).await;
    }
    for round in 0..2 {
        // Whoever is killed has acknowledged all of this.
        let id = format!("m{round}");
        let package = zip_of(&id);
        let (gone, left) = (round % 2, (round + 1) % 2);
        servers[gone].create(&id).await;
        servers[gone].put(&id, &package).await;
        servers[gone].begin_meeting(&id).await;
        servers[gone].process.kill();
        servers[left].until_held_by(&id, 3).await;
        assert!(download(&addresses, &id).await == package);
        assert!(download(&addresses, "first").await == first);
        for (_, node) in &nodes {
            node.until_synced(&id).await;
        }
        let [a, b] = servers;
        servers = match gone {
            0 => [a.restarted(&database, packages.path()).await, b],
            _ => [a, b.restarted(&database, packages.path()).await],
        };
        for server in &servers {
            server.until_held_by(&id, 3).await;
        }
    }
    // A node that is killed is gone for both, and its tablets go elsewhere.
    nodes[0].1.process.kill();
    assert!(download(&addresses, "first").await == first);
    for (_, node) in &nodes[1..] {
        let status = node.status().await;
        let pulls = status["meetings"].as_array().unwrap().len();
        assert_eq!(pulls, 3);
        assert_eq!(node.download("first").await, (StatusCode::OK, first.clone()));
    }
}
