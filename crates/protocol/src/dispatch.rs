//! Files that operators send to nodes, in tasks: what our main server and its nodes say of
//! them.
//!
//! | A node's call | Answer |
//! |---|---|
//! | `GET PATH` | [`TaskList`]: the tasks that concern it, the most urgent first |
//! | `GET PATH/{task}` | [`NodeFiles`]: the files, in an order that never changes |
//! | `GET PATH/{task}/files/{number}` | the bytes of one, as those of a package |
//! | `GET PATH/{task}/files/{number}/pieces` | the digests of its pieces, as those of a package |
//! | `GET PATH/{task}/bundle?first=N&count=N` | the bytes of several, one after the other |
//! | `POST PATH` | takes a [`DispatchReport`] |
//!
//! A node learns that its list has changed by the answer to its poll, whose section
//! `dispatch` names the list's version.

mod names;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

pub use names::{InvalidFileName, NameConflict, check_file_name, check_file_names};

use crate::{package::Sha256, relay::Sibling};

/// The calls of nodes.
pub const PATH: &str = "/api/v1/nodes/dispatch";
/// Files of one task.
pub const MAX_FILES: usize = 20_000;
/// Largest answer to a node: a list of so many files with long names.
pub const MAX_LIST_BYTES: usize = 8 << 20;
/// Largest file that goes with others in one answer: what a larger one gains is little, and
/// it can't be resumed in its middle.
pub const MAX_BUNDLED_BYTES: u64 = 256 << 10;
/// Files and bytes of one such answer.
pub const MAX_BUNDLE_FILES: usize = 1000;
pub const MAX_BUNDLE_BYTES: u64 = 16 << 20;
/// Files that a report names.
pub const MAX_FAILED_FILES: usize = 20;
/// Length of a reason, in characters.
pub const MAX_REASON_CHARS: usize = 200;
/// Tasks that a report names; further ones come in the next.
pub const MAX_REPORTED_TASKS: usize = 100;

/// The id of a task: a name of a folder and a segment of a URL as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TaskId(Arc<str>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a task's id is 1 to {} letters, digits, '-' and '_'", TaskId::MAX_LEN)]
pub struct InvalidTaskId;

impl TaskId {
    const MAX_LEN: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let valid = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_plain);
        valid.then(|| Self(text.into())).ok_or(InvalidTaskId)
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(text: String) -> Result<Self, InvalidTaskId> {
        text.parse()
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for TaskId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TaskId".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
    }
}

/// The tasks that concern a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TaskList {
    /// The same as in the answer to a poll.
    pub version: String,
    pub tasks: Vec<NodeTask>,
}

/// A task as a node has to know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct NodeTask {
    pub id: TaskId,
    pub order: TaskOrder,
    /// Grows when the task is tried again.
    pub attempt: u32,
    pub files: u64,
    pub bytes: u64,
    /// Anybody may download the files from the node; else only its operators.
    pub open: bool,
    /// Seconds since 1970 until which the node keeps the files; null: until they are taken
    /// back.
    pub keep_until: Option<u64>,
    /// Bytes per second that the node pulls at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u64>,
}

/// The thing that a node has to do with a task's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum TaskOrder {
    /// To pull them.
    Deliver,
    /// To stop pulling them, and to remove those that it has.
    Remove,
}

/// The files of a task, as a node is told of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct NodeFiles {
    pub files: Vec<TaskFile>,
    /// The nodes to ask for large files before the main server, the best one first.
    #[serde(default)]
    pub parents: Vec<Sibling>,
}

/// The files of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TaskFiles {
    pub files: Vec<TaskFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TaskFile {
    /// A relative path: what `check_file_name` allows.
    pub name: String,
    pub size: u64,
    pub sha256: Sha256,
}

impl TaskFiles {
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

/// The state of tasks at a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DispatchReport {
    pub tasks: Vec<TaskReport>,
}

/// The state of one task at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TaskReport {
    pub id: TaskId,
    pub attempt: u32,
    pub state: NodeTaskState,
    /// Files and bytes that are there and verified.
    #[serde(default)]
    pub done_files: u64,
    #[serde(default)]
    pub done_bytes: u64,
    /// Bytes that have come: the same, and those of a file that is under way.
    #[serde(default)]
    pub received_bytes: u64,
    /// Number of files that can't be had, the first of which are named.
    #[serde(default)]
    pub failed_count: u64,
    #[serde(default)]
    pub failed: Vec<FailedFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum NodeTaskState {
    Pulling,
    /// All files are there.
    Done,
    /// Not all, and the node has given up.
    Failed,
    /// They were taken back, and none is there.
    Removed,
}

/// A file that a node can't have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct FailedFile {
    pub name: String,
    pub reason: String,
}

impl FailedFile {
    pub fn new(name: &str, reason: impl fmt::Display) -> Self {
        let reason: String = reason.to_string().chars().take(MAX_REASON_CHARS).collect();
        // No name of a task is longer; what a node sends is another matter.
        Self { name: name.chars().take(names::MAX_LEN).collect(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_segment_of_a_path_and_nothing_else() {
        for good in ["a", "019f2c3d-4e", "A_b-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<TaskId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "a/b", "a b", "a.b", "任务", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidTaskId), "{bad}");
            assert!(serde_json::from_value::<TaskId>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_report_without_counts_is_understood() {
        let report = r#"{"tasks":[{"id":"t","attempt":1,"state":"removed","new":1}]}"#;
        let report: DispatchReport = serde_json::from_str(report).unwrap();
        assert_eq!(
            (report.tasks[0].state, report.tasks[0].done_files),
            (NodeTaskState::Removed, 0)
        );
    }

    #[test]
    fn a_reason_and_a_name_are_cut_at_a_character() {
        let failed = FailedFile::new("a", "错".repeat(1000));
        assert_eq!(failed.reason.chars().count(), MAX_REASON_CHARS);
        let failed = FailedFile::new(&"名".repeat(5000), "");
        assert_eq!(failed.name.chars().count(), names::MAX_LEN);
    }
}
