//! Ending in order, and at once.

use std::{net::TcpStream, process::Command};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    ScriptedMain,
    node::free_port,
    process::{NodeFolder, Process},
    until,
    zips::big_zip,
};

/// More than the kernel's socket buffers take from a sender nobody reads from.
const LARGE: usize = 40 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_unregister_let_downloads_finish_and_exit_with_0() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(LARGE, 1);
    main.activate("m1", "Board", &zip);
    let folder = NodeFolder::of(&main.authority());
    for (number, signal) in (1..).zip(["TERM", "INT"]) {
        let mut node = folder.start().await;
        node.until_synced("m1").await;
        let mut download = node.get_package("m1").await;
        let mut got = download.chunk().await.unwrap().unwrap().to_vec();

        node.process.signal(signal);
        let goodbyes =
            async || (main.count(Method::POST, "/nodes/unregister") == number).then_some(());
        until("the node unregisters", goodbyes).await;
        assert_eq!(main.knows("node-test"), None);
        let address = node.address();
        until("nobody is let in any more", async || TcpStream::connect(address).err()).await;

        assert!(!node.process.has_ended(), "while a download is under way");
        while let Some(chunk) = download.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert!(got == zip, "SIG{signal}: {} of {} bytes", got.len(), zip.len());
        assert_eq!(node.process.until_ended().await.code(), Some(0), "SIG{signal}");
        assert!(node.process.errors.get().trim_end().ends_with("node stopped"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_what_stalled_transfers_would_hold() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", &big_zip(LARGE, 2));
    let patient = json!({"shutdownGrace": 3600});
    let folder = NodeFolder::of(&main.authority()).with(patient);
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let goodbyes = main.count(Method::POST, "/nodes/unregister");
        let mut node = folder.start().await;
        node.until_synced("m1").await;
        let _stalled = node.get_package("m1").await;
        let valve = main.valve(1 << 20);
        main.activate("m2", "Council", &big_zip(3 << 20, 4));
        until("a pull under way", async || {
            node.meeting("m2").await["received"].as_u64().filter(|received| *received > 0)
        })
        .await;
        node.process.signal(first);
        until("the node unregisters", async || {
            (main.count(Method::POST, "/nodes/unregister") > goodbyes).then_some(())
        })
        .await;
        let address = node.address();
        until("nobody is let in any more", async || TcpStream::connect(address).err()).await;
        assert!(!node.process.has_ended(), "while a download is under way");
        node.process.signal(second);
        assert_eq!(node.process.until_ended().await.code(), Some(1));
        let log = node.process.errors.get();
        assert!(log.trim_end().ends_with("edge-mirror: ended at once by a second signal"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        main.end("m2");
        valve.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_outlast_the_grace_time_are_cut_off() {
    let main = ScriptedMain::start().await;
    let zip = big_zip(LARGE, 3);
    main.activate("m1", "Board", &zip);
    let folder = NodeFolder::of(&main.authority()).with(json!({"shutdownGrace": 1}));
    let mut node = folder.start().await;
    node.until_synced("m1").await;
    let stalled = node.get_package("m1").await;
    node.process.signal("TERM");
    assert_eq!(node.process.until_ended().await.code(), Some(0));
    assert!(stalled.bytes().await.is_err(), "a package that was cut off does not look whole");
    assert!(node.process.errors.get().contains("are cut off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_with_the_terminal_that_it_was_started_on() {
    let main = ScriptedMain::start().await;
    let (folder, port) = (NodeFolder::of(&main.authority()), free_port());
    let run = folder.command();
    let words = run.get_args().map(|word| word.to_str().unwrap().to_owned());
    let mut line = vec![run.get_program().to_str().unwrap().to_owned()];
    line.extend(words.map(|word| if word == "0" { port.to_string() } else { word }));
    let mut terminal = Command::new("script");
    terminal.args(["-qfec", &line.join(" "), "/dev/null"]);
    let mut terminal = Process::spawn(terminal);
    let connected = || TcpStream::connect(("127.0.0.1", port));
    until("it listens", async || connected().ok()).await;
    until("it is registered", async || main.knows("node-test")).await;
    terminal.kill();
    until("it ends", async || connected().err()).await;
    until("it unregisters", async || main.knows("node-test").is_none().then_some(())).await;
}
