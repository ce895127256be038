//! What clients get.

use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Fault, ScriptedMain, TestNode, client, until, zip_of, zips::big_zip};

async fn served(zip: &[u8]) -> (ScriptedMain, TestNode) {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", zip);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    (main, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_carries_everything_that_a_client_needs() {
    let zip = big_zip(400_000, 7);
    let (_main, node) = served(&zip).await;
    let sha256 = node.meeting("m1").await["sha256"].as_str().unwrap().to_owned();
    for path in ["/api/v1/meetings/m1/download-package", "/api/meetings/m1/download"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = client().request(method.clone(), node.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(field("content-type"), "application/zip");
            assert_eq!(field("content-disposition"), "attachment; filename=\"meeting_m1.zip\"");
            assert_eq!(field("content-length"), zip.len().to_string());
            assert_eq!(field("etag"), format!("\"{sha256}\""));
            assert_eq!(field("last-modified"), "Sat, 21 Nov 2026 07:00:01 GMT");
            assert_eq!(field("accept-ranges"), "bytes");
            assert!(field("repr-digest").starts_with("sha-256=:"));
            assert_eq!(field("access-control-allow-origin"), "*");
            let body = answer.bytes().await.unwrap();
            assert!(if method == Method::GET { body == zip } else { body.is_empty() });
        }
    }
    let config = node.get("/api/config").await;
    assert!(!config.headers().contains_key("access-control-allow-origin"));
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_are_answered_as_the_rfc_says() {
    let zip = big_zip(400_000, 8);
    let (_main, node) = served(&zip).await;
    let etag = format!("\"{}\"", node.meeting("m1").await["sha256"].as_str().unwrap());
    let date = "Sat, 21 Nov 2026 07:00:01 GMT";
    let size = zip.len();
    let ask = async |fields: &[(&str, &str)]| {
        let mut request = client().get(node.package_url("m1"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let range =
            answer.headers().get(header::CONTENT_RANGE).map(|r| r.to_str().unwrap().to_owned());
        (answer.status().as_u16(), range, answer.bytes().await.unwrap())
    };
    let whole = (200, None, zip.clone().into());
    let part = |from: usize, end: usize| {
        (206, Some(format!("bytes {from}-{}/{size}", end - 1)), zip[from..end].to_vec().into())
    };
    assert_eq!(ask(&[("range", "bytes=100-299999")]).await, part(100, 300_000));
    assert_eq!(ask(&[("range", "bytes=-5")]).await, part(size - 5, size));
    assert_eq!(ask(&[("range", "bytes=5-"), ("if-range", &etag)]).await, part(5, size));
    // No date tells two versions apart for certain.
    assert_eq!(ask(&[("range", "bytes=5-"), ("if-range", date)]).await, whole);
    assert_eq!(ask(&[("range", "bytes=5-"), ("if-range", "\"old\"")]).await, whole);
    assert_eq!(ask(&[("range", "bytes=0-1,4-5")]).await, whole);
    assert_eq!(ask(&[("if-match", &etag)]).await, whole);
    let beyond = ask(&[("range", &format!("bytes={size}-"))]).await;
    assert_eq!((beyond.0, beyond.1), (416, Some(format!("bytes */{size}"))));
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-modified-since", date, 304),
        ("if-match", "\"other\"", 412),
        ("if-unmodified-since", "Sat, 21 Nov 2026 07:00:00 GMT", 412),
    ] {
        let (got, _, body) = ask(&[(name, value)]).await;
        assert_eq!(got, status, "{name}");
        match status {
            304 => assert!(body.is_empty()),
            _ => assert!(serde_json::from_slice::<Value>(&body).unwrap()["detail"].is_string()),
        }
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_under_way_finishes_with_the_old_bytes() {
    use futures_util::StreamExt;
    let (old, new) = (big_zip(8_000_000, 9), big_zip(8_000_000, 10));
    let (main, node) = served(&old).await;
    let mut body = client().get(node.package_url("m1")).send().await.unwrap().bytes_stream();
    let mut got = body.next().await.unwrap().unwrap().to_vec();
    main.activate("m1", "Board", &new);
    until("the new version", async || {
        let sha = node.meeting("m1").await;
        (sha["state"] == "synced" && node.download("m1").await.1 == new).then_some(())
    })
    .await;
    while let Some(chunk) = body.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert!(got == old);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_first_downloads_cause_one_pull() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(20));
    let zip = big_zip(200_000, 11);
    main.activate("m1", "Board", &zip);
    let node = TestNode::of(&main.authority()).with(json!({"syncInterval": 3600})).start().await;
    let downloads = (0..20).map(|_| node.download("m1"));
    for (status, body) in futures_util::future::join_all(downloads).await {
        assert_eq!((status, body == zip), (StatusCode::OK, true));
    }
    assert_eq!(main.count(Method::GET, "/uploads/") + main.count(Method::GET, "direct"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_stop_the_pull() {
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(20));
    let zip = big_zip(300_000, 12);
    main.activate("inactive", "Board", &zip);
    main.end("inactive");
    let node = TestNode::of(&main.authority()).start().await;
    let impatient = client().get(node.package_url("inactive")).timeout(Duration::from_millis(200));
    assert!(impatient.send().await.unwrap_err().is_timeout());
    until("the package", async || {
        node.storage().join("meeting_inactive/package.zip").exists().then_some(())
    })
    .await;
    assert_eq!(node.download("inactive").await.1, zip);
    assert_eq!(main.count(Method::GET, "direct"), 1);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_had_is_refused_and_not_asked_for_again_at_once() {
    let main = ScriptedMain::start().await;
    let node =
        TestNode::of(&main.authority()).with(json!({"network": {"retryCount": 1}})).start().await;
    // The first news of a main server lets everything be tried again.
    let polled = async || node.status().await["last_poll"].is_u64().then_some(());
    until("the first poll", polled).await;
    for path in ["/api/v1/meetings/nobody/download-package", "/api/meetings/nobody/download"] {
        for _ in 0..3 {
            let answer = node.get(path).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
            let text = if path.starts_with("/api/v1") {
                "Meeting package not found"
            } else {
                "会议包不存在"
            };
            assert_eq!(answer.json::<Value>().await.unwrap(), json!({"detail": text}));
        }
    }
    assert_eq!(main.count(Method::GET, "direct"), 1);
    assert!(!node.storage().join("meeting_nobody").exists());

    main.fail("package-direct", [Fault::Status(500)]);
    for _ in 0..3 {
        let (status, body) = node.download("failing").await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert!(!String::from_utf8(body).unwrap().contains("scripted"));
    }
    assert_eq!(main.count(Method::GET, "/failing/"), 1);

    main.go_away().await;
    assert_eq!(node.download("away").await.0, StatusCode::BAD_GATEWAY);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_meeting_id_touches_neither_disk_nor_network() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).with(json!({"syncInterval": 3600})).start().await;
    let long = "x".repeat(201);
    let ids = [
        "..",
        ".",
        "%2e%2e",
        "%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%2fb",
        "a%5cb",
        "a%00b",
        "a%0Ab",
        "%7f",
        "%C2%85",
        "%ff",
        &long,
    ];
    for id in ids {
        for path in [
            format!("/api/v1/meetings/{id}/download-package"),
            format!("/api/meetings/{id}/download"),
        ] {
            // As raw bytes: clients tidy up such paths before they send them.
            let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
            assert!(answer.contains("\"detail\""), "{path}: {answer}");
        }
    }
    assert_eq!(main.asked("download-package").len(), 0);
    let left: Vec<_> =
        std::fs::read_dir(node.storage()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".scratch" || name == ".lock"), "{left:?}");
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_somebody_changed_on_disk_is_not_served() {
    let zip = zip_of("papers");
    let (_main, node) = served(&zip).await;
    let path = node.storage().join("meeting_m1/package.zip");
    std::fs::write(&path, b"<html>overwritten in place</html>").unwrap();
    assert_eq!(node.download("m1").await, (StatusCode::OK, zip.clone()));
    assert_eq!(std::fs::read(&path).unwrap(), zip);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_has_every_field_of_the_contract() {
    let zip = zip_of("papers");
    let (_main, node) = served(&zip).await;
    let status = node.status().await;
    assert_eq!(status["node_id"], "node-test");
    assert_eq!(status["running"], true);
    assert!(status["main_server"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(status["node_port"], node.address().port());
    assert!(status["start_time"].is_u64() && status["last_sync"].is_u64());
    assert_eq!(status["sync_status"], "同步成功");
    assert_eq!(status["meeting_count"], 1);
    assert_eq!(status["storage_usage"], zip.len());
    let meeting = &status["active_meetings"][0];
    assert_eq!(meeting["id"], "m1");
    assert_eq!((&meeting["title"], &meeting["status"]), (&json!("Board"), &json!("active")));
    assert_eq!((&meeting["size"], &meeting["file_count"]), (&json!(zip.len()), &json!(1)));
    assert!(meeting["sync_time"].is_u64());
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_lets_downloads_finish_within_the_grace_time() {
    use futures_util::StreamExt;
    let zip = big_zip(8_000_000, 13);
    let (main, node) = served(&zip).await;
    let mut body = client().get(node.package_url("m1")).send().await.unwrap().bytes_stream();
    let mut got = body.next().await.unwrap().unwrap().to_vec();
    let (address, ending) = (node.address(), tokio::spawn(node.shut_down()));
    until("unregistered", async || main.knows("node-test").is_none().then_some(())).await;
    until("no new connections", async || tokio::net::TcpStream::connect(address).await.err()).await;
    while let Some(chunk) = body.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert!(got == zip);
    assert!(ending.await.unwrap(), "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_page_and_unknown_paths() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let root = node.get("/").await;
    assert_eq!(
        (root.status().as_u16(), &root.headers()["location"]),
        (307, &"/static/index.html".parse().unwrap())
    );
    let page = node.get("/static/index.html").await;
    assert_eq!(page.status(), StatusCode::OK);
    let etag = page.headers()["etag"].clone();
    let again = client()
        .get(node.url("/static/index.html"))
        .header("if-none-match", etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    for path in ["/static/../Cargo.toml", "/static/nothing.js", "/api/nothing"] {
        let missing = node.get(path).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(missing.json::<Value>().await.unwrap()["detail"].is_string());
    }
    node.shut_down().await;
}

/// `%31` is `1` for the router, and for nobody before it.
fn by_way_of_the_router(url: &str) -> String {
    url.replace("m1", "m%31")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_at_once_is_what_the_router_answers() {
    let zip = big_zip(400_000, 13);
    let (_main, node) = served(&zip).await;
    let etag = format!("\"{}\"", node.meeting("m1").await["sha256"].as_str().unwrap());
    let ask = async |url: String, method: &Method, fields: &[(&str, &str)]| {
        let mut request = client().request(method.clone(), url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let mut headers: Vec<_> =
            answer.headers().iter().filter(|(name, _)| *name != header::DATE).collect();
        headers.sort_by_key(|(name, value)| (name.as_str(), value.as_bytes()));
        let headers = format!("{headers:?}");
        (answer.status(), headers, answer.bytes().await.unwrap())
    };
    for path in ["/api/v1/meetings/m1/download-package", "/api/meetings/m1/download"] {
        for method in [Method::GET, Method::HEAD] {
            for fields in [
                &[][..],
                &[("origin", "http://elsewhere.example")],
                &[("range", "bytes=100-299999")],
                &[("range", "bytes=400001-")],
                &[("if-none-match", &etag)],
                &[("if-match", "\"other\"")],
            ] {
                let url = node.url(path);
                let routed = ask(by_way_of_the_router(&url), &method, fields).await;
                let at_once = ask(url, &method, fields).await;
                assert!(at_once == routed, "{method} {path} {fields:?}\n{at_once:?}\n{routed:?}");
            }
        }
    }
    let (status, answer) = node.post("/api/v1/meetings/m1/download-package", json!({})).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{answer}");
    node.post("/api/service/stop", json!({})).await;
    assert_eq!(node.download("m1").await.0, StatusCode::SERVICE_UNAVAILABLE);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_somebody_writes_to_is_never_served_again() {
    let zip = big_zip(400_000, 14);
    let (main, node) = served(&zip).await;
    assert_eq!(node.download("m1").await.1, zip);
    main.go_away().await;
    let path = node.storage().join("meeting_m1/package.zip");
    std::fs::write(&path, b"not a package").unwrap();
    let (status, body) = node.download("m1").await;
    assert!(status.is_server_error(), "{status}: {} bytes", body.len());
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_package_of_another_main_server_is_not_served() {
    let zip = big_zip(400_000, 15);
    let (_old, node) = served(&zip).await;
    assert_eq!(node.download("m1").await.1, zip);
    let new = ScriptedMain::start().await;
    let port: u16 = new.authority().rsplit_once(':').unwrap().1.parse().unwrap();
    node.configure(json!({"mainServerPort": port})).await;
    assert_eq!(node.download("m1").await.0, StatusCode::NOT_FOUND);
    node.shut_down().await;
}
