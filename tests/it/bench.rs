//! `edge-mirror bench` as an operator runs it, against real servers.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    TestMaster, TestNode,
    plain::{node_with, scripted},
    process::{Process, binary},
    until, zip_of,
    zips::big_zip,
};

const PATH: &str = "/api/v1/meetings/m1/download-package";

/// Exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

/// What is given unless a test gives it.
const USUAL: [(&str, &str); 3] = [("--meeting", "m1"), ("--clients", "20"), ("--arrive", "100ms")];

fn command(url: &str, args: &[&str]) -> Command {
    let mut command = binary();
    command.args(["bench", "--url", url]).args(args);
    for (name, value) in USUAL.iter().filter(|(name, _)| !args.contains(name)) {
        command.args([name, value]);
    }
    command
}

async fn ended(mut command: Command) -> Ended {
    command.stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = (ended.status.code(), text(ended.stdout), text(ended.stderr));
    println!("{}\n{}", ended.1, ended.2);
    ended
}

async fn bench(url: &str, args: &[&str]) -> Ended {
    ended(command(url, args)).await
}

async fn result(url: &str, args: &[&str]) -> (Option<i32>, Value) {
    let (code, output, _) = bench(url, &[args, &["--json"]].concat()).await;
    (code, serde_json::from_str(&output).unwrap())
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{fields}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_of_a_node_gets_the_whole_package_and_it_is_verified() {
    let package = big_zip(300_000, 1);
    let (node, _main) = node_with(&package).await;
    let (code, result) = result(&node.url(""), &["--verify"]).await;
    assert_eq!(code, Some(0));
    assert_eq!((&result["finished"], &result["failed"]), (&json!(20), &json!(0)));
    assert_eq!(result["size"], package.len());
    assert_eq!(result["bytes"], package.len() * 20);
    assert_eq!(result["served_by"], json!({(node.address().to_string()): 20}));
    assert_eq!(result["everyone_after_s"], result["lasted_s"]);
    let (first, finish) = (&result["first_byte"], &result["finish"]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&first["p50_s"]) <= number(&first["p99_s"]));
    assert!(number(&first["p50_s"]) <= number(&finish["median_s"]));
    assert!(number(&finish["median_s"]) <= number(&finish["p95_s"]));
    assert!(number(&finish["p95_s"]) <= number(&finish["worst_s"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_of_a_main_server_are_followed_to_the_nodes_and_counted() {
    let main = TestMaster::build().start().await;
    let package = big_zip(50_000, 2);
    main.begin_with("m1", &package).await;
    let mut nodes = Vec::new();
    for id in ["n1", "n2"] {
        let named = TestNode::of(&main.authority()).with(json!({"nodeId": id}));
        nodes.push(named.start().await);
    }
    main.until_held_by("m1", &["n1", "n2"]).await;
    let (code, result) = result(&main.url(""), &["--verify", "--clients", "40"]).await;
    assert_eq!((code, &result["finished"]), (Some(0), &json!(40)));
    assert_eq!(result["size"], package.len(), "which only nodes told");
    for node in nodes {
        let served = result["served_by"][node.address().to_string()].as_u64().unwrap_or(0);
        let downloads = node.meeting("m1").await["downloads"].as_u64();
        assert!(served > 0, "{result}");
        assert_eq!(downloads, Some(served), "as the node counts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_is_output_and_the_rest_goes_beside_it_without_a_terminals_codes() {
    let (node, _main) = node_with(&zip_of("a")).await;
    let (code, output, errors) = bench(&node.url(""), &[]).await;
    assert_eq!(code, Some(0));
    for part in ["20, of which 20 arrived, 20 finished, 0 failed", "first byte", "served by"] {
        assert!(output.contains(part), "{part}");
    }
    assert!(output.trim_end().lines().last().unwrap().starts_with("Everyone had it after "));
    assert!(errors.contains("Warning: this is a real load"));
    assert!(!output.contains('\x1b') && !errors.contains('\x1b'));

    let mut chinese = command(&node.url(""), &[]);
    chinese.env("LANG", "zh_CN.UTF-8");
    let (_, output, errors) = ended(chinese).await;
    assert!(output.contains("后，全部 20 个客户端都已拿到会议包。"));
    assert!(errors.contains("请勿在会议进行时运行"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_far_it_is_and_ctrl_c_ends_it_with_what_is_known_so_far() {
    // More than sockets' buffers take.
    let (node, _main) = node_with(&big_zip(40 << 20, 3)).await;
    let args = ["--clients", "5", "--arrive", "0", "--rate-limit", "100KB/s"];
    let mut bench = Process::spawn(command(&node.url(""), &args));
    until("a line about it", async || {
        let line = "5 of 5 arrived, 5 under way, 0 done, 0 failed";
        bench.errors.get().contains(line).then_some(())
    })
    .await;
    bench.signal("INT");
    assert_eq!(bench.until_ended().await.code(), Some(1));
    until("its output", async || {
        let output = bench.output.get();
        let said = output.contains("5, of which 5 arrived, 0 finished, 0 failed");
        (said && output.contains("Interrupted after ")).then_some(())
    })
    .await;
    until("the node is left alone", async || {
        (node.status().await["downloads_under_way"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_by_every_client() {
    let (node, _main) = node_with(&big_zip(100_000, 4)).await;
    let (code, result) =
        result(&node.url(""), &["--rate-limit", "100KB/s", "--clients", "3"]).await;
    assert_eq!(code, Some(0));
    assert!(result["finish"]["median_s"].as_f64().unwrap() >= 0.9, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_meeting_is_told_as_the_server_told_it_before_anybody_arrives() {
    let (node, main) = node_with(&zip_of("a")).await;
    for (url, answer) in [
        (node.url(""), "answered 404: Meeting package not found"),
        (format!("http://{}", main.authority()), "answered 404"),
    ] {
        let (code, output, errors) = bench(&url, &["--meeting", "m9"]).await;
        assert_eq!((code, output.as_str()), (Some(1), ""));
        assert!(errors.contains(answer) && errors.lines().count() == 1, "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_clients_are_grouped_with_what_to_do() {
    // The first look is answered well, then every other client is cut off.
    let address = scripted(|number| {
        let body = if number % 2 == 0 { "0123456789" } else { "01234" };
        (head("Content-Length: 10") + body).into_bytes()
    });
    let url = format!("http://{address}");
    let (code, output, errors) = bench(&url, &[]).await;
    assert_eq!(code, Some(1));
    assert!(output.contains(&format!("10 failed: the connection to {address} broke: ")));
    assert!(output.contains("→ see what it logged at that time"));
    assert!(output.trim_end().ends_with("10 of 20 did not get it."));
    assert!(errors.trim_end().ends_with("10 of 20 clients did not get the package"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_and_missing_digests_fail_where_verification_is_asked_for() {
    let digest =
        format!("sha-256=:{}:", edge_mirror_protocol::package::Sha256::new([7; 32]).base64());
    let fields = format!("Content-Length: 4\r\nRepr-Digest: {digest}");
    let wrong = scripted(move |_| (head(&fields) + "abcd").into_bytes());
    let plain = scripted(|_| (head("Content-Length: 4") + "abcd").into_bytes());
    for (address, kind) in [(wrong, "digest"), (plain, "no_digest")] {
        let url = format!("http://{address}");
        let (code, answer) = result(&url, &["--verify"]).await;
        assert_eq!((code, &answer["finished"]), (Some(1), &json!(0)), "{kind}");
        let failures = answer["failures"].as_array().unwrap();
        assert_eq!((&failures[0]["kind"], &failures[0]["count"]), (&json!(kind), &json!(20)));
        assert_eq!(answer["everyone_after_s"], Value::Null);
        assert_eq!(result(&url, &[]).await.0, Some(0), "nobody compares");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_and_lost_ways_are_found() {
    let other = scripted(|number| {
        let body = if number == 0 { "0123456789" } else { "01234" };
        (head(&format!("Content-Length: {}", body.len())) + body).into_bytes()
    });
    let to = |location: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let circle = scripted(move |_| to(PATH));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to_gone = scripted(move |_| to(&format!("http://{gone}{PATH}")));
    let abroad = scripted(move |_| to("ftp://127.0.0.1/x"));
    for (address, kind) in
        [(other, "length"), (circle, "astray"), (to_gone, "connect"), (abroad, "astray")]
    {
        let (code, answer) = result(&format!("http://{address}"), &["--clients", "3"]).await;
        let failed = &answer["failures"][0];
        assert_eq!((code, &failed["kind"], &failed["count"]), (Some(1), &json!(kind), &json!(3)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_one_line_that_names_the_mend() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refused, quiet) = (format!("http://{nobody}"), "http://127.0.0.1:9");
    for (url, args, code, parts) in [
        ("ftp://127.0.0.1:8001", &[][..], 2, ["--url", "only http:// and https://"]),
        (&nobody.to_string(), &[], 1, ["Connection refused", "is it running"]),
        (&refused, &[], 1, ["Connection refused", "is it running"]),
        (quiet, &["--clients", "0"], 2, ["--clients", "from 1 to 20000"]),
        (quiet, &["--arrive", "soon"], 2, ["--arrive", "60s"]),
        (quiet, &["--rate-limit", "2Mbit"], 2, ["--rate-limit", "2MB/s"]),
        (quiet, &["--meeting", "a/b"], 1, ["--meeting 'a/b'", "a meeting id is"]),
    ] {
        let (exit, output, errors) = bench(url, args).await;
        assert_eq!((exit, output.as_str()), (Some(code), ""), "{url} {args:?}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(parts.iter().all(|part| errors.contains(part)), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_or_named() {
    let (node, _main) = node_with(&zip_of("a")).await;
    let limited = |limits: &'static str| {
        let (url, exe) = (node.url(""), env!("CARGO_BIN_EXE_edge-mirror"));
        let line = format!(
            "{limits} && exec {exe} bench --url {url} --meeting m1 --clients 100 --arrive 0"
        );
        tokio::task::spawn_blocking(move || {
            let mut shell = std::process::Command::new("sh");
            crate::support::process::plain_environment(&mut shell);
            shell.args(["-c", &line]).output().unwrap()
        })
    };
    let raised = limited("ulimit -Sn 64").await.unwrap();
    assert_eq!(raised.status.code(), Some(0), "{raised:?}");
    let refused = limited("ulimit -n 64").await.unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("164 open files, but 64 are allowed"), "{errors}");
}
