//! Values for tests, of this crate and of others.

#![allow(clippy::unwrap_used, reason = "a test that can't make its values has failed")]

use crate::{
    object::{MediaType, Retention, Verification},
    package::{FileStamp, Manifest, PackageRoute, PackageSource, Sha256, Validators},
};

/// Manifest of a package of ten bytes.
pub fn manifest() -> Manifest {
    Manifest {
        key: "m".parse().unwrap(),
        title: String::new(),
        size_bytes: 10,
        file_count: 0,
        sha256: Sha256::new([1; 32]),
        source: PackageSource {
            route: PackageRoute::Direct,
            origin: None,
            validators: Validators::default(),
        },
        modified_s: 1_700_000_000,
        verified_s: 1_700_000_000,
        reread_s: None,
        file: FileStamp { size_bytes: 10, inode: 1, mtime_ns: 0 },
        media_type: MediaType::ZIP,
        verification: Verification::default(),
        retention: Retention::Meeting,
        withheld: false,
    }
}
