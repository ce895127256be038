//! IPv4 and IPv6 side by side: who listens where, how clients are seen, and
//! which addresses nodes are known by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_mirror_http::listen;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    ScriptedMain, TestMaster, TestNode, client,
    process::{NodeFolder, NodeProcess, Process, binary},
    until, zip_of,
};

const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Not a name of this machine: who sends it is nobody in particular.
const FOREIGN_HOST: &str = "panel.test";

/// Loopback, by each kind that this machine has.
fn both() -> Vec<IpAddr> {
    let ipv6 = listen::host(None).is_ipv6().then_some(Ipv6Addr::LOCALHOST.into());
    [Some(Ipv4Addr::LOCALHOST.into()), ipv6].into_iter().flatten().collect()
}

fn url(host: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}{path}", std::net::SocketAddr::new(host, port))
}

/// A request for what only operators see, from the given address of this machine.
async fn asked_from(from: &str, port: u16, token: &str) -> StatusCode {
    let from: IpAddr = from.parse().unwrap();
    let to = if from.is_ipv4() { both()[0] } else { Ipv6Addr::LOCALHOST.into() };
    let client = edge_mirror_http::tls::http(edge_mirror_http::tls::client());
    let client = client.local_address(from).build().unwrap();
    let request = client.get(url(to, port, "/api/config")).header(header::HOST, FOREIGN_HOST);
    request.bearer_auth(token).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_told_where_listens_by_both_kinds() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let mut command = binary();
    command.args(["node", "--port", "0", "--config"]).arg(folder.config_path());
    let mut node = NodeProcess::of(command).await.process;
    let data = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["master", "--port", "0", "--data"]).arg(data.path());
    let mut master = Process::spawn(command);

    let node_at = node.until_listening().await;
    let master_at = master.until_listening().await;
    assert_eq!((node_at.ip(), master_at.ip()), (listen::host(None), listen::host(None)));
    for host in both() {
        let node = client().get(url(host, node_at.port(), "/api/status")).send().await.unwrap();
        let node: Value = node.json().await.unwrap();
        assert_eq!(node["node_id"], "node-test", "by {host}");
        let master = url(host, master_at.port(), "/api/v1/nodes/available");
        assert_eq!(client().get(master).send().await.unwrap().status(), StatusCode::OK);
    }
    // The log tells IPv4 as such.
    assert_eq!(asked_from("127.0.0.1", node_at.port(), "guess").await, StatusCode::UNAUTHORIZED);
    until("the log", async || {
        node.errors.get().contains("from 127.0.0.1 refused: wrong token").then_some(())
    })
    .await;
    assert!(!node.errors.get().contains("::ffff"), "{}", node.errors.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_counts_see_plain_ipv4() {
    let main = ScriptedMain::start().await;
    let rules = json!({"security": {"allowFrom": ["127.0.0.1", "127.0.0.2", "::1"]}});
    let node = TestNode::of(&main.authority()).with(rules).at(ANY).start().await;
    let (port, token) = (node.address().port(), node.new_token());
    assert_eq!(asked_from("127.0.0.1", port, &token).await, StatusCode::OK);
    assert_eq!(asked_from("127.0.0.3", port, &token).await, StatusCode::FORBIDDEN);

    for _ in 0..5 {
        assert_eq!(asked_from("127.0.0.1", port, "guess").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(asked_from("127.0.0.1", port, "guess").await, StatusCode::TOO_MANY_REQUESTS);
    // Not all clients of IPv4 are one machine.
    assert_eq!(asked_from("127.0.0.2", port, &token).await, StatusCode::OK);
    if both().len() > 1 {
        assert_eq!(asked_from("::1", port, &token).await, StatusCode::OK);
    }
    // This machine is this machine by either kind, and may always manage.
    for host in both() {
        let config = client().get(url(host, port, "/api/config")).send().await.unwrap();
        assert_eq!(config.status(), StatusCode::OK, "by {host}");
    }
    node.shut_down().await;
}

/// The main server probes a node there, and sends clients there.
async fn is_sent_clients(node: TestNode, master: &TestMaster, zip: &[u8], host: &str) {
    master.until_held_by("m1", &["node-test"]).await;
    let (port, path) = (node.address().port(), "api/v1/meetings/m1/download-package");
    assert_eq!(master.available().await, json!([format!("{host}:{port}")]));
    let location = master.redirect("m1").await.unwrap();
    assert_eq!(location, format!("http://{host}:{port}/{path}"));
    let followed = client().get(location).send().await.unwrap();
    assert_eq!(followed.bytes().await.unwrap(), zip);
    node.shut_down().await;
    until("no node", async || (master.available().await == json!([])).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_to_nodes_by_name_and_by_either_kind_of_address() {
    let master = TestMaster::build().start().await;
    let zip = zip_of("papers");
    master.begin_with("m1", &zip).await;
    let node = || TestNode::of(&master.authority());

    let named = json!({"publicIp": "localhost", "usePublicAddress": true});
    let by_name = node().with(named).at(ANY).start().await;
    is_sent_clients(by_name, &master, &zip, "localhost").await;
    let mapped = json!({"publicIp": "::ffff:127.0.0.1", "usePublicAddress": true});
    let by_mapped = node().with(mapped).at(ANY).start().await;
    is_sent_clients(by_mapped, &master, &zip, "127.0.0.1").await;
    let by_interface = node().with(json!({"advertiseInterface": "lo"})).at(ANY).start().await;
    is_sent_clients(by_interface, &master, &zip, "127.0.0.1").await;
    if both().len() > 1 {
        let by_ipv6 = node().at(Ipv6Addr::LOCALHOST.into()).start().await;
        is_sent_clients(by_ipv6, &master, &zip, "[::1]").await;
        let bare = json!({"publicIp": "::1", "usePublicAddress": true});
        let by_ipv6 = node().with(bare).at(ANY).start().await;
        is_sent_clients(by_ipv6, &master, &zip, "[::1]").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_takes_ipv4_written_as_ipv6_for_what_it_is() {
    let master = TestMaster::build().start().await;
    let body = json!({"node_id": "old", "address": "[::ffff:127.0.0.1]:9", "status": "online"});
    let url = master.url("/api/v1/nodes/register");
    assert!(client().post(url).json(&body).send().await.unwrap().status().is_success());
    assert_eq!(master.node("old").await["address"], "127.0.0.1:9");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_missing_is_a_problem_until_it_is_another_one() {
    let main = ScriptedMain::start().await;
    let missing = json!({"advertiseInterface": "no-such0"});
    let node = TestNode::of(&main.authority()).with(missing).at(ANY).start().await;
    let problem = async || {
        let status = node.status().await;
        let mut problems = status["problems"].as_array().unwrap().iter();
        problems.find(|problem| problem["code"] == "interface_missing").cloned()
    };
    let told = until("the problem", problem).await;
    assert_eq!((&told["interface"], &told["severity"]), (&json!("no-such0"), &json!("warning")));
    assert!(told["interfaces"].as_array().unwrap().contains(&json!("lo")), "{told}");
    let port = node.address().port();
    until("an address all the same", async || main.knows("node-test")).await;
    assert_eq!(main.knows("node-test").unwrap(), format!("127.0.0.1:{port}"));
    node.configure(json!({"advertiseInterface": "lo"})).await;
    until("no problem", async || problem().await.is_none().then_some(())).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_against_an_address_is_logged_once() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority()).with(json!({"advertiseInterface": "no-such0"}));
    let mut command = binary();
    command.args(["node", "--port", "0", "--config"]).arg(folder.config_path());
    let node = NodeProcess::of(command).await.process;
    until("some heartbeats", async || (main.asked("heartbeat").len() > 3).then_some(())).await;
    let log = node.errors.get();
    assert_eq!(log.matches("no interface no-such0 is up").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_name_that_is_none_is_refused_with_a_reason() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let (status, answer) = node.post("/api/config", json!({"publicIp": "my_node.local"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["detail"].as_str().unwrap().contains("letters, digits, hyphens"), "{answer}");
    node.shut_down().await;
}
