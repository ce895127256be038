//! The embedded main server with HTTPS.

use std::net::SocketAddr;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::HERE;
use crate::support::{
    certificates::{Authority, Pair, replace, shown},
    client,
    node::free_port,
    process::{NodeFolder, Process, binary, run},
    until, zip_of,
};

/// A main server that speaks HTTPS, and who knows its authority.
struct SecureMaster {
    authority: Authority,
    pair: Pair,
    folder: tempfile::TempDir,
    process: Process,
    address: SocketAddr,
    redirect_port: u16,
    client: Client,
}

impl SecureMaster {
    async fn start() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let (pair, redirect_port) = (authority.pair(HERE), free_port());
        pair.write(folder.path());
        let mut command = binary();
        command.current_dir(folder.path());
        command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data", "data"]);
        command.args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
        command.args(["--redirect-port", &redirect_port.to_string()]);
        let mut process = Process::spawn(command);
        let address = process.until_listening().await;
        let client = authority.client();
        Self { authority, pair, folder, process, address, redirect_port, client }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    async fn json(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn begin_with(&self, id: &str, package: &[u8]) {
        let of = |what: &str| self.url(&format!("/api/v1/meetings/{id}{what}"));
        let create =
            self.client.post(self.url("/api/v1/meetings")).json(&json!({"id": id, "title": "T"}));
        let put = self.client.put(of("/package")).body(package.to_vec());
        for request in [create, put, self.client.post(of("/start"))] {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        }
    }

    async fn until_problems(&self, wanted: impl Fn(&str) -> bool) -> String {
        until("other problems", async || {
            let problems = self.json("/api/v1/overview").await["problems"].to_string();
            wanted(&problems).then_some(problems)
        })
        .await
    }

    async fn until_shown(&self, pair: &Pair) {
        until("another certificate", async || {
            (shown(&self.authority, self.address).await == pair.der()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_register_and_pull_over_https_and_clients_are_named_https_places() {
    let master = SecureMaster::start().await;
    master.begin_with("m", &zip_of("m")).await;
    let folder = NodeFolder::of(&master.address.to_string());
    replace(&folder.path().join("ca.pem"), &master.authority.pem());
    let folder = folder.with(json!({"mainServerTls": true, "mainServerCa": "ca.pem"}));
    let node = folder.start().await;
    node.until_synced("m").await;
    assert_eq!(node.download("m").await, (StatusCode::OK, zip_of("m")));
    let listed = master.json("/api/v1/meetings/m/download-nodes-info").await;
    let own = master.url("/api/v1/meetings/m/download-package");
    assert_eq!(listed[0]["download_url"], own.as_str());
    let ready = master.client.get(master.url("/api/health/ready")).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(master.json("/api/v1/overview").await["problems"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_breaks_no_connection_and_a_bad_one_changes_nothing() {
    let master = SecureMaster::start().await;
    let cert = master.folder.path().join("cert.pem");
    assert_eq!(shown(&master.authority, master.address).await, master.pair.der());
    let kept = edge_mirror_http::tls::http(master.authority.trust().client().unwrap());
    let kept = kept.pool_max_idle_per_host(1).build().unwrap();
    // A poll that is held back spans the change: it is on a connection of before.
    let feed = kept.get(master.url("/api/v1/events")).send().await.unwrap();
    assert_eq!(feed.status(), StatusCode::OK);
    let new = master.authority.pair(HERE);
    new.write(master.folder.path());
    master.until_shown(&new).await;

    replace(&cert, "not a certificate");
    let told = master.until_problems(|problems| problems.contains("certificate_unusable")).await;
    let file = cert.display().to_string();
    assert!(told.contains(&file) && told.contains("--tls-cert"), "{told}");
    assert_eq!(shown(&master.authority, master.address).await, new.der());
    let other = master.authority.pair(HERE);
    replace(&cert, &other.cert);
    let told = master.until_problems(|problems| problems.contains("not that of")).await;
    assert!(told.contains("--tls-key"), "{told}");
    assert_eq!(shown(&master.authority, master.address).await, new.der());
    other.write(master.folder.path());
    master.until_shown(&other).await;
    master.until_problems(|problems| problems == "[]").await;

    let expired = master.authority.expired(HERE);
    expired.write(master.folder.path());
    let stranger = edge_mirror_http::tls::http(edge_mirror_http::tls::unverified_client());
    let stranger = stranger.build().unwrap();
    let told = until("an expired certificate", async || {
        let answer = stranger.get(master.url("/api/v1/overview")).send().await.unwrap();
        let problems = answer.json::<Value>().await.unwrap()["problems"].to_string();
        problems.contains("certificate_doubtful").then_some(problems)
    })
    .await;
    assert!(told.contains("expired on"), "{told}");
    // The feed of before the changes goes on.
    let mut feed = feed;
    assert!(feed.chunk().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_on_and_local_commands_find_it() {
    let master = SecureMaster::start().await;
    master.begin_with("m", &zip_of("m")).await;
    for port in [master.address.port(), master.redirect_port] {
        let answer = client().get(format!("http://127.0.0.1:{port}/a?b")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.headers()["location"], master.url("/a?b").as_str());
    }
    let plain = master.address.to_string();
    let ran = |args: Vec<String>| tokio::task::spawn_blocking(move || run(args));
    let args = |command: &[&str]| command.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let sent_on = format!("127.0.0.1:{}", master.redirect_port);
    for address in [&plain, &sent_on] {
        let (code, said, error) = ran(args(&["meetings", "--master", address])).await.unwrap();
        assert!(code == Some(0) && said.contains('m'), "{said}{error}");
        let approve = args(&["nodes", "approve", "nobody", "--master", address]);
        let (code, _, error) = ran(approve).await.unwrap();
        assert!(code == Some(1) && error.contains("no node nobody waits"), "{error}");
    }
    let zip = master.folder.path().join("b.zip");
    std::fs::write(&zip, zip_of("b")).unwrap();
    let file = zip.display().to_string();
    let publish = args(&["publish", &file, "--master", &plain, "--title", "B", "--id", "b"]);
    let (code, said, error) = ran(publish).await.unwrap();
    assert!(code == Some(0) && said.contains(&master.url("/")), "{said}{error}");
    let data = master.folder.path().join("data").display().to_string();
    for port in [master.address.port(), master.redirect_port] {
        let token = args(&["token", "--data", &data, "--port", &port.to_string()]);
        let (code, said, error) = ran(token).await.unwrap();
        let link = format!("{}#login=", master.url("/"));
        assert!(code == Some(0) && said.contains(&link), "{said}{error}");
    }
    assert!(!master.process.errors.get().contains("WARN task"), "{}", master.process.errors.get());
}

#[test]
fn what_can_not_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, other) = (Authority::new().pair(HERE), Authority::new().pair(HERE));
    pair.write(folder.path());
    replace(&folder.path().join("other.pem"), &other.key);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = path("data");
    let start = |more: &[&str]| {
        let first = ["master", "--host", "127.0.0.1", "--port", "0", "--data", &data];
        run(first.iter().chain(more))
    };
    let (cert, key, other) = (path("cert.pem"), path("key.pem"), path("other.pem"));
    let none = path("none.pem");
    for (args, code, part) in [
        (&["--tls-cert", &*cert, "--tls-key", &*other][..], 1, "--tls-key"),
        (&["--tls-cert", &*none, "--tls-key", &*key], 1, "check the path"),
        (&["--tls-cert", &*cert], 2, "--tls-key"),
        (&["--redirect-port", "8080"], 2, "--tls-cert"),
    ] {
        let (ended, _, said) = start(args);
        assert!(ended == Some(code) && said.contains(part), "{args:?}: {ended:?} {said}");
    }
}
