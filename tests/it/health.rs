//! Whether a node or a main server lives, and can serve.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Fault, ScriptedMain, TestMaster, TestNode, client, metrics::Metrics, until, zip_of,
};

const LIVE: &str = "/api/health/live";
const READY: &str = "/api/health/ready";

/// Status and what is not ready; none where nobody answers.
async fn ready(url: &str) -> Option<(u16, Vec<String>)> {
    let answer = client().get(url).send().await.ok()?;
    let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await.ok()?);
    let problems = body["problems"].as_array().unwrap();
    assert_eq!(status == 200, problems.is_empty(), "{body}");
    let texts: Vec<_> = problems.iter().map(|problem| problem["text"].as_str().unwrap()).collect();
    match status {
        200 => assert_eq!(body["status"], "ready"),
        _ => assert_eq!(
            (&body["status"], &body["detail"]),
            (&json!("not_ready"), &json!(texts.join("; ")))
        ),
    }
    let codes = problems.iter().map(|problem| problem["code"].as_str().unwrap().to_owned());
    Some((status, codes.collect()))
}

async fn until_ready(url: &str, status: u16, codes: &[&str]) {
    let expected = Some((status, codes.iter().map(ToString::to_string).collect()));
    until(&format!("{status} {codes:?}"), async || (ready(url).await == expected).then_some(()))
        .await;
}

async fn is_live(url: &str) -> bool {
    client().get(url).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_while_its_service_runs_and_its_storage_takes_files() {
    let main = ScriptedMain::start().await;
    // Whether the main server is there is another matter: what is here is served.
    main.go_away().await;
    let node = TestNode::of(&main.authority()).start().await;
    let (live, url) = (node.url(LIVE), node.url(READY));
    assert_eq!(ready(&url).await, Some((200, vec![])));
    let head = client().request(Method::HEAD, &url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );

    node.post("/api/service/stop", json!({})).await;
    assert_eq!(ready(&url).await, Some((503, vec!["stopped".into()])));
    assert!(is_live(&live).await);
    let metrics = Metrics::of(&node.url("")).await;
    let read = ["edge_mirror_ready", "edge_mirror_service_running"].map(|name| metrics.get(name));
    assert_eq!(read, [0.0, 0.0]);
    node.post("/api/service/start", json!({})).await;
    assert_eq!(ready(&url).await, Some((200, vec![])));
    assert_eq!(Metrics::of(&node.url("")).await.get("edge_mirror_ready"), 1.0);

    let scratch = node.storage().join(".scratch");
    fs::rename(&scratch, node.storage().join("away")).unwrap();
    until_ready(&url, 503, &["storage_not_writable"]).await;
    assert!(is_live(&live).await);
    fs::rename(node.storage().join("away"), &scratch).unwrap();
    until_ready(&url, 200, &[]).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_is_first_of_all_not_ready() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    until("registered", async || (node.status().await["registered"] == true).then_some(())).await;
    let (live, url) = (node.url(LIVE), node.url(READY));
    assert_eq!(ready(&url).await, Some((200, vec![])));
    // So that the goodbye, which comes before the port is closed, lasts.
    main.fail("/nodes/unregister", [Fault::Silence(Duration::from_secs(2))]);
    let ending = tokio::spawn(node.shut_down());
    until("the goodbye", async || (!main.asked("/nodes/unregister").is_empty()).then_some(()))
        .await;
    assert_eq!(ready(&url).await, Some((503, vec!["stopping".into()])));
    assert!(is_live(&live).await);
    assert!(ending.await.unwrap());
    assert_eq!(ready(&url).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_is_ready_while_its_storage_takes_files() {
    let master = TestMaster::build().start().await;
    master.begin_with("m", &zip_of("one")).await;
    let (live, url) = (master.url(LIVE), master.url(READY));
    assert_eq!(ready(&url).await, Some((200, vec![])));
    let data = master.json("/api/v1/overview").await["data"].as_str().unwrap().to_owned();
    let packages = std::path::Path::new(&data).join("packages");
    fs::rename(packages.join(".scratch"), packages.join("away")).unwrap();
    until_ready(&url, 503, &["storage_not_writable"]).await;
    assert!(is_live(&live).await);
    assert_eq!(Metrics::of(&master.url("")).await.get("edge_mirror_ready"), 0.0);
    fs::rename(packages.join("away"), packages.join(".scratch")).unwrap();
    until_ready(&url, 200, &[]).await;
    drop(master.stop().await);
    assert_eq!(ready(&url).await, None);
}
