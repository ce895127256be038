//! Cleaning and room, and what others do to stored files.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{ScriptedMain, TestNode, until, zip_of, zips::big_zip};

fn package(node: &TestNode, id: &str) -> bool {
    node.storage().join(format!("meeting_{id}/package.zip")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_chmod_breaks_no_download() {
    let main = ScriptedMain::start().await;
    // More than sockets hold.
    let bytes = big_zip(24 << 20, 1);
    main.activate("m", "Board", &bytes);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m").await;
    let mut begun = node.get("/api/v1/meetings/m/download-package").await;
    let mut got = begun.chunk().await.unwrap().unwrap().to_vec();
    let path = node.storage().join("meeting_m/package.zip");
    let ctime = || {
        let now = std::fs::metadata(&path).unwrap();
        (now.ctime(), now.ctime_nsec())
    };
    let before = ctime();
    until("the kernel's clock ticks", async || {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        (ctime() != before).then_some(())
    })
    .await;
    while let Some(chunk) = begun.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == bytes);
    let (status, again) = node.download("m").await;
    assert!(status == StatusCode::OK && again == bytes);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_meetings_package_goes_after_the_grace_time() {
    let main = ScriptedMain::start().await;
    main.activate("ends", "Board", &zip_of("a"));
    main.activate("stays", "Council", &zip_of("b"));
    let grace = json!({"cleanup": {"graceSeconds": 2}});
    let node = TestNode::of(&main.authority()).with(grace).start().await;
    node.until_synced("ends").await;
    node.until_synced("stays").await;
    main.end("ends");
    until("inactive", async || (node.meeting("ends").await["state"] == "inactive").then_some(()))
        .await;
    assert!(package(&node, "ends"), "not before the grace time");
    until("gone", async || (!node.storage().join("meeting_ends").exists()).then_some(())).await;
    assert!(package(&node, "stays"));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_can_be_switched_off() {
    let main = ScriptedMain::start().await;
    main.activate("ends", "Board", &zip_of("a"));
    let off = json!({"cleanup": {"graceSeconds": 0, "enabled": false}});
    let node = TestNode::of(&main.authority())
        .with(off)
        .file("storage/meeting_left/package.zip", &zip_of("left"))
        .start()
        .await;
    node.until_synced("ends").await;
    main.end("ends");
    until("inactive", async || (node.meeting("ends").await["state"] == "inactive").then_some(()))
        .await;
    let polls = main.asked("status/node").len();
    until("polls", async || (main.asked("status/node").len() > polls + 3).then_some(())).await;
    assert!(package(&node, "ends") && package(&node, "left"));

    node.configure(json!({"cleanup": {"enabled": true}})).await;
    until("gone", async || (!package(&node, "ends") && !package(&node, "left")).then_some(()))
        .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inactive_packages_make_room_least_recently_served_first() {
    let main = ScriptedMain::start().await;
    let megabyte = 1 << 20;
    for (seed, id) in ["a", "b", "c", "new"].into_iter().enumerate() {
        main.activate(id, "Board", &big_zip(megabyte, seed as u64));
        main.end(id);
    }
    let tight = json!({
        "storage": {"maxSize": 4 * megabyte - 100_000, "cleanupThreshold": 1.0},
        "cleanup": {"enabled": false},
    });
    let node = TestNode::of(&main.authority()).with(tight).start().await;
    for id in ["a", "b", "c"] {
        assert_eq!(node.download(id).await.0, StatusCode::OK);
    }
    // Served once more in another second than its pull: b is now the oldest.
    let second = node.meeting("c").await["last_served"].as_u64().unwrap();
    for id in ["c", "a"] {
        until("a later second", async || {
            node.download(id).await;
            (node.meeting(id).await["last_served"].as_u64() > Some(second)).then_some(())
        })
        .await;
    }
    assert_eq!(node.download("new").await.0, StatusCode::OK);
    assert!(!package(&node, "b") && package(&node, "a") && package(&node, "c"));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_can_not_fit_is_refused_with_its_reason_and_active_ones_stay() {
    let main = ScriptedMain::start().await;
    let small = big_zip(600_000, 1);
    main.activate("here", "Board", &small);
    let tight = json!({"storage": {"maxSize": 1 << 20}});
    for offers in [true, false] {
        main.play().offers = offers;
        let node = TestNode::of(&main.authority()).with(tight.clone()).start().await;
        node.until_synced("here").await;
        main.activate("large", "Council", &big_zip(900_000, 2));
        let refused = until("the reason", async || {
            Some(node.meeting("large").await).filter(|meeting| meeting["state"] == "failing")
        })
        .await;
        assert!(refused["last_error"].as_str().unwrap().contains("storage.maxSize"), "{refused}");
        assert_eq!(node.download("large").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(node.download("here").await.1, small);
        // But for what is being compared at the moment, nothing is left.
        until("no leftovers", async || {
            let scratch = std::fs::read_dir(node.storage().join(".scratch")).unwrap();
            (scratch.count() == 0).then_some(())
        })
        .await;
        node.shut_down().await;
        main.end("large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_removed_and_what_is_not_ours_stays() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority())
        .file("storage/.scratch/.tmp-4194999-1", b"half a package")
        .file("storage/meeting_half/.tmp-4194999-2", b"half a manifest")
        .file("storage/photos/party.jpg", b"mine")
        .start()
        .await;
    assert!(!node.storage().join(".scratch/.tmp-4194999-1").exists());
    assert!(!node.storage().join("meeting_half").exists());
    assert!(node.storage().join("photos/party.jpg").exists());
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_package_is_trusted_after_a_restart_and_a_meddled_one_is_not() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let path = node.storage().join("meeting_m1/package.zip");
    let stopped = node.stop().await;
    let pulls = main.count(Method::GET, "/uploads/");

    let node = stopped.start().await;
    node.until_synced("m1").await;
    assert_eq!(main.count(Method::GET, "/uploads/"), pulls, "checked by HEAD, not pulled");
    let stopped = node.stop().await;

    std::fs::write(&path, zip_of("forged, but a good archive")).unwrap();
    let node = stopped.start().await;
    until("the true bytes", async || (node.download("m1").await.1 == zip).then_some(())).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_evicted_before_the_main_server_said_what_is_active() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(1_000_000, 1);
    main.activate("active", "Board", &zip);
    let nearly_full = json!({"storage": {"maxSize": 1 << 20, "cleanupThreshold": 0.5}});
    let node = TestNode::of(&main.authority()).with(nearly_full).start().await;
    node.until_synced("active").await;
    let stopped = node.stop().await;

    main.go_away().await;
    let node = stopped.start().await;
    until("polls fail", async || node.status().await["poll_error"].as_str().map(|_| ())).await;
    assert_eq!(node.download("active").await.1, zip);

    main.come_back().await;
    node.until_synced("active").await;
    main.end("active");
    until("evicted", async || (!package(&node, "active")).then_some(())).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_configuration_does_not_end_adopting() {
    let main = ScriptedMain::start().await;
    let mut builder = TestNode::of(&main.authority()).with(json!({"cleanup": {"enabled": false}}));
    for number in 0..8 {
        let zip = big_zip(4_000_000, number);
        builder = builder.file(&format!("storage/meeting_old{number}/package.zip"), &zip);
    }
    let node = builder.start().await;
    for interval in 2..6 {
        node.configure(json!({"syncInterval": interval})).await;
    }
    until("all adopted", async || (node.status().await["meeting_count"] == 8).then_some(())).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_package_is_not_taken_for_known_of_another_in_an_older_folder() {
    let main = ScriptedMain::start().await;
    let (old, new) = (zip_of("the first papers"), zip_of("the second papers"));
    main.activate("m1", "Board", &old);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let told = |beat: &serde_json::Value| beat["synced_meetings"] == json!(["m1"]);
    let beats = || main.count(Method::POST, "heartbeat");

    node.configure(json!({"storage": {"path": "./newer"}})).await;
    main.activate("m1", "Board", &new);
    until("the new papers", async || (node.download("m1").await.1 == new).then_some(())).await;
    until("told", async || told(&main.last_heartbeat()).then_some(())).await;

    // Nothing can be asked about it, nor pulled.
    main.play().failing_heads = true;
    let valve = main.valve(0);
    node.configure(json!({"storage": {"path": "./storage"}})).await;
    until("the old ones", async || (node.download("m1").await.1 == old).then_some(())).await;
    let before = beats();
    until("three heartbeats", async || {
        let meeting = node.meeting("m1").await;
        assert_ne!(meeting["state"], "synced", "{meeting}");
        (beats() >= before + 3).then_some(())
    })
    .await;
    let since = main.asked("/nodes/heartbeat").split_off(before + 1);
    assert!(since.iter().all(|beat| !told(&beat.body)), "{since:?}");

    main.play().failing_heads = false;
    valve.open();
    until("the new papers", async || (node.download("m1").await.1 == new).then_some(())).await;
    until("told", async || told(&main.last_heartbeat()).then_some(())).await;
    node.shut_down().await;
}
