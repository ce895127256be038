//! Calls of the login page: current rights, log in, log out.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_mirror_base::{log::AUDIT, tasks};
use serde::Serialize;
use serde_json::Value;
use tracing::{error, info};

use super::{
    AccessControl, AccessDenied, AuthMethod, Caller, Operator, Vault, cookies, guard,
    vault::SessionCookie,
};
use crate::wire;

/// Sending a token takes a moment.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_BYTES: usize = 4096;

/// The rights of a page's reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub(super) struct Rights {
    pub operator: bool,
    /// `local`, `token`, `session` or `open`; null if not an operator.
    how: Option<&'static str>,
    /// When the session ends, in seconds since 1970.
    expires: Option<u64>,
    /// `address` if security.allowFrom is the reason.
    refused: Option<&'static str>,
    /// `node` or `main_server`.
    role: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub(super) struct LoggedIn {
    #[serde(flatten)]
    done: wire::Done,
    /// When the session ends, in seconds since 1970.
    expires: u64,
}

/// Routes of both servers.
pub fn router<S>(access: &AccessControl) -> Router<S> {
    let own = middleware::from_fn_with_state(access.clone(), guard::refuse_foreign);
    Router::new()
        .route("/api/session", get(session))
        .route("/api/login", post(login))
        .route("/api/logout", post(logout))
        .layer(own)
        .with_state(access.clone())
}

async fn session(State(access): State<AccessControl>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    no_store(Json(access.rights(&parts).await).into_response())
}

async fn login(State(access): State<AccessControl>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let caller = access.caller(&parts);
    let token = match read_token(&parts, body).await {
        Ok(token) => token,
        Err(answer) => return *answer,
    };
    let vault = access.inner.vault.clone();
    let begun = match access.admit(&caller) {
        Ok(()) => access.attempt(&caller, move || try_it(&vault, &token)).await,
        Err(denied) => Err(denied),
    };
    let SessionCookie { name, session, sealed } = match begun {
        Ok(begun) => begun,
        Err(denied) => {
            access.log_denied(&parts, denied);
            return denied.into_response();
        }
    };
    info!(target: AUDIT, "{} has logged in", caller.address);
    let done = wire::done("已登录").0;
    let body = LoggedIn { done, expires: session.until_s };
    with_cookie(Json(body).into_response(), &name, &sealed, super::session::SESSION_TTL_S, &caller)
}

fn try_it(vault: &Vault, token: &str) -> Result<SessionCookie, AccessDenied> {
    match vault.log_in(token) {
        Ok(begun) => begun.ok_or(AccessDenied::WrongToken),
        Err(cause) => {
            error!("nobody can log in: {cause}");
            Err(AccessDenied::Broken)
        }
    }
}

async fn logout(State(access): State<AccessControl>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let caller = access.caller(&parts);
    let (vault, cookies) = (access.inner.vault.clone(), cookies(&parts.headers));
    let name = match tasks::blocking(move || vault.end_session(&cookies)).await {
        Ok(ended) => ended,
        Err(cause) => {
            error!("{} could not be logged out: {cause}", caller.address);
            return wire::detail(
                StatusCode::INTERNAL_SERVER_ERROR,
                "退出失败 / logging out failed",
            );
        }
    };
    if name.is_some() {
        info!(target: AUDIT, "{} has logged out", caller.address);
    }
    let answer = wire::done("已退出").into_response();
    match name {
        Some(name) => with_cookie(answer, &name, "", 0, &caller),
        None => no_store(answer),
    }
}

impl AccessControl {
    /// Returns the rights of the sender, for a page.
    pub(super) async fn rights(&self, request: &Parts) -> Rights {
        let judged = self.authorize(request).await;
        if let Err(denied @ (AccessDenied::WrongToken | AccessDenied::TooManyTries(_))) = judged {
            self.log_denied(request, denied);
        }
        self.to_rights(judged)
    }

    /// Returns them again, for a request that goes on.
    pub(super) async fn refresh_rights(&self, request: &Parts) -> Rights {
        self.to_rights(self.authorize_with(request, false).await)
    }

    fn to_rights(&self, judged: Result<Operator, AccessDenied>) -> Rights {
        let (how, expires) = match judged.as_ref().map(|operator| operator.how) {
            Ok(AuthMethod::Local) => (Some("local"), None),
            Ok(AuthMethod::Token) => (Some("token"), None),
            Ok(AuthMethod::Session { until_s }) => (Some("session"), Some(until_s)),
            Ok(AuthMethod::Open) => (Some("open"), None),
            Ok(AuthMethod::Castray) => (Some("castray"), None),
            // Pages are no part of GoFD.
            Ok(AuthMethod::Gofd) | Err(_) => (None, None),
        };
        Rights {
            operator: how.is_some(),
            how,
            expires,
            refused: (judged == Err(AccessDenied::Address)).then_some("address"),
            role: self.inner.role,
        }
    }
}

async fn read_token(parts: &Parts, body: Body) -> Result<String, Box<Response>> {
    if !wire::body::is_json(&parts.headers) {
        return Err(Box::new(wire::body::not_json()));
    }
    let bytes = wire::body::read(body, MAX_BODY_BYTES, BODY_TIMEOUT).await;
    let bytes = bytes.map_err(|unread| Box::new(unread.into_response()))?;
    let fields: Option<Value> = serde_json::from_slice(&bytes).ok();
    let token = fields.as_ref().and_then(|fields| fields.get("token")?.as_str());
    token.map(|token| token.trim().to_owned()).ok_or_else(|| {
        let text = "请求应为 {\"token\": \"…\"} / the body is {\"token\": \"...\"}";
        Box::new(wire::detail(StatusCode::BAD_REQUEST, text))
    })
}

fn with_cookie(
    mut answer: Response,
    name: &str,
    value: &str,
    lasts_s: u64,
    caller: &Caller,
) -> Response {
    let secure = if caller.secure { "; Secure" } else { "" };
    let cookie =
        format!("{name}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}");
    // Letters, digits and these marks are valid.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    no_store(answer)
}

/// Keeps caches from storing it.
fn no_store(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
