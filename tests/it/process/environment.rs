//! Settings from the environment.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client,
    node::free_port,
    process::{NodeFolder, NodeProcess},
};

async fn get(node: &NodeProcess, path: &str) -> Value {
    client().get(node.url(path)).send().await.unwrap().json().await.unwrap()
}

async fn post(node: &NodeProcess, patch: &Value) -> (StatusCode, String) {
    let response = client().post(node.url("/api/config")).json(patch).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_goes_over_the_file_and_never_into_it() {
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port()));
    let mut command = folder.command();
    command.env("EDGE_MIRROR_SYNC_INTERVAL", "77").env("EDGE_MIRROR_NETWORK__RETRY_COUNT", "9");
    command.env("NODE_NAME", "Worker-1").env("EDGE_MIRROR_NO_SUCH_THING", "5");
    let node = NodeProcess::of(command).await;

    let config = get(&node, "/api/config").await;
    assert_eq!(config["syncInterval"], 77);
    assert_eq!(config["network"]["retryCount"], 9);
    assert_eq!(config["nodeId"], "Worker-1");
    let log = node.process.errors.get();
    assert!(log.contains("there is no such setting: EDGE_MIRROR_NO_SUCH_THING"), "{log}");

    let schema = get(&node, "/api/config/schema").await;
    let of = |key: &str| {
        let mut settings = schema["settings"].as_array().unwrap().iter();
        settings.find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(of("syncInterval")["environment"], "EDGE_MIRROR_SYNC_INTERVAL");
    assert_eq!(of("syncInterval")["fixed"], true);
    assert_eq!(of("nodePort")["environment"], Value::Null);
    assert_eq!(of("nodePort")["fixed"], false);

    // Sent back as it was shown, with something new: only that is saved.
    let (status, text) = post(&node, &json!({"syncInterval": 77, "shutdownGrace": 3})).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let saved = folder.config();
    assert_eq!(saved["syncInterval"], 1, "{saved}");
    assert_eq!(saved["shutdownGrace"], 3, "{saved}");
    assert_eq!(saved["network"], json!({"retryDelay": 0, "connectionTimeout": 5}));
    assert_eq!(saved["nodeId"], "node-test");

    let before = folder.config_bytes();
    let (status, text) = post(&node, &json!({"syncInterval": 5, "shutdownGrace": 4})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("EDGE_MIRROR_SYNC_INTERVAL"), "{text}");
    assert_eq!(folder.config_bytes(), before, "nothing of it was saved");
    let config = get(&node, "/api/config").await;
    assert_eq!((&config["syncInterval"], &config["shutdownGrace"]), (&json!(77), &json!(3)));
}

#[test]
fn what_is_wrong_in_the_environment_stops_the_start_with_its_name() {
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port()));
    let mut command = folder.command();
    command.env("EDGE_MIRROR_NODE_PORT", "99999").env("EDGE_MIRROR_SERVE__CUT_THROUGH", "maybe");
    let before = folder.config_bytes();
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for part in ["EDGE_MIRROR_NODE_PORT", "from 1 to 65535", "EDGE_MIRROR_SERVE__CUT_THROUGH"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(folder.config_bytes(), before);
}
