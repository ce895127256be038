//! The embedded main server, and nodes that speak HTTPS.

use serde_json::json;

use super::Secure;
use crate::support::{TestMaster, client, until, zip_of};

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_out_that_a_node_speaks_https_and_sends_tablets_there() {
    let master = TestMaster::build().start().await;
    let authority = master.authority();
    let node = Secure::of(&authority, json!({})).await;
    master.begin_with("m", &zip_of("m")).await;
    node.until_synced("m").await;
    let package = format!("http://{authority}/api/v1/meetings/m/download-package");
    let location = until("a redirect", async || {
        let answer = client().get(&package).send().await.unwrap();
        Some(answer.headers().get("location")?.to_str().unwrap().to_owned())
    })
    .await;
    assert_eq!(location, node.package_url("m"));
    let listed = master.json("/api/v1/meetings/m/download-nodes-info").await;
    assert_eq!(listed[1]["download_url"], node.package_url("m"));
    assert_eq!(listed[1]["ip"], node.address().to_string());
    assert_eq!(listed[0]["download_url"], package, "it speaks plain HTTP itself");
    let zip = node.client.get(location).send().await.unwrap().bytes().await.unwrap();
    assert!(zip == zip_of("m"));
}
