//! Work that nodes run for operators: nodes that speak the protocol, over HTTP.

use super::*;

const TASKS: &str = "/api/v1/tasks";
const OF_NODES: &str = "/api/v1/nodes/tasks";

/// A node that says what it is told to say.
struct SpokenNode<'a> {
    master: &'a TestMaster,
    id: &'static str,
    boot: &'static str,
    number: u64,
    version: Value,
    places: u32,
    runs: Vec<Value>,
}

impl<'a> SpokenNode<'a> {
    async fn start(master: &'a TestMaster, id: &'static str, places: u32) -> Self {
        master.taking_files(id).await;
        let boot = "first";
        Self { master, id, boot, number: 0, version: json!(0), places, runs: Vec::new() }
    }

    fn body(&mut self) -> Value {
        self.number += 1;
        let parameters = json!([{"name": "seconds", "kind": "integer", "required": true}]);
        json!({
            "boot": self.boot, "number": self.number, "version": self.version,
            "places": self.places, "runs": self.runs,
            "types": [
                {"name": "sleep", "title": "Sleep", "places": 8, "repeatable": true,
                 "parameters": parameters},
                {"name": "once", "places": 8, "parameters": []},
            ],
        })
    }

    /// One exchange, which may be held.
    async fn ask(&mut self) -> Value {
        let body = self.body();
        let request = self.master.request(Method::POST, OF_NODES);
        let (status, orders) = both(request.header("edge-mirror-node", self.id).json(&body)).await;
        assert_eq!(status, 200, "{orders}");
        self.version = orders["version"].clone();
        let taken = orders["taken"].as_array().unwrap();
        self.runs.retain(|run| !taken.contains(&run["key"]));
        orders
    }

    /// Asks until it is told to begin something, and begins it.
    async fn begin(&mut self) -> Value {
        loop {
            let orders = self.ask().await;
            let started = orders["start"].as_array().unwrap();
            for order in started {
                self.runs.push(json!({"key": order["key"], "state": "running"}));
            }
            if let Some(first) = started.first() {
                return first.clone();
            }
        }
    }

    fn end(&mut self, key: &Value, state: &str, result: Value) {
        let run = self.runs.iter_mut().find(|run| run["key"] == *key).unwrap();
        *run = json!({"key": key, "state": state, "duration_ms": 5, "result": result});
    }
}

impl TestMaster {
    async fn submitted(&self, fields: Value) -> Value {
        let (status, task) = self.post(TASKS, fields).await;
        assert_eq!(status, 201, "{task}");
        task
    }

    async fn task(&self, task: &Value) -> Value {
        self.json(&path(task)).await
    }
}

fn path(task: &Value) -> String {
    format!("{TASKS}/{}", task["id"].as_str().unwrap())
}

fn sleep() -> Value {
    json!({"type": "sleep", "parameters": {"seconds": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_on_a_node_and_its_result_survives_a_restart() {
    let t = TestMaster::start().await;
    let mut node = SpokenNode::start(&t, "a", 2).await;
    node.ask_briefly().await;
    let task =
        t.submitted(json!({"type": "sleep", "parameters": {"seconds": 1}, "key": "k"})).await;
    let (again, same) =
        t.post(TASKS, json!({"type": "sleep", "parameters": {"seconds": 1}, "key": "k"})).await;
    assert_eq!((again, &same["id"]), (StatusCode::OK, &task["id"]));
    let other = t.post(TASKS, json!({"type": "once", "key": "k"})).await;
    assert_eq!(other.0, 409, "{}", other.1);
    let order = node.begin().await;
    assert_eq!(
        (&order["task_type"], &order["parameters"]["seconds"]),
        (&json!("sleep"), &json!(1))
    );
    let choices = t.json(&format!("{}/explain", path(&task))).await;
    assert!(choices["nodes"][0]["score"].is_i64(), "{choices}");
    node.end(&order["key"], "succeeded", json!({"slept": 1}));
    let orders = node.ask().await;
    assert_eq!(orders["taken"][0], order["key"], "{orders}");
    let done = t.task(&task).await;
    assert_eq!((&done["status"], &done["result"]["slept"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(done["runs"][0]["node"], "a");
    let audit = t.json("/api/v1/audit").await;
    assert_eq!(audit["changes"][0]["action"], "remote_task_created", "{audit}");
    let t = t.restarted().await;
    assert_eq!(t.task(&task).await["result"], done["result"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_done_once_the_node_has_stopped() {
    let t = TestMaster::start().await;
    let mut node = SpokenNode::start(&t, "a", 1).await;
    node.ask_briefly().await;
    let task = t.submitted(sleep()).await;
    let order = node.begin().await;
    node.ask_briefly().await;
    let (status, now) = t.post(&format!("{}/cancel", path(&task)), Value::Null).await;
    assert_eq!((status, &now["status"]), (StatusCode::ACCEPTED, &json!("cancelling")));
    let orders = node.ask().await;
    assert_eq!(orders["stop"][0], order["key"], "{orders}");
    assert_eq!(t.task(&task).await["status"], "cancelling");
    node.end(&order["key"], "stopped", Value::Null);
    node.ask().await;
    let done = t.task(&task).await;
    assert_eq!((&done["status"], &done["parts"]["cancelled"]), (&json!("cancelled"), &json!(1)));
    let (status, again) = t.post(&format!("{}/retry", path(&task)), Value::Null).await;
    assert_eq!((status, &again["retry_of"]), (StatusCode::ACCEPTED, &task["id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_task_is_done_in_parts_and_its_results_are_in_order() {
    let t = TestMaster::start().await;
    let mut nodes = [SpokenNode::start(&t, "a", 1).await, SpokenNode::start(&t, "b", 2).await];
    for node in &mut nodes {
        node.ask_briefly().await;
    }
    let items: Vec<u32> = (0..40).collect();
    let task = t
        .submitted(json!({
            "type": "sleep", "parameters": {"seconds": 1}, "items": items,
        }))
        .await;
    let follow = t.get(&format!("{}/events", path(&task))).await;
    let mut failed = false;
    while t.task(&task).await["finished_at"].is_null() {
        for node in &mut nodes {
            node.ask_briefly().await;
            for run in node.runs.clone() {
                let input = run["input"].as_array().unwrap().iter();
                let doubled: Vec<_> = input.map(|n| json!(n.as_u64().unwrap() * 2)).collect();
                // One part fails once, and moves.
                let state =
                    if std::mem::replace(&mut failed, true) { "succeeded" } else { "failed" };
                node.end(&run["key"], state, json!(doubled));
            }
        }
    }
    let done = t.task(&task).await;
    let doubled: Vec<_> = (0..40).map(|n| n * 2).collect();
    assert_eq!((&done["status"], &done["result"]), (&json!("succeeded"), &json!(doubled)));
    assert!(done["parts"]["total"].as_u64().unwrap() > 2, "{done}");
    let tried = done["runs"].as_array().unwrap().iter().map(|run| run["tried"].as_array().unwrap());
    assert!(tried.into_iter().any(|tried| tried.len() == 2), "{done}");
    let events = tokio::time::timeout(Duration::from_secs(5), follow.text()).await;
    let events = events.expect("it ends with the task").unwrap();
    assert!(events.contains("event: task") && events.contains("\"succeeded\""), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_loses_its_runs_and_a_pending_one_gets_none() {
    let t = TestMaster::start().await;
    let stranger = t.request(Method::POST, OF_NODES).header("edge-mirror-node", "x");
    let body = json!({"boot": "b", "number": 1, "version": 0, "places": 1});
    assert_eq!(both(stranger.json(&body)).await.0, 403);
    let mut node = SpokenNode::start(&t, "a", 2).await;
    node.ask_briefly().await;
    let (again, once) = (t.submitted(sleep()).await, t.submitted(json!({"type": "once"})).await);
    while node.runs.len() < 2 {
        node.begin().await;
    }
    node.ask_briefly().await;
    (node.boot, node.number, node.version) = ("second", 0, json!(0));
    node.runs.clear();
    let order = node.begin().await;
    assert_eq!((&order["key"]["task"], &order["key"]["epoch"]), (&again["id"], &json!(2)));
    let lost = t.task(&once).await;
    assert_eq!((&lost["status"], &lost["parts"]["lost"]), (&json!("failed"), &json!(1)), "{lost}");
    let text = t.get("/metrics").await.text().await.unwrap();
    assert!(text.contains("edge_mirror_master_remote_task_runs_total{end=\"lost\"} 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_run_is_refused() {
    let t = TestMaster::start().await;
    let mut node = SpokenNode::start(&t, "a", 1).await;
    node.ask_briefly().await;
    for (fields, told) in [
        (json!({"type": "sleep"}), "needs the parameter seconds"),
        (json!({"type": "sleep", "parameters": {"seconds": 1, "x": 1}}), "no parameter x"),
        (
            json!({"type": "sleep", "parameters": {"seconds": 1}, "to": {"nodes": ["z"]}}),
            "no such node",
        ),
        (json!({"type": "a/b"}), "small letters"),
        (json!({"type": "sleep", "command": "rm"}), "unknown field"),
    ] {
        let (status, answer) = t.post(TASKS, fields).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(told), "{answer}");
    }
    for unknown in ["x", "%2e%2e", "a%2fb"] {
        assert_eq!(t.get(&format!("{TASKS}/{unknown}")).await.status(), 404);
        let (status, _) = t.post(&format!("{TASKS}/{unknown}/cancel"), Value::Null).await;
        assert_eq!(status, 404, "{unknown}");
    }
    let types = t.json(&format!("{TASKS}/types")).await;
    assert_eq!(types["types"][1]["name"], "sleep", "{types}");
    assert_eq!(t.json(TASKS).await["tasks"], json!([]));
    assert_eq!(t.get(&format!("{TASKS}?limit=0")).await.status(), 400);
}

impl SpokenNode<'_> {
    /// An exchange that is not waited for longer than a moment; what it is told to begin, it
    /// begins.
    async fn ask_briefly(&mut self) {
        let body = self.body();
        let request = self.master.request(Method::POST, OF_NODES);
        let asking = both(request.header("edge-mirror-node", self.id).json(&body));
        let Ok((status, orders)) = tokio::time::timeout(Duration::from_millis(150), asking).await
        else {
            return;
        };
        assert_eq!(status, 200, "{orders}");
        self.version = orders["version"].clone();
        let taken = orders["taken"].as_array().unwrap();
        self.runs.retain(|run| !taken.contains(&run["key"]));
        for order in orders["start"].as_array().unwrap() {
            let is_known = self.runs.iter().any(|run| run["key"] == order["key"]);
            if !is_known {
                let (key, input) = (&order["key"], &order["input"]);
                self.runs.push(json!({"key": key, "state": "running", "input": input}));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_offers_is_run_here_where_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let options = MasterOptions { local_tasks: true, ..options(&folder, LONG) };
    let t = TestMaster::with_options(folder, options).await;
    t.meeting("m1", &zip_of(b"x")).await;
    let task = t.submitted(json!({"type": "verify"})).await;
    let long = json!({"type": "sleep", "parameters": {"seconds": 600}});
    let long = t.submitted(long).await;
    let ended = async |task: &Value| loop {
        let now = t.task(task).await;
        if !now["finished_at"].is_null() {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let done = tokio::time::timeout(LONG, ended(&task)).await.unwrap();
    assert_eq!(
        (&done["status"], &done["result"]["good"]),
        (&json!("succeeded"), &json!(1)),
        "{done}"
    );
    assert_eq!(done["runs"][0]["node"], "(main server)");
    let (status, _) = t.post(&format!("{}/cancel", path(&long)), Value::Null).await;
    assert_eq!(status, 202);
    let stopped = tokio::time::timeout(LONG, ended(&long)).await.unwrap();
    assert_eq!(stopped["status"], "cancelled", "{stopped}");
    let (status, refusal) = t.post(TASKS, json!({"type": "verify", "parameters": {"x": 1}})).await;
    assert_eq!(status, 400, "{refusal}");
}
