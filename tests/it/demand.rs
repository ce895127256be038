//! How many nodes the load wants: asked for, measured, told.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use serde_json::{Value, json};

use crate::support::{TestMaster, metrics::Metrics, old_node::OldNode, until};

/// What was posted; the first ones were refused.
#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Vec<Value>>>);

const REFUSED: usize = 2;

async fn hear(State(webhook): State<Webhook>, Json(body): Json<Value>) -> StatusCode {
    let mut heard = webhook.0.lock().unwrap();
    heard.push(body);
    match heard.len() <= REFUSED {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => StatusCode::NO_CONTENT,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wanted_number_of_nodes_is_told_and_told_again_until_it_is_taken() {
    let (webhook, tasks) = (Webhook::default(), Tasks::new());
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let url = format!("http://{}/hook", listener.address());
    let router = Router::new().route("/hook", post(hear)).with_state(webhook.clone());
    tasks.spawn("webhook", listener.serve(router, tasks.clone(), tasks.token().clone()));
    let master = TestMaster::build().demand_webhook(&url).start().await;

    let told = || webhook.0.lock().unwrap().clone();
    until("taken", async || (told().len() > REFUSED).then_some(())).await;
    for body in told() {
        assert_eq!((&body["wanted"], &body["before"]), (&json!(1), &Value::Null), "{body}");
    }
    // After a start, nodes that are there are not given up.
    let nodes = ["a", "b", "c"].map(|id| OldNode::of(&master.authority(), id));
    for node in &nodes {
        node.register().await;
        node.heartbeat().await;
    }
    let last =
        until("three are wanted", async || told().pop().filter(|body| body["wanted"] == 3)).await;
    assert_eq!((&last["demand"]["present"], &last["demand"]["needed"]), (&json!(3), &json!(1)));
    let demand = master.json("/api/v1/fleet/demand").await;
    assert_eq!((&demand["wanted"], &demand["min"]), (&json!(3), &json!(1)), "{demand}");
    let metrics = Metrics::of(&master.url("")).await;
    assert_eq!(metrics.get("edge_mirror_master_nodes_wanted"), 3.0);
    for node in nodes {
        node.unregister().await;
    }
    tasks.shut_down(Duration::from_secs(5)).await;
}
