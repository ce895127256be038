//! The lists of nodes that anybody may read.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::PackageId;
use futures_util::stream;
use serde::Serialize;

use crate::{
    api::seconds::Seconds,
    refusal::RequestError,
    server::Server,
    state::{
        index::IndexedMeetings,
        registry::{NodeReachability, RegisteredNode},
    },
};

type Shared = State<Arc<Server>>;

/// Bytes of the list of nodes written at a time: bounds each reader's memory, and
/// how long the registry is locked.
const PIECE_BYTES: usize = 32 << 10;

/// Streams the list: each node is as it was when it was written.
pub(crate) async fn list(State(server): Shared) -> Response {
    let pieces = stream::unfold(Some(None), move |from| {
        let piece = from.map(|after: Option<String>| next_chunk(&server, after.as_deref()));
        std::future::ready(piece.map(|(piece, rest)| (Ok::<_, RequestError>(piece), rest)))
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, Body::from_stream(pieces)).into_response()
}

/// A piece of the list after a node, or from its beginning, and the piece's last
/// node if more follow.
fn next_chunk(server: &Server, after: Option<&str>) -> (Bytes, Option<Option<String>>) {
    let (now, book) = (server.clock.now(), server.book());
    let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
    let mut comma: &[u8] = if after.is_some() { b"," } else { b"[" };
    for (node_id, node) in server.registry().live_after(after, now) {
        piece.extend(comma);
        comma = b",";
        // Strings and numbers only: serialization can't fail.
        let _ = serde_json::to_writer(&mut piece, &listed(node_id, node, &book, now));
        if piece.len() >= PIECE_BYTES {
            return (piece.into(), Some(Some(node_id.to_owned())));
        }
    }
    piece.extend(if after.is_none() && piece.is_empty() { &b"[]"[..] } else { b"]" });
    (piece.into(), None)
}

/// A node as everybody sees it.
#[derive(Serialize, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Node"))]
pub(crate) struct NodeView<'a> {
    node_id: &'a str,
    address: &'a str,
    status: &'a str,
    /// Seconds since 1970.
    last_seen: Seconds,
    /// Seconds since it registered.
    uptime: Seconds,
    /// Null before the first probe.
    reachable: Option<bool>,
    unreachable_reason: Option<&'a str>,
    /// Under way, by its last heartbeat.
    downloads: u64,
    version: Option<&'a str>,
}

pub(crate) fn described<'a>(
    node_id: &'a str,
    node: &'a RegisteredNode,
    now: UnixMillis,
) -> NodeView<'a> {
    let (reachable, reason) = match &node.reach {
        NodeReachability::Unknown => (None, None),
        NodeReachability::Reachable { .. } => (Some(true), None),
        NodeReachability::Unreachable(reason) => (Some(false), Some(&**reason)),
    };
    NodeView {
        node_id,
        address: &node.address,
        status: &node.status,
        last_seen: node.heard_at.into(),
        uptime: now.saturating_since(node.registered_at).into(),
        reachable,
        unreachable_reason: reason,
        downloads: node.downloads,
        version: node.version.as_deref(),
    }
}

/// A node and its meetings.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedNode<'a> {
    #[serde(flatten)]
    node: NodeView<'a>,
    /// Their titles.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_meeting: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    active_meetings: Vec<ReportedMeeting<'a>>,
    synced_meetings: Vec<&'a PackageId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ActiveMeeting"))]
struct ReportedMeeting<'a> {
    id: &'a PackageId,
    title: &'a str,
}

fn listed<'a>(
    node_id: &'a str,
    node: &'a RegisteredNode,
    book: &'a IndexedMeetings,
    now: UnixMillis,
) -> ListedNode<'a> {
    // One that was deleted meanwhile has no title.
    let active = node.active.iter().filter_map(|id| book.find(id.as_str()));
    let active: Vec<_> =
        active.map(|meeting| ReportedMeeting { id: &meeting.id, title: &meeting.title }).collect();
    let titles = || active.iter().map(|meeting| meeting.title).collect::<Vec<_>>().join(", ");
    ListedNode {
        node: described(node_id, node, now),
        active_meeting: (!active.is_empty()).then(titles),
        active_meetings: active,
        synced_meetings: node.synced().collect(),
    }
}

/// Nodes that clients can be sent to.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AvailableNodes {
    count: usize,
    /// Each as `ip:port`.
    nodes: Vec<String>,
}

/// Nodes that clients can be sent to: one that our probe did not reach is
/// listed above, with the reason, but not here.
pub(crate) async fn available(State(server): Shared) -> Json<AvailableNodes> {
    let now = server.clock.now();
    let registry = server.registry();
    let nodes: Vec<_> = registry.available(now).map(|(_, node)| node.address.clone()).collect();
    Json(AvailableNodes { count: nodes.len(), nodes })
}
