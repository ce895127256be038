//! Finds out whether an open copy still has the bytes that were verified, by the
//! metadata of its file.
//!
//! A write changes size, mtime or both, and ctime. Programs can set mtime back
//! (`utimes`), but not ctime. Yet ctime changes with owner, mode, access lists and
//! hard links, too: an operator's `chown -R` touches every package and none of its
//! bytes. So a copy that differs in ctime alone is verified again, once for all its
//! downloads: they hold their ends back meanwhile, and new ones wait. If the digest is
//! the manifest's, the new ctime becomes the baseline; if not, the package is removed,
//! as one that a disk has damaged.
//!
//! Two writes within one tick of the kernel's clock, some milliseconds, look like
//! one; and bytes that somebody puts back, with the old mtime, before the digest
//! is taken, are not seen.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    object::ObjectKey,
    package::{FileStamp, Manifest, Sha256},
};
use rustix::fs::Stat;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use super::{OpenCopy, Store, StoreInner, reread};

/// Limit of concurrent rechecks: each takes a core, and a `chown -R` touches all
/// packages at the same time.
static RECHECKS: Semaphore = Semaphore::const_new(2);
/// Most reads of one recheck if the file keeps being touched: owner, mode and access
/// list are changed one after the other.
const MAX_READS: usize = 5;

/// Metadata of a file.
pub(super) struct FileState {
    inode: u64,
    size_bytes: i64,
    links: u64,
    mtime_ns: i128,
    ctime_ns: i64,
}

/// Metadata that a file is compared with.
#[derive(Debug)]
pub(super) struct FileBaseline {
    size_bytes: i64,
    mtime_ns: i128,
    ctime_ns: AtomicI64,
    /// True once its digest differed.
    damaged: AtomicBool,
    version: Option<VerifiedVersion>,
    /// Held by the task that verifies it again.
    rechecking: Arc<Semaphore>,
    #[cfg(test)]
    reads: std::sync::atomic::AtomicUsize,
}

/// The verified package that an open copy is of.
#[derive(Debug)]
struct VerifiedVersion {
    store: Weak<StoreInner>,
    key: ObjectKey,
    file: FileStamp,
    sha256: Sha256,
}

/// Difference between a file and its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileChange {
    /// Unchanged, or only replaced or removed.
    None,
    /// Only ctime differs, which doesn't tell whether the bytes changed.
    Metadata,
    Content,
}

impl FileState {
    // These types differ from system to system.
    #[allow(clippy::useless_conversion)]
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let now: Stat = rustix::fs::fstat(file)?;
        Ok(Self {
            inode: now.st_ino,
            size_bytes: now.st_size,
            links: u64::from(now.st_nlink),
            mtime_ns: i128::from(now.st_mtime) * 1_000_000_000 + i128::from(now.st_mtime_nsec),
            // Only ever compared: it may wrap.
            ctime_ns: now
                .st_ctime
                .wrapping_mul(1_000_000_000)
                .wrapping_add(now.st_ctime_nsec as i64),
        })
    }

    pub(super) fn is_linked(&self) -> bool {
        self.links > 0
    }

    pub(super) fn has_stamp(&self, stamp: &FileStamp) -> bool {
        self.inode == stamp.inode
            && u64::try_from(self.size_bytes) == Ok(stamp.size_bytes)
            && self.mtime_ns == stamp.mtime_ns
    }
}

impl FileBaseline {
    /// None if the metadata can't be read.
    pub(super) fn of(file: &File) -> Option<Self> {
        let now = FileState::of(file).ok()?;
        Some(Self {
            size_bytes: now.size_bytes,
            mtime_ns: now.mtime_ns,
            ctime_ns: now.ctime_ns.into(),
            damaged: AtomicBool::new(false),
            version: None,
            rechecking: Arc::new(Semaphore::new(1)),
            #[cfg(test)]
            reads: Default::default(),
        })
    }

    fn change_to(&self, now: &FileState) -> FileChange {
        if self.size_bytes != now.size_bytes
            || self.mtime_ns != now.mtime_ns
            || self.damaged.load(Relaxed)
        {
            FileChange::Content
        } else if self.ctime_ns.load(Relaxed) == now.ctime_ns || !now.is_linked() {
            FileChange::None
        } else {
            FileChange::Metadata
        }
    }

    /// Removes a damaged package from its store.
    fn discard(&self, version: &VerifiedVersion) {
        self.damaged.store(true, Relaxed);
        let Some(inner) = version.store.upgrade() else { return };
        let what = version.key.describe();
        match (Store { inner }).remove_damaged(&version.key, &version.file) {
            Ok(true) => error!("{what} was damaged on disk and was removed"),
            Ok(false) => {}
            Err(error) => error!("{what} is damaged on disk; {error}"),
        }
    }
}

impl OpenCopy {
    /// Notes the package that this is a copy of, so that it can be verified again.
    pub(super) fn with_version(mut self, store: &Arc<StoreInner>, manifest: &Manifest) -> Self {
        if let Some(baseline) = &mut self.baseline {
            baseline.version = Some(VerifiedVersion {
                store: Arc::downgrade(store),
                key: manifest.key.clone(),
                file: manifest.file,
                sha256: manifest.sha256,
            });
        }
        self
    }

    pub(super) fn change_to(&self, now: &FileState) -> FileChange {
        self.baseline.as_ref().map_or(FileChange::None, |baseline| baseline.change_to(now))
    }

    /// A file whose metadata can't be read counts as changed.
    pub(super) fn current_change(&self) -> FileChange {
        FileState::of(self.file()).map_or(FileChange::Content, |now| self.change_to(&now))
    }

    /// True if its bytes are still those that were verified. If only reading tells, one
    /// caller reads for all; the read goes on when callers leave.
    pub async fn recheck(self: Arc<Self>) -> bool {
        let Some(baseline) = &self.baseline else { return true };
        let Ok(only_one) = baseline.rechecking.clone().acquire_owned().await else { return false };
        let change = self.current_change();
        if change != FileChange::Metadata {
            return change == FileChange::None;
        }
        // Never closed.
        let few = RECHECKS.acquire().await.ok();
        tasks::blocking_limited(move || {
            let good = self.recheck_now();
            drop((only_one, few));
            good.unwrap_or_else(|error| {
                warn!("a package that is downloaded could not be verified again: {error}");
                false
            })
        })
        .await
    }

    /// The same, without a queue. Blocks for as long as reading takes.
    pub(super) fn recheck_now(&self) -> io::Result<bool> {
        for _ in 0..MAX_READS {
            let now = FileState::of(self.file())?;
            let change = self.change_to(&now);
            let Some(baseline) = self.baseline.as_ref().filter(|_| change == FileChange::Metadata)
            else {
                return Ok(change == FileChange::None);
            };
            let Some(version) = &baseline.version else { return Ok(false) };
            #[cfg(test)]
            baseline.reads.fetch_add(1, Relaxed);
            let is_good = match reread::digest(self, version.file.size_bytes) {
                Ok(sha256) => sha256 == version.sha256,
                Err(cause) if reread::is_lost(&cause) => false,
                Err(cause) => return Err(cause),
            };
            if !is_good {
                baseline.discard(version);
                return Ok(false);
            }
            // A file that was touched during the read is read again.
            baseline.ctime_ns.store(now.ctime_ns, Relaxed);
            let what = version.key.describe();
            info!("{what} was touched by somebody else; its bytes are the same");
        }
        Err(io::Error::other("somebody keeps changing it"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{FileExt, PermissionsExt},
        path::Path,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::testing::{put, touch, zip_of};

    type Act<'a> = &'a dyn Fn(&Path);

    fn chmod(path: &Path) {
        let mode = std::fs::metadata(path).unwrap().permissions().mode() ^ 0o100;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes as somebody does who wants to hide it.
    fn write_hidden(path: &Path) {
        let file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"!", 40).unwrap();
        file.set_modified(before).unwrap();
    }

    #[test]
    fn whatever_is_written_shows_and_removing_it_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("package.zip");
        let changes: [(Act<'_>, FileChange); 7] = [
            (&|_| (), FileChange::None),
            (&|path| std::fs::remove_file(path).unwrap(), FileChange::None),
            (&|path| std::fs::rename(folder.path().join("other"), path).unwrap(), FileChange::None),
            (
                &|path| File::options().write(true).open(path).unwrap().set_len(1).unwrap(),
                FileChange::Content,
            ),
            (&write_hidden, FileChange::Metadata),
            (&chmod, FileChange::Metadata),
            (
                &|path| std::fs::hard_link(path, folder.path().join("link")).unwrap(),
                FileChange::Metadata,
            ),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            std::fs::write(folder.path().join("other"), "other").unwrap();
            std::fs::write(&path, [b'x'; 50]).unwrap();
            let opened = OpenCopy::new(File::open(&path).unwrap());
            // The kernel's clock must tick in between.
            let began = Instant::now();
            let ticked = || {
                let now = folder.path().join("tick");
                std::fs::write(&now, "").unwrap();
                FileState::of(&File::open(now).unwrap()).unwrap().ctime_ns
            };
            while ticked() == opened.baseline.as_ref().unwrap().ctime_ns.load(Relaxed) {
                assert!(began.elapsed() < Duration::from_secs(9));
            }
            change(&path);
            assert_eq!(opened.current_change(), expected, "{number}");
        }
    }

    #[tokio::test]
    async fn what_was_touched_is_read_once_for_all_and_goes_on_if_its_bytes_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meeting_m/package.zip");
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(&[7; 100_000]));
        let id: ObjectKey = "m".parse().unwrap();
        let (_, opened) = store.package(&id).await.unwrap().unwrap();
        for round in 1..=2 {
            touch(&opened, || chmod(&path));
            assert!(store.get_if_open("m").is_none(), "not before it is known to be good");
            let asked = (0..20).map(|_| opened.clone().recheck());
            let good = futures_util::future::join_all(asked).await;
            assert!(good.iter().all(|good| *good));
            let (_, again) = store.package(&id).await.unwrap().unwrap();
            assert!(Arc::ptr_eq(&again, &opened), "the copy stays open");
            assert!(store.get_if_open("m").is_some());
            assert_eq!(opened.baseline.as_ref().unwrap().reads.load(Relaxed), round);
        }
    }

    #[tokio::test]
    async fn who_begins_a_download_after_a_hidden_write_does_not_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let path = |name: &str| folder.path().join(format!("meeting_{name}/package.zip"));
        for name in ["asked", "opened", "under_way"] {
            put(&store, name, &zip_of(&[7; 100_000]));
            let id: ObjectKey = name.parse().unwrap();
            let (_, opened) = store.package(&id).await.unwrap().unwrap();
            touch(&opened, || write_hidden(&path(name)));
            match name {
                "asked" => assert!(store.package(&id).await.unwrap().is_none()),
                "opened" => assert!(store.open_package(&id).unwrap().is_none()),
                _ => assert!(!opened.clone().recheck().await),
            }
            assert!(store.get(&id).is_none() && !store.has_unverified(&id), "{name}");
            assert!(!opened.clone().recheck().await && !opened.is_untouched());
            let reads = opened.baseline.as_ref().unwrap().reads.load(Relaxed);
            assert_eq!(reads, 1, "what is known to be bad is not read again");
        }
    }

    #[tokio::test]
    async fn a_damaged_copy_takes_no_newer_package_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meeting_m/package.zip");
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "m", &zip_of(b"old"));
        let id: ObjectKey = "m".parse().unwrap();
        let (_, opened) = store.package(&id).await.unwrap().unwrap();
        // A second link, so that a replaced file is still linked.
        std::fs::hard_link(&path, folder.path().join("link")).unwrap();
        touch(&opened, || write_hidden(&path));
        let new = put(&store, "m", &zip_of(b"newer"));
        assert!(!opened.recheck().await);
        let (stored, _) = store.package(&id).await.unwrap().unwrap();
        assert_eq!(stored.manifest.sha256, new.manifest.sha256);
    }
}
