//! Nodes and the embedded main server together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode, header};
use serde_json::json;

use crate::support::{
    TestMaster, TestNode, client,
    node::free_port,
    old_node::OldNode,
    process::{Process, binary},
    until, zip_of,
    zips::big_zip,
};

async fn node(main: &TestMaster, id: &str) -> TestNode {
    TestNode::of(&main.authority()).with(json!({"nodeId": id})).start().await
}

/// A tablet, which goes where it is sent.
fn tablet() -> Client {
    edge_mirror_http::tls::http(edge_mirror_http::tls::client()).build().unwrap()
}

async fn downloaded(url: String) -> Vec<u8> {
    let answer = tablet().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_as_many_connections_as_the_command_line_says_and_the_page_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0"]);
    command.args(["--max-connections-per-client", "2", "--data"]).arg(folder.path());
    let mut process = Process::spawn(command);
    let address = process.until_listening().await;
    let get = |client: Client, path: &str| client.get(format!("http://{address}{path}")).send();
    let streams = [1, 2].map(|_| get(client(), "/api/v1/events"));
    let streams = futures_util::future::try_join_all(streams).await.unwrap();
    assert_eq!(get(client(), "/").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let elsewhere = edge_mirror_http::tls::http(edge_mirror_http::tls::client())
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .unwrap();
    let overview = get(elsewhere, "/api/v1/overview").await.unwrap();
    let problems = overview.json::<serde_json::Value>().await.unwrap()["problems"].clone();
    let told = json!({"code": "connections_per_client", "severity": "warning", "most": 2});
    assert!(problems.as_array().unwrap().contains(&told), "{problems}");
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_meeting_reaches_the_nodes_and_clients_are_sent_to_them() {
    let main = TestMaster::build().start().await;
    let (one, two) = (node(&main, "one").await, node(&main, "two").await);
    let zip = big_zip(300_000, 1);
    main.begin_with("m1", &zip).await;
    main.until_held_by("m1", &["one", "two"]).await;
    // Both are drawn at some time.
    for wanted in [&one, &two] {
        until("a redirect to this node", async || {
            let target = main.redirect("m1").await.expect("a node has it");
            (target == wanted.package_url("m1")).then_some(())
        })
        .await;
    }
    let answer = main.ask_for("m1").await;
    assert_eq!((answer.status(), answer.content_length()), (StatusCode::FOUND, Some(0)));
    let target = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
    assert!(downloaded(target).await == zip);
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == zip);
    let sources = main.json("/api/v1/meetings/m1/download-nodes-info").await;
    let sources: Vec<_> = sources.as_array().unwrap().iter().map(|s| s["ip"].clone()).collect();
    let nodes = [one.address(), two.address()].map(|address| json!(address.to_string()));
    assert_eq!((sources.len(), &sources[0]), (3, &json!(main.authority())));
    assert!(nodes.iter().all(|address| sources.contains(address)), "{sources:?}");

    // Who goes says so, and gets nobody any more.
    two.shut_down().await;
    main.until_held_by("m1", &["one"]).await;
    for _ in 0..20 {
        assert_eq!(main.redirect("m1").await, Some(one.package_url("m1")));
    }
    one.shut_down().await;
    assert_eq!(main.redirect("m1").await, None);
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == zip);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_of_a_start_once_every_node_has_the_package() {
    let main = TestMaster::build().start().await;
    let quick = node(&main, "quick").await;
    let slow = OldNode::of(&main.authority(), "slow");
    slow.register().await;
    for id in ["quick", "slow"] {
        main.until_reached(id).await;
    }
    let before = main.token().await;
    main.begin_with("m1", &zip_of("papers")).await;
    main.until_held_by("m1", &["quick"]).await;
    slow.heartbeat().await;
    assert_eq!(main.token().await, before, "one node has not got it yet");
    slow.sync().await;
    assert_eq!(main.token().await, before, "and has not said so");
    slow.heartbeat().await;
    until("the token changes", async || (main.token().await != before).then_some(())).await;
    main.until_held_by("m1", &["quick", "slow"]).await;
    quick.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_gets_the_package_holds_clients_up_for_a_while_only() {
    let main = TestMaster::build().announce_timeout(Duration::from_secs(3)).start().await;
    let stuck = OldNode::of(&main.authority(), "stuck");
    stuck.register().await;
    main.until_reached("stuck").await;
    let before = main.token().await;
    main.begin_with("m1", &zip_of("papers")).await;
    assert_eq!(main.token().await, before);
    until("the token changes", async || (main.token().await != before).then_some(())).await;
    assert_eq!(main.redirect("m1").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_package_is_replaced_nobody_is_sent_to_the_old_one() {
    let main = TestMaster::build().start().await;
    let nodes = [node(&main, "one").await, node(&main, "two").await];
    let versions: Arc<Vec<_>> = Arc::new((0..4).map(|seed| big_zip(2_000_000, seed)).collect());
    main.begin_with("m1", &versions[0]).await;
    main.until_held_by("m1", &["one", "two"]).await;

    // The version that was answered for, and how many downloads there were.
    let (current, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let url = main.meeting_url("m1", "/download-package");
            let (versions, current, done) = (versions.clone(), current.clone(), done.clone());
            tokio::spawn(async move {
                loop {
                    let at_least = current.load(Ordering::SeqCst);
                    let body = downloaded(url.clone()).await;
                    let version = versions.iter().position(|version| *version == body);
                    assert!(version.is_some(), "{} bytes that are no version", body.len());
                    assert!(version >= Some(at_least), "{version:?} came after {at_least}");
                    done.fetch_add(1, Ordering::SeqCst);
                    if at_least == versions.len() - 1 && done.load(Ordering::SeqCst) > 50 {
                        return;
                    }
                }
            })
        })
        .collect();
    for (version, package) in versions.iter().enumerate().skip(1) {
        let before = done.load(Ordering::SeqCst);
        until("downloads", async || (done.load(Ordering::SeqCst) > before + 5).then_some(())).await;
        main.put("m1", package).await;
        current.store(version, Ordering::SeqCst);
        main.until_held_by("m1", &["one", "two"]).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    for node in nodes {
        assert!(node.download("m1").await.1 == versions[3]);
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_meeting_is_cleaned_off_the_nodes() {
    let main = TestMaster::build().start().await;
    let at_once = json!({"cleanup": {"graceSeconds": 0}});
    let node = TestNode::of(&main.authority()).with(at_once).start().await;
    for id in ["ends", "stays"] {
        main.begin_with(id, &zip_of(id)).await;
        node.until_synced(id).await;
    }
    main.end("ends").await;
    until("gone", async || (!node.storage().join("meeting_ends").exists()).then_some(())).await;
    assert!(node.storage().join("meeting_stays/package.zip").exists());
    let answer = main.ask_for("ends").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let detail: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(detail, json!({"detail": "会议 ends 不是进行中状态"}));

    // And may begin again.
    main.begin("ends").await;
    node.until_synced("ends").await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_a_wrong_address_is_listed_with_the_reason_and_gets_nobody() {
    let main = TestMaster::build().start().await;
    let closed = free_port();
    let wrong = json!({
        "nodeId": "hidden", "usePublicAddress": true, "publicIp": "127.0.0.1", "publicPort": closed,
    });
    let hidden = TestNode::of(&main.authority()).with(wrong).start().await;
    let zip = zip_of("papers");
    main.begin_with("m1", &zip).await;
    hidden.until_synced("m1").await;
    let listed = until("it is found out", async || {
        Some(main.node("hidden").await).filter(|node| node["reachable"] == false)
    })
    .await;
    assert_eq!(listed["address"], format!("127.0.0.1:{closed}"));
    let reason = listed["unreachable_reason"].as_str().unwrap();
    assert!(reason.contains(&closed.to_string()) && reason.contains("refused"), "{reason}");
    until("its heartbeat", async || {
        (main.node("hidden").await["synced_meetings"] == json!(["m1"])).then_some(())
    })
    .await;
    assert_eq!(main.available().await, json!([]));
    assert_eq!(main.redirect("m1").await, None);
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == zip);

    // Fixed while both run.
    hidden.configure(json!({"usePublicAddress": false})).await;
    until("clients are sent to it", async || {
        (main.redirect("m1").await == Some(hidden.package_url("m1"))).then_some(())
    })
    .await;
    hidden.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_main_server_has_its_meetings_and_gets_its_nodes_back() {
    let main = TestMaster::build().start().await;
    let node = node(&main, "one").await;
    let zip = zip_of("papers");
    main.begin_with("m1", &zip).await;
    main.create("waiting", "Council").await;
    main.until_held_by("m1", &["one"]).await;
    // The start is told of a moment later, by a token of its own.
    until("the announcement", async || {
        let overview = main.json("/api/v1/overview").await;
        (overview["meetings"][0]["announced"] == true).then_some(())
    })
    .await;
    // It does not keep since when nodes have what they have.
    let listed = async |main: &TestMaster| {
        let mut meetings = main.json("/api/v1/meetings").await;
        meetings[0]["readiness"]["last_ready_at"].take();
        meetings
    };
    let (token, meetings) = (main.token().await, listed(&main).await);

    let main = main.stop().await;
    until("the node misses it", async || (node.status().await["connected"] == false).then_some(()))
        .await;
    assert_eq!(node.download("m1").await, (StatusCode::OK, zip));
    let main = main.start().await;
    assert_eq!(main.token().await, token, "nothing has changed for clients");
    main.until_held_by("m1", &["one"]).await;
    assert_eq!(listed(&main).await, meetings);
    assert_eq!(main.redirect("m1").await, Some(node.package_url("m1")));
    until("the node is back", async || (node.status().await["connected"] == true).then_some(()))
        .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_download_resumes_unless_the_package_has_changed() {
    let main = TestMaster::build().start().await;
    let (old, new) = (big_zip(100_000, 1), big_zip(100_000, 2));
    main.begin_with("m1", &old).await;
    let url = main.meeting_url("m1", "/download-package-direct");
    let rest = |etag: &str| {
        client().get(&url).header(header::RANGE, "bytes=40000-").header(header::IF_RANGE, etag)
    };
    let whole = client().get(&url).send().await.unwrap();
    assert_eq!(whole.content_length(), Some(old.len() as u64));
    assert_eq!(whole.headers()[header::ACCEPT_RANGES], "bytes");
    assert!(whole.headers().contains_key("repr-digest"));
    let etag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert!(whole.bytes().await.unwrap() == old);

    let resumed = rest(&etag).send().await.unwrap();
    assert_eq!(resumed.status(), StatusCode::PARTIAL_CONTENT);
    let range = format!("bytes 40000-{}/{}", old.len() - 1, old.len());
    assert_eq!(resumed.headers()[header::CONTENT_RANGE], range);
    assert!(resumed.bytes().await.unwrap() == old[40_000..]);

    main.put("m1", &new).await;
    let other = rest(&etag).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "never a splice of two versions");
    assert!(other.bytes().await.unwrap() == new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_old_kind_works_with_our_main_server() {
    let main = TestMaster::build().start().await;
    let old = OldNode::of(&main.authority(), "node-0ld");
    assert!(old.finds_the_main_server().await);
    old.register().await;
    let (zip, other) = (zip_of("papers"), zip_of("other papers"));
    let before = main.token().await;
    main.create("m1", "预算会议").await;
    main.put("m1", &zip).await;
    main.begin("m1").await;
    assert_eq!(old.active().await, [("m1".to_owned(), "预算会议".to_owned())]);
    old.heartbeat().await;
    main.until_reached("node-0ld").await;
    assert_eq!(main.redirect("m1").await, None, "it has not said that it has it");
    old.sync().await;
    old.heartbeat().await;
    until("clients learn of it", async || (main.token().await != before).then_some(())).await;
    let listed = main.node("node-0ld").await;
    assert_eq!(listed["synced_meetings"], json!(["m1"]));
    assert_eq!(listed["active_meetings"], json!([{"id": "m1", "title": "预算会议"}]));
    assert_eq!(main.available().await, json!([old.address()]));
    assert_eq!(main.redirect("m1").await, Some(old.package_url("m1")));
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == zip);

    // It never pulls a package twice: it keeps the old one, which nobody gets.
    main.put("m1", &other).await;
    old.sync().await;
    old.heartbeat().await;
    assert_eq!(main.redirect("m1").await, None);
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == other);

    // Ended and begun again, it drops the old one and pulls the new one.
    main.end("m1").await;
    old.sync().await;
    old.heartbeat().await;
    main.begin("m1").await;
    old.sync().await;
    old.heartbeat().await;
    assert_eq!(main.redirect("m1").await, Some(old.package_url("m1")));
    assert!(downloaded(main.meeting_url("m1", "/download-package")).await == other);

    old.unregister().await;
    assert!(main.node("node-0ld").await.is_null());
    assert_eq!(main.redirect("m1").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_in_a_body_of_another_type_is_told_which_one_it_needs() {
    let main = TestMaster::build().start().await;
    let token = main.new_token();
    let sent = async |path: &str, media_type: &str| {
        let request = client().post(main.url(path)).body(r#"{"title": "Board"}"#);
        let request = request.header(header::CONTENT_TYPE, media_type).bearer_auth(&token);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    // As curl -d announces it.
    let form = "application/x-www-form-urlencoded";
    for path in ["/api/v1/meetings", "/api/v1/nodes/key"] {
        let (status, said) = sent(path, form).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}: {said}");
        assert!(said.contains("Content-Type: application/json"), "{said}");
    }
    // The contract's answer to nodes.
    let (status, _) = sent("/api/v1/nodes/register", form).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(sent("/api/v1/meetings", "application/json").await.0, StatusCode::CREATED);
}
