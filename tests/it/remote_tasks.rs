//! Remote tasks at a node: what it does by the orders of a main server, which is played here.

use std::{
    fs,
    net::Ipv4Addr,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::{Handlers, Listener};
use edge_mirror_tasks::{
    launch::{Launcher, RunEvent, RunnerKind},
    runner::{RunOutcome, RunRequest},
};
use serde_json::{Value, json};

use crate::support::{
    process::{NodeFolder, Process, run},
    until,
};

/// A main server that knows remote tasks alone, and holds its answers as ours does.
#[derive(Clone, Default)]
struct TaskServer(Arc<Mutex<ServerState>>);

#[derive(Default)]
struct ServerState {
    orders: Value,
    exchanges: Vec<Value>,
}

impl TaskServer {
    async fn start() -> (Self, u16) {
        let server = Self::default();
        server.order(json!({}));
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = listener.address().port();
        let router =
            Router::new().route("/api/v1/nodes/tasks", post(answer)).with_state(server.clone());
        let tasks = Tasks::new();
        let stop = tasks.token().clone();
        let serving = listener.serve(Handlers::from(router), tasks.clone(), stop);
        tasks.spawn("task server", serving);
        (server, port)
    }

    fn order(&self, orders: Value) {
        let mut whole =
            json!({"version": 1, "lease_seconds": 30, "start": [], "stop": [], "taken": []});
        whole.as_object_mut().unwrap().extend(orders.as_object().unwrap().clone());
        self.0.lock().unwrap().orders = whole;
    }

    fn last(&self) -> Option<Value> {
        self.0.lock().unwrap().exchanges.last().cloned()
    }

    /// Waits for the report of a task in this state.
    async fn until(&self, task: &str, state: &str) -> Value {
        until(&format!("task {task} is {state}, and not {:?}", self.last()), async || {
            let reports = self.last()?["runs"].as_array()?.clone();
            reports.into_iter().find(|run| run["key"]["task"] == task && run["state"] == state)
        })
        .await
    }
}

/// Holds the answer until there are other orders, or the node's next exchange.
async fn answer(State(server): State<TaskServer>, Json(exchange): Json<Value>) -> Json<Value> {
    let (number, seen) = (exchange["number"].as_u64(), exchange["version"].clone());
    server.0.lock().unwrap().exchanges.push(exchange);
    for _ in 0..2000 {
        {
            let state = server.0.lock().unwrap();
            let last = state.exchanges.last().and_then(|last| last["number"].as_u64());
            if state.orders["version"] != seen || last != number {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Json(server.0.lock().unwrap().orders.clone())
}

fn order(task: &str, task_type: &str, parameters: Value) -> Value {
    json!({
        "key": {"task": task, "part": 0, "epoch": 1}, "task_type": task_type,
        "parameters": parameters, "timeout_seconds": 60,
    })
}

/// A node that runs tasks of this server, with two declared types.
fn folder(port: u16) -> NodeFolder {
    let folder = NodeFolder::of(&format!("127.0.0.1:{port}"));
    let types = folder.path().join("tasks.d");
    fs::create_dir(&types).unwrap();
    let echo = "command = ['/bin/echo', '{text}']\nresult = 'text'\nplaces = 4\n\
                [parameters.text]\nkind = 'string'";
    let wait = "command = ['/bin/sh', '-c', 'sleep 8651.1 & sleep 8651.1']";
    fs::write(types.join("echo.toml"), echo).unwrap();
    fs::write(types.join("wait.toml"), wait).unwrap();
    fs::write(types.join("broken.toml"), "command = 7").unwrap();
    folder.with(json!({"tasks": {"enabled": true, "places": 4}}))
}

/// Processes whose command line begins so.
fn processes(line: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|found| found.starts_with(line.as_bytes())).count()
}

fn sleepers() -> usize {
    processes("sleep\08651.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_runs_what_is_declared_refuses_the_rest_and_reports_until_it_is_taken() {
    let (server, port) = TaskServer::start().await;
    let folder = folder(port);
    let mut node = folder.start().await;
    let first = until("the node offers its types", async || server.last()).await;
    let names: Vec<&str> =
        first["types"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["verify", "fetch", "probe", "report", "sleep", "echo", "wait"]);
    server.order(json!({"version": 2, "start": [
        order("echo", "echo", json!({"text": "hello"})),
        order("shell", "echo", json!({"text": "$(id)"})),
        order("option", "echo", json!({"text": "-n"})),
        order("none", "rm", json!({})),
        order("verify", "verify", json!({})),
        order("report", "report", json!({})),
        order("fail", "sleep", json!({"seconds": 0, "fail": true})),
        order("wait", "wait", json!({})),
    ]}));
    let done = server.until("echo", "succeeded").await;
    assert_eq!(done["result"], "hello\n");
    for task in ["shell", "option", "none"] {
        let refused = server.until(task, "refused").await;
        assert!(refused["error"].as_str().unwrap().contains(" / "), "{refused}");
    }
    assert_eq!(server.until("verify", "succeeded").await["result"]["good"], 0);
    let report = server.until("report", "succeeded").await;
    assert!(report["result"]["config"]["nodeId"].is_string() || report["result_file"].is_object());
    assert!(server.until("fail", "failed").await["error"].as_str().unwrap().contains("rehearsed"));
    server.until("wait", "running").await;
    until("both sleep", async || (sleepers() == 2).then_some(())).await;

    let status = node.status().await;
    assert_eq!(status["remote_tasks"]["places"], 4, "{status}");
    let codes = status["problems"].as_array().unwrap().iter().map(|of| of["code"].clone());
    assert!(codes.collect::<Vec<_>>().contains(&json!("task_type_invalid")));

    let began = Instant::now();
    let key = |task: &str| json!({"task": task, "part": 0, "epoch": 1});
    server.order(json!({"version": 3, "stop": [key("wait")], "taken": [key("echo")]}));
    let stopped = server.until("wait", "stopped").await;
    assert!(stopped["error"].as_str().unwrap().contains("cancelled"), "{stopped}");
    assert_eq!(sleepers(), 0);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    until("what is taken is told no more", async || {
        let runs = server.last()?["runs"].as_array()?.clone();
        runs.iter().all(|run| run["key"]["task"] != "echo").then_some(())
    })
    .await;

    // What was not taken outlasts a kill; what runs does not.
    server.order(json!({"version": 4, "start": [order("again", "wait", json!({}))]}));
    server.until("again", "running").await;
    until("both sleep again", async || (sleepers() == 2).then_some(())).await;
    let boot = server.last().unwrap()["boot"].clone();
    server.order(json!({"version": 5}));
    node.process.kill();
    until("the runs of a killed node end", async || (sleepers() == 0).then_some(())).await;
    let _node = folder.start().await;
    let after = until("the node is back", async || server.last().filter(|now| now["boot"] != boot));
    let after = after.await;
    let tasks: Vec<&str> = after["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["key"]["task"].as_str().unwrap())
        .collect();
    assert!(tasks.contains(&"wait") && !tasks.contains(&"echo") && !tasks.contains(&"again"));
    assert!(after["runs"].as_array().unwrap().iter().all(|run| run["state"] != "running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_systemds_socket_ends_when_the_node_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (types, work, socket) = {
        let at = |name: &str| folder.path().join(name);
        (at("types"), at("work"), at("socket"))
    };
    fs::create_dir(&types).unwrap();
    let script = "echo on; sleep 8652.1 & sleep 8652.1";
    fs::write(types.join("t.toml"), format!("command = ['/bin/sh', '-c', '{script}']")).unwrap();
    let mut listen = Command::new("systemd-socket-activate");
    listen.args(["--accept", "--inetd", "--listen"]).arg(&socket);
    listen.arg(env!("CARGO_BIN_EXE_edge-mirror")).args(["task-runner", "--unit", "--types"]);
    let _activator = Process::spawn({
        listen.arg(&types).arg("--work").arg(&work);
        listen
    });
    until("the socket is there", async || socket.exists().then_some(())).await;
    let launcher = Launcher { socket: Some(socket), program: "/no/program".into(), types, work };
    let request = RunRequest {
        task_type: "t".parse().unwrap(),
        parameters: serde_json::Map::new(),
        input: None,
        fleet: Vec::new(),
        timeout_s: None,
    };
    let mut stream = launcher.start(&request, false).await.unwrap();
    assert_eq!(stream.kind, RunnerKind::Unit);
    while !matches!(stream.next().await.unwrap(), RunEvent::Output(_)) {}
    until("both sleep", async || (processes("sleep\08652.1") == 2).then_some(())).await;
    stream.stop();
    let end = stream.next().await.unwrap();
    assert!(matches!(&end, RunEvent::Ended(end) if end.outcome == RunOutcome::Stopped), "{end:?}");
    assert_eq!(processes("sleep\08652.1"), 0);
}

#[test]
fn declarations_are_checked_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.toml"), "command = ['/bin/true']").unwrap();
    let at = folder.path().to_str().unwrap();
    let (code, said, _) = run(["tasks", "check", at]);
    assert!(code == Some(0) && said.contains("good") && said.contains("1 task types"), "{said}");
    fs::write(folder.path().join("bad.toml"), "command = ['/bin/true']\nplacs = 2").unwrap();
    let (code, said, _) = run(["tasks", "check", at]);
    assert!(
        code == Some(3) && said.contains("line 2, placs") && said.contains("places?"),
        "{said}"
    );
    let (code, said, _) = run(["tasks", "check", at, "--json"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &told["faults"][0]["line"]), (Some(3), &json!(2)));
    let (code, _, error) = run(["tasks", "check", "/no/such/folder"]);
    assert!(code == Some(1) && error.contains("/no/such/folder"), "{error}");
}
