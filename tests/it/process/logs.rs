//! The log file.

use std::path::Path;

use chrono::NaiveDateTime;
use serde_json::json;

use crate::support::{
    client,
    node::free_port,
    process::{NodeFolder, NodeProcess, Process},
    until,
};

/// Level and text of `YYYY-MM-DD HH:MM:SS - file_node - LEVEL - text`.
fn parsed(line: &str) -> (&str, &str) {
    let mut parts = line.splitn(4, " - ");
    let mut part = || parts.next().unwrap_or_else(|| panic!("not a line of the log: {line:?}"));
    let time = part();
    assert_eq!(time.len(), "2023-05-15 10:15:30".len(), "{line:?}");
    NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect(line);
    assert_eq!(part(), "file_node", "{line:?}");
    let level = part();
    assert!(["DEBUG", "INFO", "WARNING", "ERROR"].contains(&level), "{line:?}");
    (level, part())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Saves settings until the log file holds what is looked for.
async fn save_until<T>(node: &NodeProcess, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let mut interval = 1;
    until(what, async || {
        interval = interval % 3600 + 1;
        node.configure(json!({"syncInterval": interval})).await;
        found()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_file_has_its_format_and_is_rotated_by_size() {
    let small = json!({"logging": {
        "fileEnabled": true, "filePath": "./logs/node.log", "maxFileSize": 2048, "backupCount": 2,
    }});
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(small);
    let mut node = folder.start().await;
    let log = folder.path().join("logs/node.log");
    until("the line about listening", async || {
        let text = read(&log);
        let mut lines = text.lines().map(parsed);
        let address = node.address().to_string();
        lines.find(|(level, text)| *level == "INFO" && text.contains(&address)).map(drop)
    })
    .await;
    let old = |number: u32| folder.path().join(format!("logs/node.log.{number}"));
    let oldest =
        save_until(&node, "two old files", || Some(read(&old(2))).filter(|t| !t.is_empty()));
    let oldest = oldest.await;
    save_until(&node, "the oldest replaced", || (read(&old(2)) != oldest).then_some(())).await;
    // In order: a kill may fall between two renames.
    node.process.signal("TERM");
    assert_eq!(node.process.until_ended().await.code(), Some(0));
    for path in [log, old(1), old(2)] {
        let text = read(&path);
        assert!(text.len() <= 2048, "{} has {} bytes", path.display(), text.len());
        text.lines().for_each(|line| {
            parsed(line);
        });
    }
    let files = std::fs::read_dir(folder.path().join("logs")).unwrap().count();
    assert_eq!(files, 4, "not more than backupCount says, and what was changed");
}

/// A node that logs errors only, serving.
async fn quiet_node(file_enabled: bool) -> (NodeFolder, NodeProcess) {
    let logging = json!({"level": "ERROR", "fileEnabled": file_enabled});
    let quiet = json!({"logging": logging, "nodePort": free_port()});
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(quiet);
    let port = folder.config()["nodePort"].as_u64().unwrap();
    let mut command = crate::support::process::binary();
    command.args(["--host", "127.0.0.1", "--config"]).arg(folder.config_path());
    let process = Process::spawn(command);
    let node = NodeProcess::at(process, ([127, 0, 0, 1], u16::try_from(port).unwrap()).into());
    let served = async || std::net::TcpStream::connect(node.address()).ok().map(drop);
    until("it serves", served).await;
    (folder, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_have_a_file_of_their_own_whatever_the_level_is() {
    let (folder, node) = quiet_node(true).await;
    node.configure(json!({"syncInterval": 2})).await;
    let code =
        crate::support::process::run(["token", "--config", folder.config_path().to_str().unwrap()])
            .1;
    let code = code.split_once("#login=").unwrap().1.split_whitespace().next().unwrap();
    let log_in = async |token: &str| {
        let login = client().post(node.url("/api/login")).json(&json!({"token": token}));
        login.send().await.unwrap().status().as_u16()
    };
    assert_eq!((log_in("wrong").await, log_in(code).await), (401, 200));
    // A question changes nothing.
    let asked = client().post(node.url("/api/config/check")).json(&json!({"syncInterval": 3}));
    assert!(asked.send().await.unwrap().status().is_success());
    client().post(node.url("/api/service/stop")).send().await.unwrap();
    let trail = || read(&folder.path().join("logs/node.audit.log"));
    let lines = [
        "INFO - configuration changed: syncInterval",
        "INFO - POST /api/config by 127.0.0.1 (this machine): 200",
        "INFO - 127.0.0.1 has logged in",
        "INFO - POST /api/service/stop by 127.0.0.1 (this machine): 200",
    ];
    for line in lines {
        until(line, async || trail().contains(line).then_some(())).await;
    }
    let trail = trail();
    assert_eq!(trail.lines().map(parsed).count(), lines.len(), "{trail}");
    let log = read(&folder.path().join("logs/node.log"));
    assert!(!log.contains(" - INFO - "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_log_files_changes_are_on_the_console_whatever_the_level_is() {
    let (folder, node) = quiet_node(false).await;
    node.configure(json!({"syncInterval": 2})).await;
    let line = "INFO - POST /api/config by 127.0.0.1 (this machine): 200";
    let said = || node.process.errors.get();
    until("the change", async || said().contains(line).then_some(())).await;
    assert!(!said().contains("is listening"), "{}", said());
    assert!(!folder.path().join("logs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_server_keeps_what_was_changed_beside_its_data() {
    let data = tempfile::tempdir().unwrap();
    let mut command = crate::support::process::binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(data.path());
    let mut process = Process::spawn(command);
    let url = format!("http://{}/api/v1/meetings", process.until_listening().await);
    let made = client().post(&url).json(&json!({"id": "m1", "title": "T"})).send().await.unwrap();
    assert!(made.status().is_success());
    client().post(format!("{url}/m1/start")).send().await.unwrap();
    let line =
        "main_server - INFO - POST /api/v1/meetings/m1/start by 127.0.0.1 (this machine): 200";
    let trail = || read(&data.path().join("audit.log"));
    until("the start", async || trail().contains(line).then_some(())).await;
    assert!(trail().contains("POST /api/v1/meetings by 127.0.0.1 (this machine): "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_python_node_is_gone_on_with_and_another_file_is_left_alone() {
    let logged = json!({"logging": {"fileEnabled": true, "filePath": "./logs/node.log"}});
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(logged);
    let log = folder.path().join("logs/node.log");
    std::fs::create_dir(log.parent().unwrap()).unwrap();
    let old = "2023-05-15 10:15:30 - file_node - INFO - 文件服务节点已启动 [ID: node-1234]\n";
    std::fs::write(&log, old).unwrap();
    let node = folder.start().await;
    let goes_on = || read(&log).strip_prefix(old).is_some_and(|new| new.contains("is listening"));
    until("lines after the old ones", async || goes_on().then_some(())).await;
    drop(node);

    std::fs::write(&log, "notes of somebody\n").unwrap();
    let node = folder.start().await;
    let said = "ERROR - logging.filePath = \"./logs/node.log\": 已有其他文件";
    until("the reason", async || node.process.errors.get().contains(said).then_some(())).await;
    node.configure(json!({"syncInterval": 2})).await;
    assert_eq!(read(&log), "notes of somebody\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_changes_while_it_runs() {
    let quiet =
        json!({"logging": {"level": "WARNING", "fileEnabled": true}, "nodePort": free_port()});
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(quiet);
    let log = folder.path().join("logs/node.log");
    let levels =
        || -> Vec<String> { read(&log).lines().map(|line| parsed(line).0.to_owned()).collect() };
    let port = folder.config()["nodePort"].as_u64().unwrap();
    let mut command = crate::support::process::binary();
    command.args(["--host", "127.0.0.1", "--config"]).arg(folder.config_path());
    let process = crate::support::process::Process::spawn(command);
    let node = NodeProcess::at(process, ([127, 0, 0, 1], u16::try_from(port).unwrap()).into());
    // Its main server is not there: that it has to say.
    until("it serves and complains", async || {
        let served = std::net::TcpStream::connect(node.address()).is_ok();
        (served && levels().contains(&"WARNING".to_owned())).then_some(())
    })
    .await;
    assert!(!levels().contains(&"INFO".to_owned()), "{}", read(&log));

    node.configure(json!({"logging": {"level": "INFO"}})).await;
    save_until(&node, "lines at INFO", || levels().contains(&"INFO".to_owned()).then_some(()))
        .await;
    assert!(!levels().contains(&"DEBUG".to_owned()), "{}", read(&log));
    node.configure(json!({"logging": {"level": "DEBUG"}, "syncInterval": 1})).await;
    until("lines at DEBUG", async || levels().contains(&"DEBUG".to_owned()).then_some(())).await;
    assert_eq!(folder.config()["logging"]["level"], "DEBUG");
}

/// What a line that is an object says, and its level.
fn object(line: &str) -> (String, String) {
    let read: serde_json::Value = serde_json::from_str(line).expect(line);
    let of = |key: &str| read[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}"));
    chrono::DateTime::parse_from_rfc3339(of("time")).expect(line);
    assert_eq!(of("name"), "file_node", "{line}");
    (of("level").to_owned(), of("message").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_objects_where_that_is_asked_for() {
    let asked = json!({"logging": {"fileEnabled": true, "format": "json"}});
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(asked);
    let node = folder.start().await;
    let log = folder.path().join("logs/node.log");
    let listens = || {
        let text = read(&log);
        let mut lines = text.lines().map(object);
        lines.find(|(level, text)| level == "INFO" && text.contains("is listening on")).map(drop)
    };
    until("the line about listening", async || listens()).await;
    node.configure(json!({"logging": {"format": "text"}})).await;
    save_until(&node, "lines of text", || {
        let text = read(&log);
        text.lines().any(|line| line.contains(" - file_node - INFO - ")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_told_priorities_and_no_time_twice() {
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port()));
    let (console, stderr) = std::io::pipe().unwrap();
    let is = rustix::fs::fstat(&stderr).unwrap();
    let mut command = folder.command();
    command.env("JOURNAL_STREAM", format!("{}:{}", is.st_dev, is.st_ino));
    let process = Process::with_console(command, console, stderr);
    let node = NodeProcess::listening(process).await;
    let lines = || node.process.errors.get();
    let found = |begin: &str, end: &str| {
        lines().lines().any(|line| line.starts_with(begin) && line.contains(end))
    };
    assert!(found("<6>node ", "is listening on"), "{}", lines());
    // Its main server is not there.
    until("a warning", async || found("<4>", "main server").then_some(())).await;
    assert!(lines().lines().all(|line| !line.contains(" - file_node - ")), "{}", lines());
    node.configure(json!({"logging": {"format": "json"}})).await;
    save_until(&node, "objects", || found("<6>{\"time\":", "}").then_some(())).await;
}
