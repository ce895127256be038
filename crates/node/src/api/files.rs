//! `GET /api/v1/files/{task}/{file}`: a file that an operator sent to this node, with
//! ranges and validators as for packages. Whether anybody may have it, the task says.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderName, HeaderValue, Response, header, request::Parts},
    response::IntoResponse,
};
use edge_mirror_http::{delivery, listen::Transport};
use edge_mirror_protocol::object::FileKey;

use super::{AppState, download::name_and_headers, error::ApiError, relay};

const NOT_FOUND: &str = "文件不存在 / there is no such file";

pub(super) async fn file(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (asked, _) = request.into_parts();
    let AppState { board, traffic, access, .. } = &state;
    let key = path.ok().and_then(|Path((task, name))| FileKey::new(&task, &name).ok());
    let key = key.ok_or(ApiError::NoPackage(NOT_FOUND))?;
    let transport = Transport::of(&asked.extensions);
    if relay::credentials(&asked.headers).is_some() {
        return match board.is_running() {
            true => Ok(for_node(&state, key, &asked, &transport).await),
            false => Err(ApiError::NotRunning),
        };
    }
    let client = || access.caller(&asked).address;
    let mut waited_for = None;
    loop {
        if !board.is_running() {
            return Err(ApiError::NotRunning);
        }
        let found = board.store().package(key.clone()).await.map_err(ApiError::Unreadable)?;
        let found = found.ok_or(ApiError::NoPackage(NOT_FOUND))?;
        let is_withheld = found.0.manifest.withheld;
        if is_withheld && let Err(denied) = access.check_operator(&asked).await {
            return Ok(denied.into_response());
        }
        let permit = || match waited_for.take() {
            Some(permit) => Ok(permit),
            None => traffic.try_acquire(|| Some(client())),
        };
        let (method, headers) = (&asked.method, &asked.headers);
        let answer =
            delivery::respond(method, headers, found, name_and_headers, permit, &transport);
        match answer {
            Ok(answer) if is_withheld => return Ok(confidential(answer)),
            Ok(answer) => return Ok(answer),
            Err(_) => waited_for = Some(traffic.acquire(client()).await.map_err(ApiError::Full)?),
        }
    }
}

/// Answers another node, which proves that it may have it.
async fn for_node(
    state: &AppState,
    key: FileKey,
    asked: &Parts,
    transport: &Transport,
) -> Response<Body> {
    let (method, headers, key) = (&asked.method, &asked.headers, key.into());
    relay::answer(state, relay::SiblingQuery { key: &key, method, headers, transport }).await
}

/// Keeps a file for operators alone out of caches and from other sites' pages, as their other
/// answers are.
fn confidential(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    answer
}
