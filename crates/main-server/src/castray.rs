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
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post},
};
use edge_mirror_base::tasks;
use edge_mirror_http::{
    access::{self, AuthMethod, Operator},
    wire::{self, body::drain_and_answer, websocket::SocketLimits},
};
use edge_mirror_settings::Subnet;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use crate::server::Server;
use figures::FigureBook;
use folder::{FileFolder, FolderLimits};
use history::MessageHistory;
pub(crate) use listener::CastRayListener;
use status::StatusCache;

/// Events that are kept for sockets that are behind, whatever the options say.
const MAX_EVENTS: usize = 10_000;
/// Files that are made, read or digested at a time: each keeps a disk busy.
const MAX_WORKING: usize = 2;
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Options of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRayOptions {
    pub port: u16,
    /// Addresses that may call besides programs on this machine.
    pub allow_from: Vec<Subnet>,
    /// Bytes of all files.
    pub max_bytes: u64,
    /// Files.
    pub max_files: u64,
    /// Bytes of one.
    pub max_file_bytes: u64,
    /// Uploads at a time.
    pub max_uploads: u64,
    /// Messages that are shown.
    pub max_messages: u64,
    /// WebSockets at a time.
    pub max_sockets: u64,
    /// Events that one may be behind; the oldest make room.
    pub max_behind: u64,
    pub socket: SocketLimits,
}

impl Default for CastRayOptions {
    fn default() -> Self {
        Self {
            port: 0,
            allow_from: Vec::new(),
            max_bytes: 2_000_000_000,
            max_files: 10_000,
            max_file_bytes: 1 << 30,
            max_uploads: 8,
            max_messages: 10_000,
            max_sockets: 100,
            max_behind: 256,
            socket: SocketLimits::default(),
        }
    }
}

struct CastRayGateway {
    server: Arc<Server>,
    allow_from: Vec<Subnet>,
    figures: Mutex<FigureBook>,
    history: Mutex<MessageHistory>,
    folder: Arc<FileFolder>,
    working: Arc<Semaphore>,
    uploading: Semaphore,
    events: broadcast::Sender<Arc<str>>,
    sockets: Arc<Semaphore>,
    socket_limits: SocketLimits,
    status: Mutex<StatusCache>,
}

type Gateway = State<Arc<CastRayGateway>>;

impl CastRayGateway {
    /// Opens the folder of files, which is created if it is not there. Blocks.
    fn open(server: Arc<Server>, options: &CastRayOptions) -> io::Result<Self> {
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let permits = |count: u64| size(count).min(Semaphore::MAX_PERMITS);
        let limits = FolderLimits {
            max_bytes: options.max_bytes,
            max_files: size(options.max_files),
            max_file_bytes: options.max_file_bytes,
        };
        let folder = FileFolder::open(server.data().join("castray"), limits)?;
        Ok(Self {
            server,
            allow_from: options.allow_from.clone(),
            figures: Mutex::default(),
            history: Mutex::new(MessageHistory::new(size(options.max_messages))),
            folder: Arc::new(folder),
            working: Arc::new(Semaphore::new(MAX_WORKING)),
            uploading: Semaphore::new(permits(options.max_uploads)),
            events: broadcast::Sender::new(size(options.max_behind).clamp(1, MAX_EVENTS)),
            sockets: Arc::new(Semaphore::new(permits(options.max_sockets))),
            socket_limits: options.socket,
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

    /// Does work that keeps a disk busy. It goes on when the client leaves, and keeps its
    /// permit.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Never closed.
        let permit = self.working.clone().acquire_owned().await.ok();
        let held = move || {
            let done = work();
            drop(permit);
            done
        };
        tasks::blocking(held).await
    }

    /// Tells all sockets of an event.
    fn tell(&self, kind: &str, data: &Value) {
        let text = ascii::escaped(&json!({"type": kind, "data": data}).to_string());
        // An error says that nobody is there.
        let _ = self.events.send(text.into());
    }
}

fn router(gateway: Arc<CastRayGateway>) -> Router {
    let access = gateway.server.access.clone();
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
        .layer(middleware::from_fn_with_state(gateway.clone(), refuse_strangers))
        .layer(middleware::from_fn(wire::confidential))
        .layer(middleware::from_fn(wire::security_headers))
        .with_state(gateway)
}

async fn unknown() -> Response {
    wire::detail(StatusCode::NOT_FOUND, "Not Found")
}

fn generator_routes() -> Router<Arc<CastRayGateway>> {
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
async fn refuse_strangers(State(gateway): Gateway, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let access = &gateway.server.access;
    let address = access.caller(&parts).address;
    let is_listed = gateway.allow_from.iter().any(|subnet| subnet.contains(address));
    if is_listed && may_be_rebound(&parts.headers) {
        access.log_refused(&parts, "a browser's, by a name that others may have made point here");
        let text = "浏览器请用 IP 地址或不带点的主机名访问 / a browser has to name an IP address or a host without a dot";
        let answer = wire::detail(StatusCode::FORBIDDEN, text);
        return drain_and_answer(&parts.headers, body, answer).await;
    }
    if is_listed || access.is_local(&parts) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    access.log_refused(&parts, "not on this machine, and not in --castray-from");
    let text = format!(
        "只接受本机的请求；启动主控服务器时可用 --castray-from 允许 {address} / only programs on this machine may call; start the main server with --castray-from to allow {address}"
    );
    drain_and_answer(&parts.headers, body, wire::detail(StatusCode::FORBIDDEN, text)).await
}

/// True if a page that made its own name point here (DNS rebinding) may have sent it: here is
/// no login that would keep it out. Browsers name the origin; programs don't.
fn may_be_rebound(headers: &HeaderMap) -> bool {
    let is_browsers = headers.contains_key(header::ORIGIN) || headers.contains_key(SITE);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => "",
    };
    is_browsers && !is_address_or_local_name(host)
}

/// True of an IP address or a name without a dot, with or without a port: nobody can have
/// such a name of their own.
fn is_address_or_local_name(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        let is_end = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return is_end && address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let is_name = !name.is_empty() && !name.contains('.');
    is_port(port) && (is_name || name.parse::<Ipv4Addr>().is_ok())
}

/// The caller, who may do what this protocol can.
struct CastRayCaller(Operator);

impl FromRequestParts<Arc<CastRayGateway>> for CastRayCaller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        gateway: &Arc<CastRayGateway>,
    ) -> Result<Self, Self::Rejection> {
        let access = &gateway.server.access;
        let how = match access.is_local(parts) {
            true => AuthMethod::Local,
            false => AuthMethod::Castray,
        };
        Ok(Self(Operator { address: access.caller(parts).address, how }))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn browsers_name_an_address_or_a_name_that_nobody_can_register() {
        for host in ["10.0.0.5:8010", "10.0.0.5", "[fd00::1]:8010", "[::1]", "main", "main:8010"] {
            assert!(is_address_or_local_name(host), "{host}");
        }
        for host in
            ["venue.example", "main.:80", "10.0.0.5.evil.example", "[x]", "[::1]x", "", ":1"]
        {
            assert!(!is_address_or_local_name(host), "{host}");
        }
        let asked = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|&(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let headers: HeaderMap = fields.collect();
            may_be_rebound(&headers)
        };
        let host = ("host", "venue.example");
        assert!(!asked(&[host]), "a program");
        assert!(asked(&[host, ("origin", "http://venue.example")]));
        assert!(asked(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!asked(&[("host", "10.0.0.5"), ("origin", "http://10.0.0.5")]));
    }
}
