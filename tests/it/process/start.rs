//! How the binary starts, or says in one line why it does not.

use serde_json::{Value, json};

use crate::support::{
    client,
    node::free_port,
    process::{NodeFolder, NodeProcess, Process, binary, plain_environment, run},
    until, zip_of,
};

/// Nothing that tests do is answered there.
fn nobody() -> String {
    // Whoever asks for any free port gets a higher one.
    "127.0.0.1:1".to_owned()
}

/// The one line that the binary ends with.
fn refusal(args: &[&str]) -> String {
    let (code, output, errors) = run(args);
    assert!(code.is_some_and(|code| code != 0), "{code:?} {errors}");
    assert_eq!((output.as_str(), errors.lines().count()), ("", 1), "{errors}");
    assert!(errors.starts_with("edge-mirror: ") && errors.ends_with('\n'), "{errors}");
    let said = errors.trim_end().split(": ").collect::<Vec<_>>();
    let again = said.iter().enumerate().find(|(at, part)| said[..*at].contains(part));
    assert!(again.is_none(), "said twice: {again:?} in {errors}");
    assert!(!errors.contains("panicked") && !errors.contains("backtrace"), "{errors}");
    errors
}

#[test]
fn help_and_version_are_complete() {
    let (code, help, errors) = run(["--help"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in ["node", "master", "demo", "--config", "--host", "--port", "--version"] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
    for (role, parts) in [
        ("node", &["--config", "node_config.json", "--host", "IPv4 and IPv6", "--port"][..]),
        ("master", &["--data", "--host", "IPv4 and IPv6", "--port", "8000"]),
        ("demo", &["Ctrl-C"]),
    ] {
        let (code, help, errors) = run([role, "--help"]);
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{role}");
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(parts.iter().all(|part| help.contains(part)), "{role}\n{help}");
    }
    let version = concat!("edge-mirror ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run(["--version"]), (Some(0), version.to_owned(), String::new()));
}

#[test]
fn a_wrong_argument_is_refused_in_one_line_that_names_it() {
    for (args, part) in [
        (&["--prot", "1"][..], "--port"),
        (&["node", "--port", "70000"], "70000"),
        (&["node", "--host", "nowhere"], "nowhere"),
        (&["nod"], "nod"),
        (&["master", "--confg", "x"], "--config"),
        (&["demo", "--port", "1"], "--port"),
    ] {
        let line = refusal(args);
        assert!(line.contains(part) && line.contains("--help"), "{line}");
    }
}

#[test]
fn a_main_servers_file_is_shown_as_it_counts_or_refused_with_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.json");
    let path = path.to_str().unwrap();
    std::fs::write(path, r#"{"port": 8123, "nodes": "approve"}"#).unwrap();
    let (code, shown, errors) =
        run(["master", "--config", path, "--nodes", "open", "--print-config"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["port"], &shown["nodes"]), (&json!(8123), &json!("open")));
    std::fs::write(path, r#"{"port": 99999, "colour": 1}"#).unwrap();
    let line = refusal(&["master", "--config", path]);
    for part in [format!("{path}: port = 99999"), format!("{path}: colour")] {
        assert!(line.contains(&part), "{line}");
    }
}

#[test]
fn a_configuration_that_can_not_be_used_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let line = refusal(&["node", "--config", folder.path().to_str().unwrap()]);
    assert!(line.contains("cannot read") && line.contains(folder.path().to_str().unwrap()));

    let path = folder.path().join("node_config.json");
    let path = path.to_str().unwrap();
    let invalid = r#"{
        "mainServerPort": 0, "syncInterval": "ten", "nodeId": "a b", "mainServer": "typo",
        "storage": {"maxSize": 1}, "logging": "DEBUG"
    }"#;
    let every_problem = [
        "mainServerPort = 0",
        "1 to 65535",
        "syncInterval = \"ten\"",
        "nodeId = \"a b\"",
        "storage.maxSize = 1",
        "logging = \"DEBUG\"",
    ];
    let contradiction = r#"{"mainServerIp": "127.0.0.1", "tls": {"cert": "node.pem"}}"#;
    let log_over_key = r#"{"mainServerIp": "127.0.0.1", "mainServerCa": "./main.pem",
        "logging": {"filePath": "main.pem"}}"#;
    for (content, parts) in [
        ("{\"mainServerIp\": ", &["not valid JSON", "line 1"][..]),
        ("", &["not valid JSON"]),
        ("[]", &["one object"]),
        ("<html></html>", &["not valid JSON"]),
        (invalid, &every_problem),
        (contradiction, &["tls.key"]),
        (log_over_key, &["logging.filePath", "日志不能写入", "certificate or a key"]),
    ] {
        std::fs::write(path, content).unwrap();
        let line = refusal(&["node", "--config", path]);
        for part in parts.iter().chain([&path]) {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), content);
        let entries = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(entries, 1, "nothing is made before the configuration is valid");
    }
}

/// As the Python node saves it after its own heartbeat call, with a port from a
/// form, a number from a script, and a level that only Python has.
fn python_nodes_file(main_server_port: u16) -> String {
    format!(
        r#"{{
    "mainServerIp": "127.0.0.1",
    "mainServerPort": "{main_server_port}",
    "syncInterval": 10.0,
    "nodeId": "node-12345678",
    "nodePort": "8001",
    "publicIp": null,
    "publicPort": null,
    "usePublicAddress": false,
    "storage": {{
        "path": "./storage",
        "maxSize": 10737418240,
        "cleanupThreshold": 0.9,
        "autoCleanup": true
    }},
    "network": {{
        "maxConcurrentDownloads": 3,
        "downloadTimeout": 300,
        "connectionTimeout": 10,
        "retryCount": 3,
        "retryDelay": 5
    }},
    "logging": {{
        "level": "CRITICAL",
        "fileEnabled": false,
        "filePath": "./logs/node.log",
        "maxFileSize": 10485760,
        "backupCount": 5
    }},
    "heartbeat": {{
        "interval": 30,
        "timeout": 30
    }},
    "cleanup": {{
        "enabled": true,
        "cleanOnStartup": true,
        "cleanEndedMeetings": true
    }}
}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_nodes_file_is_run_with_and_corrected_by_the_next_save() {
    let folder = NodeFolder::of(&nobody());
    let text = python_nodes_file(free_port()).replace("CRITICAL", "WARN");
    std::fs::write(folder.config_path(), &text).unwrap();
    let mut command = folder.command();
    // Its line about listening is one at INFO.
    command.env("EDGE_MIRROR_LOGGING__LEVEL", "INFO");
    let node = NodeProcess::of(command).await;
    let log = node.process.errors.get();
    let readings = [
        "mainServerPort = \"",
        "syncInterval = 10.0: 按 10 处理 / taken as 10",
        "nodePort = \"8001\"",
        "logging.level = \"WARN\"",
        "heartbeat.timeout = 30: 按 90 处理 / taken as 90",
    ];
    for reading in readings {
        assert_eq!(log.matches(reading).count(), 1, "{reading} in {log}");
    }
    assert_eq!(log.matches("read leniently").count(), readings.len(), "{log}");
    assert_eq!(std::fs::read_to_string(folder.config_path()).unwrap(), text);
    node.configure(json!({"network": {"retryCount": 4}})).await;
    let saved = folder.config();
    assert_eq!(saved["heartbeat"], json!({"interval": 30, "timeout": 90}));
    assert_eq!((&saved["nodePort"], &saved["syncInterval"]), (&json!(8001), &json!(10)));
}

#[test]
fn commands_and_install_take_the_python_nodes_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node_config.json");
    std::fs::write(&config, python_nodes_file(9)).unwrap();
    let file = config.to_str().unwrap();
    let (code, said, errors) = run(["config", "check", "--config", file]);
    assert_eq!((code, errors.lines().count()), (Some(0), 5), "{said} {errors}");
    let (code, said, _) = run(["config", "get", "--config", file, "logging.level"]);
    assert_eq!((code, said.as_str()), (Some(0), "ERROR\n"));
    let root = tempfile::tempdir().unwrap();
    let (root, old) = (root.path().to_str().unwrap(), folder.path().to_str().unwrap());
    let (code, said, errors) = run(["install", "--root", root, "--adopt", old, "--yes"]);
    assert_eq!(code, Some(0), "{said} {errors}");
    assert!(said.contains("heartbeat.timeout = 30: 按 90 处理 / taken as 90\n"), "{said}");
    let installed = std::fs::read(format!("{root}/etc/edge-mirror/node_config.json")).unwrap();
    let installed: Value = serde_json::from_slice(&installed).unwrap();
    assert_eq!(installed["mainServerPort"], 9);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), python_nodes_file(9));
}

#[test]
fn a_taken_port_is_one_line_whatever_else_there_is_to_say() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = NodeFolder::of(&nobody()).with(json!({"unknownKey": 1}));
    std::fs::create_dir_all(folder.storage().join("meeting_m1")).unwrap();
    std::fs::write(folder.storage().join("meeting_m1/package.zip"), zip_of("papers")).unwrap();
    let before = folder.config_bytes();
    let config = folder.config_path();
    let config = config.to_str().unwrap();
    let line = refusal(&["node", "--config", config, "--host", "127.0.0.1", "--port", &port]);
    assert!(line.contains(&port) && line.contains("--port"), "{line}");
    assert_eq!(folder.config_bytes(), before);

    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let line = refusal(&["master", "--data", path, "--host", "127.0.0.1", "--port", &port]);
    assert!(line.contains(&port), "{line}");
    let made = std::fs::read_dir(data.path()).unwrap().count();
    assert_eq!(made, 0, "what may be another one's data is not touched");
}

#[test]
fn a_folder_that_is_a_file_is_one_line_that_names_it() {
    let folder = NodeFolder::of(&nobody()).with(json!({"unknownKey": 1}));
    std::fs::write(folder.storage(), "a file").unwrap();
    let before = folder.config_bytes();
    let config = folder.config_path();
    let config = config.to_str().unwrap();
    let line = refusal(&["node", "--config", config, "--host", "127.0.0.1", "--port", "0"]);
    let storage = folder.storage();
    let storage = storage.to_str().unwrap();
    assert!(line.contains(storage) && line.contains("storage.path"), "{line}");
    assert_eq!(folder.config_bytes(), before);
    let line = refusal(&["master", "--data", storage, "--host", "127.0.0.1", "--port", "0"]);
    assert!(line.contains(storage) && line.contains("--data"), "{line}");
}

#[test]
fn a_missing_configuration_is_written_with_defaults_and_an_id_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node_config.json");
    // Not as a process: by default it would call 192.168.110.10.
    let first = edge_mirror_settings::Settings::load_or_create(&path).unwrap().current();
    let written = std::fs::read(&path).unwrap();
    let document: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(document["mainServerIp"], "192.168.110.10");
    assert_eq!(document["nodePort"], 8001);
    let id = document["nodeId"].as_str().unwrap();
    let digits = id.strip_prefix("node-").unwrap();
    assert!(digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let again = edge_mirror_settings::Settings::load_or_create(&path).unwrap().current();
    assert_eq!((first.node_id.as_str(), again.node_id.as_str()), (id, id));
    assert_eq!(std::fs::read(&path).unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_command_it_is_a_node_whose_port_option_is_not_saved() {
    let saved_port = free_port();
    let folder = NodeFolder::of(&nobody()).with(json!({"nodePort": saved_port}));
    let before = folder.config_bytes();
    let mut command = binary();
    command.args(["--host", "127.0.0.1", "--port", "0"]).current_dir(folder.path());
    let node = NodeProcess::of(command).await;
    let status = node.status().await;
    assert_eq!(status["node_id"], "node-test");
    assert_eq!(status["node_port"], node.address().port());
    assert_eq!(folder.config_bytes(), before);
    node.configure(json!({"syncInterval": 7})).await;
    let config = folder.config();
    assert_eq!((&config["nodePort"], &config["syncInterval"]), (&json!(saved_port), &json!(7)));
    assert_eq!(node.status().await["node_port"], node.address().port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_one_uses_is_refused() {
    let folder = NodeFolder::of(&nobody());
    let _running = folder.start().await;
    let path = folder.config_path();
    let config = path.to_str().unwrap();
    let line = refusal(&["node", "--config", config, "--host", "127.0.0.1", "--port", "0"]);
    assert!(line.contains("in use by another edge-mirror"), "{line}");

    let data = folder.path().join("data");
    let args = ["master", "--data", data.to_str().unwrap(), "--host", "127.0.0.1", "--port", "0"];
    let mut first = Process::spawn({
        let mut command = binary();
        command.args(args);
        command
    });
    first.until_listening().await;
    let line = refusal(&args);
    assert!(line.contains("in use by another edge-mirror"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_left_clients_are_told_to_come_back_and_then_served() {
    use std::{io::Read, net::TcpStream, time::Duration};
    let folder = NodeFolder::of(&nobody());
    let plain = folder.command();
    let mut limited = std::process::Command::new("sh");
    plain_environment(&mut limited);
    limited.args(["-c", "ulimit -n 60 && exec \"$0\" \"$@\""]);
    limited.arg(plain.get_program()).args(plain.get_args());
    let node = NodeProcess::of(limited).await;
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(node.address()).unwrap()).collect();
    let turned_away = crowd.iter().any(|mut client| {
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut said = [0; 64];
        let read = client.read(&mut said).unwrap_or(0);
        said[..read].starts_with(b"HTTP/1.1 503 ")
    });
    assert!(turned_away);
    drop(crowd);
    until("somebody is served", async || {
        let asked = client().get(node.url("/api/status")).send().await;
        asked.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await;
}
