//! The changes of tasks as data, and what each of them does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::dispatch::{NodeTaskState, TaskFiles, TaskId, TaskReport};

use super::{
    DispatchChange, DispatchTable, DispatchTask, FileRemoval, FleetView, MAX_ALL_FILES, MAX_TASKS,
    NodeOutcome, NodeResult, TaskPhase, advance,
};
use crate::{
    refusal::RequestError,
    state::{audit::AuditedOperator, fleet::KnownNodes},
};

/// Nodes whose failed files are named; of others their number is kept. A task is saved as a
/// whole with each outcome, and thousands of nodes may fail for the same reason.
const MAX_NODES_WITH_NAMES: usize = 100;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DispatchCommand {
    Create {
        task: Arc<DispatchTask>,
        files: Arc<TaskFiles>,
    },
    /// Nobody gets the files any more, and those who have some remove them.
    Cancel {
        id: TaskId,
        at: UnixMillis,
    },
    /// Nodes that failed try again: in this task, or if it is finished in a new one.
    Retry {
        id: TaskId,
        new_id: TaskId,
        by: AuditedOperator,
        at: UnixMillis,
    },
    /// Outcomes at a node.
    Report {
        node_id: String,
        reports: Vec<TaskReport>,
        at: UnixMillis,
    },
    /// The time passes, and nodes come and go.
    Advance {
        unsupported: Arc<BTreeSet<String>>,
        max_active: usize,
        at: UnixMillis,
    },
}

/// Returns what `command` changes.
pub(crate) fn apply(
    table: &DispatchTable,
    known: &KnownNodes,
    command: &DispatchCommand,
) -> Result<Vec<DispatchChange>, RequestError> {
    match command {
        DispatchCommand::Create { task, files } => create(table, task.clone(), files.clone()),
        DispatchCommand::Cancel { id, at } => Ok(cancel(table.get(id)?, *at)),
        DispatchCommand::Retry { id, new_id, by, at } => {
            retry(table, table.get(id)?, new_id, by, *at)
        }
        DispatchCommand::Report { node_id, reports, at } => {
            Ok(report(table, node_id, reports, *at))
        }
        DispatchCommand::Advance { unsupported, max_active, at } => {
            let fleet = FleetView { known, unsupported };
            Ok(advance(table, fleet, *max_active, *at))
        }
    }
}

/// A task that its sender has created already changes nothing.
///
/// The oldest finished tasks make room. A removal that is not over keeps one, and so do files
/// that nodes keep until they are removed by it.
fn create(
    table: &DispatchTable,
    task: Arc<DispatchTask>,
    files: Arc<TaskFiles>,
) -> Result<Vec<DispatchChange>, RequestError> {
    if let Some(key) = &task.key
        && table.with_key(key)?.is_some()
    {
        return Ok(Vec::new());
    }
    let open: BTreeSet<_> = table.open_tasks().map(|open| &open.id).collect();
    let (mut count, mut all_files) =
        (table.len() + 1, table.iter().map(|task| task.files).sum::<u64>() + task.files);
    let mut changes = Vec::new();
    let may_go = |old: &&Arc<DispatchTask>| !open.contains(&old.id) && !old.is_needed_for_removal();
    for old in table.iter().filter(may_go) {
        if count <= MAX_TASKS && all_files <= MAX_ALL_FILES {
            break;
        }
        (count, all_files) = (count - 1, all_files - old.files);
        changes.push(DispatchChange::Remove(old.id.clone()));
    }
    if count > MAX_TASKS || all_files > MAX_ALL_FILES {
        return Err(RequestError::TooManyTasks(MAX_TASKS, MAX_ALL_FILES));
    }
    changes.push(DispatchChange::PutFiles(task.id.clone(), files));
    changes.push(DispatchChange::Put(task));
    Ok(changes)
}

/// Cancelling what is cancelled already changes nothing.
fn cancel(task: &DispatchTask, at: UnixMillis) -> Vec<DispatchChange> {
    if task.removal.is_some() {
        return Vec::new();
    }
    let mut next = task.clone();
    let removal = FileRemoval { begun_at: at, done_at: None, removed: BTreeSet::new() };
    match task.phase {
        // No node knows of it.
        TaskPhase::Queued => {
            (next.phase, next.finished_at) = (TaskPhase::Cancelled, Some(at));
            next.removal = Some(FileRemoval { done_at: Some(at), ..removal });
        }
        TaskPhase::Active => {
            (next.phase, next.removal) = (TaskPhase::Cancelling, Some(removal));
        }
        TaskPhase::Cancelling | TaskPhase::Cancelled => return Vec::new(),
        // What was achieved stays as it is.
        TaskPhase::Completed | TaskPhase::Partial | TaskPhase::Failed => {
            next.removal = Some(removal);
        }
    }
    vec![DispatchChange::Put(Arc::new(next))]
}

fn retry(
    table: &DispatchTable,
    task: &DispatchTask,
    new_id: &TaskId,
    by: &AuditedOperator,
    at: UnixMillis,
) -> Result<Vec<DispatchChange>, RequestError> {
    if task.removal.is_some() {
        return Err(RequestError::TaskCancelled(task.id.to_string()));
    }
    let is_retried = |result: &NodeResult| {
        matches!(
            result.outcome,
            NodeOutcome::Failed | NodeOutcome::Missed | NodeOutcome::Unsupported
        )
    };
    let retried = task.results.iter().filter(|(_, result)| is_retried(result));
    let retried: BTreeSet<_> = retried.map(|(node, _)| node.clone()).collect();
    if retried.is_empty() {
        return Err(RequestError::NothingToRetry(task.id.to_string()));
    }
    if !task.phase.is_finished() {
        let mut next = task.clone();
        next.attempt = next.attempt.saturating_add(1);
        next.results.retain(|node, _| !retried.contains(node));
        return Ok(vec![DispatchChange::Put(Arc::new(next))]);
    }
    let files =
        table.files(&task.id).ok_or_else(|| RequestError::UnknownTask(task.id.to_string()))?;
    let lifetime = task.deadline.saturating_since(task.created_at);
    let again = DispatchTask {
        id: new_id.clone(),
        key: None,
        by: by.clone(),
        nodes: Some(retried),
        phase: TaskPhase::Queued,
        attempt: 1,
        created_at: at,
        deadline: at + lifetime,
        started_at: None,
        finished_at: None,
        retry_of: Some(task.id.clone()),
        removal: None,
        results: BTreeMap::new(),
        ..task.clone()
    };
    create(table, Arc::new(again), files.clone())
}

fn report(
    table: &DispatchTable,
    node_id: &str,
    reports: &[TaskReport],
    at: UnixMillis,
) -> Vec<DispatchChange> {
    let mut changed: BTreeMap<&TaskId, DispatchTask> = BTreeMap::new();
    for report in reports {
        let Some(task) = table.find(&report.id) else { continue };
        let before = changed.get(&report.id).unwrap_or(task);
        if let Some(next) = with_report(before, node_id, report, at) {
            changed.insert(&report.id, next);
        }
    }
    changed.into_values().map(|task| DispatchChange::Put(Arc::new(task))).collect()
}

/// None if the report changes nothing: it is late, or of another attempt, or said before.
fn with_report(
    task: &DispatchTask,
    node_id: &str,
    report: &TaskReport,
    at: UnixMillis,
) -> Option<DispatchTask> {
    let outcome = match report.state {
        NodeTaskState::Pulling => return None,
        NodeTaskState::Removed => {
            if !task.orders_removal(node_id) {
                return None;
            }
            let mut next = task.clone();
            next.removal.as_mut()?.removed.insert(node_id.to_owned());
            return Some(next);
        }
        NodeTaskState::Done => NodeOutcome::Done,
        NodeTaskState::Failed => NodeOutcome::Failed,
    };
    let is_awaited = task.phase == TaskPhase::Active
        && task.attempt == report.attempt
        && task.is_for(node_id)
        && !task.results.contains_key(node_id);
    if !is_awaited {
        return None;
    }
    let with_names = task.results.values().filter(|result| !result.failed.is_empty()).count();
    let result = NodeResult {
        outcome,
        at,
        done_files: report.done_files.min(task.files),
        done_bytes: report.done_bytes.min(task.bytes),
        failed_count: report.failed_count.min(task.files),
        failed: match with_names < MAX_NODES_WITH_NAMES {
            true => report.failed.clone(),
            false => Vec::new(),
        },
    };
    let mut next = task.clone();
    next.results.insert(node_id.to_owned(), result);
    Some(next)
}

#[cfg(test)]
pub(super) mod tests;
