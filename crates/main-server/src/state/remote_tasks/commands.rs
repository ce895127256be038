//! The changes of tasks as data, and what each of them does.

use std::{collections::BTreeMap, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{RemoteTaskId, RunKey, RunReport};

use super::{
    MAX_ALL_BYTES, MAX_ALL_PARTS, MAX_FINISHED_TASKS, MAX_OPEN_TASKS, PartEnd, PartOutcome,
    PartSpan, RemoteChange, RemotePart, RemoteTask, RemoteTaskTable, RunAssignment, TableTotals,
    TaskEnding, TaskEntry, TaskSpread, editing::TaskEditor,
};
use crate::{
    refusal::RequestError,
    state::{audit::AuditedOperator, fleet::KnownNodes},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RemoteTaskCommand {
    Create(Arc<RemoteTask>),
    /// No more of it is begun, and what runs is stopped.
    Cancel {
        id: RemoteTaskId,
        at: UnixMillis,
    },
    /// The parts of a finished task that failed are done again, in a new one.
    Retry {
        id: RemoteTaskId,
        new_id: RemoteTaskId,
        by: AuditedOperator,
        at: UnixMillis,
    },
    /// Parts are given to nodes.
    Assign(Vec<NewAssignment>),
    /// Runs of a node that are finished.
    Report {
        node: String,
        reports: Vec<RunReport>,
        at: UnixMillis,
    },
    /// Runs that can't be going on any more, though no node says so.
    Release {
        runs: Vec<ReleasedRun>,
        at: UnixMillis,
    },
    /// Parts that failed, and that no other node can do.
    GiveUp {
        parts: Vec<RunKey>,
        at: UnixMillis,
    },
    /// The time passes, and nodes come and go.
    Advance {
        at: UnixMillis,
    },
}

/// A part that is given to a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewAssignment {
    pub(crate) key: RunKey,
    pub(crate) span: PartSpan,
    pub(crate) to: RunAssignment,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReleasedRun {
    pub(crate) key: RunKey,
    pub(crate) cause: ReleaseCause,
}

/// The reason that a run can't be going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseCause {
    /// Its lease is over: the node itself has stopped it.
    LeaseOver,
    /// The node's program was started again.
    NodeRestarted,
    /// The node does not know it any more.
    Forgotten,
    /// The node was told to stop it, and had not begun it.
    NotBegun,
}

impl ReleaseCause {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::LeaseOver => {
                "节点失联，租约已过 / the node was not heard from until its lease was over"
            }
            Self::NodeRestarted => "节点程序已重新启动 / the node's program was started again",
            Self::NotBegun => "没有开始 / it was not begun",
            Self::Forgotten => "节点不再知道此次运行 / the node does not know the run any more",
        }
    }
}

/// Returns what `command` changes.
pub(crate) fn apply(
    table: &RemoteTaskTable,
    known: &KnownNodes,
    command: &RemoteTaskCommand,
) -> Result<Vec<RemoteChange>, RequestError> {
    match command {
        RemoteTaskCommand::Create(task) => create(table, task),
        RemoteTaskCommand::Cancel { id, at } => {
            let entry = table.get(id)?;
            Ok(end(entry, TaskEnding { at: *at, cancelled: true }))
        }
        RemoteTaskCommand::Retry { id, new_id, by, at } => {
            retry(table, table.get(id)?, new_id, by, *at)
        }
        RemoteTaskCommand::Assign(assignments) => Ok(assign(table, assignments)),
        RemoteTaskCommand::Report { node, reports, at } => {
            let mut editor = TaskEditor::new(table);
            for report in reports {
                editor.report(node, report, *at);
            }
            Ok(editor.finish(*at))
        }
        RemoteTaskCommand::Release { runs, at } => {
            let mut editor = TaskEditor::new(table);
            for run in runs {
                editor.release(run, *at);
            }
            Ok(editor.finish(*at))
        }
        RemoteTaskCommand::GiveUp { parts, at } => {
            let mut editor = TaskEditor::new(table);
            for key in parts {
                editor.give_up(key, *at);
            }
            Ok(editor.finish(*at))
        }
        RemoteTaskCommand::Advance { at } => Ok(advance(table, known, *at)),
    }
}

/// The oldest finished tasks make room. A known key creates nothing.
fn create(
    table: &RemoteTaskTable,
    task: &Arc<RemoteTask>,
) -> Result<Vec<RemoteChange>, RequestError> {
    if let Some(key) = &task.key
        && let Some(known) = table.by_key(&key.name)
    {
        let is_same = known.task.key.as_ref().is_some_and(|known| known.request == key.request);
        return match is_same {
            true => Ok(Vec::new()),
            false => Err(RequestError::OtherRemoteTask(key.name.clone())),
        };
    }
    let parts = task.fixed_parts().unwrap_or_default();
    let added = TableTotals { bytes: task.bytes(), parts };
    if table.open_count() >= MAX_OPEN_TASKS || !has_room(table, added) {
        return Err(RequestError::TooManyRemoteTasks(MAX_OPEN_TASKS, MAX_ALL_BYTES));
    }
    let mut changes = make_room(table, added);
    changes.push(RemoteChange::Put(task.clone()));
    Ok(changes)
}

/// True if there is room beside the tasks that are not finished.
pub(super) fn has_room(table: &RemoteTaskTable, added: TableTotals) -> bool {
    let open = table.open_totals();
    open.bytes + added.bytes <= MAX_ALL_BYTES && open.parts + added.parts <= MAX_ALL_PARTS
}

/// The removals of finished tasks, the oldest first, that make room.
pub(super) fn make_room(table: &RemoteTaskTable, added: TableTotals) -> Vec<RemoteChange> {
    let TableTotals { mut bytes, mut parts } = table.totals();
    (bytes, parts) = (bytes + added.bytes, parts + added.parts);
    let (mut count, mut changes) = (table.finished_count(), Vec::new());
    for old in table.oldest_finished() {
        if count <= MAX_FINISHED_TASKS && bytes <= MAX_ALL_BYTES && parts <= MAX_ALL_PARTS {
            break;
        }
        (count, bytes, parts) = (count - 1, bytes - old.bytes(), parts - old.reserved_parts());
        let numbers = old.parts().map(|part| part.number).collect();
        changes.push(RemoteChange::Remove(old.task.id.clone(), numbers));
    }
    changes
}

/// Ends a task: parts that wait are given up, those that run are stopped. Ending what is
/// ended or finished changes nothing.
fn end(entry: &Arc<TaskEntry>, ending: TaskEnding) -> Vec<RemoteChange> {
    let task = &entry.task;
    // Cancelling what is stopped for its deadline makes it no less stopped.
    if task.finished.is_some() || task.ending.is_some() {
        return Vec::new();
    }
    let (at, cancelled) = (ending.at, ending.cancelled);
    let mut next = TaskEntry::clone(entry);
    next.set_task(Arc::new(RemoteTask { ending: Some(ending), ..RemoteTask::clone(task) }));
    let mut changes = Vec::new();
    let outcome = |part: &RemotePart| match (cancelled, &part.failure) {
        (true, _) => PartOutcome::new(PartEnd::Cancelled, at),
        (false, Some(failure)) => PartOutcome { at, ..PartOutcome::clone(failure) },
        (false, None) => PartOutcome::new(PartEnd::Missed, at)
            .with_error(None, "期限已过 / it was not done in time"),
    };
    for mut part in waiting_parts(&next) {
        part.outcome = Some(Box::new(outcome(&part)));
        let part = Arc::new(part);
        next.set_part(part.clone());
        changes.push(RemoteChange::PutPart(part));
    }
    let task = next.finish(at).map_or_else(|| next.task.clone(), Arc::new);
    changes.push(RemoteChange::Put(task));
    changes
}

/// Parts that no node has and that have no outcome, those that are not kept among them; what
/// is not cut of a split task is one.
fn waiting_parts(entry: &TaskEntry) -> Vec<RemotePart> {
    let kept = entry.parts().filter(|part| part.is_waiting());
    let mut waiting: Vec<_> = kept.map(|part| RemotePart::clone(part)).collect();
    let id = &entry.task.id;
    match entry.task.fixed_parts() {
        Some(count) => {
            let numbers = 0..u32::try_from(count).unwrap_or(u32::MAX);
            let unknown = numbers.filter(|number| entry.part(*number).is_none());
            waiting.extend(unknown.map(|number| RemotePart::new(id, number, PartSpan::default())));
        }
        None if entry.uncut().count > 0 => {
            waiting.push(RemotePart::new(id, entry.next_part(), entry.uncut()));
        }
        None => {}
    }
    waiting
}

fn retry(
    table: &RemoteTaskTable,
    entry: &TaskEntry,
    new_id: &RemoteTaskId,
    by: &AuditedOperator,
    at: UnixMillis,
) -> Result<Vec<RemoteChange>, RequestError> {
    let task = &entry.task;
    if table.open().any(|open| open.task.retry_of.as_ref() == Some(&task.id)) {
        // It is under way.
        return Ok(Vec::new());
    }
    let failed = || {
        entry.parts().filter(|part| {
            part.outcome.as_ref().is_some_and(|outcome| outcome.end != PartEnd::Succeeded)
        })
    };
    if task.finished.is_none() || failed().next().is_none() {
        return Err(RequestError::NothingFailed(task.id.to_string()));
    }
    let (mut nodes, mut items) = (task.nodes.clone(), Vec::new());
    match task.spread {
        TaskSpread::Best => {}
        TaskSpread::Every => {
            nodes = Some(
                failed().filter_map(|part| entry.node_of(part.number)).map(str::to_owned).collect(),
            );
        }
        TaskSpread::Split => {
            let mut spans: Vec<_> = failed().map(|part| part.span).collect();
            spans.sort_unstable_by_key(|span| span.first);
            let of_span = |span: &PartSpan| {
                let first = span.first as usize;
                task.items.get(first..first + span.count as usize).unwrap_or_default()
            };
            items = spans.iter().flat_map(of_span).cloned().collect();
        }
    }
    let lifetime = task.deadline.saturating_since(task.created_at);
    let again = RemoteTask {
        id: new_id.clone(),
        by: by.clone(),
        key: None,
        nodes,
        items,
        created_at: at,
        not_before: None,
        deadline: at + lifetime,
        retry_of: Some(task.id.clone()),
        ending: None,
        finished: None,
        ..RemoteTask::clone(task)
    };
    create(table, &Arc::new(again))
}

/// Gives parts to nodes, but for those that were given to others or are done meanwhile.
fn assign(table: &RemoteTaskTable, assignments: &[NewAssignment]) -> Vec<RemoteChange> {
    let mut entries: BTreeMap<&RemoteTaskId, TaskEntry> = BTreeMap::new();
    let (mut changes, mut added) = (Vec::new(), TableTotals::default());
    for NewAssignment { key, span, to } in assignments {
        let entry = match entries.get_mut(&key.task) {
            Some(entry) => entry,
            None => match table.find(&key.task) {
                Some(entry) => entries.entry(&key.task).or_insert_with(|| TaskEntry::clone(entry)),
                None => continue,
            },
        };
        let Some(part) = assigned(entry, key, *span, to) else { continue };
        if entry.part(key.part).is_none() && entry.task.spread == TaskSpread::Split {
            // Of others, their number is known from the begin.
            added.parts += 1;
            if !has_room(table, added) {
                continue;
            }
        }
        added.bytes += part.bytes();
        let part = Arc::new(part);
        entry.set_part(part.clone());
        changes.push(RemoteChange::PutPart(part));
    }
    changes.extend(make_room(table, added));
    changes
}

fn assigned(
    entry: &TaskEntry,
    key: &RunKey,
    span: PartSpan,
    to: &RunAssignment,
) -> Option<RemotePart> {
    if entry.task.ending.is_some() || entry.task.finished.is_some() {
        return None;
    }
    let mut part = match (entry.part(key.part), entry.task.fixed_parts()) {
        (Some(part), _) => RemotePart::clone(part),
        (None, Some(count)) if (key.part as usize) < count => entry.part_or_new(key.part),
        // Cut from what nobody has.
        (None, None) => {
            let uncut = entry.uncut();
            let fits = key.part == entry.next_part()
                && span.first == uncut.first
                && (1..=uncut.count).contains(&span.count);
            if !fits {
                return None;
            }
            RemotePart::new(&entry.task.id, key.part, span)
        }
        (None, Some(_)) => return None,
    };
    if !part.is_waiting() || part.epoch + 1 != key.epoch {
        return None;
    }
    part.epoch = key.epoch;
    part.tried.push(to.node.clone());
    part.assignment = Some(to.clone());
    Some(part)
}

/// Cancels what is late and what is for nodes that are none any more.
fn advance(table: &RemoteTaskTable, known: &KnownNodes, at: UnixMillis) -> Vec<RemoteChange> {
    let mut changes = Vec::new();
    for entry in table.open().filter(|entry| entry.task.ending.is_none()) {
        if entry.task.deadline <= at {
            changes.extend(end(entry, TaskEnding { at, cancelled: false }));
            continue;
        }
        let (TaskSpread::Every, Some(nodes)) = (entry.task.spread, &entry.task.nodes) else {
            continue;
        };
        let gone = (0..).zip(nodes).filter(|(_, node)| known.get(node).is_none());
        let gone = gone.map(|(number, _)| entry.part_or_new(number));
        let mut gone = gone.filter(RemotePart::is_waiting).peekable();
        if gone.peek().is_none() {
            continue;
        }
        let mut next = TaskEntry::clone(entry);
        for mut part in gone {
            let missed = PartOutcome::new(PartEnd::Missed, at);
            let text = "节点已被移除 / the node is none of the fleet any more";
            part.outcome = Some(Box::new(missed.with_error(entry.node_of(part.number), text)));
            let part = Arc::new(part);
            next.set_part(part.clone());
            changes.push(RemoteChange::PutPart(part));
        }
        changes.extend(next.finish(at).map(|task| RemoteChange::Put(Arc::new(task))));
    }
    changes
}
