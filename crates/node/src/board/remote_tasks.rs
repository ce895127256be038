//! Remote tasks as pages show them.

use std::{collections::BTreeMap, path::PathBuf};

use edge_mirror_base::metrics::labels;
use edge_mirror_protocol::remote_tasks::{RunKey, RunState, TaskTypeName};
use edge_mirror_tasks::BilingualText;
use serde::{Deserialize, Serialize};

/// Written by `remote_tasks`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RemoteTaskStatus {
    /// 0 while none are taken.
    pub(crate) places: u32,
    pub(crate) running: usize,
    /// Titles of the declared types, by name.
    pub(crate) types: BTreeMap<String, String>,
    /// Files of declarations, and what is wrong with them.
    pub(crate) faults: Vec<(PathBuf, String)>,
    /// Limits that the last run went without.
    pub(crate) missing: Vec<BilingualText>,
    /// The last run was in systemd's unit; none before the first.
    pub(crate) is_unit: Option<bool>,
    /// Tasks whose runs were told to end, and have not.
    pub(crate) stuck: Vec<String>,
    /// The last runs, the newest first.
    pub(crate) history: Vec<PastRun>,
}

/// A run of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PastRun {
    pub(crate) key: RunKey,
    pub(crate) task_type: TaskTypeName,
    pub(crate) state: RunState,
    pub(crate) started_at: Option<u64>,
    pub(crate) duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

labels! {
    /// The end of a run.
    RunEnding { Succeeded => "succeeded", Failed => "failed", Stopped => "stopped", Refused => "refused" }
}

impl RunEnding {
    pub(crate) fn of(state: RunState) -> Self {
        match state {
            RunState::Succeeded => Self::Succeeded,
            RunState::Running | RunState::Failed => Self::Failed,
            RunState::Stopped => Self::Stopped,
            RunState::Refused => Self::Refused,
        }
    }
}
