//! Objects on disk: packages of meetings, and files of tasks, each with a manifest beside
//! it. What is said of packages here goes for files, too.
//!
//! A package is in the index only if its bytes were verified and the file is
//! still the verified one (size, time and inode are compared before each
//! download). The file is renamed into place before its manifest is written: a
//! kill in between leaves a good package with a manifest that does not fit,
//! which counts as unverified and is verified again.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

mod batch;
pub mod evict;
pub mod growing;
mod index;
pub mod layout;
mod mapping;
mod open;
pub mod pending;
mod provenance;
mod recheck;
pub mod reread;
mod room;
mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod background_checks;
mod error;
mod verified;
pub mod verify;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edge_mirror_base::{
    atomic::{self, FolderLock},
    clock::now_s,
    tasks,
};
use edge_mirror_protocol::{
    fleet::FleetOrigins,
    object::ObjectKey,
    package::{FileStamp, Manifest, PackageId},
};
use tracing::warn;

pub use batch::VerifiedObject;
pub use error::StoreError;
use index::{IndexWriter, PackageIndex};
use layout::Layout;
pub use open::OpenCopy;
use open::{CopySlot, OpenCopies};
pub use pending::PendingPackage;
pub use provenance::Provenance;
use recheck::FileChange;
use room::SpacePromises;
use scan::FolderScan;
pub use verified::VerifiedPackage;

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A verified object and its usage.
#[derive(Debug)]
pub struct StoredPackage {
    pub manifest: Manifest,
    usage: Arc<PackageUsage>,
    slot: Arc<CopySlot>,
}

/// A stored package and its open copy.
pub type OpenedPackage = (Arc<StoredPackage>, Arc<OpenCopy>);

/// Usage of a meeting's packages; kept when a version replaces another.
#[derive(Debug, Default)]
struct PackageUsage {
    last_served_s: AtomicU64,
    downloads: AtomicU64,
}

impl StoredPackage {
    /// A package of another fleet's main server may be another meeting's under the same
    /// id; one that was adopted has no known origin and counts as ours.
    pub fn is_of_fleet(&self, fleet: &FleetOrigins) -> bool {
        self.manifest.source.origin.as_deref().is_none_or(|from| fleet.contains(from))
    }

    pub fn last_served_s(&self) -> Option<u64> {
        Some(self.usage.last_served_s.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// True while somebody reads it: a download, however slow.
    pub fn is_in_use(&self) -> bool {
        self.slot.is_in_use()
    }

    /// Number of downloads begun since the node started.
    pub fn downloads(&self) -> u64 {
        self.usage.downloads.load(Ordering::Relaxed)
    }

    pub fn note_served(&self) {
        self.usage.last_served_s.store(now_s(), Ordering::Relaxed);
        self.usage.downloads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Findings of [`Store::open`] besides the packages it could trust.
#[derive(Debug, Default)]
pub struct StoreFindings {
    /// Objects that must be verified before they may be served.
    pub unverified: Vec<ObjectKey>,
    /// Scratch files and empty folders of an earlier crash, now removed.
    pub swept: usize,
}

/// The objects in one folder. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    layout: Layout,
    index: PackageIndex,
    open: OpenCopies,
    /// Room for packages under way.
    promises: Mutex<SpacePromises>,
    next_pending: AtomicU64,
    /// The turn of who writes or removes a manifest's file: the last one written has what
    /// the index has. Taken before the index's, for which first downloads wait: whoever has
    /// that waits for no manifest.
    manifest_turn: Mutex<()>,
    _lock: FolderLock,
}

impl Store {
    /// Opens the folder, creating it if need be; trusts the packages whose manifests
    /// fit, lists the others, removes leftovers of a crash.
    pub fn open(root: &Path) -> Result<(Self, StoreFindings), StoreError> {
        let layout = Layout::new(root);
        let scratch = layout.scratch();
        atomic::create_folder(&scratch)
            .map_err(|cause| StoreError::io("create the folder", &scratch, cause))?;
        let lock = acquire_lock(&layout)?;
        let swept = atomic::sweep_all(&scratch)
            .and_then(|in_scratch| Ok(in_scratch + atomic::sweep_all(root)?))
            .map_err(|cause| StoreError::io("clean", &scratch, cause))?;
        let found = FolderScan::of(&layout).map_err(|cause| StoreError::io("list", root, cause))?;
        let served = read_served(&layout);
        let with_usage = |manifest: Manifest| {
            let usage = PackageUsage::default();
            let last_served_s = *served.get(&manifest.key).unwrap_or(&0);
            usage.last_served_s.store(last_served_s, Ordering::Relaxed);
            StoredPackage { manifest, usage: Arc::new(usage), slot: Arc::default() }
        };
        let packages = found.manifests.into_iter().map(with_usage).collect();
        let inner = StoreInner {
            layout,
            index: PackageIndex::of(packages),
            open: OpenCopies::new(open::MAX_OPEN),
            promises: Mutex::default(),
            next_pending: AtomicU64::new(0),
            manifest_turn: Mutex::default(),
            _lock: lock,
        };
        let findings = StoreFindings { unverified: found.unverified, swept: swept + found.swept };
        Ok((Self { inner: Arc::new(inner) }, findings))
    }

    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    pub fn get(&self, key: impl Into<ObjectKey>) -> Option<Arc<StoredPackage>> {
        self.inner.index.get(key.into().as_str())
    }

    /// Returns a meeting's package, if it is here and open already. Takes no lock and waits
    /// for no disk: the kernel knows the metadata of an open descriptor. (On a network
    /// mount it may have to ask the server again.) The id may be any text: that of a file's
    /// key is no meeting's.
    pub fn get_if_open(&self, id: &str) -> Option<OpenedPackage> {
        self.opened(id).filter(|(stored, _)| stored.manifest.key.package().is_some())
    }

    fn opened(&self, key: &str) -> Option<OpenedPackage> {
        let stored = self.inner.index.get(key)?;
        let opened = stored.slot.opened()?;
        let good = opened.is_verified_file(&stored.manifest.file).unwrap_or(false);
        good.then_some((stored, opened))
    }

    /// Like [`open_package`](Self::open_package), but not on the runtime's threads,
    /// which a hanging disk must not hold up. One caller opens it for all others.
    pub async fn package(
        &self,
        key: impl Into<ObjectKey>,
    ) -> Result<Option<OpenedPackage>, StoreError> {
        let key = key.into();
        if let Some(package) = self.opened(key.as_str()) {
            return Ok(Some(package));
        }
        let Some(stored) = self.get(&key) else { return Ok(None) };
        // Never closed.
        let _only_one = stored.slot.opening().acquire().await.ok();
        if let Some(opened) =
            stored.slot.peek().filter(|opened| opened.current_change() == FileChange::Metadata)
        {
            opened.recheck().await;
        }
        let store = self.clone();
        tasks::blocking_limited(move || store.open_package(key)).await
    }

    /// Opens the package with a descriptor of its own, for a caller that reads it whole
    /// and finds changes that don't show in size and time.
    pub async fn package_to_reread(
        &self,
        key: impl Into<ObjectKey>,
    ) -> Result<Option<OpenedPackage>, StoreError> {
        let (store, key) = (self.clone(), key.into());
        tasks::blocking_limited(move || {
            let Some(stored) = store.get(&key) else { return Ok(None) };
            if let Ok(file) = File::open(store.inner.layout.object(&key))
                && file.metadata().is_ok_and(|now| stamp(&now) == stored.manifest.file)
            {
                return Ok(Some((stored, Arc::new(OpenCopy::new(file)))));
            }
            store.open_package(key)
        })
        .await
    }

    /// Opens the package; none if there is no verified one. Blocks.
    ///
    /// A file that is not the verified one was changed by somebody else; it is taken out
    /// of the index (not off the disk: it may be verified again). The disk is asked first,
    /// and its answer compared under the lock that commits hold when they rename: file and
    /// manifest always belong together.
    pub fn open_package(
        &self,
        key: impl Into<ObjectKey>,
    ) -> Result<Option<OpenedPackage>, StoreError> {
        let key = key.into();
        let path = self.inner.layout.object(&key);
        loop {
            if let Some(package) = self.opened(key.as_str()) {
                return Ok(Some(package));
            }
            let Some(before) = self.get(&key) else { return Ok(None) };
            if let Some(opened) = before.slot.peek()
                && opened.current_change() == FileChange::Metadata
            {
                opened.recheck_now().map_err(|cause| StoreError::io("read", &path, cause))?;
                continue;
            }
            let found = match File::open(&path) {
                Ok(file) => {
                    // Its state is noted first, so that nobody writes to it unseen before
                    // it is compared.
                    let opened = OpenCopy::new(file);
                    let metadata = opened.file().metadata();
                    let io_error = |cause| StoreError::io("read", &path, cause);
                    Some((stamp(&metadata.map_err(io_error)?), opened))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(cause) => return Err(StoreError::io("open", &path, cause)),
            };
            let mut turn = self.writer();
            let Some(stored) = turn.get(&key) else { return Ok(None) };
            match found {
                Some((found, opened)) if found == stored.manifest.file => {
                    let opened = Arc::new(opened.with_version(&self.inner, &stored.manifest));
                    self.inner.open.keep(&stored.slot, opened.clone());
                    return Ok(Some((stored, opened)));
                }
                // Replaced meanwhile.
                _ if stored.manifest.file != before.manifest.file => {}
                _ => {
                    remove_from_index(&mut turn, &stored);
                    return Ok(None);
                }
            }
        }
    }

    /// Closes copies that were not used for a minute; to be called every few
    /// seconds.
    pub fn close_idle(&self) {
        self.inner.open.close_idle();
    }

    pub fn list(&self) -> Vec<Arc<StoredPackage>> {
        self.inner.index.all()
    }

    pub fn count(&self) -> usize {
        self.inner.index.count()
    }

    /// Bytes of all packages.
    pub fn used_bytes(&self) -> u64 {
        self.inner.index.used_bytes()
    }

    /// True if there is a package file that is not in the index.
    pub fn has_unverified(&self, key: impl Into<ObjectKey>) -> bool {
        let key = key.into();
        self.get(&key).is_none() && self.inner.layout.object(&key).is_file()
    }

    /// The path of a file's bytes, if it is here, for a copy of it elsewhere.
    pub fn file_path(&self, key: &ObjectKey) -> Option<PathBuf> {
        let stored = self.get(key)?;
        let path = self.inner.layout.object(key);
        let found = fs::metadata(&path).ok()?;
        (stamp(&found) == stored.manifest.file).then_some(path)
    }

    /// Removes a package; downloads under way finish from the open file.
    pub fn remove(&self, key: impl Into<ObjectKey>) -> Result<(), StoreError> {
        let turn = self.manifest_turn();
        self.remove_from(&turn, &mut self.writer(), &key.into())
    }

    /// Removes under the index's lock: no commit may place a new package between the
    /// index and the disk.
    fn remove_from(
        &self,
        _turn: &MutexGuard<'_, ()>,
        index: &mut IndexWriter<'_>,
        key: &ObjectKey,
    ) -> Result<(), StoreError> {
        let layout = &self.inner.layout;
        index.remove(key);
        for path in [layout.manifest(key), layout.object(key)] {
            atomic::remove_file(&path).map_err(|cause| StoreError::io("remove", &path, cause))?;
        }
        // A file's folder may be empty only until a commit that has just created it puts
        // another file there. It goes at the next start.
        let Some(id) = key.package() else { return Ok(()) };
        let folder = layout.folder(id);
        atomic::remove_empty_folder(&folder)
            .map_err(|cause| StoreError::io("remove", &folder, cause))
    }

    /// Lists the meetings whose packages are here, verified or not.
    pub fn ids_on_disk(&self) -> Vec<PackageId> {
        let layout = &self.inner.layout;
        let folders = fs::read_dir(layout.root()).into_iter().flatten().flatten();
        let ids = folders.filter_map(|entry| Layout::id_of(&entry.file_name()));
        ids.filter(|id| layout.package(id).is_file()).collect()
    }

    /// Saves when each package was last served, so that evicting the least
    /// recently served survives a restart.
    pub fn save_served(&self) -> Result<(), StoreError> {
        let served: BTreeMap<ObjectKey, u64> = self
            .list()
            .iter()
            .filter_map(|stored| Some((stored.manifest.key.clone(), stored.last_served_s()?)))
            .collect();
        let path = self.inner.layout.served();
        let bytes = serde_json::to_vec(&served).unwrap_or_default();
        if fs::read(&path).is_ok_and(|old| old == bytes) || (served.is_empty() && !path.exists()) {
            return Ok(());
        }
        atomic::write(&path, &bytes).map_err(|cause| StoreError::io("write", &path, cause))
    }

    fn manifest_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.manifest_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> IndexWriter<'_> {
        self.inner.index.writer()
    }

    /// Blocks changes while it is held.
    #[cfg(any(test, feature = "testing"))]
    pub fn lock_for_test(&self) -> impl Sized {
        self.writer()
    }
}

fn remove_from_index(turn: &mut IndexWriter<'_>, stored: &StoredPackage) {
    let key = &stored.manifest.key;
    warn!("{} was changed on disk by somebody else and is verified anew", key.describe());
    turn.remove(key);
}

/// Locks the folder. A process that is just ending, or a download of the folder's last
/// use, may hold it for a moment.
fn acquire_lock(layout: &Layout) -> Result<FolderLock, StoreError> {
    let path = layout.lock();
    for _ in 0..LOCK_TRIES {
        match FolderLock::take(&path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => std::thread::sleep(LOCK_PAUSE),
            Err(cause) => return Err(StoreError::io("lock", &path, cause)),
        }
    }
    Err(StoreError::InUse(layout.root().to_owned()))
}

fn read_served(layout: &Layout) -> HashMap<ObjectKey, u64> {
    // Lost or broken, it costs only the order of eviction.
    fs::read(layout.served())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn stamp(metadata: &Metadata) -> FileStamp {
    FileStamp {
        size_bytes: metadata.len(),
        inode: metadata.ino(),
        mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    }
}

/// Less free space than this is low: packages are the only thing that grows without
/// being asked.
pub const LOW_DISK_BYTES: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::{
        testing::{provenance, put, zip_of},
        *,
    };

    fn id(text: &str) -> PackageId {
        text.parse().unwrap()
    }

    fn read(store: &Store, name: &str) -> Option<Vec<u8>> {
        let (_, opened) = store.open_package(id(name)).unwrap()?;
        Some(bytes_of(&opened))
    }

    fn bytes_of(opened: &OpenCopy) -> Vec<u8> {
        opened.bytes().unwrap().to_vec()
    }

    #[test]
    fn a_committed_package_is_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let zip = zip_of(b"one");
        let stored = put(&store, "m1", &zip);
        stored.note_served();
        store.save_served().unwrap();

        drop(store);
        let (again, found) = Store::open(folder.path()).unwrap();
        assert!(found.unverified.is_empty());
        let kept = again.get(id("m1")).unwrap();
        assert_eq!(kept.manifest, stored.manifest);
        assert_eq!(kept.last_served_s(), stored.last_served_s());
        assert_eq!(read(&again, "m1"), Some(zip));
        assert_eq!(kept.manifest.file_count, 1);
    }

    #[test]
    fn a_replaced_package_leaves_open_downloads_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let (old, new) = (zip_of(b"old"), zip_of(b"newer"));
        let first = put(&store, "m", &old);
        let (_, open) = store.open_package(id("m")).unwrap().unwrap();
        let second = put(&store, "m", &new);
        assert_ne!(first.manifest.modified_s, second.manifest.modified_s);
        assert_eq!(bytes_of(&open), old);
        assert_eq!(read(&store, "m"), Some(new));
    }

    #[test]
    fn what_is_replaced_while_it_is_opened_is_there_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(b"first"));
        let writing = store.clone();
        let writer = edge_mirror_base::tasks::thread("writer", move || {
            for round in 0..100 {
                put(&writing, "m", &zip_of(&vec![7; round]));
            }
        })
        .unwrap();
        while !writer.is_finished() {
            let (stored, opened) = store.open_package(id("m")).unwrap().expect("it is there");
            assert_eq!(opened.bytes().unwrap().len() as u64, stored.manifest.size_bytes);
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_file_changed_by_somebody_else_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(b"one"));
        fs::write(folder.path().join("meeting_m/package.zip"), b"junk").unwrap();
        assert_eq!(read(&store, "m"), None);
        assert!(store.get(id("m")).is_none() && store.has_unverified(id("m")));
        drop(store);
        let (_, found) = Store::open(folder.path()).unwrap();
        assert_eq!(found.unverified, [id("m").into()]);
    }

    #[test]
    fn an_open_copy_is_shared_until_its_file_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meeting_m/package.zip");
        let (store, _) = Store::open(folder.path()).unwrap();
        let zip = zip_of(b"one");
        let changes: [&dyn Fn(); 3] =
            [&|| fs::write(&path, b"junk").unwrap(), &|| fs::remove_file(&path).unwrap(), &|| {
                fs::write(folder.path().join("other"), &zip).unwrap();
                fs::rename(folder.path().join("other"), &path).unwrap();
            }];
        for change in changes {
            put(&store, "m", &zip);
            assert!(store.get_if_open("m").is_none(), "not open yet");
            let (_, first) = store.open_package(id("m")).unwrap().unwrap();
            let (_, second) = store.get_if_open("m").unwrap();
            assert!(Arc::ptr_eq(&first, &second));
            change();
            assert!(store.get_if_open("m").is_none());
            assert!(store.open_package(id("m")).unwrap().is_none());
            assert!(store.get(id("m")).is_none());
        }
    }

    #[test]
    fn facts_that_change_leave_the_copy_open_and_what_replaces_or_removes_it_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(b"one"));
        let (stored, opened) = store.open_package(id("m")).unwrap().unwrap();
        store.confirm(&stored, "new title".into(), provenance().source).unwrap();
        let (again, same) = store.get_if_open("m").unwrap();
        assert!(Arc::ptr_eq(&opened, &same) && again.manifest.title == "new title");
        assert_eq!(store.inner.open.count(), 1);
        put(&store, "m", &zip_of(b"another"));
        assert_eq!(store.inner.open.count(), 0);
        store.open_package(id("m")).unwrap().unwrap();
        assert_eq!(store.inner.open.count(), 1);
        store.remove(id("m")).unwrap();
        assert_eq!(store.inner.open.count(), 0);
    }

    #[test]
    fn copies_that_nobody_uses_are_closed_and_what_is_under_way_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let zip = zip_of(b"one");
        for name in ["used", "unused"] {
            put(&store, name, &zip);
        }
        let (stored, under_way) = store.open_package(id("unused")).unwrap().unwrap();
        for _ in 0..20 {
            store.open_package(id("used")).unwrap().unwrap();
            store.close_idle();
        }
        assert!(store.get_if_open("used").is_some());
        assert!(store.get_if_open("unused").is_none());
        assert!(stored.is_in_use() && !store.get(id("used")).unwrap().is_in_use());
        assert_eq!(bytes_of(&under_way), zip);
        drop(under_way);
        assert!(!stored.is_in_use());
        assert_eq!(read(&store, "unused"), Some(zip));
    }

    #[test]
    fn a_package_that_lost_bits_goes_and_a_good_one_remembers_that_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let good = put(&store, "good", &zip_of(b"one"));
        let bad = put(&store, "bad", &zip_of(b"two"));
        store.record_reread(&good, true).unwrap();
        store.record_reread(&bad, false).unwrap();
        assert!(store.get(id("bad")).is_none() && !store.has_unverified(id("bad")));
        drop(store);
        let (store, _) = Store::open(folder.path()).unwrap();
        assert!(store.get(id("good")).unwrap().manifest.reread_s.is_some());

        let replaced = store.get(id("good")).unwrap();
        put(&store, "good", &zip_of(b"newer"));
        store.record_reread(&replaced, false).unwrap();
        assert!(store.get(id("good")).is_some(), "what is bad is not what is here");
    }

    #[test]
    fn leftovers_go_and_strange_folders_stay() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["meeting_a", "meeting_b", "photos", "files/inbox", "meeting_c", ".scratch"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs::write(folder.path().join("meeting_b/.tmp-4194999-7"), "half").unwrap();
        fs::write(folder.path().join("meeting_c/notes.txt"), "mine").unwrap();
        fs::write(folder.path().join(".scratch/.tmp-4194999-1"), "half").unwrap();
        let (store, found) = Store::open(folder.path()).unwrap();
        assert_eq!((store.count(), found.swept), (0, 4));
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert!(folder.path().join("files/inbox").is_dir());
        assert_eq!(left, [".lock", ".scratch", "files", "meeting_c", "photos"]);
    }

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
        drop(store);
        assert!(Store::open(folder.path()).is_ok());
    }

    #[test]
    fn removing_takes_the_package_and_keeps_what_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(b"one"));
        fs::write(folder.path().join("meeting_m/notes.txt"), "mine").unwrap();
        store.remove(id("m")).unwrap();
        assert_eq!(store.used_bytes(), 0);
        assert!(!folder.path().join("meeting_m/package.zip").exists());
        assert!(folder.path().join("meeting_m/notes.txt").exists());
    }
}
