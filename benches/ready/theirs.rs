//! A main server of another kind: answers each poll at once, whatever it is
//! asked, and puts the time into every answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use futures_util::stream;
use serde_json::{Value, json};

use super::log::{Log, id_of};

/// How the bytes of a package are put onto the wire.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub(crate) struct Theirs {
    pub log: Log,
    meetings: Arc<Mutex<Meetings>>,
    pub address: SocketAddr,
}

#[derive(Default)]
struct Meetings {
    packages: BTreeMap<String, Bytes>,
    token: u64,
}

impl Theirs {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
        let address = listener.address();
        let theirs = Self { log: Log::default(), meetings: Arc::default(), address };
        let router = Router::new()
            .route("/api/v1/nodes/heartbeat", post(heartbeat))
            .route("/api/v1/nodes/{call}", post(async || Json(json!({"status": "success"}))))
            .route("/api/v1/meetings/status/node", get(status))
            .route("/api/v1/meetings/active/meetings", get(active))
            .route("/uploads/packages/{name}", get(upload))
            .with_state(theirs.clone());
        tasks.spawn("theirs", listener.serve(router, tasks.clone(), tasks.token().clone()));
        theirs
    }

    fn meetings(&self) -> MutexGuard<'_, Meetings> {
        self.meetings.lock().expect("nobody panics with it")
    }

    pub(crate) fn begin(&self, id: &str, package: &[u8]) -> Instant {
        let mut meetings = self.meetings();
        meetings.packages.insert(id.to_owned(), Bytes::copy_from_slice(package));
        meetings.token += 1;
        Instant::now()
    }

    pub(crate) fn end(&self, id: &str) {
        let mut meetings = self.meetings();
        meetings.packages.remove(id);
        meetings.token += 1;
    }
}

async fn heartbeat(State(theirs): State<Theirs>, body: Bytes) -> Json<Value> {
    theirs.log.heartbeat(&body);
    Json(json!({"status": "success", "timestamp": 1.5}))
}

async fn status(State(theirs): State<Theirs>) -> Json<Value> {
    theirs.log.polled();
    let meetings = theirs.meetings();
    let item = |id: &String| json!({"id": id, "title": "预算会议 Budget"});
    let active: Vec<_> = meetings.packages.keys().map(item).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Json(json!({"id": meetings.token.to_string(), "active_meetings": active, "timestamp": now}))
}

async fn active(State(theirs): State<Theirs>) -> Json<Value> {
    let meetings = theirs.meetings();
    let item = |id: &String| {
        let url = format!("/uploads/packages/meeting_{id}_pdfs.zip");
        json!({"id": id, "title": "预算会议 Budget", "time": "", "status": "进行中", "package_url": url})
    };
    Json(meetings.packages.keys().map(item).collect())
}

async fn upload(
    State(theirs): State<Theirs>,
    Path(name): Path<String>,
    method: Method,
) -> Response {
    let path = format!("/uploads/packages/{name}");
    let found = id_of(&path).and_then(|id| Some((id, theirs.meetings().packages.get(id)?.clone())));
    let Some((id, package)) = found else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, HeaderValue::from_static("unquoted"));
    headers.insert(header::CONTENT_LENGTH, package.len().into());
    if method == Method::HEAD {
        theirs.log.headed();
        return (headers, Body::empty()).into_response();
    }
    theirs.log.asked(id);
    let pieces = stream::unfold(package, |mut rest| async move {
        let piece = rest.split_to(PIECE_BYTES.min(rest.len()));
        (!piece.is_empty()).then_some((Ok::<_, std::io::Error>(piece), rest))
    });
    (headers, theirs.log.passing(id, pieces)).into_response()
}
