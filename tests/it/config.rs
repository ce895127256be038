//! Configuration by API and by hand, live.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{ScriptedMain, TestNode, client, node::free_port, until, zip_of};

fn file(node: &TestNode) -> Value {
    serde_json::from_slice(&std::fs::read(node.config_path()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_change_is_merged_saved_and_in_force() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).with(json!({"note": "kept"})).start().await;
    node.configure(json!({"heartbeat": {"interval": 2}, "storage": {"cleanupThreshold": 0.5}}))
        .await;
    let config = node.json("/api/config").await;
    assert_eq!(
        (&config["heartbeat"], &config["syncInterval"]),
        (&json!({"interval": 2, "timeout": 3}), &json!(1))
    );
    let file = file(&node);
    assert_eq!(
        (&file["note"], &file["storage"]),
        (&json!("kept"), &json!({"cleanupThreshold": 0.5}))
    );
    // What is shown can be sent back whole.
    node.configure(config).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_names_each_fault_and_changes_nothing() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let (before, shown) = (file(&node), node.json("/api/config").await);
    let bad = json!({"syncInterval": 0, "nodePort": "x", "heartbeat": "x", "retrycount": 3, "network": {"retryCout": 1}});
    let (status, answer) = node.post("/api/config", bad).await;
    let detail = answer["detail"].as_str().unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for part in [
        "syncInterval = 0",
        "1 to 3600",
        "nodePort = \"x\"",
        "heartbeat = \"x\"",
        "retrycount",
        "network.retryCout",
        "network.retryCount?",
    ] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    for bad in [
        json!({"nodeId": "other"}),
        json!([1]),
        json!(null),
        json!({"storage": {"path": "node_config.json/x"}}),
    ] {
        let (status, answer) = node.post("/api/config", bad.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad} {answer}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let no_json = client().post(node.url("/api/config/check")).body("{}").send().await.unwrap();
    assert_eq!(no_json.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let garbage = client()
        .post(node.url("/api/config"))
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .unwrap();
    assert_eq!(garbage.status(), StatusCode::BAD_REQUEST);
    let huge = client()
        .post(node.url("/api/config"))
        .header("content-type", "application/json")
        .body(vec![b' '; 2 << 20])
        .send()
        .await
        .unwrap();
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!((file(&node), node.json("/api/config").await), (before, shown));
    drop(taken);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_interval_is_taken_in_every_old_form() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let post = async |body: &'static str| {
        let answer =
            client().post(node.url("/api/config/heartbeat")).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for (body, seconds) in
        [("30", 30), ("\"60\"", 60), ("{\"interval\":10}", 10), ("{\"interval\":\"300\"}", 300)]
    {
        let message = format!("心跳间隔已更新为 {seconds} 秒");
        assert_eq!(
            post(body).await,
            (200, json!({"status": "success", "message": message})),
            "{body}"
        );
        let heartbeat = &node.json("/api/config").await["heartbeat"];
        assert_eq!(heartbeat["interval"], seconds);
        assert!(heartbeat["timeout"].as_u64() > heartbeat["interval"].as_u64());
    }
    for body in ["9", "301", "-30", "\"0\""] {
        assert_eq!(
            post(body).await,
            (400, json!({"detail": "心跳间隔必须在10-300秒之间"})),
            "{body}"
        );
    }
    for body in ["", "x", "null", "[30]", "{}", "30.5", "{\"interval\":null}"] {
        assert_eq!(post(body).await, (400, json!({"detail": "无效的心跳间隔请求格式"})), "{body}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_by_hand_takes_effect_however_the_editor_saves() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let edit = |interval: u64| {
        let mut document = file(&node);
        document["syncInterval"] = json!(interval);
        serde_json::to_vec(&document).unwrap()
    };
    let in_force = async |interval: u64| {
        until(&format!("interval {interval}"), async || {
            (node.json("/api/config").await["syncInterval"] == interval).then_some(())
        })
        .await;
    };
    std::fs::write(node.config_path(), edit(7)).unwrap();
    in_force(7).await;
    let beside = node.config_path().with_extension("swp");
    std::fs::write(&beside, edit(8)).unwrap();
    std::fs::rename(&beside, node.config_path()).unwrap();
    in_force(8).await;
    // A watch on the first file would see nothing any more.
    std::fs::write(&beside, edit(9)).unwrap();
    std::fs::rename(&beside, node.config_path()).unwrap();
    in_force(9).await;

    std::fs::write(node.config_path(), "{ \"syncInterval\": ").unwrap();
    until("the fault in the status", async || {
        node.status().await["config_error"].as_str().map(|_| ())
    })
    .await;
    assert_eq!(node.json("/api/config").await["syncInterval"], 9);
    let (status, _) = node.post("/api/config", json!({"syncInterval": 3})).await;
    assert_eq!(status, StatusCode::CONFLICT, "a save would throw the edit away");
    assert_eq!(std::fs::read(node.config_path()).unwrap(), b"{ \"syncInterval\": ");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_port_is_listened_to_before_the_old_one_drains() {
    use futures_util::StreamExt;
    let main = ScriptedMain::start().await;
    let zip = crate::support::zips::big_zip(8_000_000, 21);
    main.activate("m1", "Board", &zip);
    let (first, second) = (free_port(), free_port());
    let node = TestNode::of(&main.authority()).with(json!({"nodePort": first})).start().await;
    node.until_synced("m1").await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let (status, answer) = node.post("/api/config", json!({"nodePort": taken_port})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["detail"].as_str().unwrap().contains("another program uses the port"),
        "{answer}"
    );

    let mut body = client().get(node.package_url("m1")).send().await.unwrap().bytes_stream();
    let mut got = body.next().await.unwrap().unwrap().to_vec();
    node.configure(json!({"nodePort": second})).await;
    let moved = format!("http://127.0.0.1:{second}/api/status");
    until("the new port", async || client().get(&moved).send().await.ok()).await;
    until("the old port closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", first)).await.err()
    })
    .await;
    while let Some(chunk) = body.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert!(got == zip, "a download under way on the old port finishes");
    until("told to the main server", async || {
        main.knows("node-test").filter(|a| a.ends_with(&second.to_string()))
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_storage_folder_is_written_to_and_read_from() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let old = node.storage().join("meeting_m1/package.zip");
    node.configure(json!({"storage": {"path": "./elsewhere"}})).await;
    let new = node.config_path().with_file_name("elsewhere").join("meeting_m1/package.zip");
    until("the package in the new folder", async || new.exists().then_some(())).await;
    node.until_synced("m1").await;
    std::fs::remove_file(&old).unwrap();
    assert_eq!(node.download("m1").await.1, zip);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let post = async |path: &str, field: &str, value: &str| {
        let body = "{\"interval\":30}";
        let request = client().post(node.url(path)).header("content-type", "application/json");
        request.header(field, value).body(body).send().await.unwrap().status()
    };
    for path in ["/api/service/stop", "/api/service/start", "/api/config", "/api/config/heartbeat"]
    {
        assert_eq!(post(path, "origin", "http://elsewhere").await, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(
            post(path, "sec-fetch-site", "cross-site").await,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    assert_eq!(node.status().await["running"], true);
    let own = format!("http://{}", node.address());
    assert_eq!(post("/api/config/heartbeat", "origin", &own).await, StatusCode::OK);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_or_folder_that_could_not_be_used_is_forgotten_when_it_is_taken_back() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).with(json!({"nodePort": free_port()})).start().await;
    let good = std::fs::read(node.config_path()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bad = file(&node);
    bad["nodePort"] = json!(taken.local_addr().unwrap().port());
    bad["storage"] = json!({"path": "node_config.json/not-a-folder"});
    std::fs::write(node.config_path(), serde_json::to_vec(&bad).unwrap()).unwrap();
    let faults = async || {
        let status = node.status().await;
        (status["port_error"].is_string(), status["storage"]["error"].is_string())
    };
    until("both faults", async || (faults().await == (true, true)).then_some(())).await;
    std::fs::write(node.config_path(), good).unwrap();
    until("no fault", async || (faults().await == (false, false)).then_some(())).await;
    node.shut_down().await;
}
