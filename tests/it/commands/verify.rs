//! `edge-mirror verify`.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Ended, nobody, run, run_in_chinese, run_with_token};
use crate::support::{ScriptedMain, TestNode, process::NodeFolder, zip_of, zips::big_zip};

/// Flips a bit so that nothing but the bytes tells.
fn rot(storage: &Path, id: &str) {
    let path = storage.join(format!("meeting_{id}/package.zip"));
    let mut bytes = std::fs::read(&path).unwrap();
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    bytes[40] ^= 1;
    // In place: another file would be another inode.
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(before)).unwrap();
}

fn results(ended: &Ended) -> Value {
    let report = ended.json();
    let of = |found: &Value| (found["id"].as_str().unwrap().to_owned(), found["result"].clone());
    report["packages"].as_array().unwrap().iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

async fn main_with_two() -> ScriptedMain {
    let main = ScriptedMain::start().await;
    main.activate("m1", "董事会", &big_zip(300_000, 1));
    main.activate("m2", "Board", &zip_of("b"));
    main
}

async fn running(main: &ScriptedMain, more: Value) -> TestNode {
    let node = TestNode::of(&main.authority()).with(more).start().await;
    for id in ["m1", "m2"] {
        node.until_synced(id).await;
    }
    node
}

/// The folder of a node that ran and has ended.
async fn at_rest(main: &ScriptedMain) -> NodeFolder {
    let folder = NodeFolder::of(&main.authority());
    let mut node = folder.start().await;
    for id in ["m1", "m2"] {
        node.until_synced(id).await;
    }
    node.process.signal("TERM");
    assert!(node.process.until_ended().await.success());
    folder
}

fn of<'a>(config: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["verify", "--config", config], more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_reads_its_packages_and_pulls_what_is_damaged_again() {
    let main = main_with_two().await;
    let node = running(&main, json!({})).await;
    let (url, package) = (node.url(""), big_zip(300_000, 1));
    let good = run(["verify", "--node", &url]).await;
    assert_eq!((good.code, good.errors.as_str()), (Some(0), ""));
    assert!(good.output.contains(&format!("{url}: 2 packages (293 KiB")), "{}", good.output);

    rot(&node.storage(), "m1");
    let left = run(["verify", "--node", &url, "--no-repair", "--json"]).await;
    assert_eq!((left.code, results(&left)), (Some(3), json!({"m1": "damaged", "m2": "good"})));
    let repaired = run(["verify", "--node", &url]).await;
    assert_eq!(repaired.code, Some(3), "it was found");
    assert!(repaired.output.contains("damaged, pulled again"));
    assert!(repaired.output.contains("), 1 not good"));
    assert_eq!(node.download("m1").await, (StatusCode::OK, package));
    assert_eq!(run(["verify", "--node", &url]).await.code, Some(0));

    for (call, code) in
        [("m9/verify", 404), ("m1/verify?repair=perhaps", 400), ("a%2fb/verify", 400)]
    {
        let (status, answer) = node.post(&format!("/api/meetings/{call}"), json!({})).await;
        assert_eq!((status.as_u16(), answer["detail"].is_string()), (code, true), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_meeting_needs_is_removed_and_what_cannot_be_had_is_said() {
    let main = main_with_two().await;
    let node = running(&main, json!({"cleanup": {"cleanEndedMeetings": false}})).await;
    main.end("m2");
    crate::support::until("m2 is over", async || {
        (node.meeting("m2").await["state"] == "inactive").then_some(())
    })
    .await;
    for id in ["m1", "m2"] {
        rot(&node.storage(), id);
    }
    main.go_away().await;
    let found = run(["verify", "--node", &node.url(""), "--json"]).await;
    assert_eq!((found.code, results(&found)), (Some(3), json!({"m1": "lost", "m2": "removed"})));
    let why = found.json()["packages"][0]["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("Connection refused"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_the_folder_is_read_and_repaired_from_the_main_server() {
    let main = main_with_two().await;
    let folder = at_rest(&main).await;
    let config = folder.config_path().to_str().unwrap().to_owned();
    let good = run(of(&config, &[])).await;
    assert_eq!(good.code, Some(0), "{}", good.errors);
    let storage = folder.storage();
    assert!(good.output.starts_with(&format!("{}: 2 packages", storage.display())));

    rot(&storage, "m1");
    let left = run(of(&config, &["--no-repair", "--json"])).await;
    assert_eq!((left.code, results(&left)), (Some(3), json!({"m1": "damaged", "m2": "good"})));
    let repaired = run_in_chinese(of(&config, &[])).await;
    assert_eq!(repaired.code, Some(3));
    assert!(repaired.output.contains("已损坏，已重新拉取"), "{}", repaired.output);
    assert!(repaired.output.contains("2 个会议包"));
    let bytes = std::fs::read(storage.join("meeting_m1/package.zip")).unwrap();
    assert!(bytes == big_zip(300_000, 1));
    assert_eq!(run(of(&config, &[])).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_and_a_main_server_what_is_damaged_does_not_stay() {
    let main = main_with_two().await;
    let folder = at_rest(&main).await;
    let config = folder.config_path().to_str().unwrap().to_owned();
    main.go_away().await;
    rot(&folder.storage(), "m1");
    // Its manifest does not fit any more; the archive itself is sound.
    let lone = folder.storage().join("meeting_m2/manifest.json");
    std::fs::remove_file(lone).unwrap();
    let found = run(of(&config, &["--json"])).await;
    assert_eq!((found.code, results(&found)), (Some(3), json!({"m1": "lost", "m2": "good"})));
    assert!(!folder.storage().join("meeting_m1/package.zip").exists());
    let after = run(of(&config, &["--json"])).await;
    assert_eq!((after.code, results(&after)), (Some(0), json!({"m2": "good"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_in_use_is_left_to_the_node_that_uses_it() {
    let main = main_with_two().await;
    let port = crate::support::node::free_port();
    let node = running(&main, json!({"nodePort": port})).await;
    let config = node.config_path();
    let good = run(of(config.to_str().unwrap(), &[])).await;
    assert_eq!(good.code, Some(0), "{}", good.errors);
    assert!(good.output.starts_with(&format!("http://127.0.0.1:{port}: 2 packages")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_an_operator_and_says_so() {
    let main = main_with_two().await;
    let node = running(&main, json!({"security": {"trustLocal": false}})).await;
    let url = node.url("");
    let stranger = run(["verify", "--node", &url]).await;
    stranger.refused(1, &["asks for a login", "EDGE_MIRROR_TOKEN", "edge-mirror token --new"]);
    let wrong = run(["verify", "--node", &url, "--token", "nonsense"]).await;
    wrong.refused(1, &["does not accept the token", "edge-mirror token --new"]);
    assert_eq!(run_with_token(["verify", "--node", &url], &node.new_token()).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_on_one_line() {
    let gone = format!("http://{}", nobody());
    run(["verify", "--node", &gone]).await.refused(1, &["cannot reach", "is it running"]);
    run(of("/no/such.json", &[])).await.refused(1, &["/no/such.json", "--node"]);
    let folder = NodeFolder::of(&nobody().to_string());
    let config = folder.config_path();
    let none = run(of(config.to_str().unwrap(), &[])).await;
    none.refused(1, &["there is no storage folder", "storage.path"]);
    assert!(!folder.storage().exists(), "looking makes none");
}
