//! Our main server in the place of GoFD's, with our node in that of its agents.

use std::{net::Ipv4Addr, path::Path};

use edge_mirror_gofd::GofdConfig;
use edge_mirror_main_server::GofdOptions;

use super::*;
use crate::support::TestMaster;

/// Our main server's gateway, and a client of GoFD there.
struct GofdClient {
    main: TestMaster,
    url: String,
    client: reqwest::Client,
}

impl GofdClient {
    /// With the configuration of a GoFD server, in its own spelling.
    async fn start(agent_ports: (u16, u16), tls: Option<&TestCertificate>) -> Self {
        let block = tls.map_or_else(String::new, |files| {
            format!(
                "  tls:\n    cert: {}\n    key: {}\n",
                files.cert.display(),
                files.key.display()
            )
        });
        let text = format!(
            "net:\n  ip: 127.0.0.1\n  agentMgntPort: {}\n  agentDataPort: {}\n{block}auth:\n  \
             username: gofd\n  passowrd: {PASSWORD}\n  factor: {FACTOR}\n",
            agent_ports.0, agent_ports.1
        );
        let config = GofdConfig::parse(&text).unwrap().config;
        assert_eq!(config.tls.is_some(), tls.is_some());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let silence = GofdOptions::DEFAULT_SILENCE;
        let options = GofdOptions { listen: any, data: any, config, silence };
        let main = TestMaster::build().gofd(options).start().await;
        let (scheme, client) = match tls {
            Some(files) => ("https", files.authority.client()),
            None => ("http", client()),
        };
        let url = format!("{scheme}://127.0.0.1:{}/api/v1/server/tasks", main.gofd_ports().0);
        Self { main, url, client }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let root = self.main.data().join("root");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join(name), bytes).unwrap();
        root.join(name)
    }

    async fn post(&self, file: &Path, ips: &[&str]) {
        let task = json!({"id": "1", "dispatchFiles": [file], "destIPs": ips});
        let request = self.client.post(&self.url).basic_auth("gofd", Some("gofd"));
        let posted = request.json(&task).send().await.unwrap();
        assert_eq!(posted.status(), StatusCode::ACCEPTED);
    }

    async fn until_completed(&self) -> Value {
        until("the task is completed", async || {
            let request = self.client.get(format!("{}/1", self.url));
            let shown = request.basic_auth("gofd", Some("gofd")).send().await.unwrap();
            let shown: Value = shown.json().await.unwrap();
            (shown["status"] == "COMPLETED").then_some(shown)
        })
        .await
    }
}

/// Both sides are ours, so it is GoFD's protocol that they meet by.
#[tokio::test(flavor = "multi_thread")]
async fn our_server_and_our_agents_pass_a_file_along_a_chain() {
    let first = TestAgent::start("127.0.0.25", None).await;
    let second = TestAgent::start("127.0.0.26", Some((first.mgnt, first.data))).await;
    let gateway = GofdClient::start((first.mgnt, first.data), None).await;
    let bytes = noise(3_000_000);
    gateway.post(&gateway.write("a.bin", &bytes), &["127.0.0.25", "127.0.0.26"]).await;
    let shown = gateway.until_completed().await;
    for (agent, ip) in [(&first, "127.0.0.25"), (&second, "127.0.0.26")] {
        assert_eq!(shown["dispatchInfos"][ip]["percentComplete"], 100);
        assert_eq!(std::fs::read(agent.down("a.bin")).unwrap(), bytes, "{ip}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_tasks_and_reports_go_by_https_and_not_without_it() {
    let certificate = TestCertificate::new(&["127.0.0.1", "127.0.0.27", "127.0.0.28"]);
    let first = TestAgent::over_tls("127.0.0.27", None, &certificate).await;
    let ports = (first.mgnt, first.data);
    let second = TestAgent::over_tls("127.0.0.28", Some(ports), &certificate).await;
    let gateway = GofdClient::start(ports, Some(&certificate)).await;
    let bytes = noise(1_500_000);
    gateway.post(&gateway.write("a.bin", &bytes), &["127.0.0.27", "127.0.0.28"]).await;
    // Agents report it.
    gateway.until_completed().await;
    for agent in [&first, &second] {
        assert_eq!(std::fs::read(agent.down("a.bin")).unwrap(), bytes, "{}", agent.ip);
    }
    let agents = format!("https://127.0.0.27:{}/api/v1/agent/tasks/1", ports.0);
    let encrypted = certificate.authority.client().delete(&agents);
    let answer = encrypted.basic_auth("gofd", Some("gofd")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    for url in [agents, format!("{}/1", gateway.url)] {
        let plain = client().delete(url.replacen("https", "http", 1));
        let answer = plain.basic_auth("gofd", Some("gofd")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_reaches_a_node_and_an_agent() {
    let agent = TestAgent::start("127.0.0.29", None).await;
    let gateway = GofdClient::start((agent.mgnt, agent.data), None).await;
    let node = TestNode::of(&gateway.main.authority()).start().await;
    until("the node is known", async || {
        let nodes = gateway.main.json("/api/v1/fleet/nodes").await;
        nodes["nodes"].as_array()?.iter().any(|node| node["id"] == "node-test").then_some(())
    })
    .await;
    let bytes = noise(1_500_000);
    gateway.post(&gateway.write("a.bin", &bytes), &["127.0.0.1", "127.0.0.29"]).await;
    let shown = gateway.until_completed().await;
    for ip in ["127.0.0.1", "127.0.0.29"] {
        assert_eq!(shown["dispatchInfos"][ip]["status"], "COMPLETED", "{shown}");
    }
    assert_eq!(std::fs::read(agent.down("a.bin")).unwrap(), bytes);
    let task = until("the node's task is over", async || {
        let tasks = gateway.main.json("/api/v1/dispatch").await;
        Some(tasks["tasks"][0].clone()).filter(|task| task["status"] == "completed")
    })
    .await;
    assert_eq!((&task["title"], &task["nodes"]["total"]), (&json!("GoFD 1"), &json!(1)));
    let path = format!("/api/v1/files/{}/a.bin", task["id"].as_str().unwrap());
    assert!(node.get(&path).await.bytes().await.unwrap() == bytes);
}
