//! Progress of the task that is being pulled, as it is reported.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use edge_mirror_protocol::dispatch::{
    FailedFile, MAX_FAILED_FILES, NodeTask, NodeTaskState, TaskReport,
};

/// The files that are here, and those that can't be had.
#[derive(Clone, Debug, Default)]
struct TaskProgress {
    done_files: u64,
    done_bytes: u64,
    /// Bytes of the file that is under way.
    part_bytes: u64,
    failed: BTreeMap<usize, FailedFile>,
}

/// Shared by the one who pulls and the one who reports.
#[derive(Debug, Default)]
pub(super) struct SharedProgress(Mutex<TaskProgress>);

impl SharedProgress {
    fn lock(&self) -> MutexGuard<'_, TaskProgress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, done_files: u64, done_bytes: u64) {
        *self.lock() = TaskProgress { done_files, done_bytes, ..TaskProgress::default() };
    }

    pub(super) fn note_done(&self, files: u64, bytes: u64) {
        let mut progress = self.lock();
        progress.done_files += files;
        progress.done_bytes += bytes;
        progress.part_bytes = 0;
    }

    /// Notes how many bytes are here of the file that is under way.
    pub(super) fn note_part(&self, bytes: u64) {
        self.lock().part_bytes = bytes;
    }

    pub(super) fn note_failed(&self, number: usize, file: FailedFile) {
        self.lock().failed.insert(number, file);
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.lock().failed.is_empty()
    }

    pub(super) fn report(&self, task: &NodeTask, state: NodeTaskState) -> TaskReport {
        let TaskProgress { done_files, done_bytes, part_bytes, failed } = self.lock().clone();
        TaskReport {
            id: task.id.clone(),
            attempt: task.attempt,
            state,
            done_files,
            done_bytes,
            received_bytes: done_bytes.saturating_add(part_bytes),
            failed_count: failed.len() as u64,
            failed: failed.into_values().take(MAX_FAILED_FILES).collect(),
        }
    }
}
