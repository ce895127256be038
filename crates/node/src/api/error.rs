//! The reasons for which the node refuses a request, and the answers. The text of a
//! 5xx is constant; its cause goes to the log, here and only here.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_base::metrics::Label;
use edge_mirror_http::{
    delivery::DownloadLimit,
    wire::{
        body::{self, BodyError},
        detail,
    },
};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::{PatchError, SettingProblem, check::list};
use edge_mirror_store::StoreError;
use serde::Serialize;
use tracing::{debug, error, warn};

use crate::fetch::PullError;

pub(super) enum ApiError {
    /// The service was stopped by an operator.
    NotRunning,
    /// The text is the contract's, and differs by endpoint.
    NoPackage(&'static str),
    Pull {
        id: PackageId,
        error: Arc<PullError>,
    },
    /// More downloads are under way than this allows.
    Full(DownloadLimit),
    Config(PatchError),
    /// Possible for active meetings only.
    NotActive(PackageId),
    /// In use; can't be removed.
    Active(PackageId),
    NotRemoved(StoreError),
    Unreadable(StoreError),
    Invalid(String),
    NotJson,
    Body(BodyError),
}

/// The problems of a change of the configuration.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RefusedChange {
    /// All of it, in one text.
    detail: String,
    problems: Vec<SettingProblem>,
}

/// Clients that are refused for a passing reason retry after this.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

const MAIN_SERVER_FAILS: &str = "暂时无法从主控服务器取得会议包，请稍后重试 / the main server can't provide the package now, try again later";
const MAIN_SERVER_SLOW: &str =
    "等待主控服务器超时，请稍后重试 / the main server did not answer in time, try again later";
const NO_ROOM: &str = "节点存储空间不足 / the node has no room for this package";
const BUSY: &str = "节点繁忙，请稍后重试 / the node is busy, try again later";
const CLIENT_BUSY: &str = "同一客户端请求的非进行中会议过多，请稍后重试 / too many packages of meetings that are not active are being pulled for one client, try again later";
const TOO_MANY_WAITERS: &str = "等待非进行中会议的客户端过多，请稍后重试 / too many clients wait for packages of meetings that are not active, try again later";
const DISK_FAILS: &str = "节点读取文件失败 / the node could not read the package";

impl ApiError {
    pub(super) fn from_pull(id: PackageId, error: Arc<PullError>, not_found: &'static str) -> Self {
        match &*error {
            PullError::Stopped => Self::NotRunning,
            PullError::Upstream(refused) if refused.is_not_found() => Self::NoPackage(not_found),
            PullError::NotStarted => Self::NoPackage(not_found),
            PullError::Upstream(_)
            | PullError::Interrupted { .. }
            | PullError::Stalled(_)
            | PullError::TooSlow(_)
            | PullError::Unusable(_)
            | PullError::Piece(_)
            | PullError::Busy
            | PullError::ClientBusy
            | PullError::TooManyWaiters
            | PullError::Store(_) => Self::Pull { id, error },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::NotRunning => {
                with_retry_after(detail(StatusCode::SERVICE_UNAVAILABLE, "服务未运行"))
            }
            Self::NoPackage(text) => detail(StatusCode::NOT_FOUND, text),
            Self::Pull { id, error } => {
                // The pull has logged the cause once; a room full of tablets must
                // not fill the log.
                debug!("download of meeting {id} refused: {error}");
                with_retry_after(pull_failed(&error))
            }
            Self::Full(limit) => {
                debug!("download refused by {}", limit.text());
                with_retry_after(detail(StatusCode::SERVICE_UNAVAILABLE, busy_detail(limit)))
            }
            Self::Config(PatchError::NotSaved(error)) => {
                error!("configuration not saved: {error}");
                detail(StatusCode::INTERNAL_SERVER_ERROR, "保存配置失败")
            }
            Self::Config(PatchError::FileFaulty(text)) => {
                let refused = PatchError::FileFaulty(text).to_string();
                warn!("configuration not changed: {refused}");
                detail(StatusCode::CONFLICT, refused)
            }
            Self::Config(PatchError::Refused(problems)) => {
                let detail = list(&problems);
                warn!("configuration not changed: {detail}");
                let body = RefusedChange { detail, problems };
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
            Self::Invalid(text) => detail(StatusCode::BAD_REQUEST, text),
            Self::NotActive(id) => {
                let text = format!("会议 {id} 未在进行中 / meeting {id} is not active");
                detail(StatusCode::NOT_FOUND, text)
            }
            Self::Active(id) => {
                let text = format!(
                    "会议 {id} 正在进行、即将开始或状态未知，不能删除 / meeting {id} is active, is to start, or is not known to have ended: its package stays"
                );
                detail(StatusCode::CONFLICT, text)
            }
            Self::NotRemoved(cause) => {
                error!("package not removed: {cause}");
                detail(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "删除失败 / the package could not be removed",
                )
            }
            Self::Unreadable(cause) => {
                error!("package not read: {cause}");
                detail(StatusCode::INTERNAL_SERVER_ERROR, DISK_FAILS)
            }
            Self::NotJson => body::not_json(),
            Self::Body(unread) => unread.into_response(),
        }
    }
}

fn busy_detail(limit: DownloadLimit) -> &'static str {
    match limit {
        DownloadLimit::PerClient => {
            "同一客户端的下载过多，请稍后重试 / too many downloads of one client, try again later"
        }
        DownloadLimit::Downloads => {
            "同时下载过多，请稍后重试 / too many downloads are under way, try again later"
        }
    }
}

fn pull_failed(error: &PullError) -> Response {
    match error {
        PullError::Store(StoreError::NoRoom(_)) => detail(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM),
        PullError::Busy => detail(StatusCode::SERVICE_UNAVAILABLE, BUSY),
        PullError::ClientBusy => detail(StatusCode::SERVICE_UNAVAILABLE, CLIENT_BUSY),
        PullError::TooManyWaiters => detail(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_WAITERS),
        PullError::Store(StoreError::Io { .. } | StoreError::InUse(_)) => {
            detail(StatusCode::INTERNAL_SERVER_ERROR, DISK_FAILS)
        }
        slow if slow.is_timeout() => detail(StatusCode::GATEWAY_TIMEOUT, MAIN_SERVER_SLOW),
        PullError::Store(StoreError::Bad(_) | StoreError::Unwanted)
        | PullError::Upstream(_)
        | PullError::Interrupted { .. }
        | PullError::Stalled(_)
        | PullError::TooSlow(_)
        | PullError::Unusable(_)
        | PullError::Piece(_)
        | PullError::NotStarted
        | PullError::Stopped => detail(StatusCode::BAD_GATEWAY, MAIN_SERVER_FAILS),
    }
}

fn with_retry_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
    response
}
