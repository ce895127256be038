//! `edge-mirror get`.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edge_mirror_protocol::package::Sha256;
use serde_json::json;
use sha2::Digest as _;

use super::{Ended, command, ended, nobody, run, run_in_chinese};
use crate::{
    process::disk::unshared,
    support::{
        TestMaster, TestNode,
        plain::{node_with, scripted, scripted_by},
        process::Process,
        proxy::{Proxy, Way},
        until, zip_of,
        zips::big_zip,
    },
};

const PATH: &str = "/api/v1/meetings/m1/download-package";
/// Of a package that is more than sockets' buffers take.
const LARGE: usize = 24 << 20;

/// Where packages are put.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("会议 m1.zip")
    }

    fn args(&self, url: &str, more: &[&str]) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["get".into(), url.into(), "-o".into()];
        args.push(self.file().into());
        args.extend(more.iter().map(Into::into));
        args
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The package alone is here.
    fn holds(&self, package: &[u8]) {
        assert_eq!(self.names(), ["会议 m1.zip"]);
        assert!(std::fs::read(self.file()).unwrap() == package, "other bytes");
    }

    /// Nothing is here, and the command said why not.
    fn refused(&self, ended: &Ended, parts: &[&str]) {
        ended.refused(1, parts);
        assert_eq!(self.names(), [""; 0]);
    }
}

fn whole(fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_comes_whole_with_its_digest_and_replaces_what_was_there() {
    let package = big_zip(300_000, 1);
    let (node, _main) = node_with(&package).await;
    let folder = Folder::new();
    std::fs::write(folder.file(), "an older one").unwrap();
    let got = run(folder.args(&node.url(PATH), &[])).await;
    let sha256 = node.meeting("m1").await["sha256"].as_str().unwrap().to_owned();
    assert_eq!((got.code, got.errors.as_str()), (Some(0), ""));
    let from = node.address().to_string();
    for part in ["会议 m1.zip: 293 KiB", &from, "verified against the server's SHA-256", &sha256]
    {
        assert!(got.output.contains(part), "{part}");
    }
    folder.holds(&package);

    let got = run(folder.args(&node.url(PATH), &["--json"])).await.json();
    assert_eq!((&got["size"], &got["sha256"]), (&json!(package.len()), &json!(sha256)));
    assert_eq!((&got["from"], &got["digest_named"]), (&json!(from), &json!(true)));
    let got = run_in_chinese(folder.args(&node.url("/api/meetings/m1/download"), &[])).await;
    assert!(got.output.contains("已按服务器给出的 SHA-256 校验"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_servers_redirect_is_followed_to_a_node() {
    let main = TestMaster::build().start().await;
    let package = big_zip(50_000, 2);
    main.begin_with("m1", &package).await;
    let node = TestNode::of(&main.authority()).start().await;
    main.until_held_by("m1", &["node-test"]).await;
    let folder = Folder::new();
    let got = run(folder.args(&main.url(PATH), &["--json"])).await;
    let (from, digest_of) = (&got.json()["from"], &got.json()["digest_of"]);
    assert_eq!((from, digest_of), (&json!(node.address().to_string()), &json!("main_server")));
    folder.holds(&package);
    let got = run(folder.args(&main.url(PATH), &[])).await;
    assert!(got.output.contains("verified against the main server's SHA-256"));
}

/// A server that sends on to a node, as a main server does.
fn sends_on_to(node: SocketAddr, direct: &'static str) -> SocketAddr {
    scripted_by(move |asked| match asked.split(' ').nth(1) {
        Some(PATH) => {
            let to = format!("Location: http://{node}{PATH}\r\nContent-Length: 0\r\n");
            format!("HTTP/1.1 302 Found\r\nConnection: close\r\n{to}\r\n").into()
        }
        Some(path) if path.ends_with("/download-nodes-info") => whole("", b"[]"),
        _ => format!("HTTP/1.1 {direct}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_other_bytes_than_the_main_servers_is_not_believed() {
    let evil = zip_of("not what was published");
    let named = Sha256::new(sha2::Sha256::digest(&evil).into()).base64();
    let named = format!("Repr-Digest: sha-256=:{named}:\r\n");
    let sent = evil.clone();
    let node = scripted(move |_| whole(&named, &sent));
    let folder = Folder::new();
    // The package of a main server that names its digest, and does not give it.
    const KNOWN: &str =
        "200 OK\r\nRepr-Digest: sha-256=:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=:";
    let main = sends_on_to(node, KNOWN);
    let got = run(folder.args(&format!("http://{main}{PATH}"), &["--retries", "0"])).await;
    assert!(
        got.errors.contains(&format!("{node}: the bytes don't have the main server's SHA-256"))
    );
    assert_eq!((got.code, folder.names()), (Some(1), vec![]));

    // One that can't tell, as the real ones: it is said so.
    let main = sends_on_to(node, "405 Method Not Allowed");
    let got = run(folder.args(&format!("http://{main}{PATH}"), &[])).await;
    assert!(got.output.contains("that server's own SHA-256; the main server names none"));
    folder.holds(&evil);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_gone_on_with_where_it_broke() {
    let package = big_zip(LARGE, 3);
    let (node, main) = node_with(&package).await;
    // Nobody else can help.
    main.go_away().await;
    let proxy = Proxy::before(node.address(), Way::Cut(10 << 20));
    let folder = Folder::new();
    let got = run(folder.args(&proxy.url(PATH), &["--json"])).await;
    assert_eq!(got.code, Some(0));
    assert!(got.errors.contains("broke after "), "{}", got.errors);
    folder.holds(&package);
    let asked = proxy.asked();
    let sha256 = got.json()["sha256"].as_str().unwrap().to_owned();
    assert!(asked.contains(&format!("if-range: \"{sha256}\"")) && asked.contains("range: bytes=1"));
    assert!(proxy.passed() < LARGE * 5 / 4, "nothing came twice: {}", proxy.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_dies_another_one_goes_on_from_there() {
    let main = TestMaster::build().start().await;
    let package = big_zip(LARGE, 4);
    main.begin_with("m1", &package).await;
    let of = |id: &str| TestNode::of(&main.authority()).with(json!({"nodeId": id}));
    let (dying, other) = (of("n1").start().await, of("n2").start().await);
    main.until_held_by("m1", &["n1", "n2"]).await;
    let (before, last) = (Proxy::before(dying.address(), Way::Hold(8 << 20)), Folder::new());
    let mut get = Process::spawn(command(last.args(&before.url(PATH), &["--json"])));
    until("some of it", async || (before.passed() >= 8 << 20).then_some(())).await;
    dying.shut_down().await;
    before.set(Way::Closed);
    assert!(get.until_ended().await.success(), "{}", get.errors.get());
    last.holds(&package);
    let output = until("its output", async || serde_json::from_str(&get.output.get()).ok()).await;
    let output: serde_json::Value = output;
    assert_eq!(output["from"], other.address().to_string());
    let served = other.status().await["bytes_served"].as_u64().unwrap();
    assert!(served < LARGE as u64, "only the rest: {served}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_node_can_the_main_server_gives_it_itself() {
    let main = TestMaster::build().start().await;
    let package = big_zip(LARGE, 5);
    main.begin_with("m1", &package).await;
    let node = TestNode::of(&main.authority()).start().await;
    main.until_held_by("m1", &["node-test"]).await;
    let proxy = Proxy::before(node.address(), Way::Cut(6 << 20));
    node.configure(json!({
        "publicIp": "127.0.0.1", "publicPort": proxy.address().port(), "usePublicAddress": true,
    }))
    .await;
    until("redirects to the proxy", async || {
        let to = main.redirect("m1").await.unwrap_or_default();
        to.contains(&proxy.address().to_string()).then_some(())
    })
    .await;
    let folder = Folder::new();
    let got = run(folder.args(&main.url(PATH), &["--json"])).await;
    assert_eq!(got.json()["from"], main.authority());
    assert!(got.errors.contains(&format!("the connection to {} broke", proxy.address())));
    folder.holds(&package);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_no_file_under_the_name_and_the_next_run_goes_on() {
    let package = big_zip(LARGE, 6);
    let (node, _main) = node_with(&package).await;
    let proxy = Proxy::before(node.address(), Way::Hold(8 << 20));
    let folder = Folder::new();
    let mut get = Process::spawn(command(folder.args(&proxy.url(PATH), &[])));
    let received = until("some of it", async || {
        let part = folder.names().pop()?;
        let length = std::fs::metadata(folder.0.path().join(part)).unwrap().len();
        (length > 4 << 20).then_some(length)
    })
    .await;
    assert!(!folder.file().exists());
    get.signal("INT");
    assert_eq!(get.until_ended().await.code(), Some(1));
    until("its word", async || get.errors.get().contains("resumes there").then_some(())).await;
    assert!(!folder.file().exists());

    let before = node.status().await["bytes_served"].as_u64().unwrap();
    let again = run(folder.args(&node.url(PATH), &[])).await;
    assert_eq!(again.code, Some(0));
    folder.holds(&package);
    let served = node.status().await["bytes_served"].as_u64().unwrap() - before;
    assert!(served <= package.len() as u64 - received, "{served} of {}", package.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_of_another_version_is_of_no_use_and_goes() {
    let package = big_zip(100_000, 7);
    let (node, main) = node_with(&package).await;
    main.go_away().await;
    let folder = Folder::new();
    let left = |digest: Sha256, bytes: &[u8]| {
        let path = folder.0.path().join(format!(".会议 m1.zip.{digest}.part"));
        std::fs::write(path, bytes).unwrap();
    };
    left(Sha256::new([7; 32]), b"another version");
    assert_eq!(run(folder.args(&node.url(PATH), &[])).await.code, Some(0));
    folder.holds(&package);

    // Bytes that were lost on this disk: found at the end, and begun anew.
    let sha256: Sha256 = node.meeting("m1").await["sha256"].as_str().unwrap().parse().unwrap();
    left(sha256, &vec![0; 50_000]);
    let got = run(folder.args(&node.url(PATH), &[])).await;
    assert_eq!(got.code, Some(0), "{}", got.errors);
    folder.holds(&package);
    // All of it was there when the run before was killed.
    left(sha256, &package);
    assert_eq!(run(folder.args(&node.url(PATH), &[])).await.code, Some(0));
    folder.holds(&package);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again_when_it_wants_to_be() {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
        Retry-After: 3\r\nContent-Length: 18\r\n\r\n{\"detail\": \"busy\"}";
    let package = zip_of("a");
    let sent = package.clone();
    // It is asked for other sources first, in two ways.
    let busy = scripted(move |asked| if asked < 3 { BUSY.to_vec() } else { whole("", &sent) });
    let folder = Folder::new();
    let began = Instant::now();
    let got = run(folder.args(&format!("http://{busy}{PATH}"), &[])).await;
    assert!(got.errors.contains("answered 503: busy"), "{}", got.errors);
    // By itself it would come back after two seconds.
    assert!(began.elapsed() >= Duration::from_secs(3));
    folder.holds(&package);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_those_of_the_digest_get_no_name() {
    let named = format!("Repr-Digest: sha-256=:{}:\r\n", Sha256::new([7; 32]).base64());
    let wrong = scripted(move |_| whole(&named, b"abcd"));
    let folder = Folder::new();
    let got = run(folder.args(&format!("http://{wrong}{PATH}"), &[])).await;
    folder.refused(&got, &["don't have the announced SHA-256", &wrong.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_digest_the_archive_has_to_be_sound() {
    let folder = Folder::new();
    let page = scripted(|_| whole("", b"<html>busy</html>"));
    let got = run(folder.args(&format!("http://{page}{PATH}"), &[])).await;
    folder.refused(&got, &["no SHA-256 was given", "not a complete ZIP"]);
    let package = zip_of("a");
    let sent = package.clone();
    let old = scripted(move |_| whole("", &sent));
    let left = folder.0.path().join(".会议 m1.zip.unnamed.part");
    std::fs::write(left, vec![0; 2 * package.len()]).unwrap();
    let got = run(folder.args(&format!("http://{old}{PATH}"), &[])).await;
    assert!(got.output.contains("gives no SHA-256; the archive's own checksums are right"));
    folder.holds(&package);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line_that_says_where_to_look() {
    let (node, main) = node_with(&zip_of("a")).await;
    let folder = Folder::new();
    let unknown = node.url("/api/v1/meetings/m9/download-package");
    let got = run(folder.args(&unknown, &[])).await;
    folder.refused(&got, &[&main.authority(), "answered 404"]);
    let gone = nobody();
    let got = run(folder.args(&format!("http://{gone}{PATH}"), &["--retries", "0"])).await;
    folder.refused(&got, &[&format!("cannot reach {gone}"), "Connection refused"]);
    let silent = Proxy::before(node.address(), Way::Hold(0));
    let once = ["--retries", "0", "--patience", "200ms"];
    let got = run(folder.args(&silent.url(PATH), &once)).await;
    folder.refused(&got, &["cannot reach", "no answer in time"]);

    for (url, output, code, part) in [
        ("ftp://127.0.0.1/x", "x.zip", 2, "only http:// and https://"),
        (&node.url(PATH), "/no/such/folder/x.zip", 1, "there is no folder /no/such/folder"),
        (&node.url(PATH), "/tmp", 1, "it is a folder"),
        (&node.url(PATH), "/proc/x.zip", 1, "cannot write into /proc"),
    ] {
        run(["get", url, "-o", output]).await.refused(code, &[part]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_left_as_it_was() {
    let (node, _main) = node_with(&big_zip(LARGE, 8)).await;
    let outside = tempfile::tempdir().unwrap();
    // `unshared` ends with what it becomes: a shell that looks at what is left.
    let mut small = unshared(outside.path());
    small.env("SIZE", "8m").args(["sh", "-c"]);
    small.arg(format!(
        "{} get {} -o {}; code=$?; ls -A {}; exit $code",
        env!("CARGO_BIN_EXE_edge-mirror"),
        node.url(PATH),
        Path::join(outside.path(), "m1.zip").display(),
        outside.path().display(),
    ));
    ended(small).await.refused(1, &["cannot write", "No space left on device"]);
}
