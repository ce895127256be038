//! The verified objects, by key. Readers take no lock and wait for
//! nobody, whatever the disk does; writers take turns.
//!
//! A change copies only its shard, a sixty-fourth of all: ten thousand packages
//! cost it as little as a few.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use edge_mirror_protocol::{object::ObjectKey, package::Manifest};

use super::StoredPackage;

const SHARDS: usize = 64;

type Shard = HashMap<ObjectKey, Arc<StoredPackage>>;

#[derive(Debug)]
pub(super) struct PackageIndex {
    hasher: RandomState,
    shards: [ArcSwap<Shard>; SHARDS],
    count: AtomicUsize,
    used_bytes: AtomicU64,
    /// Those of files among them.
    file_bytes: AtomicU64,
    turn: Mutex<()>,
}

/// Exclusive access for changes of the index and the disk: a rename and the entry
/// for it belong together.
pub(super) struct IndexWriter<'a> {
    index: &'a PackageIndex,
    _turn: MutexGuard<'a, ()>,
}

impl PackageIndex {
    pub(super) fn of(packages: Vec<StoredPackage>) -> Self {
        let hasher = RandomState::new();
        let (count, used) = (packages.len(), packages.iter().map(|p| p.manifest.size_bytes).sum());
        let files = packages.iter().filter(|package| package.manifest.key.package().is_none());
        let file_bytes = files.map(|file| file.manifest.size_bytes).sum();
        let mut shards: [Shard; SHARDS] = std::array::from_fn(|_| Shard::new());
        for package in packages {
            let key = package.manifest.key.clone();
            shards[shard(&hasher, key.as_str())].insert(key, Arc::new(package));
        }
        Self {
            hasher,
            shards: shards.map(ArcSwap::from_pointee),
            count: AtomicUsize::new(count),
            used_bytes: AtomicU64::new(used),
            file_bytes: AtomicU64::new(file_bytes),
            turn: Mutex::new(()),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<StoredPackage>> {
        self.shards[shard(&self.hasher, key)].load().get(key).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<StoredPackage>> {
        let mut all = Vec::with_capacity(self.count());
        self.shards.iter().for_each(|shard| all.extend(shard.load().values().cloned()));
        all
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bytes of all packages.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all files.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Waits until nobody else makes changes.
    pub(super) fn writer(&self) -> IndexWriter<'_> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        IndexWriter { index: self, _turn: turn }
    }
}

impl IndexWriter<'_> {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<StoredPackage>> {
        self.index.get(key.as_str())
    }

    /// Puts a manifest into the index. Keeps the package's usage, and its open copy if
    /// the file is the same.
    pub(super) fn admit(&mut self, manifest: Manifest) -> Arc<StoredPackage> {
        let key = manifest.key.clone();
        let old = self.get(&key);
        let usage = old.as_ref().map(|old| old.usage.clone()).unwrap_or_default();
        let same_file = |old: &&Arc<StoredPackage>| old.manifest.file == manifest.file;
        let slot = old.as_ref().filter(same_file).map(|old| old.slot.clone()).unwrap_or_default();
        let stored = Arc::new(StoredPackage { manifest, usage, slot });
        self.change(key, Some(stored.clone()));
        if let Some(old) = old.filter(|old| !Arc::ptr_eq(&old.slot, &stored.slot)) {
            old.slot.close();
        }
        stored
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        if let Some(removed) = self.change(key.clone(), None) {
            removed.slot.close();
        }
    }

    /// Atomic for readers: they find the old entry or the new one.
    fn change(
        &mut self,
        key: ObjectKey,
        entry: Option<Arc<StoredPackage>>,
    ) -> Option<Arc<StoredPackage>> {
        let slot = &self.index.shards[shard(&self.index.hasher, key.as_str())];
        let mut shard = Shard::clone(&slot.load());
        let size =
            |entry: &Option<Arc<StoredPackage>>| entry.as_ref().map(|e| e.manifest.size_bytes);
        let added = size(&entry);
        let is_file = key.package().is_none();
        let old = match entry {
            Some(entry) => shard.insert(key, entry),
            None => shard.remove(&key),
        };
        slot.store(Arc::new(shard));
        let (count, used) = (&self.index.count, &self.index.used_bytes);
        let in_files = |bytes| if is_file { bytes } else { 0 };
        if let Some(bytes) = added {
            count.fetch_add(1, Ordering::Relaxed);
            used.fetch_add(bytes, Ordering::Relaxed);
            self.index.file_bytes.fetch_add(in_files(bytes), Ordering::Relaxed);
        }
        if let Some(bytes) = size(&old) {
            count.fetch_sub(1, Ordering::Relaxed);
            used.fetch_sub(bytes, Ordering::Relaxed);
            self.index.file_bytes.fetch_sub(in_files(bytes), Ordering::Relaxed);
        }
        old
    }
}

fn shard(hasher: &RandomState, key: &str) -> usize {
    hasher.hash_one(key) as usize % SHARDS
}
