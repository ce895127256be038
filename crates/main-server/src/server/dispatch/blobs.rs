//! The bytes of files, by their digests: in the data folder, and in the shared package
//! store where there is one.

use std::{fs::File, sync::Arc, time::Duration};

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_protocol::{
    dispatch::TaskId,
    object::{FileKey, ObjectKey, Retention, Verification},
    package::Sha256,
};
use edge_mirror_store::{Provenance, Store, StoreError, VerifiedPackage};
use tracing::{info, warn};

use crate::{
    packages::BlobError, refusal::RequestError, server::Server, state::meetings::PackageBlob,
};

/// The folder of blobs among those of tasks.
const FOLDER: &str = "sha256";
/// A blob that no task names goes after this time.
const KEPT_UNNAMED: Duration = Duration::from_secs(24 * 3600);
/// A task that is tried again names its files after this time at most.
const NAMED_BY_NEXT_TASK: Duration = Duration::from_secs(600);

/// The key of a blob in the data folder.
pub(crate) fn blob_key(sha256: Sha256) -> ObjectKey {
    let name = sha256.to_string();
    let key = FileKey::new(FOLDER, &format!("{}/{name}", &name[..2]));
    key.expect("hexadecimal digits").into()
}

/// Blobs are kept as long as a task names them; nobody gets them but nodes.
pub(super) fn provenance(sha256: Sha256) -> Provenance {
    Provenance::of_file(sha256.to_string(), Retention::Keep, false)
}

/// True if the blob is here; it then counts as used now, and is not swept for a day. Blocks.
pub(super) fn is_here(store: &Store, sha256: Sha256) -> Result<bool, StoreError> {
    let key = blob_key(sha256);
    if let Some((stored, _)) = store.open_package(&key)? {
        stored.note_served();
        return Ok(true);
    }
    if !store.has_unverified(&key) {
        return Ok(false);
    }
    // A kill came between the file and its manifest.
    match store.adopt(&key, Verification::Digest, Some(sha256), provenance(sha256)) {
        Ok(_) => Ok(true),
        Err(StoreError::Bad(_)) => store.discard_unverified(&key).map(|()| false),
        Err(error) => Err(error),
    }
}

impl Server {
    /// Puts a received file in its place by its digest, and into the shared store.
    pub(crate) async fn keep_upload(
        self: &Arc<Self>,
        verified: VerifiedPackage,
    ) -> Result<(), RequestError> {
        let (sha256, size) = (verified.sha256(), verified.size_bytes());
        let store = self.store.clone();
        tasks::blocking(move || {
            if is_here(&store, sha256)? {
                return Ok(());
            }
            verified.place(provenance(sha256), || true).map(drop)
        })
        .await
        .map_err(RequestError::from)?;
        self.share_blobs(&[(sha256, size)]).await
    }

    /// Puts blobs that are here into the shared store, if there is one.
    pub(super) async fn share_blobs(&self, blobs: &[(Sha256, u64)]) -> Result<(), RequestError> {
        let Some(shared) = self.shared.clone() else { return Ok(()) };
        let unavailable = |error: BlobError| RequestError::PackagesUnavailable(error.to_string());
        for (sha256, size) in blobs {
            let (key, size) = (blob_key(*sha256), *size);
            let opened = self.store.package(key).await?;
            let Some((_, opened)) = opened else {
                return Err(RequestError::UnknownUpload(*sha256));
            };
            let file = tasks::blocking(move || opened.file().try_clone()).await;
            let file = file.map_err(|cause| RequestError::Storage(cause.to_string()))?;
            let blob = PackageBlob { sha256: *sha256, size, file_count: 1, modified_s: now_s() };
            self.put_blob(&shared, blob, Arc::<File>::new(file)).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// Makes sure that the files of a finished task, which is to be tried again, are still
    /// here. They then stay for a day at least.
    pub(super) async fn check_blobs_for_retry(&self, id: &TaskId) -> Result<(), RequestError> {
        let table = self.dispatch.table();
        let Some(files) = table.files(id) else { return Ok(()) };
        let named = table.named_blobs(self.clock.now() + NAMED_BY_NEXT_TASK);
        let files = files.files.iter().map(|file| (file.sha256, file.size));
        let unnamed: Vec<_> = files.filter(|(sha256, _)| !named.contains(sha256)).collect();
        let (store, looked_for) = (self.store.clone(), unnamed.clone());
        let are_here = tasks::blocking(move || {
            for (sha256, _) in looked_for {
                if !is_here(&store, sha256)? {
                    return Ok::<_, StoreError>(false);
                }
            }
            Ok(true)
        });
        if !are_here.await? {
            return Err(RequestError::FilesGone(id.to_string()));
        }
        // Their sweep there may have come before.
        self.share_blobs(&unnamed).await
    }

    /// Removes blobs that no task names, and that were not used since a day ago. Blocks.
    pub(crate) fn sweep_blobs(&self) {
        self.sweep_blobs_before(now_s().saturating_sub(KEPT_UNNAMED.as_secs()));
    }

    /// The same with those that were not used since `before_s`.
    pub(crate) fn sweep_blobs_before(&self, before_s: u64) {
        let named = self.dispatch.table().named_blobs(self.clock.now());
        for stored in self.store.list() {
            let manifest = &stored.manifest;
            let ObjectKey::File(key) = &manifest.key else { continue };
            let used_s = stored.last_served_s().unwrap_or(0).max(manifest.verified_s);
            if key.task() != FOLDER || named.contains(&manifest.sha256) || used_s >= before_s {
                continue;
            }
            match self.store.remove(&manifest.key) {
                Ok(()) => info!("file {}, which no task needs any more, removed", manifest.sha256),
                Err(error) => warn!("file {} can't be removed: {error}", manifest.sha256),
            }
        }
    }
}
