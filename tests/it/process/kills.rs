//! kill -9 at any moment.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::support::{
    ScriptedMain, client,
    node::free_port,
    process::{NodeFolder, NodeProcess, Process, binary},
    until, zip_of,
    zips::big_zip,
};

const KILLS: usize = 20;
const LARGE: usize = 14 << 20;

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

/// Downloads again and again until nobody answers; gives the whole bodies
/// that are none of `versions`.
async fn wrong_downloads(url: String, versions: Vec<Arc<Vec<u8>>>) -> Vec<usize> {
    let mut wrong = Vec::new();
    while let Ok(response) = client().get(&url).send().await {
        let status = response.status();
        let Ok(body) = response.bytes().await else { continue };
        if status == StatusCode::OK && !versions.iter().any(|version| **version == body[..]) {
            wrong.push(body.len());
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_during_a_sync_never_lead_to_a_wrong_byte() {
    let mut random = fastrand::Rng::with_seed(9);
    let main = ScriptedMain::start().await;
    main.play().drip = Some(Duration::from_millis(1));
    let folder = NodeFolder::of(&main.authority());
    let before = folder.config_bytes();
    let (package, scratch) =
        (folder.storage().join("meeting_m1/package.zip"), folder.storage().join(".scratch"));
    let mut versions = vec![Arc::new(big_zip(LARGE, 0))];
    main.activate("m1", "Board", &versions[0]);

    // How long a whole sync takes here, so that kills fall into every part of it.
    let began = Instant::now();
    let mut node = folder.start().await;
    node.until_synced("m1").await;
    let whole = began.elapsed();
    node.process.kill();

    let mut killed_while_pulling = 0;
    for kill in 1..=KILLS {
        let on_disk = std::fs::read(&package).unwrap();
        let held = versions.iter().position(|version| **version == on_disk);
        let held = held.expect("the file in place is one whole version");
        // What is to be pulled differs from what is there, by every way in turn.
        if held == versions.len() - 1 {
            versions.push(Arc::new(big_zip(LARGE, kill as u64)));
            main.activate("m1", "Board", versions.last().unwrap());
        }
        main.play().offers = kill % 3 != 0;
        main.play().ranges = kill % 3 == 1;

        let leftovers = names(&scratch);
        let moment = Instant::now() + whole.mul_f64(random.f64() * 1.05);
        let mut process = Process::spawn(folder.command());
        let listening = timeout_at(moment, process.until_listening()).await;
        if let Ok(address) = listening {
            assert!(leftovers.is_disjoint(&names(&scratch)), "{leftovers:?}");
            let mut node = NodeProcess::at(process, address);
            // Nothing older than what is there may come back.
            let allowed = versions[held..].to_vec();
            let downloads = tokio::spawn(wrong_downloads(node.package_url("m1"), allowed));
            if kill % 4 == 0 {
                // Verifying and renaming take a moment only: not left to chance.
                let before = inode(&package);
                until("the end of the pull", async || {
                    let received = node.meeting("m1").await["received"].as_u64();
                    let ending = received > Some(LARGE as u64 / 10 * 9);
                    (ending || inode(&package) != before).then_some(())
                })
                .await;
                tokio::time::sleep(whole.mul_f64(random.f64() * 0.2)).await;
            } else {
                sleep_until(moment).await;
            }
            node.process.kill();
            assert_eq!(downloads.await.unwrap(), [0_usize; 0], "lengths of wrong bodies");
        } else {
            process.kill();
        }
        killed_while_pulling += usize::from(!names(&scratch).is_empty());
        assert_eq!(folder.config_bytes(), before);
    }
    assert!(killed_while_pulling > KILLS / 4, "only {killed_while_pulling} kills met a pull");

    main.play().drip = None;
    let mut node = folder.start().await;
    let current = versions.last().unwrap();
    until("the current package", async || {
        (node.download("m1").await == (StatusCode::OK, current.to_vec())).then_some(())
    })
    .await;
    node.until_synced("m1").await;
    node.process.signal("TERM");
    assert_eq!(node.process.until_ended().await.code(), Some(0));
    assert_eq!(names(&scratch), BTreeSet::new());
    for (part, expected) in [
        ("", &["node_config.access.json", "node_config.json", "storage"][..]),
        ("storage", &[".lock", ".scratch", ".served.json", "meeting_m1"]),
        ("storage/meeting_m1", &["manifest.json", "package.zip"]),
    ] {
        let found = names(&folder.path().join(part));
        assert!(found.iter().eq(expected), "{part}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_the_configuration_is_saved_leaves_the_old_or_the_new_one() {
    let mut random = fastrand::Rng::with_seed(10);
    // Large, so that writing it takes a moment.
    let folder = NodeFolder::of(&format!("127.0.0.1:{}", free_port()))
        .with(json!({"notes": "x".repeat(300_000), "cleanup": {"graceSeconds": 0}}));
    let grace = |config: &Value| config["cleanup"]["graceSeconds"].as_u64().unwrap();

    // What anybody who reads the file at any moment finds in it.
    let end = Arc::new(AtomicBool::new(false));
    let (path, ended) = (folder.config_path(), end.clone());
    let reader = std::thread::spawn(move || {
        let mut torn = 0;
        while !ended.load(Ordering::Relaxed) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            torn += usize::from(serde_json::from_slice::<Value>(&bytes).is_err());
        }
        torn
    });

    let mut saved = 0;
    for _ in 0..KILLS {
        let mut node = folder.start().await;
        let found = names(folder.path());
        assert!(
            found.iter().eq(&["node_config.access.json", "node_config.json", "storage"]),
            "leftovers: {found:?}"
        );
        let url = node.url("/api/config");
        let first = saved;
        let posts = tokio::spawn(async move {
            let (client, mut answered) = (client(), first);
            loop {
                let patch = json!({"cleanup": {"graceSeconds": answered + 1}});
                match client.post(&url).json(&patch).send().await {
                    Ok(response) => assert_eq!(response.status(), StatusCode::OK),
                    Err(_) => return answered,
                }
                answered += 1;
            }
        });
        until("a first save", async || (grace(&folder.config()) > first).then_some(())).await;
        tokio::time::sleep(Duration::from_micros(random.u64(..60_000))).await;
        node.process.kill();
        let answered = posts.await.unwrap();
        saved = grace(&folder.config());
        assert!((answered..=answered + 1).contains(&saved), "{answered} answered, {saved} saved");
        assert_eq!(folder.config()["notes"].as_str().unwrap().len(), 300_000);
    }
    end.store(true, Ordering::Relaxed);
    assert_eq!(reader.join().unwrap(), 0, "times that a reader saw half a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_main_server_comes_back_with_its_meetings_and_packages() {
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = binary();
        command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(data.path());
        Process::spawn(command)
    };
    for made in 0..5 {
        let mut master = start();
        let meetings = format!("http://{}/api/v1/meetings", master.until_listening().await);
        let list: Value = client().get(&meetings).send().await.unwrap().json().await.unwrap();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), made);
        for (number, meeting) in list.iter().enumerate() {
            assert_eq!(
                (&meeting["id"], &meeting["status"]),
                (&json!(format!("m{number}")), &json!("进行中"))
            );
            let direct = format!("{meetings}/m{number}/download-package-direct");
            let body = client().get(direct).send().await.unwrap().bytes().await.unwrap();
            assert!(body == zip_of(&format!("papers {number}")));
        }
        let meeting = format!("{meetings}/m{made}");
        let created = json!({"id": format!("m{made}"), "title": "Board"});
        let client = client();
        for request in [
            client.post(&meetings).json(&created),
            client.put(format!("{meeting}/package")).body(zip_of(&format!("papers {made}"))),
            client.post(format!("{meeting}/start")),
        ] {
            assert!(request.send().await.unwrap().status().is_success());
        }
        // At once: what was answered is on disk.
        master.kill();
    }
}
