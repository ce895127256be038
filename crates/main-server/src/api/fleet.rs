//! The nodes of the fleet, for operators: `/api/v1/fleet/nodes`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `GET /api/v1/fleet/demand` | | 200, how many nodes the load wants |
//! | `GET …` | | 200, the known nodes, those that wait, and those that were refused |
//! | `PATCH …/{node}` | any of `name`, `location`, `site`, `labels`, `weight`, `priority`, `drained` | 200, the node; 400 names what is wrong |
//! | `POST …/{node}/approve` | | 200, the node; with `?client=` only if that is who waits, else 409 |
//! | `POST …/{node}/refuse` | | 200 `{"status":"success","message"}`; the same, and with `?client=` also a known node |
//! | `DELETE …/{node}` | | 200 `{"status":"success","message"}`; also forgets refusals of its id |
//!
//! Times are seconds since 1970. Unknown node: 404.

mod demand;
mod profile;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::{
    access::Operator,
    wire::{ApiQuery, Done, done},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use crate::{
    api::{
        json::{DeclaredJson, JsonBody, WrittenJson},
        path::path_text,
        seconds::Seconds,
    },
    refusal::RequestError,
    server::Server,
    state::{
        fleet::{
            AvailabilityChange, KnownNode, KnownNodes, LearnedNode, NodeClaim, NodePolicy,
            NodePresence, NodeProfile, RefusedNode, commands::NodeCommand,
        },
        registry::NodeRegistry,
    },
};

pub(crate) use demand::demand;

type Shared = State<Arc<Server>>;
type JsonResult = Result<Json<Value>, RequestError>;

/// A node's id in the path: any text.
pub(crate) struct NodeId(String);

impl FromRequestParts<Arc<Server>> for NodeId {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        let id = path_text(parts, server, "node").await;
        id.map(Self).ok_or_else(|| RequestError::invalid("节点 ID 无效 / invalid node ID"))
    }
}

/// Makes sure that the one decided upon is the one that was shown.
#[derive(Deserialize)]
pub(crate) struct ExpectedClient {
    client: Option<IpAddr>,
}

/// All nodes, whether they are there or not.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Fleet<'a> {
    policy: NodePolicy,
    /// Nodes that register are accepted until then: the first start after an upgrade.
    accepting_until: Option<f64>,
    nodes: Vec<FleetNode<'a>>,
    /// They wait for an operator.
    pending: Vec<PendingNode<'a>>,
    refused: Vec<RefusedView<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FleetNode<'a> {
    #[serde(flatten)]
    node: KnownView<'a>,
    /// Changes between present and silent of the last 30 days, oldest first.
    availability: &'a [AvailabilityChange],
}

/// A known node, without what changes with each heartbeat.
#[derive(Serialize, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KnownView<'a> {
    id: &'a str,
    state: PresenceState,
    address: &'a str,
    /// The address that it calls from.
    client: IpAddr,
    first_seen: Seconds,
    /// Null while it is there.
    last_seen: Option<Seconds>,
    #[serde(flatten)]
    profile: &'a NodeProfile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum PresenceState {
    Present,
    /// Not heard yet since the start, or it has just said goodbye.
    Awaited,
    /// Not heard for 30 s or longer.
    Silent,
}

/// A node that waits for an operator.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PendingNode<'a> {
    id: &'a str,
    address: &'a str,
    client: IpAddr,
    first_seen: f64,
    /// The known node's address, where one with this id calls from another address.
    moves_from: Option<&'a str>,
    /// Null for a node of the old kind.
    version: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RefusedView<'a> {
    id: &'a str,
    address: &'a str,
    client: IpAddr,
    refused_at: f64,
}

pub(crate) async fn list(State(server): Shared) -> WrittenJson {
    tasks::blocking(move || fleet(&server)).await
}

fn fleet(server: &Server) -> WrittenJson {
    let (now, known) = (server.clock.now(), server.known());
    // There may be thousands, and heartbeats wait for the registry.
    let (nodes, claims) = {
        let (registry, claims) = (server.registry(), server.claims());
        let presences = registry.presences(&known, server.started_at, now);
        let nodes = presences.map(|(node, presence)| FleetNode {
            node: known_view(&registry, node, presence),
            availability: &node.availability,
        });
        let claims = claims.iter().map(|(id, claim)| (id.to_owned(), claim.clone()));
        (nodes.collect(), claims.collect::<Vec<_>>())
    };
    let refused = known.refused().map(|node| RefusedView {
        id: &node.id,
        address: &node.address,
        client: node.client,
        refused_at: node.at.as_secs_f64(),
    });
    WrittenJson::new(&Fleet {
        policy: server.node_policy(),
        accepting_until: known.open_until(now).map(UnixMillis::as_secs_f64),
        nodes,
        pending: claims.iter().map(|(id, claim)| pending_view(&known, id, claim)).collect(),
        refused: refused.collect(),
    })
}

pub(crate) fn known_view<'a>(
    registry: &NodeRegistry,
    node: &'a KnownNode,
    presence: NodePresence,
) -> KnownView<'a> {
    let (state, last_seen) = match presence {
        NodePresence::Present => (PresenceState::Present, None),
        NodePresence::Awaited => (PresenceState::Awaited, Some(registry.last_seen(node))),
        NodePresence::Silent(since) => (PresenceState::Silent, Some(since)),
    };
    KnownView {
        id: &node.id,
        state,
        address: &node.address,
        client: node.client,
        first_seen: node.first_seen.into(),
        last_seen: last_seen.map(Seconds::from),
        profile: &node.profile,
    }
}

pub(crate) fn pending_view<'a>(
    known: &'a KnownNodes,
    id: &'a str,
    claim: &'a NodeClaim,
) -> PendingNode<'a> {
    PendingNode {
        id,
        address: &claim.address,
        client: claim.client,
        first_seen: claim.first_seen.as_secs_f64(),
        moves_from: known.get(id).map(|node| &*node.address),
        version: claim.version.as_deref(),
    }
}

pub(crate) async fn edit(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    NodeId(id): NodeId,
    _: DeclaredJson,
    body: JsonBody,
) -> JsonResult {
    let edit = profile::read_edit(&body)?;
    server.change_by(&operator, NodeCommand::Edit { id: id.clone(), edit }).await?;
    info!("node {id} was edited");
    view(&server, &id)
}

pub(crate) async fn approve(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    NodeId(id): NodeId,
    ApiQuery(expected): ApiQuery<ExpectedClient>,
) -> JsonResult {
    let asking = asking(&server, &id, &expected)?;
    let (client, address) = (asking.client, asking.address.clone());
    server.change_by(&operator, NodeCommand::Approve(asking)).await?;
    info!("node {id} at {address} ({client}) is accepted");
    view(&server, &id)
}

/// The one that waits, or else the last one that was refused.
fn asking(
    server: &Server,
    id: &str,
    expected: &ExpectedClient,
) -> Result<LearnedNode, RequestError> {
    let node = |address: &str, client, heard_at| {
        LearnedNode::new(id.to_owned(), address.to_owned(), client, heard_at)
    };
    let waiting = server.claims().get(id).map(|claim| LearnedNode {
        first_seen: claim.first_seen,
        ..node(&claim.address, claim.client, claim.heard_at)
    });
    let known = server.known();
    let refused = known.refused().filter(|refused| refused.id == id);
    let refused = refused.filter(|node| expected.client.is_none_or(|client| client == node.client));
    let refused = refused.max_by_key(|refused| refused.at);
    let found = match (waiting, refused, expected.client) {
        (Some(waiting), refused, Some(client)) if waiting.client != client => {
            let other = RequestError::OtherClaim { id: id.to_owned(), client: waiting.client };
            let refused = refused.ok_or(other)?;
            node(&refused.address, refused.client, server.clock.now())
        }
        (Some(waiting), ..) => waiting,
        (None, Some(refused), _) => node(&refused.address, refused.client, server.clock.now()),
        (None, None, _) => return Err(RequestError::NotPending(id.to_owned())),
    };
    Ok(found)
}

/// Refuses the one that waits, or the known node, if that is the client who is named.
pub(crate) async fn refuse(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    NodeId(id): NodeId,
    ApiQuery(expected): ApiQuery<ExpectedClient>,
) -> Result<Json<Done>, RequestError> {
    let (address, client) = unwanted(&server, &id, &expected)?;
    let at = server.clock.now();
    let refused = RefusedNode { id: id.clone(), address, client, at };
    server.change_by(&operator, NodeCommand::Refuse(refused)).await?;
    info!("node {id} from {client} is refused");
    Ok(done(format!("节点 {id} 已拒绝 / node {id} is refused")))
}

/// The address of the one to refuse, and its client. A known node is not refused by
/// mistake, because the one that waited has just given up.
fn unwanted(
    server: &Server,
    id: &str,
    expected: &ExpectedClient,
) -> Result<(String, IpAddr), RequestError> {
    let waiting = server.claims().get(id).map(|claim| (claim.address.clone(), claim.client));
    let Some(expected) = expected.client else {
        return waiting.ok_or_else(|| RequestError::NotPending(id.to_owned()));
    };
    let known = server.known().get(id).map(|node| (node.address.clone(), node.client));
    let other = waiting.as_ref().or(known.as_ref()).map(|(_, client)| *client);
    let found = [waiting, known].into_iter().flatten().find(|(_, client)| *client == expected);
    found.ok_or_else(|| match other {
        Some(client) => RequestError::OtherClaim { id: id.to_owned(), client },
        None => RequestError::UnknownNode(id.to_owned()),
    })
}

pub(crate) async fn remove(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    NodeId(id): NodeId,
) -> Result<Json<Done>, RequestError> {
    let was_waiting = server.claims().remove(&id).is_some();
    match server.change_by(&operator, NodeCommand::Remove(id.clone())).await {
        Err(RequestError::UnknownNode(_)) if was_waiting => {}
        outcome => outcome?,
    }
    info!("node {id} was removed");
    Ok(done(format!("节点 {id} 已移除 / node {id} was removed")))
}

fn view(server: &Server, id: &str) -> JsonResult {
    let known = server.known();
    let node = known.get(id).ok_or_else(|| RequestError::UnknownNode(id.to_owned()))?;
    let registry = server.registry();
    let presence = registry.presence(node, server.started_at, server.clock.now());
    let node_view = known_view(&registry, node, presence);
    Ok(Json(json!(FleetNode { node: node_view, availability: &node.availability })))
}
