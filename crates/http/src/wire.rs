//! HTTP details shared by the node's and the main server's APIs: the shape of errors,
//! meeting ids in paths, answers for unknown paths, and reading bodies.

pub mod body;
pub mod docs;
pub mod feed;
pub mod health;
pub mod pages;
pub mod problem;
pub mod snapshot;
pub mod websocket;

use std::str::FromStr;

use axum::{
    Json, Router,
    extract::{FromRequestParts, Query, RawPathParams, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use edge_mirror_base::metrics::page::{self, Exposition};
use edge_mirror_protocol::{
    object::MediaType,
    package::{InvalidId, PackageId},
};
use serde::{Serialize, de::DeserializeOwned};
use tower_http::cors::{Any, CorsLayer};

/// The largest JSON body that any client has a reason to send.
pub const MAX_JSON_BYTES: usize = 1 << 20;

/// The shape of every error on the wire.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Detail {
    pub detail: String,
}

/// Returns `{"detail": …}`: what went wrong, in a sentence.
pub fn detail(status: StatusCode, detail: impl Into<String>) -> Response {
    (status, Json(Detail { detail: detail.into() })).into_response()
}

/// The answer to a call that succeeded.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Done {
    pub status: Success,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum Success {
    Success,
}

pub fn done(message: impl Into<String>) -> Json<Done> {
    Json(Done { status: Success::Success, message: message.into() })
}

/// Headers of a download that other sites' pages may read.
pub const EXPOSED: [HeaderName; 5] = [
    header::ETAG,
    header::CONTENT_DISPOSITION,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    HeaderName::from_static("repr-digest"),
];

/// Lets pages of any site read these routes. Preflights are answered, too: a page that
/// asks for a range sends one first.
pub fn with_cors<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .expose_headers(EXPOSED)
        // The answer is the same for every origin.
        .vary([]);
    // A fallback that is set later would be outside of the layer, and a preflight uses a
    // method that no route has.
    routes.method_not_allowed_fallback(method_not_allowed).layer(cors)
}

/// Adds security headers to every answer: no sniffing, no framing, no referrer. Pages
/// have a policy of their own, which allows their scripts.
pub async fn security_headers(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    insert_security_headers(answer.headers_mut());
    answer
}

/// Does the same as [`security_headers`] for answers that bypass the router. Browsers don't
/// display an archive, so it gets no headers for pages: in a storm each byte of a header
/// is sent thousands of times.
pub fn insert_security_headers(headers: &mut HeaderMap) {
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == MediaType::ZIP.as_str()) {
        return;
    }
    let fields = [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in fields {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Keeps operators' answers out of caches and from other sites.
pub async fn confidential(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    answer
}

/// Returns the metrics in Prometheus' format.
pub fn exposition(page: Exposition) -> Response {
    let headers = [(header::CONTENT_TYPE, page::MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, page.into_text()).into_response()
}

/// Returns the error for an invalid id.
pub fn invalid_id() -> String {
    format!("{} / {}", InvalidId::RULE_ZH, InvalidId::RULE)
}

/// The `{id}` of a path. Anything that is not a meeting id, however encoded, is refused
/// before a handler runs.
#[derive(Clone, Debug)]
pub struct PathId(pub PackageId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let refused = || detail(StatusCode::BAD_REQUEST, invalid_id());
        // Invalid UTF-8, once decoded, is not a meeting id either.
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| refused())?;
        let id = path.iter().find(|(name, _)| *name == "id").map(|(_, value)| value);
        id.and_then(|id| PackageId::from_str(id).ok()).map(Self).ok_or_else(refused)
    }
}

/// The query string of a URL.
#[derive(Clone, Debug)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        // The same name twice, for example.
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(|error| {
            let text = format!("查询参数无效 / the query can't be read: {}", error.body_text());
            detail(StatusCode::BAD_REQUEST, text)
        })
    }
}

/// Answers paths without a route.
pub async fn not_found(uri: Uri) -> Response {
    let path = uri.path();
    detail(StatusCode::NOT_FOUND, format!("没有这个地址 / nothing is served at {path}"))
}

/// Answers methods that a path does not have.
pub async fn method_not_allowed() -> Response {
    detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

#[cfg(feature = "openapi")]
pub mod openapi;
