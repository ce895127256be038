//! A package that changes between the pulls of nodes, and during them.

use futures_util::future::join_all;
use serde_json::json;

use super::{
    by_rank::pulls,
    planned::{fleet, served},
    scripted::node_of,
};
use crate::support::{ScriptedMain, TestMaster, TestNode, until, zips::big_zip};

/// Bytes per second of a pull that a test interferes with.
const SLOWLY: u64 = 3 << 20;

/// Downloads until the newer version comes, and never gets anything but one of the two.
async fn until_newer(node: &TestNode, old: &[u8], new: &[u8]) {
    until("the newer one", async || {
        let got = node.try_download("m").await?;
        assert!(got == old || got == new, "a mixture of {} bytes", got.len());
        (got == new).then_some(())
    })
    .await;
}

async fn until_received(node: &TestNode, bytes: u64) {
    until("some of it", async || {
        let received = node.meeting("m").await["received"].as_u64();
        received.filter(|received| *received > bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_versions_the_newer_wins_and_nobody_serves_a_mixture() {
    let (main, old) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
    let new = big_zip(3 << 20, 8);
    let nodes = join_all(["node-a", "node-b", "node-c"].map(|id| node_of(&main, id))).await;
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &old);
    for node in &nodes {
        until("half of it", async || {
            let received = node.meeting("m").await["received"].as_u64();
            received.filter(|received| *received > 1 << 20)
        })
        .await;
    }
    let tablets = nodes.iter().map(async |node| {
        let got = node.try_download("m").await;
        assert!(got.is_none_or(|got| got == old || got == new), "a mixture");
    });
    let change = async {
        main.activate("m", "Board", &new);
        valve.open();
        for node in &nodes {
            until("the newer one", async || {
                let got = node.try_download("m").await?;
                assert!(got == old || got == new, "a mixture");
                (got == new).then_some(())
            })
            .await;
        }
    };
    tokio::join!(join_all(tablets), change);
    for node in nodes {
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_in_the_middle_of_a_relayed_pull_the_newer_one_arrives_everywhere() {
    let master = TestMaster::build().start().await;
    let nodes = fleet(&master, 3).await;
    for node in &nodes {
        node.configure(json!({"network": {"bandwidth": SLOWLY}})).await;
    }
    let (old, new) = (big_zip(8 << 20, 1), big_zip(8 << 20, 2));
    master.begin_with("m", &old).await;
    for node in &nodes {
        until_received(node, 1 << 20).await;
    }
    let tablets = join_all(nodes.iter().map(|node| until_newer(node, &old, &new)));
    let change = async {
        master.put("m", &new).await;
        for node in &nodes {
            node.configure(json!({"network": {"bandwidth": 0}})).await;
        }
    };
    tokio::join!(tablets, change);
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == new);
    }
    let most = (old.len() + new.len()) as f64;
    let sent = served(&master).await;
    assert!(sent <= most, "each version once: {sent} of {most}");
    for node in nodes {
        assert!(node.shut_down().await);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_the_older_version_gets_the_newer_one_from_another_node() {
    let master = TestMaster::build().start().await;
    let mut nodes = fleet(&master, 2).await;
    let (old, new) = (big_zip(3 << 20, 1), big_zip(3 << 20, 2));
    master.begin_with("m", &old).await;
    for node in &nodes {
        node.until_synced("m").await;
    }
    let away = nodes.remove(0).stop().await;
    master.put("m", &new).await;
    until_newer(&nodes[0], &old, &new).await;
    // The one has the old version, the other the new one.
    let back = away.start().await;
    until_newer(&back, &old, &new).await;
    assert!(nodes[0].download("m").await.1 == new);
    let sent = served(&master).await;
    assert_eq!(sent, (old.len() + new.len()) as f64);
    nodes.push(back);
    for node in nodes {
        assert!(node.shut_down().await);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_between_two_pulls_the_second_node_takes_nothing_of_the_first_ones_version() {
    // Of the same length, too: only the validators tell.
    for length in [3 << 20, 4 << 20] {
        let (main, old) = (ScriptedMain::start().await, big_zip(3 << 20, 7));
        let new = big_zip(length, 8);
        main.activate("m", "Board", &old);
        let first = node_of(&main, "node-a").await;
        first.until_synced("m").await;
        // Neither list nor token tell of it.
        main.replace_quietly("m", &new);
        let second = node_of(&main, "node-b").await;
        second.until_synced("m").await;
        assert!(second.download("m").await.1 == new, "it asks for the version of now");
        // Then the first one is told.
        main.change_token();
        until_newer(&first, &old, &new).await;
        assert!(second.download("m").await.1 == new);
        assert!((2..=3).contains(&pulls(&main)), "{}", pulls(&main));
        first.shut_down().await;
        second.shut_down().await;
    }
}

/// The root of the tree is sent the beginning of one file and the end of another one, under
/// the same validators.
#[tokio::test(flavor = "multi_thread")]
async fn a_mixture_that_the_main_server_makes_completes_nowhere() {
    let main = ScriptedMain::start().await;
    main.play().ranges = true;
    main.play().etag = Some("\"the same\"".to_owned());
    main.play().last_modified = Some("Sat, 21 Nov 2026 07:00:00 GMT");
    let nodes = join_all(["node-a", "node-b", "node-c"].map(|id| node_of(&main, id))).await;
    let (old, new) = (big_zip(3 << 20, 7), big_zip(3 << 20, 8));
    let valve = main.valve(2 << 20);
    main.activate("m", "Board", &old);
    for node in &nodes {
        until_received(node, 1 << 20).await;
    }
    assert_eq!(pulls(&main), 1);
    let tablets = join_all(nodes.iter().map(|node| until_newer(node, &old, &new)));
    let change = async {
        main.swap("m", &new);
        // What is under way breaks off, and is resumed.
        drop(valve);
        let open = main.valve(usize::MAX);
        until("it is resumed", async || (pulls(&main) >= 2).then_some(())).await;
        open
    };
    let (_, _open) = tokio::join!(tablets, change);
    for node in &nodes {
        node.until_synced("m").await;
        assert!(node.download("m").await.1 == new);
    }
    for node in nodes {
        node.shut_down().await;
    }
}
