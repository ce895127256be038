//! Packages of meetings, in the data folder and in the shared package store.

mod blob_store;
mod fault;
mod location;
mod s3;
#[cfg(test)]
#[path = "../../../tests/it/support/s3.rs"]
#[allow(dead_code, reason = "the whole program's tests need other parts of it")]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use blob_store::{BlobStore, StoredBlob};
pub(crate) use fault::BlobError;
pub use location::PackagesLocation;
pub use s3::S3Environment;

use edge_mirror_store::Store;

use crate::state::meetings::{Meeting, PackageBlob};

/// The meeting's package: the one that its row names, also while there is no copy of it in
/// the data folder, or else the one that lies there.
pub(crate) fn package_of(meeting: &Meeting, store: &Store) -> Option<PackageBlob> {
    meeting.package.or_else(|| {
        let stored = store.get(&meeting.id)?;
        let manifest = &stored.manifest;
        Some(PackageBlob {
            sha256: manifest.sha256,
            size: manifest.size_bytes,
            file_count: manifest.file_count,
            modified_s: manifest.modified_s,
        })
    })
}

/// True if the data folder has the bytes that the meeting's row names, or it names none.
pub(crate) fn is_copy_current(meeting: &Meeting, store: &Store) -> bool {
    meeting.package.is_none_or(|package| {
        store.get(&meeting.id).is_some_and(|stored| stored.manifest.sha256 == package.sha256)
    })
}
