//! `GET /api/v1/events`: the overview as it changes, and the traffic of the last
//! minutes. For operators, like the overview itself.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use edge_mirror_http::{
    access::{NoExtraEvents, StreamSources},
    wire::snapshot::Snapshot,
};

use crate::{api::overview, server::Server};

type Shared = State<Arc<Server>>;

pub(crate) async fn traffic(State(server): Shared) -> Response {
    Json(&*server.history.borrow()).into_response()
}

pub(crate) async fn events(State(server): Shared, request: Request) -> Response {
    let sources = StreamSources {
        feed: &server.feed,
        state: overview::snapshot(&server, &Snapshot::default()),
        history: server.history.subscribe(),
        closing: server.closing.clone(),
    };
    server.access.stream(request, sources, |_| NoExtraEvents).await
}
