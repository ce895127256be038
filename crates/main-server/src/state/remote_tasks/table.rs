//! All tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::RemoteTaskId;

use super::{RemotePart, RemoteTask, TaskEntry};
use crate::refusal::RequestError;

/// The tasks by id, which is the order of their creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RemoteTaskTable {
    open: BTreeMap<RemoteTaskId, Arc<TaskEntry>>,
    finished: Arc<BTreeMap<RemoteTaskId, Arc<TaskEntry>>>,
    /// Finished ones in the order of their end.
    ended: Arc<BTreeSet<(UnixMillis, RemoteTaskId)>>,
    /// By the keys that programs gave them.
    keys: Arc<BTreeMap<String, RemoteTaskId>>,
    /// The parts that are given to each node. Another pointer: what it is told may differ.
    runs: BTreeMap<Arc<str>, Arc<NodeRuns>>,
    open_totals: TableTotals,
    finished_totals: TableTotals,
}

/// The room that some tasks take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableTotals {
    pub(crate) bytes: usize,
    /// Parts that are kept or will be.
    pub(crate) parts: usize,
}

/// The parts that are given to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeRuns {
    parts: BTreeSet<(RemoteTaskId, u32)>,
}

/// A change of a task's document, or of that of a part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RemoteChange {
    Put(Arc<RemoteTask>),
    PutPart(Arc<RemotePart>),
    /// With its parts, the numbers of which are here.
    Remove(RemoteTaskId, Arc<[u32]>),
}

impl NodeRuns {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RemoteTaskId, u32)> {
        self.parts.iter().map(|(id, number)| (id, *number))
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }
}

impl RemoteTaskTable {
    pub(crate) fn new(
        tasks: impl IntoIterator<Item = RemoteTask>,
        parts: impl IntoIterator<Item = RemotePart>,
    ) -> Self {
        let mut table = Self::default();
        let tasks = tasks.into_iter().map(|task| RemoteChange::Put(Arc::new(task)));
        let parts = parts.into_iter().map(|part| RemoteChange::PutPart(Arc::new(part)));
        table.merge(&tasks.chain(parts).collect::<Vec<_>>());
        table
    }

    pub(crate) fn find(&self, id: &RemoteTaskId) -> Option<&Arc<TaskEntry>> {
        self.open.get(id).or_else(|| self.finished.get(id))
    }

    pub(crate) fn get(&self, id: &RemoteTaskId) -> Result<&Arc<TaskEntry>, RequestError> {
        self.find(id).ok_or_else(|| RequestError::UnknownTask(id.to_string()))
    }

    pub(crate) fn by_key(&self, key: &str) -> Option<&Arc<TaskEntry>> {
        self.find(self.keys.get(key)?)
    }

    /// Those that are not finished, the oldest first.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Arc<TaskEntry>> {
        self.open.values()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// The newest first, before the one with an id.
    pub(crate) fn newest(
        &self,
        before: Option<&RemoteTaskId>,
    ) -> impl Iterator<Item = &Arc<TaskEntry>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let end = before.map_or(Unbounded, Excluded);
        let mut open = self.open.range((Unbounded, end)).rev().peekable();
        let mut finished = self.finished.range((Unbounded, end)).rev().peekable();
        std::iter::from_fn(move || {
            let is_open_next = match (open.peek(), finished.peek()) {
                (Some((open, _)), Some((finished, _))) => open > finished,
                (open, _) => open.is_some(),
            };
            let next = if is_open_next { open.next() } else { finished.next() };
            next.map(|(_, entry)| entry)
        })
    }

    /// Finished ones, the first to end first.
    pub(crate) fn oldest_finished(&self) -> impl Iterator<Item = &Arc<TaskEntry>> {
        self.ended.iter().filter_map(|(_, id)| self.finished.get(id))
    }

    /// The nodes that something is given to.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<NodeRuns>)> {
        self.runs.iter()
    }

    pub(crate) fn runs_of(&self, node_id: &str) -> Option<&Arc<NodeRuns>> {
        self.runs.get(node_id)
    }

    /// The room that all tasks take.
    pub(crate) fn totals(&self) -> TableTotals {
        let (open, finished) = (self.open_totals, self.finished_totals);
        TableTotals { bytes: open.bytes + finished.bytes, parts: open.parts + finished.parts }
    }

    /// The room of those that make no room for others.
    pub(crate) fn open_totals(&self) -> TableTotals {
        self.open_totals
    }

    pub(crate) fn merge(&mut self, changes: &[RemoteChange]) {
        // A part needs its task; other main servers' changes come in any order.
        for change in changes {
            if let RemoteChange::Put(task) = change {
                self.put(task);
            }
        }
        for change in changes {
            match change {
                RemoteChange::Put(_) => {}
                RemoteChange::PutPart(part) => self.put_part(part),
                RemoteChange::Remove(id, _) => self.remove(id),
            }
        }
    }

    fn put(&mut self, task: &Arc<RemoteTask>) {
        let entry = self.take(&task.id);
        let entry = match entry {
            Some(mut entry) => {
                Arc::make_mut(&mut entry).set_task(task.clone());
                entry
            }
            None => Arc::new(TaskEntry::new(task.clone())),
        };
        if task.ending.is_some() {
            // Its nodes are told to stop it.
            let given = entry.parts().filter(|part| part.outcome.is_none());
            let nodes: BTreeSet<&str> =
                given.filter_map(|part| Some(&*part.assignment.as_ref()?.node)).collect();
            for node in nodes {
                if let Some(runs) = self.runs.get_mut(node) {
                    *runs = Arc::new(NodeRuns::clone(runs));
                }
            }
        }
        if let Some(key) = &task.key
            && self.keys.get(&key.name) != Some(&task.id)
        {
            Arc::make_mut(&mut self.keys).insert(key.name.clone(), task.id.clone());
        }
        self.place(entry);
    }

    fn put_part(&mut self, part: &Arc<RemotePart>) {
        // A part without a task: it was removed meanwhile.
        let Some(mut entry) = self.take(&part.task) else { return };
        let place = (part.task.clone(), part.number);
        let node = |part: &RemotePart| {
            let open = part.assignment.as_ref().filter(|_| part.outcome.is_none());
            open.map(|assignment| Arc::<str>::from(&*assignment.node))
        };
        if let Some(node) = entry.part(part.number).and_then(|before| node(before)) {
            self.release(&node, &place);
        }
        if let Some(node) = node(part) {
            Arc::make_mut(self.runs.entry(node).or_default()).parts.insert(place);
        }
        Arc::make_mut(&mut entry).set_part(part.clone());
        self.place(entry);
    }

    fn remove(&mut self, id: &RemoteTaskId) {
        let Some(entry) = self.take(id) else { return };
        for part in entry.parts() {
            if let Some(assignment) = part.assignment.as_ref().filter(|_| part.outcome.is_none()) {
                self.release(&assignment.node, &(id.clone(), part.number));
            }
        }
        if let Some(key) = &entry.task.key
            && self.keys.get(&key.name) == Some(id)
        {
            Arc::make_mut(&mut self.keys).remove(&key.name);
        }
    }

    fn release(&mut self, node: &str, place: &(RemoteTaskId, u32)) {
        let Some(runs) = self.runs.get_mut(node) else { return };
        let runs = Arc::make_mut(runs);
        runs.parts.remove(place);
        if runs.parts.is_empty() {
            self.runs.remove(node);
        }
    }

    /// Takes an entry out, to be put back changed.
    fn take(&mut self, id: &RemoteTaskId) -> Option<Arc<TaskEntry>> {
        let entry = match self.open.remove(id) {
            Some(entry) => entry,
            None if self.finished.contains_key(id) => {
                let entry = Arc::make_mut(&mut self.finished).remove(id)?;
                if let Some(finish) = entry.task.finished {
                    Arc::make_mut(&mut self.ended).remove(&(finish.at, id.clone()));
                }
                entry
            }
            None => return None,
        };
        let totals = self.totals_of(&entry);
        totals.bytes -= entry.bytes();
        totals.parts -= entry.reserved_parts();
        Some(entry)
    }

    fn totals_of(&mut self, entry: &TaskEntry) -> &mut TableTotals {
        match entry.task.finished {
            Some(_) => &mut self.finished_totals,
            None => &mut self.open_totals,
        }
    }

    fn place(&mut self, entry: Arc<TaskEntry>) {
        let totals = self.totals_of(&entry);
        totals.bytes += entry.bytes();
        totals.parts += entry.reserved_parts();
        let id = entry.task.id.clone();
        match entry.task.finished {
            Some(finish) => {
                Arc::make_mut(&mut self.ended).insert((finish.at, id.clone()));
                Arc::make_mut(&mut self.finished).insert(id, entry);
            }
            None => drop(self.open.insert(id, entry)),
        }
    }
}
