//! Room on the disk and under the limit: a package is promised room before it is
//! written, so that two that fit one by one don't fill the disk together.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{MutexGuard, PoisonError, atomic::Ordering},
};

use edge_mirror_base::{atomic::Scratch, tasks};
use edge_mirror_protocol::object::ObjectKey;

use super::{Store, StoreError, StoreInner};

/// Disk space that packages leave free for logs, manifests and the system.
const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// One block; an empty file would not take any.
const TRIED_BYTES: usize = 4096;

/// Keyed by the pending package's number.
pub(super) type SpacePromises = BTreeMap<u64, SpacePromise>;

/// Bytes promised to one package under way.
#[derive(Debug)]
pub(super) struct SpacePromise {
    key: ObjectKey,
    total_bytes: u64,
    given_bytes: u64,
}

/// Room promised to one package; given back when dropped.
#[derive(Debug)]
pub(super) struct SpacePermit {
    store: Store,
    key: ObjectKey,
    number: u64,
}

/// Room that a package needs, with all others under way.
struct SpaceNeed {
    /// Compared with the store's limit.
    used_bytes: u64,
    /// Compared with the disk's free space.
    disk_bytes: u64,
}

impl Store {
    /// Writes a block where packages arrive, and removes it. Without an fsync: behind a
    /// pull's bytes it can take seconds, and a disk that fails is found read-only or
    /// refuses the file.
    pub fn try_writing(&self) -> Result<(), StoreError> {
        let folder = self.inner.layout.scratch();
        let tried = Scratch::create_in(&folder)
            .and_then(|scratch| scratch.file().write_all(&[0; TRIED_BYTES]));
        tried.map_err(|cause| StoreError::io("write in", &folder, cause))
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.inner.index.file_bytes()
    }

    /// Bytes free on the disk.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(self.root())?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Bytes of other objects to remove before `key` fits with `bytes`.
    pub fn shortage(&self, key: impl Into<ObjectKey>, bytes: u64, limit_bytes: u64) -> u64 {
        self.shortage_of(&key.into(), bytes, limit_bytes, None)
    }

    fn shortage_of(
        &self,
        key: &ObjectKey,
        bytes: u64,
        limit_bytes: u64,
        number: Option<u64>,
    ) -> u64 {
        let promises = self.inner.promises();
        let need = self.inner.need(&promises, key, bytes, number);
        let free = self.free_bytes().unwrap_or(u64::MAX);
        drop(promises);
        let over_limit = need.used_bytes.saturating_sub(limit_bytes);
        over_limit.max(need.disk_bytes.saturating_sub(free))
    }
}

impl SpacePermit {
    pub(super) fn take(
        store: &Store,
        key: ObjectKey,
        total_bytes: u64,
        limit_bytes: u64,
    ) -> Result<Self, StoreError> {
        let number = store.inner.next_pending.fetch_add(1, Ordering::Relaxed);
        let room = Self { store: store.clone(), key, number };
        room.grow(total_bytes, limit_bytes)?;
        Ok(room)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Promises the room to the object under another name.
    pub(super) fn rename(&mut self, key: ObjectKey) {
        if let Some(promise) = self.store.inner.promises().get_mut(&self.number) {
            promise.key = key.clone();
        }
        self.key = key;
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Promises room for `total_bytes`; if refused, the old promise stands.
    pub(super) fn grow(&self, total_bytes: u64, limit_bytes: u64) -> Result<(), StoreError> {
        let (inner, key) = (&self.store.inner, &self.key);
        // Measured, checked and promised under one lock: two callers must not both pass,
        // and bytes allocated meanwhile count once.
        let mut promises = inner.promises();
        let free = self.store.free_bytes();
        let free = free.map_err(|cause| StoreError::io("measure", self.store.root(), cause))?;
        let SpaceNeed { used_bytes, disk_bytes } =
            inner.need(&promises, key, total_bytes, Some(self.number));
        if used_bytes > limit_bytes {
            return Err(StoreError::NoRoom(format!(
                "storage.maxSize is {limit_bytes} bytes, with the {} it would hold {used_bytes}",
                key.describe()
            )));
        }
        if disk_bytes > free {
            return Err(StoreError::NoRoom(format!(
                "the disk has {free} bytes free, the {} and others under way need {disk_bytes}",
                key.describe()
            )));
        }
        let given_bytes = promises.get(&self.number).map_or(0, |promise| promise.given_bytes);
        promises.insert(self.number, SpacePromise { key: key.clone(), total_bytes, given_bytes });
        Ok(())
    }

    pub(super) fn shortage(&self, bytes: u64, limit_bytes: u64) -> u64 {
        self.store.shortage_of(&self.key, bytes, limit_bytes, Some(self.number))
    }

    /// Allocates all that was promised.
    pub(super) fn reserve(&self, scratch: &Scratch, bytes: u64) -> io::Result<()> {
        let mut promises = self.store.inner.promises();
        let given = scratch.reserve(bytes)?;
        if let Some(promise) = promises.get_mut(&self.number) {
            promise.given_bytes = given.min(bytes);
        }
        Ok(())
    }

    /// Notes bytes that are allocated, and so no longer promised.
    pub(super) fn record_reserved(&self, bytes: u64) {
        if let Some(promise) = self.store.inner.promises().get_mut(&self.number) {
            promise.given_bytes = promise.given_bytes.max(bytes);
        }
    }
}

impl Drop for SpacePermit {
    fn drop(&mut self) {
        // Others hold the lock during disk calls.
        tasks::block_in_place(|| self.store.inner.promises().remove(&self.number));
    }
}

impl StoreInner {
    /// Returns the room needed for a package of `bytes`, which replaces the stored one
    /// of `key`.
    fn need(
        &self,
        promises: &SpacePromises,
        key: &ObjectKey,
        bytes: u64,
        number: Option<u64>,
    ) -> SpaceNeed {
        let replaced = self.index.get(key.as_str()).map_or(0, |old| old.manifest.size_bytes);
        let stored = self.index.used_bytes().saturating_sub(replaced);
        let others = || promises.iter().filter(|(other, _)| Some(**other) != number);
        let others_total: u64 = others()
            .filter(|(_, promise)| promise.key != *key)
            .map(|(_, promise)| promise.total_bytes)
            .sum();
        let others_awaited: u64 = others()
            .map(|(_, promise)| promise.total_bytes.saturating_sub(promise.given_bytes))
            .sum();
        let own = number.and_then(|number| promises.get(&number));
        let awaited = bytes.saturating_sub(own.map_or(0, |own| own.given_bytes));
        SpaceNeed {
            used_bytes: stored.saturating_add(others_total).saturating_add(bytes),
            disk_bytes: awaited.saturating_add(others_awaited).saturating_add(DISK_RESERVE_BYTES),
        }
    }

    fn promises(&self) -> MutexGuard<'_, SpacePromises> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_the_disk_has_given_is_neither_promised_nor_counted_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let other = "n".parse().unwrap();
        let bytes = 8 << 20;
        let room = SpacePermit::take(&store, "m".parse().unwrap(), bytes, u64::MAX).unwrap();
        let needed = || store.inner.need(&store.inner.promises(), &other, 1, None).disk_bytes;
        assert_eq!(needed(), DISK_RESERVE_BYTES + bytes + 1);
        let scratch = Scratch::create_in(folder.path()).unwrap();
        room.reserve(&scratch, bytes).unwrap();
        assert!(scratch.file().metadata().unwrap().blocks() * 512 >= bytes);
        assert_eq!(needed(), DISK_RESERVE_BYTES + 1);
        room.record_reserved(1);
        assert_eq!(needed(), DISK_RESERVE_BYTES + 1, "as bytes come");
    }
}
