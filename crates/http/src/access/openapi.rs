//! Authorization in both servers' documents: the schemes, the refusals, and the calls of
//! the login page.

use axum::http::Method;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{
    guard::RetryLater,
    login::{LoggedIn, Rights},
};
use crate::wire::{
    self,
    openapi::{Operation, call, json},
};

/// An operator's credentials.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "read from JSON by hand, so that a mistake gets a sentence")]
struct Login {
    /// The admin token, or the code of a link that `edge-mirror token` made.
    token: String,
}

pub fn security_schemes() -> Value {
    json!({
        "token": {
            "type": "http", "scheme": "bearer",
            "description": "The admin token.",
        },
        "key": {
            "type": "apiKey", "in": "header", "name": "X-API-Key",
            "description": "The admin token, for programs that can't send the other header.",
        },
        "session": {
            "type": "apiKey", "in": "cookie", "name": "edge_mirror_session",
            "description": "Of `POST /api/login`; the name has letters and digits behind it, which tell one \
                installation's cookie from another's. Who asks on the machine itself needs \
                nothing, unless security.trustLocal is off.",
        },
    })
}

/// Adds the guard's refusals to a call.
pub fn guarded(operation: Operation) -> Operation {
    operation
        .security(json!([{"token": []}, {"key": []}, {"session": []}]))
        .refuses(401, "Neither logged in nor a good token.")
        .with(&["WWW-Authenticate"])
        .refuses(
            403,
            "The address may not manage (security.allowFrom), or another site's page sent it.",
        )
        .answers(429, "Too many wrong tries from this address.", vec![json::<RetryLater>()])
        .with(&["Retry-After"])
}

pub fn operations() -> Vec<Operation> {
    const TAG: &str = "Login";
    const FOREIGN: &str = "Another site's page sent it, or the address may not manage.";
    vec![
        call(Method::GET, "/api/session", TAG, "Who am I, and what may I do").answers(
            200,
            "The rights that come with this request.",
            vec![json::<Rights>()],
        ),
        call(Method::POST, "/api/login", TAG, "Log in")
            .body(true, vec![json::<Login>()])
            .answers(200, "Logged in.", vec![json::<LoggedIn>()])
            .with(&["Set-Cookie"])
            .refuses(400, "No token in it.")
            .refuses(401, "The token or code is wrong, used or too old.")
            .with(&["WWW-Authenticate"])
            .refuses(403, FOREIGN)
            .refuses(408, "The body came too slowly.")
            .refuses(413, "The body is too large.")
            .refuses(415, "Not announced as JSON.")
            .answers(429, "Too many wrong tries from this address.", vec![json::<RetryLater>()])
            .with(&["Retry-After"])
            .refuses(503, "Nobody can log in now; the log says why."),
        call(Method::POST, "/api/logout", TAG, "Log out")
            .answers(200, "The session has ended, if there was one.", vec![json::<wire::Done>()])
            .with(&["Set-Cookie"])
            .refuses(403, FOREIGN)
            .refuses(500, "It could not be written down that the session has ended."),
    ]
}
