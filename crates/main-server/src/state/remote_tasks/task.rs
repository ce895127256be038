//! One task, and its parts.

use std::time::Duration;

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use edge_mirror_protocol::{
    package::Sha256,
    remote_tasks::{RemoteTaskId, ResultFile, RunKey, RunReport, RunState, TaskTypeName},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{MAX_TRIES, TaskSpread};
use crate::state::{
    audit::AuditedOperator, destinations::Destinations, dispatch::DispatchPriority,
};

/// Waiting this long is worth a level of priority: so nothing waits for ever.
const AGE_PER_LEVEL: Duration = Duration::from_secs(300);

/// A task as it is saved. Its parts are saved apart from it, each by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteTask {
    pub(crate) id: RemoteTaskId,
    pub(crate) title: String,
    pub(crate) task_type: TaskTypeName,
    pub(crate) by: AuditedOperator,
    /// The same key with the same request is the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<TaskKey>,
    pub(crate) parameters: Map<String, Value>,
    /// For the standard input of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Value>,
    /// Of a split task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) items: Vec<Value>,
    pub(crate) spread: TaskSpread,
    /// None: any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Destinations>,
    /// The nodes that were meant when it was created, sorted; None: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<Vec<String>>,
    pub(crate) priority: DispatchPriority,
    /// Nodes that a part is tried on, if its type is repeatable.
    pub(crate) tries: u32,
    pub(crate) timeout_s: u64,
    #[serde(with = "fractional_seconds")]
    pub(crate) created_at: UnixMillis,
    /// It is not begun earlier.
    #[serde(default, with = "fractional_seconds::option")]
    pub(crate) not_before: Option<UnixMillis>,
    /// Nothing of it is done later.
    #[serde(with = "fractional_seconds")]
    pub(crate) deadline: UnixMillis,
    /// The finished task whose failed parts it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_of: Option<RemoteTaskId>,
    /// Set once no more of it is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<TaskEnding>,
    /// Set once it is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finished: Option<TaskFinish>,
}

/// A name that a program gives to a task, and the digest of the request that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskKey {
    pub(crate) name: String,
    pub(crate) request: Sha256,
}

/// The reason that no more of a task is begun, and that what runs is stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskEnding {
    #[serde(with = "fractional_seconds")]
    pub(crate) at: UnixMillis,
    /// By an operator; else its time is over.
    pub(crate) cancelled: bool,
}

/// The end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskFinish {
    pub(crate) phase: RemoteTaskPhase,
    #[serde(with = "fractional_seconds")]
    pub(crate) at: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum RemoteTaskPhase {
    /// Nothing of it was begun.
    Queued,
    Running,
    /// Nodes are being told to stop.
    Cancelling,
    /// All of it was done.
    Succeeded,
    /// Some of it was.
    Partial,
    Failed,
    Cancelled,
}

impl RemoteTaskPhase {
    pub(crate) const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The part of a task that one run does: all of it, or of a split task some of its items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemotePart {
    pub(crate) task: RemoteTaskId,
    pub(crate) number: u32,
    #[serde(default)]
    pub(crate) span: PartSpan,
    /// The last epoch in which it was given to a node.
    pub(crate) epoch: u64,
    /// The nodes that it was given to, in order.
    pub(crate) tried: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assignment: Option<RunAssignment>,
    /// The reason that it failed last, while it may be tried elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Box<PartOutcome>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Box<PartOutcome>>,
    /// The epochs whose ends their nodes have reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reported: Vec<u64>,
    /// Results of earlier epochs that came after their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) late: Vec<LateResult>,
}

/// The items of a part. Of a task that is not split there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PartSpan {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// The node that a part is given to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunAssignment {
    pub(crate) node: String,
    /// The start of its program that does it, and no later one.
    pub(crate) boot: String,
    #[serde(with = "fractional_seconds")]
    pub(crate) at: UnixMillis,
    /// The node says that it does no harm to run it again.
    pub(crate) repeatable: bool,
}

/// The fate of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartOutcome {
    pub(crate) end: PartEnd,
    #[serde(with = "fractional_seconds")]
    pub(crate) at: UnixMillis,
    /// None if it was given to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    #[serde(default)]
    pub(crate) duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    /// There was a result, for which there was no room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) left_out: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result_file: Option<ResultFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_tail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum PartEnd {
    Succeeded,
    Failed,
    /// Its node went away with it, and it must not be run twice.
    Lost,
    /// It was not begun in time, or its node is no node any more.
    Missed,
    Cancelled,
}

/// A report of a run that was somebody else's already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LateResult {
    pub(crate) epoch: u64,
    pub(crate) state: RunState,
    pub(crate) outcome: PartOutcome,
}

impl RemoteTask {
    /// The place in the queue; the lowest comes first. It never changes, so who waits long
    /// enough is before whoever comes.
    pub(crate) fn queue_place(&self) -> i64 {
        let since = self.not_before.map_or(self.created_at, |at| at.max(self.created_at));
        let level = match self.priority {
            DispatchPriority::Low => 0,
            DispatchPriority::Normal => 1,
            DispatchPriority::High => 2,
            DispatchPriority::Urgent => 3,
        };
        let millis = |time: u128| i64::try_from(time).unwrap_or(i64::MAX);
        millis(since.as_millis().into()).saturating_sub(level * millis(AGE_PER_LEVEL.as_millis()))
    }

    /// True if parts of it may be given to nodes.
    pub(crate) fn is_due(&self, now: UnixMillis) -> bool {
        self.finished.is_none()
            && self.ending.is_none()
            && now < self.deadline
            && self.not_before.is_none_or(|at| at <= now)
    }

    pub(crate) fn may_run_on(&self, node_id: &str) -> bool {
        let is_listed =
            |nodes: &Vec<String>| nodes.binary_search_by(|id| (**id).cmp(node_id)).is_ok();
        self.nodes.as_ref().is_none_or(is_listed)
    }

    /// The runs that it takes: of a split one, that is known once all is cut.
    pub(crate) fn fixed_parts(&self) -> Option<usize> {
        match self.spread {
            TaskSpread::Best => Some(1),
            TaskSpread::Every => Some(self.nodes.as_ref().map_or(0, Vec::len)),
            TaskSpread::Split => None,
        }
    }

    /// The bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let nodes = self.nodes.iter().flatten().map(|node| node.len() + 32).sum::<usize>();
        let items = self.items.iter().map(json_bytes).sum::<usize>();
        let parameters = self.parameters.iter().map(|(key, value)| key.len() + json_bytes(value));
        500 + nodes + items + parameters.sum::<usize>() + self.input.as_ref().map_or(0, json_bytes)
    }
}

impl RemotePart {
    pub(crate) fn new(task: &RemoteTaskId, number: u32, span: PartSpan) -> Self {
        Self {
            task: task.clone(),
            number,
            span,
            epoch: 0,
            tried: Vec::new(),
            assignment: None,
            failure: None,
            outcome: None,
            reported: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The run that does it now.
    pub(crate) fn run_key(&self) -> RunKey {
        RunKey { task: self.task.clone(), part: self.number, epoch: self.epoch }
    }

    /// True if it can be given to a node.
    pub(crate) fn is_waiting(&self) -> bool {
        self.outcome.is_none() && self.assignment.is_none()
    }

    pub(crate) fn has_tries_left(&self, tries: u32) -> bool {
        self.tried.len() < tries.min(MAX_TRIES) as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        let results = self.outcome.iter().chain(&self.failure).map(|outcome| outcome.bytes());
        let late = self.late.iter().map(|late| late.outcome.bytes());
        300 + results.sum::<usize>() + late.sum::<usize>()
    }
}

impl PartOutcome {
    pub(crate) fn new(end: PartEnd, at: UnixMillis) -> Self {
        Self {
            end,
            at,
            node: None,
            duration_ms: 0,
            result: None,
            left_out: false,
            result_file: None,
            error: None,
            log_tail: None,
        }
    }

    /// Returns the outcome that a node reports.
    pub(crate) fn of_report(end: PartEnd, node: &str, report: &RunReport, at: UnixMillis) -> Self {
        Self {
            node: Some(node.to_owned()),
            duration_ms: report.duration_ms,
            result: report.result.clone(),
            result_file: report.result_file.clone(),
            error: report.error.clone(),
            log_tail: report.log_tail.clone(),
            ..Self::new(end, at)
        }
    }

    pub(crate) fn with_error(mut self, node: Option<&str>, error: &str) -> Self {
        self.node = node.map(str::to_owned);
        self.error = Some(error.to_owned());
        self
    }

    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.result.as_ref().map_or(0, json_bytes) + text(&self.error) + text(&self.log_tail) + 100
    }
}

/// The length of a value as JSON, nearly, without writing it.
pub(crate) fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 3,
        Value::Array(values) => 2 + values.iter().map(json_bytes).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| name.len() + 4 + json_bytes(value));
            2 + fields.sum::<usize>()
        }
    }
}
