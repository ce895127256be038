//! `edge-mirror publish`.

use std::path::PathBuf;

use edge_mirror_http::access::Vault;
use serde_json::{Value, json};

use super::{command, nobody, run, run_in_chinese};
use crate::support::{
    TestMaster, TestNode,
    process::Process,
    proxy::{Proxy, Way},
    until, zip_of,
    zips::big_zip,
};

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("董事会.zip"), bytes).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("董事会.zip")
    }

    fn args(&self, master: &str, more: &[&str]) -> Vec<String> {
        let path = self.path().to_str().unwrap().to_owned();
        let args = ["publish", &path, "--master", master, "--title", "五月 Board"];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }
}

async fn meetings(main: &TestMaster) -> Value {
    main.json("/api/v1/meetings").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_running_meeting_that_nodes_have() {
    let main = TestMaster::build().start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let package = big_zip(3 << 20, 1);
    let file = File::of(&package);
    let done = run(file.args(&main.url(""), &["--id", "m1"])).await;
    assert_eq!((done.code, done.errors.as_str()), (Some(0), ""));
    let url = main.meeting_url("m1", "/download-package");
    for part in ["meeting m1 (五月 Board) has started, with a package of 3", &url] {
        assert!(done.output.contains(part), "{part}");
    }
    node.until_synced("m1").await;
    assert!(node.download("m1").await.1 == package);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_be_left_unstarted_and_told_as_json() {
    let main = TestMaster::build().start().await;
    let file = File::of(&zip_of("a"));
    let done = run(file.args(&main.url(""), &["--no-start", "--time", "9:00", "--json"])).await;
    let meeting = done.json();
    assert_eq!((&meeting["status"], &meeting["time"]), (&json!("未开始"), &json!("9:00")));
    let id = meeting["id"].as_str().unwrap();
    assert_eq!(meeting["download_url"], main.meeting_url(id, "/download-package"));
    let done = run_in_chinese(file.args(&main.url(""), &["--no-start"])).await;
    assert!(done.output.contains("已上传，尚未开始"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_leaves_no_meeting_behind() {
    let main = TestMaster::build().start().await;
    // The main server finds it, which reads every entry.
    let mut damaged = big_zip(300_000, 2);
    damaged[5000] ^= 1;
    let refused = run(File::of(&damaged).args(&main.url(""), &[])).await;
    refused.refused(1, &["answered 400", "damaged"]);
    assert_eq!(meetings(&main).await, json!([]));

    // Ctrl-C while it is being sent.
    let proxy = Proxy::before(main.authority().parse().unwrap(), Way::Hold(1 << 20));
    let file = File::of(&big_zip(200 << 20, 3));
    let mut publish = Process::spawn(command(file.args(&proxy.url(""), &["--id", "m1"])));
    until("the upload", async || {
        let shown = main.json("/api/v1/overview").await;
        (shown["meetings"][0]["uploading"] == true).then_some(())
    })
    .await;
    publish.signal("INT");
    assert_eq!(publish.until_ended().await.code(), Some(1));
    until("its word", async || publish.errors.get().contains("interrupted").then_some(())).await;
    assert_eq!(meetings(&main).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_gone_on_with() {
    let main = TestMaster::build().start().await;
    main.create("m1", "五月 Board").await;
    let file = File::of(&zip_of("a"));
    let done = run(file.args(&main.url(""), &["--id", "m1"])).await;
    assert_eq!((done.code, done.errors.as_str()), (Some(0), ""));
    let all = meetings(&main).await;
    assert_eq!((all.as_array().unwrap().len(), &all[0]["status"]), (1, &json!("进行中")));
    // Now it is somebody's meeting, whatever its title.
    let taken = run(file.args(&main.url(""), &["--id", "m1"])).await;
    taken.refused(1, &["answered 409", "choose another --id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line_that_says_what_to_do() {
    let main = TestMaster::build().start().await;
    let (master, file) = (main.url(""), File::of(&zip_of("a")));
    let page = File::of(b"<html>");
    run(page.args(&master, &[])).await.refused(1, &["董事会.zip can't be published", "ZIP"]);
    let none = run(["publish", "/no/such.zip", "--master", &master, "--title", "T"]).await;
    none.refused(1, &["/no/such.zip can't be published", "No such file"]);
    let gone = format!("http://{}", nobody());
    run(file.args(&gone, &[])).await.refused(1, &["cannot reach", "Connection refused"]);
    run(file.args(&master, &["--id", "a/b"])).await.refused(1, &["--id 'a/b'", "a meeting id is"]);
    assert_eq!(meetings(&main).await, json!([]));

    main.create("m1", "Board").await;
    let taken = run(file.args(&master, &["--id", "m1"])).await;
    taken.refused(1, &["answered 409 to POST /api/v1/meetings", "choose another --id"]);
    assert_eq!(meetings(&main).await.as_array().unwrap().len(), 1, "and is left alone");
    let node = TestNode::of(&main.authority()).start().await;
    run(file.args(&node.url(""), &[])).await.refused(1, &["is a node; try"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_logged_in_is_told_how() {
    let mut server = crate::support::process::binary();
    let data = tempfile::tempdir().unwrap();
    server.args(["master", "--host", "127.0.0.1", "--port", "0", "--no-trust-local", "--data"]);
    let mut server = Process::spawn({
        server.arg(data.path());
        server
    });
    let url = format!("http://{}", server.until_listening().await);
    let file = File::of(&zip_of("a"));
    let stranger = run(file.args(&url, &[])).await;
    stranger.refused(1, &["asks for a login", "EDGE_MIRROR_TOKEN"]);
    let token = Vault::at(data.path().join("access.json")).replace_token().unwrap().token;
    let done = run(file.args(&url, &["--token", &token])).await;
    assert_eq!(done.code, Some(0), "{}", done.errors);
}
