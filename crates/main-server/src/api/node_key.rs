//! The optional key of nodes: only nodes that send it may register, and they need no
//! operator's approval. Without one, who calls from elsewhere waits for that, unless
//! `--nodes open` lets everybody in, as the real main server does.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension, Json,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use edge_mirror_base::tasks;
use edge_mirror_http::{
    access::{self, NodeKeyCheck, Operator, VaultError},
    wire::{self, Done, Success, body, done},
};
use serde::Serialize;
use tracing::{info, warn};

use crate::{
    api::json::{DeclaredJson, FieldReader, JsonBody},
    refusal::RequestError,
    server::Server,
    state::{
        audit::{AuditAction, AuditEvent},
        fleet::NodeCaller,
        master_state::MasterCommand,
    },
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
    let key = check_key(&server, request.headers()).await;
    if key != NodeKeyCheck::Wrong {
        let mut request = request;
        request.extensions_mut().insert(key);
        return next.run(request).await;
    }
    let (parts, unread) = request.into_parts();
    server.access.log_refused(&parts, "without the key that nodes have to send");
    let text = "需要主控服务器密钥（security.mainServerKey） / this main server asks nodes for a \
                key: set security.mainServerKey at the node";
    body::drain_and_answer(&parts.headers, unread, wire::detail(StatusCode::UNAUTHORIZED, text))
        .await
}

pub(crate) async fn check_key(server: &Server, asked: &HeaderMap) -> NodeKeyCheck {
    let key = asked.get(KEY).and_then(|key| key.to_str().ok());
    // Nodes call by the thousand a second; a look at the disk takes a thread each time.
    if let Some(found) = server.access.vault().check_node_key_lately_read(key) {
        return found;
    }
    let (vault, key) = (server.access.vault().clone(), key.map(str::to_owned));
    tasks::blocking(move || vault.check_node_key(key.as_deref())).await
}

/// The sender of a request of `parts`, and whether it proves to be a node of this fleet.
pub(crate) fn caller(server: &Server, parts: &Parts, key: NodeKeyCheck) -> NodeCaller {
    let client = server.access.caller(parts).address.to_canonical();
    NodeCaller { client, is_proven: key == NodeKeyCheck::Right || server.access.is_local(parts) }
}

/// Extracted from calls that [`check`] let through.
impl FromRequestParts<Arc<Server>> for NodeCaller {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, Self::Rejection> {
        let key = parts.extensions.get().copied().unwrap_or(NodeKeyCheck::NotRequired);
        Ok(caller(server, parts, key))
    }
}

/// Sets the key sent, or a generated one, and shows it this once.
pub(crate) async fn set(
    State(server): State<Arc<Server>>,
    Extension(operator): Extension<Operator>,
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
    record(&server, &operator, AuditAction::NodeKeySet).await;
    Ok(Json(NodeKey { status: Success::Success, key }))
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeKey {
    status: Success,
    /// It is not shown again.
    key: String,
}

pub(crate) async fn clear(
    State(server): State<Arc<Server>>,
    Extension(operator): Extension<Operator>,
) -> Result<Json<Done>, RequestError> {
    let vault = server.access.vault().clone();
    tasks::blocking(move || vault.set_node_key(None)).await.map_err(key_not_saved)?;
    server.wake.gauge.notify_one();
    info!("nodes need no key any more");
    record(&server, &operator, AuditAction::NodeKeyRemoved).await;
    Ok(done("不再需要密钥 / nodes need no key any more"))
}

/// The key is changed already, whatever becomes of this.
async fn record(server: &Server, operator: &Operator, action: AuditAction) {
    let event = MasterCommand::Record(AuditEvent::new(action));
    if let Err(refusal) = server.change_by(operator, event).await {
        warn!("the change of the nodes' key is not in the list of changes: {refusal}");
    }
}

fn key_not_saved(error: VaultError) -> RequestError {
    RequestError::Storage(error.to_string())
}
