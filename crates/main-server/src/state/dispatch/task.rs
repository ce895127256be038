//! One task.

use std::collections::{BTreeMap, BTreeSet};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::dispatch::{FailedFile, TaskId};
use serde::{Deserialize, Serialize};

use crate::state::{audit::AuditedOperator, destinations::Destinations};

/// The key by which its sender knows a task, and a digest of what was sent with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SenderKey {
    pub(crate) key: String,
    pub(crate) fingerprint: String,
}

/// A task as it is saved. Its files are saved apart from it: they never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DispatchTask {
    pub(crate) id: TaskId,
    pub(crate) title: String,
    /// A request with it creates no second task while this one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<SenderKey>,
    pub(crate) by: AuditedOperator,
    pub(crate) to: Destinations,
    /// The nodes that were meant when it was created; None: whoever is a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<BTreeSet<String>>,
    pub(crate) priority: DispatchPriority,
    pub(crate) absent: AbsentNodes,
    pub(crate) retention: FileRetention,
    pub(crate) access: FileAccess,
    /// Bytes per second that each node pulls at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<u64>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) phase: TaskPhase,
    pub(crate) attempt: u32,
    #[serde(with = "fractional_seconds")]
    pub(crate) created_at: UnixMillis,
    /// Nodes that do not have it by then don't get it any more.
    #[serde(with = "fractional_seconds")]
    pub(crate) deadline: UnixMillis,
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) started_at: Option<UnixMillis>,
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) finished_at: Option<UnixMillis>,
    /// The finished task whose failed nodes it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_of: Option<TaskId>,
    /// Set once an operator has its files removed from the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removal: Option<FileRemoval>,
    /// By node.
    #[serde(default)]
    pub(crate) results: BTreeMap<String, NodeResult>,
}

/// The urgency of a task: the most urgent begin first, at the main server and at nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum DispatchPriority {
    Low,
    #[default]
    Normal,
    High,
    Urgent,
}

/// The nodes that are away when the task begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum AbsentNodes {
    /// They get it when they return, until the deadline.
    #[default]
    Wait,
    /// They don't get it.
    Skip,
}

/// The people who may download the files from nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileAccess {
    /// Those who may manage the node.
    #[default]
    Operators,
    /// Anybody.
    Open,
}

/// The time for which nodes keep the files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileRetention {
    /// Seconds since 1970.
    Until(
        #[serde(with = "fractional_seconds")]
        #[cfg_attr(test, schemars(with = "f64"))]
        UnixMillis,
    ),
    /// Until an operator has them removed.
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskPhase {
    /// Others have their turn.
    Queued,
    Active,
    /// Nodes are being told to stop and to remove what they have.
    Cancelling,
    /// All nodes have all files.
    Completed,
    /// Some have.
    Partial,
    /// None has.
    Failed,
    Cancelled,
}

impl TaskPhase {
    pub(crate) const ALL: [Self; 7] = [
        Self::Queued,
        Self::Active,
        Self::Cancelling,
        Self::Completed,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True once nothing more comes of it.
    pub(crate) const fn is_finished(self) -> bool {
        match self {
            Self::Queued | Self::Active | Self::Cancelling => false,
            Self::Completed | Self::Partial | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// The outcome of a task at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeResult {
    pub(crate) outcome: NodeOutcome,
    #[serde(with = "fractional_seconds")]
    pub(crate) at: UnixMillis,
    #[serde(default)]
    pub(crate) done_files: u64,
    #[serde(default)]
    pub(crate) done_bytes: u64,
    #[serde(default)]
    pub(crate) failed_count: u64,
    /// The first of them.
    #[serde(default)]
    pub(crate) failed: Vec<FailedFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeOutcome {
    Done,
    Failed,
    /// It did not have it by the deadline, was away and not waited for, or is no node any
    /// more.
    Missed,
    /// It is of a kind or version that takes no files, or its operator turned that off.
    Unsupported,
}

impl NodeResult {
    pub(crate) fn new(outcome: NodeOutcome, at: UnixMillis) -> Self {
        Self { outcome, at, done_files: 0, done_bytes: 0, failed_count: 0, failed: Vec::new() }
    }
}

/// The removal of a task's files from nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileRemoval {
    #[serde(with = "fractional_seconds")]
    pub(crate) begun_at: UnixMillis,
    /// Set once all nodes have confirmed it, or are not waited for any longer.
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) done_at: Option<UnixMillis>,
    /// The nodes that have none of the files any more.
    #[serde(default)]
    pub(crate) removed: BTreeSet<String>,
}

impl DispatchTask {
    /// True if the node is one that the files are for.
    pub(crate) fn is_for(&self, node_id: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node_id))
    }

    pub(crate) fn outcome(&self, node_id: &str) -> Option<NodeOutcome> {
        self.results.get(node_id).map(|result| result.outcome)
    }

    /// True if a node may get the files.
    pub(crate) fn may_have_files(&self, node_id: &str) -> bool {
        self.is_told_to(node_id) && self.outcome(node_id) != Some(NodeOutcome::Unsupported)
    }

    fn is_told_to(&self, node_id: &str) -> bool {
        self.started_at.is_some() && self.is_for(node_id)
    }

    /// True while the node is told to remove the files. One that takes no files any more may
    /// have some from before.
    pub(crate) fn orders_removal(&self, node_id: &str) -> bool {
        let open = self.removal.as_ref().filter(|removal| removal.done_at.is_none());
        open.is_some_and(|removal| !removal.removed.contains(node_id)) && self.is_told_to(node_id)
    }

    /// True while the node is expected to confirm that it has removed the files.
    pub(crate) fn awaits_removal(&self, node_id: &str) -> bool {
        self.orders_removal(node_id) && self.may_have_files(node_id)
    }

    /// True if nodes keep its files until an operator has them removed, which needs the task.
    pub(super) fn is_needed_for_removal(&self) -> bool {
        self.retention == FileRetention::Keep
            && self.removal.is_none()
            && self
                .results
                .values()
                .any(|result| matches!(result.outcome, NodeOutcome::Done | NodeOutcome::Failed))
    }

    /// The phase of a task whose nodes all have an outcome.
    pub(super) fn final_phase(&self) -> TaskPhase {
        let done = self.results.values().filter(|result| result.outcome == NodeOutcome::Done);
        match done.count() {
            all if all == self.results.len() => TaskPhase::Completed,
            0 => TaskPhase::Failed,
            _ => TaskPhase::Partial,
        }
    }
}
