//! What an operator can do with one meeting: sync it now, or take its package
//! off this node.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tracing::info;

use super::{config::success, error::ApiError};
use crate::{
    board::{Board, Evicted},
    tasks,
    wire::PathId,
};

/// Only asks for it: how it goes is seen in the status.
pub(super) async fn sync(
    State(board): State<Arc<Board>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    if !board.is_running() {
        return Err(ApiError::NotRunning);
    }
    if !board.sync.borrow().active.contains(&id) {
        return Err(ApiError::NotActive(id));
    }
    let message = format!("会议 {id} 开始同步 / meeting {id} is being synced");
    board.wishes.add(id);
    Ok((StatusCode::ACCEPTED, Json(json!({"status": "success", "message": message})))
        .into_response())
}

pub(super) async fn remove(
    State(board): State<Arc<Board>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let store = board.store();
    if store.get(&id).is_none() && !store.has_unverified(&id) {
        return Err(ApiError::NoPackage("会议包不存在"));
    }
    // While the main server has not said which are active, or is not asked
    // because the service is stopped, any may be.
    if board.may_be_active(&id) {
        return Err(ApiError::Active(id));
    }
    let gone = id.clone();
    tasks::blocking(move || store.remove(&gone)).await.map_err(ApiError::NotRemoved)?;
    board.counts.evictions.one(Evicted::Request);
    info!("package of meeting {id} removed by request");
    Ok(success(&format!("会议 {id} 的会议包已删除 / package of meeting {id} removed")))
}
