//! A package pulled from the shared store, and the room for it.

use std::sync::Arc;

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_protocol::package::VerifyLevel;
use edge_mirror_store::{
    PendingPackage, StoreError, StoredPackage,
    evict::{self, EvictionCandidate},
    verify::VerifyError,
};
use futures_util::StreamExt;
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    counts::{MasterCheckOccasion, TransferOutcome},
    packages::BlobError,
    server::{Server, SharedPackages},
    state::{index::IndexedMeetings, package_pulls::MissingPackage},
};

/// Bytes gathered for one write; the memory that a pull costs.
const BATCH_BYTES: usize = 128 << 10;

#[derive(Debug, Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("the package store has damaged bytes, upload the package again: {0}")]
    Damaged(VerifyError),
    #[error("the package store has {found} bytes of {expected}, upload the package again")]
    Length { found: u64, expected: u64 },
    #[error(transparent)]
    Local(StoreError),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Bad(cause) => Self::Damaged(cause),
            other => Self::Local(other),
        }
    }
}

impl Server {
    /// Pulls a package, verifies it and puts the copy in place.
    pub(crate) async fn pull_copy(
        self: &Arc<Self>,
        shared: &SharedPackages,
        missing: &MissingPackage,
    ) -> Result<(), CopyError> {
        let outcome = self.receive_copy(shared, missing).await;
        self.counts.package_pulls.inc(TransferOutcome::of(&outcome));
        match &outcome {
            Ok(()) => {
                let MissingPackage { id, package, .. } = missing;
                info!(
                    "package of meeting {id} fetched from the package store, {} bytes",
                    package.size
                );
            }
            Err(error) => {
                if let CopyError::Damaged(cause) = error {
                    self.counts.bad_package(MasterCheckOccasion::Pulled, cause);
                }
                warn!("package of meeting {} can't be fetched: {error}", missing.id);
            }
        }
        outcome
    }

    async fn receive_copy(
        self: &Arc<Self>,
        shared: &SharedPackages,
        missing: &MissingPackage,
    ) -> Result<(), CopyError> {
        let MissingPackage { id, package, .. } = missing;
        let opened = shared.blobs.open(package.sha256).await;
        shared.note(&opened);
        let (found, mut bytes) = opened?;
        if found != package.size {
            return Err(CopyError::Length { found, expected: package.size });
        }
        let (store, key) = (self.store.clone(), id.clone());
        let begin = move || store.begin(&key, Some(found), u64::MAX);
        let mut pending = tasks::blocking(begin).await?;
        pending.unpack_while_receiving();
        pending.sync_while_receiving();
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        while let Some(received) = bytes.next().await {
            shared.note(&received);
            for piece in received?.chunks(BATCH_BYTES) {
                if batch.len() + piece.len() > BATCH_BYTES {
                    (pending, batch) = write(pending, batch).await?;
                }
                batch.extend_from_slice(piece);
            }
        }
        let (pending, _) = write(pending, batch).await?;
        let sha256 = package.sha256;
        let verified =
            tasks::blocking(move || pending.verify(VerifyLevel::Full, Some(sha256))).await?;
        match self.place_copy(id, *package, verified).await {
            // The row names another one by now.
            Err(StoreError::Unwanted) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Removes copies that were served least recently until they and `coming` bytes are
    /// within the bound. Blocks.
    pub(crate) fn evict_copies(&self, shared: &SharedPackages, coming: u64) {
        let Some(most) = shared.cache_bytes else { return };
        let used = self.store.used_bytes().saturating_add(coming);
        let excess = evict::excess(used, most, 1.0);
        if excess == 0 {
            return;
        }
        let book = self.book();
        let stored = self.store.list();
        let candidates: Vec<_> = stored.iter().filter_map(|copy| candidate(&book, copy)).collect();
        for key in evict::choose_evictions(&candidates, excess) {
            match self.store.remove(&key) {
                Ok(()) => {
                    self.counts.evicted_copies.inc();
                    info!("copy of {} removed: the package cache is full", key.describe());
                }
                Err(error) => warn!("copy of {} can't be removed: {error}", key.describe()),
            }
        }
    }
}

/// None for what is nowhere else: a package that is not in the shared store yet, or one
/// without a meeting.
fn candidate(book: &IndexedMeetings, copy: &StoredPackage) -> Option<EvictionCandidate> {
    let manifest = &copy.manifest;
    let meeting = book.find(manifest.key.package()?.as_str())?;
    let is_current = meeting.package?.sha256 == manifest.sha256;
    let is_needed = is_current && (meeting.is_running() || meeting.prestaged);
    let candidate = EvictionCandidate::new(copy, |_| is_needed, false, now_s());
    Some(EvictionCandidate {
        retained: is_needed || copy.is_in_use(),
        last_used_s: if is_current { candidate.last_used_s } else { 0 },
        ..candidate
    })
}

/// Returns the buffer, emptied.
async fn write(
    mut pending: PendingPackage,
    mut batch: Vec<u8>,
) -> Result<(PendingPackage, Vec<u8>), StoreError> {
    tasks::blocking(move || {
        pending.write(&batch)?;
        batch.clear();
        Ok((pending, batch))
    })
    .await
}
