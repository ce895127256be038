//! Guards the operators' routes, and answers those who are refused.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use edge_mirror_base::log::AUDIT;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    AccessControl, Caller, origin,
    refusals::{self, RefusedCalls},
    token_of,
};
use crate::wire;

/// Length of a path in the log: more than any of ours has.
const MAX_SHOWN_BYTES: usize = 200;

/// Changes nothing, and is called at each key that an operator types.
const CONFIG_CHECK_PATH: &str = "/api/config/check";

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenied {
    NotLoggedIn,
    WrongToken,
    /// Not in `security.allowFrom`.
    Address,
    TooManyTries(Duration),
    /// Sent by a page of another site.
    Foreign,
    /// The credentials can't be read or written now.
    Broken,
}

/// The answer to too many tries.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub(super) struct RetryLater {
    detail: &'static str,
    /// Seconds, as in the header.
    retry_after: u64,
}

impl AccessDenied {
    fn text(self) -> &'static str {
        match self {
            Self::NotLoggedIn => {
                "需要登录，或在请求头中提供管理令牌 / log in, or send the admin token: \
                 Authorization: Bearer TOKEN (`edge-mirror token` on the machine makes a link)"
            }
            Self::WrongToken => {
                "令牌或链接无效、已使用或已过期 / the token or link is wrong, used or too old; \
                 `edge-mirror token` on the machine makes a new link"
            }
            Self::Address => {
                "此地址不在 security.allowFrom 中，不能管理 / this address may not manage, \
                 security.allowFrom does not list it"
            }
            Self::TooManyTries(_) => {
                "错误次数过多，请稍后再试 / too many wrong tries from this address, wait"
            }
            Self::Broken => {
                "暂时无法登录，原因见节点日志 / nobody can log in now, the log on the machine says why"
            }
            Self::Foreign => {
                "不接受来自其他网站的请求；程序请使用 Content-Type: application/json / requests from \
                 pages of other sites are not accepted; a program sends Content-Type: application/json"
            }
        }
    }

    /// Returns the text for the log.
    fn reason(self) -> &'static str {
        match self {
            Self::NotLoggedIn => "not logged in",
            Self::WrongToken => "wrong token or code",
            Self::Address => "the address is not in security.allowFrom",
            Self::TooManyTries(_) => "too many wrong tries",
            Self::Foreign => "sent by a page of another site, or as a form sends it",
            Self::Broken => "nobody can log in now",
        }
    }
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        match self {
            Self::NotLoggedIn | Self::WrongToken => {
                let mut answer = wire::detail(StatusCode::UNAUTHORIZED, self.text());
                let scheme = HeaderValue::from_static("Bearer realm=\"edge-mirror\"");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                answer
            }
            Self::Address | Self::Foreign => wire::detail(StatusCode::FORBIDDEN, self.text()),
            Self::Broken => wire::detail(StatusCode::SERVICE_UNAVAILABLE, self.text()),
            Self::TooManyTries(wait) => {
                // Rounded up: a client must not be early then.
                let wait_s = wait.as_secs() + 1;
                let body = RetryLater { detail: self.text(), retry_after: wait_s };
                let fields = [(header::RETRY_AFTER, HeaderValue::from(wait_s))];
                (StatusCode::TOO_MANY_REQUESTS, fields, axum::Json(body)).into_response()
            }
        }
    }
}

impl AccessControl {
    /// Makes sure that a request that changes nothing is an operator's, for what is not for
    /// everybody on a path that is open.
    pub async fn check_operator(&self, request: &Parts) -> Result<(), AccessDenied> {
        let judged = self.authorize(request).await;
        judged.map(drop).inspect_err(|denied| self.log_denied(request, *denied))
    }
}

/// Lets operators through, and logs who changed what.
pub async fn require_operator(
    State(access): State<AccessControl>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let changes = is_mutating(&method);
    // No form sends the token.
    let form = origin::is_form_post(&parts.headers) && token_of(&parts.headers).is_none();
    let is_foreign = must_be_ours(&method, &parts.headers) && !is_same_origin(&access, &parts);
    let judged = match is_foreign || (changes && form) {
        true => Err(AccessDenied::Foreign),
        false => access.authorize(&parts).await,
    };
    match judged {
        Ok(operator) => {
            parts.extensions.insert(operator.clone());
            let answer = next.run(Request::from_parts(parts, body)).await;
            let status = answer.status().as_u16();
            match changes && path != CONFIG_CHECK_PATH {
                true => info!(target: AUDIT, "{method} {path} by {operator}: {status}"),
                false => debug!("{method} {path} by {operator}: {status}"),
            }
            answer
        }
        Err(denied) => {
            access.log_denied(&parts, denied);
            let answer = denied.into_response();
            wire::body::drain_and_answer(&parts.headers, body, answer).await
        }
    }
}

/// Rejects changes by other sites' pages, and their WebSockets, on routes that are open.
pub async fn refuse_foreign(
    State(access): State<AccessControl>,
    request: Request,
    next: Next,
) -> Response {
    if !must_be_ours(request.method(), request.headers()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    if is_same_origin(&access, &parts) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    access.log_denied(&parts, AccessDenied::Foreign);
    wire::body::drain_and_answer(&parts.headers, body, AccessDenied::Foreign.into_response()).await
}

fn is_same_origin(access: &AccessControl, request: &Parts) -> bool {
    origin::is_same_origin(&request.headers, access.caller(request).secure)
}

/// True of changes, and of a switch to another protocol: CORS does not keep pages of other
/// sites from reading what a WebSocket says.
fn must_be_ours(method: &Method, headers: &HeaderMap) -> bool {
    is_mutating(method) || headers.contains_key(header::UPGRADE)
}

fn is_mutating(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

impl AccessControl {
    /// Logs a refused change, or a guess; refused reads are not worth a line.
    pub(super) fn log_denied(&self, request: &Parts, denied: AccessDenied) {
        let guessed = matches!(denied, AccessDenied::WrongToken | AccessDenied::TooManyTries(_));
        match is_mutating(&request.method) || guessed {
            true => self.log_refused(request, denied.reason()),
            false => debug!(
                "{} refused: {}",
                describe_request(request, &self.caller(request)),
                denied.reason()
            ),
        }
    }

    /// Logs that a call is refused, or counts it, see `refusals`.
    pub fn log_refused(&self, request: &Parts, why: &'static str) {
        let caller = self.caller(request);
        let noted = self.refusals().note(caller.address, why);
        self.inner.refusing.notify_one();
        match noted {
            true => warn!("{} refused: {why}", describe_request(request, &caller)),
            false => debug!("{} refused: {why}", describe_request(request, &caller)),
        }
    }

    /// Logs summaries of refused calls, a minute at a time and at the end.
    pub async fn log_refusal_summaries(self, end: CancellationToken) {
        while !end.is_cancelled() {
            let window = async {
                self.inner.refusing.notified().await;
                tokio::time::sleep(refusals::WINDOW).await;
            };
            end.run_until_cancelled(window).await;
            let lines = self.refusals().take_summary();
            lines.iter().for_each(|line| warn!("{line}"));
        }
    }

    fn refusals(&self) -> MutexGuard<'_, RefusedCalls> {
        self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names a request; the client must not choose how long the log line is.
fn describe_request(request: &Parts, caller: &Caller) -> String {
    let (method, path) = (&request.method, request.uri.path());
    let path = &path[..path.floor_char_boundary(MAX_SHOWN_BYTES)];
    format!("{method} {path} from {}", caller.address)
}
