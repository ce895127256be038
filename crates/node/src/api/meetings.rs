//! An operator's actions on one meeting: sync it now, verify its package again, or
//! remove that from this node.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_http::wire::{self, ApiQuery, Done, PathId};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_store::reread;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::error::ApiError;
use crate::board::{CheckOccasion, RemovalCause, StatusBoard};

/// Only requests it: the status shows the progress.
pub(super) async fn sync(
    State(board): State<Arc<StatusBoard>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    if !board.is_running() {
        return Err(ApiError::NotRunning);
    }
    if !board.sync.borrow().active.contains(&id) {
        return Err(ApiError::NotActive(id));
    }
    let message = format!("会议 {id} 开始同步 / meeting {id} is being synced");
    board.sync_requests.add(id);
    Ok((StatusCode::ACCEPTED, wire::done(message)).into_response())
}

/// `?repair=false` leaves a damaged package in place. A text, so that a mistake
/// gets a plain message.
#[derive(Debug, Deserialize)]
pub(super) struct VerifyQuery {
    repair: Option<String>,
}

/// The result of reading a package again.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ReadAgain"))]
pub(super) struct RereadReport {
    id: PackageId,
    /// It is what was verified.
    good: bool,
    /// It was not, and is gone.
    removed: bool,
    /// It is being pulled again.
    pulling: bool,
}

/// Reads the whole package, as fast as the disk gives it, and compares.
pub(super) async fn verify(
    State(board): State<Arc<StatusBoard>>,
    PathId(id): PathId,
    ApiQuery(wish): ApiQuery<VerifyQuery>,
) -> Result<Response, ApiError> {
    let repair = match wish.repair.as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => {
            let text = "repair 应为 true 或 false / repair is true or false";
            return Err(ApiError::Invalid(text.to_owned()));
        }
    };
    let store = board.store();
    let package = store.package_to_reread(&id).await.map_err(ApiError::Unreadable)?;
    let package = package.ok_or(ApiError::NoPackage("会议包不存在"))?;
    let read = reread::is_good(&store, &package, Duration::ZERO, |_| ()).await;
    let (good, stored) = (read.map_err(ApiError::Unreadable)?, package.0);
    let remove = repair && !good;
    if good || remove {
        let noted = tasks::blocking(move || store.record_reread(&stored, good)).await;
        noted.map_err(ApiError::NotRemoved)?;
    }
    let pulling = remove && board.is_running() && board.sync.borrow().active.contains(&id);
    if pulling {
        board.sync_requests.add(id.clone());
    }
    match (good, remove) {
        (true, _) => {
            info!("package of meeting {id} read again by request: it is as it was verified")
        }
        (false, true) => {
            board.counts.bad_packages.inc(CheckOccasion::ReadAgain);
            error!("package of meeting {id} was damaged on disk and was removed");
        }
        (false, false) => error!("package of meeting {id} is damaged on disk"),
    }
    Ok(Json(RereadReport { id, good, removed: remove, pulling }).into_response())
}

pub(super) async fn remove(
    State(board): State<Arc<StatusBoard>>,
    PathId(id): PathId,
) -> Result<Json<Done>, ApiError> {
    let store = board.store();
    let (looking, wanted) = (store.clone(), id.clone());
    let lies_here = move || looking.get(&wanted).is_some() || looking.has_unverified(&wanted);
    if !tasks::blocking(lies_here).await {
        return Err(ApiError::NoPackage("会议包不存在"));
    }
    // While the main server has not said which are active, or is not polled as the
    // service is stopped, any may be.
    if board.may_be_active(&id) || board.prestaged_bytes(&id).is_some() {
        return Err(ApiError::Active(id));
    }
    let gone = id.clone();
    tasks::blocking(move || store.remove(&gone)).await.map_err(ApiError::NotRemoved)?;
    board.counts.evictions.inc(RemovalCause::Request);
    info!("package of meeting {id} removed by request");
    Ok(wire::done(format!("会议 {id} 的会议包已删除 / package of meeting {id} removed")))
}
