//! Meetings whose ids are any text: as folders, in addresses and in what nodes
//! and main servers say to each other.

use std::collections::BTreeSet;

use edge_mirror_protocol::package::percent_encoded;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{ScriptedMain, TestMaster, TestNode, client, until, zip_of};

/// Two of them look the same, and two are what others look like when encoded.
const IDS: [&str; 13] = [
    "会议1",
    "a b",
    " ",
    "m#1",
    "50%",
    "50%25",
    "a?b&c=d",
    "\u{fc}",
    "u\u{308}",
    "x%2Fy",
    "%2e%2e",
    "a+b;c",
    "\u{1f600}",
];

fn package(id: &str) -> Vec<u8> {
    zip_of(&format!("papers of {id}"))
}

async fn started(main: &ScriptedMain) -> TestNode {
    for id in IDS {
        main.activate(id, "T", &package(id));
    }
    let node = TestNode::of(&main.authority()).start().await;
    for id in IDS {
        node.until_synced(id).await;
    }
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_is_synced_served_kept_and_removed() {
    let main = ScriptedMain::start().await;
    let node = started(&main).await;
    let synced = || {
        let beat = main.last_heartbeat();
        let ids = beat["synced_meetings"].as_array().cloned().unwrap_or_default();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let all = IDS.iter().map(ToString::to_string).collect();
    until("all are told as synced", async || (synced() == all).then_some(())).await;
    let status = node.status().await;
    assert_eq!((&status["sync_status"], &status["problems"]), (&json!("同步成功"), &json!([])));

    main.go_away().await;
    let node = node.stop().await.start().await;
    for id in IDS {
        assert!(node.storage().join(format!("meeting_{id}/package.zip")).is_file(), "{id}");
        // The first is the router's to answer, the second is answered at once.
        let url = node.package_url(id);
        let answers = [client().get(&url), client().get(&url)].map(|request| async {
            let answer = request.send().await.unwrap();
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            headers.remove(header::DATE);
            (status, headers, answer.bytes().await.unwrap().to_vec())
        });
        let [first, second] = answers;
        let (first, second) = (first.await, second.await);
        assert_eq!((first.0, &first.2), (StatusCode::OK, &package(id)), "{id}");
        assert!(first == second, "{id}: {first:?} {second:?}");
        let name = first.1[header::CONTENT_DISPOSITION].to_str().unwrap();
        let encoded = percent_encoded(id);
        assert!(name.ends_with(&format!("filename*=UTF-8''meeting_{encoded}.zip")), "{name}");
    }
    // As those send it who encode nothing that they need not.
    for raw in ["会议1", "50%", "a+b;c"] {
        let package = package(raw);
        assert!(bytes_at(&node, raw).await.ends_with(&package), "{raw}");
        assert!(bytes_at(&node, raw).await.ends_with(&package), "{raw}");
    }

    main.come_back().await;
    IDS.iter().for_each(|id| main.end(id));
    for id in IDS {
        let place = node.url(&format!("/api/meetings/{}", percent_encoded(id)));
        until(&format!("{id:?} is removed"), async || {
            let removed = client().request(Method::DELETE, &place).send().await.unwrap();
            // Or else cleaning was quicker.
            matches!(removed.status(), StatusCode::OK | StatusCode::NOT_FOUND).then_some(())
        })
        .await;
        let folder = node.storage().join(format!("meeting_{id}"));
        until("its folder is gone", async || (!folder.exists()).then_some(())).await;
    }
    node.shut_down().await;
}

async fn bytes_at(node: &TestNode, segment: &str) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let path = format!("/api/v1/meetings/{segment}/download-package");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn without_offers_the_main_server_is_asked_for_the_same_ids() {
    let main = ScriptedMain::start().await;
    main.play().offers = false;
    let node = started(&main).await;
    for id in IDS {
        assert_eq!(node.download(id).await, (StatusCode::OK, package(id)), "{id}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_the_old_node_left_are_taken_over_under_any_name() {
    let main = ScriptedMain::start().await;
    let mut builder = TestNode::of(&main.authority()).with(json!({"cleanup": {"enabled": false}}));
    for id in IDS {
        builder = builder.file(&format!("storage/meeting_{id}/package.zip"), &package(id));
    }
    let strange = "storage/meeting_a\nb/package.zip";
    let node = builder.file(strange, &package("?")).start().await;
    for id in IDS {
        assert_eq!(node.download(id).await, (StatusCode::OK, package(id)), "{id}");
    }
    assert_eq!(node.status().await["meeting_count"], IDS.len());
    assert!(node.config_path().with_file_name(strange).exists());
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_main_server_makes_such_meetings_and_sends_clients_to_nodes() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).start().await;
    for id in IDS {
        main.begin_with(id, &package(id)).await;
        main.until_held_by(id, &["node-test"]).await;
        let redirect = main.redirect(id).await.unwrap();
        assert_eq!(redirect, node.package_url(id));
        let sources = main.meeting_url(id, "/download-nodes-info");
        let sources: serde_json::Value =
            client().get(sources).send().await.unwrap().json().await.unwrap();
        assert_eq!(sources[1]["download_url"], redirect);
        let got = client().get(redirect).send().await.unwrap().bytes().await.unwrap();
        assert!(got == package(id), "{id}");
    }
    let made: BTreeSet<_> = IDS.into_iter().map(|id| json!(id).to_string()).collect();
    let list = main.json("/api/v1/meetings").await;
    let listed = list.as_array().unwrap().iter().map(|meeting| meeting["id"].to_string());
    assert_eq!(listed.collect::<BTreeSet<_>>(), made);
    for id in IDS {
        main.end(id).await;
        let deleted = client().delete(main.meeting_url(id, "")).send().await.unwrap();
        assert_eq!(deleted.status(), StatusCode::OK, "{id}");
    }
    for id in ["a/b", "a\\b", "a\nb", "..", &"会".repeat(67)] {
        let body = json!({"id": id, "title": "T"});
        let refused = client().post(main.url("/api/v1/meetings")).json(&body).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{id}");
    }
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_nothing_can_be_named_by_is_a_problem_and_no_success() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "T", &package("m1"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    for id in ["a/b", "a\\b", "a\nb", "..", &"会".repeat(67)] {
        let listed = json!([{"id": "m1", "title": "T"}, {"id": id, "title": "Board"}]);
        let answer = json!({"id": "token", "active_meetings": listed}).to_string();
        main.play().status_answer = Some(answer);
        let problem = until("a problem", async || {
            let status = node.status().await;
            let problems = status["problems"].as_array().unwrap().clone();
            let problem = problems.into_iter().find(|problem| problem["meeting"] == id)?;
            assert!(status["sync_status"].as_str().unwrap().starts_with("同步失败: "), "{status}");
            Some(problem)
        })
        .await;
        let told = (&problem["code"], &problem["severity"], &problem["title"]);
        assert_eq!(told, (&json!("meeting_unserved"), &json!("error"), &json!("Board")));
        assert_eq!(node.download("m1").await, (StatusCode::OK, package("m1")));
        main.play().status_answer = None;
        until("all is well", async || {
            let status = node.status().await;
            let well = status["problems"] == json!([]) && status["sync_status"] == "同步成功";
            well.then_some(())
        })
        .await;
    }
    node.shut_down().await;
}
