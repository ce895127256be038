//! Virtual nodes, which get casts like nodes and have them here.

use edge_mirror_base::clock::UnixMillis;
use futures_util::{StreamExt, stream};

use super::*;
use crate::state::virtual_nodes::{VirtualNode, VirtualNodeProfile};

const NODES: &str = "/api/v1/virtual-nodes";

impl TestMaster {
    async fn put_virtual(&self, id: &str, profile: Value) -> (StatusCode, Value) {
        both(self.request(Method::PUT, &format!("{NODES}/{id}")).json(&profile)).await
    }

    /// The bodies of the casts after a place, and the next one.
    async fn mailbox(&self, id: &str, query: &str) -> (Vec<Value>, Value) {
        let answer = self.json(&format!("{NODES}/{id}/casts?{query}")).await;
        let casts = answer["casts"].as_array().unwrap();
        (casts.iter().map(|cast| cast["body"].clone()).collect(), answer)
    }

    async fn cast_to(&self, body: Value, to: Value) -> String {
        let cast = json!({"topic": "t", "body": body, "to": to});
        let (status, cast) = self.post("/api/v1/casts", cast).await;
        assert_eq!(status, 201, "{cast}");
        cast["id"].as_str().unwrap().to_owned()
    }

    async fn state_at(&self, cast: &str, node: &str) -> String {
        let cast = self.json(&format!("/api/v1/casts/{cast}")).await;
        let nodes = cast["delivery"]["nodes"].as_array().unwrap().iter();
        let found = nodes.into_iter().find(|at| at["node_id"] == node).unwrap();
        found["state"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_to_a_virtual_node_wait_here_and_their_delivery_is_known() {
    let t = TestMaster::start().await;
    let nobody = json!({"topic": "t", "body": 1, "to": {"nodes": ["v"]}});
    assert_eq!(t.post("/api/v1/casts", nobody).await.0, 400);
    let (status, v) = t.put_virtual("v", json!({"site": "3F", "labels": ["screen"]})).await;
    assert_eq!((status, &v["id"], &v["site"]), (StatusCode::OK, &json!("v"), &json!("3F")));
    t.put_virtual("w", json!({})).await;
    let put = t.request(Method::PUT, "/api/v1/groups/g").json(&json!({"nodes": ["v"]}));
    let (status, group) = both(put).await;
    assert_eq!((status, &group["members"]), (StatusCode::OK, &json!(["v"])));
    let first = t.cast_to(json!(1), json!({"nodes": ["v"]})).await;
    t.cast_to(json!(2), json!({"groups": ["g"]})).await;
    t.cast_to(json!(3), json!({"sites": ["3F"]})).await;
    t.cast_to(json!(4), json!({"nodes": ["w"]})).await;
    let last = t.cast_to(json!(5), json!({"all": true})).await;
    let (bodies, answer) = t.mailbox("v", "").await;
    assert_eq!(bodies, [1, 2, 3, 5].map(Value::from));
    assert_eq!(t.mailbox("w", "").await.0, [4, 5].map(Value::from));
    assert_eq!(t.state_at(&first, "v").await, "sent");
    // Going on from a place says that everything before it is there.
    let after = answer["after"].as_u64().unwrap();
    assert_eq!(t.mailbox("v", "after=3").await.0, [Value::from(5)]);
    assert_eq!(
        (t.state_at(&first, "v").await, t.state_at(&last, "v").await),
        ("received".into(), "sent".into())
    );
    let (status, _) = t.post(&format!("{NODES}/v/read"), json!({"read": {"t": last}})).await;
    assert_eq!(status, 200);
    assert_eq!(t.state_at(&last, "v").await, "read");
    assert_eq!(t.state_at(&last, "w").await, "sent");
    // A request is held until there is one.
    let path = format!("{NODES}/v/casts?after={after}");
    let waiting = both(t.request(Method::GET, &path).header("prefer", "wait=20"));
    let sending = async {
        while t.master.server.cast_outbox.waiters() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        t.cast_to(json!(6), json!({"nodes": ["v"]})).await
    };
    let ((status, answer), _) = tokio::join!(waiting, sending);
    assert_eq!((status, &answer["casts"][0]["body"]), (StatusCode::OK, &json!(6)));
    // It outlives a restart, and its casts go with it when it is removed.
    let t = t.restarted().await;
    assert_eq!(t.json(&format!("{NODES}/v")).await, v);
    assert_eq!(t.mailbox("v", "").await.0.len(), 5);
    let remove = async || both(t.request(Method::DELETE, &format!("{NODES}/v"))).await.0;
    assert_eq!((remove().await, remove().await), (StatusCode::OK, StatusCode::NOT_FOUND));
    assert_eq!(t.get(&format!("{NODES}/v/casts")).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_nodes_and_virtual_ones_do_not_collide_and_files_go_to_nodes_alone() {
    let t = TestMaster::start().await;
    t.register("a", "127.0.0.1:1").await;
    assert_eq!(t.put_virtual("a", json!({})).await.0, 409);
    assert_eq!(t.put_virtual("v", json!({})).await.0, 200);
    let body = json!({"node_id": "v", "address": "127.0.0.1:1", "status": "online"});
    let (status, refusal) = t.post("/api/v1/nodes/register", body).await;
    assert_eq!(status, 409);
    assert!(refusal["detail"].as_str().unwrap().contains("the id v is taken"), "{refusal}");
    for bad in [json!({"sites": []}), json!({"labels": [""]}), json!({"site": "x".repeat(201)})] {
        assert_eq!(t.put_virtual("x", bad).await.0, 400);
    }
    let upload = t.request(Method::PUT, "/api/v1/dispatch/uploads").body("x");
    let (_, file) = both(upload).await;
    let task = json!({"files": [{"sha256": file["sha256"], "name": "x"}], "to": {"nodes": ["v"]}});
    let (status, refusal) = t.post("/api/v1/dispatch", task).await;
    assert_eq!(status, 400);
    assert!(refusal["detail"].as_str().unwrap().ends_with("no such node: v"), "{refusal}");
    let audit = t.json("/api/v1/audit").await;
    assert_eq!(audit["changes"][0]["action"], "virtual_node_set", "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_virtual_nodes_have_a_mailbox_each_and_no_more_are_made() {
    let t = TestMaster::start().await;
    let server = &t.master.server;
    let node = |n: usize| VirtualNode {
        id: format!("v{n:05}"),
        profile: VirtualNodeProfile::default(),
        created_at: UnixMillis::now(),
    };
    let put = |n: usize| server.put_virtual_node(node(n), None);
    let done = stream::iter(0..10_000).map(put).buffer_unordered(256);
    done.for_each(async |outcome| outcome.unwrap()).await;
    assert_eq!(t.put_virtual("one more", json!({})).await.0, 507);
    let page = t.json(&format!("{NODES}?limit=2&after=v09997")).await;
    assert_eq!((&page["count"], &page["nodes"][1]["id"]), (&json!(10_000), &json!("v09999")));
    assert_eq!(page["next"], Value::Null);
    t.cast_to(json!("all"), json!({"all": true})).await;
    t.cast_to(json!("one"), json!({"nodes": ["v00007"]})).await;
    assert_eq!(t.mailbox("v00007", "").await.0, ["all", "one"].map(Value::from));
    assert_eq!(t.mailbox("v09999", "").await.0, [Value::from("all")]);
}
