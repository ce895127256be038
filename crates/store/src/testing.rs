//! Packages, and files in the state that a test wants, for tests of this crate
//! and of others.

#![allow(clippy::unwrap_used, reason = "a test that can't make its values has failed")]

use std::{
    fs::File,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use edge_mirror_protocol::{
    object::ObjectKey,
    package::{PackageRoute, PackageSource, Validators, VerifyLevel},
};

use super::{OpenCopy, Provenance, Store, StoredPackage};

/// A ZIP with one stored entry of `content`.
pub fn zip_of(content: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a.txt", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

/// A folder on a disk; the one for temporary files may be in memory.
pub fn on_disk() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

/// Drops a file from memory. False if that can't be done: some filesystems are
/// memory.
pub fn drop_from_cache(file: &File) -> bool {
    file.sync_all().unwrap();
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    !is_cached(file)
}

/// Calls `act` on a package's file until the kernel's clock has ticked in between.
pub fn touch(opened: &OpenCopy, act: impl Fn()) {
    let began = Instant::now();
    act();
    while opened.is_untouched() {
        assert!(began.elapsed() < Duration::from_secs(9), "nothing shows");
        act();
    }
}

/// True if the beginning of a file is in memory.
pub fn is_cached(file: &File) -> bool {
    let opened = OpenCopy::mapped(file.try_clone().unwrap());
    opened.is_resident(&opened.segment_at(0))
}

pub fn provenance() -> Provenance {
    let source = PackageSource {
        route: PackageRoute::Direct,
        origin: None,
        validators: Validators::default(),
    };
    Provenance::of_package("T".into(), source)
}

pub fn put(store: &Store, name: &str, bytes: &[u8]) -> Arc<StoredPackage> {
    let mut pending = store.begin(name.parse::<ObjectKey>().unwrap(), None, u64::MAX).unwrap();
    pending.write(bytes).unwrap();
    pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap()
}
