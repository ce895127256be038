//! `edge-mirror sync`.

use reqwest::Method;
use serde_json::json;

use super::{nobody, run, run_in_chinese};
use crate::support::{ScriptedMain, TestNode, main_server::Fault, until, zips::big_zip};

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_is_pulled_now_and_waited_for() {
    let main = ScriptedMain::start().await;
    main.fail("/uploads/", [Fault::Status(500)]);
    main.activate("m1", "Board", &big_zip(300_000, 1));
    // By itself it would try again, but later.
    let config = json!({"network": {"retryCount": 1, "retryDelay": 3600}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    until("the failure", async || (node.meeting("m1").await["state"] == "failing").then_some(()))
        .await;
    let url = node.url("");
    let done = run(["sync", "m1", "--node", &url]).await;
    assert_eq!(done.code, Some(0), "{}", done.errors);
    assert!(done.output.contains("meeting m1 is ready: 293 KiB"), "{}", done.output);
    let before = main.count(Method::HEAD, "/uploads/") + main.count(Method::GET, "/uploads/");
    let done = run_in_chinese(["sync", "m1", "--node", &url]).await;
    assert!(done.output.contains("会议 m1 已就绪"));
    until("it was compared", async || {
        let now = main.count(Method::HEAD, "/uploads/") + main.count(Method::GET, "/uploads/");
        (now > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let url = node.url("");
    run(["sync", "m9", "--node", &url]).await.refused(1, &["answered 404", "m9 is not active"]);
    run(["sync", "a/b", "--node", &url]).await.refused(1, &["'a/b'", "a meeting id is"]);
    let gone = format!("http://{}", nobody());
    run(["sync", "m1", "--node", &gone]).await.refused(1, &["cannot reach"]);
    // It makes none, or the node would wait for it.
    main.play().offers = false;
    main.activate_without_package("m1");
    until("it is tried", async || (node.meeting("m1").await["state"] == "failing").then_some(()))
        .await;
    let failed = run(["sync", "m1", "--node", &url]).await;
    failed.refused(1, &["the package of meeting m1 can't be pulled now", "answered 500"]);
}
