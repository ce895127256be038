//! Reads tasks that operators create, and refuses what can't be done.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    package::Sha256,
    remote_tasks::{MAX_INPUT_BYTES, RemoteTaskId, TaskTypeName},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256 as Hasher};

use super::{
    MAX_PARTS, MAX_TRIES, RemoteTask,
    task::{TaskKey, json_bytes},
};
use crate::state::{
    audit::AuditedOperator,
    destinations::{Audience, Destinations},
    dispatch::DispatchPriority,
};

const MAX_TITLE: usize = 200;
const MAX_KEY: usize = 200;
const DEFAULT_TIMEOUT_S: u64 = 300;
const MAX_TIMEOUT_S: u64 = 24 * 3600;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Nodes that are away can do their part within this time if nobody says how long.
const DEFAULT_LIFETIME_OF_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// The nodes that a task runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskSpread {
    /// The best one.
    #[default]
    Best,
    /// Each of them once, those that are away when they return.
    Every,
    /// Several: its items are cut into parts.
    Split,
}

/// A task as its sender writes it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NewRemoteTask"))]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoteTaskRequest {
    /// One that a node offers.
    #[serde(rename = "type")]
    pub(crate) task_type: TaskTypeName,
    /// For people; the type if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 200)))]
    title: Option<String>,
    /// As the type declares them; at most 64 KiB.
    #[serde(default)]
    pub(crate) parameters: Map<String, Value>,
    /// JSON for the standard input of a run, if the type reads it; at most 64 KiB.
    #[serde(default)]
    input: Option<Value>,
    /// Inputs to divide among nodes; each run gets a list of some. The task is split.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 10000)))]
    items: Vec<Value>,
    #[serde(default)]
    spread: Option<TaskSpread>,
    /// Any node if absent.
    #[serde(default)]
    pub(crate) to: Option<Destinations>,
    #[serde(default)]
    priority: DispatchPriority,
    /// Seconds since 1970 before which it is not begun.
    #[serde(default)]
    not_before: Option<f64>,
    /// Seconds within which it is to be done; a day if absent, for every node seven.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    expires_in_s: Option<u64>,
    /// The same as a time, in seconds since 1970.
    #[serde(default)]
    deadline: Option<f64>,
    /// Seconds for which a run may take; 300 if absent. The type may allow less.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1, max = 86400)))]
    timeout_s: Option<u64>,
    /// Nodes that a run is tried on, if its type is repeatable; 3 if absent.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1, max = 3)))]
    tries: Option<u32>,
    /// With the same key, the same request is one task, however often it is repeated.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1, max = 200)))]
    pub(crate) key: Option<String>,
    #[serde(skip)]
    #[cfg_attr(test, schemars(skip))]
    digest: Option<Sha256>,
}

impl RemoteTaskRequest {
    pub(crate) fn read(fields: Map<String, Value>) -> Result<Self, String> {
        let written = serde_json::to_vec(&fields).unwrap_or_default();
        let mut request: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| format!("任务格式错误 / the task is malformed: {error}"))?;
        request.digest = Some(Sha256::new(Hasher::digest(written).into()));
        request.check_texts()?;
        request.check_sizes()?;
        request.check_spread()?;
        Ok(request)
    }

    /// True if it is the request that a task with its key came from.
    pub(crate) fn is_of(&self, task: &RemoteTask) -> bool {
        task.key.as_ref().is_some_and(|key| Some(key.request) == self.digest)
    }

    fn check_texts(&self) -> Result<(), String> {
        let is_bad =
            |text: &str, most: usize| text.len() > most || text.chars().any(char::is_control);
        if self.title.as_deref().is_some_and(|title| is_bad(title, MAX_TITLE)) {
            return Err(format!(
                "title 最长 {MAX_TITLE} 字节，不含控制字符 / title must have at most {MAX_TITLE} bytes and no control characters"
            ));
        }
        if self.key.as_deref().is_some_and(|key| key.is_empty() || is_bad(key, MAX_KEY)) {
            return Err(format!(
                "key 为 1 到 {MAX_KEY} 字节，不含控制字符 / key must have from 1 to {MAX_KEY} bytes and no control characters"
            ));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), String> {
        let parameters = self.parameters.iter().map(|(name, value)| name.len() + json_bytes(value));
        let is_large = |value: &Value| json_bytes(value) > MAX_INPUT_BYTES;
        if parameters.sum::<usize>() > MAX_INPUT_BYTES
            || self.input.as_ref().is_some_and(is_large)
            || self.items.iter().any(is_large)
        {
            return Err(format!(
                "parameters、input 和每个 item 最大 {MAX_INPUT_BYTES} 字节 / parameters, input and each item must have at most {MAX_INPUT_BYTES} bytes"
            ));
        }
        let between = |name: &str, value: Option<u64>, most: u64| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(format!("{name} 应为 1 到 {most} / {name} must be from 1 to {most}"))
            }
            _ => Ok(()),
        };
        between("tries", self.tries.map(u64::from), MAX_TRIES.into())?;
        between("timeout_s", self.timeout_s, MAX_TIMEOUT_S)
    }

    fn check_spread(&self) -> Result<(), String> {
        let is_split = self.spread() == TaskSpread::Split;
        if is_split && (self.items.is_empty() || self.items.len() > MAX_PARTS) {
            return Err(format!(
                "拆分的任务应有 1 到 {MAX_PARTS} 个 items / a split task has from 1 to {MAX_PARTS} items"
            ));
        }
        if !is_split && !self.items.is_empty() {
            return Err(
                "items 只用于拆分的任务（spread: split） / items are for split tasks alone (spread: split)"
                    .to_owned(),
            );
        }
        if is_split && self.input.is_some() {
            return Err("拆分的任务用 items，不能有 input / a split task has items, and no input"
                .to_owned());
        }
        if self.spread() == TaskSpread::Every && self.to.is_none() {
            return Err(
                "spread 为 every 时请填写 to，例如 {\"all\": true} / with spread: every, name the nodes in to, such as {\"all\": true}"
                    .to_owned(),
            );
        }
        Ok(())
    }

    pub(crate) fn spread(&self) -> TaskSpread {
        match self.spread {
            Some(spread) => spread,
            None if !self.items.is_empty() => TaskSpread::Split,
            None => TaskSpread::Best,
        }
    }

    fn deadline(&self, now: UnixMillis) -> Result<UnixMillis, String> {
        let begin = self.not_before().unwrap_or(now).max(now);
        let deadline = match (self.expires_in_s, self.deadline) {
            (Some(_), Some(_)) => {
                return Err(
                    "expires_in_s 和 deadline 只能填写一个 / expires_in_s and deadline are the same, name one of them"
                        .to_owned(),
                );
            }
            (Some(seconds), None) => now + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
            (None, Some(at)) => UnixMillis::from_secs_f64(at),
            (None, None) if self.spread() == TaskSpread::Every => begin + DEFAULT_LIFETIME_OF_EVERY,
            (None, None) => begin + DAY,
        };
        if deadline <= begin {
            return Err(
                "期限已过，或早于 not_before / the deadline has passed already, or is before not_before"
                    .to_owned(),
            );
        }
        if deadline.saturating_since(now) > MAX_LIFETIME {
            let days = MAX_LIFETIME.as_secs() / DAY.as_secs();
            return Err(format!(
                "期限最长 {days} 天 / the deadline is at most {days} days from now"
            ));
        }
        Ok(deadline)
    }

    fn not_before(&self) -> Option<UnixMillis> {
        self.not_before.map(UnixMillis::from_secs_f64)
    }

    /// The task, for nodes that were looked up: None for any.
    pub(crate) fn into_task(
        self,
        id: RemoteTaskId,
        audience: Option<Audience>,
        everybody: impl FnOnce() -> Vec<String>,
        by: AuditedOperator,
        now: UnixMillis,
    ) -> Result<RemoteTask, String> {
        let deadline = self.deadline(now)?;
        let (spread, not_before) = (self.spread(), self.not_before());
        let mut nodes: Option<Vec<String>> = match audience {
            Some(Audience::Nodes(nodes)) => Some(nodes.into_iter().collect()),
            Some(Audience::All) if spread == TaskSpread::Every => Some(everybody()),
            Some(Audience::All) | None => None,
        };
        if let Some(nodes) = &mut nodes {
            nodes.sort_unstable();
        }
        if spread == TaskSpread::Every
            && nodes.as_ref().is_some_and(|nodes| nodes.is_empty() || nodes.len() > MAX_PARTS)
        {
            return Err(format!(
                "一个任务可在 1 到 {MAX_PARTS} 个节点上运行 / a task runs on 1 to {MAX_PARTS} nodes"
            ));
        }
        let key = self.key.zip(self.digest).map(|(name, request)| TaskKey { name, request });
        Ok(RemoteTask {
            id,
            title: self.title.unwrap_or_else(|| self.task_type.to_string()),
            task_type: self.task_type,
            by,
            key,
            parameters: self.parameters,
            input: self.input,
            items: self.items,
            spread,
            to: self.to,
            nodes,
            priority: self.priority,
            tries: self.tries.unwrap_or(MAX_TRIES),
            timeout_s: self.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S),
            created_at: now,
            not_before: not_before.filter(|at| *at > now),
            deadline,
            retry_of: None,
            ending: None,
            finished: None,
        })
    }
}
