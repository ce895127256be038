//! A listener that speaks CastRay's protocol, for its clients: its nodes are our virtual nodes
//! and the known ones, its messages are casts, its transfers are casts that name a file, or
//! tasks of dispatch.
//!
//! The protocol has no authentication: whoever may call is decided here, by address. What it
//! counts and shows is in memory; messages and virtual nodes are in the database, files in a
//! folder of their own.

mod ascii;
mod body;
mod cluster;
mod content;
mod figures;
mod files;
mod folder;
mod generator;
mod history;
mod listener;
mod message;
mod nodes;
mod pages;
mod sending;
mod sizes;
mod socket;
mod status;
mod transfer;
mod upload;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post},
};
use edge_mirror_http::{
    access::{self, AuthMethod, Operator},
    wire::{self, body::drain_and_answer},
};
use edge_mirror_settings::Subnet;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use crate::server::Server;
use figures::FigureBook;
use folder::FileFolder;
use history::MessageHistory;
pub(crate) use listener::CastRayListener;
use status::StatusCache;

/// Events that a socket may be behind; the oldest make room.
const MAX_EVENTS: usize = 256;
/// Files that are made, read or digested at a time: each keeps a disk busy.
const MAX_WORKING: usize = 2;
/// Uploads at a time.
const MAX_UPLOADING: usize = 8;

/// Options of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRayOptions {
    pub port: u16,
    /// Addresses that may call besides programs on this machine.
    pub allow_from: Vec<Subnet>,
    /// Bytes of all files.
    pub max_bytes: u64,
    /// Messages that are shown.
    pub max_messages: u64,
    /// WebSockets at a time.
    pub max_sockets: u64,
}

impl Default for CastRayOptions {
    fn default() -> Self {
        Self {
            port: 0,
            allow_from: Vec::new(),
            max_bytes: 2_000_000_000,
            max_messages: 10_000,
            max_sockets: 100,
        }
    }
}

struct CastRayFace {
    server: Arc<Server>,
    allow_from: Vec<Subnet>,
    figures: Mutex<FigureBook>,
    history: Mutex<MessageHistory>,
    folder: Arc<FileFolder>,
    working: Semaphore,
    uploading: Semaphore,
    events: broadcast::Sender<Arc<str>>,
    sockets: Arc<Semaphore>,
    status: Mutex<StatusCache>,
}

type Face = State<Arc<CastRayFace>>;

impl CastRayFace {
    /// Opens the folder of files, which is created if it is not there. Blocks.
    fn open(server: Arc<Server>, options: &CastRayOptions) -> io::Result<Self> {
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let folder = FileFolder::open(server.data().join("castray"), options.max_bytes)?;
        Ok(Self {
            server,
            allow_from: options.allow_from.clone(),
            figures: Mutex::default(),
            history: Mutex::new(MessageHistory::new(size(options.max_messages))),
            folder: Arc::new(folder),
            working: Semaphore::new(MAX_WORKING),
            uploading: Semaphore::new(MAX_UPLOADING),
            events: broadcast::Sender::new(MAX_EVENTS),
            sockets: Arc::new(Semaphore::new(
                size(options.max_sockets).min(Semaphore::MAX_PERMITS),
            )),
            status: Mutex::default(),
        })
    }

    fn figures(&self) -> MutexGuard<'_, FigureBook> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, MessageHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it is a node or a virtual one.
    fn has_node(&self, id: &str) -> bool {
        self.server.virtual_nodes().has(id) || self.server.known().get(id).is_some()
    }

    /// Tells all sockets of an event.
    fn tell(&self, kind: &str, data: &Value) {
        let text = ascii::escaped(&json!({"type": kind, "data": data}).to_string());
        // An error says that nobody is there.
        let _ = self.events.send(text.into());
    }
}

fn router(face: Arc<CastRayFace>) -> Router {
    let access = face.server.access.clone();
    Router::new()
        .route("/", get(pages::start))
        .route("/ui", get(pages::ui))
        .route("/static/{*path}", get(pages::file))
        .route("/ws", get(socket::connect))
        .route("/api/status", get(status::show))
        .route("/api/nodes", post(nodes::create))
        .route("/api/nodes/external", get(cluster::nodes).delete(nodes::remove_external))
        .route("/api/nodes/{node}", delete(nodes::remove).get(unknown))
        .route("/api/nodes/{node}/messages", get(nodes::messages))
        .route("/api/send", post(sending::send))
        .route("/api/upload", post(upload::receive).layer(DefaultBodyLimit::disable()))
        .route("/api/file-transfers/status", get(status::transfers))
        .route("/api/file-transfers/manual", post(transfer::send_manually))
        .route("/api/file-transfers/auto/toggle", post(transfer::toggle))
        .merge(generator_routes())
        .route("/api/cluster/discover-external", post(cluster::discover))
        .route("/api/cluster/connect-external", post(cluster::connect))
        .route("/api/cluster/disconnect-external", delete(cluster::disconnect))
        .route("/api/cluster/external-info", get(cluster::show))
        .fallback(unknown)
        .method_not_allowed_fallback(wire::method_not_allowed)
        .layer(middleware::from_fn_with_state(access, access::refuse_foreign))
        .layer(middleware::from_fn_with_state(face.clone(), refuse_strangers))
        .layer(middleware::from_fn(wire::confidential))
        .layer(middleware::from_fn(wire::security_headers))
        .with_state(face)
}

async fn unknown() -> Response {
    wire::detail(StatusCode::NOT_FOUND, "Not Found")
}

fn generator_routes() -> Router<Arc<CastRayFace>> {
    Router::new()
        .route("/api/file-generator/presets", get(generator::presets))
        .route("/api/file-generator/info", get(generator::show))
        .route("/api/file-generator/create", post(generator::create))
        .route("/api/file-generator/create-preset", post(generator::create_preset))
        .route("/api/file-generator/create-and-transfer", post(generator::create_and_send))
        .route("/api/file-generator/create-demo", post(generator::create_demo))
        .route("/api/file-generator/files", get(files::list))
        .route("/api/file-generator/files/{name}", delete(files::remove))
}

/// Lets programs on this machine through, and those that are listed.
async fn refuse_strangers(State(face): Face, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let access = &face.server.access;
    let address = access.caller(&parts).address;
    let is_listed = face.allow_from.iter().any(|subnet| subnet.contains(address));
    if is_listed || access.is_local(&parts) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    access.log_refused(&parts, "not on this machine, and not in --castray-from");
    let text = format!(
        "只接受本机的请求；启动主控服务器时可用 --castray-from 允许 {address} / only programs on this machine may call; start the main server with --castray-from to allow {address}"
    );
    drain_and_answer(&parts.headers, body, wire::detail(StatusCode::FORBIDDEN, text)).await
}

/// The caller, who may do what this protocol can.
struct FaceCaller(Operator);

impl FromRequestParts<Arc<CastRayFace>> for FaceCaller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        face: &Arc<CastRayFace>,
    ) -> Result<Self, Self::Rejection> {
        let access = &face.server.access;
        let how = match access.is_local(parts) {
            true => AuthMethod::Local,
            false => AuthMethod::Open,
        };
        Ok(Self(Operator { address: access.caller(parts).address, how }))
    }
}
