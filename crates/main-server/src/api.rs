//! The routes, and who may call them.

pub(crate) mod audit;
pub(crate) mod clients;
pub(crate) mod casts;
mod csv;
pub(crate) mod dispatch;
pub(crate) mod downloads;
pub(crate) mod events;
pub(crate) mod fleet;
pub(crate) mod gofd;
pub(crate) mod groups;
pub(crate) mod history;
pub(crate) mod meeting_records;
pub(crate) mod json;
pub(crate) mod live_casts;
pub(crate) mod manage;
pub(crate) mod metrics;
pub(crate) mod node_casts;
pub(crate) mod node_dispatch;
pub(crate) mod node_key;
pub(crate) mod node_remote_tasks;
pub(crate) mod nodes;
pub(crate) mod overview;
pub(crate) mod readiness;
mod page_limit;
pub(crate) mod path;
pub(crate) mod remote_tasks;
mod refusal;
pub(crate) mod routing;
pub(crate) mod seconds;
pub(crate) mod status;
pub(crate) mod upload;
pub(crate) mod virtual_nodes;
#[cfg(test)]
mod openapi;

use std::sync::Arc;

use axum::{
    Router,
    http::HeaderMap,
    middleware,
    response::Response,
    routing::{delete, get, patch, post, put},
};
use edge_mirror_http::{
    access,
    requests::count_requests,
    wire::{self, docs, health, pages},
};

use crate::server::Server;

pub(crate) fn router(server: Arc<Server>) -> Router {
    let access = server.access.clone();
    let open = open_routes(&server);
    let operators = Router::new()
        .route("/api/v1/overview", get(overview::overview))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/history", get(history::show))
        .route("/api/v1/history/meetings", get(meeting_records::show))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/traffic", get(events::traffic))
        .route("/api/v1/meetings", post(manage::create))
        .route("/api/v1/meetings/{id}", delete(manage::delete))
        .route("/api/v1/meetings/{id}/start", post(manage::start))
        .route(
            "/api/v1/meetings/{id}/distribute",
            post(manage::distribute).delete(manage::end_distribution),
        )
        .route("/api/v1/meetings/{id}/end", post(manage::end))
        .route("/api/v1/meetings/{id}/package", put(upload::put))
        .route("/api/v1/meetings/{id}/explain", get(routing::explain))
        .route("/api/v1/fleet/rules", get(routing::rules).put(routing::set_rules))
        .route("/api/v1/fleet/demand", get(fleet::demand))
        .route("/api/v1/fleet/nodes", get(fleet::list))
        .route("/api/v1/fleet/nodes/{node}", patch(fleet::edit).delete(fleet::remove))
        .route("/api/v1/fleet/nodes/{node}/approve", post(fleet::approve))
        .route("/api/v1/fleet/nodes/{node}/refuse", post(fleet::refuse))
        .route("/api/v1/groups", get(groups::list))
        .route("/api/v1/groups/{group}", get(groups::show).put(groups::put).delete(groups::remove))
        .route("/api/v1/virtual-nodes", get(virtual_nodes::list))
        .route(
            "/api/v1/virtual-nodes/{node}",
            get(virtual_nodes::show).put(virtual_nodes::put).delete(virtual_nodes::remove),
        )
        .route("/api/v1/virtual-nodes/{node}/casts", get(virtual_nodes::casts))
        .route("/api/v1/virtual-nodes/{node}/read", post(virtual_nodes::note_read))
        .route("/api/v1/casts", get(casts::list).post(casts::create))
        .route("/api/v1/casts/live", post(live_casts::send))
        .route("/api/v1/casts/stream", get(live_casts::stream))
        .route("/api/v1/casts/{cast}", get(casts::show).delete(casts::cancel))
        .route("/api/v1/dispatch", get(dispatch::list).post(dispatch::create))
        .route("/api/v1/dispatch/uploads", put(dispatch::uploads::put))
        .route("/api/v1/dispatch/{task}", get(dispatch::show).delete(dispatch::cancel))
        .route("/api/v1/dispatch/{task}/files", get(dispatch::files))
        .route("/api/v1/dispatch/{task}/retry", post(dispatch::retry))
        .merge(remote_tasks::routes())
        .route("/api/v1/nodes/key", post(node_key::set).delete(node_key::clear))
        .layer(middleware::from_fn_with_state(access.clone(), access::require_operator))
        .layer(middleware::from_fn(wire::confidential));
    open.merge(operators)
        .merge(access::router(&access))
        .merge(pages::router())
        .merge(docs::router(&docs::MAIN_SERVER))
        .fallback(wire::not_found)
        .method_not_allowed_fallback(wire::method_not_allowed)
        .layer(middleware::from_fn(wire::security_headers))
        .layer(middleware::from_fn_with_state(server.traffic.requests.clone(), count_requests))
        .with_state(server)
}

/// The routes that need no operator.
fn open_routes(server: &Arc<Server>) -> Router<Arc<Server>> {
    let of_nodes = Router::new()
        .route("/api/v1/nodes/register", post(nodes::register))
        .route("/api/v1/nodes/heartbeat", post(nodes::heartbeat))
        .route("/api/v1/nodes/unregister", post(nodes::unregister))
        .layer(middleware::from_fn_with_state(server.clone(), node_key::check));
    let of_clients = wire::with_cors(
        Router::new()
            .route("/uploads/packages/{name}", get(downloads::offered_file))
            .route("/api/v1/meetings/status/token", get(clients::status_for_clients))
            .route("/api/v1/meetings/active/meetings", get(clients::active))
            .route("/api/v1/meetings/{id}/download-package", get(downloads::download))
            .route("/api/v1/meetings/{id}/download-package-direct", get(downloads::direct))
            .route("/api/v1/meetings/{id}/download-nodes-info", get(downloads::sources)),
    );
    let open = Router::new()
        .route("/", get(page))
        .route("/api/v1/meetings", get(manage::list))
        .route("/api/v1/meetings/{id}", get(manage::show))
        .route("/api/v1/meetings/{id}/readiness", get(readiness::show))
        .route("/api/v1/meetings/status/node", get(status::for_nodes))
        .route("/api/v1/meetings/{id}/package-pieces", get(downloads::pieces))
        .route(edge_mirror_protocol::casts::PATH, get(node_casts::for_node).post(node_casts::send))
        .route(edge_mirror_protocol::casts::READ_PATH, post(node_casts::note_read))
        .merge(node_dispatch_routes())
        .route(edge_mirror_protocol::remote_tasks::PATH, post(node_remote_tasks::exchange))
        .route("/metrics", get(metrics::metrics))
        .route(health::LIVE, get(health::live))
        .route(health::READY, get(metrics::ready))
        .route("/api/v1/nodes/list", get(nodes::list))
        .route("/api/v1/nodes/available", get(nodes::available))
        .merge(of_nodes)
        .layer(middleware::from_fn_with_state(server.access.clone(), access::refuse_foreign));
    open.merge(of_clients)
}

/// The calls of nodes for files.
fn node_dispatch_routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/v1/nodes/dispatch", get(node_dispatch::list).post(node_dispatch::report))
        .route("/api/v1/nodes/dispatch/{task}", get(node_dispatch::files))
        .route("/api/v1/nodes/dispatch/{task}/files/{number}", get(node_dispatch::file))
        .route("/api/v1/nodes/dispatch/{task}/files/{number}/pieces", get(node_dispatch::pieces))
        .route("/api/v1/nodes/dispatch/{task}/bundle", get(node_dispatch::bundle))
}

/// The page; old nodes request it, too, as a liveness check.
async fn page(asked: HeaderMap) -> Response {
    pages::page("master.html", &asked)
}
