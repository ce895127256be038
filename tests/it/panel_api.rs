//! What the panel asks of a node beyond the contract.

use std::collections::VecDeque;

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    Fault, ScriptedMain, TestNode, client,
    node::free_port,
    process::{NodeFolder, NodeProcess},
    until, zip_of,
};

/// A page's event stream.
struct Events {
    answer: Response,
    text: String,
    seen: VecDeque<(String, Value)>,
}

impl Events {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { answer, text: String::new(), seen: VecDeque::new() }
    }

    /// None at the stream's end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.seen.pop_front() {
                return Some(event);
            }
            let chunk = self.answer.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                if let Some((name, content)) = event.split_once('\n') {
                    let name = name.strip_prefix("event: ").unwrap().to_owned();
                    let content = content.strip_prefix("data: ").unwrap();
                    self.seen.push_back((name, serde_json::from_str(content).unwrap()));
                }
                self.text = rest.to_owned();
            }
        }
    }

    async fn until<T>(&mut self, what: &str, found: impl Fn(&str, &Value) -> Option<T>) -> T {
        let wait = async {
            loop {
                let (name, content) = self.next().await.expect(what);
                if let Some(found) = found(&name, &content) {
                    return found;
                }
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, wait).await.expect(what)
    }
}

fn named(wanted: &'static str) -> impl Fn(&str, &Value) -> Option<Value> {
    move |name, content| (name == wanted).then(|| content.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_gets_the_whole_status_and_then_what_changes() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let mut events = Events::of(client().get(node.url("/api/events"))).await;
    let (name, first) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &first["node_id"]), ("status", &json!("node-test")));
    assert!(first.get("active_meetings").is_none(), "the same once is enough");
    let (name, traffic) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &traffic["step"]), ("traffic", &json!(5)));

    main.activate("m1", "Title", &zip_of("m1"));
    let synced = |name: &str, content: &Value| {
        let changed = content["lists"]["meetings"]["changed"].as_array()?;
        let synced = changed.iter().any(|m| m["id"] == "m1" && m["state"] == "synced");
        (name == "change" && synced).then_some(())
    };
    events.until("the synced meeting", synced).await;
    main.end("m1");
    let gone = |_: &str, content: &Value| {
        let meetings = &content["lists"]["meetings"];
        let ended = meetings["changed"][0]["state"] == "inactive";
        (ended || meetings["removed"] == json!(["m1"])).then_some(())
    };
    events.until("the end of the meeting", gone).await;

    node.configure(json!({"syncInterval": 2})).await;
    events.until("the changed configuration", named("config")).await;
    events.until("a sample of the traffic", named("sample")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_for_operators_and_logging_out_ends_the_stream() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let node = folder.start().await;
    let stranger = || client().get(node.url("/api/events")).header("host", "panel.test");
    let mut strangers = Events::of(stranger()).await;
    let cookie = log_in(&node).await;
    let mut operators = Events::of(stranger().header(header::COOKIE, &cookie)).await;
    assert_eq!(operators.next().await.unwrap().0, "status");

    main.activate("m1", "A 会议", &zip_of("m1"));
    let of_meeting = |name: &str, content: &Value| {
        let lines = content.as_array().filter(|_| name == "log")?;
        lines.iter().find(|line| line["text"].as_str().unwrap().contains("A 会议")).cloned()
    };
    let line = operators.until("the line of the meeting", of_meeting).await;
    assert_eq!(line["level"], "INFO");
    assert!(line["n"].is_u64() && line["time"].as_u64().unwrap() > 1_700_000_000);

    let logout = client().post(node.url("/api/logout")).header("host", "panel.test");
    logout.header(header::COOKIE, &cookie).send().await.unwrap();
    let session = operators.until("the end of the rights", named("session")).await;
    assert_eq!(session["operator"], false);
    assert_eq!(operators.next().await, None);

    let synced = |_: &str, content: &Value| {
        let changed = content["lists"]["meetings"]["changed"].as_array()?;
        changed.iter().any(|meeting| meeting["state"] == "synced").then_some(())
    };
    let told = tokio::time::timeout(crate::support::PATIENCE, async {
        loop {
            let (name, content) = strangers.next().await.unwrap();
            assert_ne!(name, "log", "{content}");
            if synced(&name, &content).is_some() {
                return;
            }
        }
    });
    told.await.unwrap();
}

async fn log_in(node: &NodeProcess) -> String {
    let secret = async || {
        let text = node.process.errors.get();
        Some(text.split_once("#login=")?.1.split_whitespace().next()?.to_owned())
    };
    let token = until("the first link", secret).await;
    let login = client().post(node.url("/api/login")).json(&json!({"token": token}));
    let answer = login.header("host", "panel.test").send().await.unwrap();
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_do_not_hold_up_the_end() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).with(json!({"shutdownGrace": 60})).start().await;
    let mut events = Events::of(client().get(node.url("/api/events"))).await;
    events.next().await.unwrap();
    let ending = tokio::time::timeout(crate::support::PATIENCE, node.shut_down());
    assert!(ending.await.unwrap(), "nothing had to be cut off");
    while events.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_told_where_the_node_has_moved_to() {
    let main = ScriptedMain::start().await;
    let (before, after) = (free_port(), free_port());
    let node = TestNode::of(&main.authority()).with(json!({"nodePort": before})).start().await;
    let mut events = Events::of(client().get(node.url("/api/events"))).await;
    node.configure(json!({"nodePort": after})).await;
    let moved = events.until("the move", named("moved")).await;
    assert_eq!(moved, json!({"port": after}));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_by_level_number_and_count() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let node = folder.start().await;
    main.activate("m1", "Title", &zip_of("m1"));
    node.until_synced("m1").await;
    let lines = async |query: &str| -> Vec<Value> {
        let answer = client().get(node.url(&format!("/api/logs{query}"))).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["lines"].as_array().unwrap().clone()
    };
    let all = lines("").await;
    let numbers: Vec<_> = all.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.len() >= 3 && numbers.is_sorted(), "{all:?}");
    assert!(all.iter().any(|line| line["text"].as_str().unwrap().contains("is active")));
    let newest = lines("?limit=1").await;
    assert_eq!(newest.len(), 1);
    assert!(lines(&format!("?after={}", numbers[numbers.len() - 1])).await.len() <= 1);
    assert_eq!(lines("?level=ERROR").await, Vec::<Value>::new());
    for bad in ["?level=LOUD", "?after=x", "?limit=-1", "?limit=1&limit=2"] {
        let answer = client().get(node.url(&format!("/api/logs{bad}"))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
        let named = bad[1..].split('=').next().unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["detail"].as_str().unwrap().contains(named), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_names_every_setting_and_the_check_knows_what_the_node_would_refuse() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let schema = node.json("/api/config/schema").await;
    let settings = schema["settings"].as_array().unwrap();
    assert_eq!(settings.len(), edge_mirror_settings::schema::settings().count());
    for setting in settings {
        for text in ["title", "meaning", "allowed"] {
            for language in ["zh", "en"] {
                assert!(!setting[text][language].as_str().unwrap().is_empty(), "{setting}");
            }
        }
    }
    let before = node.json("/api/config").await;
    for patch in [
        json!({"syncInterval": 0}),
        json!({"heartbeat": {"timeout": 1}}),
        json!({"mainServerIp": "http://main"}),
        json!({"security": {"allowFrom": ["10.0.0.0/40"]}}),
        json!({"nodeId": "other"}),
        json!({"unknown": 1, "syncInterval": "x"}),
    ] {
        let (status, checked) = node.post("/api/config/check", patch.clone()).await;
        assert_eq!(status, StatusCode::OK);
        let (status, refused) = node.post("/api/config", patch.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let problems = checked["problems"].as_array().unwrap();
        assert!(!problems.is_empty() && checked["problems"] == refused["problems"], "{patch}");
        assert!(problems.iter().all(|p| p["zh"].is_string() && p["en"].is_string()));
    }
    let (_, checked) = node.post("/api/config/check", json!({"syncInterval": 7})).await;
    assert_eq!(checked, json!({"problems": []}));
    assert_eq!(node.json("/api/config").await, before, "checking changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_waits_for_its_next_round_is_synced_when_somebody_says_so() {
    let main = ScriptedMain::start().await;
    let quick = json!({"network": {"retryCount": 1}});
    let node = TestNode::of(&main.authority()).with(quick).start().await;
    main.play().offers = false;
    main.activate("m1", "Title", &zip_of("m1"));
    main.fail("package-direct", [Fault::Status(500), Fault::Status(500)]);
    // Two rounds failed: the third would be five to ten seconds away.
    let waiting = async || {
        let meeting = node.meeting("m1").await;
        (meeting["failed_rounds"] == 2).then_some(meeting)
    };
    let waiting = until("two failed rounds", waiting).await;
    let ahead =
        waiting["next_try"].as_u64().unwrap() - node.status().await["now"].as_u64().unwrap();
    assert!(ahead >= 4, "{waiting}");
    let problem = &node.status().await["problems"][0];
    assert_eq!((&problem["code"], &problem["meeting"]), (&json!("meeting_failing"), &json!("m1")));
    let (status, _) = node.post("/api/meetings/m1/sync", Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    node.until_synced("m1").await;
    let after = node.status().await["now"].as_u64().unwrap();
    assert!(after < waiting["next_try"].as_u64().unwrap(), "before its time");
    assert_eq!(node.status().await["problems"], json!([]));

    // One that is here is compared with the main server's.
    let pulls = main.count(Method::GET, "package-direct");
    node.post("/api/meetings/m1/sync", Value::Null).await;
    let compared = async || (main.count(Method::GET, "package-direct") > pulls).then_some(());
    until("a comparison", compared).await;
    let (status, _) = node.post("/api/meetings/other/sync", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    node.post("/api/service/stop", Value::Null).await;
    let (status, _) = node.post("/api/meetings/m1/sync", Value::Null).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_removed_by_request_unless_its_meeting_is_active() {
    let main = ScriptedMain::start().await;
    let keep = json!({"cleanup": {"enabled": false}});
    let node = TestNode::of(&main.authority()).with(keep).start().await;
    main.activate("m1", "Title", &zip_of("m1"));
    node.until_synced("m1").await;
    let delete = async |id: &str| {
        let url = node.url(&format!("/api/meetings/{id}"));
        client().delete(url).send().await.unwrap().status()
    };
    assert_eq!(delete("m1").await, StatusCode::CONFLICT);
    assert!(node.storage().join("meeting_m1/package.zip").exists());
    assert_eq!(delete("nobody").await, StatusCode::NOT_FOUND);
    assert_eq!(delete("..").await, StatusCode::NOT_FOUND);
    assert_eq!(delete("a%2Fb").await, StatusCode::BAD_REQUEST);
    // A stopped service does not know what is active.
    node.post("/api/service/stop", Value::Null).await;
    let unknown = async || (node.meeting("m1").await["state"] == "unknown").then_some(());
    until("not knowing", unknown).await;
    assert_eq!(delete("m1").await, StatusCode::CONFLICT);
    main.end("m1");
    node.post("/api/service/start", Value::Null).await;
    let ended = async || (node.meeting("m1").await["state"] == "inactive").then_some(());
    until("the end of the meeting", ended).await;
    assert_eq!(delete("m1").await, StatusCode::OK);
    assert!(!node.storage().join("meeting_m1").exists());
    assert_eq!(node.meeting("m1").await, Value::Null);
    assert_eq!(delete("m1").await, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_learns_from_our_main_server_that_its_address_is_wrong() {
    let master = crate::support::TestMaster::build().start().await;
    let nowhere = json!({"usePublicAddress": true, "publicIp": "127.0.0.1", "publicPort": 9});
    let node = TestNode::of(&master.authority()).with(nowhere).start().await;
    let told = async || {
        let status = node.status().await;
        let problem = &status["problems"][0];
        (problem["code"] == "address_unreachable").then(|| problem.clone())
    };
    let problem = until("the main server's finding", told).await;
    assert_eq!(problem["address"], "127.0.0.1:9");
    assert!(problem["text"].as_str().unwrap().contains("connection refused"), "{problem}");
}
