//! Attacks on what operators rely on: the trail of changes, and files that the
//! settings must not reach.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::json;

use super::{Attack, tries};
use crate::support::{
    client,
    node::free_port,
    process::{NodeFolder, NodeProcess},
    until,
};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Nothing that it does is answered by a main server.
fn lonely(patch: serde_json::Value) -> NodeFolder {
    NodeFolder::of(&format!("127.0.0.1:{}", free_port())).with(patch)
}

/// Calls that a stranger makes, as many at a time as a script would.
async fn refused_calls(node: &NodeProcess, count: usize) {
    let (client, url) = (client(), node.url("/api/config"));
    let calls = stream::iter(0..count).map(|_| {
        let call = client.post(&url).header("host", "panel.test").json(&json!({"nodePort": 1}));
        async move { call.send().await.unwrap().status() }
    });
    let mut answers = calls.buffer_unordered(16);
    while let Some(status) = answers.next().await {
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_do_not_rotate_away_what_was_changed() {
    let (rounds, calls) = (tries(1, 3), tries(2_000, 50_000));
    let mut kept = 0;
    let mut lines = 0;
    for round in 0..rounds {
        let folder = lonely(json!({
            "logging": {"fileEnabled": true, "maxFileSize": 65_536, "backupCount": 1},
        }));
        let mut node = folder.start().await;
        node.configure(json!({"network": {"retryCount": round + 7}})).await;
        refused_calls(&node, calls).await;
        node.process.signal("TERM");
        node.process.until_ended().await;
        let log = |name: &str| read(&folder.path().join("logs").join(name));
        let (log, trail) = (log("node.log.1") + &log("node.log"), log("node.audit.log"));
        let named = log.matches("POST /api/config from 127.0.0.1 refused").count();
        lines = lines.max(named);
        let has = |text: &str| {
            text.contains("POST /api/config by 127.0.0.1 (this machine): 200")
                && text.contains("configuration changed: network")
        };
        let number = |line: &str| -> Option<usize> {
            let (number, _) = line.split_once("- refused ")?.1.split_once(" more calls of")?;
            number.parse().ok()
        };
        let summed: usize = log.lines().filter_map(number).sum();
        let told = summed + named == calls;
        kept += usize::from(has(&log) && has(&trail) && !trail.contains("refused") && told);
    }
    let attack = Attack {
        fault: "calls that are refused, as many as a log of 128 KiB has room for and more",
        promise: "what was changed, and by whom, stays in the log and in the audit log; the log tells how many were refused",
    };
    let measured = format!("{calls} refused calls are {lines} lines");
    attack.report(rounds, kept, &measured);
}

const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";

/// Paths by which a log would reach a key: itself, a link to it, and a name
/// that is rotated to it; each with how many old files are kept.
fn ways_to_a_key(folder: &Path) -> Vec<(PathBuf, PathBuf, u32)> {
    let key = |name: &str| {
        let key = folder.join(name);
        std::fs::write(&key, KEY).unwrap();
        key
    };
    let link = folder.join("linked.log");
    std::os::unix::fs::symlink(key("linked.key"), &link).unwrap();
    vec![
        (key("own.key"), folder.join("own.key"), 0),
        (key("kept.key"), folder.join("kept.key"), 2),
        (folder.join("linked.key"), link, 1),
        (key("next.log.1"), folder.join("next.log"), 1),
        (key("far.log.3"), folder.join("far.log"), 3),
    ]
}

/// More lines than a log of 1 KiB has room for.
async fn chatter(node: &NodeProcess) {
    for retries in 1..20 {
        node.configure(json!({"network": {"retryCount": retries}})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_reaches_no_file_that_is_no_log() {
    let rounds = tries(1, 10);
    let (mut tried, mut kept) = (0, 0);
    for _ in 0..rounds {
        let folder = lonely(json!({}));
        let mut node = folder.start().await;
        for (key, path, backups) in ways_to_a_key(folder.path()) {
            let logging = json!({
                "fileEnabled": true, "filePath": path, "maxFileSize": 1024, "backupCount": backups,
            });
            let patch = json!({"logging": logging});
            let answer = client().post(node.url("/api/config")).json(&patch).send().await.unwrap();
            let refused = answer.status() == StatusCode::BAD_REQUEST;
            let named = answer.text().await.unwrap().contains("logging.filePath");
            chatter(&node).await;
            let whole = read(&key) == KEY;
            (tried, kept) = (tried + 1, kept + usize::from(refused && named && whole));

            // By hand: the node goes on, and says what is wrong in place of writing.
            node.process.signal("TERM");
            node.process.until_ended().await;
            let mut config = folder.config();
            let good = config.clone();
            config["logging"] = logging;
            std::fs::write(folder.config_path(), config.to_string()).unwrap();
            node = folder.start().await;
            let said = || node.process.errors.get().contains("ERROR - logging.filePath = ");
            until("the reason", async || said().then_some(())).await;
            chatter(&node).await;
            (tried, kept) = (tried + 1, kept + usize::from(read(&key) == KEY));
            node.process.signal("TERM");
            node.process.until_ended().await;
            std::fs::write(folder.config_path(), good.to_string()).unwrap();
            node = folder.start().await;
        }
    }
    let attack = Attack {
        fault: "`logging.filePath` names a TLS key, a link to one, or a name that is rotated to one",
        promise: "the key is as it was, and whoever names it is told why it is refused",
    };
    attack.report(tried, kept, "by the API and in the file, with 0 to 3 old files kept");
}
