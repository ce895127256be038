//! The demo, as a newcomer runs it.

use std::{net::TcpListener, process::Command, str::FromStr};

use edge_mirror_base::tasks;
use serde_json::Value;

use crate::support::{
    client,
    postgres::TestPostgres,
    process::{Process, binary, plain_environment},
    until,
};

/// What `edge-mirror demo` takes where nobody else has them.
const USUAL_PORTS: [u16; 3] = [8000, 8001, 8002];

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_takes_free_ports_and_its_curl_line_downloads_the_sample() {
    // Those that can't be had are taken already.
    let _taken = USUAL_PORTS.map(|port| TcpListener::bind(("127.0.0.1", port)));
    let (folder, downloads) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = binary();
    command.args(["demo", "--size", "500KB", "--clients", "1"]);
    command.env("TMPDIR", folder.path()).current_dir(downloads.path());
    let mut demo = Process::spawn(command);
    let shown = until("the curl line and the way out", async || {
        assert!(!demo.has_ended(), "ended too early");
        Some(demo.output.get()).filter(|text| text.contains("All 2 nodes have the package"))
    })
    .await;

    let (mut pages, mut ports) = (0, Vec::new());
    for url in shown.split_whitespace().filter_map(|word| reqwest::Url::from_str(word).ok()) {
        assert_eq!(url.host_str(), Some("127.0.0.1"), "{url}");
        ports.push(url.port().unwrap());
        if !url.path().contains("download-package") {
            let page = crate::support::client().get(url.clone()).send().await.unwrap();
            assert!(page.status().is_success(), "{url}: {}", page.status());
            pages += 1;
        }
    }
    assert_eq!(pages, 3, "the main server's page and two nodes': {shown}");
    assert!(ports.iter().all(|port| !USUAL_PORTS.contains(port)), "{ports:?}");
    for port in USUAL_PORTS {
        assert!(shown.contains(&format!("Port {port} is used by another program, so ")), "{shown}");
    }

    let line = shown.lines().map(str::trim).find(|line| line.starts_with("curl ")).unwrap();
    assert!(line.contains(" -L ") && line.ends_with(" -o sample.zip"), "{line}");
    let mut shell = Command::new("sh");
    plain_environment(&mut shell);
    // As typed, and a look at what it did: how often it was redirected, and to where.
    let looked = format!("{line} -sS -w '%{{num_redirects}} %{{url_effective}}'");
    let curl = shell.args(["-c", &looked]).current_dir(downloads.path()).output().unwrap();
    assert!(curl.status.success(), "{curl:?}");
    let told = String::from_utf8(curl.stdout).unwrap();
    assert!(told.starts_with("1 http://127.0.0.1:"), "it was not sent to a node: {told}");
    let sample = std::fs::File::open(downloads.path().join("sample.zip")).unwrap();
    let mut zip = zip::ZipArchive::new(sample).unwrap();
    assert!(!zip.is_empty());
    for number in 0..zip.len() {
        // Reading to the end checks the entry's CRC.
        let mut entry = zip.by_index(number).unwrap();
        assert!(std::io::copy(&mut entry, &mut std::io::sink()).unwrap() > 0);
    }

    demo.signal("INT");
    assert_eq!(demo.until_ended().await.code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is removed");
    assert_eq!(std::fs::read_dir(downloads.path()).unwrap().count(), 1, "the sample alone");
    assert_eq!(demo.errors.get(), "", "a demo that goes well has nothing to log");
    assert!(
        demo.output.get().trim_end().ends_with("The demo has ended, and its folder is removed.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_main_server_sends_the_package_about_once_to_all_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["demo", "--size", "6MB", "--clients", "0", "--nodes", "4", "--limit", "3MB"]);
    command.env("TMPDIR", folder.path());
    let mut demo = Process::spawn(command);
    let told = until("the end of the spread", async || {
        assert!(!demo.has_ended(), "ended too early");
        demo.output
            .get()
            .lines()
            .find(|line| line.starts_with("All 4 nodes have"))
            .map(str::to_owned)
    })
    .await;
    let number_behind = |words: &str| -> f64 {
        let (_, rest) = told.split_once(words).unwrap_or_else(|| panic!("{words}: {told}"));
        rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap()
    };
    // Without the nodes' help: 8 s and 4 times.
    let (took, copies) = (number_behind("package after "), number_behind("sent it "));
    assert!(took > 1.5 && (1.0..1.5).contains(&copies), "{told}");
    demo.signal("INT");
    assert_eq!(demo.until_ended().await.code(), Some(0));
    assert_eq!(demo.errors.get(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_interrupted_while_it_starts_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    for signal in ["TERM", "HUP"] {
        let mut command = binary();
        command.args(["demo", "--size", "100KB"]).env("TMPDIR", folder.path());
        let mut demo = Process::spawn(command);
        until("its folder", async || (entries() > 0).then_some(())).await;
        demo.signal(signal);
        assert_eq!(demo.until_ended().await.code(), Some(0), "SIG{signal}");
        assert_eq!(entries(), 0, "SIG{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_main_servers_one_is_killed_and_the_others_go_on() {
    let (postgres, folder) = (TestPostgres::start().await, tempfile::tempdir().unwrap());
    let database = tasks::blocking(postgres.creation("demo")).await;
    let mut command = binary();
    command.args(["demo", "--masters", "2", "--nodes", "3", "--size", "500KB", "--clients", "1"]);
    command.args(["--postgres", &database]).env("TMPDIR", folder.path());
    let mut demo = Process::spawn(command);
    let shown = until("all is there", async || {
        assert!(!demo.has_ended(), "ended too early: {}", demo.errors.get());
        Some(demo.output.get()).filter(|text| text.contains("All 3 nodes have the package"))
    })
    .await;
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.ends_with(name)).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    let ((id, _), (_, page)) = (row("main server 1"), row("main server 2"));
    assert!(Command::new("kill").args(["-9", &id]).status().unwrap().success());
    until("it is told", async || {
        demo.output.get().contains("main server 1 has ended").then_some(())
    })
    .await;
    let overview = format!("{page}api/v1/overview");
    until("the nodes call the other one, and the first one is silent", async || {
        let seen: Value = client().get(&overview).send().await.ok()?.json().await.ok()?;
        let is_silent = seen["problems"].to_string().contains("main_server_silent");
        let nodes = seen["nodes"].as_array()?.len();
        (is_silent && seen["main_servers"] == 1 && nodes == 3).then_some(())
    })
    .await;
    let sample = format!("{page}api/v1/meetings/sample/download-package");
    let answer = client().get(&sample).send().await.unwrap();
    assert!(answer.status().is_redirection(), "{}", answer.status());
    demo.signal("INT");
    assert_eq!(demo.until_ended().await.code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is removed");
}

#[test]
fn several_main_servers_need_a_database_that_they_share() {
    let (code, _, errors) = crate::support::process::run(["demo", "--masters", "2"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("--postgres"), "{errors}");
}
