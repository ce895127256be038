//! Pulling packages and keeping them current.

use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    Fault, ScriptedMain, TestNode, client, main_server::Shape, until, zip_of, zips::big_zip,
};

#[tokio::test(flavor = "multi_thread")]
async fn with_a_package_url_the_direct_way_is_never_asked() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "预算 #1? 100% a/b".replace('/', "-").as_str(), &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    assert_eq!(node.download("m1").await.1, zip);
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    assert_eq!(main.count(Method::GET, "download-package-direct"), 0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_answer_leads_to_the_package() {
    for shape in [Shape::Newer, Shape::OldestSingle, Shape::PlainIds, Shape::ById] {
        let main = ScriptedMain::start().await;
        main.play().shape = shape;
        main.play().offers = false;
        let zip = zip_of("papers");
        main.activate("77", "Board", &zip);
        let node = TestNode::of(&main.authority()).start().await;
        node.until_synced("77").await;
        assert_eq!(node.download("77").await.1, zip, "{shape:?}");
        assert_eq!(main.count(Method::GET, "download-package-direct"), 1, "{shape:?}");
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_sense_changes_and_deletes_nothing() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let quick = json!({"cleanup": {"graceSeconds": 0}});
    let node = TestNode::of(&main.authority()).with(quick).start().await;
    node.until_synced("m1").await;
    for nonsense in [
        "<html>502</html>",
        "{}",
        r#"{"detail":"x"}"#,
        r#"{"id":"req-7f3a","error":"backend unavailable"}"#,
        r#"{"id":"t","active_meetings":null}"#,
    ] {
        main.play().status_answer = Some(nonsense.to_owned());
        let before = main.asked("status/node").len();
        until("three more polls", async || {
            (main.asked("status/node").len() > before + 2).then_some(())
        })
        .await;
        let status = node.status().await;
        assert!(status["sync_status"].as_str().unwrap().starts_with("同步出错: "), "{status}");
        assert_eq!(node.meeting("m1").await["active"], true, "{nonsense}");
        assert_eq!(node.download("m1").await.1, zip, "{nonsense}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_changed_is_replaced_when_the_token_changes() {
    let main = ScriptedMain::start().await;
    let (old, new) = (zip_of("old papers"), zip_of("new papers"));
    main.activate("m1", "Board", &old);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    main.replace_quietly("m1", &new);
    main.change_token();
    until("the new bytes", async || (node.download("m1").await.1 == new).then_some(())).await;

    // An unchanged one is asked about, not pulled.
    let pulls = main.count(Method::GET, "/uploads/");
    let checks = main.count(Method::HEAD, "/uploads/");
    main.change_token();
    until("a check", async || (main.count(Method::HEAD, "/uploads/") > checks).then_some(())).await;
    node.until_synced("m1").await;
    assert_eq!(main.count(Method::GET, "/uploads/"), pulls);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_package_url_a_changed_token_means_comparing_digests() {
    let main = ScriptedMain::start().await;
    main.play().offers = false;
    let (old, new) = (zip_of("old papers"), zip_of("new papers"));
    main.activate("m1", "Board", &old);
    let node = TestNode::of(&main.authority()).start().await;
    let first = node.until_synced("m1").await;

    main.change_token();
    until("a second pull", async || (main.count(Method::GET, "direct") == 2).then_some(())).await;
    let compared = node.until_synced("m1").await;
    assert_eq!(compared["synced_at"], first["synced_at"], "the same bytes are not replaced");

    main.activate("m1", "Board", &new);
    until("the new bytes", async || (node.download("m1").await.1 == new).then_some(())).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_without_any_sign_is_noticed_within_a_minute() {
    let main = ScriptedMain::start().await;
    let (old, new) = (zip_of("old papers"), zip_of("new papers"));
    main.activate("m1", "Board", &old);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    main.replace_quietly("m1", &new);
    let noticed = async {
        while node.download("m1").await.1 != new {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("noticed within a minute");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_whole_package_are_never_served() {
    let zip = big_zip(100_000, 1);
    for offers in [true, false] {
        for fault in [
            Fault::Instead("<html>an error page with status 200</html>"),
            Fault::CutAfter(40_000),
            Fault::EndAfter(40_000),
            Fault::EndAfter(0),
            Fault::Status(500),
            Fault::Status(302),
        ] {
            let main = ScriptedMain::start().await;
            main.play().offers = offers;
            let part = if offers { "/uploads/" } else { "package-direct" };
            main.fail(part, [fault.clone(), fault.clone()]);
            main.activate("m1", "Board", &zip);
            let slow_polls = json!({"syncInterval": 3600, "network": {"retryCount": 3}});
            let node = TestNode::of(&main.authority()).with(slow_polls).start().await;
            let (status, body) = node.download("m1").await;
            assert_eq!((status, body == zip), (StatusCode::OK, true), "{fault:?}");
            assert_eq!(main.count(Method::GET, part), 3, "{fault:?}");
            node.shut_down().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_broke_off_resumes_where_ranges_and_a_validator_allow_it() {
    let main = ScriptedMain::start().await;
    main.play().ranges = true;
    let zip = big_zip(300_000, 2);
    main.fail("/uploads/", [Fault::CutAfter(100_000), Fault::CutAfter(100_000)]);
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    assert_eq!(node.download("m1").await.1, zip);
    let pulls = main.asked("/uploads/").into_iter().filter(|asked| asked.method == Method::GET);
    let begins: Vec<u64> = pulls
        .map(|asked| {
            let range =
                asked.headers.get(header::RANGE).map_or("bytes=0-", |r| r.to_str().unwrap());
            range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
        })
        .collect();
    assert_eq!((begins.len(), begins[0]), (3, 0), "{begins:?}");
    assert!(0 < begins[1] && begins[1] < begins[2], "{begins:?}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_changed_between_two_attempts_is_not_spliced() {
    let main = ScriptedMain::start().await;
    main.play().ranges = true;
    let (old, new) = (big_zip(300_000, 3), big_zip(300_000, 4));
    main.fail("/uploads/", [Fault::CutAfter(100_000), Fault::Silence(Duration::from_millis(300))]);
    main.activate("m1", "Board", &old);
    let node = TestNode::of(&main.authority()).start().await;
    until("the second attempt", async || (main.count(Method::GET, "/uploads/") == 2).then_some(()))
        .await;
    main.replace_quietly("m1", &new);
    // Who follows the old version is cut off.
    until("the package", async || {
        node.try_download("m1").await.filter(|got| *got == new).map(drop)
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_fails_holds_up_no_other_and_says_why() {
    let main = ScriptedMain::start().await;
    // It makes none, or the node would wait for it.
    main.play().offers = false;
    main.activate_without_package("broken");
    let zip = zip_of("papers");
    main.activate("fine", "Board", &zip);
    let one_at_a_time = json!({"network": {"maxConcurrentDownloads": 1, "retryCount": 2}});
    let node = TestNode::of(&main.authority()).with(one_at_a_time).start().await;
    node.until_synced("fine").await;
    let failing = until("the failure", async || {
        Some(node.meeting("broken").await).filter(|meeting| meeting["failed_rounds"] == 1)
    })
    .await;
    assert_eq!(failing["state"], "failing");
    assert!(failing["last_error"].as_str().unwrap().contains("500"), "{failing}");
    assert!(failing["next_try"].is_u64());
    assert!(node.status().await["sync_status"].as_str().unwrap().starts_with("同步失败: "));
    assert_eq!(main.count(Method::GET, "/broken/"), 2, "retryCount attempts, then a pause");

    // Its package is made at last: the offer brings it at once.
    main.play().offers = true;
    main.activate("broken", "no package", &zip);
    node.until_synced("broken").await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_go_out_on_time_whatever_pulls_are_doing() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(100));
    main.activate("slow", "Board", &big_zip(2_000_000, 5));
    let node = TestNode::of(&main.authority()).start().await;
    until("the pull under way", async || {
        (node.meeting("slow").await["state"] == "pulling").then_some(())
    })
    .await;
    let before = main.asked("status/node").len();
    until("three polls", async || (main.asked("status/node").len() >= before + 3).then_some(()))
        .await;
    let meeting = node.meeting("slow").await;
    assert_eq!(meeting["state"], "pulling");
    assert!(meeting["received"].as_u64().unwrap() <= meeting["total"].as_u64().unwrap());
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_pulls_run_than_are_allowed_and_clients_come_first() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(40));
    for number in 0..4 {
        main.activate(&format!("m{number}"), "Board", &big_zip(200_000, number));
    }
    let one = json!({"network": {"maxConcurrentDownloads": 1}});
    let node = TestNode::of(&main.authority()).with(one).start().await;
    until("the first pull", async || (main.count(Method::GET, "/uploads/") == 1).then_some(()))
        .await;
    let order = || {
        let pulls = main.asked("/uploads/").into_iter().filter(|asked| asked.method == Method::GET);
        pulls.map(|asked| asked.path).collect::<Vec<_>>()
    };
    // Any of them may have come first.
    let wanted = if order()[0].contains("_m3_") { "m2" } else { "m3" };
    let (status, _) = node.download(wanted).await;
    assert_eq!(status, StatusCode::OK);
    let order = order();
    assert!(order.len() <= 3 && order[1].contains(&format!("_{wanted}_")), "{order:?}");
    for number in 0..4 {
        node.until_synced(&format!("m{number}")).await;
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_main_server_is_given_up_after_the_connection_timeout() {
    let main = ScriptedMain::start().await;
    main.fail("package-direct", [Fault::Silence(Duration::from_secs(60))]);
    main.play().offers = false;
    main.activate("m1", "Board", &zip_of("papers"));
    let patience =
        json!({"network": {"connectionTimeout": 1, "retryCount": 1}, "syncInterval": 3600});
    let node = TestNode::of(&main.authority()).with(patience).start().await;
    let (status, body) = node.download("m1").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{body}");
    assert!(!body["detail"].as_str().unwrap().contains("http"), "the cause is for the log: {body}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_left_by_the_old_node_is_verified_adopted_and_compared() {
    let main = ScriptedMain::start().await;
    // Large enough for a poll to come before they are adopted, and as long as
    // each other: only the bytes tell.
    let (current, outdated) = (big_zip(6_000_000, 31), big_zip(6_000_000, 32));
    main.activate("same", "Board", &current);
    main.activate("old", "Council", &current);
    let node = TestNode::of(&main.authority())
        .file("storage/meeting_same/package.zip", &current)
        .file("storage/meeting_old/package.zip", &outdated)
        .file("storage/meeting_page/package.zip", b"<html>an error page</html>")
        .start()
        .await;
    node.until_synced("same").await;
    node.until_synced("old").await;
    assert!(node.download("old").await.1 == current, "synced means compared");
    until("the error page gone", async || {
        (!node.storage().join("meeting_page").exists()).then_some(())
    })
    .await;
    assert!(node.storage().join("meeting_same/manifest.json").exists());
    let page = client().get(node.package_url("page")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::NOT_FOUND);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_told_is_not_asked_for_in_a_loop() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("papers"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    main.fail("/uploads/", vec![Fault::Status(500); 10_000]);
    main.change_token();
    let heads = || main.count(Method::HEAD, "/uploads/");
    until("a check that fails", async || (heads() > 0).then_some(())).await;
    let polls = main.asked("status/node").len();
    until("three polls", async || (main.asked("status/node").len() >= polls + 3).then_some(()))
        .await;
    let asked = |part| main.asked(part).len();
    let occasions = asked("status/node") + asked("/nodes/heartbeat");
    assert!(heads() <= occasions, "{} checks for {occasions} polls and heartbeats", heads());
    assert_eq!(node.download("m1").await.0, StatusCode::OK);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_has_moved_is_asked_for_anew_at_once() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.activate("m1", "Old title", &zip);
    main.fail("/uploads/", vec![Fault::Status(500); 2]);
    let rare_polls = json!({"syncInterval": 3600, "network": {"retryCount": 2}});
    let node = TestNode::of(&main.authority()).with(rare_polls).start().await;
    until("the failure", async || (node.meeting("m1").await["failed_rounds"] == 1).then_some(()))
        .await;
    main.rename("m1", "New title");
    node.post("/api/service/stop", json!(null)).await;
    node.post("/api/service/start", json!(null)).await;
    node.until_synced("m1").await;

    main.rename("m1", "Newest title");
    std::fs::remove_dir_all(node.storage().join("meeting_m1")).unwrap();
    assert_eq!(node.download("m1").await, (StatusCode::OK, zip));
    assert_eq!(main.count(Method::GET, "direct"), 0);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_not_there_is_followed_by_the_direct_way_at_once() {
    let main = ScriptedMain::start().await;
    let zip = zip_of("papers");
    main.fail("/uploads/", vec![Fault::Status(404); 10_000]);
    main.activate("m1", "Board", &zip);
    main.activate("m2", "../Board", &zip);
    let once = json!({"syncInterval": 3600, "network": {"retryCount": 1}});
    let node = TestNode::of(&main.authority()).with(once).start().await;
    for id in ["m1", "m2"] {
        assert_eq!(node.download(id).await, (StatusCode::OK, zip.clone()));
    }
    assert_eq!(main.count(Method::GET, "/uploads/"), 1, "the other path leads nowhere");
    assert_eq!(main.count(Method::GET, "package-direct"), 2);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_lost_after_its_pull_is_compared_by_the_direct_way() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("papers"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    main.fail("/uploads/", vec![Fault::Status(404); 10_000]);
    let listed = async |is_listed: bool| {
        until("a heartbeat", async || {
            let told = json!(if is_listed { vec!["m1"] } else { vec![] });
            (main.last_heartbeat()["synced_meetings"] == told).then_some(())
        })
        .await;
    };
    listed(false).await;
    listed(true).await;
    assert_eq!(main.count(Method::GET, "package-direct"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_being_made_is_pulled_when_it_is_offered_and_not_made_again() {
    let main = ScriptedMain::start().await;
    main.play().unoffered.insert("m1".into());
    main.activate("m1", "Board", &zip_of("papers"));
    let rare = json!({"syncInterval": 3600});
    let node = TestNode::of(&main.authority()).with(rare).start().await;
    until("looks for the offer", async || (main.asked("active/meetings").len() > 3).then_some(()))
        .await;
    main.play().unoffered.clear();
    node.until_synced("m1").await;
    assert_eq!(main.count(Method::GET, "package-direct"), 0);
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_wait_for_an_offer_for_ever() {
    let main = ScriptedMain::start().await;
    main.play().unoffered.insert("m1".into());
    let zip = zip_of("papers");
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).start().await;
    until("a look for the offer", async || (!main.asked("active/").is_empty()).then_some(())).await;
    assert_eq!(node.download("m1").await, (StatusCode::OK, zip));
    assert_eq!(main.count(Method::GET, "package-direct"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_pull_at_a_time_is_given_up_for_a_meeting_that_starts() {
    let main = ScriptedMain::start().await;
    let (zip, ended) = (zip_of("papers"), big_zip(2_000_000, 51));
    main.activate("ended", "Board", &ended);
    main.end("ended");
    main.play().drip = Some(Duration::from_millis(50));
    let one = json!({"network": {"maxConcurrentDownloads": 1}});
    let node = TestNode::of(&main.authority()).with(one).start().await;
    let waiting = node.download("ended");
    let starting = async {
        until("a pull", async || (main.count(Method::GET, "package-direct") > 0).then_some(()))
            .await;
        main.activate("m1", "Council", &zip);
        node.until_synced("m1").await;
        assert!(node.meeting("ended").await["sha256"].is_null(), "it takes longer than that");
        main.play().drip = None;
    };
    let (got, ()) = futures_util::future::join(waiting, starting).await;
    assert!(got == (StatusCode::OK, ended), "it goes on after that");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_ended_meetings_hold_up_nobody() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(50));
    let large = big_zip(2_000_000, 41);
    for number in 0..30 {
        main.activate(&format!("old{number}"), "Board", &large);
    }
    let one = json!({"network": {"maxConcurrentDownloads": 1}});
    let node = TestNode::of(&main.authority()).with(one).start().await;
    until("a pull", async || (main.count(Method::GET, "/uploads/") > 0).then_some(())).await;
    for number in 0..30 {
        main.end(&format!("old{number}"));
    }
    main.activate("new", "Council", &zip_of("papers"));
    node.until_synced("new").await;
    assert!(main.count(Method::GET, "/uploads/") <= 3, "the old ones are not pulled first");
    node.shut_down().await;
}
