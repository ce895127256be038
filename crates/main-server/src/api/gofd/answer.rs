//! Answers in the shapes of GoFD's server.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_gofd::TaskStatus;
use serde_json::json;

use crate::state::gofd::GofdRefusal;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const REALM: HeaderValue = HeaderValue::from_static("basic realm=Restricted");

pub(super) fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], text).into_response()
}

/// A bare word.
pub(super) fn word(status: StatusCode, word: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], word).into_response()
}

pub(super) fn message(status: StatusCode, text: &str) -> Response {
    json(status, format!("{}\n", json!({"message": text})))
}

pub(super) fn unauthorized() -> Response {
    let mut answer = message(StatusCode::UNAUTHORIZED, "Unauthorized");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, REALM);
    answer
}

pub(super) fn refused(refusal: &GofdRefusal) -> Response {
    match refusal {
        GofdRefusal::Existed => word(StatusCode::BAD_REQUEST, "TASK_EXISTED"),
        GofdRefusal::Full(_) => message(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()),
        GofdRefusal::Id(_)
        | GofdRefusal::Files
        | GofdRefusal::Ips
        | GofdRefusal::Ip(_)
        | GofdRefusal::Nobody(_)
        | GofdRefusal::NoRoot
        | GofdRefusal::Outside(_)
        | GofdRefusal::Path(_)
        | GofdRefusal::Name { .. }
        | GofdRefusal::Conflict(_)
        | GofdRefusal::SameBase(_) => message(StatusCode::BAD_REQUEST, &refusal.to_string()),
    }
}

pub(super) fn task(shown: &TaskStatus, is_pretty: bool) -> Response {
    let text = match is_pretty {
        true => serde_json::to_string_pretty(shown),
        false => serde_json::to_string(shown),
    };
    // Text keys, strings and numbers only: serialization can't fail.
    json(StatusCode::OK, format!("{}\n", text.unwrap_or_default()))
}
