//! Tasks as operators see them.

use std::collections::BTreeMap;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::dispatch::{FailedFile, TaskId};
use serde::{Deserialize, Serialize};

use crate::{
    server::Server,
    state::{
        audit::AuditedOperator,
        destinations::Destinations,
        dispatch::{
            AbsentNodes, DeliveryProgress, DispatchPriority, DispatchTask, FileAccess,
            FileRetention, NodeOutcome, TaskPhase,
        },
    },
};

/// A task, and how many nodes are how far.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TaskView<'a> {
    id: &'a TaskId,
    title: &'a str,
    /// As its sender set it.
    key: Option<&'a str>,
    status: TaskPhase,
    to: &'a Destinations,
    priority: DispatchPriority,
    absent: AbsentNodes,
    access: FileAccess,
    retention: FileRetention,
    /// Bytes per second that each node pulls at most; null: no limit.
    rate_limit: Option<u64>,
    files: u64,
    bytes: u64,
    attempt: u32,
    created_at: f64,
    started_at: Option<f64>,
    finished_at: Option<f64>,
    deadline: f64,
    retry_of: Option<&'a TaskId>,
    by: &'a AuditedOperator,
    nodes: NodeCounts,
    /// Null unless its files are being removed from the nodes, or were.
    removal: Option<RemovalView>,
}

/// Nodes by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeCounts {
    total: usize,
    pending: usize,
    pulling: usize,
    done: usize,
    failed: usize,
    missed: usize,
    unsupported: usize,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RemovalView {
    begun_at: f64,
    /// Null while a node has yet to confirm it.
    done_at: Option<f64>,
    /// Nodes that have removed the files.
    removed: usize,
    /// Nodes that have not said so yet.
    pending: usize,
}

/// The state of a task at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeDispatchState {
    Pending,
    Pulling,
    Done,
    Failed,
    Missed,
    Unsupported,
}

/// A task, and its nodes one by one.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TaskDetails<'a> {
    #[serde(flatten)]
    task: TaskView<'a>,
    node_states: Vec<NodeDispatchView>,
    /// For `after` of the next page; null if there are no more nodes.
    next: Option<String>,
}

#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeDispatchView {
    node_id: String,
    state: NodeDispatchState,
    present: bool,
    /// Files and bytes that are there and verified.
    done_files: u64,
    done_bytes: u64,
    /// Bytes that have come: the same, and those of a file that is under way.
    received_bytes: u64,
    /// Number of files that the node could not have, and the first of them.
    failed_count: u64,
    failed: Vec<FailedFile>,
    /// Time of its last report, or of its outcome.
    at: Option<f64>,
    /// It has removed the files.
    removed: bool,
}

/// Tasks, the newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TaskPage<'a> {
    pub(super) tasks: Vec<TaskView<'a>>,
    /// For `before` of the next page; null if there are no earlier ones.
    pub(super) next: Option<TaskId>,
}

impl<'a> TaskView<'a> {
    pub(super) fn new(task: &'a DispatchTask, server: &Server) -> Self {
        let known = server.known();
        let seconds = |at: Option<UnixMillis>| at.map(UnixMillis::as_secs_f64);
        Self {
            id: &task.id,
            title: &task.title,
            key: task.key.as_ref().map(|key| &*key.key),
            status: task.phase,
            to: &task.to,
            priority: task.priority,
            absent: task.absent,
            access: task.access,
            retention: task.retention,
            rate_limit: task.rate_limit,
            files: task.files,
            bytes: task.bytes,
            attempt: task.attempt,
            created_at: task.created_at.as_secs_f64(),
            started_at: seconds(task.started_at),
            finished_at: seconds(task.finished_at),
            deadline: task.deadline.as_secs_f64(),
            retry_of: task.retry_of.as_ref(),
            by: &task.by,
            nodes: NodeCounts::of(task, server),
            removal: task.removal.as_ref().map(|removal| RemovalView {
                begun_at: removal.begun_at.as_secs_f64(),
                done_at: seconds(removal.done_at),
                removed: removal.removed.len(),
                pending: match &task.nodes {
                    Some(nodes) => nodes.iter().filter(|node| task.awaits_removal(node)).count(),
                    None => known.iter().filter(|node| task.awaits_removal(&node.id)).count(),
                },
            }),
        }
    }
}

impl NodeCounts {
    /// Counts without a look at each node that has no outcome: a page lists many tasks, and a
    /// fleet may have thousands of nodes.
    fn of(task: &DispatchTask, server: &Server) -> Self {
        let mut counts = Self::default();
        for result in task.results.values() {
            *match result.outcome {
                NodeOutcome::Done => &mut counts.done,
                NodeOutcome::Failed => &mut counts.failed,
                NodeOutcome::Missed => &mut counts.missed,
                NodeOutcome::Unsupported => &mut counts.unsupported,
            } += 1;
        }
        let known = server.known();
        counts.total = match &task.nodes {
            Some(nodes) => nodes.len(),
            None if task.phase.is_finished() => task.results.len(),
            None => {
                let forgotten = task.results.keys().filter(|node| known.get(node).is_none());
                known.len() + forgotten.count()
            }
        };
        counts.pulling = server.dispatch.progress().count(task);
        let settled = task.results.len() + counts.pulling;
        counts.pending = counts.total.saturating_sub(settled);
        counts
    }
}

impl<'a> TaskDetails<'a> {
    pub(super) fn new(
        task: &'a DispatchTask,
        server: &Server,
        (state, after): (Option<NodeDispatchState>, Option<&str>),
        limit: usize,
    ) -> Self {
        let nodes = node_views(task, server).into_values();
        let is_asked = |node: &NodeDispatchView| {
            state.is_none_or(|state| node.state == state)
                && after.is_none_or(|after| *node.node_id > *after)
        };
        let mut node_states: Vec<_> = nodes.filter(is_asked).take(limit + 1).collect();
        let has_more = node_states.len() > limit;
        node_states.truncate(limit);
        let next = node_states.last().filter(|_| has_more).map(|node| node.node_id.clone());
        Self { task: TaskView::new(task, server), node_states, next }
    }
}

/// The nodes of a task: those that have an outcome, and while it is not finished all others
/// that it is for.
fn node_views(task: &DispatchTask, server: &Server) -> BTreeMap<String, NodeDispatchView> {
    let (known, progress) = (server.known(), server.dispatch.progress().of_task(&task.id));
    let mut nodes: Vec<String> = task.results.keys().cloned().collect();
    match &task.nodes {
        Some(meant) => nodes.extend(meant.iter().cloned()),
        None if !task.phase.is_finished() => nodes.extend(known.iter().map(|node| node.id.clone())),
        None => {}
    }
    let view = |node_id: String| {
        let present = known.get(&node_id).is_some_and(|node| node.was_present());
        (node_id.clone(), node_view(task, node_id, present, &progress))
    };
    nodes.into_iter().map(view).collect()
}

fn node_view(
    task: &DispatchTask,
    node_id: String,
    present: bool,
    progress: &BTreeMap<String, DeliveryProgress>,
) -> NodeDispatchView {
    let removed = task.removal.as_ref().is_some_and(|removal| removal.removed.contains(&node_id));
    let view = NodeDispatchView {
        node_id,
        state: NodeDispatchState::Pending,
        present,
        done_files: 0,
        done_bytes: 0,
        received_bytes: 0,
        failed_count: 0,
        failed: Vec::new(),
        at: None,
        removed,
    };
    if let Some(result) = task.results.get(&view.node_id) {
        let state = match result.outcome {
            NodeOutcome::Done => NodeDispatchState::Done,
            NodeOutcome::Failed => NodeDispatchState::Failed,
            NodeOutcome::Missed => NodeDispatchState::Missed,
            NodeOutcome::Unsupported => NodeDispatchState::Unsupported,
        };
        return NodeDispatchView {
            state,
            done_files: result.done_files,
            done_bytes: result.done_bytes,
            received_bytes: result.done_bytes,
            failed_count: result.failed_count,
            failed: result.failed.clone(),
            at: Some(result.at.as_secs_f64()),
            ..view
        };
    }
    match progress.get(&view.node_id).filter(|progress| progress.attempt == task.attempt) {
        Some(progress) => NodeDispatchView {
            state: NodeDispatchState::Pulling,
            done_files: progress.done_files,
            done_bytes: progress.done_bytes,
            received_bytes: progress.received_bytes.min(task.bytes),
            at: Some(progress.at.as_secs_f64()),
            ..view
        },
        None => view,
    }
}
