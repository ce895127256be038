//! HTTPS to the main server.

use serde_json::{Value, json};

use super::HERE;
use crate::support::{
    ScriptedMain,
    certificates::{Authority, Pair, replace},
    process::{NodeFolder, NodeProcess},
    until, zip_of,
};

/// A node of a main server that shows this certificate.
async fn node_of(
    pair: &Pair,
    asks: Option<&Authority>,
    host: &str,
    settings: impl FnOnce(&NodeFolder) -> Value,
) -> (ScriptedMain, NodeFolder, NodeProcess) {
    let main = ScriptedMain::start_secure(pair.server(asks)).await;
    main.activate("m", "M", &zip_of("m"));
    let folder = NodeFolder::of(&main.authority());
    let patch = settings(&folder);
    let folder = folder.with(json!({"mainServerTls": true, "mainServerIp": host})).with(patch);
    let node = folder.start().await;
    (main, folder, node)
}

/// What the node says of its main server, once it has tried.
async fn complaint(node: &NodeProcess) -> String {
    until("a complaint", async || {
        let problems = node.status().await["problems"].to_string();
        problems.contains("main_server_unreachable").then_some(problems)
    })
    .await
}

fn own_ca(authority: &Authority) -> impl FnOnce(&NodeFolder) -> Value {
    let pem = authority.pem();
    move |folder| {
        replace(&folder.path().join("ca.pem"), &pem);
        json!({"mainServerCa": "ca.pem"})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_of_an_own_authority_is_registered_at_and_pulled_from() {
    let authority = Authority::new();
    for host in ["127.0.0.1", "localhost"] {
        let pair = authority.pair(HERE);
        let (main, _folder, node) = node_of(&pair, None, host, own_ca(&authority)).await;
        node.until_synced("m").await;
        assert_eq!(node.download("m").await, (reqwest::StatusCode::OK, zip_of("m")));
        let status = node.status().await;
        let url = status["main_server"].as_str().unwrap();
        assert!(url.starts_with(&format!("https://{host}:")), "{url}");
        assert!(!main.asked("/nodes/register").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_is_known_by_its_very_certificate_too() {
    // Of an authority that nobody here has, and for another name.
    let pair = Authority::new().pair(&["elsewhere"]);
    let pem = pair.cert.clone();
    let (_main, _folder, node) = node_of(&pair, None, "127.0.0.1", |folder| {
        replace(&folder.path().join("main.pem"), &pem);
        json!({"mainServerCa": "main.pem"})
    })
    .await;
    node.until_synced("m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_asks_for_a_certificate_is_shown_one() {
    let (authority, nodes) = (Authority::new(), Authority::new());
    let pair = authority.pair(HERE);
    let ca = own_ca(&authority);
    let (_main, folder, node) = node_of(&pair, Some(&nodes), "127.0.0.1", ca).await;
    let told = complaint(&node).await;
    assert!(
        told.contains("it asks for a certificate") && told.contains("mainServerCert"),
        "{told}"
    );
    nodes.pair(&["a node"]).write(folder.path());
    node.configure(json!({"mainServerCert": "cert.pem", "mainServerCertKey": "key.pem"})).await;
    node.until_synced("m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_main_server_is_not_trusted_for_is_told_with_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (pair, host, ca, parts) in [
        (
            authority.pair(HERE),
            "127.0.0.1",
            &other,
            ["authority that is not trusted", "mainServerCa"],
        ),
        (authority.expired(HERE), "127.0.0.1", &authority, ["has expired", "renew it"]),
        (
            authority.pair(&["main.example"]),
            "127.0.0.1",
            &authority,
            ["not for 127.0.0.1", "main.example"],
        ),
    ] {
        let (_main, _folder, node) = node_of(&pair, None, host, own_ca(ca)).await;
        let told = complaint(&node).await;
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    // Plain HTTP is spoken there.
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority()).with(json!({"mainServerTls": true}));
    let told = complaint(&folder.start().await).await;
    assert!(told.contains("does not speak TLS at this port"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_replaced_counts_from_then_on() {
    let (before, after) = (Authority::new(), Authority::new());
    let (_main, folder, node) =
        node_of(&after.pair(HERE), None, "127.0.0.1", own_ca(&before)).await;
    complaint(&node).await;
    replace(&folder.path().join("ca.pem"), &after.pem());
    node.until_synced("m").await;
    // One that is no certificate is told, and the good one stays in use.
    replace(&folder.path().join("ca.pem"), "nothing");
    until("the fault", async || {
        let problems = node.status().await["problems"].to_string();
        problems.contains("mainServerCa").then_some(())
    })
    .await;
    let beats = node.status().await["connected"].clone();
    assert_eq!(beats, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn tablets_that_a_plain_main_server_sends_get_their_package_from_an_https_node() {
    // What is registered is host and port alone, as the contract has it.
    let main = ScriptedMain::start().await;
    let node = super::Secure::of(&main.authority(), json!({})).await;
    let address = until("a registration", async || {
        let asked = main.asked("/nodes/register");
        Some(asked.first()?.body["address"].as_str()?.to_owned())
    })
    .await;
    assert_eq!(address, node.address().to_string());
}
