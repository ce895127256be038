//! Files that lie at another main server only: a worker pulls them from the shared store,
//! and requests wait for it. A request that ends does not end the pull.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{dispatch::TaskFile, object::Verification, package::Sha256};
use edge_mirror_store::{OpenedPackage, StoreError};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use super::blobs::{blob_key, is_here, provenance};
use crate::{
    packages::BlobError, refusal::RequestError, server::Server, state::dispatch::BlobPullTable,
};

/// Bytes gathered for one write.
const BATCH_BYTES: usize = 128 << 10;
/// Longest wait of a request for files that are being pulled: a node gives up after ten
/// seconds, and asks again.
const PULL_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct BlobPulls {
    table: Mutex<BlobPullTable>,
    /// There may be something to pull.
    pub(crate) wanted: Notify,
    /// Tells those who wait that a pull has ended.
    ended: watch::Sender<()>,
}

#[derive(Debug, Error)]
enum BlobPullError {
    #[error("there is no package store")]
    NoStore,
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("the package store has {found} bytes of {expected}")]
    Length { found: u64, expected: u64 },
    #[error(transparent)]
    Local(#[from] StoreError),
}

impl BlobPulls {
    pub(crate) fn table(&self) -> MutexGuard<'_, BlobPullTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Opens a file. One that is not here is pulled, for which this waits a while.
    pub(crate) async fn blob(
        &self,
        sha256: Sha256,
        size: u64,
    ) -> Result<OpenedPackage, RequestError> {
        let waiting = self.wait_for_blob(sha256, size);
        let outcome = tokio::time::timeout(PULL_PATIENCE, waiting).await;
        outcome.unwrap_or(Err(RequestError::FileComing))
    }

    /// Has files pulled that are not here, and waits a while until they are.
    pub(crate) async fn fetch_blobs(&self, files: &[TaskFile]) -> Result<(), RequestError> {
        let is_missing = |file: &&TaskFile| self.store.get(blob_key(file.sha256)).is_none();
        let missing: Vec<_> = files.iter().filter(is_missing).collect();
        for file in &missing {
            self.ask_for_blob(file.sha256, file.size)?;
        }
        let waiting = async {
            for file in missing {
                self.wait_for_blob(file.sha256, file.size).await?;
            }
            Ok(())
        };
        let outcome = tokio::time::timeout(PULL_PATIENCE, waiting).await;
        outcome.unwrap_or(Err(RequestError::FileComing))
    }

    async fn wait_for_blob(
        &self,
        sha256: Sha256,
        size: u64,
    ) -> Result<OpenedPackage, RequestError> {
        let key = blob_key(sha256);
        let mut ended = self.dispatch.pulls.ended.subscribe();
        loop {
            if let Some(opened) = self.store.package(&key).await? {
                return Ok(opened);
            }
            self.ask_for_blob(sha256, size)?;
            // It lives as long as the server.
            let _ = ended.changed().await;
        }
    }

    fn ask_for_blob(&self, sha256: Sha256, size: u64) -> Result<(), RequestError> {
        let pulls = &self.dispatch.pulls;
        if !pulls.table().ask(sha256, size, self.clock.now()) {
            return Err(RequestError::FileAtAnother);
        }
        pulls.wanted.notify_one();
        Ok(())
    }

    /// Carries out a pull that the table began.
    pub(crate) async fn pull_blob(&self, sha256: Sha256, size: u64) {
        let outcome = self.receive_blob(sha256, size).await;
        match &outcome {
            Ok(()) => {}
            Err(BlobPullError::NoStore) => debug!("file {sha256} is not here"),
            Err(error) => warn!("file {sha256} can't be fetched from the package store: {error}"),
        }
        let pulls = &self.dispatch.pulls;
        pulls.table().finish(sha256, outcome.is_err(), self.clock.now());
        pulls.ended.send_replace(());
    }

    async fn receive_blob(&self, sha256: Sha256, size: u64) -> Result<(), BlobPullError> {
        let store = self.store.clone();
        if tasks::blocking(move || is_here(&store, sha256)).await? {
            return Ok(());
        }
        let shared = self.shared.as_ref().ok_or(BlobPullError::NoStore)?;
        let opened = shared.blobs.open(sha256).await;
        shared.note(&opened);
        let (found, mut bytes) = opened?;
        if found != size {
            return Err(BlobPullError::Length { found, expected: size });
        }
        let (store, key) = (self.store.clone(), blob_key(sha256));
        let mut pending = tasks::blocking(move || store.begin(key, Some(size), u64::MAX)).await?;
        while let Some(received) = bytes.next().await {
            for piece in received?.chunks(BATCH_BYTES) {
                let piece = piece.to_vec();
                let writing = move || pending.write(&piece).map(|()| pending);
                pending = tasks::blocking(writing).await?;
            }
        }
        tasks::blocking(move || {
            let wanted = || true;
            pending.commit(Verification::Digest, Some(sha256), provenance(sha256), wanted)
        })
        .await?;
        Ok(())
    }
}
