//! The contract of CastRay's protocol: every route and every error.

use super::*;
use crate::CastRayOptions;

struct CastRayTest {
    t: TestMaster,
    address: SocketAddr,
}

impl CastRayTest {
    async fn start(options: CastRayOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = MasterOptions { castray: Some(options), ..options_of(&folder) };
        let t = TestMaster::with_options(folder, options).await;
        let address = t.master.castray_address().unwrap();
        Self { t, address }
    }

    async fn with_nodes(ids: &[&str]) -> Self {
        let gateway = Self::start(CastRayOptions::default()).await;
        for id in ids {
            gateway.post("/api/nodes", json!({"node_id": id})).await;
        }
        gateway
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.t.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        plain(self.request(Method::GET, path)).await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        plain(self.request(Method::DELETE, path)).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        plain(self.request(Method::POST, path).json(&body)).await
    }

    async fn upload(&self, field: &str, name: &str, bytes: &str) -> (u16, Value) {
        let head =
            format!("--b\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{name}\"");
        let body = format!("{head}\r\ncontent-type: text/plain\r\n\r\n{bytes}\r\n--b--\r\n");
        let request = self.request(Method::POST, "/api/upload");
        plain(request.header("content-type", "multipart/form-data; boundary=b").body(body)).await
    }

    async fn node(&self, id: &str) -> Value {
        let (_, status) = self.get("/api/status").await;
        let mut nodes = status["node_statuses"].as_array().unwrap().iter();
        nodes.find(|node| node["node_id"] == id).cloned().unwrap_or_default()
    }
}

fn options_of(folder: &TempDir) -> MasterOptions {
    options(folder, LONG)
}

async fn plain(request: reqwest::RequestBuilder) -> (u16, Value) {
    let (status, answer) = both(request).await;
    (status.as_u16(), answer)
}

fn message(changed: Value) -> Value {
    let mut message = json!({
        "id": "m", "cast_type": "unicast", "message_type": "text", "content": "x", "sender": "a",
        "recipients": ["b"],
    });
    for (name, value) in changed.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn detail(text: &str) -> Value {
    json!({"detail": text})
}

fn outcome(success: bool, message: &str) -> Value {
    json!({"success": success, "message": message})
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_are_replaced_and_go() {
    let gateway = CastRayTest::start(CastRayOptions::default()).await;
    let (created, failed) = (outcome(true, "节点创建成功"), outcome(false, "节点创建失败"));
    assert_eq!(
        gateway.post("/api/nodes", json!({"node_id": "a", "port": 9000})).await,
        (200, created.clone())
    );
    assert_eq!(gateway.node("a").await["port"], 9000);
    for (body, answer) in [
        (json!({"node_id": "b", "port": 9000}), &failed),
        (json!({"node_id": "b", "port": "9001"}), &failed),
        (json!({"node_id": "b", "port": 70_000}), &failed),
        (json!({"node_id": "b", "port": null}), &failed),
        (json!({"node_id": ["b"]}), &failed),
        (json!({"node_id": "b\n"}), &failed),
        (json!({"node_id": 7}), &created),
        (json!({"node_id": "a"}), &created),
        (json!({"node_id": "external", "port": 9000}), &created),
    ] {
        let found = gateway.post("/api/nodes", body.clone()).await;
        assert_eq!(found, (200, answer.clone()), "{body}");
    }
    for body in [json!({}), json!({"node_id": ""}), json!({"node_id": null}), json!({"node_id": 0})]
    {
        assert_eq!(gateway.post("/api/nodes", body).await, (400, detail("节点ID不能为空")));
    }
    gateway.t.register("real", "127.0.0.1:1").await;
    assert_eq!(gateway.post("/api/nodes", json!({"node_id": "real"})).await.1, failed);
    let (_, status) = gateway.get("/api/status").await;
    assert_eq!(
        (&status["node_ports"]["external"], &status["ray_cluster"]["nodes"]),
        (&json!(9000), &json!(0))
    );
    let audit = gateway.t.json("/api/v1/audit").await;
    let newest = &audit["changes"][0];
    assert_eq!(
        (&newest["action"], &newest["by"]["how"]),
        (&json!("virtual_node_set"), &json!("local"))
    );
    for id in ["a", "7", "external"] {
        assert_eq!(
            gateway.delete(&format!("/api/nodes/{id}")).await,
            (200, outcome(true, "节点删除成功"))
        );
        assert_eq!(
            gateway.delete(&format!("/api/nodes/{id}")).await,
            (200, outcome(false, "节点删除失败"))
        );
    }
    assert_eq!(gateway.delete("/api/nodes/real").await.1, outcome(false, "节点删除失败"));
    assert_eq!(gateway.get("/api/nodes").await, (405, detail("Method Not Allowed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_one_way_or_another_and_are_shown_to_both_sides() {
    let gateway = CastRayTest::with_nodes(&["a", "b", "c"]).await;
    let text = |answer: &(u16, Value)| (answer.0, answer.1["message"].clone());
    let done = |good: usize, bad: usize| json!(format!("消息发送完成，成功: {good}, 失败: {bad}"));
    let group = json!({"nodes": ["b"]});
    both(gateway.t.request(Method::PUT, "/api/v1/groups/g").json(&group)).await;
    for (changed, good, bad) in [
        (json!({}), 1, 0),
        (json!({"recipients": ["b", "x", "y"], "content": {"n": 1}, "message_type": "json"}), 1, 2),
        (json!({"recipients": []}), 0, 0),
        (json!({"recipients": ["x"]}), 0, 1),
        (json!({"cast_type": "broadcast"}), 2, 0),
        (json!({"cast_type": "multicast", "group_id": "g", "recipients": []}), 1, 0),
        (json!({"cast_type": "multicast", "group_id": "any", "recipients": ["c"]}), 1, 0),
        (json!({"cast_type": "multicast", "recipients": []}), 2, 0),
        (json!({"content": "x".repeat(60_000)}), 1, 0),
        (json!({"content": "x".repeat(70_000)}), 0, 1),
    ] {
        let answer = gateway.post("/api/send", message(changed.clone())).await;
        let shown = changed.to_string().chars().take(80).collect::<String>();
        assert_eq!(text(&answer), (200, done(good, bad)), "{shown}");
        assert_eq!(answer.1["success"], good > 0, "{shown}");
        assert_eq!(answer.1["failed_recipients"].as_array().unwrap().len(), bad, "{shown}");
    }
    let (_, nobody) = gateway.post("/api/send", message(json!({"sender": "x"}))).await;
    assert_eq!(
        (&nobody["success"], &nobody["message"], &nobody["delivery_time"]),
        (&json!(false), &json!("发送节点不存在"), &Value::Null)
    );
    let deep = (0..100).fold(json!(1), |inner, _| json!({"x": inner}));
    let (status, answer) = gateway.post("/api/send", message(json!({"content": deep}))).await;
    assert!(
        status == 200 && answer["message"].as_str().unwrap().starts_with("发送失败: "),
        "{answer}"
    );
    let (_, sent) = gateway.get("/api/nodes/a/messages?count=3").await;
    assert_eq!(sent.as_array().unwrap().len(), 3);
    let target = sent[0]["target"].as_str().unwrap();
    let port = gateway.node("b").await["port"].clone();
    assert_eq!((target, &sent[0]["direction"]), (&*format!("localhost:{port}"), &json!("sent")));
    assert_eq!(
        (&sent[1]["type"], &sent[1]["group"]),
        (&json!("multicast"), &json!("224.1.1.1:9999"))
    );
    let (_, received) = gateway.get("/api/nodes/c/messages").await;
    assert_eq!(
        (&received[0]["from"], &received[0]["direction"]),
        (&json!("a"), &json!("received"))
    );
    assert_eq!(gateway.get("/api/nodes/x/messages").await, (200, json!([])));
    for (id, casts) in [("a", 0), ("c", 3)] {
        let mailbox = gateway.t.json(&format!("/api/v1/virtual-nodes/{id}/casts")).await;
        assert_eq!(mailbox["casts"].as_array().unwrap().len(), casts, "{mailbox}");
    }
    let (status, flaws) = gateway.get("/api/nodes/a/messages?count=x").await;
    assert_eq!((status, &flaws["detail"][0]["type"]), (422, &json!("int_parsing")));
    let b = gateway.node("b").await;
    assert_eq!(b["received_count"], 6, "{b}");
    assert!(
        b["last_activity"].as_f64().unwrap() > 1e9 && gateway.node("a").await["sent_count"] == 7
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_none_are_told_how() {
    let gateway = CastRayTest::with_nodes(&["a"]).await;
    let kinds = async |request: reqwest::RequestBuilder| {
        let (status, answer) = plain(request).await;
        let flaws = answer["detail"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        (status, flaws.map(|flaw| flaw["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let post = |path: &str| gateway.request(Method::POST, path);
    for path in
        ["/api/send", "/api/nodes", "/api/file-transfers/manual", "/api/file-generator/create"]
    {
        assert_eq!(kinds(post(path)).await, (422, vec!["missing".to_owned()]), "{path}");
        assert_eq!(kinds(post(path).body("{")).await, (422, vec!["json_invalid".to_owned()]));
        assert_eq!(kinds(post(path).json(&json!([1]))).await, (422, vec!["dict_type".to_owned()]));
        let nested = "[".repeat(100_000);
        assert_eq!(kinds(post(path).body(nested)).await.0, 422);
        let form = post(path).header("content-type", "text/plain").body("{}");
        assert_eq!(plain(form).await.0, 422);
    }
    let (status, flaws) =
        kinds(post("/api/send").json(&json!({"cast_type": "x", "content": 1}))).await;
    assert_eq!(
        (status, flaws),
        (
            422,
            ["missing", "enum", "missing", "string_type", "dict_type", "missing"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    let large = json!({"content": "x".repeat(600_000)}).to_string();
    assert_eq!(plain(post("/api/send").body(large)).await.0, 413);
    for path in ["/api/health", "/api/nodes/list", "/api/nodes/ray-info", "/nothing"] {
        assert_eq!(gateway.get(path).await, (404, detail("Not Found")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_uploaded_downloaded_and_stay_in_their_folder() {
    let options =
        CastRayOptions { max_bytes: 5000, max_file_bytes: 4996, ..CastRayOptions::default() };
    let gateway = CastRayTest::start(options).await;
    let (status, answer) = gateway.upload("file", "会议.txt", "content").await;
    assert_eq!(
        (status, &answer["message"], &answer["file_size"]),
        (200, &json!("文件上传成功"), &json!(7))
    );
    let path = answer["file_path"].as_str().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"content");
    assert!(Path::new(path).starts_with(gateway.t.folder.path().join("data/castray")));
    for name in ["../x", "/etc/x", "..", "a\\\\b", "CON", "index.html"] {
        assert_eq!(gateway.upload("file", name, "1").await.0, 400, "{name}");
    }
    assert_eq!(gateway.upload("file", "large", &"x".repeat(4997)).await.0, 413);
    assert_eq!(gateway.upload("file", "large", &"x".repeat(4996)).await.0, 507);
    for (kind, body) in [
        ("text/plain", "x"),
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=b", "--b--\r\n"),
    ] {
        let request = gateway.request(Method::POST, "/api/upload").header("content-type", kind);
        let (status, answer) = plain(request.body(body)).await;
        assert_eq!(
            (status, &answer["detail"][0]["loc"]),
            (422, &json!(["body", "file"])),
            "{kind}"
        );
    }
    assert_eq!(gateway.upload("other", "x", "1").await.0, 422);
    let (_, list) = gateway.get("/api/file-generator/files").await;
    assert_eq!((&list["total_count"], &list["total_size"]), (&json!(1), &json!(7)));
    let url = list["files"][0]["download_url"].as_str().unwrap();
    let answer = gateway.request(Method::GET, url).send().await.unwrap();
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(answer.text().await.unwrap(), "content");
    for path in ["/static/none", "/static/..%2f..%2faccess.json", "/static/../access.json"] {
        assert_eq!(gateway.get(path).await.0, 404, "{path}");
    }
    let file = "/api/file-generator/files/%E4%BC%9A%E8%AE%AE.txt";
    let (status, answer) = gateway.delete(file).await;
    assert_eq!(
        (status, &answer["message"], &answer["deleted_size"]),
        (200, &json!("成功删除文件: 会议.txt"), &json!(7))
    );
    assert_eq!(gateway.delete(file).await, (404, detail("文件不存在")));
    assert_eq!(gateway.delete("/api/file-generator/files/..%2Fstate.sqlite").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_files_have_their_size_and_their_limits() {
    let gateway = CastRayTest::start(CastRayOptions::default()).await;
    let (_, presets) = gateway.get("/api/file-generator/presets").await;
    assert_eq!(presets["presets"]["tiny"]["size_formatted"], "1.00 KB");
    let (_, info) = gateway.get("/api/file-generator/info").await;
    assert_eq!(
        (&info["max_file_size"], &info["content_types"]["random"]),
        (&json!(1 << 30), &json!("随机字节内容"))
    );
    let create = async |body: Value| gateway.post("/api/file-generator/create", body).await;
    let (status, made) = create(json!({"size": "1.5kb", "content_type": "pattern", "file_name": "a b.bin", "include_metadata": false})).await;
    assert_eq!((status, &made["message"]), (200, &json!("成功创建示例文件: ab.bin")));
    let info = &made["file_info"];
    assert_eq!((&info["actual_size"], &info["requested_size"]), (&json!(1536), &json!(1536)));
    assert_eq!(info.get("includes_metadata"), None);
    let bytes = std::fs::read(info["file_path"].as_str().unwrap()).unwrap();
    assert_eq!((bytes.len(), &bytes[..4]), (1536, &b"0123"[..]));
    let (_, second) = create(json!({"file_name": "ab.bin"})).await;
    assert!(
        second["file_info"]["file_name"] != "ab.bin"
            && second["file_info"]["includes_metadata"] == true
    );
    for body in [
        json!({"size": "0"}),
        json!({"size": "2GB"}),
        json!({"size": "big"}),
        json!({"size": "-1KB"}),
        json!({"content_type": "zip"}),
    ] {
        assert_eq!(create(body.clone()).await.0, 400, "{body}");
    }
    let preset = async |body: Value| gateway.post("/api/file-generator/create-preset", body).await;
    let (_, made) = preset(json!({"preset": "tiny"})).await;
    assert_eq!(
        (&made["file_info"]["preset_name"], &made["success"]),
        (&json!("tiny"), &json!(true))
    );
    assert_eq!(preset(json!({"preset": "giant"})).await.0, 400);
    let demo = async |body: Value| gateway.post("/api/file-generator/create-demo", body).await;
    let (_, made) = demo(json!({"size": "2KB"})).await;
    assert_eq!(
        (&made["success"], &made["actual_size"], &made["formatted_size"]),
        (&json!(true), &json!(2048), &json!("2.00 KB"))
    );
    for size in ["big", "5TB"] {
        let (status, answer) = demo(json!({"size": size})).await;
        assert_eq!((status, &answer["success"]), (200, &json!(false)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_virtual_nodes_and_what_is_wrong_is_told() {
    let gateway = CastRayTest::with_nodes(&["a", "b"]).await;
    let manual = async |body: Value| gateway.post("/api/file-transfers/manual", body).await;
    for (body, answer) in [
        (json!({"sender_id": "x", "recipients": ["b"]}), (404, detail("发送节点未找到"))),
        (json!({"recipients": ["b"]}), (404, detail("发送节点未找到"))),
        (json!({"sender_id": "a"}), (400, detail("请指定接收节点"))),
        (json!({"sender_id": "a", "recipients": ["x"]}), (400, detail("没有有效的接收节点"))),
    ] {
        assert_eq!(manual(body.clone()).await, answer, "{body}");
        assert_eq!(gateway.post("/api/file-generator/create-and-transfer", body).await, answer);
    }
    let (_, sent) = manual(json!({"sender_id": "a", "recipients": ["b", "x"]})).await;
    assert_eq!((&sent["success"], &sent["message"]), (&json!(true), &json!("成功触发 1/1 个传输")));
    assert_eq!(sent["results"][0]["recipient"], "b");
    let (_, missing) =
        manual(json!({"sender_id": "a", "recipients": ["b"], "file_name": "none.txt"})).await;
    assert_eq!(
        (&missing["success"], &missing["results"][0]["message"]),
        (&json!(false), &json!("文件不存在: none.txt"))
    );
    let (_, outside) =
        manual(json!({"sender_id": "a", "recipients": ["b"], "file_name": "../access.json"})).await;
    assert_eq!(outside["success"], false);
    let mailbox = gateway.t.json("/api/v1/virtual-nodes/b/casts").await;
    let named = &mailbox["casts"][0]["body"];
    assert_eq!((&named["file_name"], &named["file_size"]), (&json!("demo_file.txt"), &json!(1024)));
    let file =
        gateway.request(Method::GET, named["download_url"].as_str().unwrap()).send().await.unwrap();
    let digest = Sha256::new(sha2::Sha256::digest(file.bytes().await.unwrap()).into());
    assert_eq!(named["sha256"], digest.to_string());
    let (_, status) = gateway.get("/api/file-transfers/status").await;
    let stats = json!({"total_transfers": 3, "successful_transfers": 1, "failed_transfers": 2, "bytes_transferred": 1024});
    assert_eq!(status["a"]["file_transfer_stats"], stats);
    let toggle = async |body: Value| gateway.post("/api/file-transfers/auto/toggle", body).await;
    let (status, on) = toggle(json!({"node_id": "a"})).await;
    assert_eq!(
        (status, on),
        (200, json!({"success": true, "message": "节点 a 自动传输已启用", "enabled": true}))
    );
    assert_eq!(gateway.node("a").await["auto_transfer_enabled"], true);
    assert_eq!(
        toggle(json!({"node_id": "a", "enabled": false})).await.1["message"],
        "节点 a 自动传输已禁用"
    );
    assert_eq!(toggle(json!({"node_id": "x"})).await, (404, detail("节点未找到")));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_other_cluster_and_a_page() {
    let options = CastRayOptions { max_sockets: 0, ..CastRayOptions::default() };
    let gateway = CastRayTest::start(options).await;
    let cluster = "/api/cluster";
    assert_eq!(
        gateway.get("/api/nodes/external").await.1,
        json!({"success": true, "external_nodes": [], "count": 0})
    );
    assert_eq!(
        gateway.get(&format!("{cluster}/external-info")).await.1,
        json!({"is_connected": false, "external_nodes": {}, "connected_cluster": null})
    );
    assert_eq!(
        gateway.delete(&format!("{cluster}/disconnect-external")).await.1,
        outcome(false, "没有连接的外部集群")
    );
    assert_eq!(
        gateway.post(&format!("{cluster}/discover-external"), Value::Null).await.1["success"],
        false
    );
    let connect = async |body| gateway.post(&format!("{cluster}/connect-external"), body).await;
    assert_eq!(connect(json!({})).await, (400, detail("缺少cluster_address参数")));
    assert_eq!(
        connect(json!({"cluster_address": "h:1"})).await,
        (200, outcome(false, "连接外部集群失败: h:1"))
    );
    let page = async |path: &str| {
        gateway.request(Method::GET, path).send().await.unwrap().text().await.unwrap()
    };
    assert!(
        page("/").await.contains("url=/ui") && page("/ui").await.contains("/static/js/castray.js")
    );
    assert!(page("/static/js/castray.js").await.contains("WebSocket"));
    assert_eq!(gateway.get("/ws").await.0, 503, "as many as may be are open");
    let metrics = gateway.t.get("/metrics").await.text().await.unwrap();
    let line = "edge_mirror_master_castray_socket_refusals_total{reason=\"connections\"} 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_listed_may_call_and_nobody_else_from_elsewhere() {
    for (allow_from, expected) in [(vec![], 403), (vec!["127.0.0.0/8".parse().unwrap()], 200)] {
        let gateway = CastRayTest::start(CastRayOptions { allow_from, ..Default::default() }).await;
        // By a name that is none of this machine's, nobody is known to be on it.
        let request = gateway.request(Method::GET, "/api/status").header("host", "venue.example");
        let (status, answer) = plain(request).await;
        assert_eq!(status, expected, "{answer}");
        let request = gateway.request(Method::GET, "/api/status").header("host", "venue.example");
        let (status, answer) = plain(request.header("sec-fetch-site", "same-origin")).await;
        assert_eq!(status, 403, "a page may have made its name point here: {answer}");
        let foreign = gateway.request(Method::POST, "/api/nodes").json(&json!({"node_id": "a"}));
        let foreign = plain(foreign.header("origin", "http://elsewhere")).await;
        assert_eq!(foreign.0, 403, "{}", foreign.1);
    }
}
