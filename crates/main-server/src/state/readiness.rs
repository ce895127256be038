//! Readiness of a meeting's package: which nodes have it, and why the others don't. Pure.

use std::{borrow::Cow, cmp::Reverse};

use edge_mirror_base::{clock::UnixMillis, metrics::Label};
use edge_mirror_protocol::package::{PackageId, Sha256};
use serde::Serialize;

use crate::state::{
    meetings::Meeting,
    registry::{NodeReachability, RegisteredNode},
};

/// Reason of a node that has the package, with other bytes.
pub(crate) const WRONG_CONTENT: &str = "wrong_content";

/// A node that every package should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedNode<'a> {
    pub node_id: &'a str,
    pub contact: NodeContact<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeContact<'a> {
    Live(&'a RegisteredNode),
    /// Not heard since; its site, as it said last.
    Away {
        since: UnixMillis,
        site: &'a str,
    },
}

/// The package whose way to the nodes is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AwaitedPackage<'a> {
    pub id: &'a PackageId,
    pub sha256: Sha256,
    pub size: u64,
    pub demand: PackageDemand,
}

/// The nodes that pull a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackageDemand {
    /// Its meeting runs: all of them.
    Running,
    /// It is distributed before the start: those that pass packages on.
    Prestaged,
    /// None, as long as the meeting is neither started nor distributed.
    Nobody,
}

impl PackageDemand {
    pub(crate) fn of(meeting: &Meeting) -> Self {
        match (meeting.is_running(), meeting.prestaged) {
            (true, _) => Self::Running,
            (false, true) => Self::Prestaged,
            (false, false) => Self::Nobody,
        }
    }
}

/// Most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum NodeReadinessState {
    /// It could not pull the package.
    Failing,
    /// It was not heard from for 30 s.
    Away,
    /// Clients can't reach it, whether or not it has the package.
    Unreachable,
    Waiting,
    Pulling,
    /// It has the package, and clients can be sent there.
    Ready,
}

/// Readiness of one node for one meeting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeReadiness<'a> {
    pub node_id: Cow<'a, str>,
    pub site: Cow<'a, str>,
    pub state: NodeReadinessState,
    /// Received part of the package; null if nothing is known of a pull.
    pub percent: Option<u8>,
    /// At the rate that the node reports; null without one.
    pub seconds_left: Option<u64>,
    /// Code of the reason that it is not ready: a cause of a failed pull, `unprobed`
    /// (nobody has tried yet whether clients can reach it), `after_start` (it pulls after the
    /// start only), `unstarted` (the meeting is neither started nor distributed) or
    /// `wrong_content` (what it gives is not the package).
    pub reason: Option<&'static str>,
    /// The last error of the pull or of this server's probe.
    pub text: Option<Cow<'a, str>>,
    /// Time at which the state began, in seconds since 1970, as far as it is known.
    pub since: Option<f64>,
}

impl NodeReadiness<'_> {
    /// A copy that needs no registry.
    pub(crate) fn into_owned(self) -> NodeReadiness<'static> {
        NodeReadiness {
            node_id: self.node_id.into_owned().into(),
            site: self.site.into_owned().into(),
            state: self.state,
            percent: self.percent,
            seconds_left: self.seconds_left,
            reason: self.reason,
            text: self.text.map(|text| text.into_owned().into()),
            since: self.since,
        }
    }
}

/// Number of nodes in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ReadinessCounts {
    /// All that should have it.
    pub total: usize,
    pub ready: usize,
    pub pulling: usize,
    pub waiting: usize,
    pub failing: usize,
    pub away: usize,
    pub unreachable: usize,
}

/// Summary of the nodes' readiness for one meeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ReadinessSummary {
    #[serde(flatten)]
    pub counts: ReadinessCounts,
    /// Every node is ready, and there is one.
    pub is_ready: bool,
    /// Time at which the last of the ready nodes was, in seconds since 1970, as far as it is
    /// known.
    pub last_ready_at: Option<f64>,
    /// Until all are ready; null unless all others are pulling at a known rate.
    pub seconds_left: Option<u64>,
}

/// Returns the readiness of each node, most urgent first.
pub(crate) fn assess<'a>(
    package: &AwaitedPackage<'_>,
    nodes: &[ExpectedNode<'a>],
) -> Vec<NodeReadiness<'a>> {
    sorted(nodes.iter().map(|node| assess_node(package, node)).collect())
}

/// Returns the readiness of those nodes that are not ready, most urgent first, and the
/// summary of all: of ten thousand that are ready, none is kept.
pub(crate) fn assess_lacking<'a>(
    package: &AwaitedPackage<'_>,
    nodes: &[ExpectedNode<'a>],
) -> (ReadinessSummary, Vec<NodeReadiness<'a>>) {
    let (mut tally, mut lacking) = (ReadinessTally::default(), Vec::new());
    for node in nodes {
        let node = assess_node(package, node);
        tally.add(&node);
        if node.state != NodeReadinessState::Ready {
            lacking.push(node);
        }
    }
    (tally.summary(), sorted(lacking))
}

fn sorted(mut nodes: Vec<NodeReadiness<'_>>) -> Vec<NodeReadiness<'_>> {
    nodes.sort_by(|a, b| (a.state, &a.node_id).cmp(&(b.state, &b.node_id)));
    nodes
}

/// The places of meetings in a list, those of which operators want to know first: running
/// ones, the newest of them first.
pub(crate) fn by_urgency(meetings: &[Meeting]) -> Vec<usize> {
    let mut places: Vec<_> = (0..meetings.len()).collect();
    let urgency = |place: usize| (meetings[place].is_running(), meetings[place].started_at, place);
    places.sort_by_key(|place| Reverse(urgency(*place)));
    places
}

pub(crate) fn summarize(nodes: &[NodeReadiness<'_>]) -> ReadinessSummary {
    let mut tally = ReadinessTally::default();
    nodes.iter().for_each(|node| tally.add(node));
    tally.summary()
}

/// Adds nodes up for a summary.
#[derive(Debug, Default)]
struct ReadinessTally {
    counts: ReadinessCounts,
    last_ready_at: Option<f64>,
    longest_left: u64,
    /// Some node is neither ready nor pulling at a known rate.
    has_unknown: bool,
}

impl ReadinessTally {
    fn add(&mut self, node: &NodeReadiness<'_>) {
        self.counts.total += 1;
        let count = match node.state {
            NodeReadinessState::Ready => &mut self.counts.ready,
            NodeReadinessState::Pulling => &mut self.counts.pulling,
            NodeReadinessState::Waiting => &mut self.counts.waiting,
            NodeReadinessState::Failing => &mut self.counts.failing,
            NodeReadinessState::Away => &mut self.counts.away,
            NodeReadinessState::Unreachable => &mut self.counts.unreachable,
        };
        *count += 1;
        if node.state == NodeReadinessState::Ready {
            let latest = self.last_ready_at.into_iter().chain(node.since);
            self.last_ready_at = latest.max_by(f64::total_cmp);
            return;
        }
        match node.seconds_left {
            Some(left) => self.longest_left = self.longest_left.max(left),
            None => self.has_unknown = true,
        }
    }

    fn summary(&self) -> ReadinessSummary {
        let counts = self.counts;
        let is_ready = counts.total > 0 && counts.ready == counts.total;
        let is_known = !self.has_unknown && counts.ready < counts.total;
        ReadinessSummary {
            is_ready,
            last_ready_at: self.last_ready_at,
            seconds_left: is_known.then_some(self.longest_left),
            counts,
        }
    }
}

fn assess_node<'a>(package: &AwaitedPackage<'_>, expected: &ExpectedNode<'a>) -> NodeReadiness<'a> {
    let (node, absent) = match expected.contact {
        NodeContact::Live(node) => (Some(node), None),
        NodeContact::Away { since, site } => (None, Some((since, site))),
    };
    let site = absent.map(|(_, site)| site).or(node.map(RegisteredNode::site));
    let blank = NodeReadiness {
        node_id: expected.node_id.into(),
        site: site.unwrap_or_default().into(),
        state: NodeReadinessState::Away,
        percent: None,
        seconds_left: None,
        reason: None,
        text: None,
        since: absent.map(|(since, _)| since.as_secs_f64()),
    };
    match node {
        Some(node) => assess_live(package, node, blank),
        None => blank,
    }
}

fn assess_live<'a>(
    package: &AwaitedPackage<'_>,
    node: &'a RegisteredNode,
    blank: NodeReadiness<'a>,
) -> NodeReadiness<'a> {
    let (held, pull) = (node.holds(package.id, package.sha256), node.pull(package.id));
    let failed = node.failed_pull(package.id).filter(|_| held.is_none());
    let pull = pull.filter(|_| held.is_none());
    let total = pull.and_then(|pull| pull.total_bytes).unwrap_or(package.size);
    let with_progress = NodeReadiness {
        percent: match held {
            Some(_) => Some(100),
            None => pull.map(|pull| percent(pull.received_bytes, total)),
        },
        reason: failed.map(|failed| failed.pull.cause.text()),
        text: failed.map(|failed| (&*failed.pull.text).into()),
        since: failed.map(|failed| failed.since.as_secs_f64()),
        ..blank
    };
    let waiting = |reason| NodeReadiness {
        state: NodeReadinessState::Waiting,
        reason,
        ..with_progress.clone()
    };
    if let (NodeReachability::Reachable { .. }, Some(wrong)) =
        (&node.reach, node.contents.wrong(package.id, package.sha256))
    {
        return NodeReadiness {
            state: NodeReadinessState::Failing,
            reason: Some(WRONG_CONTENT),
            text: Some((&*wrong.text).into()),
            since: Some(wrong.since.as_secs_f64()),
            ..with_progress
        };
    }
    match (&node.reach, held, pull) {
        (NodeReachability::Unreachable(reason), ..) => NodeReadiness {
            state: NodeReadinessState::Unreachable,
            reason: None,
            text: Some(reason.into()),
            since: Some(node.reached_at.as_secs_f64()),
            ..with_progress
        },
        (NodeReachability::Reachable { .. }, Some(since), _) => NodeReadiness {
            state: NodeReadinessState::Ready,
            since: since.map(UnixMillis::as_secs_f64),
            ..with_progress
        },
        (NodeReachability::Unknown, Some(_), _) => waiting(Some("unprobed")),
        (_, None, Some(pull)) if failed.is_none() || pull.rate > 0 => NodeReadiness {
            state: NodeReadinessState::Pulling,
            seconds_left: seconds_left(pull.received_bytes, total, pull.rate),
            since: None,
            ..with_progress
        },
        _ if failed.is_some() => {
            NodeReadiness { state: NodeReadinessState::Failing, ..with_progress }
        }
        _ => waiting(match package.demand {
            PackageDemand::Running => None,
            PackageDemand::Prestaged => node.relay.is_none().then_some("after_start"),
            PackageDemand::Nobody => Some("unstarted"),
        }),
    }
}

/// Not 100 before the package is verified.
fn percent(received: u64, total: u64) -> u8 {
    let percent = u128::from(received) * 100 / u128::from(total.max(1));
    u8::try_from(percent).unwrap_or(99).min(99)
}

fn seconds_left(received: u64, total: u64, rate: u64) -> Option<u64> {
    (rate > 0).then(|| total.saturating_sub(received).div_ceil(rate))
}

#[cfg(test)]
mod tests;
