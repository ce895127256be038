//! A package under way: room is promised for its bytes, they are hashed and
//! unpacked right after they are written (`background_checks`), and nothing counts
//! until all is verified and renamed.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use edge_mirror_base::{
    atomic::{self, Scratch},
    clock::now_s,
};
use edge_mirror_protocol::{
    object::{ObjectKey, Verification},
    package::{FileStamp, Manifest, PackageSource, Sha256},
};
use tracing::{debug, warn};

use super::{
    Store, StoreError, StoredPackage,
    background_checks::BackgroundChecks,
    provenance::Provenance,
    room::SpacePermit,
    stamp,
    verified::VerifiedPackage,
    verify::{self, VerifyError},
};

/// Step in which room is promised without an announced length.
const ROOM_STEP_BYTES: u64 = 4 << 20;
/// Largest write. The page cache takes each into one piece of memory. Small ones are
/// at hand; large ones a virtual machine gets from its host, which was measured to
/// halve the speed of a pull from 128 KiB on.
const WRITE_BYTES: usize = 64 << 10;

/// Smallest package whose promised room is allocated ahead: a write then has no blocks
/// to look for, which was measured to take half of its time. Smaller packages are in
/// one piece anyway.
const RESERVED_FROM_BYTES: u64 = 1 << 20;

/// A package under way; removed when dropped uncommitted.
#[derive(Debug)]
pub struct PendingPackage {
    /// First, so that it has stopped before the file is removed.
    checks: BackgroundChecks,
    room: SpacePermit,
    scratch: Scratch,
    received_bytes: u64,
    promised_bytes: u64,
    /// Announced size, if room for it is promised in steps.
    expected_bytes: Option<u64>,
    limit_bytes: u64,
}

impl Store {
    /// Begins a package of `announced_bytes`, if known. The store may hold
    /// `limit_bytes` in all.
    pub fn begin(
        &self,
        key: impl Into<ObjectKey>,
        announced_bytes: Option<u64>,
        limit_bytes: u64,
    ) -> Result<PendingPackage, StoreError> {
        self.begin_with(key.into(), announced_bytes.unwrap_or(0), None, limit_bytes)
    }

    /// Like [`begin`](Self::begin), if there is no room yet for all of it: room is promised
    /// as the bytes come, each time as much again as there is already.
    pub fn begin_in_steps(
        &self,
        key: impl Into<ObjectKey>,
        announced_bytes: u64,
        limit_bytes: u64,
    ) -> Result<PendingPackage, StoreError> {
        self.begin_with(key.into(), 0, Some(announced_bytes), limit_bytes)
    }

    fn begin_with(
        &self,
        key: ObjectKey,
        promised_bytes: u64,
        expected_bytes: Option<u64>,
        limit_bytes: u64,
    ) -> Result<PendingPackage, StoreError> {
        let room = SpacePermit::take(self, key, promised_bytes, limit_bytes)?;
        let folder = self.inner.layout.scratch();
        let scratch = Scratch::create_in(&folder)
            .map_err(|cause| StoreError::io("create a file in", &folder, cause))?;
        reserve(&room, &scratch, promised_bytes);
        Ok(PendingPackage {
            checks: BackgroundChecks::default(),
            room,
            scratch,
            received_bytes: 0,
            promised_bytes,
            expected_bytes,
            limit_bytes,
        })
    }

    /// Verifies a package that is in place without a manifest that fits, and adds it to
    /// the index. Blocks for as long as reading it takes.
    pub fn adopt(
        &self,
        key: impl Into<ObjectKey>,
        verification: impl Into<Verification>,
        announced: Option<Sha256>,
        mut provenance: Provenance,
    ) -> Result<Arc<StoredPackage>, StoreError> {
        let (key, verification) = (key.into(), verification.into());
        let path = self.inner.layout.object(&key);
        let io_error = |cause| StoreError::io("read", &path, cause);
        let file = File::open(&path).map_err(io_error)?;
        // Most bad packages are refused before all of it is read.
        let file_count = match verification {
            Verification::Zip(level) => verify::check_zip(&file, level)?,
            Verification::Digest if announced.is_none() => {
                return Err(VerifyError::Unannounced.into());
            }
            Verification::Digest => 1,
        };
        let sha256 = verify::digest(&file).map_err(io_error)?;
        verify::check_digest(announced, sha256)?;
        let file = stamp(&file.metadata().map_err(io_error)?);
        let mtime_s = u64::try_from(file.mtime_ns / 1_000_000_000).ok();
        provenance.modified_s = provenance.modified_s.or(mtime_s);
        let manifest =
            provenance.into_manifest(key.clone(), verification, file_count, sha256, file);
        let stored = {
            let mut turn = self.writer();
            // Another may have taken its place during the read.
            let now = std::fs::metadata(&path).map_err(io_error)?;
            match turn.get(&key) {
                Some(newer) => return Ok(newer),
                None if stamp(&now) != manifest.file => {
                    return Err(VerifyError::Changed.into());
                }
                None => turn.admit(manifest),
            }
        };
        self.write_manifest(&stored.manifest.key);
        Ok(stored)
    }

    /// Verifies a file that is in place by the digest in its manifest, which names another
    /// time or inode: the folder was copied. None if there is no such manifest. Blocks.
    pub fn adopt_by_manifest(
        &self,
        key: &ObjectKey,
    ) -> Result<Option<Arc<StoredPackage>>, StoreError> {
        let path = self.inner.layout.manifest(key);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StoreError::io("read", &path, cause)),
        };
        let manifest = serde_json::from_slice(&bytes).ok();
        let Some(manifest) = manifest.filter(|manifest: &Manifest| manifest.key == *key) else {
            return Ok(None);
        };
        let sha256 = manifest.sha256;
        let provenance = Provenance::from_manifest(manifest);
        self.adopt(key, Verification::Digest, Some(sha256), provenance).map(Some)
    }

    /// Removes a package that failed verification from the disk.
    pub fn discard_unverified(&self, key: impl Into<ObjectKey>) -> Result<(), StoreError> {
        let (key, turn) = (key.into(), self.manifest_turn());
        let mut index = self.writer();
        if index.get(&key).is_some() { Ok(()) } else { self.remove_from(&turn, &mut index, &key) }
    }

    /// Updates the manifest of unchanged bytes; nothing else on disk changes.
    /// None if the package has gone or was replaced meanwhile.
    pub fn confirm(
        &self,
        stored: &StoredPackage,
        title: String,
        source: PackageSource,
    ) -> Option<Arc<StoredPackage>> {
        self.amend(stored, |now| Manifest { title, source, ..now })
    }

    /// Notes whether clients may have it; nothing but the manifest changes. None if the
    /// package has gone or was replaced meanwhile. Blocks.
    pub fn set_withheld(
        &self,
        stored: &StoredPackage,
        withheld: bool,
    ) -> Option<Arc<StoredPackage>> {
        let current = self.get(&stored.manifest.key)?;
        if current.manifest.withheld == withheld {
            return Some(current);
        }
        self.amend(stored, |now| Manifest { withheld, ..now })
    }

    /// Changes the facts about a file that stays as it is.
    pub(super) fn amend(
        &self,
        stored: &StoredPackage,
        change: impl FnOnce(Manifest) -> Manifest,
    ) -> Option<Arc<StoredPackage>> {
        let stored = self.amend_entry(stored, change)?;
        self.write_manifest(&stored.manifest.key);
        Some(stored)
    }

    /// The same in the index alone.
    pub(super) fn amend_entry(
        &self,
        stored: &StoredPackage,
        change: impl FnOnce(Manifest) -> Manifest,
    ) -> Option<Arc<StoredPackage>> {
        let mut turn = self.writer();
        let current = turn.get(&stored.manifest.key)?;
        (current.manifest.file == stored.manifest.file)
            .then(|| turn.admit(change(current.manifest.clone())))
    }

    /// Notes the result of reading a package again. Removes a damaged one from the index
    /// and the disk, unless another has taken its place meanwhile. Blocks.
    pub fn record_reread(&self, stored: &StoredPackage, good: bool) -> Result<(), StoreError> {
        if !good {
            return self.remove_damaged(&stored.manifest.key, &stored.manifest.file).map(|_| ());
        }
        self.amend(stored, |now| Manifest { reread_s: Some(now_s()), ..now });
        Ok(())
    }

    /// Removes a package if it is still that file. False if it was replaced meanwhile,
    /// or is gone.
    pub(super) fn remove_damaged(
        &self,
        key: &ObjectKey,
        file: &FileStamp,
    ) -> Result<bool, StoreError> {
        let turn = self.manifest_turn();
        let mut index = self.writer();
        let is_here = index.get(key).is_some_and(|now| now.manifest.file == *file);
        if is_here {
            self.remove_from(&turn, &mut index, key)?;
        }
        Ok(is_here)
    }

    /// Returns the error of an open package that can't be read.
    pub fn unreadable(&self, key: &ObjectKey, cause: std::io::Error) -> StoreError {
        StoreError::io("read", &self.inner.layout.object(key), cause)
    }

    /// Writes the manifest that the index has by now. Failure costs a verification at the
    /// next start, no more: the package itself is in place and good.
    pub(super) fn write_manifest(&self, key: &ObjectKey) {
        if let Err(error) = self.save_manifest(key) {
            warn!("{error}; the package will be verified again at the next start");
        }
    }

    /// Writes the manifest of an object that has just been placed. Nobody else has a file's
    /// digest, by which it is known after a restart: without a manifest, the file goes.
    pub(super) fn settle(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if key.package().is_some() {
            self.write_manifest(key);
            return Ok(());
        }
        self.save_manifest(key).inspect_err(|_| self.remove_without_manifest(key))
    }

    pub(super) fn remove_without_manifest(&self, key: &ObjectKey) {
        if let Err(error) = self.remove(key) {
            warn!("{} has no manifest: {error}", key.describe());
        }
    }

    fn save_manifest(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let _turn = self.manifest_turn();
        // None if it has been removed meanwhile.
        let Some(stored) = self.get(key.clone()) else { return Ok(()) };
        let path = self.inner.layout.manifest(key);
        serde_json::to_vec_pretty(&stored.manifest)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic::write(&path, &bytes))
            .map_err(|cause| StoreError::io("write", &path, cause))
    }
}

/// Allocates promised room on the disk. Not every filesystem can, and some need more
/// than the bytes take. Then each write allocates its own, or fails.
fn reserve(room: &SpacePermit, scratch: &Scratch, bytes: u64) {
    if bytes >= RESERVED_FROM_BYTES
        && let Err(cause) = room.reserve(scratch, bytes)
    {
        debug!("{}: no room could be taken ahead: {cause}", room.key().describe());
    }
}

impl PendingPackage {
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Unpacks entries while others are still arriving; for a commit that
    /// verifies in full.
    pub fn unpack_while_receiving(&mut self) {
        self.checks.unpack = true;
    }

    /// Makes bytes durable while others are still arriving; for a package that
    /// probably differs from the stored one.
    pub fn sync_while_receiving(&mut self) {
        self.checks.sync = true;
    }

    /// Appends bytes. Blocks for as long as the disk does. If there is no room, nothing
    /// is written and it may be tried again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let after = self.received_bytes + bytes.len() as u64;
        if after > self.promised_bytes {
            let grow = |promise| self.room.grow(promise, self.limit_bytes).map(|()| promise);
            let step = match self.expected_bytes {
                Some(expected) => after.max(ROOM_STEP_BYTES).min(expected.saturating_sub(after)),
                None => ROOM_STEP_BYTES,
            };
            // Close to the limit there is no room for a whole step.
            self.promised_bytes = grow(after + step).or_else(|_| grow(after))?;
            if self.expected_bytes.is_some() {
                reserve(&self.room, &self.scratch, self.promised_bytes);
            }
        }
        let mut at = self.received_bytes;
        for piece in bytes.chunks(WRITE_BYTES) {
            // At its position: after a full disk, the whole piece is written again.
            self.scratch.file().write_all_at(piece, at).map_err(|cause| {
                StoreError::io("write to", &self.room.store().inner.layout.scratch(), cause)
            })?;
            at += piece.len() as u64;
        }
        self.checks.grown(self.scratch.file(), after);
        self.received_bytes = after;
        self.room.record_reserved(after);
        Ok(())
    }

    /// Pauses writing for a while. Blocks for as long as the disk does; after an error
    /// the package can't go on.
    pub fn pause(&mut self) -> Result<(), StoreError> {
        self.checks.pause().map_err(|cause| {
            StoreError::io("write to", &self.room.store().inner.layout.scratch(), cause)
        })
    }

    /// Takes back the bytes from `to` on: they are not the package's, and others will be
    /// written over them. Blocks like [`pause`](Self::pause).
    pub fn take_back(&mut self, to: u64) -> Result<(), StoreError> {
        self.pause()?;
        self.received_bytes = self.received_bytes.min(to);
        Ok(())
    }

    /// Opens the written bytes for positioned reads.
    pub(super) fn reader(&self) -> std::io::Result<File> {
        self.scratch.reader()
    }

    /// Bytes of other packages that must go before this one fits with `bytes`.
    pub fn shortage(&self, bytes: u64) -> u64 {
        self.room.shortage(bytes, self.limit_bytes)
    }

    /// Verifies the bytes, makes them durable, replaces the stored package if they are
    /// still `wanted` then, and writes their manifest. Blocks.
    pub fn commit(
        self,
        verification: impl Into<Verification>,
        announced: Option<Sha256>,
        provenance: Provenance,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Arc<StoredPackage>, StoreError> {
        self.verify(verification, announced)?.place(provenance, wanted)
    }

    /// Names the object by the digest of its bytes, which so need no other proof. Blocks.
    pub fn verify_as(
        mut self,
        key: impl FnOnce(Sha256) -> ObjectKey,
    ) -> Result<VerifiedPackage, StoreError> {
        self.checks.complete();
        let hashed = self.checks.join_hash();
        let sha256 = hashed.unwrap_or_else(|| verify::digest(self.scratch.file()));
        let sha256 = sha256.map_err(VerifyError::Io)?;
        self.room.rename(key(sha256));
        let Self { checks, room, scratch, received_bytes: size_bytes, .. } = self;
        let verification = Verification::Digest;
        Ok(VerifiedPackage {
            checks,
            room,
            scratch,
            verification,
            sha256,
            file_count: 1,
            size_bytes,
        })
    }

    /// Verifies the bytes. Blocks.
    pub fn verify(
        self,
        verification: impl Into<Verification>,
        announced: Option<Sha256>,
    ) -> Result<VerifiedPackage, StoreError> {
        let Self { mut checks, room, scratch, .. } = self;
        checks.complete();
        let verification = verification.into();
        let sha256 = checks.join_hash().unwrap_or_else(|| verify::digest(scratch.file()));
        let sha256 = sha256.map_err(VerifyError::Io)?;
        verify::check_digest(announced, sha256)?;
        let file_count = match verification {
            Verification::Zip(level) => {
                verify::check_zip_with(scratch.file(), level, &checks.join_unpack())?
            }
            Verification::Digest if announced.is_none() => {
                return Err(VerifyError::Unannounced.into());
            }
            Verification::Digest => 1,
        };
        let path = room.store().inner.layout.scratch();
        let size = scratch.file().metadata().map_err(|cause| StoreError::io("read", &path, cause));
        let size_bytes = size?.len();
        Ok(VerifiedPackage { checks, room, scratch, verification, sha256, file_count, size_bytes })
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::package::{LATEST_S, PackageId, VerifyLevel};

    use super::*;
    use crate::{
        provenance::served_date,
        testing::{provenance, zip_of},
    };

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().0;
        (folder, store)
    }

    fn id(text: &str) -> PackageId {
        text.parse().unwrap()
    }

    fn scratch_files(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path().join(".scratch")).unwrap().count()
    }

    #[test]
    fn no_version_is_dated_later_than_now_or_earlier_than_the_one_before() {
        for (told_s, expected) in [
            (None, 1000),
            (Some(0), 0),
            (Some(999), 999),
            (Some(1000), 1000),
            (Some(1001), 1000),
            (Some(LATEST_S), 1000),
            (Some(u64::MAX), 1000),
        ] {
            assert_eq!(served_date(told_s, 1000), expected, "{told_s:?}");
        }
        let (_folder, store) = store();
        let put = |content: &[u8], modified_s| {
            let mut pending = store.begin(id("m"), None, u64::MAX).unwrap();
            pending.write(&zip_of(content)).unwrap();
            let provenance = Provenance { modified_s, ..provenance() };
            let stored = pending.commit(VerifyLevel::Full, None, provenance, || true).unwrap();
            stored.manifest.modified_s
        };
        let first = put(b"one", Some(LATEST_S));
        assert!(first <= now_s());
        assert_eq!(put(b"two", Some(LATEST_S)).max(first + 1), put(b"three", Some(1)) - 1);
    }

    #[test]
    fn what_is_promised_by_steps_is_never_more_than_twice_what_came_and_a_step() {
        let (_folder, store) = store();
        let mut pending = store.begin_in_steps(id("m"), 1 << 30, u64::MAX).unwrap();
        for length in [1, ROOM_STEP_BYTES, 3 * ROOM_STEP_BYTES] {
            pending.write(&vec![0; usize::try_from(length).unwrap()]).unwrap();
            let received = pending.received_bytes();
            let promised = pending.promised_bytes;
            assert!(promised >= received && promised <= 2 * received + ROOM_STEP_BYTES);
        }
        let mut small = store.begin_in_steps(id("n"), 10, u64::MAX).unwrap();
        small.write(b"one").unwrap();
        assert_eq!(small.promised_bytes, 10);
    }

    #[test]
    fn a_package_that_is_announced_too_large_is_refused_before_a_byte() {
        let (folder, store) = store();
        let refused = store.begin(id("m"), Some(11), 10).unwrap_err();
        assert!(matches!(refused, StoreError::NoRoom(_)), "{refused}");
        assert!(refused.to_string().contains("maxSize"));
        assert!(matches!(
            store.begin(id("m"), Some(1 << 60), u64::MAX),
            Err(StoreError::NoRoom(_))
        ));
        assert_eq!(scratch_files(&folder), 0);
    }

    #[test]
    fn a_package_of_some_size_takes_its_room_at_once() {
        use std::os::unix::fs::MetadataExt;
        let (_folder, store) = store();
        for bytes in [RESERVED_FROM_BYTES - 1, RESERVED_FROM_BYTES] {
            let pending = store.begin(id("m"), Some(bytes), u64::MAX).unwrap();
            let taken = pending.scratch.file().metadata().unwrap().blocks() * 512;
            assert_eq!(taken >= bytes, bytes == RESERVED_FROM_BYTES);
        }
    }

    #[test]
    fn a_package_that_grows_too_large_on_the_way_leaves_nothing() {
        let (folder, store) = store();
        let limit = 2 * ROOM_STEP_BYTES;
        let mut pending = store.begin(id("m"), None, limit).unwrap();
        let chunk = vec![0; 1 << 20];
        let refused = (0..16).find_map(|_| pending.write(&chunk).err()).unwrap();
        assert!(matches!(refused, StoreError::NoRoom(_)));
        drop(pending);
        assert_eq!(scratch_files(&folder), 0);
        assert!(store.begin(id("n"), Some(limit), limit).is_ok(), "the promise is given back");
    }

    #[test]
    fn packages_under_way_count_against_the_limit() {
        let (_folder, store) = store();
        let first = store.begin(id("a"), Some(6), 10).unwrap();
        assert!(store.begin(id("b"), Some(6), 10).is_err());
        drop(first);
        assert!(store.begin(id("b"), Some(6), 10).is_ok());
    }

    #[test]
    fn whoever_writes_last_the_file_says_what_the_index_says() {
        let (_folder, store) = store();
        let mut pending = store.begin(id("m"), None, u64::MAX).unwrap();
        pending.write(&zip_of(b"x")).unwrap();
        let stored = pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
        let path = store.inner.layout.manifest(&stored.manifest.key);
        for round in 0..100 {
            std::thread::scope(|scope| {
                for withheld in [true, false] {
                    let (store, stored) = (&store, &stored);
                    scope.spawn(move || store.set_withheld(stored, withheld));
                }
            });
            let written: Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let known = store.get(id("m")).unwrap();
            assert_eq!(written.withheld, known.manifest.withheld, "round {round}");
        }
    }

    #[test]
    fn a_replacement_takes_the_place_of_what_it_replaces() {
        let (_folder, store) = store();
        let zip = zip_of(b"x");
        let size = zip.len() as u64;
        let mut pending = store.begin(id("m"), Some(size), size).unwrap();
        pending.write(&zip).unwrap();
        pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
        assert!(store.begin(id("m"), Some(size), size).is_ok());
        assert!(store.begin(id("n"), Some(size), size).is_err());
        assert_eq!(store.shortage(id("n"), size, size), size);
    }

    #[test]
    fn bytes_that_are_no_package_or_not_the_announced_one_never_count() {
        let (folder, store) = store();
        for (bytes, announced) in [
            (b"<html>error</html>".to_vec(), None),
            (zip_of(b"x")[..40].to_vec(), None),
            (zip_of(b"x"), Some(Sha256::new([0; 32]))),
        ] {
            let mut pending = store.begin(id("m"), None, u64::MAX).unwrap();
            pending.write(&bytes).unwrap();
            let refused =
                pending.commit(VerifyLevel::Full, announced, provenance(), || true).unwrap_err();
            assert!(matches!(refused, StoreError::Bad(_)), "{refused}");
        }
        assert_eq!((store.count(), scratch_files(&folder)), (0, 0));
        assert!(!folder.path().join("meeting_m").exists());
    }

    #[test]
    fn a_package_that_is_verified_on_the_way_passes_or_fails_as_any_other() {
        let (_folder, store) = store();
        let mut content = vec![0; 3 << 20];
        fastrand::Rng::with_seed(1).fill(&mut content);
        let good = zip_of(&content);
        let mut bad = good.clone();
        bad[2 << 20] ^= 1;
        let put = |bytes: &[u8], verify| {
            let mut pending = store.begin(id("m"), None, u64::MAX).unwrap();
            pending.unpack_while_receiving();
            pending.sync_while_receiving();
            bytes.chunks(100_000).for_each(|piece| pending.write(piece).unwrap());
            pending.commit(verify, None, provenance(), || true)
        };
        let refused = put(&bad, VerifyLevel::Full).unwrap_err();
        assert!(matches!(refused, StoreError::Bad(VerifyError::Entry { .. })), "{refused}");
        let stored = put(&good, VerifyLevel::Full).unwrap();
        let (_, opened) = store.open_package(id("m")).unwrap().unwrap();
        assert_eq!(stored.manifest.sha256, verify::digest(opened.file()).unwrap());
        assert_eq!(put(&bad, VerifyLevel::Structure).unwrap().manifest.file_count, 1);
    }

    #[test]
    fn the_same_bytes_again_replace_nothing_but_facts() {
        let (folder, store) = store();
        let zip = zip_of(b"x");
        let put = |title: &str| {
            let mut pending = store.begin(id("m"), None, u64::MAX).unwrap();
            pending.write(&zip).unwrap();
            pending
                .commit(
                    VerifyLevel::Full,
                    None,
                    Provenance { title: title.into(), ..provenance() },
                    || true,
                )
                .unwrap()
        };
        let (first, second) = (put("old title"), put("new title"));
        assert_eq!(first.manifest.file, second.manifest.file);
        assert_eq!(first.manifest.modified_s, second.manifest.modified_s);
        assert_eq!(second.manifest.title, "new title");
        drop(store);
        let kept = Store::open(folder.path()).unwrap().0.get(id("m")).unwrap();
        assert_eq!(kept.manifest.title, "new title");
    }

    #[test]
    fn adopting_verifies_and_a_bad_package_is_discarded() {
        let (folder, store) = store();
        let place = |bytes: &[u8]| {
            std::fs::create_dir_all(folder.path().join("meeting_m")).unwrap();
            std::fs::write(folder.path().join("meeting_m/package.zip"), bytes).unwrap();
        };
        place(b"<html>");
        assert!(store.adopt(id("m"), VerifyLevel::Full, None, provenance()).is_err());
        store.discard_unverified(id("m")).unwrap();
        assert!(!folder.path().join("meeting_m").exists());

        place(&zip_of(b"good"));
        store.adopt(id("m"), VerifyLevel::Full, None, provenance()).unwrap();
        store.discard_unverified(id("m")).unwrap();
        drop(store);
        assert!(Store::open(folder.path()).unwrap().0.get(id("m")).is_some());
    }
}
