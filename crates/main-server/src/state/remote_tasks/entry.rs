//! A task with its parts, and how far it is.

use std::{collections::BTreeMap, sync::Arc};

use edge_mirror_base::clock::UnixMillis;

use super::{
    PartEnd, PartSpan, RemotePart, RemoteTask, RemoteTaskPhase, TaskSpread, task::TaskFinish,
};

/// A task, and those of its parts that were given to a node or have an outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskEntry {
    pub(crate) task: Arc<RemoteTask>,
    parts: BTreeMap<u32, Arc<RemotePart>>,
    progress: PartCounts,
    /// Items that are in parts.
    cut: u32,
    bytes: usize,
    result_bytes: usize,
}

/// Parts by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartCounts {
    pub(crate) running: usize,
    /// By [`PartEnd`].
    ends: [usize; 5],
    /// Parts that are kept.
    pub(crate) known: usize,
}

impl PartCounts {
    pub(crate) fn ended(&self, end: PartEnd) -> usize {
        self.ends[end as usize]
    }

    pub(crate) fn settled(&self) -> usize {
        self.ends.iter().sum()
    }

    fn add(&mut self, part: &RemotePart, is_added: bool) {
        let step = |count: &mut usize| match is_added {
            true => *count += 1,
            false => *count -= 1,
        };
        step(&mut self.known);
        match (&part.outcome, &part.assignment) {
            (Some(outcome), _) => step(&mut self.ends[outcome.end as usize]),
            (None, Some(_)) => step(&mut self.running),
            (None, None) => {}
        }
    }
}

impl TaskEntry {
    pub(crate) fn new(task: Arc<RemoteTask>) -> Self {
        let bytes = task.bytes();
        let progress = PartCounts::default();
        Self { task, parts: BTreeMap::new(), progress, cut: 0, bytes, result_bytes: 0 }
    }

    pub(crate) fn part(&self, number: u32) -> Option<&Arc<RemotePart>> {
        self.parts.get(&number)
    }

    /// Those that were given to a node or have an outcome.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Arc<RemotePart>> {
        self.parts.values()
    }

    pub(crate) fn progress(&self) -> PartCounts {
        self.progress
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Items of a split task that are in no part yet.
    pub(crate) fn uncut(&self) -> PartSpan {
        let count = u32::try_from(self.task.items.len()).unwrap_or(u32::MAX);
        PartSpan { first: self.cut, count: count.saturating_sub(self.cut) }
    }

    /// The number of the next part of a split task.
    pub(crate) fn next_part(&self) -> u32 {
        self.parts.last_key_value().map_or(0, |(number, _)| number + 1)
    }

    /// Parts that there are as far as one knows.
    pub(crate) fn total_parts(&self) -> usize {
        let is_uncut = usize::from(self.uncut().count > 0);
        self.task.fixed_parts().unwrap_or(self.parts.len() + is_uncut)
    }

    /// Parts that are kept or will be, as far as one knows.
    pub(crate) fn reserved_parts(&self) -> usize {
        self.progress.known.max(self.task.fixed_parts().unwrap_or_default())
    }

    /// Parts that no node has and that have no outcome.
    pub(crate) fn waiting_parts(&self) -> usize {
        let taken = self.progress.settled() + self.progress.running;
        self.total_parts().saturating_sub(taken)
    }

    /// A part that may not be kept yet, as those that wait are.
    pub(crate) fn part_or_new(&self, number: u32) -> RemotePart {
        let new = || RemotePart::new(&self.task.id, number, PartSpan::default());
        self.part(number).map_or_else(new, |part| RemotePart::clone(part))
    }

    /// The node that a part is for, of a task for every node.
    pub(crate) fn node_of(&self, number: u32) -> Option<&str> {
        match self.task.spread {
            TaskSpread::Every => {
                let nodes = self.task.nodes.as_ref()?;
                nodes.get(number as usize).map(String::as_str)
            }
            TaskSpread::Best | TaskSpread::Split => None,
        }
    }

    pub(crate) fn phase(&self) -> RemoteTaskPhase {
        match (&self.task.finished, &self.task.ending) {
            (Some(finish), _) => finish.phase,
            (None, Some(_)) => RemoteTaskPhase::Cancelling,
            (None, None) if self.progress.known > 0 => RemoteTaskPhase::Running,
            (None, None) => RemoteTaskPhase::Queued,
        }
    }

    pub(super) fn set_task(&mut self, task: Arc<RemoteTask>) {
        self.task = task;
    }

    pub(super) fn set_part(&mut self, part: Arc<RemotePart>) {
        let end = part.span.first.saturating_add(part.span.count);
        self.cut = self.cut.max(end);
        self.progress.add(&part, true);
        self.bytes += part.bytes();
        self.result_bytes += result_bytes(&part);
        if let Some(before) = self.parts.insert(part.number, part) {
            self.progress.add(&before, false);
            self.bytes -= before.bytes();
            self.result_bytes -= result_bytes(&before);
        }
    }

    /// The task as it is once all its parts have an outcome; None before.
    pub(super) fn finish(&self, at: UnixMillis) -> Option<RemoteTask> {
        if self.task.finished.is_some()
            || self.progress.running > 0
            || self.progress.settled() < self.total_parts()
        {
            return None;
        }
        let succeeded = self.progress.ended(PartEnd::Succeeded);
        let was_cancelled = self.task.ending.as_ref().is_some_and(|ending| ending.cancelled);
        let phase = match succeeded {
            all if all == self.progress.settled() => RemoteTaskPhase::Succeeded,
            _ if was_cancelled => RemoteTaskPhase::Cancelled,
            0 => RemoteTaskPhase::Failed,
            _ => RemoteTaskPhase::Partial,
        };
        Some(RemoteTask {
            finished: Some(TaskFinish { phase, at }),
            ..RemoteTask::clone(&self.task)
        })
    }
}

fn result_bytes(part: &RemotePart) -> usize {
    let result = part.outcome.as_ref().and_then(|outcome| outcome.result.as_ref());
    result.map_or(0, super::task::json_bytes)
}
