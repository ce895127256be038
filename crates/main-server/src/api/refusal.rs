//! The answers to refused calls.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire;
use tracing::error;

use crate::refusal::{MalformedBody, RequestError};

/// Seconds until a package may have been fetched.
const RETRY_AFTER_S: &str = "5";

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_)
            | Self::BadPackage(_)
            | Self::Cut(_)
            | Self::NoDispatchRoot
            | Self::UnknownUpload(_)
            | Self::WrongDigest(_) => StatusCode::BAD_REQUEST,
            Self::UnknownMeeting(_)
            | Self::NothingToDownload
            | Self::NotRunning(_)
            | Self::UnknownNode(_)
            | Self::NotPending(_)
            | Self::UnknownCast(_)
            | Self::UnknownGroup(_)
            | Self::UnknownVirtualNode(_)
            | Self::UnknownTask(_) => StatusCode::NOT_FOUND,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Exists(_)
            | Self::UploadUnderWay(_)
            | Self::NothingToDistribute(_)
            | Self::OtherClaim { .. }
            | Self::OtherCast(_)
            | Self::OtherTask(_)
            | Self::NodeIdTaken(_)
            | Self::TaskCancelled(_)
            | Self::NothingToRetry(_)
            | Self::NothingFailed(_)
            | Self::OtherRemoteTask(_)
            | Self::PastBoot
            | Self::FilesGone(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) | Self::TooManyValues(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyNewNodes(_) | Self::TooManyNodesOfClient(_) | Self::TooManyPending(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Malformed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoNode | Self::NoCastsFromNodes | Self::NoCastsFromStrangers => {
                StatusCode::FORBIDDEN
            }
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // The contract's answer for a meeting whose package is missing.
            Self::NoPackage | Self::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Verifying
            | Self::Fetching
            | Self::NotFetched
            | Self::PackageElsewhere
            | Self::PackageAtAnother
            | Self::FileAtAnother
            | Self::FileComing
            | Self::TooManyBundles
            | Self::PackagesUnavailable(_)
            | Self::StateUnavailable(_)
            | Self::RecordsUnavailable(_)
            | Self::TooManyMeetings(_)
            | Self::TooManyPrestaged(_)
            | Self::TooManyNodes(_)
            | Self::NodesBytes(_)
            | Self::TooManyLargeBodies
            | Self::TooManyFollowers
            | Self::TooManyUploads => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoRoom(_)
            | Self::TooManyCasts(..)
            | Self::TooManyTasks(..)
            | Self::TooManyRemoteTasks(..)
            | Self::TooManyVirtualNodes(_) => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status = self.status();
        if let Self::Storage(cause) = &self {
            // The client gets a constant text, the log the cause.
            error!("storage failed: {cause}");
        }
        // The rest of the body was not read: the connection ends with the
        // answer, and the client should not send its next request on it.
        let unread = matches!(
            self,
            Self::TooLarge(_) | Self::TooManyLargeBodies | Self::Cut(_) | Self::Stalled
        );
        let is_coming = matches!(
            self,
            Self::Fetching
                | Self::NotFetched
                | Self::PackageAtAnother
                | Self::FileAtAnother
                | Self::FileComing
                | Self::TooManyBundles
        );
        let answer = match self {
            Self::Malformed(flaws) => {
                (status, Json(MalformedBody { detail: flaws })).into_response()
            }
            other => wire::detail(status, other.to_string()),
        };
        match (unread, is_coming) {
            (true, _) => ([(header::CONNECTION, "close")], answer).into_response(),
            (false, true) => ([(header::RETRY_AFTER, RETRY_AFTER_S)], answer).into_response(),
            (false, false) => answer,
        }
    }
}
