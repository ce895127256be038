//! Casts on their way to nodes.

use std::collections::HashSet;

use super::*;

const CASTS: &str = "/api/v1/casts";
const POLL: &str = "/api/v1/nodes/casts";

/// A node that asks for casts, and the place that it has reached.
struct FakeNode<'a> {
    id: &'a str,
    stream: String,
    after: u64,
    /// The ids of those that it has.
    has: HashSet<String>,
}

impl<'a> FakeNode<'a> {
    fn new(id: &'a str) -> Self {
        Self { id, stream: String::new(), after: 0, has: HashSet::new() }
    }

    fn request(&self, t: &TestMaster, wait_s: u64) -> reqwest::RequestBuilder {
        let path = format!("{POLL}?stream={}&after={}", self.stream, self.after);
        let request = t.request(Method::GET, &path).header("edge-mirror-node", self.id);
        request.header("prefer", format!("wait={wait_s}"))
    }

    /// The bodies of the next answer that it did not have; the place moves on as if they were
    /// on disk.
    async fn next(&mut self, t: &TestMaster, wait_s: u64) -> Vec<Value> {
        let (status, answer) = both(self.request(t, wait_s)).await;
        assert_eq!(status, 200, "{answer}");
        self.stream = answer["stream"].as_str().unwrap().to_owned();
        self.after = answer["after"].as_u64().unwrap();
        let casts = answer["casts"].as_array().unwrap().iter();
        let new = casts.filter(|cast| self.has.insert(cast["id"].as_str().unwrap().to_owned()));
        new.map(|cast| cast["body"].clone()).collect()
    }
}

impl TestMaster {
    async fn with_nodes(self, ids: &[&str]) -> Self {
        for id in ids {
            self.register(id, "127.0.0.1:1").await;
            self.until_known(id).await;
        }
        self
    }

    /// Sends a cast and returns its path.
    async fn send(&self, to: Value, body: Value, expires_in_s: u64) -> String {
        let cast = json!({"topic": "t", "body": body, "to": to, "expires_in_s": expires_in_s});
        let (status, cast) = self.post(CASTS, cast).await;
        assert_eq!(status, 201, "{cast}");
        format!("{CASTS}/{}", cast["id"].as_str().unwrap())
    }

    async fn until_waiting(&self, count: usize) {
        let begun = Instant::now();
        while self.master.server.cast_outbox.waiters() != count {
            assert!(begun.elapsed() < GRACE * 4);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until a cast's states are these, by node.
    async fn until_delivered(&self, path: &str, wanted: &[(&str, &str)]) {
        let wanted: Vec<_> =
            wanted.iter().map(|(id, state)| json!({"node_id": id, "state": state})).collect();
        let begun = Instant::now();
        loop {
            let delivery = self.json(path).await["delivery"].clone();
            if delivery["nodes"] == json!(wanted) {
                return;
            }
            assert!(begun.elapsed() < GRACE * 4, "{delivery} is not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_at_once_and_gets_what_is_for_it_in_order() {
    let t = TestMaster::start().await.with_nodes(&["a", "b"]).await;
    let (mut a, mut b) = (FakeNode::new("a"), FakeNode::new("b"));
    assert_eq!(a.next(&t, 60).await, [] as [Value; 0], "it learns where it is at once");
    assert!(!a.stream.is_empty());
    let waiting = a.request(&t, 60);
    let (answer, path) = tokio::join!(both(waiting), async {
        t.until_waiting(1).await;
        t.send(json!({"nodes": ["b"]}), json!("not for a"), 60).await;
        t.send(json!({"all": true}), json!({"text": "移到"}), 60).await
    });
    assert_eq!(answer.1["casts"][0]["body"], json!({"text": "移到"}));
    assert_eq!(answer.1["casts"][0]["topic"], "t");
    assert_eq!((&answer.1["after"], answer.1["casts"].as_array().unwrap().len()), (&json!(2), 1));
    t.until_delivered(&path, &[("a", "sent"), ("b", "pending")]).await;
    for n in 0..3 {
        t.send(json!({"nodes": ["a"]}), json!(n), 60).await;
    }
    assert_eq!(a.next(&t, 60).await, [json!({"text": "移到"}), json!(0), json!(1), json!(2)]);
    t.until_delivered(&path, &[("a", "sent"), ("b", "pending")]).await;
    assert_eq!(a.next(&t, 1).await, [] as [Value; 0]);
    t.until_delivered(&path, &[("a", "received"), ("b", "pending")]).await;
    assert_eq!(b.next(&t, 60).await, [json!("not for a"), json!({"text": "移到"})]);
    assert_eq!(b.next(&t, 1).await, [] as [Value; 0]);
    assert_eq!(b.after, 5, "what is for others is passed by");
    let t = t.restarted().await;
    t.until_delivered(&path, &[("a", "received"), ("b", "received")]).await;
    assert_eq!(a.next(&t, 1).await, [] as [Value; 0], "it goes on from where it was");
    t.send(json!({"all": true}), json!("again"), 60).await;
    assert_eq!(a.next(&t, 60).await, [json!("again")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_all_that_is_still_valid_once_and_the_rest_is_missed() {
    let t = TestMaster::start().await.with_nodes(&["a", "A", "节点\"%"]).await;
    let cancelled = t.send(json!({"nodes": ["a"]}), json!("cancelled"), 60).await;
    let expired = t.send(json!({"nodes": ["a"]}), json!("expired"), 1).await;
    let cast = |n: usize| json!({"topic": "t", "body": n, "to": {"nodes": ["a", "节点\"%"]}});
    let many: Vec<_> = (0..250).map(cast).collect();
    assert_eq!(t.post(CASTS, json!(many)).await.0, 201);
    let all = t.send(json!({"all": true}), json!("all"), 60).await;
    let (status, _) = both(t.request(Method::DELETE, &cancelled)).await;
    assert_eq!(status, 200);
    let begun = Instant::now();
    while t.json(&expired).await["status"] == "active" {
        assert!(begun.elapsed() < GRACE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // From memory, and after a restart from the database.
    let mut t = t;
    for is_restarted in [false, true] {
        if is_restarted {
            t = t.restarted().await;
        }
        let mut node = FakeNode::new("a");
        let mut bodies = Vec::new();
        while node.after < 253 {
            bodies.extend(node.next(&t, 60).await);
        }
        let expected: Vec<_> = (0..250).map(|n| json!(n)).chain([json!("all")]).collect();
        assert_eq!(bodies, expected);
        assert_eq!(node.next(&t, 1).await, [] as [Value; 0]);
        let mut other = FakeNode::new("A");
        assert_eq!(other.next(&t, 60).await, [json!("all")], "ids differ by case");
    }
    t.until_delivered(&expired, &[("a", "missed")]).await;
    t.until_delivered(&cancelled, &[("a", "missed")]).await;
    t.until_delivered(&all, &[("A", "sent"), ("a", "received"), ("节点\"%", "pending")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_invited_to_ask_once_there_has_been_a_cast() {
    let t = TestMaster::start().await.with_nodes(&["a"]).await;
    while t.master.server.cast_outbox.head().is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let beat = json!({"node_id": "a", "address": "127.0.0.1:1", "status": "online",
        "active_meetings": [], "synced_meetings": [], "mirror": {"version": "1", "downloads": 0, "free_bytes": 1, "packages": []}});
    let invited =
        async || t.post("/api/v1/nodes/heartbeat", beat.clone()).await.1["mirror"]["casts"] == true;
    assert!(!invited().await);
    t.send(json!({"all": true}), json!("first"), 60).await;
    assert!(invited().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_accepted_nodes_are_given_casts() {
    let t = TestMaster::start().await.with_nodes(&["a"]).await;
    t.send(json!({"all": true}), json!("secret"), 60).await;
    let ask = async |name: Option<&str>| {
        let request = t.request(Method::GET, POLL);
        let request = match name {
            Some(name) => request.header("edge-mirror-node", name),
            None => request,
        };
        both(request).await.0.as_u16()
    };
    assert_eq!((ask(None).await, ask(Some("a")).await), (403, 200));
    assert_eq!(ask(Some("b")).await, 403, "it is not known");
    let (_, key) = t.post("/api/v1/nodes/key", json!({})).await;
    assert!(key["key"].is_string());
    let wrong = t.request(Method::GET, POLL).header("edge-mirror-node", "a");
    assert_eq!(both(wrong.header("x-api-key", "wrong")).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_casts_of_every_main_server_and_goes_on_at_another_one() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let on = async || {
        let folder = tempfile::tempdir().unwrap();
        let options = MasterOptions { state: location.clone(), ..options(&folder, LONG) };
        TestMaster::with_options(folder, options).await
    };
    let one = on().await.with_nodes(&["a"]).await;
    let other = on().await.with_nodes(&["a"]).await;
    let mut node = FakeNode::new("a");
    assert_eq!(node.next(&other, 1).await, [] as [Value; 0]);
    for n in 0..30 {
        let t = if n % 3 == 0 { &other } else { &one };
        t.send(json!({"all": true}), json!(n), 60).await;
    }
    let mut bodies = Vec::new();
    let begun = Instant::now();
    // It changes sides with each request.
    for n in 0.. {
        let t = if n % 2 == 0 { &other } else { &one };
        assert!(begun.elapsed() < GRACE * 4, "only {bodies:?} came");
        bodies.extend(node.next(t, 1).await);
        if bodies.len() >= 30 {
            break;
        }
    }
    assert_eq!(json!(bodies), json!((0..30).collect::<Vec<_>>()));
    // What the other one cancels is not given here.
    let gone = one.send(json!({"all": true}), json!("gone"), 60).await;
    assert_eq!(both(other.request(Method::DELETE, &gone)).await.0, 200);
    let begun = Instant::now();
    loop {
        // A look that does not move the node's place.
        let (_, answer) = both(node.request(&one, 1)).await;
        if answer["casts"] == json!([]) {
            break;
        }
        assert!(begun.elapsed() < GRACE, "{answer}");
    }
    other.send(json!({"all": true}), json!("last"), 60).await;
    assert_eq!(node.next(&one, 60).await, [json!("last")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_more_than_a_folder_of_before_gets_what_is_sent_then() {
    let t = TestMaster::start().await.with_nodes(&["a"]).await;
    let mut a = FakeNode::new("a");
    let send = async |t: &TestMaster, body: &str| {
        drop(t.send(json!({"all": true}), json!(body), 60).await);
    };
    send(&t, "1").await;
    assert_eq!(a.next(&t, 60).await, [json!("1")]);
    let stopped = t.stopped().await;
    let data = stopped.path().join("data");
    let (file, copy) = (data.join("state.sqlite"), data.join("copy"));
    std::fs::copy(&file, &copy).unwrap();
    let t = TestMaster::in_folder(stopped, LONG).await;
    for body in ["2", "3", "4"] {
        send(&t, body).await;
    }
    while a.after < 4 {
        a.next(&t, 60).await;
    }
    let stopped = t.stopped().await;
    for leftover in ["state.sqlite-wal", "state.sqlite-shm"] {
        let _ = std::fs::remove_file(data.join(leftover));
    }
    std::fs::rename(&copy, &file).unwrap();
    let t = TestMaster::in_folder(stopped, LONG).await;
    assert_eq!(a.next(&t, 60).await, [] as [Value; 0], "it learns where it is");
    let waiting = a.request(&t, 60);
    let (answer, ()) = tokio::join!(both(waiting), async {
        t.until_waiting(1).await;
        send(&t, "new").await;
    });
    assert_eq!(answer.1["casts"][0]["body"], "new");
    assert_eq!(a.next(&t, 60).await, [json!("new")], "it knows none by this id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_set_back_while_main_servers_run_gives_no_id_twice() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let on = async || {
        let folder = tempfile::tempdir().unwrap();
        let options = MasterOptions { state: location.clone(), ..options(&folder, LONG) };
        TestMaster::with_options(folder, options).await.with_nodes(&["a"]).await
    };
    let (one, other) = (on().await, on().await);
    let mut a = FakeNode::new("a");
    let to_all = || json!({"all": true});
    other.send(to_all(), json!("1"), 60).await;
    for body in ["2", "3"] {
        one.send(to_all(), json!(body), 60).await;
    }
    while a.after < 3 {
        a.next(&one, 60).await;
    }
    let set_back = "DELETE FROM edge_mirror_cast WHERE seq > 1; UPDATE edge_mirror_cast_head SET seq = 1, casts = 1";
    // It is stopped where it is dropped.
    let _postgres = tasks::blocking(move || {
        postgres.ask("fleet", set_back);
        postgres
    })
    .await;
    // Whether the other one knew of them yet or not: the node says how far it was.
    let begun = Instant::now();
    while other.master.server.cast_outbox.head().unwrap().1 != 1 || a.after != 1 {
        assert_eq!(a.next(&other, 0).await, [] as [Value; 0]);
        assert!(begun.elapsed() < GRACE * 4, "{:?}", other.master.server.cast_outbox.head());
    }
    other.send(to_all(), json!("new"), 60).await;
    assert_eq!(a.next(&other, 60).await, [json!("new")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_that_were_removed_before_they_were_followed_are_passed_by() {
    let postgres = TestPostgres::start().await;
    let location = postgres.database("fleet").await;
    let folder = tempfile::tempdir().unwrap();
    let options = MasterOptions { state: location.clone(), ..options(&folder, LONG) };
    let t = TestMaster::with_options(folder, options).await.with_nodes(&["a"]).await;
    let mut a = FakeNode::new("a");
    t.send(json!({"all": true}), json!(1), 60).await;
    assert_eq!(a.next(&t, 60).await, [json!(1)]);
    // Another main server gave five numbers, and removed their casts.
    let _postgres = tasks::blocking(move || {
        postgres.ask("fleet", "UPDATE edge_mirror_cast_head SET seq = seq + 5");
        postgres
    })
    .await;
    let followed = async {
        t.send(json!({"all": true}), json!("next"), 60).await;
        a.next(&t, 60).await
    };
    let next = tokio::time::timeout(GRACE * 4, followed).await.expect("it follows for ever");
    assert_eq!((next, a.after), (vec![json!("next")], 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_names_another_sequence_goes_on_where_it_was_here() {
    let t = TestMaster::start().await.with_nodes(&["a"]).await;
    let mut a = FakeNode::new("a");
    for body in ["1", "2"] {
        t.send(json!({"all": true}), json!(body), 60).await;
    }
    while a.after < 2 {
        a.next(&t, 60).await;
    }
    a.next(&t, 1).await;
    let last = t.send(json!({"all": true}), json!("3"), 60).await;
    let t = t.restarted().await;
    let mut a =
        FakeNode { stream: "of another fleet".to_owned(), after: 700, ..FakeNode::new("a") };
    assert_eq!(a.next(&t, 60).await, [json!("3")]);
    t.until_delivered(&last, &[("a", "sent")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_given_nobody_elses_casts() {
    let t = TestMaster::start().await.with_nodes(&["a"]).await;
    t.send(json!({"nodes": ["a"]}), json!("for a alone"), 60).await;
    let elsewhere = tls::http(tls::client()).local_address(Some([127, 0, 0, 2].into()));
    let elsewhere = elsewhere.build().unwrap();
    let ask = elsewhere.get(t.url(POLL)).header("edge-mirror-node", "a");
    assert_eq!(both(ask).await.0, 403, "it may be any node of the fleet");
    // It registers there, and is this node from then on.
    let body = json!({"node_id": "a", "address": "127.0.0.1:1", "status": "online"});
    let register = elsewhere.post(t.url("/api/v1/nodes/register")).json(&body);
    assert_eq!(both(register).await.0, 200);
    let ask = elsewhere.get(t.url(POLL)).header("edge-mirror-node", "a");
    assert_eq!(both(ask).await.1["casts"][0]["body"], "for a alone");
    assert_eq!(both(FakeNode::new("a").request(&t, 1)).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_at_a_node_has_read_is_shown_of_its_topic() {
    let t = TestMaster::start().await.with_nodes(&["a", "b"]).await;
    let mut paths = Vec::new();
    for topic in ["t", "other", "t", "t"] {
        let cast = json!({"topic": topic, "body": 1, "to": {"all": true}});
        let (_, cast) = t.post(CASTS, cast).await;
        paths.push(format!("{CASTS}/{}", cast["id"].as_str().unwrap()));
    }
    let mut a = FakeNode::new("a");
    while a.after < 4 {
        a.next(&t, 60).await;
    }
    a.next(&t, 1).await;
    let id = paths[2].rsplit_once('/').unwrap().1;
    let report = async |node: &str, read: Value| {
        let request = t.request(Method::POST, "/api/v1/nodes/casts/read");
        both(request.header("edge-mirror-node", node).json(&json!({"read": read}))).await.0
    };
    assert_eq!(report("a", json!({"t": id, "x": "unknown-1", "y": "z"})).await, 200);
    assert_eq!(report("nobody", json!({"t": id})).await, 403);
    assert_eq!(report("a", json!([])).await, 400);
    let states = ["read", "received", "read", "received"];
    for (path, state) in paths.iter().zip(states) {
        t.until_delivered(path, &[("a", state), ("b", "pending")]).await;
    }
    let t = t.restarted().await;
    for (path, state) in paths.iter().zip(states) {
        t.until_delivered(path, &[("a", state), ("b", "pending")]).await;
    }
    let delivery = t.json(&paths[0]).await["delivery"].clone();
    assert_eq!([&delivery["read"], &delivery["received"]], [1; 2], "it is there, too");
}
