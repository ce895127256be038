//! Remote tasks as operators see them.

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{RemoteTaskId, ResultFile, RunState, TaskTypeName};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    server::Server,
    state::{
        audit::AuditedOperator,
        destinations::Destinations,
        dispatch::DispatchPriority,
        remote_tasks::{
            LateResult, NodeChoice, OfferedType, PartEnd, PartOutcome, PartSpan, RemotePart,
            RemoteTaskPhase, TaskEntry, TaskSpread, WorkerNode,
        },
    },
};

/// A task, and how many of its parts are how far.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteTaskView<'a> {
    id: &'a RemoteTaskId,
    title: &'a str,
    #[serde(rename = "type")]
    task_type: &'a TaskTypeName,
    status: RemoteTaskPhase,
    spread: TaskSpread,
    /// Null: any node.
    to: Option<&'a Destinations>,
    priority: DispatchPriority,
    key: Option<&'a str>,
    by: &'a AuditedOperator,
    parts: PartStates,
    /// Items of a split task.
    items: usize,
    /// The share that is done, from 0 to 1, with the progress of runs that tell theirs.
    progress: f64,
    tries: u32,
    timeout_s: u64,
    created_at: f64,
    not_before: Option<f64>,
    deadline: f64,
    finished_at: Option<f64>,
    retry_of: Option<&'a RemoteTaskId>,
}

/// Parts by their state.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PartStates {
    total: usize,
    waiting: usize,
    running: usize,
    succeeded: usize,
    failed: usize,
    lost: usize,
    missed: usize,
    cancelled: usize,
}

/// A task with all that was asked for, its parts and what came of them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteTaskDetails<'a> {
    #[serde(flatten)]
    task: RemoteTaskView<'a>,
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, Value>"))]
    parameters: &'a Map<String, Value>,
    /// Of a finished task: of one run its result, of a run on every node the results by node,
    /// of a split task those of its parts as one list, in the order of the items.
    result: Option<Value>,
    runs: Vec<PartView<'a>>,
    /// For `after` of the next page; null if there are no more parts.
    next: Option<u32>,
}

/// A part that was given to a node, or has an outcome.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PartView<'a> {
    part: u32,
    state: PartState,
    /// Of a split task.
    items: Option<PartSpan>,
    /// The node that has it, had it last, or that it is for.
    node: Option<&'a str>,
    /// The nodes that it was given to, in order.
    tried: &'a [String],
    /// Since when the node has it.
    given_at: Option<f64>,
    progress: Option<f32>,
    outcome: Option<OutcomeView<'a>>,
    /// The reason that it failed last, while it waits for another node.
    last_error: Option<&'a str>,
    /// Results of earlier tries that came after they had been given up; they count for nothing.
    late: Vec<LateView<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum PartState {
    Waiting,
    /// A node is told to begin it, and has not said that it did.
    Given,
    Running,
    Succeeded,
    Failed,
    Lost,
    Missed,
    Cancelled,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OutcomeView<'a> {
    at: f64,
    duration_ms: u64,
    result: Option<&'a Value>,
    /// There was a result, for which there was no room.
    result_left_out: bool,
    result_file: Option<&'a ResultFile>,
    error: Option<&'a str>,
    log_tail: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LateView<'a> {
    node: Option<&'a str>,
    state: RunState,
    outcome: OutcomeView<'a>,
}

/// Tasks, the newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteTaskPage<'a> {
    pub(super) tasks: Vec<RemoteTaskView<'a>>,
    /// For `before` of the next page; null if there are no earlier ones.
    pub(super) next: Option<RemoteTaskId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OfferedTypes {
    pub(super) types: Vec<OfferedType>,
    /// The nodes that ask for work.
    pub(super) nodes: Vec<WorkerView>,
}

/// A node that asks for work, and how much it has.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct WorkerView {
    node_id: String,
    /// Runs that it does at a time, and those that are given to it.
    places: u32,
    running: u32,
    /// It goes on with runs that it was told to stop, and is given no more.
    sick: bool,
}

impl From<&WorkerNode> for WorkerView {
    fn from(node: &WorkerNode) -> Self {
        let WorkerNode { id, places, running, sick, .. } = node;
        Self { node_id: id.to_string(), places: *places, running: *running, sick: *sick }
    }
}

/// All nodes that ask for work, as they are weighed for a task, the best first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodeWeights {
    pub(super) nodes: Vec<NodeChoice>,
}

impl<'a> RemoteTaskView<'a> {
    pub(super) fn new(entry: &'a TaskEntry, server: &Server) -> Self {
        let task = &entry.task;
        let seconds = |at: Option<UnixMillis>| at.map(UnixMillis::as_secs_f64);
        Self {
            id: &task.id,
            title: &task.title,
            task_type: &task.task_type,
            status: entry.phase(),
            spread: task.spread,
            to: task.to.as_ref(),
            priority: task.priority,
            key: task.key.as_ref().map(|key| &*key.name),
            by: &task.by,
            parts: PartStates::of(entry),
            items: task.items.len(),
            progress: progress(entry, server),
            tries: task.tries,
            timeout_s: task.timeout_s,
            created_at: task.created_at.as_secs_f64(),
            not_before: seconds(task.not_before),
            deadline: task.deadline.as_secs_f64(),
            finished_at: seconds(task.finished.map(|finish| finish.at)),
            retry_of: task.retry_of.as_ref(),
        }
    }
}

impl PartStates {
    fn of(entry: &TaskEntry) -> Self {
        let counts = entry.progress();
        Self {
            total: entry.total_parts(),
            waiting: entry.waiting_parts(),
            running: counts.running,
            succeeded: counts.ended(PartEnd::Succeeded),
            failed: counts.ended(PartEnd::Failed),
            lost: counts.ended(PartEnd::Lost),
            missed: counts.ended(PartEnd::Missed),
            cancelled: counts.ended(PartEnd::Cancelled),
        }
    }
}

/// The share of a task that is done. Items count one by one, other parts as one.
fn progress(entry: &TaskEntry, server: &Server) -> f64 {
    let total = match entry.task.spread {
        TaskSpread::Split => entry.task.items.len(),
        TaskSpread::Best | TaskSpread::Every => entry.total_parts(),
    };
    if entry.task.finished.is_some() || total == 0 {
        return 1.0;
    }
    let weight = |part: &RemotePart| f64::from(part.span.count.max(1));
    let done = entry.parts().filter(|part| part.outcome.is_some());
    let done: f64 = done.map(|part| weight(part)).sum();
    let running: Vec<_> = entry.parts().filter(|part| part.assignment.is_some()).collect();
    let sessions = server.remote_tasks.sessions();
    let share = |part: &RemotePart| {
        let session = sessions.get(&part.assignment.as_ref()?.node)?;
        session.run(&part.run_key())?.progress.map(f64::from)
    };
    let under_way = running.iter().filter_map(|part| Some(share(part)? * weight(part)));
    #[allow(clippy::cast_precision_loss, reason = "ten thousand at most")]
    ((done + under_way.sum::<f64>()) / total as f64).min(1.0)
}

impl<'a> RemoteTaskDetails<'a> {
    pub(super) fn new(
        entry: &'a TaskEntry,
        server: &Server,
        after: Option<u32>,
        limit: usize,
    ) -> Self {
        let is_asked = |part: &&'a RemotePart| after.is_none_or(|after| part.number > after);
        let parts = entry.parts().map(|part| &**part).filter(is_asked);
        let parts: Vec<_> = parts.take(limit + 1).collect();
        let next = parts.get(limit).and_then(|_| Some(parts.get(limit - 1)?.number));
        let runs = parts.into_iter().take(limit).map(|part| part_view(entry, part, server));
        let task = RemoteTaskView::new(entry, server);
        Self {
            runs: runs.collect(),
            next,
            result: result(entry).filter(|_| after.is_none()),
            parameters: &entry.task.parameters,
            task,
        }
    }
}

fn part_view<'a>(entry: &'a TaskEntry, part: &'a RemotePart, server: &Server) -> PartView<'a> {
    let given = part.assignment.as_ref().filter(|_| part.outcome.is_none());
    let run =
        given.and_then(|to| server.remote_tasks.sessions().get(&to.node)?.run(&part.run_key()));
    let state = match (&part.outcome, given, run) {
        (Some(outcome), ..) => match outcome.end {
            PartEnd::Succeeded => PartState::Succeeded,
            PartEnd::Failed => PartState::Failed,
            PartEnd::Lost => PartState::Lost,
            PartEnd::Missed => PartState::Missed,
            PartEnd::Cancelled => PartState::Cancelled,
        },
        (None, Some(_), Some(_)) => PartState::Running,
        (None, Some(_), None) => PartState::Given,
        (None, None, _) => PartState::Waiting,
    };
    let is_split = entry.task.spread == TaskSpread::Split;
    let last = part.tried.last().map(String::as_str);
    PartView {
        part: part.number,
        state,
        items: is_split.then_some(part.span),
        node: last.or_else(|| entry.node_of(part.number)),
        tried: &part.tried,
        given_at: given.map(|to| to.at.as_secs_f64()),
        progress: run.and_then(|run| run.progress),
        outcome: part.outcome.as_deref().map(outcome_view),
        last_error: part.failure.as_ref().and_then(|failure| failure.error.as_deref()),
        late: part.late.iter().map(late_view).collect(),
    }
}

fn outcome_view(outcome: &PartOutcome) -> OutcomeView<'_> {
    OutcomeView {
        at: outcome.at.as_secs_f64(),
        duration_ms: outcome.duration_ms,
        result: outcome.result.as_ref(),
        result_left_out: outcome.left_out,
        result_file: outcome.result_file.as_ref(),
        error: outcome.error.as_deref(),
        log_tail: outcome.log_tail.as_deref(),
    }
}

fn late_view(late: &LateResult) -> LateView<'_> {
    LateView {
        node: late.outcome.node.as_deref(),
        state: late.state,
        outcome: outcome_view(&late.outcome),
    }
}

/// The results of a finished task as one value.
fn result(entry: &TaskEntry) -> Option<Value> {
    entry.task.finished?;
    let result = |part: &RemotePart| part.outcome.as_ref()?.result.clone();
    match entry.task.spread {
        TaskSpread::Best => entry.part(0).and_then(|part| result(part)),
        TaskSpread::Every => {
            let by_node = entry
                .parts()
                .filter_map(|part| Some((entry.node_of(part.number)?.to_owned(), result(part)?)));
            Some(Value::Object(by_node.collect()))
        }
        TaskSpread::Split => {
            let mut parts: Vec<_> = entry.parts().collect();
            parts.sort_unstable_by_key(|part| part.span.first);
            let results = parts.into_iter().flat_map(|part| match result(part) {
                // One for each item.
                Some(Value::Array(results)) if results.len() == part.span.count as usize => results,
                Some(other) => vec![other],
                None => Vec::new(),
            });
            Some(Value::Array(results.collect()))
        }
    }
}
