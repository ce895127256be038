//! `GET /api/v1/meetings/status/node`: the nodes' poll.
//!
//! A node of ours sends the version that it has (`If-None-Match`) and how long it
//! would wait for another one (`Prefer: wait`, RFC 7240). Its answer is held back
//! until it differs, so that a node learns of a start immediately.
//! `Preference-Applied` says that it was held, or would have been; without
//! `Prefer`, the answer is immediate.
//!
//! What else a node understands it says in `Edge-Mirror-Accept`
//! ([`extension`](edge_mirror_protocol::extension)): the answer has those sections,
//! and its version covers them. Who says nothing is answered as ever.
//!
//! Whom to pull packages from is another answer for each node, so that section is for a
//! node that says who it is, and is known to be that: it has the key by which nodes know
//! each other.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::access::NodeKeyCheck;
use edge_mirror_protocol::{
    extension::{ACCEPT_HEADER, AcceptedSections},
    preference,
    relay::NODE_HEADER,
};
use tokio::sync::watch;

use crate::{
    api::node_key,
    node_status::{NodeStatus, RelayAnswer, StatusText},
    server::Server,
    state::{dispatch::DispatchNotice, fleet::Admission, relay::RelayPlan},
};

/// Upper bound of any wait, so that each side sees that the other is alive.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const PREFER: HeaderName = HeaderName::from_static(preference::PREFER);
const ACCEPT: HeaderName = HeaderName::from_static(ACCEPT_HEADER);
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

impl StatusText {
    fn matches_etag(&self, known: Option<&str>) -> bool {
        // By the weak comparison (RFC 9110, 13.1.2); a digest has no commas.
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        known.is_some_and(|tags| tags.split(',').any(|tag| opaque(tag) == opaque(&self.version)))
    }

    fn answer(&self, known: Option<&str>, now: UnixMillis) -> Response {
        let version = [(header::ETAG, self.version.clone())];
        if self.matches_etag(known) {
            return (StatusCode::NOT_MODIFIED, version).into_response();
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        let body = Body::from(format!(
            "{}{}}}",
            self.json_head,
            serde_json::Value::from(now.as_secs_f64())
        ));
        (version, json, body).into_response()
    }
}

/// A poll, and what its answer is made of. Nothing here refers to the request: its headers
/// would keep hyper's buffer of 8 KiB in memory for as long as the poll is held.
struct NodePoll {
    /// The versions that the node has, as `If-None-Match` lists them.
    known: Option<Box<str>>,
    accepted: AcceptedSections,
    /// The node, if it may be told of others.
    node: Option<String>,
    status: watch::Receiver<Arc<NodeStatus>>,
    plan: watch::Receiver<Arc<RelayPlan>>,
    tasks: watch::Receiver<Arc<DispatchNotice>>,
}

pub(crate) async fn for_nodes(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (wait, accepted) = (preferred_wait(&parts.headers), accepted_sections(&parts.headers));
    let node = polling_node(&server, &parts, accepted).await;
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let known = known.map(Box::from);
    drop(parts);
    let (status, plan) = (server.status.subscribe(), server.relay.subscribe());
    plan_for_newcomer(&server, node.as_deref()).await;
    let tasks = server.dispatch.subscribe();
    let mut poll = NodePoll { known, accepted, node, status, plan, tasks };
    let mut text = poll.text(&server);
    let mut applied = wait.is_some();
    if let Some(wait) = wait.filter(|_| text.matches_etag(poll.known.as_deref())) {
        match server.waiting.try_acquire() {
            Ok(_permit) => {
                let change = async {
                    while text.matches_etag(poll.known.as_deref()) && poll.wait_for_news().await {
                        text = poll.text(&server);
                    }
                };
                tokio::select! {
                    () = change => {}
                    () = tokio::time::sleep(wait) => {}
                    () = server.closing.cancelled() => {}
                }
            }
            Err(_) => applied = false,
        }
    }
    let mut answer = text.answer(poll.known.as_deref(), server.clock.now());
    if accepted != AcceptedSections::default() {
        // A cache must not give it to those who did not ask for it.
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static(ACCEPT_HEADER));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if applied {
        answer.headers_mut().insert(APPLIED, HeaderValue::from_static("wait"));
    }
    answer
}

impl NodePoll {
    /// The answer as of now. The status comes first: a plan is published before the
    /// status that it is for.
    fn text(&mut self, server: &Server) -> Arc<StatusText> {
        let status = self.status.borrow_and_update().clone();
        let text = status.text_for(self.accepted);
        let plan = self.plan.borrow_and_update().clone();
        let tasks = self.tasks.borrow_and_update().clone();
        let Some(node) = &self.node else { return text.clone() };
        let assignments = plan.assignments(node).filter(|_| self.accepted.relay);
        let with_relay = assignments.and_then(|assignments| {
            let packages = status.with_prestaged(assignments);
            text.with_relay(&RelayAnswer { key: server.relay_key.reveal(), packages })
        });
        let text = with_relay.map_or_else(|| text.clone(), Arc::new);
        let version = tasks.version(node).filter(|_| self.accepted.dispatch);
        let with_dispatch = version.and_then(|version| text.with_dispatch(&version));
        with_dispatch.map_or(text, Arc::new)
    }

    /// False when there won't be any.
    async fn wait_for_news(&mut self) -> bool {
        tokio::select! {
            changed = self.status.changed() => changed.is_ok(),
            changed = self.plan.changed(), if self.node.is_some() => changed.is_ok(),
            changed = self.tasks.changed(), if self.node.is_some() => changed.is_ok(),
        }
    }
}

/// Plans at once for a node that has come since the last plan: it must not begin to pull
/// from here meanwhile.
async fn plan_for_newcomer(server: &Arc<Server>, node: Option<&str>) {
    let Some(node) = node else { return };
    let is_planned = server.relay.borrow().assignments(node).is_some();
    if !is_planned && server.registry().has_relay(node, server.clock.now()) {
        let planning = server.clone();
        tasks::blocking(move || planning.plan_relays()).await;
    }
}

async fn polling_node(
    server: &Server,
    parts: &Parts,
    accepted: AcceptedSections,
) -> Option<String> {
    if !accepted.relay && !accepted.dispatch {
        return None;
    }
    accepted_node(server, parts).await
}

/// The node that a request names, if it is one of this fleet.
pub(super) async fn accepted_node(server: &Server, parts: &Parts) -> Option<String> {
    let node = parts.headers.get(NODE_HEADER)?.to_str().ok()?;
    let key = node_key::check_key(server, &parts.headers).await;
    if key == NodeKeyCheck::Wrong {
        return None;
    }
    let (caller, now) = (node_key::caller(server, parts, key), server.clock.now());
    let admission = server.registry().admission(server.node_policy(), node, caller, now);
    (admission == Admission::Accepted).then(|| node.to_owned())
}

fn lines<'a>(asked: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    asked.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

fn accepted_sections(asked: &HeaderMap) -> AcceptedSections {
    AcceptedSections::parse(lines(asked, &ACCEPT))
}

/// Longest time to hold back the answer, if allowed.
pub(super) fn preferred_wait(asked: &HeaderMap) -> Option<Duration> {
    let wait = preference::preferred_wait(lines(asked, &PREFER));
    wait.filter(|wait| !wait.is_zero()).map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use axum::body::Bytes;
    use edge_mirror_protocol::{package::PackageId, relay::RelayKey};
    use edge_mirror_store::{
        Store,
        testing::{put, zip_of},
    };
    use reqwest::{Method, RequestBuilder, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        server::MAX_WAITING,
        state::{
            commands::{MeetingCommand, execute},
            meetings::{Meeting, MeetingTable},
        },
        tests::{TestMaster, fake_node},
    };

    const PATH: &str = "/api/v1/meetings/status/node";

    fn field(answer: &Response, name: &str) -> String {
        answer.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    /// A poll that waits for another answer.
    async fn asking(t: &TestMaster, wait: &str) -> RequestBuilder {
        let version = field(&t.get(PATH).await, "etag");
        assert!(version.starts_with("W/\""), "{version}");
        t.request(Method::GET, PATH).header("prefer", wait).header("if-none-match", version)
    }

    /// Returns the answer after `change`, which runs once the poll is waiting.
    async fn told(t: &TestMaster, change: impl Future<Output = ()>) -> Value {
        let waiting = asking(t, "wait=60").await;
        let change = async {
            until_waiting(t, 1).await;
            change.await;
        };
        let (answer, ()) = tokio::join!(waiting.send(), change);
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &*field(&answer, "preference-applied")),
            (200, "wait")
        );
        answer.json().await.unwrap()
    }

    async fn until_waiting(t: &TestMaster, count: usize) {
        while t.master.server.waiting.available_permits() != MAX_WAITING - count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_poll_is_held_back_until_its_answer_differs() {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"one")).await;
        let told_of = |answer: &Value| answer["active_meetings"].as_array().unwrap().len();
        let started = told(&t, t.started("m")).await;
        assert_eq!(told_of(&started), 1);
        let other = told(&t, async { drop(t.upload("m", zip_of(b"another")).await) }).await;
        assert_ne!(other["active_meetings"][0]["sha256"], started["active_meetings"][0]["sha256"]);
        let ended = told(&t, async {
            t.post("/api/v1/meetings/m/end", json!(null)).await;
        });
        assert_eq!(told_of(&ended.await), 0);
    }

    #[tokio::test]
    async fn a_held_poll_keeps_no_buffer_of_its_request() {
        let t = TestMaster::start().await;
        let version = field(&t.get(PATH).await, "etag");
        let buffer = Bytes::from(format!("wait=60{version}"));
        let value = |from: usize, to: usize| HeaderValue::from_maybe_shared(buffer.slice(from..to));
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(PREFER, value(0, 7).unwrap());
        request.headers_mut().insert(header::IF_NONE_MATCH, value(7, buffer.len()).unwrap());
        // Outlives the select, which drops what it owns.
        let mut poll = std::pin::pin!(for_nodes(State(t.master.server.clone()), request));
        tokio::select! {
            answer = &mut poll => panic!("answered instead of held: {answer:?}"),
            () = until_waiting(&t, 1) => assert!(buffer.is_unique()),
        }
    }

    #[test]
    fn the_version_stands_for_all_that_is_said_but_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let mut book = MeetingTable::default();
        let versions_of = |book: &MeetingTable| {
            let status = NodeStatus::of(book, &store);
            let version = |packages| {
                let accepted = AcceptedSections { packages, ..AcceptedSections::default() };
                status.text_for(accepted).version.clone()
            };
            [version(false), version(true)]
        };
        let mut versions = vec![versions_of(&book)];
        let mut differs = |book: &MeetingTable| {
            let (before, now) = (versions.last().unwrap().clone(), versions_of(book));
            let differs = [0, 1].map(|n| before[n] != now[n]);
            assert_eq!(differs[0], differs[1], "whatever a node accepts");
            versions.push(now);
            differs[0]
        };
        let id: PackageId = "m".parse().unwrap();
        let change = |book: &mut MeetingTable, command| {
            execute(book, &command, "renewed".into()).unwrap();
        };
        let meeting = Meeting::new(id.clone(), "T".into(), String::new(), UnixMillis::from_secs(1));
        change(&mut book, MeetingCommand::Create(meeting));
        assert!(!differs(&book), "nodes are not told of what is not running");
        let at = UnixMillis::from_secs(2);
        change(&mut book, MeetingCommand::Start { id: id.clone(), at });
        assert!(differs(&book));
        book.token = "another".into();
        assert!(differs(&book));
        put(&store, "m", &zip_of(b"a package"));
        assert!(differs(&book));
        put(&store, "m", &zip_of(b"another one"));
        assert!(differs(&book));
        let status = NodeStatus::of(&book, &store);
        let plain = status.text_for(AcceptedSections::default());
        let said = |ms| to_bytes(plain.answer(None, UnixMillis::from_millis(ms)).into_body());
        assert_ne!(said(1000), said(2500));
        let said: Value = serde_json::from_slice(&said(2500)).unwrap();
        assert_eq!((&said["id"], &said["timestamp"]), (&json!("another"), &json!(2.5)));
        let at = UnixMillis::from_secs(3);
        change(&mut book, MeetingCommand::End { id: id.clone(), at });
        assert!(differs(&book));
    }

    fn to_bytes(body: Body) -> axum::body::Bytes {
        futures_util::FutureExt::now_or_never(axum::body::to_bytes(body, usize::MAX))
            .unwrap()
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_that_accept_more_are_told_more_and_the_others_what_they_have_always_been() {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"papers")).await;
        t.started("m").await;
        let poll = |accept: Option<&'static str>| {
            let request = t.request(Method::GET, PATH).header("prefer", "wait=60");
            match accept {
                Some(accept) => request.header(ACCEPT, accept),
                None => request,
            }
        };
        let names = |answer: &Response| {
            let mut names: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let old = poll(None).send().await.unwrap();
        let tag = field(&old, "etag");
        let headers = names(&old);
        assert!(!headers.contains(&"vary".to_owned()) && headers.contains(&"etag".to_owned()));
        let old: Value = old.json().await.unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&old), ["id", "active_meetings", "timestamp"]);
        let with_package = ["id", "title", "sha256", "size", "package_url"];
        assert_eq!(keys(&old["active_meetings"][0]), with_package);
        // Nothing that is known here: nothing more is told.
        for unknown in ["packages", "version=0, packages", "version=2, casts", "version=1"] {
            assert_eq!(field(&poll(Some(unknown)).send().await.unwrap(), "etag"), tag, "{unknown}");
        }

        let accept = "version=3, casts, packages";
        let new = poll(Some(accept)).send().await.unwrap();
        let mut of_its_own = headers.clone();
        of_its_own.extend(["cache-control", "vary"].map(ToOwned::to_owned));
        of_its_own.sort();
        assert_eq!(names(&new), of_its_own);
        let version = field(&new, "etag");
        assert_ne!(version, tag);
        let new: Value = new.json().await.unwrap();
        assert_eq!(keys(&new), ["id", "active_meetings", "edge_mirror", "timestamp"]);
        assert_eq!(keys(&new["active_meetings"][0]), ["id", "title"]);
        assert_eq!((&new["edge_mirror"]["version"], &new["id"]), (&json!(1), &old["id"]));
        let hint = &new["edge_mirror"]["packages"][0];
        assert_eq!(keys(hint), ["id", "sha256", "size", "package_url"]);
        for key in ["id", "sha256", "size", "package_url"] {
            assert_eq!(hint[key], old["active_meetings"][0][key]);
        }
        // Each is held back by its own version.
        let other = poll(Some(accept)).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(other.status(), 200);
        let held = poll(Some(accept)).header("if-none-match", version);
        let change = async {
            until_waiting(&t, 1).await;
            t.upload("m", zip_of(b"other papers")).await;
        };
        let (told, ()) = tokio::join!(held.send(), change);
        let told: Value = told.unwrap().json().await.unwrap();
        assert_ne!(told["edge_mirror"]["packages"][0]["sha256"], hint["sha256"]);
    }

    /// A heartbeat of a node that passes packages on.
    async fn relay_beat(t: &TestMaster, node_id: &str, address: &str, more: Value) {
        let mut mirror = json!({
            "version": "1.0", "downloads": 0, "free_bytes": 1, "packages": [],
            "relay": {"address": format!("{node_id}.inner:8001"), "site": "a", "max_children": 4},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            mirror[name] = value.clone();
        }
        let body = json!({
            "node_id": node_id, "address": address, "status": "online",
            "active_meetings": [], "synced_meetings": [], "mirror": mirror,
        });
        assert_eq!(t.post("/api/v1/nodes/heartbeat", body).await.0, 200);
    }

    fn node_poll(t: &TestMaster, node_id: &str) -> RequestBuilder {
        let accept = edge_mirror_protocol::extension::ACCEPT;
        t.request(Method::GET, PATH).header(ACCEPT, accept).header(NODE_HEADER, node_id)
    }

    async fn relay_section(poll: RequestBuilder) -> Value {
        let answer = poll.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["active_meetings"][0]["id"], "m");
        answer["edge_mirror"]["relay"].clone()
    }

    /// Waits until the plan covers so many nodes.
    async fn until_planned(t: &TestMaster, nodes: &[&str]) {
        let mut plan = t.master.server.relay.subscribe();
        let all = |plan: &Arc<RelayPlan>| nodes.iter().all(|id| plan.assignments(id).is_some());
        let waiting = plan.wait_for(all);
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_names_itself_is_told_its_parent_with_the_start() {
        let t = TestMaster::start().await;
        let sha256 = t.meeting("m", &zip_of(b"papers")).await;
        let (at_a, _a) = fake_node("a").await;
        let (at_b, _b) = fake_node("b").await;
        relay_beat(&t, "a", &at_a, json!({})).await;
        relay_beat(&t, "b", &at_b, json!({})).await;
        until_planned(&t, &["a", "b"]).await;
        t.started("m").await;
        let [a, b] = [node_poll(&t, "a"), node_poll(&t, "b")].map(relay_section);
        let (a, b) = (a.await, b.await);
        assert_eq!(a["key"], b["key"]);
        assert!(RelayKey::from_str(a["key"].as_str().unwrap()).is_ok());
        let parent = |section: &Value| section["packages"][0]["parent"]["node_id"].clone();
        let parents = [parent(&a), parent(&b)];
        assert!(
            parents == [json!(null), json!("a")] || parents == [json!("b"), json!(null)],
            "{parents:?}"
        );
        let child = if parent(&a).is_null() { &b } else { &a };
        let address = child["packages"][0]["parent"]["address"].as_str().unwrap();
        assert!(address.ends_with(".inner:8001"), "{address}");

        for (named, accept) in [
            ("", "version=1, packages, relay"),
            ("c", "version=1, packages, relay"),
            ("a", "version=1, packages"),
        ] {
            let poll = t.request(Method::GET, PATH).header(ACCEPT, accept);
            assert_eq!(relay_section(poll.header(NODE_HEADER, named)).await, Value::Null);
        }
        let alone = t.request(Method::GET, PATH).header(ACCEPT, "version=1, relay");
        let alone = relay_section(alone.header(NODE_HEADER, "a")).await;
        assert_eq!(alone, a, "also without the section of packages");

        // Who has it is told of no parent, and feeds the other one.
        relay_beat(&t, "a", &at_a, json!({"packages": [{"id": "m", "sha256": sha256}]})).await;
        let mut plan = t.master.server.relay.subscribe();
        plan.wait_for(|plan| plan.assignments("a").unwrap().is_empty()).await.unwrap();
        assert_eq!(relay_section(node_poll(&t, "a")).await["packages"], json!([]));
        assert_eq!(parent(&relay_section(node_poll(&t, "b")).await), "a");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_page_is_shown_who_pulls_from_whom_and_how_far_each_is() {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"papers")).await;
        t.started("m").await;
        let (at_a, _a) = fake_node("a").await;
        relay_beat(&t, "a", &at_a, json!({})).await;
        relay_beat(&t, "b", "127.0.0.1:9", json!({})).await;
        until_planned(&t, &["a", "b"]).await;
        t.reached("a").await;
        let pull = json!({"id": "m", "received_bytes": 5, "rate": 7, "parent": "a"});
        let unknown = json!({"id": "no meeting", "received_bytes": 5});
        relay_beat(&t, "b", "127.0.0.1:9", json!({"pulls": [unknown, pull]})).await;
        let mut plan = t.master.server.relay.subscribe();
        let is_child =
            |plan: &Arc<RelayPlan>| plan.assignments("b").unwrap()[0].assignment.parent.is_some();
        let planned = plan.wait_for(is_child);
        drop(tokio::time::timeout(Duration::from_secs(20), planned).await.unwrap().unwrap());
        let overview = t.json("/api/v1/overview").await;
        let size = overview["meetings"][0]["size"].clone();
        assert_eq!(
            overview["relays"],
            json!([{"id": "m", "size": size, "missing": 2, "depth": 1, "pulls": [
                {"node_id": "a", "parent": null, "progress": null},
                {"node_id": "b", "parent": "a",
                    "progress": {"source": "a", "received": 5, "rate": 7}},
            ]}])
        );
        assert_eq!(overview["nodes"][0]["site"], "a");
        let metrics = t.get("/metrics").await.text().await.unwrap();
        for line in [
            r#"edge_mirror_master_relay_pulls{source="node"} 1"#,
            r#"edge_mirror_master_relay_pulls{source="main_server"} 0"#,
            "edge_mirror_master_relay_depth 1",
        ] {
            assert!(metrics.contains(line), "{line}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_package_is_spread_before_its_meeting_starts_and_kept_until_it_does() {
        let t = TestMaster::start().await;
        let sha256 = t.meeting("m", &zip_of(b"papers")).await;
        t.meeting("later", &zip_of(b"other papers")).await;
        t.started("m").await;
        relay_beat(&t, "a", "127.0.0.1:9", json!({})).await;
        until_planned(&t, &["a"]).await;
        let distribute = "/api/v1/meetings/later/distribute";
        let tag = field(&node_poll(&t, "a").send().await.unwrap(), "etag");
        let held = node_poll(&t, "a").header("prefer", "wait=60").header("if-none-match", tag);
        let change = async {
            until_waiting(&t, 1).await;
            let (status, meeting) = t.post(distribute, json!(null)).await;
            assert_eq!((status.as_u16(), &meeting["prestaged"]), (200, &json!(true)));
            assert_eq!(meeting["status"], "未开始");
        };
        let (section, ()) = tokio::join!(relay_section(held), change);
        let later = |section: &Value| {
            let mut packages = section["packages"].as_array().unwrap().iter();
            packages.find(|package| package["id"] == "later").cloned()
        };
        assert!(later(&section).is_some(), "{section}");
        // It may have been planned for a moment before it was offered.
        let (section, offer) = loop {
            let section = relay_section(node_poll(&t, "a")).await;
            if let Some(offer) = later(&section).filter(|offer| offer["prestage"].is_object()) {
                break (section, offer);
            }
        };
        assert_eq!(section["packages"][0].get("prestage"), None, "it runs");
        assert_eq!(offer["parent"], Value::Null);
        let path = offer["prestage"]["package_url"].as_str().unwrap();
        assert_eq!(t.get(path).await.status(), 200);
        assert_eq!(
            t.get("/api/v1/meetings/later/download-package").await.status(),
            404,
            "clients get nothing of it yet"
        );
        let direct = t.get("/api/v1/meetings/later/download-package-direct").await;
        assert_eq!(direct.status(), 404, "nor do nodes that would give it to them");
        // Who has it is told as long as it is to keep it.
        let has = json!([{"id": "later", "sha256": offer["prestage"]["sha256"]},
            {"id": "m", "sha256": sha256}]);
        relay_beat(&t, "a", "127.0.0.1:9", json!({"packages": has})).await;
        let mut plan = t.master.server.relay.subscribe();
        plan.wait_for(|plan| plan.assignments("a").unwrap().is_empty()).await.unwrap();
        let kept = relay_section(node_poll(&t, "a")).await;
        assert_eq!(kept["packages"].as_array().unwrap().len(), 1);
        assert_eq!(later(&kept).unwrap()["prestage"], offer["prestage"]);
        t.started("later").await;
        let started = t.json("/api/v1/meetings/later").await;
        assert_eq!(started["prestaged"], false);
        assert_eq!(t.post(distribute, json!(null)).await.1["prestaged"], false, "no change");
        assert_eq!(relay_section(node_poll(&t, "a")).await["packages"], json!([]));

        t.post("/api/v1/meetings", json!({"id": "bare", "title": "B"})).await;
        let bare = t.post("/api/v1/meetings/bare/distribute", json!(null)).await;
        assert_eq!(bare.0, 409, "{}", bare.1);
        assert_eq!(t.post("/api/v1/meetings/none/distribute", json!(null)).await.0, 404);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_poll_is_held_until_this_node_has_another_parent() {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"papers")).await;
        t.started("m").await;
        let (at_a, _a) = fake_node("a").await;
        let (at_b, _b) = fake_node("b").await;
        relay_beat(&t, "a", &at_a, json!({})).await;
        relay_beat(&t, "b", &at_b, json!({})).await;
        until_planned(&t, &["a", "b"]).await;
        let section = relay_section(node_poll(&t, "a")).await;
        let (child, root) = match section["packages"][0]["parent"].is_null() {
            true => ("b", "a"),
            false => ("a", "b"),
        };
        let tag = async |node| field(&node_poll(&t, node).send().await.unwrap(), "etag");
        let held = |node, tag| {
            let poll = node_poll(&t, node).header("prefer", "wait=60");
            poll.header("if-none-match", tag).send()
        };
        let (of_child, of_root) = (held(child, tag(child).await), held(root, tag(root).await));
        let change = async {
            until_waiting(&t, 2).await;
            // A third node hangs below the others; only the root's death concerns them.
            relay_beat(&t, "c", &at_a, json!({})).await;
            until_planned(&t, &["c"]).await;
            assert_eq!(t.master.server.waiting.available_permits(), MAX_WAITING - 2);
            t.post("/api/v1/nodes/unregister", json!({"node_id": root})).await;
        };
        let (of_child, of_root, ()) = tokio::join!(of_child, of_root, change);
        let answer: Value = of_child.unwrap().json().await.unwrap();
        assert_eq!(answer["edge_mirror"]["relay"]["packages"][0]["parent"], Value::Null);
        let answer: Value = of_root.unwrap().json().await.unwrap();
        assert_eq!(answer["edge_mirror"]["relay"], Value::Null, "it is unknown now");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_nodes_have_to_send_a_key_only_those_that_do_are_told_of_others() {
        let t = TestMaster::start().await;
        t.meeting("m", &zip_of(b"papers")).await;
        t.started("m").await;
        relay_beat(&t, "a", "127.0.0.1:9", json!({})).await;
        until_planned(&t, &["a"]).await;
        let key = "0123456789abcdef";
        assert_eq!(t.post("/api/v1/nodes/key", json!({"key": key})).await.0, 200);
        assert_eq!(relay_section(node_poll(&t, "a")).await, Value::Null);
        let wrong = node_poll(&t, "a").header("x-api-key", "0123456789abcdeF");
        assert_eq!(relay_section(wrong).await, Value::Null);
        let right = relay_section(node_poll(&t, "a").header("x-api-key", key)).await;
        assert_eq!(right["packages"][0]["id"], "m");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_news_the_wait_ends_by_itself_and_with_the_server() {
        let t = TestMaster::start().await;
        let unchanged = asking(&t, "wait=1").await.send().await.unwrap();
        assert_eq!(unchanged.status(), 304);
        assert_eq!(field(&unchanged, "preference-applied"), "wait");
        assert!(!field(&unchanged, "etag").is_empty());

        let waiting = asking(&t, "wait=60").await;
        let stopped = async {
            until_waiting(&t, 1).await;
            t.master.server.closing.cancel();
        };
        let both = async { tokio::join!(waiting.send(), stopped) };
        let (answer, ()) = tokio::time::timeout(LONGEST_WAIT / 2, both).await.unwrap();
        assert_eq!(answer.unwrap().status(), 304);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_does_not_ask_to_wait_or_knows_another_answer_is_answered_at_once() {
        let t = TestMaster::start().await;
        let plain = t.get(PATH).await;
        assert_eq!(field(&plain, "preference-applied"), "");
        assert_eq!(field(&plain, "content-type"), "application/json");
        let first = t.request(Method::GET, PATH).header("prefer", "wait=60").send().await.unwrap();
        assert_eq!((first.status().as_u16(), &*field(&first, "preference-applied")), (200, "wait"));
        let old = t.request(Method::GET, PATH).header("if-none-match", "W/\"0\"");
        let old = old.header("prefer", "wait=60").send().await.unwrap();
        assert_eq!(old.status(), 200);
        let conditional = asking(&t, "respond-async").await.send().await.unwrap();
        assert_eq!(conditional.status(), 304);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn places_to_wait_are_bounded_and_given_back() {
        let t = TestMaster::start().await;
        let waiting = tokio::spawn(asking(&t, "wait=60").await.send());
        until_waiting(&t, 1).await;
        // It hangs up.
        waiting.abort();
        until_waiting(&t, 0).await;

        let all = t.master.server.waiting.acquire_many(MAX_WAITING as u32).await.unwrap();
        let refused = asking(&t, "wait=60").await.send().await.unwrap();
        assert_eq!(refused.status(), 304);
        assert_eq!(field(&refused, "preference-applied"), "", "it is not to ask again at once");
        drop(all);
    }

    #[test]
    fn only_who_asks_for_it_is_kept_waiting() {
        for (lines, expected) in [
            (&[][..], None),
            (&["wait=10"], Some(10)),
            (&["wait=100000"], Some(60)),
            (&["wait=0"], None),
        ] {
            let mut asked = HeaderMap::new();
            for line in lines {
                asked.append(PREFER, HeaderValue::from_static(line));
            }
            assert_eq!(preferred_wait(&asked).map(|wait| wait.as_secs()), expected, "{lines:?}");
        }
    }
}
