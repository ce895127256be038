//! The only place that creates, renames and removes files (the log roller
//! aside), so that "a kill at any moment leaves the old or the new file
//! whole" has to be argued once:
//!
//! 1. a scratch file on the same filesystem takes the bytes,
//! 2. it is fsynced, so that a power cut can't leave an empty new file,
//! 3. it is renamed over its destination, which is atomic,
//! 4. the folder is fsynced, so that the rename itself lasts.

#![expect(clippy::disallowed_methods, reason = "what everybody else goes through")]

mod together;

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::FallocateFlags;

use crate::tasks;
pub use together::{create_folder_unsynced, sync_filesystem, sync_together};

/// Scratch files are called `.tmp-{process}-{number}`.
const SCRATCH_PREFIX: &str = ".tmp-";
/// Unit of `st_blocks`, whatever the filesystem's block size is.
const BLOCK_BYTES: u64 = 512;

/// The first number is the time, so that scratch files of this process differ from those of
/// an earlier one with the same PID (in a container, every process has the same).
static FIRST_SCRATCH: LazyLock<u64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(0)
});
static NEXT_SCRATCH: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(*FIRST_SCRATCH));

/// A temporary file, removed on drop unless it was persisted.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    persisted: bool,
    file: File,
}

impl Scratch {
    /// Creates a scratch file in `folder`, readable and writable.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        Self::create_with_mode(folder, 0o666)
    }

    /// Creates a scratch file with these bytes, which are not durable yet.
    pub fn create_with(folder: &Path, bytes: &[u8]) -> io::Result<Self> {
        let scratch = Self::create_in(folder)?;
        scratch.file().write_all(bytes)?;
        Ok(scratch)
    }

    fn create_with_mode(folder: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        loop {
            let serial = NEXT_SCRATCH.fetch_add(1, Ordering::Relaxed);
            let name = format!("{SCRATCH_PREFIX}{}-{serial}", std::process::id());
            let path = folder.join(name);
            match options.open(&path) {
                Ok(file) => return Ok(Self { path, persisted: false, file }),
                // Left by an earlier process with our PID: take the next name.
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Opens a read-only handle, which may outlive this one.
    pub fn reader(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Allocates `bytes` on the disk for the file and returns how many were allocated: not every
    /// filesystem does it. After an error, nothing is allocated beyond the bytes written. The
    /// file's length does not change: it is always what was written.
    pub fn reserve(&self, bytes: u64) -> io::Result<u64> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Ok(()) => Ok(self.file.metadata()?.blocks() * BLOCK_BYTES),
            Err(error) => {
                // Truncating to the current length frees the blocks beyond it.
                self.file.set_len(self.file.metadata()?.len())?;
                Err(error.into())
            }
        }
    }

    /// Makes the bytes durable.
    pub fn sync(&self) -> io::Result<Durable> {
        self.file.sync_all().map(|()| Durable(()))
    }

    /// Renames the file to `destination`, replacing any file there. Durable once
    /// [`sync_folder_of`] was called.
    pub fn persist(mut self, _: Durable, destination: &Path) -> io::Result<()> {
        fs::rename(&self.path, destination)?;
        self.persisted = true;
        Ok(())
    }
}

/// Proof that a scratch file's bytes outlast a power cut. No test can cut the power,
/// so the compiler checks that no file is persisted without it.
#[derive(Debug)]
pub struct Durable(());

impl Durable {
    /// Takes the outcome of an fsync that was done elsewhere.
    pub fn from_sync(synced: io::Result<()>) -> io::Result<Self> {
        synced.map(|()| Self(()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.persisted {
            // Drop can't return errors; the next start sweeps leftovers.
            let _ = tasks::block_in_place(|| fs::remove_file(&self.path));
        }
    }
}

/// A temporary file that outlasts its process, so that a later one can resume.
/// Its owner names it, and discards it when it is of no more use.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    file: File,
}

impl PartialFile {
    /// Opens or creates the file. None if another process has it locked.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Does not follow a link that somebody else has put there.
        options.custom_flags(libc::O_NOFOLLOW);
        loop {
            let file = options.open(path)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                // Renamed or discarded before it was locked: open the path again.
                Ok(()) if !is_same_file(&file, path) => {}
                Ok(()) | Err(_) => return Ok(Some(Self { path: path.to_owned(), file })),
            }
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and renames it to `destination`, replacing any file there.
    pub fn persist(&self, destination: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, destination)?;
        sync_folder_of(destination)
    }

    pub fn discard(&self) -> io::Result<()> {
        remove_file(&self.path)
    }
}

/// Replaces the file at `path` by `bytes`. Keeps permissions and owner, as root may
/// write a file that a service reads.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A symbolic link is kept; its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let scratch = Scratch::create_in(folder_of(&target))?;
    if let Ok(existing) = fs::metadata(&target) {
        keep_owner(&scratch, &existing)?;
        scratch.file().set_permissions(existing.permissions())?;
    }
    scratch.file().write_all(bytes)?;
    let durable = scratch.sync()?;
    scratch.persist(durable, &target)?;
    sync_folder_of(&target)
}

/// Like [`write()`], for a file that only its owner may read. Keeps the owner, as root
/// may write a file that a service reads; a new file gets the folder's owner.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let scratch = Scratch::create_with_mode(folder, 0o600)?;
    let owner = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
    keep_owner(&scratch, &owner)?;
    scratch.file().write_all(bytes)?;
    let durable = scratch.sync()?;
    scratch.persist(durable, path)?;
    sync_folder_of(path)
}

/// User and group of a file.
pub type FileOwner = (u32, u32);

/// Like [`write()`], with this mode and, if one is named, this owner.
pub fn write_as(path: &Path, bytes: &[u8], mode: u32, owner: Option<FileOwner>) -> io::Result<()> {
    replace_with(path, mode, owner, |mut file| file.write_all(bytes))
}

/// Copies a file, replacing any file at `to`: whole, or not at all. On a filesystem
/// with reflinks, both share their blocks until one of them changes. Does not follow a link:
/// root copies from folders of others.
pub fn copy(from: &Path, to: &Path, mode: u32, owner: Option<FileOwner>) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let source = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(from)?;
    replace_with(to, mode, owner, |mut file| match rustix::fs::ioctl_ficlone(file, &source) {
        Ok(()) => Ok(()),
        Err(_) => io::copy(&mut &source, &mut file).map(drop),
    })
}

fn replace_with(
    path: &Path,
    mode: u32,
    owner: Option<FileOwner>,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Nobody else may open it before it has its owner.
    let scratch = Scratch::create_with_mode(folder_of(path), 0o600)?;
    fill(scratch.file())?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(scratch.file(), Some(user), Some(group))?;
    }
    // After chown, which clears some bits, and whatever the umask is.
    scratch.file().set_permissions(fs::Permissions::from_mode(mode))?;
    let durable = scratch.sync()?;
    scratch.persist(durable, path)?;
    sync_folder_of(path)
}

/// Creates a folder and its parents; gives it, new or not, this mode and, if one is
/// named, this owner. The target of a link is left alone: the owner of the parent folder
/// could have pointed it at anything.
pub fn create_folder_as(path: &Path, mode: u32, owner: Option<FileOwner>) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    create_folder(path)?;
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let folder = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => return Ok(()),
        opened => opened?,
    };
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&folder, Some(user), Some(group))?;
    }
    folder.set_permissions(fs::Permissions::from_mode(mode))
}

/// Gives a scratch file that root made the owner of what it replaces.
fn keep_owner(scratch: &Scratch, owner: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let own = scratch.file().metadata()?;
    match (own.uid(), own.gid()) != (owner.uid(), owner.gid()) && own.uid() == 0 {
        true => std::os::unix::fs::fchown(scratch.file(), Some(owner.uid()), Some(owner.gid())),
        false => Ok(()),
    }
}

/// Removes others' access to a file. A missing file is not an error.
pub fn remove_world_access(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) => return ignore_not_found(Err(error)),
    };
    match mode & 0o007 {
        0 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o007)),
    }
}

/// Longest wait for another process's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `work` while no other process runs this function on the same path. Locks the
/// file itself, where it is one that others can't open, or its folder while there is no
/// file. Does not wait where the filesystem has no locks.
pub fn with_lock<T>(path: &Path, work: impl FnOnce() -> T) -> io::Result<T> {
    let ends = Instant::now() + PATIENCE;
    loop {
        let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
        let lock = File::open(if is_file { path } else { folder_of(path) })?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                if Instant::now() >= ends {
                    return Err(io::Error::other("another process holds it"));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // Replaced while this waited: the lock is on the old file.
            Ok(()) if is_file && !is_same_file(&lock, path) => {}
            Ok(()) | Err(_) => return Ok(work()),
        }
    }
}

fn is_same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    let now = fs::metadata(path).map(place).ok();
    open.metadata().map(place).ok() == now
}

/// Creates a folder and its parents.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    sync_folder_of(path)
}

/// Creates a folder that only its owner may open; fails if it exists.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// A lock that marks a folder as in use, for other processes, too. The kernel
/// releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock; none if it is held already. Where the filesystem has no locks,
    /// everybody gets one.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Ok(()) | Err(_) => Ok(Some(Self { _file: file })),
        }
    }
}

/// Checks that a folder can be written to; creates it if need be.
pub fn probe_folder(path: &Path) -> io::Result<()> {
    create_folder(path)?;
    Scratch::create_in(path).map(drop)
}

/// Removes a file; one that is gone already is not an error.
pub fn remove_file(path: &Path) -> io::Result<()> {
    ignore_not_found(fs::remove_file(path))
}

/// Removes a folder if nothing is in it.
pub fn remove_empty_folder(path: &Path) -> io::Result<()> {
    ignore_not_found(match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    })
}

/// Removes a folder with all that is in it.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    ignore_not_found(fs::remove_dir_all(path))
}

/// Removes all scratch files in `folder`, whose lock the caller holds.
pub fn sweep_all(folder: &Path) -> io::Result<usize> {
    sweep_matching(folder, |_, _| true)
}

/// Removes the scratch files that a crash left in a folder without a lock (the
/// configuration's), but not those of live processes.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    sweep_matching(folder, is_gone)
}

fn sweep_matching(folder: &Path, gone: impl Fn(u32, u64) -> bool) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if parse_scratch_name(&entry.file_name()).is_some_and(|(pid, number)| gone(pid, number)) {
            remove_file(&entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Returns the process and the number in a scratch file's name.
fn parse_scratch_name(name: &OsStr) -> Option<(u32, u64)> {
    let (pid, number) = name.to_str()?.strip_prefix(SCRATCH_PREFIX)?.split_once('-')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}

fn is_gone(pid: u32, number: u64) -> bool {
    match pid == std::process::id() {
        true => number < *FIRST_SCRATCH,
        // The PID may be another program's by now: after a power cut, say.
        false => name_of(&pid.to_string()) != name_of("self"),
    }
}

fn name_of(process: &str) -> Option<Vec<u8>> {
    fs::read(Path::new("/proc").join(process).join("comm")).ok()
}

fn ignore_not_found(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes renames in the folder of `path` durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_file_that_is_not_persisted_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Scratch::create_in(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn writing_replaces_the_whole_file_and_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"a long first version").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn copying_replaces_the_file_and_leaves_the_source_alone() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"new").unwrap();
        fs::write(&to, b"an older one").unwrap();
        let open = fs::File::open(&to).unwrap();
        copy(&from, &to, 0o640, None).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(open.metadata().unwrap().len(), 12, "who reads the old one goes on");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&from), inode(&to), "a link would change with its source");
        assert!(copy(&folder.path().join("none"), &to, 0o640, None).is_err());
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn writing_through_a_symbolic_link_keeps_the_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        write(&real, b"old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn a_partial_file_is_one_users_at_a_time_and_waits_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let (path, whole) = (folder.path().join("part"), folder.path().join("whole"));
        let first = PartialFile::open(&path).unwrap().unwrap();
        first.file().write_all(b"half").unwrap();
        assert!(PartialFile::open(&path).unwrap().is_none());
        drop(first);
        let again = PartialFile::open(&path).unwrap().unwrap();
        assert_eq!(again.file().metadata().unwrap().len(), 4);
        again.persist(&whole).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"half");
        PartialFile::open(&path).unwrap().unwrap().discard().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        std::os::unix::fs::symlink(&whole, &path).unwrap();
        assert!(PartialFile::open(&path).is_err(), "a link");
    }

    #[test]
    fn sweeping_takes_what_dead_processes_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!(".tmp-{}-9", std::process::id());
        // PID 1 is alive, but is another program.
        let (dead, foreign) = (".tmp-4194999-1", ".tmp-1-1");
        for name in [&own, dead, foreign, "kept", ".tmp-mine", ".tmp-1-notes.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let in_use = Scratch::create_in(folder.path()).unwrap();
        assert_eq!(sweep(folder.path()).unwrap(), 3);
        assert!(in_use.path.exists());
        let gone = |name: &str| !folder.path().join(name).exists();
        assert!(gone(&own) && gone(dead) && gone(foreign) && !gone("kept"));
    }
}
