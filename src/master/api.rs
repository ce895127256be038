//! Which call goes where.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post, put},
};

use super::{clients, downloads, manage, nodes, page, server::Server, upload};
use crate::wire;

pub fn router(server: Arc<Server>) -> Router {
    let meetings = Router::new()
        .route("/", get(manage::list).post(manage::create))
        .route("/status/node", get(clients::status_for_nodes))
        .route("/status/token", get(clients::status_for_clients))
        .route("/active/meetings", get(clients::active))
        .route("/{id}", get(manage::show).delete(manage::delete))
        .route("/{id}/start", post(manage::start))
        .route("/{id}/end", post(manage::end))
        .route("/{id}/package", put(upload::put))
        .route("/{id}/download-package", get(downloads::download))
        .route("/{id}/download-package-direct", get(downloads::direct))
        .route("/{id}/download-nodes-info", get(downloads::sources));
    let nodes = Router::new()
        .route("/register", post(nodes::register))
        .route("/heartbeat", post(nodes::heartbeat))
        .route("/unregister", post(nodes::unregister))
        .route("/list", get(nodes::list))
        .route("/available", get(nodes::available));
    Router::new()
        .route("/", get(page::page))
        .route("/uploads/packages/{name}", get(downloads::offered_file))
        .nest("/api/v1/meetings", meetings)
        .nest("/api/v1/nodes", nodes)
        .fallback(wire::not_found)
        .method_not_allowed_fallback(wire::method_not_allowed)
        .layer(middleware::from_fn(wire::refuse_foreign))
        .with_state(server)
}
