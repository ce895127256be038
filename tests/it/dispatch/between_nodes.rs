//! Files that nodes pass on to each other.

use super::*;
use crate::support::{metrics::Metrics, node::free_port};

async fn served(main: &TestMaster) -> f64 {
    Metrics::of(&main.url("")).await.get("edge_mirror_master_dispatch_sent_bytes_total")
}

/// Nodes that the main server knows.
async fn fleet(main: &TestMaster, operator: &Operator, count: usize) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for n in 0..count {
        let id = format!("node-{n}");
        nodes.push(node(&main.authority(), &id).await);
        operator.until_known(&id).await;
        main.until_reached(&id).await;
    }
    nodes
}

/// A node that others reach by a proxy alone.
async fn behind_proxy(
    main: &TestMaster,
    operator: &Operator,
    id: &str,
    way: Way,
) -> (TestNode, Proxy) {
    let port = free_port();
    let proxy = Proxy::before(([127, 0, 0, 1], port).into(), way);
    let address = proxy.address().to_string();
    let config = json!({"nodeId": id, "nodePort": port, "relay": {"address": address}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    operator.until_known(id).await;
    (node, proxy)
}

/// A node that the main server knows, and that is not there now.
async fn away(main: &TestMaster, operator: &Operator, id: &str) -> crate::support::node::Builder {
    let node = node(&main.authority(), id).await;
    operator.until_known(id).await;
    node.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_server_sends_a_large_file_once_and_a_late_node_gets_it_from_another() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let mut nodes = fleet(&main, &operator, 5).await;
    let away = nodes.pop().unwrap().stop().await;
    let large = noise(12 << 20, 1);
    let file = operator.upload("large", &large).await;
    let task = operator.send(vec![file], json!({"access": "open"})).await;
    operator.until_done_at(&task, 4).await;
    let sent = served(&main).await;
    // A node that is late to begin is not waited for.
    assert!(sent < 2.5 * large.len() as f64, "{sent}");
    nodes.push(away.start().await);
    operator.until_status(&task, "completed").await;
    assert_eq!(served(&main).await, sent);
    for node in &nodes {
        let answer = node.get(&file_path(&task, "large")).await;
        assert!(answer.bytes().await.unwrap() == large);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_another_node_are_noticed_within_a_piece() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let (_liar, proxy) = behind_proxy(&main, &operator, "liar", Way::Flip(5 << 20)).await;
    let good = away(&main, &operator, "good").await;
    let large = noise(12 << 20, 2);
    let file = operator.upload("large", &large).await;
    let task = operator.send(vec![file], json!({"access": "open", "to": {"all": true}})).await;
    operator.until_done_at(&task, 1).await;
    let before = served(&main).await;
    let good = good.start().await;
    operator.until_done_at(&task, 2).await;
    assert!(good.get(&file_path(&task, "large")).await.bytes().await.unwrap() == large);
    let rest = served(&main).await - before;
    assert!(proxy.passed() > 5 << 20, "it was asked");
    // Four pieces came whole, and the fifth or sixth is wrong: the answer has a head, too.
    assert_eq!(rest, (large.len() - (4 << 20)) as f64, "what came before is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_breaks_off_is_left_and_the_rest_comes_from_elsewhere() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let (_broken, _proxy) = behind_proxy(&main, &operator, "broken", Way::Cut(3 << 20)).await;
    let good = away(&main, &operator, "good").await;
    let large = noise(8 << 20, 3);
    let file = operator.upload("large", &large).await;
    let task = operator.send(vec![file], json!({"access": "open"})).await;
    operator.until_done_at(&task, 1).await;
    let before = served(&main).await;
    let good = good.start().await;
    operator.until_done_at(&task, 2).await;
    assert!(good.get(&file_path(&task, "large")).await.bytes().await.unwrap() == large);
    let rest = served(&main).await - before;
    assert!(rest > 0.0 && rest < large.len() as f64 * 0.75, "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_file_from_a_node_by_a_wrong_key() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let node = node(&main.authority(), "a").await;
    operator.until_known("a").await;
    let file = operator.upload("f", b"bytes").await;
    let task = operator.send(vec![file], json!({})).await;
    operator.until_status(&task, "completed").await;
    let url = node.url(&file_path(&task, "f"));
    let scheme = "Edge-Mirror-Relay";
    let answer = client().get(&url).header("authorization", scheme).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let nonce = challenge.split('"').nth(1).unwrap();
    let forged = format!(
        "{scheme} node=\"x\", address=\"1.2.3.4:5\", parent=\"{}\", version=\"sha-256:{}\", \
         nonce=\"{nonce}\", cnonce=\"00\", mac=\"{}\"",
        node.address(),
        "0".repeat(64),
        "0".repeat(64),
    );
    let answer = client().get(&url).header("authorization", forged).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
