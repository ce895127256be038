//! Files from an operator at the main server to nodes.

mod at_node;
mod between_nodes;

use std::{path::Path, time::Duration};

use edge_mirror_protocol::package::Sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Digest;

use crate::support::{
    TestMaster, TestNode, client,
    process::{NodeFolder, NodeProcess, Process, binary, run},
    proxy::{Proxy, Way},
    until,
};

const DISPATCH: &str = "/api/v1/dispatch";

/// A main server, wherever it runs.
struct Operator {
    authority: String,
}

impl Operator {
    fn of(main: &TestMaster) -> Self {
        Self { authority: main.authority() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = client().request(method, format!("http://{}{path}", self.authority));
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn upload(&self, name: &str, bytes: &[u8]) -> Value {
        let url = format!("http://{}{DISPATCH}/uploads", self.authority);
        let answer = client().put(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let mut file: Value = answer.json().await.unwrap();
        file["name"] = json!(name);
        file
    }

    async fn send(&self, files: Vec<Value>, more: Value) -> Value {
        let mut task = json!({"files": files, "to": {"all": true}});
        for (name, value) in more.as_object().unwrap() {
            task[name] = value.clone();
        }
        let (status, task) = self.call(Method::POST, DISPATCH, Some(task)).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task
    }

    async fn shown(&self, task: &Value) -> Value {
        self.call(Method::GET, &path(task), None).await.1
    }

    async fn until_status(&self, task: &Value, status: &str) -> Value {
        until(&format!("task {} is {status}", task["id"]), async || {
            Some(self.shown(task).await).filter(|now| now["status"] == status)
        })
        .await
    }

    async fn until_done_at(&self, task: &Value, count: u64) -> Value {
        until(&format!("task {} is done at {count}", task["id"]), async || {
            Some(self.shown(task).await).filter(|now| now["nodes"]["done"] == count)
        })
        .await
    }

    async fn until_known(&self, id: &str) {
        until(&format!("node {id} is known"), async || {
            let nodes = self.call(Method::GET, "/api/v1/fleet/nodes", None).await.1;
            nodes["nodes"].as_array()?.iter().any(|node| node["id"] == id).then_some(())
        })
        .await;
    }
}

fn path(task: &Value) -> String {
    format!("{DISPATCH}/{}", task["id"].as_str().unwrap())
}

fn file_path(task: &Value, name: &str) -> String {
    format!("/api/v1/files/{}/{name}", task["id"].as_str().unwrap())
}

async fn node(authority: &str, id: &str) -> TestNode {
    TestNode::of(authority).with(json!({"nodeId": id})).start().await
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reach_all_nodes_and_one_that_was_away_when_it_returns() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let (here, away) =
        (node(&main.authority(), "here").await, node(&main.authority(), "away").await);
    for id in ["here", "away"] {
        operator.until_known(id).await;
    }
    let away = away.stop().await;
    let large = noise(3_000_000, 1);
    let mut files = vec![operator.upload("fw/固件.bin", &large).await];
    for n in 0..20 {
        files.push(operator.upload(&format!("docs/{n}.txt"), format!("page {n}").as_bytes()).await);
    }
    files.push(operator.upload("empty", b"").await);
    let task = operator.send(files, json!({"access": "open"})).await;
    let shown = operator.until_done_at(&task, 1).await;
    assert_eq!((&shown["status"], &shown["nodes"]["pending"]), (&json!("active"), &json!(1)));

    let name = file_path(&task, "fw/%E5%9B%BA%E4%BB%B6.bin");
    let answer = here.get(&name).await;
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let etag = format!("\"{}\"", Sha256::new(sha2::Sha256::digest(&large).into()));
    assert_eq!(answer.headers()["etag"], etag);
    assert!(answer.bytes().await.unwrap() == large);
    let part = client().get(here.url(&name)).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.unwrap(), large[10..20]);
    assert_eq!(here.get(&file_path(&task, "docs/7.txt")).await.text().await.unwrap(), "page 7");
    assert_eq!(here.get(&file_path(&task, "empty")).await.text().await.unwrap(), "");
    for none in ["docs", "docs/99.txt", "docs/.7.txt.json", "%2e%2e/x"] {
        assert_eq!(
            here.get(&file_path(&task, none)).await.status(),
            StatusCode::NOT_FOUND,
            "{none}"
        );
    }

    let away = away.start().await;
    let finished = operator.until_status(&task, "completed").await;
    assert_eq!(finished["nodes"]["done"], 2);
    assert_eq!(away.get(&file_path(&task, "docs/19.txt")).await.text().await.unwrap(), "page 19");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_leaves_nothing_behind_and_says_when_that_is_so() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let node = node(&main.authority(), "a").await;
    operator.until_known("a").await;
    let file = operator.upload("a/b", b"bytes").await;
    let task = operator.send(vec![file.clone()], json!({"access": "open"})).await;
    operator.until_status(&task, "completed").await;
    let files = node.storage().join(".files");
    assert_eq!(files_below(&files), 2);
    let (status, _) = operator.call(Method::DELETE, &path(&task), None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let removed = until("the removal is over", async || {
        Some(operator.shown(&task).await).filter(|now| !now["removal"]["done_at"].is_null())
    })
    .await;
    assert_eq!(
        (&removed["status"], &removed["removal"]["removed"]),
        (&json!("completed"), &json!(1))
    );
    assert_eq!(files_below(&files), 0);
    assert_eq!(node.get(&file_path(&task, "a/b")).await.status(), StatusCode::NOT_FOUND);
    // Sent again, it comes again.
    let again = operator.send(vec![file], json!({})).await;
    operator.until_status(&again, "completed").await;
    assert_eq!(files_below(&files), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_operator_gets_only_what_is_for_everybody() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let config = json!({"nodeId": "a", "security": {"trustLocal": false}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    operator.until_known("a").await;
    let file = operator.upload("f", b"bytes").await;
    let secret = operator.send(vec![file.clone()], json!({})).await;
    let open = operator.send(vec![file], json!({"access": "open"})).await;
    for task in [&secret, &open] {
        operator.until_status(task, "completed").await;
    }
    assert_eq!(node.get(&file_path(&secret, "f")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(node.get(&file_path(&open, "f")).await.status(), StatusCode::OK);
    let token = node.new_token();
    let asked = client().get(node.url(&file_path(&secret, "f"))).bearer_auth(token);
    assert_eq!(asked.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_fails_and_succeeds_when_it_tries_again() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let config = json!({"nodeId": "a", "storage": {"maxSize": 2_000_000}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    operator.until_known("a").await;
    let files = vec![
        operator.upload("small", b"fits").await,
        operator.upload("large", &noise(3_000_000, 2)).await,
    ];
    let task = operator.send(files, json!({})).await;
    let failed = operator.until_status(&task, "failed").await;
    let state = &failed["node_states"][0];
    assert_eq!((&state["done_files"], &state["failed_count"]), (&json!(1), &json!(1)));
    assert_eq!(state["failed"][0]["name"], "large");
    assert!(state["failed"][0]["reason"].as_str().unwrap().contains("no room"), "{state}");
    node.configure(json!({"storage": {"maxSize": 10_000_000}})).await;
    let (status, again) =
        operator.call(Method::POST, &format!("{}/retry", path(&task)), None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{again}");
    operator.until_status(&again, "completed").await;
    assert_eq!(operator.shown(&task).await["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_file_is_also_put_where_the_nodes_operator_wants_it() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let config = json!({"nodeId": "a", "dispatch": {"dropFolder": "drop", "dropMode": "0640"}});
    let node = TestNode::of(&main.authority()).with(config).start().await;
    operator.until_known("a").await;
    let file = operator.upload("fw/1.bin", b"firmware").await;
    let task = operator.send(vec![file], json!({})).await;
    operator.until_status(&task, "completed").await;
    let dropped = node.config_path().with_file_name("drop/fw/1.bin");
    assert_eq!(std::fs::read(&dropped).unwrap(), b"firmware");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&dropped).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_costs_no_byte_twice() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let proxy = Proxy::before(main.authority().parse().unwrap(), Way::Cut(usize::MAX));
    let node = node(&proxy.address().to_string(), "a").await;
    operator.until_known("a").await;
    let large = noise(4_000_000, 3);
    let file = operator.upload("large", &large).await;
    proxy.set(Way::Cut(1_500_000));
    let task = operator.send(vec![file], json!({"access": "open"})).await;
    operator.until_status(&task, "completed").await;
    assert!(proxy.asked().contains("range: bytes="), "{}", proxy.asked());
    assert!(proxy.passed() < 5_500_000, "{}", proxy.passed());
    assert!(node.get(&file_path(&task, "large")).await.bytes().await.unwrap() == large);
}

fn start_main(data: &Path, port: u16) -> Process {
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", &port.to_string(), "--data"]);
    Process::spawn({
        command.arg(data);
        command
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_either_side_in_the_middle_changes_nothing_but_the_time() {
    let data = tempfile::tempdir().unwrap();
    let mut main = start_main(data.path(), 0);
    let address = main.until_listening().await;
    let operator = Operator { authority: address.to_string() };
    let proxy = Proxy::before(address, Way::Cut(usize::MAX));
    let folder = NodeFolder::of(&proxy.address().to_string());
    let mut node: NodeProcess = folder.start().await;
    operator.until_known("node-test").await;
    let mut files = Vec::new();
    for n in 0..8 {
        files.push(operator.upload(&format!("f{n}"), &noise(600_000, n)).await);
    }
    // A file takes a third of a second: the kills come in between.
    proxy.set(Way::Delay(Duration::from_millis(8)));
    let task = operator.send(files, json!({"access": "open"})).await;
    let some = async |least: u64| {
        until("some files are there", async || {
            let shown = operator.shown(&task).await;
            let state = &shown["node_states"][0];
            assert_ne!(state["state"], "done", "it was over before the kill");
            (state["done_files"].as_u64()? >= least).then_some(())
        })
        .await;
    };
    some(1).await;
    node.process.kill();
    let node = folder.start().await;
    some(2).await;
    main.kill();
    proxy.set(Way::Cut(usize::MAX));
    let mut main = start_main(data.path(), address.port());
    assert_eq!(main.until_listening().await, address);
    let done = operator.until_status(&task, "completed").await;
    assert_eq!(done["node_states"][0]["done_files"], 8);
    for n in 0..8 {
        let answer =
            client().get(node.url(&file_path(&task, &format!("f{n}")))).send().await.unwrap();
        assert!(answer.bytes().await.unwrap() == noise(600_000, n), "f{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_files_are_never_served() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let builder = TestNode::of(&main.authority()).with(json!({"nodeId": "a"}));
    let node = builder.start().await;
    operator.until_known("a").await;
    let good = noise(400_000, 5);
    let file = operator.upload("f", &good).await;
    let sha256 = file["sha256"].as_str().unwrap().to_owned();
    // Somebody writes into the main server's store, with the same size and time.
    let blob = main.data().join(format!("packages/.files/sha256/{}/{sha256}", &sha256[..2]));
    let before = std::fs::metadata(&blob).unwrap();
    let mut bad = good.clone();
    bad[200_000] ^= 1;
    std::fs::write(&blob, &bad).unwrap();
    let written = std::fs::File::options().write(true).open(&blob).unwrap();
    written.set_modified(before.modified().unwrap()).unwrap();
    let task = operator.send(vec![file], json!({"access": "open"})).await;
    let failed = operator.until_status(&task, "failed").await;
    let reason = failed["node_states"][0]["failed"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("SHA-256") || reason.contains("answered"), "{reason}");
    assert_eq!(node.get(&file_path(&task, "f")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(files_below(&node.storage().join(".files")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_small_files_come_in_a_few_answers() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let proxy = Proxy::before(main.authority().parse().unwrap(), Way::Cut(usize::MAX));
    let node = node(&proxy.address().to_string(), "a").await;
    operator.until_known("a").await;
    for n in 0..2500 {
        let folder = main.data().join(format!("root/many/{}", n % 7));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(n.to_string()), format!("file {n}")).unwrap();
    }
    let task = operator.send(vec![json!({"path": "many"})], json!({"access": "open"})).await;
    let done = operator.until_status(&task, "completed").await;
    assert_eq!(done["node_states"][0]["done_files"], 2500);
    let (asked, id) = (proxy.asked(), task["id"].as_str().unwrap());
    assert_eq!(asked.matches(&format!("get /api/v1/nodes/dispatch/{id}/bundle?")).count(), 3);
    assert_eq!(asked.matches(&format!("get /api/v1/nodes/dispatch/{id}/files/")).count(), 0);
    for n in [0, 1234, 2499] {
        let answer = node.get(&file_path(&task, &format!("many/{}/{n}", n % 7))).await;
        assert_eq!(answer.text().await.unwrap(), format!("file {n}"));
    }
    // After a restart all of it is known, and nothing comes again.
    let node = node.stop().await.start().await;
    assert_eq!(node.get(&file_path(&task, "many/1/1")).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn push_tells_of_each_node_and_fails_if_one_has_not_all() {
    let main = TestMaster::build().start().await;
    let operator = Operator::of(&main);
    let authority = main.authority();
    let good = node(&authority, "good").await;
    operator.until_known("good").await;
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("fw");
    std::fs::create_dir_all(files.join("1.2")).unwrap();
    std::fs::write(files.join("1.2/a.bin"), "firmware").unwrap();
    let files = files.to_str().unwrap().to_owned();
    let push = async |to: &[&str], more: &[&str]| {
        let mut args = vec!["push", &files, "--master", &authority];
        args.extend(to.iter().flat_map(|to| ["--to", *to]));
        args.extend(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || run(args)).await.unwrap()
    };
    let (code, output, errors) = push(&["all"], &["--wait", "--open"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(output.contains("1 files of 8 B for 1 nodes"), "{output}");
    assert!(output.contains("good: has the files"), "{output}");
    let task = &operator.call(Method::GET, DISPATCH, None).await.1["tasks"][0];
    assert_eq!(good.get(&file_path(task, "fw/1.2/a.bin")).await.text().await.unwrap(), "firmware");

    // A file lies where its operator wants the folder.
    let config = json!({"nodeId": "bad", "dispatch": {"dropFolder": "node_config.json"}});
    let _bad = TestNode::of(&authority).with(config).start().await;
    operator.until_known("bad").await;
    let (code, output, _) = push(&["good", "bad"], &["--wait"]).await;
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("bad: failed for 1 files; fw/1.2/a.bin: "), "{output}");
    let (code, _, errors) = push(&["nobody"], &[]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("no such node: nobody"), "{errors}");
}
