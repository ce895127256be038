//! `edge-mirror nodes` and `edge-mirror meetings`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{nobody, run, run_in_chinese};
use crate::support::{ScriptedMain, TestMaster, TestNode, client, until, zip_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_main_servers_nodes_and_meetings_are_listed() {
    let main = TestMaster::build().start().await;
    let url = main.url("");
    for (name, none) in
        [("nodes", "no nodes are online\n"), ("meetings", "there are no meetings\n")]
    {
        let empty = run([name, "--master", &url]).await;
        assert_eq!((empty.code, empty.output.as_str()), (Some(0), none));
        assert_eq!(run([name, "--master", &url, "--json"]).await.json(), json!([]));
    }
    main.begin_with("m1", &zip_of("a")).await;
    let node = TestNode::of(&main.authority()).start().await;
    main.until_held_by("m1", &["node-test"]).await;
    let nodes = run(["nodes", "--master", &main.authority()]).await.output;
    let row = nodes.lines().nth(1).unwrap();
    let address = node.address().to_string();
    assert!(row.starts_with("node-test") && row.contains(&address) && row.contains("in use"));
    let nodes: Value = run(["nodes", "--master", &url, "--json"]).await.json();
    assert_eq!(nodes[0]["node_id"], "node-test");

    let meetings = run(["meetings", "--master", &url]).await.output;
    let row: Vec<_> = meetings.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), ("m1", "Board"));
    assert!(
        meetings.lines().nth(1).unwrap().contains("  1 of 1    ready, the last at "),
        "{meetings}"
    );
    assert!(meetings.contains("running"));
    assert!(run_in_chinese(["meetings", "--master", &url]).await.output.contains("进行中"));
    assert_eq!(run(["meetings", "--master", &url, "--json"]).await.json()[0]["id"], "m1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_stay_listed_and_are_refused_accepted_and_removed() {
    let main = TestMaster::build().start().await;
    let beat = json!({
        "node_id": "hall", "address": "127.0.0.1:9", "status": "online",
        "active_meetings": [], "synced_meetings": [],
    });
    let url = main.url("/api/v1/nodes/heartbeat");
    client().post(url).json(&beat).send().await.unwrap().error_for_status().unwrap();
    let fleet = async |main: &TestMaster| main.json("/api/v1/fleet/nodes").await;
    until("it is known", async || fleet(&main).await["nodes"].get(0).map(drop)).await;
    let main = main.stop().await.start().await;
    assert_eq!(fleet(&main).await["nodes"][0]["id"], "hall", "after a restart");

    let url = main.url("");
    let decide = async |what: &str, id: &str| run(["nodes", what, id, "--master", &url]).await;
    let done = decide("refuse", "hall").await;
    assert_eq!((done.code, &*done.output), (Some(0), "node hall is refused\n"));
    assert_eq!(fleet(&main).await["refused"][0]["id"], "hall");
    let listed = run(["nodes", "--master", &url]).await.output;
    let line = "refused: hall at 127.0.0.1:9; edge-mirror nodes approve hall\n";
    assert!(listed.ends_with(line), "{listed}");
    let done = decide("approve", "hall").await;
    assert_eq!((done.code, &*done.output), (Some(0), "node hall at 127.0.0.1:9 is accepted\n"));
    let done = decide("remove", "hall").await;
    assert_eq!((done.code, &*done.output), (Some(0), "node hall was removed\n"));
    assert_eq!(fleet(&main).await["nodes"], json!([]));
    decide("remove", "hall").await.refused(1, &["Node hall not found"]);
    decide("approve", "大厅 1").await.refused(1, &["no node 大厅 1 waits"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_or_no_main_server_is_said() {
    let gone = format!("http://{}", nobody());
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    for name in ["nodes", "meetings"] {
        run([name, "--master", &gone]).await.refused(1, &["cannot reach", "Connection refused"]);
        run([name, "--master", &node.url("")]).await.refused(1, &["is a node; try"]);
    }
    // It does not become one, so there is nothing to wait for.
    let (begun, wait) = (Instant::now(), Duration::from_secs(60));
    let ready = ["ready", "m1", "--wait", "60s", "--master", &node.url("")];
    run(ready).await.refused(1, &["is a node; try"]);
    assert!(begun.elapsed() < wait, "it waited");
}
