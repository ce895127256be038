//! The facts about an object that its bytes don't say, for its manifest.

use edge_mirror_base::clock::now_s;
use edge_mirror_protocol::{
    object::{MediaType, ObjectKey, Retention, Verification},
    package::{FileStamp, Manifest, PackageRoute, PackageSource, Sha256, Validators},
};

/// Origin of a package, for its manifest.
#[derive(Clone, Debug)]
pub struct Provenance {
    pub title: String,
    pub source: PackageSource,
    /// The main server's date for this version, seconds since 1970.
    pub modified_s: Option<u64>,
    pub media_type: MediaType,
    pub retention: Retention,
    /// Given to no client: its meeting has not been started, or it is a file for operators
    /// alone.
    pub withheld: bool,
}

impl Provenance {
    /// A meeting's package, without a date.
    pub fn of_package(title: String, source: PackageSource) -> Self {
        let (media_type, retention) = (MediaType::ZIP, Retention::Meeting);
        Self { title, source, modified_s: None, media_type, retention, withheld: false }
    }

    /// A file of a task. One that is not `open` is given to operators alone.
    pub fn of_file(title: String, retention: Retention, open: bool) -> Self {
        let source = PackageSource {
            route: PackageRoute::Dispatch,
            origin: None,
            validators: Validators::default(),
        };
        let (media_type, withheld) = (MediaType::BYTES, !open);
        Self { title, source, modified_s: None, media_type, retention, withheld }
    }

    pub(super) fn from_manifest(manifest: Manifest) -> Self {
        let Manifest { title, source, modified_s, media_type, retention, withheld, .. } = manifest;
        Self { title, source, modified_s: Some(modified_s), media_type, retention, withheld }
    }

    pub(super) fn into_manifest(
        self,
        key: ObjectKey,
        verification: Verification,
        file_count: u64,
        sha256: Sha256,
        file: FileStamp,
    ) -> Manifest {
        let now_s = now_s();
        Manifest {
            key,
            title: self.title,
            size_bytes: file.size_bytes,
            file_count,
            sha256,
            source: self.source,
            modified_s: served_date(self.modified_s, now_s),
            verified_s: now_s,
            reread_s: None,
            file,
            media_type: self.media_type,
            verification,
            retention: self.retention,
            withheld: self.withheld,
        }
    }
}

/// Returns the date to serve a version with: as announced, but never in the future
/// (RFC 9110, 8.8.2.1). Dates of others may be any.
pub(super) fn served_date(told_s: Option<u64>, now_s: u64) -> u64 {
    told_s.unwrap_or(now_s).min(now_s)
}
