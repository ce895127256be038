//! Where a file's bytes come from: the nodes that the main server names, the first of them
//! first; then the main server itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_protocol::{
    dispatch::{MAX_BUNDLED_BYTES, TaskFile},
    object::ObjectKey,
    relay::{PIECE_BYTES, Sibling},
};
use edge_mirror_store::StoreError;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{error::FilePullError, pull::TaskPull};
use crate::{
    board::ParentLoss,
    fetch::{files::FilePermit, pieces::PieceDigests},
    upstream::{AnswerExtent, OriginAnswer, OriginBody, PackageRequest, SiblingError},
};

/// A parent without a file is not asked for another one for this time, and longer each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For such a file, parents are asked several times before the main server sends it.
const LARGE_BYTES: u64 = 16 << 20;
const LARGE_ROUNDS: usize = 2;
/// The main server may still be reading a large file for the digests of its pieces.
const DIGEST_PAUSE: Duration = Duration::from_secs(5);

/// The nodes to ask for a task's files, as far as they are of use.
#[derive(Debug, Default)]
pub(super) struct FileParents(Mutex<Vec<FileParent>>);

#[derive(Clone, Debug)]
struct FileParent {
    sibling: Sibling,
    /// Set if it had nothing to send when it was asked last.
    retry_at: Option<Instant>,
    pause: Duration,
}

impl FileParents {
    fn lock(&self) -> MutexGuard<'_, Vec<FileParent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, parents: Vec<Sibling>) {
        let parent = |sibling| FileParent { sibling, retry_at: None, pause: FIRST_PAUSE };
        *self.lock() = parents.into_iter().map(parent).collect();
    }

    /// Those to ask now, the best one first.
    fn available(&self, now: Instant) -> Vec<Sibling> {
        let parents = self.lock();
        let is_available = |parent: &&FileParent| parent.retry_at.is_none_or(|at| at <= now);
        parents.iter().filter(is_available).map(|parent| parent.sibling.clone()).collect()
    }

    fn contains(&self, node_id: &str) -> bool {
        self.lock().iter().any(|parent| parent.sibling.node_id == node_id)
    }

    fn postpone(&self, node_id: &str, now: Instant) {
        let mut parents = self.lock();
        let parent = parents.iter_mut().find(|parent| parent.sibling.node_id == node_id);
        if let Some(parent) = parent {
            parent.retry_at = Some(now + parent.pause);
            parent.pause = (parent.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks a node for nothing more of this task.
    fn leave(&self, node_id: &str) {
        self.lock().retain(|parent| parent.sibling.node_id != node_id);
    }

    /// Leaves all: one of them has sent wrong bytes, and nobody knows which.
    pub(super) fn leave_all(&self) {
        self.lock().clear();
    }
}

/// A file's bytes on their way.
struct FileDownload {
    body: OriginBody,
    /// None: from the main server.
    parent: Option<Sibling>,
}

/// A file, and its number in the task.
#[derive(Clone, Copy)]
pub(super) struct NumberedFile<'a> {
    pub(super) file: &'a TaskFile,
    pub(super) number: usize,
    pub(super) key: &'a ObjectKey,
}

impl TaskPull<'_> {
    /// Receives the rest of a file, of which `first` bytes are here.
    pub(super) async fn receive_rest(
        &self,
        file: NumberedFile<'_>,
        first: u64,
        permit: &FilePermit,
    ) -> Result<(), FilePullError> {
        let opened = tokio::select! {
            biased;
            () = self.fetch.wait_to_yield(permit) => return Err(FilePullError::Preempted),
            opened = self.open(file, first) => opened?,
        };
        let FileDownload { mut body, parent } = opened;
        let length = file.file.size - first;
        let received = match &parent {
            Some(_) => self.receive_checked(file, length, &mut body, permit).await,
            None => {
                let write = |bytes: &[u8]| self.write(bytes, false);
                self.receive(&mut body, permit, length, write).await
            }
        };
        let checked = received.and_then(|()| self.partial.check_last_piece());
        if let Err(FilePullError::BadPiece { at }) = &checked {
            self.partial.take_back(*at, self.fetch)?;
            self.progress.note_part(*at);
        }
        let Some(parent) = parent else { return checked };
        let error = match checked {
            Ok(()) => return Ok(()),
            Err(error @ (FilePullError::Preempted | FilePullError::Store(_))) => return Err(error),
            Err(error) => error,
        };
        info!(
            "file {} of task {}: no longer from node {}: {error}",
            file.file.name, self.task.id, parent.node_id
        );
        self.fetch.note_parent_loss(loss_of(&error));
        self.parents.leave(&parent.node_id);
        Err(FilePullError::ParentLost)
    }

    /// Receives what another node sends, and compares each piece with the main server's
    /// digest of it.
    async fn receive_checked(
        &self,
        file: NumberedFile<'_>,
        length: u64,
        body: &mut OriginBody,
        permit: &FilePermit,
    ) -> Result<(), FilePullError> {
        let expected = self.partial.expected();
        let write = |bytes: &[u8]| {
            self.fetch.note_relayed(bytes.len());
            self.write(bytes, true)
        };
        {
            let receiving = self.receive(body, permit, length, write);
            let digests = async {
                while !self.get_pieces(file, &expected).await {
                    tokio::time::sleep(DIGEST_PAUSE).await;
                }
            };
            tokio::pin!(receiving, digests);
            tokio::select! {
                biased;
                received = &mut receiving => received,
                () = &mut digests => receiving.await,
            }?;
        }
        // A file may come faster than its digests.
        self.get_pieces(file, &expected).await;
        Ok(())
    }

    fn write(&self, bytes: &[u8], is_relayed: bool) -> Result<(), FilePullError> {
        self.progress.note_part(self.partial.write(bytes, is_relayed)?);
        Ok(())
    }

    /// Asks for the digests of the pieces, if they are not known. False if they may be had
    /// later; without them, the digest of the whole decides.
    async fn get_pieces(&self, file: NumberedFile<'_>, expected: &PieceDigests) -> bool {
        if file.file.size <= PIECE_BYTES || expected.get().is_some() {
            return true;
        }
        let place = (&self.task.id, file.number);
        let asked = self.upstream.task_file_pieces(self.node_id, place, self.request_limit);
        match asked.await {
            Ok(digests) if digests.len() as u64 == file.file.size.div_ceil(PIECE_BYTES) => {
                let _ = expected.set(digests);
                true
            }
            Ok(_) => {
                debug!("the digests of {}'s pieces are too few or too many", file.file.name);
                true
            }
            Err(error) => {
                debug!("no digests of {}'s pieces: {error}", file.file.name);
                false
            }
        }
    }

    async fn open(
        &self,
        file: NumberedFile<'_>,
        first: u64,
    ) -> Result<FileDownload, FilePullError> {
        let parents = match file.file.size > MAX_BUNDLED_BYTES {
            true => self.parents.available(Instant::now()),
            false => Vec::new(),
        };
        // All begin at the same moment: a parent may be a little later than this node.
        let rounds = if file.file.size >= LARGE_BYTES { LARGE_ROUNDS } else { 1 };
        let parents = std::iter::repeat_n(parents, rounds).flatten();
        for parent in parents.filter(|parent| self.parents.contains(&parent.node_id)) {
            match self.open_at(&parent, file, first).await {
                Ok(body) => return Ok(FileDownload { body, parent: Some(parent) }),
                // It may have this file later, or the next one.
                Err(error @ (SiblingError::NotReady(_) | SiblingError::Refused(_))) => {
                    debug!("{} not from node {}: {error}", file.file.name, parent.node_id);
                    self.parents.postpone(&parent.node_id, Instant::now());
                }
                Err(error) => {
                    info!("task {}: not from node {}: {error}", self.task.id, parent.node_id);
                    self.fetch.note_parent_loss(error.into());
                    self.parents.leave(&parent.node_id);
                }
            }
        }
        let body = self.open_at_main_server(file, first).await?;
        Ok(FileDownload { body, parent: None })
    }

    async fn open_at(
        &self,
        parent: &Sibling,
        file: NumberedFile<'_>,
        first: u64,
    ) -> Result<OriginBody, SiblingError> {
        let version = (file.file.sha256, file.file.size);
        let mut session = self.fetch.file_session(parent, file.key, version)?;
        let (_, OriginAnswer { body, .. }) = session.get(first).await?;
        Ok(body)
    }

    async fn open_at_main_server(
        &self,
        NumberedFile { file, number, .. }: NumberedFile<'_>,
        first: u64,
    ) -> Result<OriginBody, FilePullError> {
        let etag = format!("\"{}\"", file.sha256);
        let wanted = match first {
            0 => PackageRequest::Whole,
            first => PackageRequest::Rest { first, total: Some(file.size), etag: &etag },
        };
        let asked = self.upstream.task_file(self.node_id, (&self.task.id, number), wanted);
        let OriginAnswer { extent, body, .. } = asked.await?;
        match (extent, first) {
            (AnswerExtent::Whole { .. }, 0) | (AnswerExtent::Rest, 1..) => Ok(body),
            (AnswerExtent::Unusable(reason), _) => Err(FilePullError::Unusable(reason)),
            _ => {
                // Of another version, or from the beginning.
                self.partial.clear(self.fetch);
                Err(FilePullError::Unusable("it is not the rest".to_owned()))
            }
        }
    }

    /// True if other nodes may be at fault for bytes that are not the file's; they are asked
    /// for nothing more of this task.
    pub(super) fn blames_parents(&self, error: &StoreError, is_relayed: bool) -> bool {
        let is_to_blame = is_relayed && matches!(error, StoreError::Bad(_));
        if is_to_blame {
            info!("task {}: what came from other nodes is wrong: {error}", self.task.id);
            self.fetch.note_parent_loss(ParentLoss::Damaged);
            self.parents.leave_all();
        }
        is_to_blame
    }
}

fn loss_of(error: &FilePullError) -> ParentLoss {
    match error {
        FilePullError::BadPiece { .. } | FilePullError::Unusable(_) => ParentLoss::Damaged,
        FilePullError::Stalled => ParentLoss::Stalled,
        FilePullError::Broken(_)
        | FilePullError::Upstream(_)
        | FilePullError::Store(_)
        | FilePullError::Preempted
        | FilePullError::ParentLost => ParentLoss::Unreachable,
    }
}
