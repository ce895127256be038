//! The ends of runs: what nodes report, and what becomes of runs that nobody reports.

use std::{collections::BTreeMap, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{RemoteTaskId, RunKey, RunReport, RunState};

use super::{
    LateResult, MAX_TASK_RESULT_BYTES, PartEnd, PartOutcome, RemoteChange, RemotePart, RemoteTask,
    RemoteTaskTable, TableTotals, TaskEntry,
    commands::{ReleasedRun, has_room, make_room},
    task::json_bytes,
};

/// Late results of a part that are kept: one of each node that it was tried on.
const MAX_LATE: usize = 3;
/// Characters of an error that are kept where there is no room for more.
const SHORT_ERROR_CHARS: usize = 200;

/// Changes parts of several tasks, and ends those tasks whose parts all have an outcome.
pub(super) struct TaskEditor<'a> {
    table: &'a RemoteTaskTable,
    entries: BTreeMap<RemoteTaskId, TaskEntry>,
    changed: BTreeMap<(RemoteTaskId, u32), Arc<RemotePart>>,
    /// Bytes of results that came.
    added: usize,
}

impl<'a> TaskEditor<'a> {
    pub(super) fn new(table: &'a RemoteTaskTable) -> Self {
        Self { table, entries: BTreeMap::new(), changed: BTreeMap::new(), added: 0 }
    }

    fn entry(&mut self, id: &RemoteTaskId) -> Option<&mut TaskEntry> {
        if !self.entries.contains_key(id) {
            let entry = TaskEntry::clone(self.table.find(id)?);
            self.entries.insert(id.clone(), entry);
        }
        self.entries.get_mut(id)
    }

    fn put(&mut self, part: RemotePart) {
        let part = Arc::new(part);
        if let Some(entry) = self.entries.get_mut(&part.task) {
            entry.set_part(part.clone());
        }
        self.changed.insert((part.task.clone(), part.number), part);
    }

    /// Takes a finished run. One that is not the part's any more is kept to look at.
    pub(super) fn report(&mut self, node: &str, report: &RunReport, at: UnixMillis) {
        let Some(entry) = self.entry(&report.key.task) else { return };
        let Some(part) = entry.part(report.key.part) else { return };
        let (task, mut part) = (entry.task.clone(), RemotePart::clone(part));
        let room = MAX_TASK_RESULT_BYTES.saturating_sub(entry.result_bytes());
        let is_current = part.outcome.is_none()
            && part.epoch == report.key.epoch
            && part.assignment.as_ref().is_some_and(|assignment| assignment.node == node);
        let fitted = self.fitted(report, room);
        match is_current {
            true => {
                part.reported.push(report.key.epoch);
                let part = with_report(part, &task, node, &fitted, at);
                self.put(part);
            }
            false => self.keep_late(part, node, &fitted, at),
        }
    }

    /// The report without a result for which there is no room.
    fn fitted(&mut self, report: &RunReport, room: usize) -> FittedReport {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let result = report.result.as_ref().map_or(0, json_bytes);
        let bytes = result + text(&report.error) + text(&report.log_tail);
        let added = TableTotals { bytes: self.added + bytes, parts: 0 };
        let mut report = report.clone();
        if has_room(self.table, added) && result <= room {
            self.added += bytes;
            return FittedReport { report, left_out: false };
        }
        report.log_tail = None;
        report.error = report.error.map(|error| error.chars().take(SHORT_ERROR_CHARS).collect());
        let left_out = report.result.take().is_some();
        FittedReport { report, left_out }
    }

    fn keep_late(&mut self, mut part: RemotePart, node: &str, late: &FittedReport, at: UnixMillis) {
        let report = &late.report;
        // It is said again until it is taken.
        let epoch = report.key.epoch;
        let is_known = part.reported.contains(&epoch)
            || part.late.iter().any(|known| known.epoch == epoch)
            || !part.tried.iter().any(|tried| tried == node)
            || epoch > part.epoch;
        if is_known || part.late.len() >= MAX_LATE {
            return;
        }
        let end = match report.state {
            RunState::Succeeded => PartEnd::Succeeded,
            RunState::Stopped => PartEnd::Cancelled,
            RunState::Failed | RunState::Refused | RunState::Running => PartEnd::Failed,
        };
        let outcome = late.outcome(end, node, at);
        part.late.push(LateResult { epoch: report.key.epoch, state: report.state, outcome });
        self.put(part);
    }

    pub(super) fn release(&mut self, run: &ReleasedRun, at: UnixMillis) {
        let Some(entry) = self.entry(&run.key.task) else { return };
        let task = entry.task.clone();
        let Some(mut part) = entry.part(run.key.part).map(|part| RemotePart::clone(part)) else {
            return;
        };
        let Some(assignment) = part.assignment.take() else { return };
        if part.outcome.is_some() || part.epoch != run.key.epoch {
            return;
        }
        let lost = PartOutcome::new(PartEnd::Lost, at);
        let lost = lost.with_error(Some(&assignment.node), run.cause.text());
        part = match task.ending.is_some() {
            true => stopped(part, &task, lost),
            false if assignment.repeatable && part.has_tries_left(task.tries) => {
                RemotePart { failure: Some(Box::new(lost)), ..part }
            }
            false => settled(part, lost),
        };
        self.put(part);
    }

    /// Settles a part that waits for another node, of which there is none.
    pub(super) fn give_up(&mut self, key: &RunKey, at: UnixMillis) {
        let Some(entry) = self.entry(&key.task) else { return };
        let Some(part) = entry.part(key.part).filter(|part| part.is_waiting()) else { return };
        let part = RemotePart::clone(part);
        if part.epoch == key.epoch
            && let Some(failure) = part.failure.clone()
        {
            self.put(settled(part, PartOutcome { at, ..*failure }));
        }
    }

    pub(super) fn finish(self, at: UnixMillis) -> Vec<RemoteChange> {
        let finished = self.entries.values().filter_map(|entry| entry.finish(at));
        let finished = finished.map(|task| RemoteChange::Put(Arc::new(task)));
        let room = make_room(self.table, TableTotals { bytes: self.added, parts: 0 });
        let changed = self.changed.values().cloned().map(RemoteChange::PutPart);
        changed.chain(finished).chain(room).collect()
    }
}

/// A report as far as there is room for it.
struct FittedReport {
    report: RunReport,
    left_out: bool,
}

impl FittedReport {
    fn outcome(&self, end: PartEnd, node: &str, at: UnixMillis) -> PartOutcome {
        let outcome = PartOutcome::of_report(end, node, &self.report, at);
        PartOutcome { left_out: self.left_out, ..outcome }
    }
}

/// A part after the report of the run that does it.
fn with_report(
    part: RemotePart,
    task: &RemoteTask,
    node: &str,
    fitted: &FittedReport,
    at: UnixMillis,
) -> RemotePart {
    let is_repeatable = part.assignment.as_ref().is_some_and(|to| to.repeatable);
    let part = RemotePart { assignment: None, ..part };
    let outcome = |end| fitted.outcome(end, node, at);
    let again =
        |part: RemotePart, end| RemotePart { failure: Some(Box::new(outcome(end))), ..part };
    let may_again = task.ending.is_none() && part.has_tries_left(task.tries);
    match fitted.report.state {
        RunState::Succeeded => settled(part, outcome(PartEnd::Succeeded)),
        // Running is no report of the end.
        RunState::Failed | RunState::Running if may_again && is_repeatable => {
            again(part, PartEnd::Failed)
        }
        RunState::Failed | RunState::Running => settled(part, outcome(PartEnd::Failed)),
        RunState::Refused if may_again => again(part, PartEnd::Failed),
        RunState::Refused if task.ending.is_some() => stopped(part, task, outcome(PartEnd::Missed)),
        RunState::Refused => settled(part, outcome(PartEnd::Failed)),
        RunState::Stopped if task.ending.is_some() => stopped(part, task, outcome(PartEnd::Failed)),
        RunState::Stopped if may_again && is_repeatable => again(part, PartEnd::Lost),
        RunState::Stopped => settled(part, outcome(PartEnd::Lost)),
    }
}

/// A part that was stopped because its task ends.
fn stopped(part: RemotePart, task: &RemoteTask, outcome: PartOutcome) -> RemotePart {
    let cancelled = task.ending.as_ref().is_some_and(|ending| ending.cancelled);
    let late = || Some("期限已过 / it was not done in time".to_owned());
    let outcome = match cancelled {
        true => PartOutcome { end: PartEnd::Cancelled, ..outcome },
        false => PartOutcome { end: PartEnd::Missed, error: late(), ..outcome },
    };
    settled(part, outcome)
}

fn settled(part: RemotePart, outcome: PartOutcome) -> RemotePart {
    RemotePart { assignment: None, failure: None, outcome: Some(Box::new(outcome)), ..part }
}
