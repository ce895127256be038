//! A package that was verified and is not in its place yet: its owner may do something
//! else first.

use std::{fs::File, sync::Arc};

use edge_mirror_base::atomic::{self, Durable, Scratch};
use edge_mirror_protocol::{
    object::Verification,
    package::{Manifest, Sha256},
};

use super::{
    Provenance, StoreError, StoredPackage, background_checks::BackgroundChecks, room::SpacePermit,
    stamp,
};

/// A verified package that is not in its place yet; removed when dropped.
#[derive(Debug)]
pub struct VerifiedPackage {
    /// First, as in a pending package.
    pub(super) checks: BackgroundChecks,
    pub(super) room: SpacePermit,
    pub(super) scratch: Scratch,
    pub(super) verification: Verification,
    pub(super) sha256: Sha256,
    pub(super) file_count: u64,
    pub(super) size_bytes: u64,
}

impl VerifiedPackage {
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn file_count(&self) -> u64 {
        self.file_count
    }

    /// Opens its bytes for reading; the handle may outlive it.
    pub fn reader(&self) -> std::io::Result<File> {
        self.scratch.reader()
    }

    /// Makes the bytes durable, replaces the stored package if they are still `wanted`
    /// then, and writes their manifest. Blocks.
    pub fn place(
        self,
        provenance: Provenance,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Arc<StoredPackage>, StoreError> {
        let Self { mut checks, room, scratch, verification, sha256, file_count, .. } = self;
        let (store, key) = (room.store(), room.key());
        let same = store.open_package(key)?.filter(|(old, _)| old.manifest.sha256 == sha256);
        if let Some((same, _)) = same {
            let Provenance { title, source, media_type, retention, withheld, .. } =
                provenance.clone();
            let facts = |now| Manifest {
                title,
                source,
                file_count,
                media_type,
                verification,
                retention,
                withheld,
                ..now
            };
            if let Some(confirmed) = store.amend_entry(&same, facts) {
                store.settle(key)?;
                return Ok(confirmed);
            }
        }

        let path = store.inner.layout.object(key);
        let io_error = |cause| StoreError::io("write", &path, cause);
        let durable = checks.join_sync().map_or_else(|| scratch.sync(), Durable::from_sync);
        let durable = durable.map_err(io_error)?;
        atomic::create_folder(path.parent().unwrap_or(store.root())).map_err(io_error)?;
        let file = stamp(&scratch.file().metadata().map_err(io_error)?);
        let mut manifest =
            provenance.into_manifest(key.clone(), verification, file_count, sha256, file);
        let stored = {
            let mut turn = store.writer();
            if let Some(old) = turn.get(key) {
                // A client with the old version that asks by its date gets this one.
                let later = old.manifest.modified_s.saturating_add(1);
                manifest.modified_s = manifest.modified_s.max(later);
            }
            if !wanted() {
                return Err(StoreError::Unwanted);
            }
            scratch.persist(durable, &path).map_err(io_error)?;
            turn.admit(manifest)
        };
        atomic::sync_folder_of(&path).map_err(io_error)?;
        store.settle(key)?;
        Ok(stored)
    }
}
