//! All tasks.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    dispatch::{TaskFiles, TaskId},
    package::Sha256,
};

use super::{DispatchTask, FileRemoval, SenderKey};
use crate::refusal::RequestError;

/// The files of a finished task are kept for this time, for a retry.
const KEPT_FOR_RETRY: Duration = Duration::from_secs(24 * 3600);

/// The tasks by id, which is the order of their creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DispatchTable {
    tasks: BTreeMap<TaskId, Arc<DispatchTask>>,
    files: BTreeMap<TaskId, Arc<TaskFiles>>,
}

/// A change of a task's document, or of that of its files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DispatchChange {
    Put(Arc<DispatchTask>),
    PutFiles(TaskId, Arc<TaskFiles>),
    /// With its files.
    Remove(TaskId),
}

impl DispatchTable {
    pub(crate) fn new(
        tasks: impl IntoIterator<Item = DispatchTask>,
        files: impl IntoIterator<Item = (TaskId, TaskFiles)>,
    ) -> Self {
        let tasks = tasks.into_iter().map(|task| (task.id.clone(), Arc::new(task)));
        let files = files.into_iter().map(|(id, files)| (id, Arc::new(files)));
        Self { tasks: tasks.collect(), files: files.collect() }
    }

    pub(crate) fn find(&self, id: &TaskId) -> Option<&Arc<DispatchTask>> {
        self.tasks.get(id)
    }

    pub(crate) fn get(&self, id: &TaskId) -> Result<&Arc<DispatchTask>, RequestError> {
        self.find(id).ok_or_else(|| RequestError::UnknownTask(id.to_string()))
    }

    /// The task that was created with a key. Fails if that is another one than is sent with
    /// it now.
    pub(crate) fn with_key(
        &self,
        key: &SenderKey,
    ) -> Result<Option<&Arc<DispatchTask>>, RequestError> {
        let has_key =
            |task: &&Arc<DispatchTask>| task.key.as_ref().is_some_and(|kept| kept.key == key.key);
        match self.iter().find(has_key) {
            Some(task) if task.key.as_ref() != Some(key) => {
                Err(RequestError::OtherTask(key.key.clone()))
            }
            found => Ok(found),
        }
    }

    pub(crate) fn files(&self, id: &TaskId) -> Option<&Arc<TaskFiles>> {
        self.files.get(id)
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<DispatchTask>> {
        self.tasks.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The tasks that nodes have something to do for.
    pub(crate) fn open_tasks(&self) -> impl Iterator<Item = &Arc<DispatchTask>> {
        let is_removing = |removal: &FileRemoval| removal.done_at.is_none();
        self.iter().filter(move |task| {
            !task.phase.is_finished() || task.removal.as_ref().is_some_and(is_removing)
        })
    }

    /// The digests of all files that may still be asked for.
    pub(crate) fn named_blobs(&self, now: UnixMillis) -> HashSet<Sha256> {
        let is_needed = |task: &&Arc<DispatchTask>| {
            task.finished_at.is_none_or(|at| now.saturating_since(at) < KEPT_FOR_RETRY)
        };
        let files = self.iter().filter(is_needed).filter_map(|task| self.files.get(&task.id));
        files.flat_map(|files| files.files.iter().map(|file| file.sha256)).collect()
    }

    pub(crate) fn merge(&mut self, changes: &[DispatchChange]) {
        for change in changes {
            match change {
                DispatchChange::Put(task) => drop(self.tasks.insert(task.id.clone(), task.clone())),
                DispatchChange::PutFiles(id, files) => {
                    self.files.insert(id.clone(), files.clone());
                }
                DispatchChange::Remove(id) => {
                    self.tasks.remove(id);
                    self.files.remove(id);
                }
            }
        }
    }
}
