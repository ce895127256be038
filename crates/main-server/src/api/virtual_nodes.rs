//! Virtual nodes and their casts, for operators: `/api/v1/virtual-nodes`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `GET …` | | 200: all of them, by id; `after`, `limit` |
//! | `GET …/{node}` | | 200: one |
//! | `PUT …/{node}` | any of `site`, `labels` | 200: the virtual node, created or changed; 400 names what is wrong, 409: a node has this id |
//! | `DELETE …/{node}` | | 200 `{"status":"success","message"}` |
//! | `GET …/{node}/casts` | | 200: its casts, as a node gets them |
//! | `POST …/{node}/read` | `{"read": {TOPIC: ID}}` | 200: noted |
//!
//! Unknown virtual node: 404. The database is the mailbox: a virtual node has a place in the
//! sequence of casts, like a node.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
    response::Response,
};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::{
    access::Operator,
    wire::{ApiQuery, Done, done},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;

use super::{
    node_casts::{CastPosition, answer_casts, await_casts, note_report},
    status::preferred_wait,
};
use crate::{
    api::{
        json::{DeclaredJson, JsonBody, WrittenJson},
        path::path_text,
        seconds::Seconds,
    },
    refusal::RequestError,
    server::Server,
    state::virtual_nodes::{VirtualNode, VirtualNodeCommand, VirtualNodeProfile},
};

type Shared = State<Arc<Server>>;

const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 10_000;

/// A virtual node's id in the path: any text.
pub(crate) struct VirtualNodeId(String);

impl FromRequestParts<Arc<Server>> for VirtualNodeId {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        let id = path_text(parts, server, "node").await;
        id.map(Self).ok_or_else(|| RequestError::invalid("节点 ID 无效 / invalid id of a node"))
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VirtualNodeView<'a> {
    id: &'a str,
    #[serde(flatten)]
    profile: &'a VirtualNodeProfile,
    created_at: Seconds,
}

impl<'a> From<&'a VirtualNode> for VirtualNodeView<'a> {
    fn from(node: &'a VirtualNode) -> Self {
        Self { id: &node.id, profile: &node.profile, created_at: node.created_at.into() }
    }
}

/// Virtual nodes, by id.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VirtualNodePage<'a> {
    nodes: Vec<VirtualNodeView<'a>>,
    /// All that there are.
    count: usize,
    /// For `after` of the next page; null if there are no more.
    next: Option<&'a str>,
}

#[derive(Deserialize)]
pub(crate) struct VirtualNodeQuery {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(server): Shared,
    ApiQuery(asked): ApiQuery<VirtualNodeQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(RequestError::Invalid(format!(
            "limit 应为 1 到 {MAX_LIMIT} / limit must be from 1 to {MAX_LIMIT}"
        )));
    }
    let all = server.virtual_nodes();
    // One more tells whether there are more.
    let mut nodes: Vec<_> = all.after(&asked.after).take(limit + 1).collect();
    let has_more = nodes.len() > limit;
    nodes.truncate(limit);
    let next = nodes.last().filter(|_| has_more).map(|node| &*node.id);
    let nodes = nodes.iter().map(|node| VirtualNodeView::from(&***node)).collect();
    Ok(WrittenJson::new(&VirtualNodePage { nodes, count: all.len(), next }))
}

pub(crate) async fn show(
    State(server): Shared,
    VirtualNodeId(id): VirtualNodeId,
) -> Result<WrittenJson, RequestError> {
    view(&server, &id)
}

pub(crate) async fn put(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    VirtualNodeId(id): VirtualNodeId,
    _: DeclaredJson,
    JsonBody(body): JsonBody,
) -> Result<WrittenJson, RequestError> {
    let profile = serde_json::from_value(Value::Object(body)).map_err(|error| {
        RequestError::Invalid(format!("虚拟节点格式错误 / the virtual node is malformed: {error}"))
    })?;
    let node = VirtualNode { id: id.clone(), profile, created_at: UnixMillis::now() };
    server.put_virtual_node(node, Some(&operator)).await?;
    info!("virtual node {id} was set");
    view(&server, &id)
}

pub(crate) async fn remove(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    VirtualNodeId(id): VirtualNodeId,
) -> Result<Json<Done>, RequestError> {
    server.change_by(&operator, VirtualNodeCommand::Remove(id.clone())).await?;
    info!("virtual node {id} was removed");
    Ok(done(format!("Virtual node {id} removed")))
}

pub(crate) async fn casts(
    State(server): Shared,
    VirtualNodeId(id): VirtualNodeId,
    ApiQuery(position): ApiQuery<CastPosition>,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    server.virtual_nodes().get(&id)?;
    // Before, the sequence has no name.
    await_casts(&server).await?;
    let position = position.in_current_stream(&server);
    answer_casts(&server, id.into(), position, preferred_wait(&headers)).await
}

pub(crate) async fn note_read(
    State(server): Shared,
    VirtualNodeId(id): VirtualNodeId,
    _: DeclaredJson,
    JsonBody(body): JsonBody,
) -> Result<Json<Done>, RequestError> {
    server.virtual_nodes().get(&id)?;
    note_report(&server, &id, body)
}

fn view(server: &Server, id: &str) -> Result<WrittenJson, RequestError> {
    let nodes = server.virtual_nodes();
    Ok(WrittenJson::new(&VirtualNodeView::from(&**nodes.get(id)?)))
}
