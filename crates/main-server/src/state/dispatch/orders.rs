//! The work of one node: the tasks that it has to do something for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edge_mirror_protocol::{
    dispatch::{NodeTask, TaskId, TaskOrder},
    package::Sha256,
};
use sha2::{Digest, Sha256 as Hasher};

use super::{DispatchTable, DispatchTask, FileAccess, FileRetention, TaskPhase};

/// Digits of a list's version.
const VERSION_DIGITS: usize = 16;

/// The open tasks as far as nodes are told of them: it does not change with each node that
/// has the files, so that ten thousand nodes are not woken ten thousand times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DispatchNotice {
    tasks: Vec<OpenOrder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenOrder {
    id: TaskId,
    attempt: u32,
    order: TaskOrder,
    /// None: all.
    nodes: Option<Arc<BTreeSet<String>>>,
}

impl DispatchNotice {
    /// The nodes of a task never change: they are taken over from the notice `before`.
    pub(crate) fn new(table: &DispatchTable, before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.tasks);
        let before: BTreeMap<_, _> = before.iter().map(|order| (&order.id, order)).collect();
        let tasks = table.open_tasks().filter_map(|task| {
            Some(OpenOrder {
                id: task.id.clone(),
                attempt: task.attempt,
                order: order(task)?,
                nodes: match before.get(&task.id) {
                    Some(before) => before.nodes.clone(),
                    None => task.nodes.clone().map(Arc::new),
                },
            })
        });
        Self { tasks: tasks.collect() }
    }

    /// The version of a node's list; None if no task concerns it.
    pub(crate) fn version(&self, node_id: &str) -> Option<String> {
        let concerns =
            |task: &&OpenOrder| task.nodes.as_ref().is_none_or(|nodes| nodes.contains(node_id));
        let mut tasks = self.tasks.iter().filter(concerns).peekable();
        tasks.peek()?;
        let mut hasher = Hasher::new();
        for OpenOrder { id, attempt, order, .. } in tasks {
            hasher.update(format!("{id} {attempt} {order:?}\n"));
        }
        let mut version = Sha256::new(hasher.finalize().into()).to_string();
        version.truncate(VERSION_DIGITS);
        Some(version)
    }
}

fn order(task: &DispatchTask) -> Option<TaskOrder> {
    if task.removal.as_ref().is_some_and(|removal| removal.done_at.is_none()) {
        return Some(TaskOrder::Remove);
    }
    (task.phase == TaskPhase::Active).then_some(TaskOrder::Deliver)
}

/// The tasks that a node has to do something for, the most urgent first.
pub(crate) fn orders(table: &DispatchTable, node_id: &str) -> Vec<NodeTask> {
    let is_open = |task: &&Arc<DispatchTask>| match order(task) {
        Some(TaskOrder::Remove) => task.orders_removal(node_id),
        Some(TaskOrder::Deliver) => task.is_for(node_id) && task.outcome(node_id).is_none(),
        None => false,
    };
    let mut open: Vec<_> = table.open_tasks().filter(is_open).collect();
    open.sort_by_key(|task| (Reverse(task.priority), task.id.clone()));
    open.into_iter().filter_map(|task| node_task(task)).collect()
}

fn node_task(task: &DispatchTask) -> Option<NodeTask> {
    let keep_until = match task.retention {
        FileRetention::Until(at) => Some(at.as_secs()),
        FileRetention::Keep => None,
    };
    Some(NodeTask {
        id: task.id.clone(),
        order: order(task)?,
        attempt: task.attempt,
        files: task.files,
        bytes: task.bytes,
        open: task.access == FileAccess::Open,
        keep_until,
        rate_limit: task.rate_limit,
    })
}
