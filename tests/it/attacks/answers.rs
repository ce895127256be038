//! What a main server, or somebody in its place, answers to a poll.

use futures_util::future::join_all;
use serde_json::json;

use super::{Attack, tries};
use crate::support::{
    ScriptedMain,
    metrics::Metrics,
    process::{MemoryPeak, NodeFolder, NodeProcess},
    until, zip_of,
};

const ERRORS: [&str; 20] = [
    r#"{"id":"req-7f3a","error":"backend unavailable"}"#,
    r#"{"id":"t","active_meetings":null}"#,
    r#"{"id":"t","active_meetings":[],"error":"backend unavailable"}"#,
    r#"{"id":"gw-1","status":"degraded"}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"down"}}"#,
    r#"{"jsonrpc":"2.0","id":"1","result":null}"#,
    r#"{"id":"t","active_meetings":false}"#,
    r#"{"id":"t","active_meetings":0}"#,
    r#"{"id":"t","active_meetings":"none"}"#,
    r#"{"id":"t","active_meetings":{"error":"backend unavailable"}}"#,
    r#"{"id":"t","active_meetings":{"id":"req-1","error":"backend unavailable"}}"#,
    r#"{"id":"t","active_meetings":[{"id":"req-1","error":"backend unavailable"}]}"#,
    r#"{"id":"gw","active_meetings":{"error":{"code":-32000}}}"#,
    r#"{"id":"gw","active_meetings":{"items":[]}}"#,
    r#"{"id":"gw","active_meetings":{"detail":null}}"#,
    r#"{"id":"gw","active_meetings":{"available":false}}"#,
    r#"{"id":"t","active_meeting":false}"#,
    r#"{"error":"backend unavailable","active_meetings":[]}"#,
    r#"{"id":"t"}"#,
    r#"{"id":"t","detail":"Internal Server Error"}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_looks_like_an_answer_deletes_no_package() {
    let answers = &ERRORS[..tries(3, ERRORS.len())];
    let kept = join_all(answers.iter().map(|answer| keeps_packages(answer))).await;
    Attack {
        fault: "the main server's status call answers an error with status 200, as a gateway or a failing backend does",
        promise: "no package is deleted, and /api/status shows an error or the packages as active",
    }
    .report(answers.len(), kept.iter().filter(|kept| **kept).count(), "3 packages each");
}

/// Whether a node keeps its packages while it is answered this for several
/// times the grace that cleaning gives.
async fn keeps_packages(answer: &str) -> bool {
    let main = ScriptedMain::start().await;
    let ids = ["m1", "m2", "m3"];
    for id in ids {
        main.activate(id, "Board", &zip_of(id));
    }
    let folder = NodeFolder::of(&main.authority()).with(json!({"cleanup": {"graceSeconds": 1}}));
    let node = folder.start().await;
    for id in ids {
        node.until_synced(id).await;
    }
    main.play().status_answer = Some(answer.to_owned());
    until_polled(&main, 5).await;
    let here =
        ids.iter().all(|id| folder.storage().join(format!("meeting_{id}/package.zip")).exists());
    here && is_wary(&node).await
}

async fn until_polled(main: &ScriptedMain, times: usize) {
    let before = main.asked("status/node").len();
    until("polls", async || (main.asked("status/node").len() >= before + times).then_some(()))
        .await;
}

/// Nothing may be cleaned away: polls fail, or all meetings count as active.
async fn is_wary(node: &NodeProcess) -> bool {
    let status = node.status().await;
    let problems = status["problems"].as_array().unwrap();
    let active = status["meetings"].as_array().unwrap().iter().filter(|m| m["active"] == true);
    problems.iter().any(|problem| problem["code"] == "poll_failed") || active.count() >= 3
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_more_meetings_than_any_room_has_fills_no_memory() {
    let (main, tries) = (ScriptedMain::start().await, tries(1, 3));
    let (mut kept, mut most) = (0, 0.0_f64);
    for _ in 0..tries {
        let list: Vec<_> = (0..120_000).map(|n| format!(r#"{{"id":"m{n}","title":""}}"#)).collect();
        let list = list.join(",");
        main.play().status_answer = Some(format!(r#"{{"id":"t","active_meetings":[{list}]}}"#));
        let folder = NodeFolder::of(&main.authority());
        let node = folder.start().await;
        let memory = MemoryPeak::watch(node.process.id());
        let asked = main.asked("package-direct").len();
        until_polled(&main, 3).await;
        // Pulls, and what becomes of each, take memory, too.
        until("pulls", async || (main.asked("package-direct").len() > asked + 3000).then_some(()))
            .await;
        let status = node.status().await;
        let told = status["problems"].as_array().unwrap().iter().find(|problem| {
            problem["code"] == "too_many_meetings" && problem["left_out"] == 110_000
        });
        let metrics = Metrics::of(&node.url("")).await;
        let counted = metrics.get("edge_mirror_limits_reached_total{limit=\"active_meetings\"}");
        most = most.max(memory.mebibytes());
        let shown = status["meetings"].as_array().unwrap().len();
        kept += usize::from(told.is_some() && counted > 0.0 && shown == 10_000 && most < 80.0);
    }
    Attack {
        fault: "the main server lists 120,000 active meetings in one answer of 3.5 MB",
        promise: "10,000 are taken in, /api/status says so, and the node stays below 80 MiB",
    }
    .report(tries, kept, &format!("{most:.0} MiB at most"));
}
