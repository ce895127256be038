//! The node's HTTP interface. It shows what the workers report, asks `fetch` for packages
//! and has `casts` send messages; it never talks to the main server itself.

mod casts;
mod config;
mod control;
mod download;
mod error;
mod events;
mod files;
mod logs;
mod meetings;
mod metrics;
mod notices;
mod relay;
mod status;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::FromRef,
    http::HeaderMap,
    middleware,
    response::{Redirect, Response},
    routing::{delete, get, post},
};
use edge_mirror_base::log::Journal;
use edge_mirror_http::{
    access::{self, AccessControl},
    delivery::Traffic,
    listen::Handlers,
    requests::count_requests,
    wire::{self, docs, feed::Feed, health, pages},
};
use edge_mirror_settings::Settings;
use tokio_util::sync::CancellationToken;

use crate::{
    board::StatusBoard,
    casts::{CastHistory, CastSender},
    fetch::Fetch,
};
pub use events::run as follow;
pub use relay::RelayTraffic;
/// For `benches/flat.rs`, which sees only what is public, and nobody else.
#[doc(hidden)]
pub use status::{StatusAudience, snapshot};

/// State of the handlers; each takes only its part.
#[derive(Clone)]
pub struct AppState {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
    pub fetch: Fetch,
    pub traffic: Arc<Traffic>,
    /// With other nodes.
    pub relay_traffic: RelayTraffic,
    pub listening: ListenOptions,
    pub access: AccessControl,
    pub feed: Arc<Feed>,
    pub journal: Journal,
    pub casts: Arc<CastHistory>,
    pub cast_sender: Arc<CastSender>,
    /// Ends the event streams.
    pub closing: CancellationToken,
}

/// Listening options of the command line.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    pub host: IpAddr,
    /// If set, the configuration's port does not count.
    pub fixed_port: Option<u16>,
}

impl AppState {
    pub fn answers(self) -> Handlers {
        let at_once = download::fast_path(&self);
        Handlers { fast_path: Some(at_once), ..self.router().into() }
    }

    fn router(self) -> Router {
        // Downloads and the status may be read from any page.
        let open = wire::with_cors(
            Router::new()
                .route(download::DOWNLOAD_PATH, get(download::package))
                .route(download::OLD_DOWNLOAD_PATH, get(download::package_for_old_clients))
                .route("/api/status", get(status::status)),
        );
        // Some are for operators alone, so no page of another site reads them.
        let files = Router::new().route("/api/v1/files/{task}/{*file}", get(files::file));
        // The panel's public data is for our own page only.
        let own = Router::new()
            .route("/", get(redirect_to_panel))
            .route("/static/", get(panel))
            .route("/api/traffic", get(events::traffic))
            .route("/api/events", get(events::events))
            .route("/metrics", get(metrics::metrics))
            .route(health::LIVE, get(health::live))
            .route(health::READY, get(metrics::ready))
            .merge(pages::router())
            .merge(docs::router(&docs::NODE))
            .merge(access::router(&self.access));
        let operators = Router::new()
            .route("/api/config", get(config::show).post(config::change))
            .route("/api/config/schema", get(config::schema))
            .route("/api/config/check", post(config::check))
            .route("/api/config/heartbeat", post(config::change_heartbeat))
            .route("/api/service/start", post(control::start))
            .route("/api/service/stop", post(control::stop))
            .route("/api/meetings/{id}/sync", post(meetings::sync))
            .route("/api/meetings/{id}/verify", post(meetings::verify))
            .route("/api/meetings/{id}", delete(meetings::remove))
            .route("/api/logs", get(logs::lines))
            .route("/api/casts", get(casts::follow).post(casts::send::send))
            .route("/api/casts/ws", get(casts::socket::follow))
            .route("/api/casts/read", post(casts::mark_read))
            .route("/api/notices", get(notices::list))
            .layer(middleware::from_fn_with_state(self.access.clone(), access::require_operator))
            .layer(middleware::from_fn(wire::confidential));
        open.merge(own)
            .merge(files)
            .merge(operators)
            .fallback(wire::not_found)
            .method_not_allowed_fallback(wire::method_not_allowed)
            .layer(middleware::from_fn(wire::security_headers))
            .layer(middleware::from_fn_with_state(self.traffic.requests.clone(), count_requests))
            .with_state(self)
    }
}

async fn redirect_to_panel() -> Redirect {
    Redirect::temporary("/static/index.html")
}

async fn panel(asked: HeaderMap) -> Response {
    pages::page("index.html", &asked)
}

macro_rules! part_of_state {
    ($($part:ident: $type:ty),+ $(,)?) => {$(
        impl FromRef<AppState> for $type {
            fn from_ref(state: &AppState) -> Self {
                state.$part.clone()
            }
        }
    )+};
}

part_of_state! {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    fetch: Fetch,
    traffic: Arc<Traffic>,
    relay_traffic: RelayTraffic,
    listening: ListenOptions,
    access: AccessControl,
    feed: Arc<Feed>,
    journal: Journal,
    cast_sender: Arc<CastSender>,
}

#[cfg(test)]
mod openapi;
