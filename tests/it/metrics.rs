//! `/metrics`: the numbers move by exactly what was done.

use std::{fs, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Fault, ScriptedMain, TestMaster, TestNode, client,
    metrics::{Metrics, until_metrics},
    until, zip_of,
    zips::big_zip,
};

const WHOLE: &str = r#"edge_mirror_downloads_total{outcome="completed"}"#;
const BROKEN: &str = r#"edge_mirror_downloads_total{outcome="aborted"}"#;
const SERVED: &str = "edge_mirror_served_bytes_total";
const UNDER_WAY: &str = "edge_mirror_downloads_in_progress";
const TOOK: &str = "edge_mirror_download_duration_seconds_count";

fn answered(code: u16) -> String {
    let route = "/api/v1/meetings/{id}/download-package";
    format!(r#"edge_mirror_http_requests_total{{route="{route}",code="{code}"}}"#)
}

fn of_route(route: &str, code: u16) -> String {
    format!(r#"edge_mirror_http_requests_total{{route="{route}",code="{code}"}}"#)
}

/// A node whose bodies have all ended, and its numbers then.
async fn at_rest(node: &TestNode) -> Metrics {
    until_metrics(&node.url(""), "no download under way", |now| now.get(UNDER_WAY) == 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_download_counts_once_and_with_its_bytes() {
    let main = ScriptedMain::start().await;
    let package = big_zip(3_000_000, 1);
    main.activate("m", "Board", &package);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m").await;
    let size = package.len() as f64;
    // The first one goes through the router and opens it, the others do not.
    for round in 0..3 {
        let before = at_rest(&node).await;
        assert_eq!(node.download("m").await.1.len(), package.len());
        let after = at_rest(&node).await;
        let moved = after.since(&before, [&*answered(200), WHOLE, BROKEN, SERVED, TOOK]);
        assert_eq!(moved, [1.0, 1.0, 0.0, size, 1.0], "round {round}");
    }
    let url = node.package_url("m");
    let before = at_rest(&node).await;
    let etag = client().head(&url).send().await.unwrap().headers()["etag"].clone();
    let known = client().get(&url).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let part = client().get(&url).header("range", "bytes=1000-1999").send().await.unwrap();
    assert_eq!(part.bytes().await.unwrap().len(), 1000);
    let after = at_rest(&node).await;
    let [head, known, part, whole, served] =
        after.since(&before, [&*answered(200), &answered(304), &answered(206), WHOLE, SERVED]);
    assert_eq!([head, known, part, whole, served], [1.0, 1.0, 1.0, 1.0, 1000.0]);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_broken_off_is_counted_as_such() {
    let main = ScriptedMain::start().await;
    // More than all buffers on the way take.
    let package = big_zip(40 << 20, 2);
    main.activate("m", "Board", &package);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m").await;
    let before = at_rest(&node).await;
    let mut answer = client().get(node.package_url("m")).send().await.unwrap();
    let got = answer.chunk().await.unwrap().unwrap().len() as f64;
    let during = Metrics::of(&node.url("")).await;
    assert_eq!(during.since(&before, [UNDER_WAY, WHOLE, BROKEN]), [1.0, 0.0, 0.0]);
    drop(answer);
    let after = at_rest(&node).await;
    assert_eq!(after.since(&before, [WHOLE, BROKEN, TOOK]), [0.0, 1.0, 1.0]);
    let [served] = after.since(&before, [SERVED]);
    assert!(served >= got && served < package.len() as f64, "{got} {served}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clients_ask_for_makes_no_new_label() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let before = Metrics::of(&node.url("")).await;
    for n in 0..20 {
        assert_eq!(node.get(&format!("/zzz/{n}")).await.status(), 404);
        node.get(&format!("/api/v1/meetings/%00{n}/download-package")).await;
    }
    assert_eq!(node.post("/api/status", json!({})).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let after = Metrics::of(&node.url("")).await;
    let asked = [of_route("unmatched", 404), answered(400), of_route("/api/status", 405)];
    let asked = asked.each_ref().map(String::as_str);
    assert_eq!(after.since(&before, asked), [20.0, 20.0, 1.0]);
    assert!(!after.text.contains("zzz") && !after.text.contains("%00"), "{}", after.text);
    // Nor who asked, or was asked, nor what for.
    for secret in ["127.0.0.1", "node-test", &main.authority()] {
        assert!(!after.text.contains(secret), "{secret}");
    }
    node.shut_down().await;
}

const PULLED: &str = r#"edge_mirror_pulls_total{outcome="pulled"}"#;
const FAILED: &str = r#"edge_mirror_pulls_total{outcome="failed"}"#;
const RETRIES: &str = "edge_mirror_pull_retries_total";
const BAD: &str = r#"edge_mirror_verification_failures_total{source="pull"}"#;
const DAMAGED: &str = r#"edge_mirror_pull_attempt_failures_total{cause="damaged"}"#;
const REFUSED: &str = r#"edge_mirror_pull_attempt_failures_total{cause="http_status"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn pulls_are_counted_with_their_attempts_bytes_and_outcome() {
    let main = ScriptedMain::start().await;
    let package = zip_of("good");
    let twice = json!({"network": {"retryCount": 2}, "serve": {"cutThrough": false}});
    let node = TestNode::of(&main.authority()).with(twice).start().await;
    let url = node.url("");
    // Not active: asked for by clients only, one round for each.
    main.activate("good", "Board", &package);
    main.activate("away", "Board", &package);
    main.activate("bad", "Board", b"this is no archive");
    for id in ["good", "away", "bad"] {
        main.end(id);
    }
    let of_good = "edge_mirror_pull_duration_seconds_count";
    let bytes = "edge_mirror_pulled_bytes_total";
    let all = [PULLED, FAILED, RETRIES, BAD, DAMAGED, REFUSED, of_good, bytes];

    let before = Metrics::of(&url).await;
    assert_eq!(node.download("good").await.0, StatusCode::OK);
    let size = package.len() as f64;
    let after = Metrics::of(&url).await;
    assert_eq!(after.since(&before, all), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, size]);

    let before = after;
    main.fail("away/download-package-direct", [Fault::Status(503), Fault::Status(503)]);
    assert_eq!(node.download("away").await.0, StatusCode::BAD_GATEWAY);
    let after = Metrics::of(&url).await;
    assert_eq!(after.since(&before, all), [0.0, 1.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);

    let before = after;
    assert_eq!(node.download("bad").await.0, StatusCode::BAD_GATEWAY);
    let after = Metrics::of(&url).await;
    assert_eq!(after.since(&before, all[..6].try_into().unwrap()), [0.0, 1.0, 1.0, 2.0, 2.0, 0.0]);
    let stored = ["edge_mirror_stored_packages", "edge_mirror_stored_bytes"];
    assert_eq!(stored.map(|name| after.get(name)), [1.0, size]);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_stopped_or_given_up_has_not_failed() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let _valve = main.valve(1 << 20);
    for id in ["given-up", "stopped"] {
        main.activate(id, "Board", &big_zip(3 << 20, 7));
        until("bytes of it", async || {
            node.meeting(id).await["received"].as_u64().filter(|n| *n > 0)
        })
        .await;
        match id {
            "given-up" => main.end(id),
            _ => assert_eq!(node.post("/api/service/stop", json!({})).await.0, 200),
        }
        let gone = async || {
            (std::fs::read_dir(node.storage().join(".scratch")).unwrap().count() == 0).then_some(())
        };
        until("its scratch file gone", gone).await;
        let now = Metrics::of(&node.url("")).await;
        let failed = now.samples().filter(|name| name.contains("pull_attempt_failures_total"));
        let failed: Vec<_> = failed.filter(|name| now.get(name) > 0.0).collect();
        assert!(failed.is_empty(), "{id}: {failed:?}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_off_the_disk_is_counted_by_reason() {
    let main = ScriptedMain::start().await;
    main.activate("ends", "Board", &zip_of("a"));
    main.activate("goes", "Board", &zip_of("b"));
    let grace = json!({"cleanup": {"graceSeconds": 0, "enabled": false}});
    let node = TestNode::of(&main.authority()).with(grace).start().await;
    node.until_synced("ends").await;
    node.until_synced("goes").await;
    let reason = |reason: &str| format!(r#"edge_mirror_evictions_total{{reason="{reason}"}}"#);
    let (ended, request) = (reason("meeting_ended"), reason("request"));
    main.end("goes");
    until("inactive", async || (node.meeting("goes").await["state"] == "inactive").then_some(()))
        .await;
    let gone = client().request(Method::DELETE, node.url("/api/meetings/goes")).send().await;
    assert_eq!(gone.unwrap().status(), 200);
    let now = Metrics::of(&node.url("")).await;
    let read =
        |now: &Metrics| [&*ended, &*request, "edge_mirror_stored_packages"].map(|n| now.get(n));
    assert_eq!(read(&now), [0.0, 1.0, 1.0]);
    node.configure(json!({"cleanup": {"enabled": true}})).await;
    main.end("ends");
    let gone = |now: &Metrics| now.get(&ended) > 0.0;
    let now = until_metrics(&node.url(""), "the package goes", gone).await;
    assert_eq!(read(&now), [1.0, 1.0, 0.0]);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_made_is_counted() {
    let main = ScriptedMain::start().await;
    main.activate("old", "Board", &big_zip(1 << 20, 0));
    main.end("old");
    let tight = json!({
        "storage": {"maxSize": 1_500_000, "cleanupThreshold": 1.0}, "cleanup": {"enabled": false},
    });
    let node = TestNode::of(&main.authority()).with(tight).start().await;
    assert_eq!(node.download("old").await.0, StatusCode::OK);
    // Only a client asks for it: that is not worth more than half of the storage.
    main.activate("new", "Board", &big_zip(1 << 20, 1));
    main.end("new");
    assert_eq!(node.download("new").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let now = Metrics::of(&node.url("")).await;
    assert!(now.get(r#"edge_mirror_limits_reached_total{limit="evicted_for_clients"}"#) > 0.0);
    main.activate("new", "Board", &big_zip(1 << 20, 1));
    node.until_synced("new").await;
    let now = Metrics::of(&node.url("")).await;
    assert_eq!(now.get(r#"edge_mirror_evictions_total{reason="room_needed"}"#), 1.0);
    assert_eq!(now.get("edge_mirror_storage_limit_bytes"), 1_500_000.0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_the_configuration_are_counted_good_and_bad() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let url = node.url("");
    let samples = [
        r#"edge_mirror_config_reloads_total{outcome="ok"}"#,
        r#"edge_mirror_config_reloads_total{outcome="rejected"}"#,
        "edge_mirror_config_last_reload_successful",
    ];
    let read = |now: &Metrics| samples.map(|sample| now.get(sample));
    assert_eq!(read(&Metrics::of(&url).await), [0.0, 0.0, 1.0]);
    let good = fs::read_to_string(node.config_path()).unwrap();
    let edited = good.replace("\"syncInterval\": 1", "\"syncInterval\": 2");
    assert_ne!(edited, good);
    for (text, expected) in [
        (&*edited, [1.0, 0.0, 1.0]),
        ("{ no JSON", [1.0, 1.0, 0.0]),
        (&edited, [2.0, 1.0, 1.0]),
        (&good, [3.0, 1.0, 1.0]),
    ] {
        fs::write(node.config_path(), text).unwrap();
        until_metrics(&url, &format!("{expected:?}"), |now| read(now) == expected).await;
    }
    // Not by ourselves: that was no edit.
    node.configure(json!({"syncInterval": 3})).await;
    assert_eq!(read(&Metrics::of(&url).await), [3.0, 1.0, 1.0]);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_is_away_is_seen_in_the_numbers() {
    let main = ScriptedMain::start().await;
    main.activate("m", "Board", &zip_of("a"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m").await;
    let url = node.url("");
    let beats = |outcome: &str| format!(r#"edge_mirror_heartbeats_total{{outcome="{outcome}"}}"#);
    let polls = |outcome: &str| format!(r#"edge_mirror_polls_total{{outcome="{outcome}"}}"#);
    let told = until_metrics(&url, "a heartbeat", |now| now.get(&beats("ok")) > 0.0).await;
    let one = ["registered", "active_meetings", "synced_meetings", "service_running"];
    for name in one {
        assert_eq!(told.get(&format!("edge_mirror_{name}")), 1.0, "{name}");
    }
    let last = [
        "edge_mirror_heartbeat_last_success_timestamp_seconds",
        "edge_mirror_poll_last_success_timestamp_seconds",
    ];
    let started = told.get("process_start_time_seconds");
    assert!(last.iter().all(|name| told.get(name) >= started.floor()), "{}", told.text);
    main.go_away().await;
    let failed = [beats("failed"), polls("failed")];
    let away = |now: &Metrics| failed.iter().all(|sample| now.get(sample) > 0.0);
    let away = until_metrics(&url, "failures", away).await;
    let now = until_metrics(&url, "more of them", |now| {
        failed.iter().all(|sample| now.get(sample) > away.get(sample))
    });
    let now = now.await;
    assert_eq!(now.since(&away, last), [0.0, 0.0], "they stand still");
    main.come_back().await;
    let back = |now: &Metrics| last.iter().all(|name| now.get(name) > away.get(name));
    until_metrics(&url, "it is back", back).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_server_counts_what_it_does() {
    let master = TestMaster::build().announce_timeout(Duration::ZERO).start().await;
    let url = master.url("");
    let package = zip_of("one");
    let own = r#"edge_mirror_master_redirects_total{outcome="own"}"#;
    let sent = r#"edge_mirror_master_redirects_total{outcome="node"}"#;
    let refused = r#"edge_mirror_master_redirects_total{outcome="refused"}"#;
    let stored = r#"edge_mirror_master_uploads_total{outcome="ok"}"#;
    let turned_down = r#"edge_mirror_master_uploads_total{outcome="refused"}"#;
    let bad = r#"edge_mirror_verification_failures_total{source="upload"}"#;
    master.create("m", "Board").await;
    let no_zip = client().put(master.meeting_url("m", "/package")).body("no archive").send().await;
    assert_eq!(no_zip.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(master.ask_for("m").await.status(), StatusCode::NOT_FOUND);
    master.put("m", &package).await;
    master.begin("m").await;
    assert_eq!(master.redirect("m").await, None);
    let size = package.len() as f64;
    let now = until_metrics(&url, "it is sent", |now| now.get(SERVED) == size).await;
    let [own_so_far, sent_so_far] = [own, sent].map(|sample| now.get(sample));
    assert_eq!([own_so_far, sent_so_far, now.get(refused)], [1.0, 0.0, 1.0]);
    assert_eq!([stored, turned_down, bad].map(|sample| now.get(sample)), [1.0; 3]);
    let uploaded = "edge_mirror_master_uploaded_bytes_total";
    assert_eq!(now.get(uploaded), size + "no archive".len() as f64);
    let meetings = |state: &str| format!(r#"edge_mirror_master_meetings{{state="{state}"}}"#);
    assert_eq!(["waiting", "running", "ended"].map(|s| now.get(&meetings(s))), [0.0, 1.0, 0.0]);

    let node = TestNode::of(&master.authority()).start().await;
    master.until_held_by("m", &["node-test"]).await;
    assert!(master.redirect("m").await.is_some());
    let reachable = r#"edge_mirror_master_nodes{state="reachable"}"#;
    let held = "edge_mirror_master_held_polls";
    let now = until_metrics(&url, "a held poll", |now| now.get(held) == 1.0).await;
    assert_eq!([reachable, sent, own].map(|sample| now.get(sample)), [1.0, 1.0, 1.0]);
    assert_eq!(now.get(r#"edge_mirror_master_registrations_total{outcome="ok"}"#), 1.0);
    assert!(now.get(r#"edge_mirror_master_heartbeats_total{outcome="ok"}"#) >= 1.0);
    assert_eq!(now.get("edge_mirror_master_nodes_lost_total"), 0.0);
    assert!(!now.text.contains("node-test") && !now.text.contains("127.0.0.1"));
    node.shut_down().await;
    let none = until_metrics(&url, "no node", |now| now.get(reachable) == 0.0).await;
    assert_eq!(none.get("edge_mirror_master_nodes_lost_total"), 0.0, "it said goodbye");
    drop(master.stop().await);
}
