//! What the main server's page shows, and who may see it.

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{PATIENCE, TestMaster, TestNode, client, until, zip_of};

const OVERVIEW: &str = "/api/v1/overview";
const EVENTS: &str = "/api/v1/events";
const TRAFFIC: &str = "/api/v1/traffic";

/// From another machine, as far as the main server can tell.
fn elsewhere(request: RequestBuilder) -> RequestBuilder {
    request.header(header::HOST, "elsewhere.example")
}

fn entry<'a>(list: &'a Value, key: &str, wanted: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|item| item[key] == wanted).unwrap_or(&Value::Null)
}

fn codes(overview: &Value) -> Vec<&str> {
    let problems = overview["problems"].as_array().unwrap().iter();
    problems.map(|problem| problem["code"].as_str().unwrap()).collect()
}

/// A page's event stream.
struct Stream {
    answer: Response,
    unread: String,
}

impl Stream {
    async fn open(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { answer, unread: String::new() }
    }

    async fn of(main: &TestMaster) -> Self {
        Self::open(client().get(main.url(EVENTS))).await
    }

    /// None at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let parts = event.strip_prefix("event: ").and_then(|e| e.split_once("\ndata: "));
                let parts = parts.map(|(name, data)| (name.to_owned(), data.parse().unwrap()));
                self.unread = rest.to_owned();
                if parts.is_some() {
                    return parts;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let chunk = chunk.expect("an event within all patience").unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The first event of this kind that `wanted` says yes to.
    async fn until(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                let (event, content) = self.next().await.expect("more events");
                if event == name && wanted(&content) {
                    return content;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("no {name}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_what_is_wrong_and_where_each_download_went() {
    let main = TestMaster::build().start().await;
    assert_eq!(codes(&main.json(OVERVIEW).await), Vec::<&str>::new());
    main.create("m1", "<b>Board</b>").await;
    main.begin("m1").await;
    let overview = main.json(OVERVIEW).await;
    assert_eq!(codes(&overview), ["meeting_without_package", "no_nodes"]);
    assert_eq!(overview["problems"][0]["title"], "<b>Board</b>", "text, whatever it looks like");

    main.put("m1", &zip_of("papers")).await;
    assert_eq!(main.redirect("m1").await, None);
    let node = TestNode::of(&main.authority()).with(json!({"nodeId": "one"})).start().await;
    main.until_held_by("m1", &["one"]).await;
    assert!(main.redirect("m1").await.is_some());

    let overview = main.json(OVERVIEW).await;
    assert_eq!(codes(&overview), Vec::<&str>::new());
    let meeting = entry(&overview["meetings"], "id", "m1");
    let shown = ["nodes", "announced", "uploading"].map(|field| &meeting[field]);
    assert_eq!(shown, [&json!(["one"]), &json!(true), &json!(false)]);
    let one = entry(&overview["nodes"], "node_id", "one");
    let shown = ["packages", "redirects", "reachable"].map(|field| &one[field]);
    assert_eq!(shown, [&json!(["m1"]), &json!(1), &json!(true)]);
    let traffic = &overview["traffic"];
    assert_eq!((&traffic["redirects"], &traffic["own_downloads"]), (&json!(1), &json!(1)));
    let recent = overview["recent"].as_array().unwrap();
    let shown: Vec<_> = recent.iter().map(|d| (&d["node"], &d["meeting"], &d["client"])).collect();
    let (m1, here) = (&json!("m1"), &json!("127.0.0.1"));
    assert_eq!(shown, [(&json!("one"), m1, here), (&Value::Null, m1, here)], "newest first");
    assert!(overview["storage"]["used"].as_u64() == meeting["size"].as_u64());
    until("a reading of the disk", async || {
        main.json(OVERVIEW).await["storage"]["free"].as_u64().filter(|free| *free > 0)
    })
    .await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_download_that_begins_is_counted() {
    let main = TestMaster::build().start().await;
    main.begin_with("m1", &zip_of("papers")).await;
    let url = main.meeting_url("m1", "/download-package");
    let whole = client().get(&url).send().await.unwrap();
    let etag = whole.headers()[header::ETAG].clone();
    client().head(&url).send().await.unwrap();
    let known = client().get(&url).header(header::IF_NONE_MATCH, etag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    // This is how nodes get theirs.
    client().get(main.meeting_url("m1", "/download-package-direct")).send().await.unwrap();
    let overview = main.json(OVERVIEW).await;
    assert_eq!(overview["traffic"]["own_downloads"], 1);
    assert_eq!(overview["recent"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_shows_is_for_operators_and_the_page_itself_for_all() {
    let main = TestMaster::build().start().await;
    for path in [OVERVIEW, EVENTS, TRAFFIC] {
        let ask = || client().get(main.url(path));
        assert_eq!(elsewhere(ask()).send().await.unwrap().status(), 401, "{path}");
        assert_eq!(ask().send().await.unwrap().status(), 200, "{path}");
        let with_token = elsewhere(ask()).bearer_auth(main.new_token());
        assert_eq!(with_token.send().await.unwrap().status(), 200, "{path}");
    }
    let page = elsewhere(client().get(main.url("/"))).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("'self'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_changes_and_what_the_last_minutes_brought() {
    let main = TestMaster::build().start().await;
    let mut stream = Stream::of(&main).await;
    let (first, state) = stream.next().await.unwrap();
    assert_eq!(
        (&*first, &state["meetings"], &state["role"]),
        ("status", &json!([]), &json!("main_server"))
    );
    assert_eq!(stream.next().await.unwrap(), ("traffic".into(), json!({"step": 5, "samples": []})));

    main.begin_with("m1", &zip_of("papers")).await;
    let change = stream
        .until("change", |change| {
            entry(&change["lists"]["meetings"]["changed"], "id", "m1")["status"] == "进行中"
        })
        .await;
    assert!(change["set"]["token"].is_string(), "{change}");
    assert_eq!(main.redirect("m1").await, None);
    let sample = stream.until("sample", |sample| sample[2] == 1).await;
    assert_eq!(sample[1], 0, "nobody was redirected");
    let history = main.json(TRAFFIC).await;
    assert!(history["samples"].as_array().unwrap().contains(&sample), "{history}");

    let gone = client().delete(main.meeting_url("m1", "")).send().await.unwrap();
    assert_eq!(gone.status(), 200);
    stream.until("change", |change| change["lists"]["meetings"]["removed"] == json!(["m1"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_login_that_it_was_opened_by() {
    let main = TestMaster::build().start().await;
    let body = json!({"token": main.new_token()});
    let login = elsewhere(client().post(main.url("/api/login"))).json(&body).send().await.unwrap();
    let cookie = login.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let mine = |request| elsewhere(request).header(header::COOKIE, &cookie);
    let mut stream = Stream::open(mine(client().get(main.url(EVENTS)))).await;
    let mut other = Stream::of(&main).await;
    let logout = mine(client().post(main.url("/api/logout"))).send().await.unwrap();
    assert_eq!(logout.status(), 200);
    stream.until("session", |session| session["operator"] == false).await;
    assert_eq!(stream.next().await, None, "and nothing after that");
    main.create("m1", "Board").await;
    other.until("change", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_hold_up_a_shutdown() {
    let main = TestMaster::build().start().await;
    let mut stream = Stream::of(&main).await;
    stream.next().await.unwrap();
    let began = Instant::now();
    main.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "its grace is 5 s");
    while stream.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_learns_whether_nodes_need_a_key() {
    let main = TestMaster::build().start().await;
    let mut stream = Stream::of(&main).await;
    stream.until("status", |state| state["node_key"] == false).await;
    let key = main.url("/api/v1/nodes/key");
    client().post(&key).json(&json!({})).send().await.unwrap();
    stream.until("change", |change| change["set"]["node_key"] == true).await;
    client().delete(&key).send().await.unwrap();
    stream.until("change", |change| change["set"]["node_key"] == false).await;
}
