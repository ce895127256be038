//! What nodes say of themselves, and who they are: `/api/v1/nodes/…`.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use super::{
    holding::{MAX_LISTED, Report},
    json::{JsonBody, Reader},
    metrics::Taken,
    probe::plain,
    refusal::Refusal,
    registry::{Beat, Node, Reach},
    server::Server,
};
use crate::{
    protocol::{MeetingRef, NodeReport},
    wire::{Done, Success, done},
};

type Shared = State<Arc<Server>>;

/// Names and addresses are kept and shown; nobody's is longer.
const MAX_TEXT: usize = 256;

pub async fn register(State(server): Shared, body: JsonBody) -> Result<Json<Done>, Refusal> {
    let outcome = registered(&server, &body);
    server.counts.registrations.one(Taken::of(&outcome));
    outcome
}

fn registered(server: &Server, body: &JsonBody) -> Result<Json<Done>, Refusal> {
    let mut reader = Reader::new(body);
    let (node_id, address) = (reader.text("node_id"), plain(reader.text("address")));
    let status = reader.text("status");
    reader.finish()?;
    named(&node_id, &address)?;
    let new = {
        let now_s = server.clock.now_s();
        server.registry().register(&node_id, address.clone(), clipped(status), now_s)?
    };
    server.wake.prober.notify_one();
    if new {
        info!("node {node_id:?} registered at {address:?}");
    }
    Ok(done(format!("Node {node_id} registered")))
}

pub async fn heartbeat(State(server): Shared, body: JsonBody) -> Result<Json<Heard>, Refusal> {
    let outcome = heard(&server, &body);
    server.counts.heartbeats.one(Taken::of(&outcome));
    outcome
}

fn heard(server: &Server, body: &JsonBody) -> Result<Json<Heard>, Refusal> {
    let mut reader = Reader::new(body);
    let (node_id, address) = (reader.text("node_id"), plain(reader.text("address")));
    let status = reader.text("status");
    // A title that is missing breaks the real main server for everyone; here
    // the heartbeat is refused.
    let active = reader.objects("active_meetings", |item| MeetingRef {
        id: item.text("id"),
        title: item.text("title"),
    });
    let synced = reader.optional_texts("synced_meetings");
    reader.finish()?;
    named(&node_id, &address)?;
    let mirror = body.0.get("mirror");
    let report =
        mirror.and_then(|mirror| serde_json::from_value::<NodeReport>(mirror.clone()).ok());
    let beat = beat(address.clone(), status, active, synced, report);
    let now_s = server.clock.now_s();
    let new = server.registry().heartbeat(&node_id, beat, now_s, server.offered())?;
    let unreachable = server.registry().unreachable(&node_id);
    server.wake.announcer.notify_one();
    if new {
        server.wake.prober.notify_one();
        info!("node {node_id:?} at {address:?} is known by its heartbeat");
    }
    let mirror = unreachable.map(|unreachable| ToMirror { unreachable });
    Ok(Json(Heard { status: Success::Success, timestamp: now_s, mirror }))
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Heard {
    status: Success,
    timestamp: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<ToMirror>,
}

/// For our own nodes, so that they can tell who runs them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ToMirror {
    /// Why the node was not reached at its address.
    unreachable: String,
}

fn beat(
    address: String,
    status: String,
    mut active: Vec<MeetingRef>,
    synced: Option<Vec<String>>,
    mirror: Option<NodeReport>,
) -> Beat {
    active.truncate(MAX_LISTED);
    // Older nodes know no such list: they have what they call active.
    let has_active = || active.iter().map(|meeting| meeting.id.clone()).collect();
    let mut synced = synced.unwrap_or_else(has_active);
    synced.truncate(MAX_LISTED);
    let (downloads, version) =
        mirror.as_ref().map_or((0, None), |m| (m.downloads, Some(clipped(m.version.clone()))));
    let report = match mirror {
        Some(mirror) => Report::Digests(
            mirror.packages.into_iter().map(|held| (held.id, held.sha256)).collect(),
        ),
        None => Report::Ids(synced.iter().filter_map(|id| id.parse().ok()).collect()),
    };
    let active = active
        .into_iter()
        .map(|meeting| MeetingRef { id: clipped(meeting.id), title: clipped(meeting.title) })
        .collect();
    let synced = synced.into_iter().map(clipped).collect();
    Beat { address, status: clipped(status), active, synced, report, downloads, version }
}

pub async fn unregister(State(server): Shared, body: JsonBody) -> Result<Json<Done>, Refusal> {
    let mut reader = Reader::new(&body);
    let node_id = reader.text("node_id");
    reader.finish()?;
    let now_s = server.clock.now_s();
    if !server.registry().unregister(&node_id, now_s) {
        return Err(Refusal::UnknownNode(clipped(node_id)));
    }
    server.wake.announcer.notify_one();
    info!("node {node_id:?} unregistered");
    Ok(done(format!("Node {node_id} unregistered")))
}

pub async fn list(State(server): Shared) -> Json<Value> {
    let now_s = server.clock.now_s();
    let registry = server.registry();
    let nodes = registry.live(now_s).map(|(id, node)| described(id, node, now_s));
    Json(json!(nodes.collect::<Vec<_>>()))
}

/// A node as everybody sees it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Node"))]
pub struct Described<'a> {
    node_id: &'a str,
    address: &'a str,
    status: &'a str,
    /// Seconds since 1970.
    last_seen: f64,
    /// Seconds since it registered.
    uptime: f64,
    /// Their titles.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_meeting: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    active_meetings: &'a [MeetingRef],
    synced_meetings: &'a [String],
    /// Null before it was tried.
    reachable: Option<bool>,
    unreachable_reason: Option<&'a str>,
    /// Under way, by its last word.
    downloads: u64,
    version: Option<&'a str>,
}

pub fn described<'a>(node_id: &'a str, node: &'a Node, now_s: f64) -> Described<'a> {
    let (reachable, reason) = match &node.reach {
        Reach::Unknown => (None, None),
        Reach::Reachable { .. } => (Some(true), None),
        Reach::Unreachable(reason) => (Some(false), Some(&**reason)),
    };
    Described {
        node_id,
        address: &node.address,
        status: &node.status,
        last_seen: node.heard_s,
        uptime: now_s - node.registered_s,
        active_meeting: (!node.active.is_empty()).then(|| titles(&node.active)),
        active_meetings: &node.active,
        synced_meetings: &node.synced,
        reachable,
        unreachable_reason: reason,
        downloads: node.downloads,
        version: node.version.as_deref(),
    }
}

fn titles(meetings: &[MeetingRef]) -> String {
    meetings.iter().map(|meeting| &*meeting.title).collect::<Vec<_>>().join(", ")
}

/// Where clients can be sent to.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Available {
    count: usize,
    /// Each as `ip:port`.
    nodes: Vec<String>,
}

/// Nodes that clients can be sent to: one that our probe did not reach is
/// listed above, with the reason, but not here.
pub async fn available(State(server): Shared) -> Json<Available> {
    let now_s = server.clock.now_s();
    let registry = server.registry();
    let nodes: Vec<_> = registry.available(now_s).map(|(_, node)| node.address.clone()).collect();
    Json(Available { count: nodes.len(), nodes })
}

fn named(node_id: &str, address: &str) -> Result<(), Refusal> {
    if node_id.is_empty() || address.is_empty() {
        return Err(Refusal::invalid("node_id and address are required"));
    }
    if node_id.len() > MAX_TEXT || address.len() > MAX_TEXT {
        return Err(Refusal::invalid("node_id and address are at most 256 bytes each"));
    }
    Ok(())
}

fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
