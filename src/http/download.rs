//! Downloads: the node's whole purpose.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Response},
};

use super::error::ApiError;
use crate::{
    board::Board,
    delivery::{self, Traffic},
    fetch::Fetch,
    package::PackageId,
    wire::PathId,
};

type Parts = (State<Arc<Board>>, State<Fetch>, State<Arc<Traffic>>);

/// `/api/v1/meetings/{id}/download-package`: where main servers redirect to.
pub(super) async fn package(
    parts: Parts,
    PathId(id): PathId,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    deliver(parts, id, &method, &headers, "Meeting package not found").await
}

/// `/api/meetings/{id}/download`: the same, as front ends ask for it.
pub(super) async fn package_for_old_clients(
    parts: Parts,
    PathId(id): PathId,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    deliver(parts, id, &method, &headers, "会议包不存在").await
}

async fn deliver(
    (State(board), State(fetch), State(traffic)): Parts,
    id: PackageId,
    method: &Method,
    headers: &HeaderMap,
    not_found: &'static str,
) -> Result<Response<Body>, ApiError> {
    if !board.is_running() {
        return Err(ApiError::NotRunning);
    }
    let package = match fetch.obtain(&id).await {
        Ok(package) => package,
        Err(error) => return Err(ApiError::of_pull(id, error, not_found)),
    };
    let file_name = format!("meeting_{id}.zip");
    delivery::respond(method, headers, package, &file_name, &traffic)
        .map_err(|error| ApiError::Disk { id, error })
}
