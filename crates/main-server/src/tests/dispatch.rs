//! Files that operators send to nodes.

use std::{os::unix::fs::symlink, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{dispatch::TaskFiles, package::PackageId};

use super::*;
use crate::{
    DispatchOptions,
    state::dispatch::{
        DispatchTask, NodeOutcome, NodeResult, TaskPhase, commands::DispatchCommand,
    },
};

const DISPATCH: &str = "/api/v1/dispatch";
const OF_NODES: &str = "/api/v1/nodes/dispatch";

impl TestMaster {
    async fn with_root(max_active: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let t = Self::with_dispatch(folder, max_active).await;
        t.taking_files("a").await;
        t
    }

    async fn with_dispatch(folder: TempDir, max_active: usize) -> Self {
        let dispatch = DispatchOptions {
            root: Some(folder.path().join("root")),
            max_active,
            ..DispatchOptions::default()
        };
        let options = MasterOptions { dispatch, ..options(&folder, LONG) };
        Self::with_options(folder, options).await
    }

    async fn dispatch_restarted(self) -> Self {
        let Self { folder, master, client } = self;
        drop(client);
        assert!(master.shut_down(GRACE).await);
        Self::with_dispatch(folder, 5).await
    }

    /// A node that takes files.
    pub(super) async fn taking_files(&self, id: &str) {
        self.register(id, "127.0.0.1:1").await;
        self.beat_of(id, true).await;
        self.until_known(id).await;
    }

    async fn beat_of(&self, id: &str, takes_files: bool) {
        let body = json!({
            "node_id": id, "address": "127.0.0.1:1", "status": "online",
            "active_meetings": [], "synced_meetings": [], "mirror": {
                "version": "1.0", "downloads": 0, "free_bytes": 1, "packages": [],
                "takes_files": takes_files,
            },
        });
        assert_eq!(self.post("/api/v1/nodes/heartbeat", body).await.0, 200);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join("root").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(super) async fn put(&self, bytes: &[u8]) -> (StatusCode, Value) {
        both(self.request(Method::PUT, &format!("{DISPATCH}/uploads")).body(bytes.to_vec())).await
    }

    async fn dispatched(&self, files: Value, more: Value) -> (StatusCode, Value) {
        let mut task = json!({"files": files, "to": {"all": true}});
        for (name, value) in more.as_object().unwrap() {
            task[name] = value.clone();
        }
        self.post(DISPATCH, task).await
    }

    pub(super) async fn created(&self, files: Value, more: Value) -> Value {
        let (status, task) = self.dispatched(files, more).await;
        assert_eq!(status, 201, "{task}");
        task
    }

    pub(super) async fn as_node(&self, node: &str, path: &str) -> reqwest::Response {
        let request = self.request(Method::GET, &format!("{OF_NODES}{path}"));
        request.header("edge-mirror-node", node).send().await.unwrap()
    }

    async fn orders(&self, node: &str) -> Vec<(String, String)> {
        let list: Value = self.as_node(node, "").await.json().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tasks = list["tasks"].as_array().unwrap().iter();
        tasks.map(|task| (text(&task["id"]), text(&task["order"]))).collect()
    }

    pub(super) async fn until_ordered(&self, node: &str, count: usize) -> Vec<(String, String)> {
        until(async || Some(self.orders(node).await).filter(|orders| orders.len() == count)).await
    }

    async fn report(&self, node: &str, task: &Value, state: &str) -> StatusCode {
        let body = json!({"tasks": [{
            "id": task["id"], "attempt": task["attempt"], "state": state,
            "done_files": 1, "done_bytes": 3,
            "failed_count": u64::from(state == "failed"),
            "failed": [{"name": "a", "reason": "no room"}],
        }]});
        let request = self.request(Method::POST, OF_NODES).header("edge-mirror-node", node);
        both(request.json(&body)).await.0
    }

    /// Reports the end of a task by its id.
    pub(super) async fn reported(&self, node: &str, id: &str, state: &str) {
        assert_eq!(self.report(node, &json!({"id": id, "attempt": 1}), state).await, 200);
    }

    async fn until_task(&self, task: &Value, status: &str) -> Value {
        until(async || Some(self.json(&path(task)).await).filter(|now| now["status"] == status))
            .await
    }
}

fn path(task: &Value) -> String {
    format!("{DISPATCH}/{}", task["id"].as_str().unwrap())
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it did not come")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::new(sha2::Sha256::digest(bytes).into()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_a_folder_go_to_a_node_and_survive_a_restart() {
    let t = TestMaster::with_root(5).await;
    t.write("fw/1.bin", b"one");
    t.write("fw/sub/2.bin", b"two!");
    let (status, upload) = t.put(b"slides").await;
    assert_eq!((status, &upload["sha256"]), (StatusCode::CREATED, &json!(sha256(b"slides"))));
    let mut uploaded = upload.clone();
    uploaded["name"] = json!("会议/slides.pdf");
    let task = t.created(json!([uploaded, {"path": "fw"}]), json!({"access": "open"})).await;
    assert_eq!((&task["files"], &task["bytes"]), (&json!(3), &json!(13)));
    assert_eq!(task["by"], json!({"address": "127.0.0.1", "how": "local"}));
    let id = task["id"].as_str().unwrap().to_owned();
    assert_eq!(t.until_ordered("a", 1).await, [(id.clone(), "deliver".to_owned())]);

    let t = t.dispatch_restarted().await;
    t.taking_files("a").await;
    let files: Value = t.as_node("a", &format!("/{id}")).await.json().await.unwrap();
    let names: Vec<_> =
        files["files"].as_array().unwrap().iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["会议/slides.pdf", "fw/1.bin", "fw/sub/2.bin"]);
    let shown = t.json(&format!("{}/files", path(&task))).await;
    assert_eq!(shown["files"], files["files"]);
    let second = t.as_node("a", &format!("/{id}/files/1")).await;
    assert_eq!(second.headers()["etag"], format!("\"{}\"", sha256(b"one")));
    assert_eq!(second.bytes().await.unwrap(), "one");
    let rest = t.request(Method::GET, &format!("{OF_NODES}/{id}/files/0"));
    let rest =
        rest.header("edge-mirror-node", "a").header("range", "bytes=2-").send().await.unwrap();
    assert_eq!((rest.status().as_u16(), &*rest.bytes().await.unwrap()), (206, &b"ides"[..]));
    let bundle = t.as_node("a", &format!("/{id}/bundle?first=1&count=2")).await;
    assert_eq!(bundle.bytes().await.unwrap(), "onetwo!");

    assert_eq!(t.report("a", &task, "pulling").await, 200);
    let shown = t.json(&path(&task)).await;
    assert_eq!(
        (&shown["nodes"]["pulling"], &shown["node_states"][0]["done_bytes"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(t.report("a", &task, "done").await, 200);
    let done = t.until_task(&task, "completed").await;
    assert_eq!((&done["nodes"]["done"], &done["finished_at"].is_null()), (&json!(1), &false));
    assert!(t.orders("a").await.is_empty());
    let listed = t.json(DISPATCH).await;
    assert_eq!((&listed["tasks"][0]["id"], &listed["next"]), (&task["id"], &Value::Null));
    let t = t.dispatch_restarted().await;
    let before = done.as_object().unwrap();
    let now = t.json(&path(&task)).await;
    assert!(
        before.iter().all(|(name, value)| name == "node_states" || now[name] == *value),
        "{now}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_task_is_said_and_nothing_is_kept_of_it() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    t.write("d/x", b"x");
    t.write("d/.hidden", b"x");
    t.write("case/x", b"1");
    t.write("case/X", b"2");
    let root = t.folder.path().join("root");
    std::fs::write(t.folder.path().join("secret"), "secret").unwrap();
    symlink(t.folder.path().join("secret"), root.join("link")).unwrap();
    symlink(t.folder.path(), root.join("out")).unwrap();
    let digest = sha256(b"one");
    for (files, more, told) in [
        (json!([]), json!({}), "from 1 to"),
        (json!([{}]), json!({}), "needs a path"),
        (json!([{"sha256": digest}]), json!({}), "needs a name"),
        (json!([{"sha256": digest, "name": "a"}]), json!({}), "was uploaded"),
        (json!([{"sha256": "12", "name": "a"}]), json!({}), "malformed"),
        (json!([{"path": "../secret"}]), json!({}), "relative to --dispatch-root"),
        (json!([{"path": "/etc/passwd"}]), json!({}), "relative to --dispatch-root"),
        (json!([{"path": "a/../a"}]), json!({}), "relative to --dispatch-root"),
        (json!([{"path": ""}]), json!({}), "relative to --dispatch-root"),
        (json!([{"path": "link"}]), json!({}), "is a link"),
        (json!([{"path": "out/secret"}]), json!({}), "is a link"),
        (json!([{"path": "none"}]), json!({}), "can't be read"),
        (json!([{"path": "a/b"}]), json!({}), "can't be read"),
        (json!([{"path": "d"}]), json!({}), "begin with no dot"),
        (json!([{"path": "case"}]), json!({}), "differ only by case"),
        (json!([{"path": "a"}, {"path": "a"}]), json!({}), "same name"),
        (json!([{"path": "a", "name": "../x"}]), json!({}), "a relative path"),
        (json!([{"path": "a", "name": "NUL.txt"}]), json!({}), "reserved on Windows"),
        (json!([{"path": "a", "name": "a\u{7}"}]), json!({}), "control characters"),
        (json!([{"path": "a", "sha256": sha256(b"two")}]), json!({}), "not 3fc4ccfe"),
        (json!([{"path": "case", "sha256": digest}]), json!({}), "a folder, which has no"),
        (json!([{"path": "a"}]), json!({"to": {"nodes": ["none"]}}), "no such node"),
        (json!([{"path": "a"}]), json!({"to": {}}), "no destination"),
        (json!([{"path": "a"}]), json!({"expires_at": 5}), "deadline has passed"),
        (json!([{"path": "a"}]), json!({"expires_in_s": 99_999_999}), "at most 90 days"),
        (json!([{"path": "a"}]), json!({"retention": {"until": 5}}), "retention"),
        (json!([{"path": "a"}]), json!({"title": "a\nb"}), "title"),
        (json!([{"path": "a"}]), json!({"more": 1}), "malformed"),
    ] {
        let (status, answer) = t.dispatched(files.clone(), more).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{files}: {answer}");
        assert!(detail.contains(told), "{files}: {detail}");
    }
    assert_eq!(t.json(DISPATCH).await["tasks"], json!([]));
    let wrong = t.request(Method::PUT, &format!("{DISPATCH}/uploads")).body("one");
    let wrong = wrong.header("repr-digest", format!("sha-256=:{}:", Sha256::new([7; 32]).base64()));
    assert_eq!(both(wrong).await.0, 400);
    assert_eq!(t.get(&format!("{DISPATCH}/none")).await.status(), 404);
    assert_eq!(t.as_node("stranger", "").await.status(), 403);
    assert_eq!(t.get(OF_NODES).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_with_its_key_creates_no_second_task() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    let send = async |t: &TestMaster, more: Value| t.dispatched(json!([{"path": "a"}]), more).await;
    let keyed = || json!({"key": "k", "title": "t"});
    let (first, second) = tokio::join!(send(&t, keyed()), send(&t, keyed()));
    let mut statuses = [first.0.as_u16(), second.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!((&first.1["id"], &first.1["key"]), (&second.1["id"], &json!("k")));
    let other = send(&t, json!({"key": "k", "title": "another"})).await;
    assert_eq!(other.0, 409);
    assert!(other.1["detail"].as_str().unwrap().contains("is another task's"), "{other:?}");
    assert_eq!(send(&t, json!({"key": ""})).await.0, 400);

    // The file need not be there any more, nor the main server all the time.
    std::fs::remove_file(t.folder.path().join("root/a")).unwrap();
    let t = t.dispatch_restarted().await;
    let again = send(&t, keyed()).await;
    assert_eq!((again.0.as_u16(), &again.1["id"]), (200, &first.1["id"]));
    let tasks = t.json(DISPATCH).await;
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1, "{tasks}");
    let created = t.json("/api/v1/audit").await.to_string();
    assert_eq!(created.matches("dispatch_created").count(), 1, "{created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_root_paths_are_refused() {
    let t = TestMaster::start().await;
    t.taking_files("a").await;
    let (status, answer) = t.dispatched(json!([{"path": "a"}]), json!({})).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("--dispatch-root"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_retried_and_a_cancelled_task_is_over_once_the_node_says_so() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    let files = || json!([{"path": "a"}]);
    let task = t.created(files(), json!({})).await;
    t.until_ordered("a", 1).await;
    let (status, _) = t.post(&format!("{}/retry", path(&task)), Value::Null).await;
    assert_eq!(status, 409);
    assert_eq!(t.report("a", &task, "failed").await, 200);
    let failed = t.until_task(&task, "failed").await;
    assert_eq!(failed["node_states"][0]["failed"][0]["reason"], "no room");
    let (status, again) = t.post(&format!("{}/retry", path(&task)), Value::Null).await;
    assert_eq!((status, &again["retry_of"]), (StatusCode::ACCEPTED, &task["id"]));
    t.until_ordered("a", 1).await;
    assert_eq!(t.report("a", &again, "done").await, 200);
    t.until_task(&again, "completed").await;
    assert_eq!(t.json(&path(&task)).await["status"], "failed");

    let task = t.created(files(), json!({})).await;
    t.until_ordered("a", 1).await;
    let (status, cancelling) = both(t.request(Method::DELETE, &path(&task))).await;
    assert_eq!((status, &cancelling["status"]), (StatusCode::ACCEPTED, &json!("cancelling")));
    assert_eq!(cancelling["removal"]["pending"], 1);
    assert_eq!(t.orders("a").await[0].1, "remove");
    let id = task["id"].as_str().unwrap();
    assert_eq!(t.as_node("a", &format!("/{id}/files/0")).await.status(), 404);
    assert_eq!(t.report("a", &task, "removed").await, 200);
    let cancelled = t.until_task(&task, "cancelled").await;
    assert_eq!(
        (&cancelled["removal"]["removed"], cancelled["removal"]["done_at"].is_null()),
        (&json!(1), false)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_no_files_is_told_apart_and_a_poll_names_the_list() {
    let t = TestMaster::with_root(5).await;
    t.register("old", "127.0.0.1:2").await;
    t.beat_of("old", false).await;
    t.until_known("old").await;
    t.write("a", b"one");
    let poll = async |node: &str, accept: &str| {
        let request = t.request(Method::GET, "/api/v1/meetings/status/node");
        let request = request.header("edge-mirror-node", node);
        let answer = request.header("edge-mirror-accept", accept).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["edge_mirror"]["dispatch"].clone()
    };
    assert_eq!(poll("a", "version=1, dispatch").await, Value::Null);
    let task = t.created(json!([{"path": "a"}]), json!({})).await;
    t.until_ordered("a", 1).await;
    let shown = t.json(&path(&task)).await;
    assert_eq!(
        (&shown["nodes"]["unsupported"], &shown["nodes"]["pending"]),
        (&json!(1), &json!(1))
    );
    let list: Value = t.as_node("a", "").await.json().await.unwrap();
    assert_eq!(poll("a", "version=1, packages, relay, dispatch").await, list["version"]);
    assert_eq!(poll("a", "version=1, dispatch").await, list["version"]);
    assert_eq!(poll("a", "version=1, packages").await, Value::Null);
    t.report("a", &task, "done").await;
    t.until_task(&task, "partial").await;
    assert_eq!(poll("a", "version=1, dispatch").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_the_tasks() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    let task = t.created(json!([{"path": "a"}]), json!({"to": {"nodes": ["a"]}})).await;
    let shown = t.json(&format!("{}/files", path(&task))).await;
    let TestMaster { folder, master, client } = t;
    drop(client);
    assert!(master.shut_down(GRACE).await);
    let (data, file) = (folder.path().join("data"), folder.path().join("backup"));
    crate::back_up(&StateLocation::default(), &data, &file).await.unwrap();
    crate::restore(&StateLocation::default(), &data, &file).await.unwrap();
    let t = TestMaster::with_dispatch(folder, 5).await;
    assert_eq!(t.json(&format!("{}/files", path(&task))).await, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_small_files_are_taken_in_together() {
    let t = TestMaster::with_root(5).await;
    for n in 0..2500 {
        t.write(&format!("many/{}/{n}", n % 10), format!("file {n}").as_bytes());
    }
    let task = t.created(json!([{"path": "many"}]), json!({})).await;
    assert_eq!(task["files"], 2500);
    let blobs = t.folder.path().join("data/packages/.files/sha256");
    let shards = std::fs::read_dir(blobs).unwrap();
    let count: usize =
        shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum();
    assert_eq!(count, 5000, "each with its manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_task_needs_go_after_a_day_and_no_others() {
    let t = TestMaster::with_root(5).await;
    let (_, unnamed) = t.put(b"unnamed").await;
    let (_, mut named) = t.put(b"named").await;
    named["name"] = json!("a");
    t.meeting("m", &zip_of(b"package")).await;
    let task = t.created(json!([named]), json!({})).await;
    let is_here = |file: &Value| {
        let sha256 = file["sha256"].as_str().unwrap();
        let blobs = t.folder.path().join("data/packages/.files/sha256");
        blobs.join(&sha256[..2]).join(sha256).exists()
    };
    t.master.server.sweep_blobs();
    assert!(is_here(&unnamed) && is_here(&named));
    t.master.server.sweep_blobs_before(u64::MAX);
    assert!(!is_here(&unnamed) && is_here(&named));
    assert!(t.master.server.store.get("m".parse::<PackageId>().unwrap()).is_some());
    // Finished, it may still be tried again for a day.
    t.until_ordered("a", 1).await;
    t.report("a", &task, "failed").await;
    t.until_task(&task, "failed").await;
    t.master.server.sweep_blobs_before(u64::MAX);
    assert!(is_here(&named));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_task_is_tried_again_only_while_its_bytes_are_here() {
    let t = TestMaster::with_root(5).await;
    let server = &t.master.server;
    t.write("a", b"other");
    let task = t.created(json!([{"path": "a"}]), json!({})).await;
    let id = task["id"].as_str().unwrap().parse().unwrap();
    let task = server.dispatch.table().find(&id).unwrap().clone();
    let two_days_ago = UnixMillis::from_secs(UnixMillis::now().as_secs() - 2 * 24 * 3600);
    let retry = async |name: &str, bytes: &[u8], is_swept: bool| {
        let (_, mut file) = t.put(bytes).await;
        file["name"] = json!("a");
        let file = serde_json::from_value(file).unwrap();
        let result = NodeResult::new(NodeOutcome::Failed, two_days_ago);
        let old = DispatchTask {
            id: name.parse().unwrap(),
            phase: TaskPhase::Failed,
            finished_at: Some(two_days_ago),
            results: [("a".to_owned(), result)].into(),
            ..DispatchTask::clone(&task)
        };
        let files = Arc::new(TaskFiles { files: vec![file] });
        let command = DispatchCommand::Create { task: Arc::new(old), files };
        server.change(command).await.unwrap();
        if is_swept {
            server.sweep_blobs_before(u64::MAX);
        }
        t.post(&format!("{DISPATCH}/{name}/retry"), Value::Null).await
    };
    let (status, again) = retry("here", b"here", false).await;
    assert_eq!((status, &again["retry_of"]), (StatusCode::ACCEPTED, &json!("here")));
    let (status, refusal) = retry("gone", b"gone", true).await;
    assert_eq!(status, 409, "{refusal}");
    assert!(refusal["detail"].as_str().unwrap().contains("send them again"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_bundles_are_sent_at_a_time_and_others_come_again() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    let task = t.created(json!([{"path": "a"}]), json!({})).await;
    t.until_ordered("a", 1).await;
    let bundle = format!("/{}/bundle?first=0&count=1", task["id"].as_str().unwrap());
    let dispatch = &t.master.server.dispatch;
    let mut permits: Vec<_> = std::iter::from_fn(|| dispatch.bundle_permit().ok()).collect();
    let refused = t.as_node("a", &bundle).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()),
        (503, "5")
    );
    permits.pop();
    // The answer's permit is free once it was sent.
    for _ in 0..3 {
        let sent = async || Some(t.as_node("a", &bundle).await).filter(|sent| sent.status() == 200);
        assert_eq!(until(sent).await.bytes().await.unwrap(), "one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_files_with_all_that_can_be_said_of_them_are_read() {
    let t = TestMaster::with_root(5).await;
    let digest = sha256(b"none");
    let file = |n: usize| json!({"name": format!("a,b,{n}"), "sha256": digest, "size": 4});
    let files: Vec<_> = (0..20_000).map(file).collect();
    let (status, answer) = t.dispatched(files.into(), json!({})).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("was uploaded"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_node_key_is_set_nobody_is_a_node_without_it() {
    let t = TestMaster::with_root(5).await;
    t.write("a", b"one");
    let task = t.created(json!([{"path": "a"}]), json!({})).await;
    t.until_ordered("a", 1).await;
    let (_, key) = t.post("/api/v1/nodes/key", json!({})).await;
    let file = format!("/{}/files/0", task["id"].as_str().unwrap());
    assert_eq!(t.as_node("a", &file).await.status(), 403);
    assert_eq!(t.report("a", &task, "done").await, 403);
    let request = t.request(Method::GET, &format!("{OF_NODES}{file}"));
    let request = request.header("edge-mirror-node", "a");
    assert_eq!(
        request.header("x-api-key", key["key"].as_str().unwrap()).send().await.unwrap().status(),
        200
    );
}
