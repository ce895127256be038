//! Packages of meetings, in the data folder and in the shared package store.

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
