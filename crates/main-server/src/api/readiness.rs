//! `GET /api/v1/meetings/{id}/readiness`: which nodes have a meeting's package, and why the
//! others don't.

use std::sync::Arc;

use axum::extract::State;
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::wire::PathId;
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::Serialize;

use crate::{
    api::json::WrittenJson,
    packages::package_of,
    refusal::RequestError,
    server::Server,
    state::{
        fleet::{KnownNode, NodePresence},
        meetings::{Meeting, MeetingPhase},
        problems::FailingMeeting,
        readiness::{
            self, AwaitedPackage, ExpectedNode, NodeContact, NodeReadiness, NodeReadinessState,
            PackageDemand, ReadinessSummary, WRONG_CONTENT,
        },
        registry::RegisteredNode,
    },
};

/// Nodes that are looked at for one answer, those of each meeting anew: two hundred nodes
/// and five hundred meetings take some 20 ms. Further meetings, those that are least urgent,
/// say nothing of their nodes.
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
) -> Result<WrittenJson, RequestError> {
    tasks::blocking(move || meeting_readiness(&server, &id)).await
}

fn meeting_readiness(server: &Server, id: &PackageId) -> Result<WrittenJson, RequestError> {
    let book = server.book();
    let meeting = book.get(id)?;
    let package = awaited(server, meeting);
    let nodes = package.map(|package| assess_nodes(server, &package)).unwrap_or_default();
    Ok(WrittenJson::new(&MeetingReadiness {
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
    }))
}

/// Copies what it finds: there may be thousands of nodes, and heartbeats wait for the
/// registry.
fn assess_nodes(server: &Server, package: &AwaitedPackage<'_>) -> Vec<NodeReadiness<'static>> {
    let (known, registry, now) = (server.known(), server.registry(), server.clock.now());
    let presences = registry.presences(&known, server.started_at, now);
    let expected: Vec<_> = expected_nodes(registry.live(now), presences).collect();
    let nodes = readiness::assess(package, &expected).into_iter();
    nodes.map(NodeReadiness::into_owned).collect()
}

/// The nodes that packages should reach: all that are alive, and known ones that are
/// silent, unless they are drained.
fn expected_nodes<'a>(
    live: impl Iterator<Item = (&'a str, &'a RegisteredNode)>,
    presences: impl Iterator<Item = (&'a Arc<KnownNode>, NodePresence)>,
) -> impl Iterator<Item = ExpectedNode<'a>> {
    let live =
        live.map(|(node_id, node)| ExpectedNode { node_id, contact: NodeContact::Live(node) });
    let in_use = presences.filter(|(node, _)| !node.profile.drained);
    let silent = in_use.filter_map(|(node, presence)| {
        let NodePresence::Silent(since) = presence else { return None };
        let contact = NodeContact::Away { since, site: &node.profile.site };
        Some(ExpectedNode { node_id: &node.id, contact })
    });
    live.chain(silent)
}

fn awaited<'a>(server: &Server, meeting: &'a Meeting) -> Option<AwaitedPackage<'a>> {
    let package = package_of(meeting, &server.store)?;
    Some(AwaitedPackage {
        id: &meeting.id,
        sha256: package.sha256,
        size: package.size,
        demand: PackageDemand::of(meeting),
    })
}

/// Looks at the nodes for several meetings.
pub(crate) struct ReadinessReader<'a> {
    server: &'a Server,
    nodes: Vec<ExpectedNode<'a>>,
}

impl<'a> ReadinessReader<'a> {
    pub(crate) fn new(
        server: &'a Server,
        live: impl Iterator<Item = (&'a str, &'a RegisteredNode)>,
        presences: impl Iterator<Item = (&'a Arc<KnownNode>, NodePresence)>,
    ) -> Self {
        Self { server, nodes: expected_nodes(live, presences).collect() }
    }

    /// Returns the readiness for each of the meetings whose package nodes are to have.
    pub(crate) fn read_all(&self, meetings: &[Meeting]) -> Vec<Option<BoardReadiness<'a>>> {
        let mut left = MAX_ASSESSED;
        let mut found: Vec<_> = meetings.iter().map(|_| None).collect();
        for place in readiness::by_urgency(meetings) {
            found[place] = self.read(&meetings[place], &mut left);
        }
        found
    }

    /// `left` is the number of nodes that may be looked at further.
    fn read(&self, meeting: &Meeting, left: &mut usize) -> Option<BoardReadiness<'a>> {
        if PackageDemand::of(meeting) == PackageDemand::Nobody {
            return None;
        }
        let package = awaited(self.server, meeting)?;
        *left = left.checked_sub(self.nodes.len())?;
        let (summary, mut lacking) = readiness::assess_lacking(&package, &self.nodes);
        lacking.truncate(MAX_LACKING);
        Some(BoardReadiness { version: meeting.versions, summary, lacking })
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
        // Wrong content is a problem of its own.
        let failing = failing.filter(|node| {
            node.state == NodeReadinessState::Failing && node.reason != Some(WRONG_CONTENT)
        });
        let nodes: Vec<_> = failing.map(|node| &*node.node_id).collect();
        (!nodes.is_empty()).then_some(FailingMeeting { meeting, nodes })
    }
}
