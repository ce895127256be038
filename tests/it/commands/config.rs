//! `edge-mirror config`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use super::{command, ended_into, nobody, run, run_in_chinese};
use crate::support::{ScriptedMain, TestNode, process::NodeFolder, until};

fn folder() -> (NodeFolder, String) {
    let folder = NodeFolder::of(&nobody().to_string());
    let config = folder.config_path().to_str().unwrap().to_owned();
    (folder, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_read_and_changed_in_the_file() {
    let (folder, config) = folder();
    let get =
        async |keys: &[&str]| run([&["config", "get", "--config", &config], keys].concat()).await;
    assert_eq!(get(&["mainServerIp"]).await.output, "127.0.0.1\n");
    let all = get(&[]).await.output;
    assert!(all.contains("mainServerIp=127.0.0.1\n") && all.contains("storage.autoCleanup=true\n"));
    assert_eq!(get(&["syncInterval", "--json"]).await.json(), json!({"syncInterval": 1}));

    let set = async |changes: &[&str]| {
        run([&["config", "set", "--config", &config], changes].concat()).await
    };
    let done = set(&["syncInterval=7", "storage.maxSize=50000000"]).await;
    assert_eq!((done.code, done.output.contains("changed")), (Some(0), true));
    let saved = folder.config();
    assert_eq!(
        (&saved["syncInterval"], &saved["storage"]["maxSize"]),
        (&json!(7), &json!(50_000_000))
    );
    assert_eq!(saved["nodeId"], "node-test", "the rest stays");
    assert_eq!(set(&["storage.maxSize=10GiB", "mainServerIp=127.0.0.1:81"]).await.code, Some(0));
    assert_eq!(get(&["storage.maxSize"]).await.output, "10737418240\n");
    assert_eq!(get(&["mainServerPort"]).await.output, "81\n");
    set(&["storage.maxSize=10KB"]).await.refused(1, &["at least 1 MiB"]);
    assert!(set(&["syncInterval=7"]).await.output.contains("unchanged"));
    let told = set(&["publicIp=10.0.0.9", "--json"]).await.json();
    assert_eq!(told["changed"], true);
    assert!(set(&["publicIp=null"]).await.output.contains("changed"));
    assert_eq!(get(&["publicIp"]).await.output, "null\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_further_is_no_failure_and_a_full_disk_is() {
    let (_folder, file) = folder();
    let printed = async |output: std::process::Stdio| {
        let mut command = command(["config", "get", "--config", &file]);
        command.stdout(output);
        ended_into(command).await
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = printed(writer.into()).await;
    assert_eq!((gone.code, gone.errors.as_str()), (Some(0), ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    printed(full.into()).await.refused(1, &["cannot print it: No space left on device"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_valid_changes_nothing_and_names_the_mend() {
    let (folder, config) = folder();
    let before = folder.config_bytes();
    let set = async |change: &str| {
        run(["config", "set", "--config", &config, "syncInterval=9", change]).await
    };
    set("nodePort=0").await.refused(1, &["nodePort = 0", "from 1 to 65535"]);
    set("syncIntervall=5").await.refused(1, &["syncIntervall", "did you mean syncInterval?"]);
    set("nodeId=other").await.refused(1, &["nodeId", "can't be changed"]);
    set("nodePort").await.refused(2, &["KEY=VALUE is needed"]);
    assert_eq!(folder.config_bytes(), before);
    let get = run(["config", "get", "--config", &config, "syncIntervall"]).await;
    get.refused(1, &["did you mean syncInterval?"]);
    let none = run(["config", "set", "--config", "/no/such.json", "syncInterval=5"]).await;
    none.refused(1, &["cannot read /no/such.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_mistakes_from_none_without_touching_the_file() {
    let (folder, config) = folder();
    let check = async |changes: &[&str]| {
        run([&["config", "check", "--config", &config], changes].concat()).await
    };
    let good = check(&[]).await;
    assert_eq!((good.code, good.output.contains("no problems found")), (Some(0), true));
    let would = check(&["syncInterval=0", "nodePortt=1"]).await;
    assert_eq!(would.code, Some(3));
    for part in
        ["syncInterval = 0: must be a whole number from 1 to 3600", "did you mean nodePort?"]
    {
        assert!(would.output.contains(part), "{part}");
    }
    let chinese = run_in_chinese(["config", "check", "--config", &config, "syncInterval=0"]).await;
    assert!(chinese.output.contains("应为"));
    let told = check(&["syncInterval=0", "--json"]).await.json();
    assert_eq!(told["problems"][0]["key"], "syncInterval");

    let broken = r#"{"nodeId": "n", "syncInterval": -1, "storagee": 1}"#;
    std::fs::write(folder.config_path(), broken).unwrap();
    let found = check(&[]).await;
    assert_eq!((found.code, found.output.contains("syncInterval = -1")), (Some(3), true));
    assert_eq!(folder.config_bytes(), broken.as_bytes());
    std::fs::write(folder.config_path(), "{").unwrap();
    check(&[]).await.refused(1, &["not valid JSON"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_is_changed_as_its_panel_does() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let url = node.url("");
    let get = async |key: &str| run(["config", "get", key, "--node", &url]).await.output;
    let done = run(["config", "set", "syncInterval=7", "--node", &url]).await;
    assert_eq!((done.code, get("syncInterval").await.as_str()), (Some(0), "7\n"));
    let same = run(["config", "set", "syncInterval=7", "--node", &url]).await;
    assert!(same.output.contains("unchanged"));
    let wrong = run(["config", "set", "syncInterval=0", "--node", &url]).await;
    wrong.refused(1, &["answered 400", "syncInterval = 0", "from 1 to 3600"]);
    let check = run(["config", "check", "syncInterval=0", "--node", &url]).await;
    assert_eq!((check.code, check.output.contains("syncInterval = 0")), (Some(3), true));
    assert_eq!(run(["config", "check", "--node", &url]).await.code, Some(0));

    // And one whose file is changed takes that in.
    let config = node.config_path();
    let done = run(["config", "set", "syncInterval=8", "--config", config.to_str().unwrap()]).await;
    assert_eq!(done.code, Some(0));
    until("the node follows", async || (get("syncInterval").await == "8\n").then_some(())).await;

    node.configure(json!({"security": {"trustLocal": false}})).await;
    let stranger = run(["config", "get", "--node", &url]).await;
    stranger.refused(1, &["asks for a login", "EDGE_MIRROR_TOKEN"]);
    let token = node.new_token();
    let known = run(["config", "get", "nodeId", "--node", &url, "--token", &token]).await;
    assert_eq!(known.output, "node-test\n");
    let _: Value = run(["config", "get", "--node", &url, "--token", &token, "--json"]).await.json();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_leaves_the_file_to_whoever_has_it() {
    // Nobody else can give files away: tests/nextest leaves this out then.
    let (folder, config) = folder();
    std::os::unix::fs::chown(&config, Some(12_345), Some(12_346)).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(run(["config", "set", "--config", &config, "syncInterval=7"]).await.code, Some(0));
    let after = std::fs::metadata(folder.config_path()).unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode() & 0o777), (12_345, 12_346, 0o640));
}
