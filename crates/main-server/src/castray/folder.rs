//! The files of this protocol's clients: uploads and samples, in one folder, bounded in bytes
//! and number.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edge_mirror_base::{
    atomic::{self, Scratch},
    clock::UnixMillis,
};
use edge_mirror_http::wire::pages;
use edge_mirror_protocol::{dispatch::check_file_name, package::Sha256};
use md5::Md5;
use sha2::{Digest, Sha256 as Sha256Hasher};
use thiserror::Error;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// The reason that a file can't be written, read or removed.
#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("文件名无效 / the file's name is not allowed: {0}")]
    Name(String),
    #[error("文件不存在")]
    Unknown,
    #[error(
        "文件已达上限（{0} 字节，见 --castray-files），请先删除一些 / the files may take {0} bytes in all (--castray-files); delete some first"
    )]
    Full(u64),
    #[error(
        "文件已达上限 {0} 个（--castray-file-count），请先删除一些 / there are {0} files (--castray-file-count), delete some first"
    )]
    TooMany(usize),
    #[error(
        "文件过大，上限 {0} 字节（--castray-file-size） / the file is larger than {0} bytes (--castray-file-size)"
    )]
    TooLarge(u64),
    #[error("磁盘出错 / the disk failed: {0}")]
    Disk(#[from] io::Error),
}

/// Bounds of the files.
#[derive(Clone, Copy, Debug)]
pub(super) struct FolderLimits {
    /// Bytes of all.
    pub(super) max_bytes: u64,
    pub(super) max_files: usize,
    /// Bytes of one.
    pub(super) max_file_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct FolderTotals {
    /// Those of files that are being written among them.
    bytes: u64,
    files: usize,
}

#[derive(Debug)]
pub(super) struct FileFolder {
    path: PathBuf,
    pub(super) limits: FolderLimits,
    usage: Mutex<FolderTotals>,
}

/// A file that lies there.
#[derive(Clone, Debug)]
pub(super) struct ListedFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified_at: UnixMillis,
}

/// The digests of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileDigests {
    pub(super) bytes: u64,
    pub(super) md5: String,
    pub(super) sha256: Sha256,
}

/// A file in its place.
#[derive(Clone, Debug)]
pub(super) struct PlacedFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) digests: FileDigests,
}

/// The end of a new file whose name another one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameClash {
    /// It replaces the other one.
    Replace,
    /// It gets a longer name.
    Rename,
}

/// Bytes that are digested as they pass.
#[derive(Default)]
pub(super) struct DigestWriter {
    bytes: u64,
    md5: Md5,
    sha256: Sha256Hasher,
}

impl DigestWriter {
    pub(super) fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.md5.update(piece);
        self.sha256.update(piece);
    }

    pub(super) fn finish(self) -> FileDigests {
        let md5 = self.md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let sha256 = Sha256::new(self.sha256.finalize().into());
        FileDigests { bytes: self.bytes, md5, sha256 }
    }
}

/// A file that is being written; nothing is left of it if it is dropped.
pub(super) struct NewFile {
    folder: Arc<FileFolder>,
    scratch: Option<Scratch>,
    digests: DigestWriter,
}

impl FileFolder {
    /// Blocks, as all of it does.
    pub(super) fn open(path: PathBuf, limits: FolderLimits) -> io::Result<Self> {
        atomic::create_folder(&path)?;
        atomic::sweep(&path)?;
        let folder = Self { path, limits, usage: Mutex::default() };
        let files = folder.list()?;
        let bytes = files.iter().map(|file| file.bytes).sum();
        *folder.usage() = FolderTotals { bytes, files: files.len() };
        Ok(folder)
    }

    fn usage(&self) -> MutexGuard<'_, FolderTotals> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name is a file's of this folder, and leads nowhere else.
    pub(super) fn path_of(&self, name: &str) -> Result<PathBuf, FolderError> {
        let checked = check_file_name(name);
        checked.map_err(|error| FolderError::Name(error.to_string()))?;
        if pages::has(name) {
            let text = format!("{name} 是页面的一部分 / {name} is a part of the page");
            return Err(FolderError::Name(text));
        }
        match name.contains('/') {
            true => Err(FolderError::Name(name.to_owned())),
            false => Ok(self.path.join(name)),
        }
    }

    /// A name that no file has: this one, or a longer one.
    fn free_name(&self, name: &str) -> String {
        if !self.has(name) {
            return name.to_owned();
        }
        let (stem, ending) = name.split_at(name.rfind('.').unwrap_or(name.len()));
        format!("{stem}_{:016x}{ending}", fastrand::u64(..))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path_of(name).is_ok_and(|path| path.is_file())
    }

    /// The newest first.
    pub(super) fn list(&self) -> io::Result<Vec<ListedFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let (Ok(name), Ok(found)) = (entry.file_name().into_string(), entry.metadata()) else {
                continue;
            };
            if !found.is_file() || self.path_of(&name).is_err() {
                continue;
            }
            let modified =
                found.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let modified_at = UnixMillis::default() + modified;
            files.push(ListedFile { name, bytes: found.len(), modified_at });
        }
        files.sort_by(|a, b| b.modified_at.cmp(&a.modified_at).then_with(|| a.name.cmp(&b.name)));
        Ok(files)
    }

    pub(super) fn open_file(&self, name: &str) -> Result<File, FolderError> {
        let path = self.path_of(name)?;
        match File::open(&path) {
            Ok(file) if file.metadata()?.is_file() => Ok(file),
            Ok(_) => Err(FolderError::Unknown),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a whole file, giving its bytes to `take`, too.
    pub(super) fn read(
        &self,
        name: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<FileDigests, FolderError> {
        let mut file = self.open_file(name)?;
        let (mut digests, mut buffer) = (DigestWriter::default(), vec![0; BUFFER_BYTES]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(digests.finish());
            }
            digests.update(&buffer[..count]);
            take(&buffer[..count])?;
        }
    }

    /// Removes a file, and returns how large it was.
    pub(super) fn remove(&self, name: &str) -> Result<u64, FolderError> {
        let bytes = self.open_file(name)?.metadata()?.len();
        let path = self.path_of(name)?;
        let mut usage = self.usage();
        match atomic::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FolderError::Unknown);
            }
            Err(error) => return Err(error.into()),
        }
        usage.bytes = usage.bytes.saturating_sub(bytes);
        usage.files = usage.files.saturating_sub(1);
        Ok(bytes)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Result<NewFile, FolderError> {
        let most = self.limits.max_files;
        if self.usage().files >= most {
            return Err(FolderError::TooMany(most));
        }
        let scratch = Some(Scratch::create_in(&self.path)?);
        Ok(NewFile { folder: self.clone(), scratch, digests: DigestWriter::default() })
    }

    fn give_back(&self, bytes: u64) {
        let mut usage = self.usage();
        usage.bytes = usage.bytes.saturating_sub(bytes);
    }
}

impl NewFile {
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), FolderError> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        let FolderLimits { max_bytes, max_file_bytes, .. } = self.folder.limits;
        if self.digests.bytes.saturating_add(piece.len() as u64) > max_file_bytes {
            return Err(FolderError::TooLarge(max_file_bytes));
        }
        {
            let mut usage = self.folder.usage();
            let after = usage.bytes.saturating_add(piece.len() as u64);
            if after > max_bytes {
                return Err(FolderError::Full(max_bytes));
            }
            usage.bytes = after;
        }
        // Counted, whether or not it is written: it is given back with the rest.
        self.digests.update(piece);
        scratch.file().write_all(piece)?;
        Ok(())
    }

    /// Puts the file in its place.
    pub(super) fn persist(
        mut self,
        name: &str,
        clash: NameClash,
    ) -> Result<PlacedFile, FolderError> {
        self.folder.path_of(name)?;
        let Some(scratch) = self.scratch.take() else { return Err(FolderError::Unknown) };
        let digests = std::mem::take(&mut self.digests);
        let written = digests.bytes;
        let folder = self.folder.clone();
        let placing = || -> Result<(String, PathBuf), FolderError> {
            let durable = scratch.sync()?;
            // Nobody else places a file meanwhile.
            let mut usage = folder.usage();
            let name = match clash {
                NameClash::Replace => name.to_owned(),
                NameClash::Rename => folder.free_name(name),
            };
            let path = folder.path_of(&name)?;
            let before = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
            let before = before.map(|before| before.len());
            scratch.persist(durable, &path)?;
            match before {
                Some(bytes) => usage.bytes = usage.bytes.saturating_sub(bytes),
                None => usage.files += 1,
            }
            Ok((name, path))
        };
        let (name, path) = placing().inspect_err(|_| folder.give_back(written))?;
        atomic::sync_folder_of(&path)?;
        Ok(PlacedFile { name, path, digests: digests.finish() })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.scratch.is_some() {
            self.folder.give_back(self.digests.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FolderLimits = FolderLimits { max_bytes: 100, max_files: 6, max_file_bytes: 70 };

    fn put(folder: &Arc<FileFolder>, name: &str, bytes: &[u8]) -> Result<FileDigests, FolderError> {
        let mut file = folder.begin()?;
        file.write(bytes)?;
        file.persist(name, NameClash::Replace).map(|placed| placed.digests)
    }

    #[test]
    fn files_are_kept_replaced_removed_and_bounded_and_their_digests_are_right() {
        let temporary = tempfile::tempdir().unwrap();
        let open = || Arc::new(FileFolder::open(temporary.path().join("f"), LIMITS).unwrap());
        let folder = open();
        let digests = put(&folder, "a.txt", b"abc").unwrap();
        assert_eq!((digests.bytes, &*digests.md5), (3, "900150983cd24fb0d6963f7d28e17f72"));
        assert!(digests.sha256.to_string().starts_with("ba7816bf"));
        assert_eq!(folder.read("a.txt", |_| Ok(())).unwrap(), digests);
        put(&folder, "a.txt", &[b'x'; 60]).unwrap();
        assert!(matches!(put(&folder, "b.txt", &[b'x'; 60]), Err(FolderError::Full(100))));
        assert_eq!(folder.list().unwrap().len(), 1, "nothing is left of it");
        put(&folder, "b.txt", &[b'x'; 40]).unwrap();
        let folder = open();
        assert!(
            matches!(put(&folder, "c.txt", b"x"), Err(FolderError::Full(_))),
            "after a restart, too"
        );
        assert_eq!(folder.remove("a.txt").unwrap(), 60);
        assert!(matches!(folder.remove("a.txt"), Err(FolderError::Unknown)));
        put(&folder, "c.txt", b"x").unwrap();
        assert!(folder.has("c.txt") && !folder.has("a.txt"));
        folder.remove("b.txt").unwrap();
        assert!(matches!(put(&folder, "d.txt", &[b'x'; 71]), Err(FolderError::TooLarge(70))));
        put(&folder, "d.txt", &[b'x'; 70]).unwrap();
    }

    #[test]
    fn what_is_made_here_replaces_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Arc::new(FileFolder::open(temporary.path().join("f"), LIMITS).unwrap());
        for (name, ending) in [("a.txt", ".txt"), ("a", "")] {
            let placed = [b"1", b"2", b"3"].map(|bytes| {
                let mut file = folder.begin().unwrap();
                file.write(bytes).unwrap();
                file.persist(name, NameClash::Rename).unwrap()
            });
            assert_eq!(placed[0].name, name);
            for (placed, byte) in placed.iter().zip(*b"123") {
                assert!(placed.name.starts_with('a') && placed.name.ends_with(ending));
                assert_eq!(std::fs::read(&placed.path).unwrap(), [byte]);
            }
        }
        assert_eq!((folder.list().unwrap().len(), folder.usage().files), (6, 6));
        assert!(matches!(folder.begin(), Err(FolderError::TooMany(6))));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Arc::new(FileFolder::open(temporary.path().join("f"), LIMITS).unwrap());
        std::fs::write(temporary.path().join("x"), b"outside").unwrap();
        for name in [
            "../x",
            "..",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "",
            ".hidden",
            "nul.txt",
            "a\n",
            "index.html",
        ] {
            assert!(matches!(put(&folder, name, b"1"), Err(FolderError::Name(_))), "{name}");
            assert!(folder.open_file(name).is_err() && folder.remove(name).is_err(), "{name}");
        }
        assert_eq!(std::fs::read(temporary.path().join("x")).unwrap(), b"outside");
        assert_eq!(folder.usage().bytes, 0, "what was not placed is given back");
    }
}
