//! Nodes of several main servers: one of them dies, and the node goes on at the next one
//! without pulling anything again.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Fault, ScriptedMain, TestMaster, TestNode,
    metrics::Metrics,
    node::Builder,
    until,
    zips::{big_zip, zip_of},
};

/// With the pauses of the test's node; far less than the list of a main server forgets
/// nodes in.
const A_FEW_SECONDS: Duration = Duration::from_secs(5);

fn node_of(authorities: &[String]) -> Builder {
    TestNode::of(&authorities[0]).with(json!({"mainServers": authorities}))
}

/// Two main servers that list the same meeting with the same package.
async fn two_with(id: &str, package: &[u8]) -> [ScriptedMain; 2] {
    let both = [ScriptedMain::start().await, ScriptedMain::start().await];
    for main in &both {
        main.activate_with(id, package, |play| play.ranges = true);
    }
    both
}

fn authorities(both: &[ScriptedMain; 2]) -> [String; 2] {
    both.each_ref().map(ScriptedMain::authority)
}

fn pulls(main: &ScriptedMain, id: &str) -> usize {
    main.asked("/uploads/").iter().filter(|asked| asked.is_pull_of(id)).count()
}

fn problem(status: &Value, code: &str) -> Option<Value> {
    let problems = status["problems"].as_array().unwrap();
    problems.iter().find(|problem| problem["code"] == code).cloned()
}

async fn until_in_use(node: &TestNode, authority: &str) {
    let expected = format!("http://{authority}");
    until(&format!("{authority} in use"), async || {
        let status = node.status().await;
        let is_there =
            status["main_server_in_use"] == expected.as_str() && status["connected"] == true;
        is_there.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_to_and_fro_between_main_servers_and_pulls_nothing_again() {
    let package = zip_of("papers");
    let both = two_with("m", &package).await;
    let [a, b] = &both;
    let node = node_of(&authorities(&both)).start().await;
    node.until_synced("m").await;
    assert_eq!(node.status().await["main_server_in_use"], format!("http://{}", a.authority()));
    assert!(b.knows("node-test").is_none());

    let died = Instant::now();
    a.go_away().await;
    until("registered at the other one", async || b.knows("node-test")).await;
    assert!(died.elapsed() < A_FEW_SECONDS, "{:?}", died.elapsed());
    until("told there of the package", async || {
        b.last_heartbeat()["synced_meetings"].get(0).cloned()
    })
    .await;
    assert_eq!(node.download("m").await, (StatusCode::OK, package.clone()));
    let status = node.status().await;
    let told = problem(&status, "main_server_failover").unwrap();
    assert_eq!(told["severity"], "warning");
    assert_eq!(told["main_servers"], format!("http://{}", a.authority()));
    assert_eq!(status["main_servers"][0]["in_use"], false);
    assert!(
        !status["main_servers"][0]["error"].is_null()
            && status["main_servers"][1]["error"].is_null()
    );
    let metrics = Metrics::of(&node.url("")).await;
    assert_eq!(
        [
            "main_servers",
            "main_server_in_use",
            "main_servers_failing",
            "main_server_failovers_total"
        ]
        .map(|name| metrics.get(&format!("edge_mirror_{name}"))),
        [2.0, 2.0, 1.0, 1.0]
    );

    // It stays where it is, and is warned no longer of one that is back.
    a.come_back().await;
    until("no warning", async || {
        problem(&node.status().await, "main_server_failover").is_none().then_some(())
    })
    .await;
    until_in_use(&node, &b.authority()).await;
    assert!(a.knows("node-test").is_none());
    b.go_away().await;
    until_in_use(&node, &a.authority()).await;
    assert_eq!((pulls(a, "m"), pulls(b, "m")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_main_server_dies_goes_on_at_the_next_one_where_it_stopped() {
    const FIRST_PART: usize = 3 << 20;
    let package = big_zip(8 << 20, 1);
    let both = two_with("m", &package).await;
    let [a, b] = &both;
    let valve = a.valve(FIRST_PART);
    // Long pauses: what goes on does so at once.
    let slow = json!({"network": {"retryDelay": 3600}});
    let node = node_of(&authorities(&both)).with(slow).start().await;
    until("the first part here", async || {
        let meeting = node.meeting("m").await;
        (meeting["received"].as_u64()? >= FIRST_PART as u64 - (64 << 10)).then_some(())
    })
    .await;
    drop(valve);
    a.go_away().await;
    node.until_synced("m").await;
    assert_eq!(node.download("m").await, (StatusCode::OK, package.clone()));
    let asked = b.asked("/uploads/");
    let asked: Vec<_> = asked.iter().filter(|asked| asked.is_pull_of("m")).collect();
    let ranges = asked
        .iter()
        .map(|asked| asked.headers.get("range").map(|range| range.to_str().unwrap().to_owned()));
    let ranges: Vec<_> = ranges.collect();
    let [Some(range)] = &ranges[..] else { panic!("{ranges:?}") };
    let first: usize =
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!((FIRST_PART - (1 << 20)..=FIRST_PART).contains(&first), "{first}");
    let received = node.status().await["bytes_pulled"].as_u64().unwrap();
    assert_eq!(received, package.len() as u64, "no byte came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_only_answers_errors_is_left() {
    let both = two_with("m", &zip_of("papers")).await;
    let [a, b] = &both;
    a.fail("/nodes/register", vec![Fault::Status(503); 1000]);
    let node = node_of(&authorities(&both)).start().await;
    until("registered at the other one", async || b.knows("node-test")).await;
    assert_eq!(a.count(Method::POST, "/nodes/register"), 2);
    node.until_synced("m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_none_answers_the_problem_names_each_with_its_reason() {
    let both = two_with("m", &zip_of("papers")).await;
    let [a, b] = &both;
    let node = node_of(&authorities(&both)).start().await;
    node.until_synced("m").await;
    a.go_away().await;
    b.go_away().await;
    let told =
        until("both told", async || problem(&node.status().await, "main_servers_unreachable"))
            .await;
    let text = told["text"].as_str().unwrap();
    for main in &both {
        let authority = main.authority();
        assert!(told["main_servers"].as_str().unwrap().contains(&authority), "{told}");
        assert!(text.contains(&format!("http://{authority}/")), "{text}");
    }
    assert_eq!(text.matches("efused").count(), 2, "{text}");
    assert_eq!(node.download("m").await.0, StatusCode::OK);
    b.come_back().await;
    until_in_use(&node, &b.authority()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_main_server_of_ours_says_is_heard_within_two_seconds() {
    let package = zip_of("papers");
    let [a, b] = [TestMaster::build().start().await, TestMaster::build().start().await];
    for master in [&a, &b] {
        master.begin_with("m", &package).await;
        master.create("next", "Next").await;
        master.put("next", &zip_of("next")).await;
    }
    let list = [a.authority(), b.authority()];
    // As they are by default: what is held does not wait for these.
    let usual = json!({"syncInterval": 10, "heartbeat": {"interval": 10, "timeout": 30}});
    let node = node_of(&list).with(usual).start().await;
    node.until_synced("m").await;
    let pulled = node.status().await["bytes_pulled"].clone();
    let _stopped = a.stop().await;
    until_in_use(&node, &b.authority()).await;
    b.until_held_by("m", &["node-test"]).await;
    assert_eq!(node.status().await["bytes_pulled"], pulled);
    let began = Instant::now();
    b.begin("next").await;
    node.until_synced("next").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_stay_when_main_servers_are_added_or_put_first() {
    let both = two_with("m", &zip_of("papers")).await;
    let [a, b] = authorities(&both);
    let node = TestNode::of(&a).start().await;
    node.until_synced("m").await;
    for list in [json!([a, b]), json!([b, a]), json!([b])] {
        node.configure(json!({"mainServers": list})).await;
        until(&format!("{list}"), async || {
            let status = node.status().await;
            let meeting = node.meeting("m").await;
            (status["connected"] == true && meeting["state"] == "synced").then_some(())
        })
        .await;
        assert_eq!(node.download("m").await.0, StatusCode::OK);
    }
    let in_all = both.iter().map(|main| pulls(main, "m")).sum::<usize>();
    // The last one is a fleet of its own.
    assert!(in_all <= 2, "{in_all}");
    assert_eq!(pulls(&both[0], "m"), 1);
    let config = node.json("/api/config").await;
    assert_eq!(config["mainServerPort"].to_string(), b.rsplit_once(':').unwrap().1);
}
