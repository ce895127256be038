//! Being known to the main server.

use reqwest::Method;
use serde_json::json;

use crate::support::{Fault, PATIENCE, ScriptedMain, TestNode, node::free_port, until, zip_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_beats_and_unregisters() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("papers"));
    let node = TestNode::of(&main.authority()).start().await;
    let address = node.address().to_string();
    until("a heartbeat with the meeting synced", async || {
        let beat = main.last_heartbeat();
        (beat["synced_meetings"] == json!(["m1"])).then_some(())
    })
    .await;
    let beat = main.last_heartbeat();
    assert_eq!(beat["node_id"], "node-test");
    assert_eq!(beat["address"], address);
    assert_eq!(beat["status"], "online");
    assert_eq!(beat["active_meetings"], json!([{"id": "m1", "title": "Board"}]));
    let register = &main.asked("/nodes/register")[0].body;
    assert_eq!(*register, json!({"node_id": "node-test", "address": address, "status": "online"}));
    let status = node.status().await;
    assert_eq!((&status["connected"], &status["node_ip"]), (&json!(true), &json!("127.0.0.1")));

    node.shut_down().await;
    assert_eq!(main.knows("node-test"), None);
    assert_eq!(main.count(Method::POST, "/nodes/unregister"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_pull_is_told_at_once_and_not_at_the_next_interval() {
    let main = ScriptedMain::start().await;
    let slow = json!({"heartbeat": {"interval": 300, "timeout": 301}});
    let node = TestNode::of(&main.authority()).with(slow).start().await;
    until("the first heartbeat", async || {
        (main.count(Method::POST, "heartbeat") > 0).then_some(())
    })
    .await;
    main.activate("m1", "Board", &zip_of("papers"));
    until("the news", async || {
        (main.last_heartbeat()["synced_meetings"] == json!(["m1"])).then_some(())
    })
    .await;
    main.end("m1");
    until("the end of it", async || {
        (main.last_heartbeat()["active_meetings"] == json!([])).then_some(())
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_keeps_a_heartbeat_unanswered_is_told_goodbye_all_the_same() {
    let main = ScriptedMain::start().await;
    main.fail("/nodes/heartbeat", [Fault::Silence(10 * PATIENCE)]);
    let patient = json!({
        "heartbeat": {"interval": 300, "timeout": 301}, "network": {"connectionTimeout": 300},
    });
    let node = TestNode::of(&main.authority()).with(patient).start().await;
    until("the heartbeat", async || (main.count(Method::POST, "heartbeat") > 0).then_some(()))
        .await;
    node.post("/api/service/stop", json!(null)).await;
    until("goodbye", async || (main.count(Method::POST, "unregister") > 0).then_some(())).await;
    assert_eq!((main.knows("node-test"), main.count(Method::POST, "heartbeat")), (None, 1));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_its_main_server_and_serves_what_it_has() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let stopped = node.stop().await;

    main.go_away().await;
    let node = stopped.start().await;
    assert_eq!(node.download("m1").await.1, zip);
    until("the outage in the status", async || {
        let status = node.status().await;
        let told = status["heartbeat_error"].is_string() && status["poll_error"].is_string();
        (told && status["connected"] == false).then_some(())
    })
    .await;

    main.come_back().await;
    until("registered again", async || main.knows("node-test")).await;
    until("connected again", async || (node.status().await["connected"] == true).then_some(()))
        .await;
    assert!(main.count(Method::POST, "/nodes/register") > 0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_forgot_the_node_learns_its_address_again() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    until("registered", async || main.knows("node-test")).await;
    let before = main.count(Method::POST, "/nodes/register");
    main.go_away().await;
    until("the outage", async || node.status().await["heartbeat_error"].as_str().map(|_| ())).await;
    main.come_back().await;
    until("registered again", async || {
        (main.count(Method::POST, "/nodes/register") > before).then_some(())
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_main_server_says_goodbye_there_and_hello_here() {
    let (first, second) = (ScriptedMain::start().await, ScriptedMain::start().await);
    first.activate("m1", "Board", &zip_of("of the first"));
    let theirs = zip_of("of the second");
    second.activate("m1", "Council", &theirs);
    let node = TestNode::of(&first.authority()).start().await;
    node.until_synced("m1").await;

    let port: u16 = second.authority().rsplit_once(':').unwrap().1.parse().unwrap();
    node.configure(json!({"mainServerPort": port})).await;
    until("hello", async || second.knows("node-test")).await;
    until("goodbye", async || first.knows("node-test").is_none().then_some(())).await;
    // The same id is another meeting there: its package must not be the old one.
    assert_eq!(node.download("m1").await.1, theirs);
    assert_eq!(second.count(Method::POST, "/nodes/unregister"), 0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_registered_anew() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).with(json!({"nodePort": free_port()})).start().await;
    until("registered", async || main.knows("node-test")).await;
    let public = json!({"publicIp": "files.example", "publicPort": 8080, "usePublicAddress": true});
    node.configure(public).await;
    until("the new address", async || {
        main.knows("node-test").filter(|a| a == "files.example:8080")
    })
    .await;
    assert_eq!(node.status().await["advertised_address"], "files.example:8080");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_and_start_take_effect_at_once_and_twice_is_once() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let slow = json!({"heartbeat": {"interval": 300, "timeout": 301}, "syncInterval": 3600});
    let node = TestNode::of(&main.authority()).with(slow).start().await;
    node.until_synced("m1").await;

    for message in ["服务已停止", "服务已经停止"] {
        let (status, answer) = node.post("/api/service/stop", json!(null)).await;
        assert_eq!(
            (status.as_u16(), answer),
            (200, json!({"status": "success", "message": message}))
        );
    }
    let (status, body) = node.download("m1").await;
    assert_eq!(status, 503);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
        json!({"detail": "服务未运行"})
    );
    until("goodbye", async || main.knows("node-test").is_none().then_some(())).await;
    assert_eq!(node.status().await["running"], false);
    let polls = main.asked("status/node").len();

    for message in ["服务已启动", "服务已经在运行中"] {
        let (_, answer) = node.post("/api/service/start", json!(null)).await;
        assert_eq!(answer["message"], message);
    }
    until("hello", async || main.knows("node-test")).await;
    until("a poll at once", async || (main.asked("status/node").len() > polls).then_some(())).await;
    assert_eq!(node.download("m1").await.1, zip);
    node.shut_down().await;
}
