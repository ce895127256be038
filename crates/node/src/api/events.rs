//! `GET /api/events`: the panel's data as it changes. Public like the status; log
//! lines are for operators only.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use edge_mirror_base::{
    clock::UnixMillis,
    log::{Journal, Level},
};
use edge_mirror_http::{
    access::{ExtraEvents, StreamSources},
    wire::{feed, snapshot::Snapshot},
};
use edge_mirror_settings::Config;
use serde_json::json;
use tokio::sync::watch;

use super::{
    AppState,
    notices::PanelNotices,
    status::{self, StatusAudience},
};
use crate::{board::StatusBoard, casts::CastHistory};

/// Enough for a burst; `/api/logs` has more.
const MAX_LINES: usize = 200;

/// Compares the state while pages follow it.
pub async fn run(app: AppState) {
    let feed = app.feed.clone();
    feed.run(|_| state(&app)).await;
}

/// The status without its second list of meetings, which pages don't use.
fn state(app: &AppState) -> Snapshot {
    let AppState { settings, board, fetch, traffic, relay_traffic, .. } = app;
    status::snapshot(settings, board, fetch, traffic, relay_traffic, StatusAudience::Pages)
}

pub(super) async fn traffic(State(board): State<Arc<StatusBoard>>) -> Response {
    Json(&*board.history.borrow()).into_response()
}

pub(super) async fn events(State(app): State<AppState>, request: Request) -> Response {
    let sources = StreamSources {
        feed: &app.feed,
        state: state(&app),
        history: app.board.history.subscribe(),
        closing: app.closing.clone(),
    };
    let events = |operator| NodeEvents {
        operator,
        settings: app.settings.subscribe(),
        revision: 0,
        last_sent: app.journal.last(),
        lines: app.journal.subscribe(),
        journal: app.journal.clone(),
        port: app.board.port.subscribe(),
        arrivals: {
            let mut arrivals = app.casts.subscribe_arrivals();
            // Those that are here already are told at the beginning.
            arrivals.mark_changed();
            arrivals
        },
        casts: app.casts.clone(),
        last_seen: None,
    };
    app.access.stream(request, sources, events).await
}

/// Further events: the node listens elsewhere now; for operators, log lines, a
/// changed configuration, and the casts that the panel shows.
struct NodeEvents {
    operator: bool,
    settings: watch::Receiver<Arc<Config>>,
    revision: u64,
    journal: Journal,
    lines: watch::Receiver<u64>,
    /// The number of the last line sent.
    last_sent: u64,
    port: watch::Receiver<u16>,
    casts: Arc<CastHistory>,
    arrivals: watch::Receiver<u64>,
    /// The number of the last cast that was looked at; None: all are.
    last_seen: Option<u64>,
}

impl ExtraEvents for NodeEvents {
    async fn next(&mut self) -> (Bytes, bool) {
        loop {
            tokio::select! {
                Ok(()) = self.lines.changed(), if self.operator => {
                    let lines = self.journal.lines(Some(self.last_sent), Level::TRACE, MAX_LINES);
                    if let Some(last) = lines.last() {
                        self.last_sent = last.n;
                        return (feed::event("log", &lines), false);
                    }
                }
                Ok(()) = self.settings.changed(), if self.operator => {
                    self.revision += 1;
                    // Another topic may be shown now.
                    self.last_seen = None;
                    self.arrivals.mark_changed();
                    return (feed::event("config", &json!({"revision": self.revision})), false);
                }
                Ok(()) = self.arrivals.changed(), if self.operator => {
                    let topic = self.settings.borrow().casts.show_on_panel.clone();
                    let before = self.last_seen.replace(self.casts.last());
                    if before.is_some_and(|before| !self.casts.has_after(before, &topic)) {
                        continue;
                    }
                    let notices = PanelNotices::of_topic(&self.casts, &topic, UnixMillis::now());
                    return (feed::event("notices", &notices), false);
                }
                // The page's calls fail from now on.
                Ok(()) = self.port.changed() => {
                    let port = *self.port.borrow_and_update();
                    return (feed::event("moved", &json!({"port": port})), true);
                }
                else => std::future::pending().await,
            }
        }
    }
}
