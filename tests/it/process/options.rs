//! Options of a main server that runs: its file is followed.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    client,
    process::{Process, binary},
    until,
};

struct FollowedServer {
    process: Process,
    url: String,
}

impl FollowedServer {
    async fn start(file: &Path) -> Self {
        let mut command = binary();
        command.args(["master", "--host", "127.0.0.1", "--config"]).arg(file);
        let mut process = Process::spawn(command);
        let url = format!("http://{}/api/v1/overview", process.until_listening().await);
        Self { process, url }
    }

    /// Waits for an overview of this policy, and options of which this is said.
    async fn until(&self, policy: &str, problem: Option<&str>) -> (Value, String) {
        let begins = |code: &Value| code.as_str().is_some_and(|code| code.starts_with("options_"));
        until(&format!("{policy}, {problem:?}"), async || {
            let overview: Value = client().get(&self.url).send().await.ok()?.json().await.ok()?;
            let problems = overview["problems"].as_array()?;
            let found = problems.iter().find(|problem| begins(&problem["code"]));
            let is_said =
                found.map(|found| &found["code"]) == problem.map(|code| json!(code)).as_ref();
            let said = found.map_or(String::new(), ToString::to_string);
            (overview["policy"] == policy && is_said).then(|| (overview["options"].clone(), said))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_takes_effect_or_waits_for_a_restart_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.json");
    let write = |options: Value| std::fs::write(&file, options.to_string()).unwrap();
    write(json!({"port": 0, "data": "data"}));
    let server = FollowedServer::start(&file).await;
    let (options, _) = server.until("approve", None).await;
    assert_eq!(options["file"], file.to_str().unwrap());
    let option = |options: &Value, name: &str| {
        let all = options["options"].as_array().unwrap();
        all.iter().find(|option| option["name"] == name).unwrap().clone()
    };
    assert_eq!(option(&options, "data")["source"], "file");
    assert_eq!(option(&options, "host")["source"], "command_line");

    write(json!({"port": 9, "data": "data", "nodes": "open"}));
    let (options, said) = server.until("open", Some("options_need_restart")).await;
    assert_eq!(
        (&options["waiting"], &option(&options, "port")["value"]),
        (&json!(["port"]), &json!(0))
    );
    assert!(said.contains(r#""names":"port""#), "{said}");

    write(json!({"port": 0, "data": "data", "nodes": "some"}));
    let (options, said) = server.until("open", Some("options_unusable")).await;
    assert!(said.contains("nodes = some"), "{said}");
    assert_eq!(option(&options, "nodes")["value"], "open");

    write(json!({"port": 0, "data": "data"}));
    server.process.signal("HUP");
    let (options, _) = server.until("approve", None).await;
    assert_eq!(options["waiting"], json!([]));
}
