//! From "started at the main server" to "the node has it and has said so":
//! with a main server of ours at once, whatever the interval.

use edge_mirror_protocol::package::Sha256;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256 as Sha2};

use crate::support::{
    ScriptedMain, TestMaster, TestNode,
    main_server::{Held, Shape},
    until, zip_of,
    zips::big_zip,
};

/// Nothing that is waited for here comes by an interval.
fn no_intervals() -> Value {
    json!({"syncInterval": 3600, "heartbeat": {"interval": 299, "timeout": 300}})
}

/// Nor by the end of a wait or of anybody's patience.
async fn holding() -> (ScriptedMain, TestNode) {
    let main = ScriptedMain::start().await;
    main.play().held = Some(Held::ForEver);
    main.activate("m1", "Board", &zip_of("papers"));
    let patient = json!({"network": {"connectionTimeout": 300}});
    let node = TestNode::of(&main.authority()).with(no_intervals()).with(patient).start().await;
    node.until_synced("m1").await;
    until_held(&main, 1).await;
    (main, node)
}

async fn until_held(main: &ScriptedMain, count: usize) {
    until(&format!("{count} polls held"), async || (main.play().holding == count).then_some(()))
        .await;
}

fn polls(main: &ScriptedMain) -> usize {
    main.count(Method::GET, "status/node")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_at_our_main_server_reaches_the_node_without_waiting_for_any_interval() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).with(no_intervals()).start().await;
    main.until_reached("node-test").await;
    let (first, second) = (zip_of("papers"), zip_of("other papers"));
    for id in ["m1", "m2"] {
        main.begin_with(id, &first).await;
        main.until_held_by(id, &["node-test"]).await;
    }
    main.put("m1", &second).await;
    main.until_held_by("m1", &["node-test"]).await;
    assert_eq!(node.download("m1").await.1, second);

    main.end("m1").await;
    until("its end in the heartbeat", async || {
        let active = main.node("node-test").await["active_meetings"].clone();
        (active == json!([{"id": "m2", "title": "Board"}])).then_some(())
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_happens_answers_still_come_and_count() {
    let main = TestMaster::build().start().await;
    let at_once = json!({"cleanup": {"graceSeconds": 0}});
    let node = TestNode::of(&main.authority()).with(no_intervals()).with(at_once).start().await;
    main.begin_with("m1", &zip_of("papers")).await;
    node.until_synced("m1").await;
    let polled = node.status().await["last_poll"].as_u64().unwrap();
    main.end("m1").await;
    // That takes a second answer, and there is no second piece of news.
    until("gone", async || (!node.storage().join("meeting_m1").exists()).then_some(())).await;
    let status = node.status().await;
    assert!(status["last_poll"].as_u64().unwrap() > polled, "{status}");
    assert!(status["poll_error"].is_null(), "{status}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_of_ours_that_was_away_is_asked_again_soon() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).with(no_intervals()).start().await;
    main.begin_with("m1", &zip_of("papers")).await;
    node.until_synced("m1").await;
    let main = main.stop().await.start().await;
    main.begin_with("m2", &zip_of("papers")).await;
    node.until_synced("m2").await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_of_another_kind_is_polled_at_the_interval_and_no_sooner() {
    for shape in [Shape::Newer, Shape::OldestSingle] {
        let main = ScriptedMain::start().await;
        main.play().shape = shape;
        main.activate("m1", "Board", &zip_of("papers"));
        let rare = json!({"syncInterval": 3600});
        let node = TestNode::of(&main.authority()).with(rare).start().await;
        node.until_synced("m1").await;
        let told = json!(["m1"]);
        until("the news", async || {
            (main.last_heartbeat()["synced_meetings"] == told).then_some(())
        })
        .await;
        main.end("m1");
        let beats = main.count(Method::POST, "heartbeat");
        until("two seconds' heartbeats", async || {
            (main.count(Method::POST, "heartbeat") > beats + 2).then_some(())
        })
        .await;
        assert_eq!(polls(&main), 1, "{shape:?}");

        node.configure(json!({"syncInterval": 1})).await;
        until("three polls", async || (polls(&main) > 3).then_some(())).await;
        let asked = main.asked("status/node");
        assert!(asked.iter().all(|asked| !asked.headers.contains_key("if-none-match")));
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_says_it_waits_and_does_not_is_not_asked_in_a_loop() {
    for held in [Held::NotAtAll, Held::Nameless] {
        let main = ScriptedMain::start().await;
        main.play().held = Some(held);
        main.activate("m1", "Board", &zip_of("papers"));
        let rare = json!({"syncInterval": 3600});
        let node = TestNode::of(&main.authority()).with(rare).start().await;
        node.until_synced("m1").await;
        let beats = main.count(Method::POST, "heartbeat");
        until("two seconds' heartbeats", async || {
            (main.count(Method::POST, "heartbeat") > beats + 2).then_some(())
        })
        .await;
        assert!(polls(&main) <= 3, "{held:?}: {} polls", polls(&main));
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_the_service_ends_a_poll_that_is_held_and_a_start_polls() {
    let (main, node) = holding().await;
    node.post("/api/service/stop", json!(null)).await;
    until_held(&main, 0).await;
    let before = polls(&main);
    node.post("/api/service/start", json!(null)).await;
    until("a poll", async || (polls(&main) > before).then_some(())).await;
    node.until_synced("m1").await;
    until_held(&main, 1).await;
    node.shut_down().await;
    until_held(&main, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_is_not_held_back() {
    let (main, node) = holding().await;
    let before = polls(&main);
    main.replace_quietly("m1", &zip_of("other papers"));
    node.post("/api/meetings/m1/sync", json!(null)).await;
    until("a poll", async || (polls(&main) > before).then_some(())).await;
    let asked = main.asked("status/node").into_iter().nth(before).unwrap();
    assert!(!asked.headers.contains_key("if-none-match"), "it wants an answer, not only news");
    until("the other papers", async || {
        (node.download("m1").await.1 == zip_of("other papers")).then_some(())
    })
    .await;
    until_held(&main, 1).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_ends_a_poll_that_is_held() {
    let (main, node) = holding().await;
    let waits = |main: &ScriptedMain| {
        let asked = main.asked("status/node").pop().unwrap();
        asked.headers["prefer"].to_str().unwrap().to_owned()
    };
    assert_eq!(waits(&main), "wait=10");
    node.configure(json!({"syncInterval": 7})).await;
    until("the other wait", async || (waits(&main) == "wait=7").then_some(())).await;
    until_held(&main, 1).await;

    let other = ScriptedMain::start().await;
    other.activate("m2", "Council", &zip_of("of the other"));
    let port: u16 = other.authority().rsplit_once(':').unwrap().1.parse().unwrap();
    node.configure(json!({"mainServerPort": port})).await;
    node.until_synced("m2").await;
    until_held(&main, 0).await;
    let first = &other.asked("status/node")[0];
    assert!(!first.headers.contains_key("if-none-match"), "that was the other one's version");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_go_out_on_time_while_several_packages_are_pulled() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(std::time::Duration::from_millis(100));
    let names = ["a", "b", "c", "d"];
    for (seed, id) in names.iter().enumerate() {
        main.activate(id, "Board", &big_zip(2_000_000, seed as u64));
    }
    let four = json!({"network": {"maxConcurrentDownloads": 4}});
    let node = TestNode::of(&main.authority()).with(four).start().await;
    let all_pulling = async |node: &TestNode| {
        let status = node.status().await;
        let meetings = status["meetings"].as_array().unwrap();
        meetings.iter().filter(|meeting| meeting["state"] == "pulling").count() == names.len()
    };
    until("four pulls", async || all_pulling(&node).await.then_some(())).await;
    let before = polls(&main);
    until("three polls", async || (polls(&main) >= before + 3).then_some(())).await;
    assert!(all_pulling(&node).await);
    node.shut_down().await;
}

/// All that was asked between a start and the meeting's package being here.
fn lists_of_offers(main: &ScriptedMain) -> usize {
    main.count(Method::GET, "active/meetings")
}

/// One meeting as a main server of ours tells of it: earlier ones beside its title,
/// newer ones in a section of its own.
fn of_our_main_server(package: &[u8], section: bool) -> String {
    let sha256 = Sha256::new(Sha2::digest(package).into());
    let mut hint = json!({
        "id": "m1",
        "sha256": sha256.to_string(),
        "size": package.len(),
        "package_url": "/uploads/packages/Board_m1_pdfs.zip",
    });
    let mut meeting = json!({"id": "m1", "title": "Board"});
    if section {
        let extension = json!({"version": 1, "packages": [hint], "of_the_future": {"x": [1]}});
        let answer = json!({"id": "t", "active_meetings": [meeting], "edge_mirror": extension});
        return answer.to_string();
    }
    meeting.as_object_mut().unwrap().append(hint.as_object_mut().unwrap());
    json!({"id": "t", "active_meetings": [meeting]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_understands_main_servers_of_ours_old_and_new_without_another_request() {
    for section in [false, true] {
        let main = ScriptedMain::start().await;
        let papers = zip_of("papers");
        main.activate("m1", "Board", &papers);
        main.play().status_answer = Some(of_our_main_server(&papers, section));
        let node = TestNode::of(&main.authority()).with(no_intervals()).start().await;
        node.until_synced("m1").await;
        assert_eq!(node.download("m1").await.1, papers);
        assert_eq!(lists_of_offers(&main), 0, "the answer has the offers: {section}");
        assert_eq!(main.count(Method::GET, "/uploads/packages/"), 1);
        assert_eq!(main.count(Method::GET, "package-direct"), 0);
        let poll = &main.asked("status/node")[0];
        assert_eq!(poll.headers["edge-mirror-accept"], "version=1, packages, relay, dispatch");
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_makes_no_sense_leaves_the_meetings_as_they_are() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("papers"));
    let at_once = json!({"syncInterval": 1, "cleanup": {"graceSeconds": 0}});
    let node = TestNode::of(&main.authority()).with(at_once).start().await;
    node.until_synced("m1").await;
    for extension in
        [json!("x"), json!({"version": 2, "packages": []}), json!({"version": 1, "packages": "m1"})]
    {
        let meetings = json!([{"id": "m1", "title": "Board"}]);
        let answer = json!({"id": "u", "active_meetings": meetings, "edge_mirror": extension});
        let before = polls(&main);
        main.play().status_answer = Some(answer.to_string());
        until("two polls", async || (polls(&main) > before + 2).then_some(())).await;
        let status = node.status().await;
        assert!(status["poll_error"].is_null(), "{status}");
        assert_eq!(status["meetings"][0]["active"], true, "{status}");
        assert!(node.storage().join("meeting_m1/package.zip").exists());
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_a_main_server_of_ours_exchange_the_newest_they_both_know() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).with(no_intervals()).start().await;
    main.until_reached("node-test").await;
    main.begin_with("m1", &zip_of("papers")).await;
    main.until_held_by("m1", &["node-test"]).await;

    // An old node beside it is told as ever.
    let path = "/api/v1/meetings/status/node";
    let old = main.json(path).await;
    assert!(old["edge_mirror"].is_null(), "{old}");
    assert_eq!(old["active_meetings"][0]["package_url"], "/uploads/packages/meeting_m1_pdfs.zip");
    node.shut_down().await;
}
