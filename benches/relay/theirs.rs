//! The real main server's slow path, played by a script: a package is chunked, without
//! validator and length, and all pulls together get so many bytes per second. It knows
//! nothing of relaying; nodes find each other in its list.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::Listener;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::Instant};

use super::{
    fleet::{MAIN_PORT, MEETING},
    network::BENCH,
};

const PIECE_BYTES: usize = 16 << 10;
/// Whoever asked for nothing for so long has saved nothing up.
const IDLE: Duration = Duration::from_millis(50);

/// Gone when dropped.
pub(crate) struct Theirs {
    shared: Arc<Shared>,
    tasks: Tasks,
    runtime: Runtime,
}

struct Shared {
    package: Bytes,
    bytes_per_s: u64,
    is_running: Mutex<bool>,
    nodes: Mutex<BTreeMap<String, String>>,
    /// When the next piece may go, whoever gets it.
    next: Mutex<Option<Instant>>,
    pulls: AtomicUsize,
    sent: AtomicU64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics with it")
}

impl Theirs {
    pub(crate) fn start(package: Bytes, bytes_per_s: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            package,
            bytes_per_s,
            is_running: Mutex::default(),
            nodes: Mutex::default(),
            next: Mutex::default(),
            pulls: AtomicUsize::default(),
            sent: AtomicU64::default(),
        });
        let (runtime, tasks) = (Runtime::new()?, Tasks::new());
        let router = Router::new()
            .route("/api/v1/nodes/register", post(known))
            .route("/api/v1/nodes/heartbeat", post(known))
            .route("/api/v1/nodes/unregister", post(unregister))
            .route("/api/v1/nodes/list", get(list))
            .route("/api/v1/meetings/status/node", get(status))
            .route("/api/v1/meetings/{id}/download-package-direct", get(direct))
            .with_state(shared.clone());
        runtime.block_on(async {
            let listener = Listener::bind(Self::address())?;
            tasks.spawn("theirs", listener.serve(router, tasks.clone(), tasks.token().clone()));
            anyhow::Ok(())
        })?;
        Ok(Self { shared, tasks, runtime })
    }

    pub(crate) fn address() -> SocketAddr {
        (BENCH, MAIN_PORT).into()
    }

    pub(crate) fn nodes(&self) -> usize {
        lock(&self.shared.nodes).len()
    }

    pub(crate) fn start_meeting(&self) {
        *lock(&self.shared.is_running) = true;
    }

    pub(crate) fn pulls(&self) -> usize {
        self.shared.pulls.load(Ordering::Relaxed)
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        self.runtime.block_on(self.tasks.shut_down(Duration::from_secs(1)));
    }
}

impl Shared {
    async fn turn(&self, bytes: usize) {
        let at = {
            let (mut next, now) = (lock(&self.next), Instant::now());
            // A timer that came late is made up for.
            let at = next.filter(|next| *next + IDLE > now).unwrap_or(now);
            *next = Some(at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64));
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

async fn known(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Json<Value> {
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    lock(&shared.nodes).insert(text("node_id"), text("address"));
    Json(json!({"status": "success", "timestamp": 1.5}))
}

async fn unregister(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Json<Value> {
    lock(&shared.nodes).remove(body["node_id"].as_str().unwrap_or_default());
    Json(json!({"status": "success"}))
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let item = |(id, address): (&String, &String)| json!({"node_id": id, "address": address, "status": "online", "last_seen": 0.5, "uptime": 60.0});
    Json(lock(&shared.nodes).iter().map(item).collect())
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let is_running = *lock(&shared.is_running);
    let active: Vec<_> = is_running
        .then(|| json!({"id": MEETING, "title": "预算会议 Budget"}))
        .into_iter()
        .collect();
    let token = if is_running { "2" } else { "1" };
    Json(json!({"id": token, "active_meetings": active, "timestamp": 1.5}))
}

async fn direct(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if id != MEETING {
        return StatusCode::NOT_FOUND.into_response();
    }
    shared.pulls.fetch_add(1, Ordering::Relaxed);
    let pieces = stream::unfold((shared.package.clone(), shared), |(mut rest, shared)| async {
        let piece = rest.split_to(PIECE_BYTES.min(rest.len()));
        if piece.is_empty() {
            return None;
        }
        shared.turn(piece.len()).await;
        shared.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Some((Ok::<_, Infallible>(piece), (rest, shared)))
    });
    ([(header::CONTENT_TYPE, "application/zip")], Body::from_stream(pieces)).into_response()
}
