//! The bytes of files, by their digests: in the data folder, and in the shared package
//! store where there is one.

use std::{fs::File, sync::Arc, time::Duration};

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_protocol::{
    object::{FileKey, ObjectKey, Retention, Verification},
    package::Sha256,
};
use edge_mirror_store::{OpenedPackage, Provenance, Store, StoreError, VerifiedPackage};
use futures_util::StreamExt;
use tracing::{info, warn};

use crate::{
    packages::BlobError,
    refusal::RequestError,
    server::{Server, SharedPackages},
    state::meetings::PackageBlob,
};

/// The folder of blobs among those of tasks.
const FOLDER: &str = "sha256";
/// A blob that no task names goes after this time.
const KEPT_UNNAMED: Duration = Duration::from_secs(24 * 3600);
/// Bytes gathered for one write.
const BATCH_BYTES: usize = 128 << 10;

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

    /// Opens a blob, and pulls it from the shared store first if it is not here.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        sha256: Sha256,
        size: u64,
    ) -> Result<OpenedPackage, RequestError> {
        let key = blob_key(sha256);
        if let Some(opened) = self.store.package(&key).await? {
            return Ok(opened);
        }
        let store = self.store.clone();
        if !tasks::blocking(move || is_here(&store, sha256)).await? {
            let shared = self.shared.clone().ok_or(RequestError::FileAtAnother)?;
            self.pull_blob(&shared, sha256, size).await?;
        }
        self.store.package(&key).await?.ok_or(RequestError::FileAtAnother)
    }

    async fn pull_blob(
        &self,
        shared: &SharedPackages,
        sha256: Sha256,
        size: u64,
    ) -> Result<(), RequestError> {
        let unavailable = |error: BlobError| {
            warn!("file {sha256} can't be fetched from the package store: {error}");
            RequestError::FileAtAnother
        };
        let opened = shared.blobs.open(sha256).await;
        shared.note(&opened);
        let (_, mut bytes) = opened.map_err(unavailable)?;
        let (store, key) = (self.store.clone(), blob_key(sha256));
        let mut pending = tasks::blocking(move || store.begin(key, Some(size), u64::MAX)).await?;
        while let Some(received) = bytes.next().await {
            for piece in received.map_err(unavailable)?.chunks(BATCH_BYTES) {
                let piece = piece.to_vec();
                pending = tasks::blocking(move || pending.write(&piece).map(|()| pending)).await?;
            }
        }
        tasks::blocking(move || {
            let wanted = || true;
            pending.commit(Verification::Digest, Some(sha256), provenance(sha256), wanted)
        })
        .await?;
        Ok(())
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
