//! The node's HTTP face. It shows what the workers report and asks `fetch`
//! for packages; it never talks to the main server itself.

mod config;
mod control;
mod download;
mod error;
mod panel;
mod status;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::FromRef,
    http::{HeaderName, Method, header},
    middleware,
    routing::{get, post},
};
use tower_http::cors::{Any, CorsLayer};

use crate::{board::Board, config::Settings, delivery::Traffic, fetch::Fetch, wire};

/// What the handlers show and use; each takes only its part.
#[derive(Clone)]
pub struct Face {
    pub settings: Arc<Settings>,
    pub board: Arc<Board>,
    pub fetch: Fetch,
    pub traffic: Arc<Traffic>,
    pub listening: Listening,
}

/// How the node was told to listen on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub host: IpAddr,
    /// The configuration's port does not count then.
    pub fixed_port: Option<u16>,
}

impl Face {
    pub fn router(self) -> Router {
        // Downloads and the status may be read from any page; configuration
        // and control may not.
        let open = Router::new()
            .route("/api/v1/meetings/{id}/download-package", get(download::package))
            .route("/api/meetings/{id}/download", get(download::package_for_old_clients))
            .route("/api/status", get(status::status))
            .layer(cors());
        let operators = Router::new()
            .route("/", get(panel::redirect))
            .route("/static/{*path}", get(panel::file))
            .route("/api/config", get(config::show).post(config::change))
            .route("/api/config/heartbeat", post(config::change_heartbeat))
            .route("/api/service/start", post(control::start))
            .route("/api/service/stop", post(control::stop))
            .layer(middleware::from_fn(wire::refuse_foreign));
        open.merge(operators)
            .fallback(wire::not_found)
            .method_not_allowed_fallback(wire::method_not_allowed)
            .with_state(self)
    }
}

fn cors() -> CorsLayer {
    let exposed = [
        header::ETAG,
        header::CONTENT_DISPOSITION,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        HeaderName::from_static("repr-digest"),
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .expose_headers(exposed)
}

macro_rules! part_of_face {
    ($($part:ident: $type:ty),+ $(,)?) => {$(
        impl FromRef<Face> for $type {
            fn from_ref(face: &Face) -> Self {
                face.$part.clone()
            }
        }
    )+};
}

part_of_face! {
    settings: Arc<Settings>,
    board: Arc<Board>,
    fetch: Fetch,
    traffic: Arc<Traffic>,
    listening: Listening,
}
