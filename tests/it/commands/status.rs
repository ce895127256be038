//! `edge-mirror status`.

use serde_json::{Value, json};

use super::{command, nobody, run, run_in_chinese};
use crate::support::{
    ScriptedMain, TestMaster, TestNode,
    process::{NodeFolder, Process, run as run_now},
    until, zip_of,
    zips::big_zip,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_node_is_shown_with_its_meetings_in_columns() {
    let main = ScriptedMain::start().await;
    main.activate("m1", "董事会会议", &big_zip(300_000, 1));
    main.activate("second", "Board", &zip_of("b"));
    let node = TestNode::of(&main.authority()).start().await;
    for id in ["m1", "second"] {
        node.until_synced(id).await;
    }
    let url = node.url("");
    let shown = run(["status", "--node", &url]).await;
    assert_eq!((shown.code, shown.errors.as_str()), (Some(0), ""));
    let main_server = format!("main server   http://{}, connected", main.authority());
    for part in [&*url, "node-test", "health        well", &main_server, "packages: 2"] {
        assert!(shown.output.contains(part), "{part}");
    }
    let row = |id: &str| {
        let line = shown.output.lines().find(|line| line.starts_with(id)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("m1")[..3], ["m1", "董事会会议", "ready"]);
    assert_eq!(row("second")[..3], ["second", "Board", "ready"]);
    let chinese = run_in_chinese(["status", "--node", &url]).await;
    assert!(chinese.output.contains("状态          正常") && chinese.output.contains("就绪"));

    let told: Value = run(["status", "--node", &url, "--json"]).await.json();
    assert_eq!(told["meetings"], node.status().await["meetings"], "as the node tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_told_with_their_cause_and_an_exit_code() {
    let node = TestNode::of(&nobody().to_string()).start().await;
    until("the problem", async || {
        (node.status().await["problems"][0]["code"] == "main_server_unreachable").then_some(())
    })
    .await;
    let shown = run(["status", "--node", &node.url("")]).await;
    assert_eq!((shown.code, shown.errors.as_str()), (Some(3), ""));
    for part in
        ["1 problem, see below", "error: The main server ", "→ ", "the connection was refused"]
    {
        assert!(shown.output.contains(part), "{part}");
    }
    let told = run(["status", "--node", &node.url(""), "--json"]).await;
    assert_eq!(told.code, Some(3));
    assert_eq!(told.json()["problems"][0]["code"], "main_server_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_this_machine_is_found_by_its_configuration() {
    let main = ScriptedMain::start().await;
    let port = crate::support::node::free_port();
    let node = TestNode::of(&main.authority()).with(json!({"nodePort": port})).start().await;
    let config = node.config_path().into_os_string();
    let shown = run(["status".into(), "--config".into(), config]).await;
    assert!(shown.output.contains(&format!("http://127.0.0.1:{port}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_or_no_node_is_said_on_one_line() {
    let (gone, main) = (nobody(), TestMaster::build().start().await);
    let away = run(["status", "--node", &format!("http://{gone}")]).await;
    away.refused(
        1,
        &[&format!("cannot reach http://{gone}"), "Connection refused", "is it running"],
    );
    let other = "is a main server; try `edge-mirror nodes --master ";
    run(["status", "--node", &main.url("")]).await.refused(1, &[other]);
    let away = run(["status", "--node", &gone.to_string()]).await;
    away.refused(1, &[&format!("cannot reach http://{gone}")]);
    // Nobody is asked but who was named.
    let page = main.url("/api/status");
    let elsewhere = crate::support::plain::scripted(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: {page}\r\nContent-Length: 0\r\n\r\n").into()
    });
    run(["status", "--node", &format!("http://{elsewhere}")])
        .await
        .refused(1, &["answered 302 to GET /api/status"]);
    let missing = run(["status", "--config", "/no/such.json"]).await;
    missing.refused(1, &["cannot read /no/such.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_shows_what_changes_until_ctrl_c() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let node = folder.start().await;
    let mut watch = Process::spawn(command(["status", "--watch", "--node", &node.url("")]));
    until("the first look", async || watch.output.get().contains("node-test").then_some(())).await;
    let valve = main.valve(2 << 20);
    let is_row = |line: &&str| line.starts_with("m1") && line.contains("Board");
    main.activate("m1", "Board", &big_zip(4 << 20, 1));
    until("how far the pull is", async || {
        let shown = watch.output.get();
        let line = shown.lines().rev().find(|line| is_row(line))?;
        (line.contains("pulling") && line.contains("[####") && line.contains(" %")).then_some(())
    })
    .await;
    let shown = watch.output.get();
    let source = shown.lines().rev().find(|line| line.starts_with("m1") && !is_row(line)).unwrap();
    assert!(
        source.contains("main server") && source.contains("the nodes share no key"),
        "{source}"
    );
    valve.open();
    until("its end", async || {
        let shown = watch.output.get();
        shown.lines().rev().find(|line| is_row(line))?.contains("ready").then_some(())
    })
    .await;
    drop(node);
    until("the loss", async || watch.output.get().contains("cannot reach").then_some(())).await;
    watch.signal("INT");
    assert_eq!(watch.until_ended().await.code(), Some(0));
    assert!(!watch.output.get().contains('\x1b'));
}

#[test]
fn help_has_examples_and_exit_codes() {
    for name in super::COMMANDS {
        let (code, help, _) = run_now([name, "--help"]);
        assert_eq!(code, Some(0));
        let example = format!("edge-mirror {name} ");
        for part in ["Examples:", &example, "Exit codes: 0 done, 1 failed, 2 wrong arguments"] {
            assert!(help.contains(part), "{name}: {part}");
        }
    }
}
