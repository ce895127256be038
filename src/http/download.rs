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
    fetch::{Fetch, Package},
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
    let refused = |error| ApiError::of_pull(id.clone(), error, not_found);
    let file_name = format!("meeting_{id}.zip");
    let package = match fetch.open_or_follow(&id).await.map_err(refused)? {
        Package::Stored(stored, file) => (stored, file),
        Package::Growing(growing) => {
            let early = delivery::growing::respond(method, headers, &growing, &file_name, &traffic);
            if let Some(response) = early {
                return Ok(response);
            }
            fetch.obtain(&id).await.map_err(refused)?
        }
    };
    delivery::respond(method, headers, package, &file_name, &traffic)
        .map_err(|error| ApiError::Disk { id, error })
}
