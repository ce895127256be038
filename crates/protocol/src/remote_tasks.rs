//! Remote tasks: work that a node runs for somebody, of types that its own operator has
//! declared. Here is what our main server and its nodes say of them: one call.
//!
//! `POST PATH` takes a [`RunExchange`] and answers with [`RunOrders`]. It is held for up to
//! [`HOLD`] while the orders are those that the node has seen, and ends early when the node
//! sends the next one. What either side must do so that nothing runs twice:
//!
//! - A node numbers its exchanges, and acts on an answer only if it acted on none to a later
//!   one; the main server does nothing but answer an exchange that comes after a later one.
//! - An exchange names all runs that the node knows: those that run, and those that are
//!   finished and not `taken`. Finished ones are kept on disk until they are.
//! - A run belongs to one [`RunExchange::boot`]. `start` is repeated until that boot names the
//!   run; a node that has it does nothing. If the node comes with another boot and does not
//!   name the run, it has ended.
//! - An exchange renews the lease of all runs that it names. A node ends them by itself, by
//!   its monotonic clock, [`STOP_AFTER`] after its last answered exchange *began*; the main
//!   server gives the work to another node no earlier than [`LEASE`] after it *answered* one.

mod names;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use names::{InvalidRemoteTaskId, InvalidTaskTypeName, RemoteTaskId, TaskTypeName};

use crate::package::Sha256;

/// The call of nodes.
pub const PATH: &str = "/api/v1/nodes/tasks";
/// Time for which a call is held while there is nothing new.
pub const HOLD: Duration = Duration::from_secs(10);
/// A run is its node's for so long after an answer.
pub const LEASE: Duration = Duration::from_secs(30);
/// A node that has been without an answer for so long ends what it runs.
pub const STOP_AFTER: Duration = Duration::from_secs(25);
/// A node that still names a run so long after it was told to stop is sick.
pub const STOP_GRACE: Duration = Duration::from_secs(30);
/// Largest exchange, and largest answer.
pub const MAX_EXCHANGE_BYTES: usize = 4 << 20;
/// Types that a node offers.
pub const MAX_TYPES: usize = 100;
/// Parameters of a type.
pub const MAX_PARAMETERS: usize = 64;
/// Values that a parameter may have, where they are listed.
pub const MAX_PARAMETER_VALUES: usize = 100;
/// Runs of a node: those under way, and those that are finished and not taken.
pub const MAX_RUNS: usize = 1000;
/// Runs that an answer starts; further ones come in the next.
pub const MAX_STARTS: usize = 256;
/// Parameters of a task as JSON, and the input of a run.
pub const MAX_INPUT_BYTES: usize = 64 << 10;
/// Result of a run as JSON; a larger one becomes a file of the node.
pub const MAX_RESULT_BYTES: usize = 64 << 10;
/// The reason of a failed run.
pub const MAX_ERROR_CHARS: usize = 2000;
/// The end of what a run wrote to standard error.
pub const MAX_LOG_TAIL_BYTES: usize = 4 << 10;
/// Title of a type, and name of a parameter or one of its values.
pub const MAX_TEXT_CHARS: usize = 200;

/// The state of a node's runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunExchange {
    /// Another text at each start of the node's program.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 64)))]
    pub boot: String,
    /// Grows with each exchange of a boot, from 1.
    pub number: u64,
    /// Version of the orders that the node acted on last; 0 if there are none.
    pub version: u64,
    /// Runs that it does at a time, of all types; 0 while it takes none.
    pub places: u32,
    #[serde(default)]
    pub types: Vec<TaskTypeSummary>,
    #[serde(default)]
    pub runs: Vec<RunReport>,
    /// Further runs that the node knows, whose reports come with a later exchange.
    #[serde(default)]
    pub more: Vec<RunKey>,
}

/// A type of task that a node offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TaskTypeSummary {
    pub name: TaskTypeName,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub parameters: Vec<ParameterSummary>,
    /// It does no harm to run it again.
    #[serde(default)]
    pub repeatable: bool,
    /// Runs of this type that the node does at a time.
    pub places: u32,
    /// Runs may use the network.
    #[serde(default)]
    pub network: bool,
}

/// A parameter of a type. The node alone checks what callers give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ParameterSummary {
    pub name: String,
    pub kind: ParameterKind,
    #[serde(default)]
    pub required: bool,
    /// The values that it may have; empty if they are not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum ParameterKind {
    String,
    Integer,
    Number,
    Boolean,
    /// A path below a folder that the type names.
    Path,
    /// The id of a meeting, whose package the run works on.
    Package,
    /// An address of the fleet.
    Url,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

/// The name of a run: a task, or a part of one, at one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunKey {
    pub task: RemoteTaskId,
    pub part: u32,
    /// Grows each time that the part is given to a node; what comes of an earlier one is not
    /// applied.
    pub epoch: u64,
}

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunReport {
    pub key: RunKey,
    pub state: RunState,
    /// Seconds since 1970 by the node's clock; null if it was not begun.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// Time that it has run, by a clock that does not jump.
    #[serde(default)]
    pub duration_ms: u64,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f32>,
    /// Of at most `MAX_RESULT_BYTES` as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// A result that is larger: a file at the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_file: Option<ResultFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum RunState {
    Running,
    Succeeded,
    /// It ended otherwise, or ran out of time.
    Failed,
    /// It was begun, and ended because the node was told so, lost its lease or was shut down.
    Stopped,
    /// The node has not begun it: it does not offer the type, the parameters are not what the
    /// type takes, or it was told to stop before. It does no harm to give it to another.
    Refused,
}

impl RunState {
    pub fn is_finished(self) -> bool {
        self != Self::Running
    }
}

/// A file with the result of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ResultFile {
    pub sha256: Sha256,
    pub size: u64,
}

/// The things that a node has to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunOrders {
    pub version: u64,
    pub lease_seconds: u64,
    pub start: Vec<RunOrder>,
    /// Runs to end, with all processes that belong to them.
    pub stop: Vec<RunKey>,
    /// Finished runs that the main server has on disk: the node may forget them.
    pub taken: Vec<RunKey>,
}

/// A run to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunOrder {
    pub key: RunKey,
    pub task_type: TaskTypeName,
    pub parameters: Map<String, Value>,
    /// For types that read JSON: a part of a split task gets a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Time until the node ends it, from its begin. The type may allow less.
    pub timeout_seconds: u64,
}

impl RunReport {
    /// A report without anything but the state.
    pub fn new(key: RunKey, state: RunState) -> Self {
        Self {
            key,
            state,
            started_at: None,
            duration_ms: 0,
            progress: None,
            result: None,
            result_file: None,
            error: None,
            log_tail: None,
        }
    }

    /// Cuts texts to what the main server keeps, at a character.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if let Some(error) = &mut self.error
            && let Some((end, _)) = error.char_indices().nth(MAX_ERROR_CHARS)
        {
            error.truncate(end);
        }
        if let Some(tail) = &mut self.log_tail {
            let excess = tail.len().saturating_sub(MAX_LOG_TAIL_BYTES);
            *tail = tail.split_off(tail.ceil_char_boundary(excess));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RunKey {
        RunKey { task: "t-1".parse().unwrap(), part: 0, epoch: 1 }
    }

    #[test]
    fn an_exchange_of_another_version_is_understood() {
        let exchange = r#"{"boot":"b","number":1,"version":0,"places":4,"new":1,"types":[
            {"name":"verify","places":1,"parameters":[{"name":"id","kind":"colour"}]}],
            "runs":[{"key":{"task":"t","part":2,"epoch":3},"state":"running"}]}"#;
        let exchange: RunExchange = serde_json::from_str(exchange).unwrap();
        assert_eq!(exchange.types[0].parameters[0].kind, ParameterKind::Other);
        assert_eq!(exchange.runs[0].key.epoch, 3);
        assert!(!exchange.runs[0].state.is_finished());
    }

    #[test]
    fn texts_of_a_report_are_cut_at_a_character_the_log_at_its_begin() {
        let mut report = RunReport::new(key(), RunState::Failed);
        report.error = Some("错".repeat(3000));
        report.log_tail = Some(format!("{}end", "错".repeat(3000)));
        let report = report.cut();
        assert_eq!(report.error.unwrap().chars().count(), MAX_ERROR_CHARS);
        let tail = report.log_tail.unwrap();
        assert!(tail.len() <= MAX_LOG_TAIL_BYTES && tail.ends_with("错end"), "{}", tail.len());
        let mut short = RunReport::new(key(), RunState::Failed);
        (short.error, short.log_tail) = (Some("e".into()), Some("l".into()));
        assert_eq!(short.clone().cut(), short);
    }

    #[test]
    fn a_node_stops_before_its_work_is_given_to_another() {
        assert!(HOLD < STOP_AFTER && STOP_AFTER < LEASE);
    }
}
