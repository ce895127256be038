//! The files of one task, from the main server onto the disk.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::{backoff::backoff, tasks};
use edge_mirror_protocol::{
    dispatch::{FailedFile, NodeTask, TaskFile, TaskFiles},
    object::{FileKey, ObjectKey, Retention, Verification},
    package::Sha256,
};
use edge_mirror_store::{PendingPackage, Provenance, Store, StoreError, VerifiedObject};
use tracing::{debug, warn};

use super::{
    drop_folder,
    error::FilePullError,
    progress::SharedProgress,
    units::{PullUnit, units},
};
use crate::{
    fetch::{Fetch, files::FilePermit},
    upstream::{AnswerExtent, OriginAnswer, OriginBody, PackageRequest, TransferEvent, Upstream},
};

/// Tries of a file whose bytes are wrong.
const DAMAGE_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes gathered for one write.
const BATCH_BYTES: usize = 256 << 10;
/// A larger file becomes durable while it comes.
const LARGE_BYTES: u64 = 4 << 20;

/// The way in which a pull of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    Done,
    Failed,
    /// The main server does not know it any more.
    Gone,
}

/// The file of which a part is here. It outlasts a pull that is given up for a more urgent
/// task, or broken off.
#[derive(Debug, Default)]
pub(super) struct PartialTaskFile(Mutex<Option<(ObjectKey, Sha256, PendingPackage)>>);

impl PartialTaskFile {
    fn lock(&self) -> MutexGuard<'_, Option<(ObjectKey, Sha256, PendingPackage)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets it, and removes what is here of it.
    pub(super) fn clear(&self) {
        let forgotten = self.lock().take();
        tasks::block_in_place(|| drop(forgotten));
    }

    /// Bytes that are here of this very file.
    fn received(&self, key: &ObjectKey, sha256: Sha256) -> Option<u64> {
        let slot = self.lock();
        let (_, _, pending) = slot.as_ref().filter(|held| held.0 == *key && held.1 == sha256)?;
        Some(pending.received_bytes())
    }

    fn set(&self, key: ObjectKey, sha256: Sha256, pending: PendingPackage) {
        let before = self.lock().replace((key, sha256, pending));
        tasks::block_in_place(|| drop(before));
    }

    fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut slot = self.lock();
        match slot.as_mut() {
            Some((_, _, pending)) => tasks::block_in_place(|| pending.write(bytes)),
            None => Err(StoreError::Unwanted),
        }
    }

    fn take(&self) -> Option<PendingPackage> {
        self.lock().take().map(|(_, _, pending)| pending)
    }
}

/// A pull of a task's files.
pub(super) struct TaskPull<'a> {
    pub(super) fetch: &'a Fetch,
    pub(super) upstream: &'a Upstream,
    pub(super) node_id: &'a str,
    pub(super) store: &'a Store,
    pub(super) limit_bytes: u64,
    pub(super) task: &'a NodeTask,
    pub(super) partial: &'a PartialTaskFile,
    pub(super) progress: &'a SharedProgress,
    /// The folder for copies, and their mode.
    pub(super) drop: Option<(PathBuf, u32)>,
    pub(super) request_limit: Duration,
}

impl TaskPull<'_> {
    /// Pulls what is missing, until all is here or can't be had. Waits for a main server that
    /// is away.
    pub(super) async fn run(&self) -> TaskEnd {
        let Some(files) = self.file_list().await else { return TaskEnd::Gone };
        let files = Arc::new(files.files);
        for unit in self.missing(&files) {
            if !self.pull_unit(&files, unit).await {
                return TaskEnd::Gone;
            }
        }
        self.drop_files(&files).await;
        if self.progress.has_failures() { TaskEnd::Failed } else { TaskEnd::Done }
    }

    async fn file_list(&self) -> Option<TaskFiles> {
        let mut tries = 0;
        loop {
            let asked = self.upstream.task_files(self.node_id, &self.task.id, self.request_limit);
            match asked.await {
                Ok(files) => return Some(files),
                Err(error) if error.is_not_found() => return None,
                Err(error) => {
                    tries += 1;
                    self.pause(tries, &error).await;
                }
            }
        }
    }

    /// Notes what is here already, and returns the requests for the rest.
    fn missing(&self, files: &[TaskFile]) -> Vec<PullUnit> {
        let is_missing = |file: &TaskFile| {
            let stored = self.key(file).and_then(|key| self.store.get(key));
            stored.is_none_or(|stored| stored.manifest.sha256 != file.sha256)
        };
        let here = files.iter().filter(|file| !is_missing(file));
        let (count, bytes) =
            here.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size));
        self.progress.begin(count, bytes);
        units(files, is_missing)
    }

    /// None for a name that no main server of ours sends.
    fn key(&self, file: &TaskFile) -> Option<ObjectKey> {
        FileKey::new(self.task.id.as_str(), &file.name).ok().map(ObjectKey::from)
    }

    /// False if the task is gone. Files that can't be had are noted.
    async fn pull_unit(&self, files: &Arc<Vec<TaskFile>>, unit: PullUnit) -> bool {
        let (mut tries, mut damaged) = (0, 0);
        loop {
            let permit = self.fetch.file_permit().await;
            let pulled = match unit.len() {
                1 => self.pull_file(&files[unit.start], unit.start, &permit).await,
                _ => self.pull_bundle(files, unit.clone(), &permit).await,
            };
            drop(permit);
            let error = match pulled {
                Ok(()) => return true,
                Err(FilePullError::Preempted) => continue,
                Err(error) if error.is_gone() => return false,
                Err(error) => error,
            };
            damaged += u32::from(error.is_damage());
            if error.is_of_file() && (!error.is_damage() || damaged >= DAMAGE_TRIES) {
                // Of several, those whose bytes are good come one by one.
                if unit.len() > 1 {
                    for number in unit {
                        if !Box::pin(self.pull_unit(files, number..number + 1)).await {
                            return false;
                        }
                    }
                    return true;
                }
                let file = &files[unit.start];
                warn!("file {} of task {} can't be had: {error}", file.name, self.task.id);
                self.progress.note_failed(unit.start, FailedFile::new(&file.name, error));
                return true;
            }
            tries += 1;
            self.pause(tries, &error).await;
        }
    }

    async fn pause(&self, tries: u32, error: &(dyn std::error::Error + Sync)) {
        let pause = backoff(tries, FIRST_PAUSE, LONGEST_PAUSE, fastrand::f64());
        debug!("task {}: next try in {:.1} s: {error}", self.task.id, pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }

    async fn pull_file(
        &self,
        file: &TaskFile,
        number: usize,
        permit: &FilePermit,
    ) -> Result<(), FilePullError> {
        let unnamed = || FilePullError::Unusable("its name is no relative path".to_owned());
        let key = self.key(file).ok_or_else(unnamed)?;
        let received = self.partial.received(&key, file.sha256);
        if received.is_none() {
            let pending = tasks::block_in_place(|| self.begin(&key, file.size))?;
            self.partial.set(key.clone(), file.sha256, pending);
        }
        let first = received.unwrap_or(0);
        if first < file.size || file.size == 0 {
            let etag = format!("\"{}\"", file.sha256);
            let wanted = match first {
                0 => PackageRequest::Whole,
                first => PackageRequest::Rest { first, total: Some(file.size), etag: &etag },
            };
            let asked = self.upstream.task_file(self.node_id, (&self.task.id, number), wanted);
            let OriginAnswer { extent, mut body, .. } = asked.await?;
            match (extent, first) {
                (AnswerExtent::Whole { .. }, 0) | (AnswerExtent::Rest, 1..) => {}
                (AnswerExtent::Unusable(reason), _) => return Err(FilePullError::Unusable(reason)),
                _ => {
                    // Of another version, or from the beginning.
                    self.partial.clear();
                    return Err(FilePullError::Unusable("it is not the rest".to_owned()));
                }
            }
            let received = self.receive(&mut body, permit, file.size - first, |bytes| {
                Ok(self.partial.write(bytes)?)
            });
            received.await?;
        }
        let pending = self.partial.take().ok_or(StoreError::Unwanted)?;
        let (announced, provenance) = (Some(file.sha256), self.provenance(file));
        tasks::blocking(move || {
            pending.commit(Verification::Digest, announced, provenance, || true)
        })
        .await?;
        self.progress.note_done(1, file.size);
        Ok(())
    }

    /// Receives so many bytes, and hands them on in batches.
    async fn receive(
        &self,
        body: &mut OriginBody,
        permit: &FilePermit,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), FilePullError>,
    ) -> Result<(), FilePullError> {
        body.start(self.fetch.file_limits());
        let mut left = length;
        let mut batch =
            Vec::with_capacity(BATCH_BYTES.min(usize::try_from(length).unwrap_or(BATCH_BYTES)));
        loop {
            let next = permit.preempted().run_until_cancelled(body.next(None)).await;
            let event = match next {
                Some(Ok(event)) => event,
                stopped => {
                    // What has come is kept.
                    take(&batch)?;
                    return Err(match stopped {
                        Some(Err(error)) => error.into(),
                        _ => FilePullError::Preempted,
                    });
                }
            };
            let chunk = match event {
                TransferEvent::Chunk(chunk) => chunk,
                TransferEvent::Waited => continue,
                TransferEvent::End => break,
            };
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                FilePullError::Unusable("more bytes come than the file has".to_owned())
            })?;
            let held_up = self.fetch.account(chunk.len()).await;
            body.resume_after(held_up);
            batch.extend_from_slice(&chunk);
            if batch.len() >= BATCH_BYTES {
                take(&batch)?;
                batch.clear();
            }
        }
        take(&batch)?;
        match left {
            0 => Ok(()),
            _ => Err(FilePullError::Broken("the answer ended".to_owned())),
        }
    }

    /// Begins a file; evicts others for it if need be. Blocks.
    fn begin(&self, key: &ObjectKey, bytes: u64) -> Result<PendingPackage, StoreError> {
        let begin = || self.store.begin(key, Some(bytes), self.limit_bytes);
        let begun = match begin() {
            Err(StoreError::NoRoom(_)) if self.fetch.make_room_for_file(self.store, key, bytes) => {
                begin()
            }
            other => other,
        };
        begun.map(|mut pending| {
            if bytes >= LARGE_BYTES {
                pending.sync_while_receiving();
            }
            pending
        })
    }

    fn provenance(&self, file: &TaskFile) -> Provenance {
        let retention = self.task.keep_until.map_or(Retention::Keep, Retention::Until);
        Provenance::of_file(file.name.clone(), retention, self.task.open)
    }

    /// Small files in one answer. All come, or none.
    async fn pull_bundle(
        &self,
        files: &Arc<Vec<TaskFile>>,
        unit: PullUnit,
        permit: &FilePermit,
    ) -> Result<(), FilePullError> {
        let place = (unit.start, unit.len());
        let asked = self.upstream.task_bundle(self.node_id, &self.task.id, place);
        let OriginAnswer { extent, mut body, .. } = asked.await?;
        if let AnswerExtent::Unusable(reason) = extent {
            return Err(FilePullError::Unusable(reason));
        }
        let length: u64 = files[unit.clone()].iter().map(|file| file.size).sum();
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let gather = |batch: &[u8]| {
            bytes.extend_from_slice(batch);
            Ok(())
        };
        self.receive(&mut body, permit, length, gather).await?;
        let count = unit.len() as u64;
        tasks::block_in_place(|| self.place_bundle(&files[unit], &bytes))?;
        self.progress.note_done(count, length);
        Ok(())
    }

    /// Verifies the files of an answer, and puts them in place together. Blocks.
    fn place_bundle(&self, files: &[TaskFile], mut bytes: &[u8]) -> Result<(), FilePullError> {
        let mut objects: Vec<VerifiedObject> = Vec::with_capacity(files.len());
        for file in files {
            let unnamed = || FilePullError::Unusable("its name is no relative path".to_owned());
            let key = self.key(file).ok_or_else(unnamed)?;
            let size = usize::try_from(file.size).unwrap_or(usize::MAX);
            let ended = || FilePullError::Unusable("the answer is too short".to_owned());
            let own = bytes.split_off(..size).ok_or_else(ended)?;
            let mut pending = self.begin(&key, file.size)?;
            pending.write(own)?;
            let verified = pending.verify(Verification::Digest, Some(file.sha256))?;
            objects.push((verified, self.provenance(file)));
        }
        Ok(self.store.place_all(objects)?)
    }

    /// Copies all that is here to the folder for copies, if there is one.
    async fn drop_files(&self, files: &Arc<Vec<TaskFile>>) {
        let Some((folder, mode)) = self.drop.clone() else { return };
        let (store, files, task) = (self.store.clone(), files.clone(), self.task.id.clone());
        let failed = tasks::blocking(move || {
            let mut failed = Vec::new();
            for (number, file) in files.iter().enumerate() {
                let Ok(key) = FileKey::new(task.as_str(), &file.name) else { continue };
                let Some(source) = store.file_path(&key.into()) else { continue };
                if let Err(error) = drop_folder::place(&source, &folder, &file.name, mode) {
                    let reason = format!("it could not be copied to dispatch.dropFolder: {error}");
                    failed.push((number, FailedFile::new(&file.name, reason)));
                }
            }
            failed
        });
        for (number, file) in failed.await {
            warn!("file {} of task {}: {}", file.name, self.task.id, file.reason);
            self.progress.note_failed(number, file);
        }
    }
}
