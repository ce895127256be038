//! Progress of nodes that pull files. It changes all the time and is told again, so it is
//! in memory alone.

use std::collections::{BTreeMap, HashMap};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::dispatch::TaskId;

use super::{DispatchTable, DispatchTask};

/// The part of a task that is at a node: verified files, and the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryProgress {
    pub(crate) attempt: u32,
    pub(crate) done_files: u64,
    pub(crate) done_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) at: UnixMillis,
}

/// By task and node: those of unfinished tasks.
#[derive(Debug, Default)]
pub(crate) struct DispatchProgress(HashMap<TaskId, BTreeMap<String, DeliveryProgress>>);

impl DispatchProgress {
    pub(crate) fn note(&mut self, task: &TaskId, node_id: &str, progress: DeliveryProgress) {
        self.0.entry(task.clone()).or_default().insert(node_id.to_owned(), progress);
    }

    pub(crate) fn of_task(&self, task: &TaskId) -> BTreeMap<String, DeliveryProgress> {
        self.0.get(task).cloned().unwrap_or_default()
    }

    /// The number of nodes that pull, and have no outcome.
    pub(crate) fn count(&self, task: &DispatchTask) -> usize {
        let is_current = |(node, progress): &(&String, &DeliveryProgress)| {
            progress.attempt == task.attempt && !task.results.contains_key(*node)
        };
        self.0.get(&task.id).map_or(0, |nodes| nodes.iter().filter(is_current).count())
    }

    /// Forgets what has become an outcome.
    pub(crate) fn retain_open(&mut self, table: &DispatchTable) {
        self.0.retain(|id, nodes| {
            let Some(task) = table.find(id).filter(|task| !task.phase.is_finished()) else {
                return false;
            };
            nodes.retain(|node, progress| {
                progress.attempt == task.attempt && !task.results.contains_key(node)
            });
            true
        });
    }
}
