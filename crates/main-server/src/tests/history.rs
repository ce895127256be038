//! The records: changes by operators, the last thirty days, and figures over a restart.

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_store::testing::zip_of;

use super::*;
use crate::state::{
    history::{HistoryChange, HistoryPeriod, HistoryStep, PeriodFigures},
    master_state::MasterCommand,
};

#[tokio::test]
async fn who_changed_what_is_kept_over_a_restart() {
    let t = TestMaster::start().await;
    t.meeting("m1", &zip_of(b"x")).await;
    t.started("m1").await;
    let (status, _) = t.post("/api/v1/meetings/m1/start", json!({})).await;
    assert_eq!(status, StatusCode::OK, "it runs already, which is no change");
    t.post("/api/v1/meetings/nothing/start", json!({})).await;
    let (status, _) = t.post("/api/v1/nodes/key", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let t = t.restarted().await;
    let page = t.json("/api/v1/audit").await;
    let changes = page["changes"].as_array().unwrap();
    let seen: Vec<_> =
        changes.iter().map(|c| (&c["number"], &c["action"], &c["subject"])).collect();
    let expected = [
        (json!(4), json!("node_key_set"), Value::Null),
        (json!(3), json!("meeting_started"), json!("m1")),
        (json!(2), json!("package_uploaded"), json!("m1")),
        (json!(1), json!("meeting_created"), json!("m1")),
    ];
    assert_eq!(
        seen,
        expected.each_ref().map(|(number, action, subject)| (number, action, subject))
    );
    assert_eq!(changes[3]["details"]["title"], "会议 <b>");
    assert_eq!(changes[3]["by"], json!({"address": "127.0.0.1", "how": "local"}));
    assert_eq!(page["next"], Value::Null);

    let page = t.json("/api/v1/audit?limit=1&before=4").await;
    assert_eq!((&page["changes"][0]["number"], &page["next"]), (&json!(3), &json!(3)));
    let table = t.get("/api/v1/audit?format=csv").await;
    assert_eq!(table.headers()["content-type"], "text/csv; charset=utf-8");
    let table = table.text().await.unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    let last = table.lines().last().unwrap();
    assert!(
        last.starts_with("1,") && last.contains(",127.0.0.1,local,meeting_created,m1,"),
        "{last}"
    );
    for bad in ["limit=0", "limit=1001", "limit=x", "format=xml", "before=x"] {
        let answer = t.get(&format!("/api/v1/audit?{bad}")).await;
        assert_eq!(answer.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn downloads_that_failed_are_listed_and_nothing_is_uncounted_by_a_restart() {
    let t = TestMaster::start().await;
    let sha256 = t.meeting("m", &zip_of(b"x")).await;
    let (node, _serving) = fake_node("n").await;
    t.started("m").await;
    assert_eq!(t.get("/api/v1/meetings/m/download-package").await.status(), 200);
    t.register("n", &node).await;
    t.beat("n", &node, &[("m", &sha256)], 0).await;
    t.reached("n").await;
    assert_eq!(t.get("/api/v1/meetings/m/download-package").await.status(), 302);
    for path in ["gone", "gone"] {
        let answer = t.get(&format!("/api/v1/meetings/{path}/download-package")).await;
        assert_eq!(answer.status(), 404);
    }
    t.post("/api/v1/meetings/m/end", json!({})).await;
    assert_eq!(t.get("/api/v1/meetings/m/download-package").await.status(), 404);
    let before = t.json("/api/v1/overview").await;
    let refused: Vec<_> = before["refused_downloads"].as_array().unwrap().iter().collect();
    let shown =
        refused.iter().map(|refused| (&refused["meeting"], &refused["reason"], &refused["count"]));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            (&json!("m"), &json!("not_running"), &json!(1)),
            (&json!("gone"), &json!("unknown_meeting"), &json!(2)),
        ]
    );
    let counted = &before["traffic"];
    assert_eq!((&counted["redirects"], &counted["own_downloads"]), (&json!(1), &json!(1)));
    assert_eq!(counted["refused_downloads"], 3);
    assert_ne!(counted["bytes_served"], 0);
    let t = t.restarted().await;
    let after = t.json("/api/v1/overview").await;
    for field in ["traffic", "recent", "refused_downloads"] {
        assert_eq!(after[field], before[field], "{field}");
    }
}

#[tokio::test]
async fn the_last_thirty_days_are_there_by_the_hour_and_as_a_table() {
    let t = TestMaster::start().await;
    let server = &t.master.server;
    let now = server.clock.now();
    let hour = |ago: u64| {
        let ago_s = HistoryStep::Hour.length().as_secs() * ago;
        HistoryStep::Hour.start_of(UnixMillis::from_secs(now.as_secs() - ago_s))
    };
    let period = |ago: u64, redirects| HistoryPeriod {
        at: hour(ago),
        figures: PeriodFigures { redirects, ..PeriodFigures::default() },
    };
    let save = async |periods: Vec<HistoryPeriod>| {
        let step = HistoryStep::Hour;
        let change = HistoryChange { step, periods, kept_from: hour(30 * 24) };
        server.change(MasterCommand::SaveHistory(change)).await.unwrap();
    };
    save(vec![period(31 * 24, 1), period(2, 2), period(1, 3)]).await;
    // The hour goes on.
    save(vec![period(1, 5)]).await;
    let shown = t.json("/api/v1/history").await;
    assert_eq!(shown["step"], 3600);
    let redirects = |shown: &Value| {
        let periods = shown["periods"].as_array().unwrap().iter();
        periods.map(|period| period["redirects"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(redirects(&shown), [2, 5]);
    assert_eq!(redirects(&t.json("/api/v1/history?step=minute").await), [0; 0]);
    let table = t.get("/api/v1/history?format=csv").await.text().await.unwrap();
    assert!(table.lines().nth(2).unwrap().ends_with(",5,0,0,0,0,0,0"), "{table}");
    assert_eq!(t.get("/api/v1/history?step=day").await.status(), 400);
}

#[tokio::test]
async fn each_meeting_has_a_record_of_its_nodes_and_downloads_that_survives_a_restart() {
    let t = TestMaster::start().await;
    let sha256 = t.meeting("m1", &zip_of(b"x")).await;
    let (address, _node) = fake_node("n1").await;
    t.register("n1", &address).await;
    t.started("m1").await;
    let record = async |t: &TestMaster| {
        let list = t.json("/api/v1/history/meetings").await;
        list["meetings"].as_array().unwrap().first().cloned().unwrap_or_default()
    };
    let until = async |t: &TestMaster, wanted: &dyn Fn(&Value) -> bool| {
        let begun = Instant::now();
        loop {
            let found = record(t).await;
            if wanted(&found) {
                return found;
            }
            assert!(begun.elapsed() < LONG, "{found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = until(&t, &|found| found["meeting"] == "m1").await;
    assert_eq!((&found["ready_at"], &found["first_download"]), (&Value::Null, &Value::Null));
    t.until("n1", |node| node["reachable"] == true).await;
    t.beat("n1", &address, &[("m1", &sha256)], 0).await;
    let found = until(&t, &|found| found["ready_at"].is_number()).await;
    assert_eq!(found["nodes"], 1);
    assert_eq!(t.get("/api/v1/meetings/m1/download-package").await.status(), 302);
    assert_eq!(t.get("/api/v1/meetings/m1/download-package-direct").await.status(), 200);
    let t = t.restarted().await;
    let (ended, _) = t.post("/api/v1/meetings/m1/end", Value::Null).await;
    assert_eq!(ended, 200);
    let found = until(&t, &|found| found["ended_at"].is_number()).await;
    assert_eq!(found["redirects"], 1);
    assert!(found["first_download"].as_f64() <= found["last_download"].as_f64());
    let table = t.get("/api/v1/history/meetings?format=csv").await.text().await.unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("m1,"), "{table}");
    assert_eq!(t.get("/api/v1/history/meetings?format=x").await.status(), 400);
}
