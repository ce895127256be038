//! Which nodes have a meeting's package, and why the others don't, as the main server and
//! `edge-mirror ready` say.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    TestMaster, TestNode, client,
    process::{NodeFolder, run as run_now},
    until,
    zips::big_zip,
};

async fn readiness(main: &TestMaster, id: &str) -> Value {
    let answer = client().get(main.meeting_url(id, "/readiness")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

fn node<'a>(readiness: &'a Value, node_id: &str) -> &'a Value {
    let mut nodes = readiness["nodes"].as_array().unwrap().iter();
    nodes.find(|node| node["node_id"] == node_id).unwrap_or(&Value::Null)
}

fn ready(main: &TestMaster, args: &[&str]) -> (Option<i32>, String, String) {
    let master = main.authority();
    run_now(["ready", "--master", &master].into_iter().chain(args.iter().copied()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_and_one_that_is_killed_are_told_with_the_reason() {
    let main = TestMaster::build().announce_timeout(Duration::ZERO).start().await;
    let good = TestNode::of(&main.authority()).with(json!({"nodeId": "good"})).start().await;
    let full = json!({"nodeId": "full", "storage": {"maxSize": 1 << 20}, "site": "east"});
    let full = TestNode::of(&main.authority()).with(full).start().await;
    let killed = NodeFolder::of(&main.authority()).with(json!({"nodeId": "killed"}));
    let mut killed = killed.start().await;
    main.begin_with("m1", &big_zip(3_000_000, 1)).await;
    let found = until("two are ready, and one fails", async || {
        let found = readiness(&main, "m1").await;
        (found["ready"] == 2 && found["failing"] == 1).then_some(found)
    })
    .await;
    assert_eq!((&found["total"], &found["is_ready"]), (&json!(3), &json!(false)));
    assert_eq!((&found["version"], &found["title"]), (&json!(1), &json!("Board")));
    let failing = &found["nodes"][0];
    let shown = ["node_id", "state", "reason", "site"].map(|field| failing[field].clone());
    assert_eq!(shown, ["full", "failing", "no_room", "east"]);
    assert!(!failing["text"].as_str().unwrap().is_empty() && failing["since"].is_number());
    assert_eq!(node(&found, "good")["state"], "ready");
    assert!(found["last_ready_at"].as_f64() >= node(&found, "good")["since"].as_f64());
    let (code, output, errors) = ready(&main, &["m1"]);
    assert_eq!((code, errors.as_str()), (Some(1), ""), "{output}");
    assert!(output.starts_with("2 of 3 nodes are ready with version 1, the last at "), "{output}");
    assert!(
        output.contains("; not ready: full\n") && output.contains("not enough room"),
        "{output}"
    );
    let overview = main.json("/api/v1/overview").await;
    let problem = &overview["problems"][0];
    assert_eq!((&problem["code"], &problem["nodes"]), (&json!("nodes_failing"), &json!("full")));
    let board = &overview["meetings"][0]["readiness"];
    assert_eq!((&board["ready"], &board["lacking"][0]["node_id"]), (&json!(2), &json!("full")));

    killed.process.kill();
    until("the killed one is missed", async || {
        let found = readiness(&main, "m1").await;
        (node(&found, "killed")["state"] == "unreachable").then_some(())
    })
    .await;
    good.shut_down().await;
    full.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_waits_until_all_are_ready_and_says_so_by_its_exit_code() {
    let main = TestMaster::build().start().await;
    let (code, output, errors) = ready(&main, &["nobody"]);
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(errors.contains("there is no meeting nobody"), "{errors}");
    assert_eq!(ready(&main, &["a/b"]).0, Some(2));
    main.create("m1", "Board").await;
    let (code, output, _) = ready(&main, &["m1"]);
    assert_eq!((code, output.as_str()), (Some(1), "there is no package\n"));
    main.put("m1", &big_zip(300_000, 1)).await;
    let (code, output, _) = ready(&main, &["m1"]);
    assert_eq!((code, output.as_str()), (Some(1), "there are no nodes\n"));
    let node = TestNode::of(&main.authority()).start().await;
    main.until_reached("node-test").await;
    let (code, output, _) = ready(&main, &["m1"]);
    assert_eq!(code, Some(1));
    assert!(output.contains("the meeting is neither running nor distributed"), "{output}");
    let master = main.authority();
    let waiting = tokio::task::spawn_blocking(move || {
        run_now(["ready", "m1", "--wait", "60s", "--json", "--master", &master])
    });
    main.begin("m1").await;
    let (code, output, errors) = waiting.await.unwrap();
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let told: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&told["is_ready"], &told["nodes"][0]["state"]), (&json!(true), &json!("ready")));
    assert!(
        ready(&main, &["m1"]).1.starts_with("the one node is ready with version 1"),
        "{output}"
    );
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_of_a_meeting_that_is_distributed_is_told_before_it_starts() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).start().await;
    main.create("m1", "Board").await;
    main.put("m1", &big_zip(300_000, 1)).await;
    main.distribute("m1").await;
    until("it is ready", async || (readiness(&main, "m1").await["is_ready"] == true).then_some(()))
        .await;
    let list = main.json("/api/v1/meetings").await;
    assert_eq!(list[0]["readiness"]["ready"], 1);
    let missing = client().get(main.meeting_url("m2", "/readiness")).send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    node.shut_down().await;
}
