//! A main server that plays the real one's quirks, written from the wire
//! contract: raw `package_url`s, unquoted ETags, direct downloads that are
//! chunked without any validator, older shapes of answers. It can be told to
//! fail in the ways that were seen, and remembers what it was asked.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::{
    listen::{Handlers, Listener},
    tls::LiveServerConfig,
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::until;

/// How one answer goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Status(u16),
    /// The body breaks off after so many bytes.
    CutAfter(usize),
    /// The body ends in good order after so many bytes.
    EndAfter(usize),
    /// 200 with this instead of what was asked for.
    Instead(&'static str),
    /// Nothing at all for so long.
    Silence(Duration),
    /// 200 with this instead, as if it were the beginning of so many bytes.
    Announcing(u64, &'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Asked {
    /// A heartbeat that says that the meeting is synced.
    pub(crate) fn lists(&self, id: &str) -> bool {
        let synced = self.body["synced_meetings"].as_array();
        synced.is_some_and(|synced| synced.contains(&json!(id)))
    }

    pub(crate) fn is_pull_of(&self, id: &str) -> bool {
        self.method == Method::GET && self.path.ends_with(&format!("_{id}_pdfs.zip"))
    }
}

#[derive(Clone, Debug)]
struct Meeting {
    title: String,
    active: bool,
    package: Option<Bytes>,
    /// Another one for each version of the file.
    version: u64,
}

/// Which of the answers in the field it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Newer,
    /// `active_meeting` with one id, and no list with offers.
    OldestSingle,
    PlainIds,
    ById,
}

/// What becomes of a poll that could be held back, as our own main server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is answered at once, unchanged.
    NotAtAll,
    /// It is answered at once, and somebody on the way takes off its tag.
    Nameless,
    /// Until the token changes, however long that takes.
    ForEver,
}

pub(crate) struct Play {
    meetings: BTreeMap<String, Meeting>,
    token: u64,
    pub shape: Shape,
    /// Whether there is a list with offers.
    pub offers: bool,
    /// Meetings that are in it without an offer: their packages are being made.
    pub unoffered: BTreeSet<String>,
    /// Whether `/uploads/` honours ranges and sends quoted tags, as our own
    /// main server does and the real one does not.
    pub ranges: bool,
    /// By a part of the path; each answers once, in this order.
    faults: Vec<(String, VecDeque<Fault>)>,
    /// Pause between the pieces of a package's body.
    pub drip: Option<Duration>,
    /// How far bodies may go.
    valve: Option<watch::Receiver<usize>>,
    /// Sent with packages under `/uploads/`, as our own main server does.
    pub repr_digest: Option<String>,
    /// The tag of all versions under `/uploads/`, instead of one for each.
    pub etag: Option<String>,
    /// Answers to the question for the digests of pieces.
    pub pieces: Option<Bytes>,
    /// The date of all versions under `/uploads/`, instead of one for each.
    pub last_modified: Option<&'static str>,
    asked: Vec<Asked>,
    /// Replaces the answer to the poll.
    pub status_answer: Option<String>,
    /// As that, by the node that asks.
    pub status_answers: BTreeMap<String, String>,
    /// None: it knows nothing of that, as the real one.
    pub held: Option<Held>,
    /// Polls that are being held back.
    pub holding: usize,
    /// How long it takes to look for a package that is only asked about.
    pub slow_heads: Option<Duration>,
    /// Such questions are answered with 500,
    pub failing_heads: bool,
    /// or 405.
    pub no_heads: bool,
    /// Of each meeting, as `active/meetings` has it.
    pub time: String,
    known_nodes: BTreeMap<String, String>,
}

/// Making a package takes at least so long. Between an answer about a version
/// and the heartbeat that lists it there is less, even on a busy machine.
const RESTART: Duration = Duration::from_millis(250);

/// How the bytes of one package are put onto the wire.
const PIECE_BYTES: usize = 16 << 10;

/// Lets packages' bodies through as far as a test wants; dropped while one
/// waits for it, it breaks that one off.
pub(crate) struct Valve(watch::Sender<usize>);

impl Valve {
    /// Up to this byte of a package.
    pub(crate) fn let_through(&self, bytes: usize) {
        self.0.send_replace(bytes);
    }

    pub(crate) fn open(&self) {
        self.let_through(usize::MAX);
    }

    /// Whether a body goes through it.
    pub(crate) fn is_in_use(&self) -> bool {
        // One is held for the next body.
        self.0.receiver_count() > 1
    }
}

#[derive(Clone)]
pub(crate) struct ScriptedMain {
    play: Arc<Mutex<Play>>,
    running: Arc<Mutex<Option<Tasks>>>,
    address: SocketAddr,
    shown: Arc<LiveServerConfig>,
}

impl ScriptedMain {
    pub(crate) async fn start() -> Self {
        Self::started(Arc::default())
    }

    /// One that speaks HTTPS, as from behind a proxy.
    pub(crate) async fn start_secure(tls: Arc<rustls::ServerConfig>) -> Self {
        let shown = Arc::<LiveServerConfig>::default();
        shown.set(Some(tls));
        Self::started(shown)
    }

    fn started(shown: Arc<LiveServerConfig>) -> Self {
        let play = Play {
            meetings: BTreeMap::new(),
            token: 1,
            shape: Shape::Newer,
            offers: true,
            unoffered: BTreeSet::new(),
            ranges: false,
            faults: Vec::new(),
            drip: None,
            valve: None,
            repr_digest: None,
            etag: None,
            pieces: None,
            last_modified: None,
            asked: Vec::new(),
            status_answer: None,
            status_answers: BTreeMap::new(),
            held: None,
            holding: 0,
            slow_heads: None,
            failing_heads: false,
            no_heads: false,
            time: String::new(),
            known_nodes: BTreeMap::new(),
        };
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.address();
        let play = Arc::new(Mutex::new(play));
        let server = Self { play, running: Arc::default(), address, shown };
        server.serve(listener);
        server
    }

    fn serve(&self, listener: Listener) {
        let tasks = Tasks::new();
        let stop = tasks.token().clone();
        let answers = Handlers { shown: self.shown.clone(), ..self.router().into() };
        tasks.spawn("scripted main server", listener.serve(answers, tasks.clone(), stop));
        *self.running.lock().unwrap() = Some(tasks);
    }

    /// Closes the port and every connection.
    pub(crate) async fn go_away(&self) {
        let tasks = self.running.lock().unwrap().take();
        if let Some(tasks) = tasks {
            tasks.shut_down(Duration::from_secs(5)).await;
        }
    }

    /// Comes back at the same address, having forgotten all nodes.
    pub(crate) async fn come_back(&self) {
        self.play().known_nodes.clear();
        let listener = until("the old port", async || Listener::bind(self.address).ok()).await;
        self.serve(listener);
    }

    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn play(&self) -> MutexGuard<'_, Play> {
        self.play.lock().unwrap()
    }

    /// Starts a meeting with this package, or replaces both; the token changes.
    pub(crate) fn activate(&self, id: &str, title: &str, package: &[u8]) {
        let mut play = self.play();
        play.put(id, title, Some(Bytes::copy_from_slice(package)));
        play.token += 1;
    }

    /// As [`activate`](Self::activate), and with it what else changes.
    pub(crate) fn activate_with(&self, id: &str, package: &[u8], change: impl FnOnce(&mut Play)) {
        let mut play = self.play();
        play.put(id, "Board", Some(Bytes::copy_from_slice(package)));
        play.token += 1;
        change(&mut play);
    }

    /// A meeting that is active although its package could not be made.
    pub(crate) fn activate_without_package(&self, id: &str) {
        let mut play = self.play();
        play.put(id, "no package", None);
        play.token += 1;
    }

    /// Another file under the same name; neither list nor token tell of it.
    pub(crate) fn replace_quietly(&self, id: &str, package: &[u8]) {
        let title = self.play().meetings[id].title.clone();
        self.play().put(id, &title, Some(Bytes::copy_from_slice(package)));
    }

    /// Ends it and starts it again with another package, as fast as a real one
    /// might; neither list nor token tell of it to who does not look meanwhile.
    /// How many requests there had been by then.
    pub(crate) async fn restart(&self, id: &str, package: &[u8]) -> usize {
        let title = {
            let mut play = self.play();
            let meeting = play.meetings.get_mut(id).unwrap();
            (meeting.active, meeting.package) = (false, None);
            meeting.title.clone()
        };
        tokio::time::sleep(RESTART).await;
        let mut play = self.play();
        play.put(id, &title, Some(Bytes::copy_from_slice(package)));
        play.asked.len()
    }

    /// Another file that passes for the same version.
    pub(crate) fn swap(&self, id: &str, package: &[u8]) {
        let package = Some(Bytes::copy_from_slice(package));
        self.play().meetings.get_mut(id).unwrap().package = package;
    }

    /// From now on bodies go so far.
    pub(crate) fn valve(&self, bytes: usize) -> Valve {
        let (valve, seen) = watch::channel(bytes);
        self.play().valve = Some(seen);
        Valve(valve)
    }

    /// The package moves with the title; neither list nor token tell of it.
    pub(crate) fn rename(&self, id: &str, title: &str) {
        self.play().meetings.get_mut(id).unwrap().title = title.to_owned();
    }

    pub(crate) fn end(&self, id: &str) {
        let mut play = self.play();
        play.meetings.get_mut(id).unwrap().active = false;
        play.token += 1;
    }

    pub(crate) fn change_token(&self) {
        self.play().token += 1;
    }

    pub(crate) fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.play().faults.push((path.to_owned(), faults.into_iter().collect()));
    }

    /// Requests whose path has this part.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.play().asked.iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }

    pub(crate) fn count(&self, method: Method, part: &str) -> usize {
        self.asked(part).iter().filter(|asked| asked.method == method).count()
    }

    /// What was asked, after so many requests, until a heartbeat listed the
    /// meeting: then the real main server sends the tablets.
    pub(crate) async fn until_told(&self, id: &str, before: usize) -> Vec<Asked> {
        until(&format!("meeting {id} told"), async || {
            let mut asked = self.play().asked.split_at(before).1.to_vec();
            let told = asked.iter().position(|asked| asked.lists(id))?;
            asked.truncate(told);
            Some(asked)
        })
        .await
    }

    pub(crate) fn last_heartbeat(&self) -> Value {
        self.asked("/nodes/heartbeat").pop().map(|asked| asked.body).unwrap_or_default()
    }

    pub(crate) fn knows(&self, node_id: &str) -> Option<String> {
        self.play().known_nodes.get(node_id).cloned()
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/api/v1/nodes/register", post(register))
            .route("/api/v1/nodes/heartbeat", post(heartbeat))
            .route("/api/v1/nodes/unregister", post(unregister))
            .route("/api/v1/nodes/list", get(list_nodes))
            .route("/api/v1/meetings/status/node", get(status))
            .route("/api/v1/meetings/active/meetings", get(active))
            .route("/api/v1/meetings/{id}/download-package-direct", get(direct))
            .route("/api/v1/meetings/{id}/package-pieces", get(pieces))
            .route("/uploads/{*path}", get(upload))
            .layer(middleware::from_fn_with_state(self.clone(), remember))
            .with_state(self.clone())
    }
}

impl Play {
    fn put(&mut self, id: &str, title: &str, package: Option<Bytes>) {
        let version = self.meetings.get(id).map_or(1, |meeting| meeting.version + 1);
        let meeting = Meeting { title: title.to_owned(), active: true, package, version };
        self.meetings.insert(id.to_owned(), meeting);
    }

    fn next_fault(&mut self, path: &str) -> Option<Fault> {
        self.faults
            .iter_mut()
            .filter(|(part, _)| path.contains(part.as_str()))
            .find_map(|(_, queue)| queue.pop_front())
    }

    fn active(&self) -> Vec<(&String, &Meeting)> {
        self.meetings.iter().filter(|(_, meeting)| meeting.active).collect()
    }
}

/// Writes down what was asked and lets the next fault, if there is one, answer.
async fn remember(State(server): State<ScriptedMain>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let fault = {
        let mut play = server.play();
        play.asked.push(Asked {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers.clone(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        });
        play.next_fault(parts.uri.path())
    };
    let answer = async |bytes| next.run(Request::from_parts(parts, Body::from(bytes))).await;
    match fault {
        None => answer(bytes).await,
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, Json(json!({"detail": "scripted"}))).into_response()
        }
        Some(Fault::Instead(text)) => text.into_response(),
        Some(Fault::Announcing(length, text)) => {
            let end = stream::once(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("scripted"))
            });
            let body = Body::from_stream(stream::iter([Ok(text)]).chain(end));
            ([(header::CONTENT_LENGTH, length)], body).into_response()
        }
        Some(Fault::Silence(time)) => {
            tokio::time::sleep(time).await;
            answer(bytes).await
        }
        Some(Fault::CutAfter(length)) => shortened(answer(bytes).await, length, true).await,
        Some(Fault::EndAfter(length)) => shortened(answer(bytes).await, length, false).await,
    }
}

async fn shortened(response: Response, length: usize, broken: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    if !broken {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let kept = whole.slice(..length.min(whole.len()));
    let end = stream::once(async move {
        // So that what was sent is on its way before the connection breaks.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if broken { Err(std::io::Error::other("scripted")) } else { Ok(Bytes::new()) }
    });
    let pieces = kept.chunks(PIECE_BYTES).map(|piece| Ok(Bytes::copy_from_slice(piece)));
    let pieces: Vec<_> = pieces.collect();
    Response::from_parts(parts, Body::from_stream(stream::iter(pieces).chain(end)))
}

async fn register(State(server): State<ScriptedMain>, Json(body): Json<Value>) -> Json<Value> {
    let (id, address) = (body["node_id"].as_str().unwrap(), body["address"].as_str().unwrap());
    server.play().known_nodes.insert(id.to_owned(), address.to_owned());
    Json(json!({"status": "success", "message": format!("Node {id} registered")}))
}

async fn heartbeat(State(server): State<ScriptedMain>, Json(body): Json<Value>) -> Response {
    let listed = body["active_meetings"].as_array().zip(body["synced_meetings"].as_array());
    let titled = |(active, _): (&Vec<Value>, _)| {
        active.iter().all(|m| m["title"].is_string() && m["id"].is_string())
    };
    if !listed.is_some_and(titled) {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    let (id, address) = (body["node_id"].as_str().unwrap(), body["address"].as_str().unwrap());
    server.play().known_nodes.entry(id.to_owned()).or_insert(address.to_owned());
    Json(json!({"status": "success", "timestamp": 1.5})).into_response()
}

async fn list_nodes(State(server): State<ScriptedMain>) -> Json<Value> {
    let play = server.play();
    let node = |(id, address): (&String, &String)| json!({"node_id": id, "address": address, "status": "online", "last_seen": 1.5, "uptime": 1.5});
    Json(play.known_nodes.iter().map(node).collect())
}

async fn unregister(State(server): State<ScriptedMain>, Json(body): Json<Value>) -> Response {
    let id = body["node_id"].as_str().unwrap();
    match server.play().known_nodes.remove(id) {
        Some(_) => Json(json!({"status": "success", "message": format!("Node {id} unregistered")}))
            .into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"detail": format!("Node {id} not found")})))
            .into_response(),
    }
}

/// Counts a poll that is held back, until it is answered or its node hangs up.
struct Holding(ScriptedMain);

impl Holding {
    fn begin(server: &ScriptedMain) -> Self {
        server.play().holding += 1;
        Self(server.clone())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.play().holding -= 1;
    }
}

async fn status(State(server): State<ScriptedMain>, asked: HeaderMap) -> Response {
    let held = server.play().held;
    let version = |play: &Play| format!("W/\"{}\"", play.token);
    let known =
        |play: &Play| asked.get(header::IF_NONE_MATCH).is_some_and(|v| *v == *version(play));
    let mut answer = match held {
        Some(Held::NotAtAll) if known(&server.play()) => StatusCode::NOT_MODIFIED.into_response(),
        Some(Held::ForEver) => {
            let _holding = Holding::begin(&server);
            while known(&server.play()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            status_now(&server, &asked)
        }
        _ => status_now(&server, &asked),
    };
    if let Some(held) = held {
        let headers = answer.headers_mut();
        if held != Held::Nameless {
            headers.insert(header::ETAG, version(&server.play()).parse().unwrap());
        }
        headers.insert("preference-applied", "wait".parse().unwrap());
    }
    answer
}

fn status_now(server: &ScriptedMain, asked: &HeaderMap) -> Response {
    let play = server.play();
    let node = asked.get("edge-mirror-node").and_then(|node| node.to_str().ok());
    let own = node.and_then(|node| play.status_answers.get(node));
    if let Some(answer) = own.or(play.status_answer.as_ref()) {
        return answer.clone().into_response();
    }
    let active = play.active();
    let mut answer = json!({"id": format!("token-{}", play.token), "timestamp": 1.5});
    match play.shape {
        Shape::Newer => {
            answer["active_meetings"] =
                active.iter().map(|(id, m)| json!({"id": id, "title": m.title})).collect();
        }
        Shape::OldestSingle => answer["active_meeting"] = json!(active.first().map(|(id, _)| id)),
        Shape::PlainIds => {
            answer["active_meetings"] = active.iter().map(|(id, _)| json!(id)).collect()
        }
        Shape::ById => {
            let by_id =
                active.iter().map(|(id, m)| ((*id).clone(), json!({"title": m.title}))).collect();
            answer["active_meetings"] = Value::Object(by_id);
        }
    }
    Json(answer).into_response()
}

async fn active(State(server): State<ScriptedMain>) -> Response {
    let play = server.play();
    if play.shape == Shape::OldestSingle || !play.offers {
        return (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))).into_response();
    }
    let list: Vec<_> = play
        .active()
        .iter()
        .map(|(id, meeting)| {
            let mut item =
                json!({"id": id, "title": meeting.title, "time": play.time, "status": "进行中"});
            if meeting.package.is_some() && !play.unoffered.contains(*id) {
                item["package_url"] =
                    json!(format!("/uploads/packages/{}_{id}_pdfs.zip", meeting.title));
            }
            item
        })
        .collect();
    Json(list).into_response()
}

async fn direct(
    State(server): State<ScriptedMain>,
    Path(id): Path<String>,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (meeting, drip, valve) = {
        let play = server.play();
        (play.meetings.get(&id).cloned(), play.drip, play.valve.clone())
    };
    match meeting {
        None => {
            let detail = json!({"detail": format!("会议 {id} 不存在")});
            (StatusCode::NOT_FOUND, Json(detail)).into_response()
        }
        Some(Meeting { package: None, .. }) => {
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"detail": "no package"})))
                .into_response()
        }
        Some(Meeting { package: Some(package), .. }) => {
            let headers = [
                (header::CONTENT_TYPE, "application/zip".to_owned()),
                (
                    header::CONTENT_DISPOSITION,
                    format!("attachment; filename=\"meeting_{id}_pdfs.zip\""),
                ),
            ];
            (headers, dripping(package, 0, drip, valve)).into_response()
        }
    }
}

async fn pieces(State(server): State<ScriptedMain>) -> Response {
    let play = server.play();
    match (&play.pieces, &play.etag) {
        (Some(pieces), Some(etag)) => {
            ([(header::ETAG, etag.clone())], pieces.clone()).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn upload(
    State(server): State<ScriptedMain>,
    Path(path): Path<String>,
    method: Method,
    asked: HeaderMap,
) -> Response {
    if method == Method::HEAD {
        let (slow, failing, none) = {
            let play = server.play();
            (play.slow_heads, play.failing_heads, play.no_heads)
        };
        tokio::time::sleep(slow.unwrap_or_default()).await;
        if none {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        if failing {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    }
    let (found, ranges, drip, valve, digest, same_date) = {
        let play = server.play();
        let named = |(id, meeting): &(&String, &Meeting)| {
            path == format!("packages/{}_{id}_pdfs.zip", meeting.title)
        };
        let found = play.meetings.iter().find(named).map(|(_, meeting)| meeting.clone());
        let Play { ranges, drip, last_modified, .. } = *play;
        (found, ranges, drip, play.valve.clone(), play.repr_digest.clone(), last_modified)
    };
    let Some(Meeting { package: Some(package), version, .. }) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = match server.play().etag.clone() {
        Some(etag) => etag,
        None if ranges => format!("\"v{version}\""),
        None => format!("v{version}"),
    };
    let last_modified = match same_date {
        Some(date) => date.to_owned(),
        None => format!("Sat, 21 Nov 2026 07:00:{:02} GMT", version % 60),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, etag.parse().unwrap());
    headers.insert(header::LAST_MODIFIED, last_modified.parse().unwrap());
    headers.insert(header::CONTENT_TYPE, "application/zip".parse().unwrap());
    if ranges {
        headers.insert(header::ACCEPT_RANGES, "bytes".parse().unwrap());
    }
    if let Some(digest) = digest {
        headers.insert("repr-digest", digest.parse().unwrap());
    }
    let text = |name: header::HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    // To the letter: a quoted or weak tag is another one to the real server.
    if text(header::IF_NONE_MATCH) == Some(&etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let total = package.len();
    let from = text(header::RANGE)
        .filter(|_| ranges && text(header::IF_RANGE) == Some(&etag))
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let (status, part) = match from {
        Some(from) => {
            headers.insert(
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{total}", total - 1).parse().unwrap(),
            );
            (StatusCode::PARTIAL_CONTENT, package.slice(from..))
        }
        None => (StatusCode::OK, package),
    };
    headers.insert(header::CONTENT_LENGTH, part.len().into());
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => dripping(part, from.unwrap_or(0), drip, valve),
    };
    (status, headers, body).into_response()
}

/// A body in pieces, so that it can be met while it is under way.
fn dripping(
    bytes: Bytes,
    from: usize,
    drip: Option<Duration>,
    valve: Option<watch::Receiver<usize>>,
) -> Body {
    let pieces =
        stream::try_unfold((bytes, from, valve), move |(mut rest, at, mut valve)| async move {
            if rest.is_empty() {
                return Ok(None);
            }
            if let Some(pause) = drip {
                tokio::time::sleep(pause).await;
            }
            let mut length = PIECE_BYTES.min(rest.len());
            if let Some(valve) = &mut valve {
                let opened = valve.wait_for(|to| *to > at).await;
                let to = *opened.map_err(|_| std::io::Error::other("scripted"))?;
                length = length.min(to - at);
            }
            let piece = rest.split_to(length);
            Ok::<_, std::io::Error>(Some((piece, (rest, at + length, valve))))
        });
    Body::from_stream(pieces)
}
