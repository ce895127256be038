//! A client of CastRay, at the main server's listener for it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{SocketClient, TestMaster, TestNode, client, until};

struct CastRayClient(String);

impl CastRayClient {
    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = client().request(method, format!("http://{}{path}", self.0));
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await.1
    }

    async fn node(&self, id: &str) -> Value {
        let status = self.get("/api/status").await;
        let mut nodes = status["node_statuses"].as_array().unwrap().iter();
        nodes.find(|node| node["node_id"] == id).cloned().unwrap_or_default()
    }
}

/// The next frame of a kind.
async fn frame(socket: &mut SocketClient, kind: &str) -> Value {
    loop {
        let text = socket.text().await;
        assert!(text.is_ascii(), "{text}");
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == kind {
            return frame["data"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_creates_nodes_sends_messages_and_files_and_follows_them_all() {
    let main = TestMaster::build().castray().start().await;
    let real = TestNode::of(&main.authority()).with(json!({"nodeId": "real"})).start().await;
    let address = main.castray_address().to_string();
    let client = CastRayClient(address.clone());
    until("the node is there", async || {
        (client.node("real").await["is_running"] == true).then_some(())
    })
    .await;
    let mut socket = SocketClient::connect(&address, "/ws", "").await.unwrap();
    assert_eq!(frame(&mut socket, "status_update").await["total_nodes"], 1);
    for id in ["甲", "b"] {
        let created = client.post("/api/nodes", json!({"node_id": id})).await;
        assert_eq!(created, json!({"success": true, "message": "节点创建成功"}));
    }
    // What clients say is not read, whatever it is.
    socket.send(0x81, b"hello").await;
    socket.send(0x82, &[0, 255]).await;
    let message = json!({
        "id": "m1", "cast_type": "unicast", "message_type": "text", "content": "会议改到 10:30",
        "sender": "甲", "recipients": ["b", "real", "nobody"],
    });
    let sent = client.post("/api/send", message).await;
    assert_eq!(sent["message"], "消息发送完成，成功: 2, 失败: 1");
    assert_eq!((&sent["success"], &sent["failed_recipients"]), (&json!(true), &json!(["nobody"])));
    let told = frame(&mut socket, "message_received").await;
    assert_eq!(told, json!({"message_id": "m1", "cast_type": "unicast", "sender": "甲"}));
    assert_eq!(client.node("b").await["received_count"], 1);
    // At a real node once it has it.
    until("the real node has it", async || {
        (client.node("real").await["received_count"] == 1).then_some(())
    })
    .await;
    let mailbox = main.json("/api/v1/virtual-nodes/b/casts").await;
    assert_eq!(mailbox["casts"][0]["topic"], "castray");
    assert_eq!(mailbox["casts"][0]["body"]["content"], "会议改到 10:30");
    assert_eq!(mailbox["casts"][0]["from"], "甲");
    // A file goes to both kinds.
    let file = json!({"sender_id": "甲", "recipients": ["b", "real"], "size": "100KB"});
    let made = client.post("/api/file-generator/create-and-transfer", file).await;
    assert_eq!(made["transfer_summary"]["successful_transfers"], 2, "{made}");
    let told = frame(&mut socket, "file_generated_and_transferred").await;
    let name = made["file_info"]["file_name"].as_str().unwrap();
    assert_eq!(told["file_name"], name);
    until("the real node has the file", async || {
        let stats = client.node("甲").await["file_transfer_stats"].clone();
        (stats["successful_transfers"] == 2).then_some(())
    })
    .await;
    let bytes = made["file_info"]["actual_size"].as_u64().unwrap();
    let stats = client.node("甲").await["file_transfer_stats"].clone();
    assert_eq!(
        (&stats["bytes_transferred"], &stats["failed_transfers"]),
        (&json!(2 * bytes), &json!(0))
    );
    let tasks = main.json("/api/v1/dispatch").await;
    let task = tasks["tasks"][0]["id"].as_str().unwrap();
    let at_node = real.get(&format!("/api/v1/files/{task}/{name}")).await;
    assert_eq!(at_node.bytes().await.unwrap().len() as u64, bytes);
    let named = main.json("/api/v1/virtual-nodes/b/casts").await["casts"][1]["body"].clone();
    assert_eq!(
        (&named["md5_hash"], &named["file_size"]),
        (&made["file_info"]["md5_hash"], &json!(bytes))
    );
    // Virtual nodes outlive a restart, which sockets are told of.
    let stopped = main.stop().await;
    assert_eq!(socket.closed().await.0, 1001);
    let main = stopped.castray().start().await;
    let again = CastRayClient(main.castray_address().to_string());
    assert_eq!(again.node("甲").await["sent_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_and_other_names_of_this_machine_are_refused() {
    let main = TestMaster::build().castray().start().await;
    let address = main.castray_address().to_string();
    let foreign = "origin: http://elsewhere\r\n";
    let refused = SocketClient::connect(&address, "/ws", foreign).await.err().unwrap();
    assert!(refused.starts_with("http/1.1 403"), "{refused}");
    let request = client().get(format!("http://{address}/api/status"));
    // As a page that made its own name point here would.
    let answer = request.header("host", "rebound.example").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.unwrap().contains("--castray-from"));
    let proxied = client().get(format!("http://{address}/api/status"));
    let answer = proxied.header("x-forwarded-for", "10.0.0.1").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}
