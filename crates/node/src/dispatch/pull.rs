//! The files of one task, from the main server onto the disk.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use edge_mirror_base::{backoff::backoff, pacer::Pacer, tasks};
use edge_mirror_protocol::{
    dispatch::{FailedFile, MAX_BUNDLE_BYTES, NodeFiles, NodeTask, TaskFile},
    object::{FileKey, ObjectKey, Retention, Verification},
};
use edge_mirror_store::{PendingPackage, Provenance, Store, StoreError, VerifiedObject};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::{
    drop_folder,
    error::FilePullError,
    partial::{PartialTaskFile, ReceivedFile},
    progress::SharedProgress,
    source::{FileParents, NumberedFile},
    units::{PullUnit, complete_prefix, units},
};
use crate::{
    fetch::{Fetch, files::FilePermit},
    upstream::{AnswerExtent, OriginAnswer, OriginBody, TransferEvent, Upstream},
};

/// Tries of a file whose bytes are wrong.
const DAMAGE_TRIES: u32 = 3;
/// Tries of a file of which a part is here, while the main server does not send the rest.
const REST_TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes gathered for one write, at most and at least.
const BATCH_BYTES: usize = 256 << 10;
const LEAST_BATCH_BYTES: usize = 4 << 10;
/// Seconds that a limited task takes for one answer with small files, so that others have
/// their turn.
const LONGEST_BUNDLE_S: u64 = 5;
/// A larger file becomes durable while it comes.
const LARGE_BYTES: u64 = 4 << 20;

/// The way in which a pull of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    Done,
    Failed,
    /// The main server does not know it any more.
    Gone,
    /// Files are left that the main server has not sent.
    Waiting {
        absent: bool,
    },
}

/// The way in which a request for files ended.
enum UnitEnd {
    /// They are here, or can't be had.
    Settled,
    Waiting {
        absent: bool,
    },
}

/// A pull of a task's files.
pub(super) struct TaskPull<'a> {
    pub(super) fetch: &'a Fetch,
    pub(super) upstream: &'a Upstream,
    pub(super) node_id: &'a str,
    pub(super) store: &'a Store,
    pub(super) limit_bytes: u64,
    /// Most bytes of all files.
    pub(super) files_limit: u64,
    pub(super) task: &'a NodeTask,
    pub(super) partial: &'a PartialTaskFile,
    pub(super) progress: &'a SharedProgress,
    /// The folder for copies, and their mode.
    pub(super) drop: Option<(PathBuf, u32)>,
    pub(super) request_limit: Duration,
    /// The task's own limit.
    pub(super) pacer: Pacer,
    /// The nodes to ask before the main server.
    pub(super) parents: FileParents,
    /// A file that the main server does not have has failed: it was asked for often enough.
    pub(super) gives_up: bool,
    /// Held by a commit until it is over, even if the pull is not any more.
    pub(super) commits: &'a Arc<Mutex<()>>,
}

impl TaskPull<'_> {
    /// Pulls what is missing, until all is here or can't be had. Waits for a main server that
    /// is away.
    pub(super) async fn run(&self) -> TaskEnd {
        let Some(files) = self.file_list().await else { return TaskEnd::Gone };
        if !files.parents.is_empty() && self.fetch.can_relay().await {
            self.parents.set(files.parents);
        }
        let files = Arc::new(files.files);
        let mut waiting = None;
        for unit in self.missing(&files) {
            if let UnitEnd::Waiting { absent } = self.pull_unit(&files, unit).await {
                waiting = Some(absent || waiting.unwrap_or(false));
            }
        }
        if let Some(absent) = waiting {
            return TaskEnd::Waiting { absent };
        }
        self.drop_files(&files).await;
        if self.progress.has_failures() { TaskEnd::Failed } else { TaskEnd::Done }
    }

    async fn file_list(&self) -> Option<NodeFiles> {
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
        let seconds = |rate: u64| rate.saturating_mul(LONGEST_BUNDLE_S);
        let most = self.task.rate_limit.map_or(MAX_BUNDLE_BYTES, seconds).min(MAX_BUNDLE_BYTES);
        units(files, most, is_missing)
    }

    /// None for a name that no main server of ours sends.
    fn key(&self, file: &TaskFile) -> Option<ObjectKey> {
        FileKey::new(self.task.id.as_str(), &file.name).ok().map(ObjectKey::from)
    }

    /// Pulls files; those that can't be had are noted.
    async fn pull_unit(&self, files: &Arc<Vec<TaskFile>>, mut unit: PullUnit) -> UnitEnd {
        let (mut tries, mut damaged) = (0, 0);
        while !unit.is_empty() {
            let permit = self.fetch.file_permit().await;
            let pulled = match unit.len() {
                1 => self.pull_file(&files[unit.start], unit.start, &permit).await,
                _ => self.pull_bundle(files, &mut unit, &permit).await,
            };
            drop(permit);
            let error = match pulled {
                Ok(()) => return UnitEnd::Settled,
                // Each loss leaves fewer parents.
                Err(FilePullError::Preempted | FilePullError::ParentLost) => continue,
                Err(error) => error,
            };
            tries += 1;
            damaged += u32::from(error.is_damage());
            let file = &files[unit.start];
            let is_hopeless = match error.is_of_file() {
                true => !error.is_damage() || damaged >= DAMAGE_TRIES,
                false => error.is_absence() && self.gives_up,
            };
            if is_hopeless && unit.len() > 1 {
                // Those that can be had come one by one.
                return self.pull_singly(files, unit).await;
            }
            if is_hopeless {
                warn!("file {} of task {} can't be had: {error}", file.name, self.task.id);
                self.progress.note_failed(unit.start, FailedFile::new(&file.name, error.reason()));
                self.progress.note_part(0);
                return UnitEnd::Settled;
            }
            // Another file would take the place of a part that is here.
            if error.is_refusal() && (tries >= REST_TRIES || !self.has_part(file)) {
                debug!("file {} of task {} has to wait: {error}", file.name, self.task.id);
                return UnitEnd::Waiting { absent: error.is_absence() };
            }
            self.pause(tries, &error).await;
        }
        UnitEnd::Settled
    }

    async fn pull_singly(&self, files: &Arc<Vec<TaskFile>>, unit: PullUnit) -> UnitEnd {
        let mut end = UnitEnd::Settled;
        for number in unit {
            if let waiting @ UnitEnd::Waiting { .. } =
                Box::pin(self.pull_unit(files, number..number + 1)).await
            {
                end = waiting;
            }
        }
        end
    }

    fn has_part(&self, file: &TaskFile) -> bool {
        let key = self.key(file);
        key.and_then(|key| self.partial.received(&key, file.sha256)).is_some_and(|bytes| bytes > 0)
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
            self.check_share(file.size)?;
            let pending = tasks::block_in_place(|| self.begin(&key, file.size))?;
            let part = ReceivedFile::new(key.clone(), file.sha256, file.size, pending);
            self.partial.begin(part, self.fetch);
        }
        let first = received.unwrap_or(0);
        if first < file.size || file.size == 0 {
            let numbered = NumberedFile { file, number, key: &key };
            self.receive_rest(numbered, first, permit).await?;
        }
        self.commit(file).await
    }

    /// Verifies the file that has come, and puts it in place.
    async fn commit(&self, file: &TaskFile) -> Result<(), FilePullError> {
        let part = self.partial.take().ok_or(StoreError::Unwanted)?;
        let ReceivedFile { pending, writer, is_relayed, .. } = part;
        if let Some(writer) = &writer {
            writer.set_received(pending.received_bytes());
        }
        let (announced, provenance) = (Some(file.sha256), self.provenance(file));
        let turn = self.commits.clone().lock_owned().await;
        let committing = tasks::blocking(move || {
            let _turn = turn;
            pending.commit(Verification::Digest, announced, provenance, || true)
        });
        let committed = committing.await;
        // Whoever comes now finds it in the store, or its room is free again.
        self.fetch.unshare_file();
        let stored = match committed {
            Ok(stored) => stored,
            Err(error) if self.blames_parents(&error, is_relayed) => {
                return Err(FilePullError::ParentLost);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(writer) = writer {
            writer.verified(&stored, None);
        }
        self.progress.note_done(1, file.size);
        Ok(())
    }

    /// Bytes gathered for one write: of a slow task about a second's, as other nodes wait for
    /// them.
    fn batch_bytes(&self) -> usize {
        let rate = self.task.rate_limit.and_then(|rate| usize::try_from(rate).ok());
        rate.map_or(BATCH_BYTES, |rate| rate.clamp(LEAST_BATCH_BYTES, BATCH_BYTES))
    }

    /// Receives so many bytes, and hands them on in batches.
    pub(super) async fn receive(
        &self,
        body: &mut OriginBody,
        permit: &FilePermit,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), FilePullError>,
    ) -> Result<(), FilePullError> {
        body.start(self.fetch.file_limits());
        let mut left = length;
        let (batch_bytes, mut batch) = (self.batch_bytes(), Vec::new());
        let mut yielding = pin!(self.fetch.wait_to_yield(permit));
        loop {
            let next = tokio::select! {
                biased;
                () = &mut yielding => None,
                next = body.next(None) => Some(next),
            };
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
            batch.extend_from_slice(&chunk);
            if batch.len() >= batch_bytes {
                take(&batch)?;
                batch.clear();
            }
            let paced = async {
                self.fetch.account(chunk.len()).await + self.pacer.throttle(chunk.len()).await
            };
            let held_up = tokio::select! {
                biased;
                () = &mut yielding => {
                    take(&batch)?;
                    return Err(FilePullError::Preempted);
                }
                held_up = paced => held_up,
            };
            body.resume_after(held_up);
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
            Err(StoreError::NoRoom(_))
                if self.fits_share() && self.fetch.make_room_for_file(self.store, key, bytes) =>
            {
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

    /// Fails where files would take more than their share of the storage.
    fn check_share(&self, bytes: u64) -> Result<(), StoreError> {
        let (limit, after) = (self.files_limit, self.store.file_bytes().saturating_add(bytes));
        if after > limit {
            return Err(StoreError::NoRoom(format!(
                "files may take {limit} bytes here, and would take {after}; see dispatch.maxSize in the node's configuration"
            )));
        }
        Ok(())
    }

    /// True if all files of the task can be here: no package goes for a part of them.
    fn fits_share(&self) -> bool {
        let is_of_others = |key: &ObjectKey| matches!(key, ObjectKey::File(file) if file.task() != self.task.id.as_str());
        let stored = self.store.list();
        let others = stored.iter().filter(|stored| is_of_others(&stored.manifest.key));
        let others: u64 = others.map(|stored| stored.manifest.size_bytes).sum();
        others.saturating_add(self.task.bytes) <= self.files_limit
    }

    fn provenance(&self, file: &TaskFile) -> Provenance {
        let retention = self.task.keep_until.map_or(Retention::Keep, Retention::Until);
        Provenance::of_file(file.name.clone(), retention, self.task.open)
    }

    /// Small files in one answer. Those that have come whole are left out of the next one.
    async fn pull_bundle(
        &self,
        files: &Arc<Vec<TaskFile>>,
        unit: &mut PullUnit,
        permit: &FilePermit,
    ) -> Result<(), FilePullError> {
        let length: u64 = files[unit.clone()].iter().map(|file| file.size).sum();
        self.check_share(length)?;
        let place = (unit.start, unit.len());
        let asked = self.upstream.task_bundle(self.node_id, &self.task.id, place);
        let OriginAnswer { extent, mut body, .. } = asked.await?;
        if let AnswerExtent::Unusable(reason) = extent {
            return Err(FilePullError::Unusable(reason));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let gather = |batch: &[u8]| {
            bytes.extend_from_slice(batch);
            Ok(())
        };
        let received = self.receive(&mut body, permit, length, gather).await;
        let (count, length) = complete_prefix(&files[unit.clone()], bytes.len() as u64);
        let whole = unit.start..unit.start + count;
        tasks::block_in_place(|| self.place_bundle(&files[whole], &bytes))?;
        self.progress.note_done(count as u64, length);
        unit.start += count;
        received
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
                    let reason = format!(
                        "无法复制到 dispatch.dropFolder：{error} / it could not be copied to dispatch.dropFolder: {error}"
                    );
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
