//! The optional key of nodes. It keeps strangers from registering and drawing
//! tablets to themselves; without one anybody may, as with the real main server.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::Response,
};
use edge_mirror_base::tasks;
use edge_mirror_http::{
    access::{self, VaultError},
    wire::{self, Done, Success, body, done},
};
use serde::Serialize;
use tracing::info;

use crate::{
    api::json::{DeclaredJson, FieldReader, JsonBody},
    refusal::RequestError,
    server::Server,
};

const KEY: &str = "x-api-key";
/// Hard to guess, and accepted by nodes (`security.mainServerKey`).
const MIN_CHARS: usize = 16;
const MAX_CHARS: usize = 256;

/// Middleware of nodes' calls.
pub(crate) async fn check(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    if is_accepted(&server, request.headers()).await {
        return next.run(request).await;
    }
    let (parts, unread) = request.into_parts();
    server.access.log_refused(&parts, "without the key that nodes have to send");
    let text = "需要主控服务器密钥（security.mainServerKey） / this main server asks nodes for a \
                key: set security.mainServerKey at the node";
    body::drain_and_answer(&parts.headers, unread, wire::detail(StatusCode::UNAUTHORIZED, text))
        .await
}

/// True if the key is the one that nodes have to send, or none is required.
pub(crate) async fn is_accepted(server: &Server, asked: &HeaderMap) -> bool {
    let key = asked.get(KEY).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let vault = server.access.vault().clone();
    tasks::blocking(move || vault.accepts_node_key(key.as_deref())).await
}

/// Sets the key sent, or a generated one, and shows it this once.
pub(crate) async fn set(
    State(server): State<Arc<Server>>,
    _: DeclaredJson,
    body: JsonBody,
) -> Result<Json<NodeKey>, RequestError> {
    let mut reader = FieldReader::new(&body);
    let wanted = reader.optional_text("key");
    reader.finish()?;
    let good = |key: &String| {
        (MIN_CHARS..=MAX_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    };
    if wanted.as_ref().is_some_and(|key| !good(key)) {
        return Err(RequestError::invalid(
            "密钥应为 16 到 256 个可见的 ASCII 字符 / a key is 16 to 256 visible ASCII characters",
        ));
    }
    let vault = server.access.vault().clone();
    let key = tasks::blocking(move || {
        let key = wanted.map_or_else(access::random_text, Ok)?;
        vault.set_node_key(Some(&key)).map(|()| key)
    });
    let key = key.await.map_err(key_not_saved)?;
    server.wake.gauge.notify_one();
    info!("nodes have to send a key from now on");
    Ok(Json(NodeKey { status: Success::Success, key }))
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeKey {
    status: Success,
    /// It is not shown again.
    key: String,
}

pub(crate) async fn clear(State(server): State<Arc<Server>>) -> Result<Json<Done>, RequestError> {
    let vault = server.access.vault().clone();
    tasks::blocking(move || vault.set_node_key(None)).await.map_err(key_not_saved)?;
    server.wake.gauge.notify_one();
    info!("nodes need no key any more");
    Ok(done("不再需要密钥 / nodes need no key any more"))
}

fn key_not_saved(error: VaultError) -> RequestError {
    RequestError::Storage(error.to_string())
}
