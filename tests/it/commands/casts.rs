//! `edge-mirror cast` and `edge-mirror casts`.

use serde_json::json;

use super::{Ended, command, run};
use crate::support::{TestMaster, TestNode, process::Process, until};

async fn run_at(main: &TestMaster, args: &[&str]) -> Ended {
    let master = main.authority();
    run(args.iter().copied().chain(["--master", &master])).await
}

async fn node(main: &TestMaster, id: &str) -> TestNode {
    let node = TestNode::of(&main.authority()).with(json!({"nodeId": id})).start().await;
    until(&format!("node {id} is known"), async || {
        let fleet = main.json("/api/v1/fleet/nodes").await;
        let mut nodes = fleet["nodes"].as_array().unwrap().iter();
        nodes.any(|node| node["id"] == id).then_some(())
    })
    .await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_followed_and_listed() {
    let main = TestMaster::build().start().await;
    let (here, away) = (node(&main, "here").await, node(&main, "away").await);
    let away = away.stop().await;
    let master = main.authority();
    let mut feed = Process::spawn(command(["casts", "--follow", "--master", &master]));
    let cast = ["cast", "moved to 10:30", "--to", "all", "--key", "k"];
    assert_eq!(run_at(&main, &cast).await.code, Some(0));
    let part = "notice  moved to 10:30: 1 of 2 nodes have it; not yet: away\n";
    until("the feed says so", async || feed.output.get().contains(part).then_some(())).await;
    // The same one again, to wait for those that don't have it.
    let sent = run_at(&main, &[&cast[..], &["--wait", "1ms"]].concat()).await;
    assert_eq!((sent.code, sent.errors.as_str()), (Some(3), ""), "{}", sent.output);
    assert_eq!(sent.output, "1 of 2 nodes have it; not yet: away\n");
    let away = away.start().await;
    let all = "notice  moved to 10:30: 2 of 2 nodes have it\n";
    until("it arrived", async || feed.output.get().contains(all).then_some(())).await;
    let to = ["--to", "here", "--topic", "screens", "--json"];
    let sent = run_at(&main, &[&["cast", r#"{"show": 3}"#, "--body-json"], &to[..]].concat()).await;
    let (code, sent) = (sent.code, sent.json());
    assert_eq!((code, &sent["body"]), (Some(0), &json!({"show": 3})));
    assert_eq!(sent["to"], json!({"nodes": ["here"]}));
    until("the feed goes on", async || feed.output.get().contains("screens  {").then_some(()))
        .await;
    feed.signal("INT");
    assert_eq!(feed.until_ended().await.code(), Some(0));
    let listed = run_at(&main, &["casts", "--topic", "notice"]).await;
    let output = listed.output;
    assert_eq!((listed.code, output.lines().count()), (Some(0), 2), "{output}");
    assert!(output.ends_with("moved to 10:30  delivered  2 of 2\n"), "{output}");
    here.shut_down().await;
    away.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_with_the_reason() {
    let main = TestMaster::build().start().await;
    let node = node(&main, "here").await;
    let long = "x".repeat(5000);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["cast", "hello"], 2, "--to"),
        (&["cast", "hello", "--to", "site:"], 2, "site:NAME"),
        (&["cast", "hello", "--to", "all", "--priority", "no"], 2, "--priority"),
        (&["cast", "hello", "--to", "nobody"], 1, "there is no such node: nobody"),
        (&["cast", "hello", "--to", "here", "--topic", ""], 1, "topic must have"),
        (&["cast", "{", "--body-json", "--to", "here"], 1, "TEXT is no JSON"),
        (&["cast", &long, "--to", "all"], 1, "the body has 5000 bytes"),
        (&["casts", "--limit", "0"], 2, "from 1 to 100"),
    ];
    for (args, code, part) in cases {
        run_at(&main, args).await.refused(code, &[part]);
    }
    for _ in 0..2 {
        assert_eq!(
            run_at(&main, &["cast", "one", "--to", "here", "--key", "k"]).await.code,
            Some(0)
        );
    }
    run_at(&main, &["cast", "two", "--to", "here", "--key", "k"]).await.refused(1, &["key"]);
    let listed = run_at(&main, &["casts", "--json"]).await;
    assert_eq!(listed.output.lines().count(), 1, "{}", listed.output);
    node.shut_down().await;
}
