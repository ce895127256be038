//! Plain HTTP beside HTTPS: who comes by it is sent on.

use reqwest::redirect::Policy;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Secure;
use crate::support::{
    ScriptedMain, client,
    node::free_port,
    process::{NodeFolder, run},
    until, zip_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_the_nodes_port_is_sent_on_and_arrives() {
    let main = ScriptedMain::start().await;
    main.activate("m", "M", &zip_of("m"));
    let node = Secure::of(&main.authority(), json!({})).await;
    node.until_synced("m").await;
    // What main servers give to tablets.
    let plain = node.package_url("m").replace("https:", "http:");
    let answer = client().get(&plain).send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], node.package_url("m").as_str());
    // It is not for ever: HTTPS may be given up, and another host be asked for.
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.text().await.unwrap().contains("HTTPS"));
    let tablet = edge_mirror_http::tls::http(node.authority.trust().client().unwrap())
        .redirect(Policy::limited(2))
        .build()
        .unwrap();
    let zip = tablet.get(&plain).send().await.unwrap().bytes().await.unwrap();
    assert!(zip == zip_of("m"));
    // Nobody is sent to nowhere.
    let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_port_keeps_the_host_and_replaces_the_port() {
    let main = ScriptedMain::start().await;
    let (first, second) = (free_port(), free_port());
    let outside = json!({"publicIp": "fd00::9", "publicPort": 9443, "usePublicAddress": true});
    let node = Secure::of(&main.authority(), json!({"tls": {"redirectPort": first}})).await;
    assert_eq!(node.patch(outside).await.0, 200);
    let https = node.address().port();
    let location = async |port: u16, host: &str| {
        let url = format!("http://127.0.0.1:{port}/api/status?x=1");
        let answer = client().post(url).header("host", host).send().await.ok()?;
        assert_eq!(answer.status(), 308);
        Some(answer.headers()["location"].to_str().unwrap().to_owned())
    };
    for host in ["node.example", "10.0.0.1", "[fd00::1]"] {
        let expected = format!("https://{host}:{https}/api/status?x=1");
        let with_port = format!("{host}:{first}");
        assert_eq!(location(first, &with_port).await.as_ref(), Some(&expected));
        assert_eq!(location(first, host).await, Some(expected));
    }
    // From outside the node has another port.
    let expected = "https://[fd00::9]:9443/api/status?x=1";
    assert_eq!(location(first, "[fd00::9]").await.as_deref(), Some(expected));
    // It moves with the setting, and goes with it.
    assert_eq!(node.patch(json!({"tls": {"redirectPort": second}})).await.0, 200);
    until("the other port", async || location(second, "a").await).await;
    until("the old port is closed", async || location(first, "a").await.is_none().then_some(()))
        .await;
    assert_eq!(node.patch(json!({"tls": {"redirectPort": 0}})).await.0, 200);
    until("no port", async || location(second, "a").await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_port_that_is_taken_is_told() {
    let main = ScriptedMain::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let node = Secure::of(&main.authority(), json!({})).await;
    let (status, answer) = node.patch(json!({"tls": {"redirectPort": port}})).await;
    assert_eq!(status, 400, "{answer}");
    let text = answer.to_string();
    assert!(text.contains("tls.redirectPort") && text.contains("another program uses"), "{text}");
    // By hand it may be written all the same.
    let Secure { folder, .. } = node;
    let folder = folder.with(json!({"tls": {"redirectPort": port}}));
    let args = ["node", "--host", "127.0.0.1", "--port", "0", "--config"].map(Into::into);
    let (code, _, said) = run(args.into_iter().chain([folder.config_path().into_os_string()]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another program uses") && said.contains("tls.redirectPort"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_begins_and_ends_while_the_node_runs() {
    let main = ScriptedMain::start().await;
    let secure = Secure::of(&main.authority(), json!({})).await;
    let folder = NodeFolder::of(&main.authority());
    secure.pair.write(folder.path());
    let node = folder.start().await;
    let tls = json!({"tls": {"cert": "cert.pem", "key": "key.pem"}});
    node.configure(tls).await;
    let https = format!("https://{}/api/config", node.address());
    until("https", async || secure.client.get(&https).send().await.ok()).await;
    let off = json!({"tls": {"cert": null, "key": null}});
    let answer = secure.client.post(&https).json(&off).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    until("plain http", async || {
        let answer = client().get(node.url("/api/health/live")).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
}
