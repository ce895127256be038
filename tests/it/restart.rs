//! A running meeting is ended and started again with other papers. The main
//! server waits until the nodes' heartbeats list the meeting as synced, sends the
//! tablets, and only then says by its token that anything has changed.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    ScriptedMain, TestNode,
    main_server::{Asked, Held},
    until, zip_of,
};

fn pulled(asked: &[Asked]) -> bool {
    asked.iter().any(|asked| asked.is_pull_of("m1"))
}

async fn running() -> (ScriptedMain, TestNode) {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("the first papers"));
    main.activate("m2", "Council", &zip_of("of another meeting"));
    let node = TestNode::of(&main.authority()).start().await;
    for id in ["m1", "m2"] {
        main.until_told(id, 0).await;
    }
    (main, node)
}

/// Until so many more heartbeats have come.
async fn heartbeats(main: &ScriptedMain, count: usize) -> Vec<Asked> {
    let before = main.asked("/nodes/heartbeat").len();
    until("heartbeats", async || {
        let mut beats = main.asked("/nodes/heartbeat");
        (beats.len() >= before + count).then(|| beats.split_off(before))
    })
    .await
}

/// At some moment of the interval, another one each time.
async fn a_while(round: u64) {
    tokio::time::sleep(Duration::from_millis(round * 370 % 1000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_is_started_again_is_not_told_as_synced_before_its_new_package_is_here() {
    let (main, node) = running().await;
    for round in 0..6 {
        a_while(round).await;
        let papers = zip_of(&format!("papers of round {round}"));
        let started = main.restart("m1", &papers).await;
        let before = main.until_told("m1", started).await;
        assert!(pulled(&before), "round {round}: told of the old one");
        assert!(node.download("m1").await.1 == papers, "round {round}");
    }
    // Nothing was wrong with the other one in all that time: but for a moment in
    // which the machine was busy, none of the heartbeats left it out.
    let beats = main.asked("/nodes/heartbeat").into_iter().skip_while(|beat| !beat.lists("m2"));
    let (listed, left_out): (Vec<_>, Vec<_>) = beats.partition(|beat| beat.lists("m2"));
    assert!(left_out.len() * 5 <= listed.len(), "{} of {}", left_out.len(), listed.len());
    assert_eq!(main.count(Method::GET, "_m2_pdfs.zip"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_without_any_sign_is_pulled_after_the_next_poll() {
    let (main, node) = running().await;
    let rare = json!({"heartbeat": {"interval": 299, "timeout": 300}});
    node.configure(rare).await;
    let papers = zip_of("quietly");
    main.replace_quietly("m1", &papers);
    let polls = || main.count(Method::GET, "status/node");
    let before = polls();
    until("the new papers", async || (node.download("m1").await.1 == papers).then_some(())).await;
    assert!(polls() <= before + 3, "{} polls", polls() - before);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_takes_long_to_be_told_is_listed_once_it_is_and_not_before() {
    let (main, node) = running().await;
    // Longer than a heartbeat waits, and than the interval.
    main.play().slow_heads = Some(Duration::from_millis(1500));
    for round in 0..2 {
        a_while(round).await;
        let papers = zip_of(&format!("papers of round {round}"));
        let started = main.restart("m1", &papers).await;
        let before = main.until_told("m1", started).await;
        assert!(pulled(&before), "round {round}: told of the old one");
        assert!(node.download("m1").await.1 == papers, "round {round}");
        // It goes out without those that it could not wait for, and they follow.
        main.until_told("m2", main.asked("").len()).await;
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_told_is_left_out_until_it_is_and_served_all_the_same() {
    let (main, node) = running().await;
    let papers = zip_of("the second papers");
    main.play().failing_heads = true;
    let started = main.restart("m1", &papers).await;
    heartbeats(&main, 1).await;
    let beats = heartbeats(&main, 3).await;
    assert!(beats.iter().all(|beat| !beat.lists("m1") && !beat.lists("m2")));
    assert_eq!(node.meeting("m2").await["state"], "synced");
    assert_eq!(node.download("m2").await.1, zip_of("of another meeting"));

    main.play().failing_heads = false;
    assert!(pulled(&main.until_told("m1", started).await), "told of the old one");
    main.until_told("m2", main.asked("").len()).await;
    assert_eq!(main.count(Method::GET, "_m2_pdfs.zip"), 1, "it was the current one all along");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_can_not_be_asked_for_versions_is_told_what_was_pulled() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &zip_of("the first papers"));
    main.play().no_heads = true;
    let node = TestNode::of(&main.authority()).start().await;
    main.until_told("m1", 0).await;
    let beats = heartbeats(&main, 3).await;
    assert!(beats.iter().all(|beat| beat.lists("m1")));
    assert_eq!(main.count(Method::GET, "/uploads/"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_moves_while_it_is_asked_for_is_found_again() {
    let (main, node) = running().await;
    main.rename("m1", "Another title");
    until("asked for at its new place", async || {
        (main.count(Method::HEAD, "/Another%20title_m1_") > 0).then_some(())
    })
    .await;
    main.until_told("m1", main.asked("").len()).await;
    assert_eq!(node.meeting("m1").await["state"], "synced");
    node.shut_down().await;
}

type Sign = fn(&ScriptedMain);

/// Without a `package_url` only the bytes can tell, and they are pulled again
/// when there is a sign: another token, title or time, or that the meeting was
/// gone. A restart between two polls that shows none of these goes unnoticed
/// until the token changes.
#[tokio::test(flavor = "multi_thread")]
async fn where_versions_can_not_be_asked_for_any_sign_of_a_restart_has_it_pulled_again() {
    let main = ScriptedMain::start().await;
    main.play().unoffered.insert("m1".into());
    main.activate("m1", "Board", &zip_of("the first papers"));
    let node = TestNode::of(&main.authority()).start().await;
    // Only the first time, waiting for an offer times out.
    until("the meeting", async || (node.meeting("m1").await["active"] == true).then_some(())).await;
    assert_eq!(node.download("m1").await.0, StatusCode::OK);
    main.until_told("m1", 0).await;
    let signs: [(&str, Sign); 3] = [
        ("its title", |main| main.rename("m1", "Another title")),
        ("its time", |main| main.play().time = "9:30".to_owned()),
        ("the token", ScriptedMain::change_token),
    ];
    for (sign, give) in signs {
        let papers = zip_of(sign);
        main.restart("m1", &papers).await;
        give(&main);
        // The next heartbeat may be ahead of the next poll.
        until("the new papers", async || (node.download("m1").await.1 == papers).then_some(()))
            .await;
        let beats = heartbeats(&main, 2).await;
        assert!(beats.iter().skip(1).all(|beat| beat.lists("m1")), "{sign}");
    }
    node.shut_down().await;
}

/// The main server of another kind that holds polls back, as ours does: nothing
/// but heartbeats asks for versions then.
#[tokio::test(flavor = "multi_thread")]
async fn between_two_polls_heartbeats_ask_for_themselves() {
    let (main, node) = running().await;
    main.play().held = Some(Held::ForEver);
    until("a poll held", async || (main.play().holding == 1).then_some(())).await;
    let papers = zip_of("the second papers");
    let started = main.restart("m1", &papers).await;
    assert!(pulled(&main.until_told("m1", started).await), "told of the old one");
    assert_eq!(main.play().holding, 1);
    node.shut_down().await;
}
