//! JSON bodies. One that is not valid is answered by 422 with a list of its faults, as by
//! FastAPI.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::{self, body};
use serde_json::{Map, Value, json};

use super::CastRayGateway;
use crate::refusal::RequestError;

/// The largest message that can be sent, whose characters are all escaped, fits.
const MAX_BYTES: usize = 512 << 10;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Characters of a wrong value that an error echoes.
const MAX_ECHO: usize = 1000;

/// The reason that a call is refused.
#[derive(Debug)]
pub(super) enum CastRayRefusal {
    /// The flaws of a body.
    Flaws(Vec<Value>),
    Text(StatusCode, String),
    Core(RequestError),
    Body(body::BodyError),
}

impl CastRayRefusal {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::Text(StatusCode::BAD_REQUEST, text.into())
    }

    pub(super) fn unknown(text: &str) -> Self {
        Self::Text(StatusCode::NOT_FOUND, text.to_owned())
    }

    pub(super) fn unavailable(text: &str) -> Self {
        Self::Text(StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
    }
}

impl From<RequestError> for CastRayRefusal {
    fn from(error: RequestError) -> Self {
        match error {
            // Nothing here is answered with 500.
            error @ RequestError::Storage(_) => Self::unavailable(&error.to_string()),
            error => Self::Core(error),
        }
    }
}

impl IntoResponse for CastRayRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Flaws(flaws) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": flaws}))).into_response()
            }
            Self::Text(status, text) => wire::detail(status, text),
            Self::Core(error) => error.into_response(),
            Self::Body(error) => error.into_response(),
        }
    }
}

/// A flaw of a body, or of another part of a request.
pub(super) fn flaw(kind: &str, loc: &[Value], msg: &str, input: &Value) -> Value {
    let text = input.to_string();
    let input = match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => json!(text[..end]),
        None => input.clone(),
    };
    json!({"type": kind, "loc": loc, "msg": msg, "input": input})
}

/// A JSON object in a body.
pub(super) struct CastRayJson(pub(super) Map<String, Value>);

impl FromRequest<Arc<CastRayGateway>> for CastRayJson {
    type Rejection = CastRayRefusal;

    async fn from_request(
        request: Request,
        _: &Arc<CastRayGateway>,
    ) -> Result<Self, CastRayRefusal> {
        let (parts, body) = request.into_parts();
        let bytes = body::read(body, MAX_BYTES, TIMEOUT).await.map_err(CastRayRefusal::Body)?;
        let at = [json!("body")];
        if bytes.is_empty() {
            return Err(CastRayRefusal::Flaws(vec![flaw(
                "missing",
                &at,
                "Field required",
                &Value::Null,
            )]));
        }
        let value = match body::is_json_or_untyped(&parts.headers) {
            true => serde_json::from_slice(&bytes).map_err(|error| {
                let at = [json!("body"), json!(error.column())];
                let mut flaw = flaw("json_invalid", &at, "JSON decode error", &json!({}));
                flaw["ctx"] = json!({"error": error.to_string()});
                CastRayRefusal::Flaws(vec![flaw])
            })?,
            false => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => {
                let text = "Input should be a valid dictionary";
                Err(CastRayRefusal::Flaws(vec![flaw("dict_type", &at, text, &other)]))
            }
        }
    }
}

impl CastRayJson {
    /// A text; numbers count as what they look like, and nothing as the default.
    pub(super) fn text(&self, name: &str, default: &str) -> String {
        match self.0.get(name) {
            None | Some(Value::Null) => default.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The texts of a list; what is none is left out.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.0.get(name).map_or(default, |value| match value {
            Value::Bool(flag) => *flag,
            Value::Null => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        })
    }
}
