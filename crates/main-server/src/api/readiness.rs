//! `GET /api/v1/meetings/{id}/readiness`: which nodes have a meeting's package, and why the
//! others don't.

use std::{cell::Cell, sync::Arc};

use axum::{Json, extract::State};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::wire::PathId;
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    refusal::RequestError,
    server::Server,
    state::{
        fleet::{KnownNodes, NodePresence},
        meetings::{Meeting, MeetingPhase},
        problems::FailingMeeting,
        readiness::{
            self, AwaitedPackage, ExpectedNode, NodeContact, NodeReadiness, NodeReadinessState,
            PackageDemand, ReadinessSummary,
        },
        registry::NodeRegistry,
    },
};

/// Nodes that are looked at for one answer, those of each meeting anew: two hundred nodes
/// and five hundred meetings take some 20 ms. Further meetings say nothing of their nodes.
const MAX_ASSESSED: usize = 100_000;
/// Nodes of one meeting that the page is told of; the others are counted.
const MAX_LACKING: usize = 250;

/// A meeting's package, and each node.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeetingReadiness<'a> {
    id: &'a PackageId,
    title: &'a str,
    status: MeetingPhase,
    prestaged: bool,
    started_at: Option<f64>,
    /// Number of the package: how many the meeting has had.
    version: u32,
    /// Null without a package.
    sha256: Option<Sha256>,
    size: Option<u64>,
    #[serde(flatten)]
    summary: ReadinessSummary,
    /// Most urgent first.
    nodes: Vec<NodeReadiness<'a>>,
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    PathId(id): PathId,
) -> Result<Json<Value>, RequestError> {
    let (book, now) = (server.book(), server.clock.now());
    let meeting = book.get(&id)?;
    let (known, registry) = (server.known(), server.registry());
    let expected = expected_nodes(&server, &known, &registry, now);
    let package = awaited(&server, meeting);
    let nodes = package.map(|package| readiness::assess(&package, &expected)).unwrap_or_default();
    Ok(Json(json!(MeetingReadiness {
        id: &meeting.id,
        title: &meeting.title,
        status: meeting.status,
        prestaged: meeting.prestaged,
        started_at: meeting.started_at.map(UnixMillis::as_secs_f64),
        version: meeting.versions,
        sha256: package.map(|package| package.sha256),
        size: package.map(|package| package.size),
        summary: readiness::summarize(&nodes),
        nodes,
    })))
}

/// The nodes that packages should reach: all that are alive, and known ones that are
/// silent, unless they are drained.
fn expected_nodes<'a>(
    server: &Server,
    known: &'a KnownNodes,
    registry: &'a NodeRegistry,
    now: UnixMillis,
) -> Vec<ExpectedNode<'a>> {
    let live = registry.live(now);
    let live =
        live.map(|(node_id, node)| ExpectedNode { node_id, contact: NodeContact::Live(node) });
    let in_use = known.iter().filter(|node| !node.profile.drained);
    let silent = in_use.filter_map(|node| {
        let NodePresence::Silent(since) = registry.presence(node, server.started_at, now) else {
            return None;
        };
        let contact = NodeContact::Away { since, site: &node.profile.site };
        Some(ExpectedNode { node_id: &node.id, contact })
    });
    live.chain(silent).collect()
}

fn awaited<'a>(server: &Server, meeting: &'a Meeting) -> Option<AwaitedPackage<'a>> {
    let stored = server.store.get(&meeting.id)?;
    Some(AwaitedPackage {
        id: &meeting.id,
        sha256: stored.manifest.sha256,
        size: stored.manifest.size_bytes,
        demand: PackageDemand::of(meeting),
    })
}

/// Looks at the nodes for several meetings.
pub(crate) struct ReadinessReader<'a> {
    server: &'a Server,
    nodes: Vec<ExpectedNode<'a>>,
    /// Nodes that may be looked at further.
    left: Cell<usize>,
}

impl<'a> ReadinessReader<'a> {
    pub(crate) fn new(
        server: &'a Server,
        known: &'a KnownNodes,
        registry: &'a NodeRegistry,
        now: UnixMillis,
    ) -> Self {
        let nodes = expected_nodes(server, known, registry, now);
        Self { server, nodes, left: Cell::new(MAX_ASSESSED) }
    }

    /// Returns the readiness for a meeting whose package nodes are to have.
    pub(crate) fn read(&self, meeting: &Meeting) -> Option<BoardReadiness<'a>> {
        if PackageDemand::of(meeting) == PackageDemand::Nobody {
            return None;
        }
        let package = awaited(self.server, meeting)?;
        self.left.set(self.left.get().checked_sub(self.nodes.len())?);
        let mut nodes = readiness::assess(&package, &self.nodes);
        let summary = readiness::summarize(&nodes);
        nodes.retain(|node| node.state != NodeReadinessState::Ready);
        nodes.truncate(MAX_LACKING);
        Some(BoardReadiness { version: meeting.versions, summary, lacking: nodes })
    }
}

/// Readiness of the nodes for one meeting, for the page.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BoardReadiness<'a> {
    /// Number of the package: how many the meeting has had.
    version: u32,
    #[serde(flatten)]
    pub(crate) summary: ReadinessSummary,
    /// Nodes that are not ready, most urgent first; not all where there are hundreds.
    lacking: Vec<NodeReadiness<'a>>,
}

impl BoardReadiness<'_> {
    /// The nodes that can't pull the meeting's package, if there are any.
    pub(crate) fn failing<'a>(&'a self, meeting: &'a Meeting) -> Option<FailingMeeting<'a>> {
        let failing = self.lacking.iter();
        let failing = failing.filter(|node| node.state == NodeReadinessState::Failing);
        let nodes: Vec<_> = failing.map(|node| node.node_id).collect();
        (!nodes.is_empty()).then_some(FailingMeeting { meeting, nodes })
    }
}
