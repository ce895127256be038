//! Packages over HTTPS.

use std::io::Write;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Secure;
use crate::support::{ScriptedMain, certificates::connect, until, zip_of, zips::big_zip};

#[tokio::test(flavor = "multi_thread")]
async fn packages_parts_and_pages_are_served_as_over_plain_http() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(3 << 20, 1);
    main.activate("m", "M", &zip);
    let node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    let url = node.package_url("m");
    // Twice: by the router, and at once.
    for _ in 0..2 {
        let answer = node.client.get(&url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/zip");
        assert!(answer.bytes().await.unwrap() == zip);
    }
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2999999", 1_000_000, 3_000_000),
        ("bytes=-5", zip.len() - 5, zip.len()),
    ] {
        let answer = node.client.get(&url).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert!(answer.bytes().await.unwrap() == zip[from..to], "{range}");
    }
    let head = node.client.request(Method::HEAD, &url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], zip.len().to_string().as_str());
    let tag = head.headers()["etag"].clone();
    let known = node.client.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(node.get("/static/index.html").await.status(), StatusCode::OK);
    assert_eq!(node.get("/api/health/ready").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_being_pulled_is_sent_on_as_it_comes() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(2 << 20, 2);
    let valve = main.valve(0);
    main.activate("m", "M", &zip);
    let node = Secure::of(&main.authority(), json!({})).await;
    until("the node pulls", async || valve.is_in_use().then_some(())).await;
    valve.let_through(1 << 20);
    let mut answer = node.client.get(node.package_url("m")).send().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 900_000 {
        got.extend_from_slice(&answer.chunk().await.unwrap().expect("more is to come"));
    }
    valve.open();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == zip);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_somebody_cuts_short_breaks_the_download_and_not_the_node() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(64 << 20, 3);
    main.activate("m", "M", &zip);
    main.activate("other", "O", &zip_of("other"));
    let mut node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    node.until_synced("other").await;
    // Once whole, so that it is in memory, open and mapped.
    let whole = node.client.get(node.package_url("m")).send().await.unwrap();
    assert_eq!(whole.bytes().await.unwrap().len(), zip.len());
    let mut answer = node.client.get(node.package_url("m")).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    let file = node.folder.path().join("storage/meeting_m/package.zip");
    let mut file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(0).unwrap();
    file.write_all(b"short").unwrap();
    let broken = async {
        while answer.chunk().await?.is_some() {}
        Ok::<(), reqwest::Error>(())
    };
    assert!(broken.await.is_err(), "a download that lacks its end ended well");
    assert!(!node.node.process.has_ended());
    let other = node.client.get(node.package_url("other")).send().await.unwrap();
    assert!(other.bytes().await.unwrap() == zip_of("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_for_new_connections_and_no_download_is_broken() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(32 << 20, 4);
    main.activate("m", "M", &zip);
    let node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    let path = "/api/v1/meetings/m/download-package";
    let ask = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    let mut slow = connect(&node.authority, node.address(), rustls::ALL_VERSIONS).await.unwrap();
    slow.write_all(ask.as_bytes()).await.unwrap();
    let mut got = vec![0; 100_000];
    slow.read_exact(&mut got).await.unwrap();
    let new = node.authority.pair(super::HERE);
    new.write(node.folder.path());
    until("the new certificate", async || {
        let shown = crate::support::certificates::shown(&node.authority, node.address()).await;
        (shown == new.der()).then_some(())
    })
    .await;
    slow.read_to_end(&mut got).await.unwrap();
    let body = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(got[body..] == zip);
    let old = &slow.get_ref().1.peer_certificates().unwrap()[0];
    assert_eq!(*old, node.pair.der());
}
