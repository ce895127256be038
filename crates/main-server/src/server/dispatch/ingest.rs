//! Takes the files of a new task in: those below the root are read and kept by their
//! digests, uploads are there already.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    dispatch::{InvalidFileName, MAX_FILES, TaskFile, check_file_name},
    package::Sha256,
};
use edge_mirror_store::{Store, StoreError, VerifiedObject, VerifiedPackage};
use thiserror::Error;

use super::{
    blobs::{blob_key, is_here, provenance},
    root::{self, RootEntry},
};
use crate::{
    refusal::RequestError,
    server::Server,
    state::dispatch::{FileSource, RequestedFile},
};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 << 10;
/// Files that are put in place together, and the bytes of them.
const BATCH_FILES: usize = 1000;
const BATCH_BYTES: u64 = 32 << 20;
/// A larger file becomes durable while it is read.
const LARGE_BYTES: u64 = 4 << 20;

/// The reason that a file can't be taken in.
#[derive(Debug, Error)]
pub(crate) enum IngestError {
    #[error(
        "路径应为相对于 --dispatch-root 的路径，不含 .. 和空段：{0} / a path relative to --dispatch-root is needed, without .. and empty segments: {0}"
    )]
    Path(String),
    #[error("--dispatch-root 无法打开 / --dispatch-root can't be opened: {0}")]
    Root(io::Error),
    #[error(
        "{0} 是链接或经过链接，不能发送 / {0} is a link, or leads through one, and is not sent"
    )]
    Link(String),
    #[error("{0} 既不是文件也不是文件夹 / {0} is neither a file nor a folder")]
    Kind(String),
    #[error("{path} 无法读取 / {path} can't be read: {cause}")]
    Read { path: String, cause: io::Error },
    #[error("{0} 在读取时发生变化，请稍后再试 / {0} changed while it was read, try again")]
    Changed(String),
    #[error(
        "{path} 的 SHA-256 是 {got}，不是 {expected} / the SHA-256 of {path} is {got}, not {expected}"
    )]
    Digest { path: String, expected: Sha256, got: Sha256 },
    #[error("{0} 是文件夹，不能指定 sha256 / {0} is a folder, which has no sha256")]
    FolderDigest(String),
    #[error("文件名 / file name {name:?}: {cause}")]
    Name { name: String, cause: InvalidFileName },
    #[error("一个任务最多 {MAX_FILES} 个文件 / a task has at most {MAX_FILES} files")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngestError {
    pub(super) fn read(path: &str, cause: io::Error) -> Self {
        Self::Read { path: path.to_owned(), cause }
    }
}

impl From<IngestError> for RequestError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Store(error) => error.into(),
            IngestError::Root(cause) => Self::Storage(format!("--dispatch-root: {cause}")),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl Server {
    /// Takes files in. What was taken in when this fails is swept after a day.
    pub(super) async fn ingest(
        self: &Arc<Self>,
        requested: &[RequestedFile],
    ) -> Result<Vec<TaskFile>, RequestError> {
        let sources = requested.iter().map(|file| file.source().map_err(RequestError::Invalid));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let has_paths = sources.iter().any(|source| matches!(source, FileSource::Path { .. }));
        let root = self.dispatch.options.root.clone();
        if has_paths && root.is_none() {
            return Err(RequestError::NoDispatchRoot);
        }
        let mut sources = sources;
        let has_urls = sources.iter().any(|source| matches!(source, FileSource::Url { .. }));
        let _fetching = match has_urls {
            true => {
                let permit = self.dispatch.uploading.try_acquire();
                Some(permit.map_err(|_| RequestError::TooManyUploads)?)
            }
            false => None,
        };
        for source in &mut sources {
            if let FileSource::Url { url, name, sha256 } = source {
                check_name(name)?;
                let (sha256, name) = (self.fetch_url(url, *sha256).await?, std::mem::take(name));
                *source = FileSource::Uploaded { name, sha256 };
            }
        }
        // Never closed.
        let _permit = self.dispatch.ingesting.acquire().await.ok();
        let store = self.store.clone();
        let files = tasks::blocking(move || {
            let mut intake = FileIntake::new(store, root.unwrap_or_default());
            sources.iter().try_for_each(|source| intake.take(source))?;
            intake.finish()
        })
        .await?;
        let blobs: Vec<_> = files.iter().map(|file| (file.sha256, file.size)).collect();
        if has_paths {
            self.share_blobs(&blobs).await?;
        }
        Ok(files)
    }
}

/// Reads files one after the other, and puts small ones in place together. Blocks.
struct FileIntake {
    store: Store,
    root: PathBuf,
    files: Vec<TaskFile>,
    batch: Vec<VerifiedObject>,
    batch_bytes: u64,
    buffer: Vec<u8>,
}

impl FileIntake {
    fn new(store: Store, root: PathBuf) -> Self {
        let (files, batch, buffer) = (Vec::new(), Vec::new(), vec![0; BUFFER_BYTES]);
        Self { store, root, files, batch, batch_bytes: 0, buffer }
    }

    fn finish(mut self) -> Result<Vec<TaskFile>, RequestError> {
        self.place_batch().map_err(IngestError::from)?;
        Ok(self.files)
    }

    fn take(&mut self, source: &FileSource) -> Result<(), RequestError> {
        match source {
            FileSource::Uploaded { name, sha256 } => {
                check_name(name)?;
                if !is_here(&self.store, *sha256)? {
                    return Err(RequestError::UnknownUpload(*sha256));
                }
                let size =
                    self.store.get(blob_key(*sha256)).map(|stored| stored.manifest.size_bytes);
                let size = size.ok_or(RequestError::UnknownUpload(*sha256))?;
                self.push(TaskFile { name: name.clone(), size, sha256: *sha256 })?;
                Ok(())
            }
            // It was received before.
            FileSource::Url { url, .. } => Err(IngestError::Path(url.clone()).into()),
            FileSource::Path { path, name, sha256 } => {
                let entry = root::open(&self.root, path)?;
                Ok(self.take_entry(entry, path, name, *sha256)?)
            }
        }
    }

    fn take_entry(
        &mut self,
        entry: RootEntry,
        path: &str,
        name: &str,
        expected: Option<Sha256>,
    ) -> Result<(), IngestError> {
        match entry {
            RootEntry::File(file) => self.take_file(&file, path, name, expected),
            RootEntry::Folder(_) if expected.is_some() => {
                Err(IngestError::FolderDigest(path.to_owned()))
            }
            RootEntry::Folder(folder) => {
                let within = |parent: &str, child: &str| match parent {
                    "" => child.to_owned(),
                    parent => format!("{}/{child}", parent.trim_end_matches('/')),
                };
                for child in root::names(&folder, path)? {
                    let (path, name) = (within(path, &child), within(name, &child));
                    // Also bounds the depth.
                    check_name(&name)?;
                    let entry = root::open_in(&folder, &child, &path)?;
                    self.take_entry(entry, &path, &name, None)?;
                }
                Ok(())
            }
        }
    }

    fn take_file(
        &mut self,
        file: &File,
        path: &str,
        name: &str,
        expected: Option<Sha256>,
    ) -> Result<(), IngestError> {
        check_name(name)?;
        let verified = self.copy(file, path)?;
        let (sha256, size) = (verified.sha256(), verified.size_bytes());
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(IngestError::Digest { path: path.to_owned(), expected, got: sha256 });
        }
        self.push(TaskFile { name: name.to_owned(), size, sha256 })?;
        if is_here(&self.store, sha256)? {
            return Ok(());
        }
        self.batch.push((verified, provenance(sha256)));
        self.batch_bytes += size;
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
            self.place_batch()?;
        }
        Ok(())
    }

    /// Copies a file that does not change meanwhile.
    fn copy(&mut self, mut file: &File, path: &str) -> Result<VerifiedPackage, IngestError> {
        let read = |cause| IngestError::read(path, cause);
        let before = file.metadata().map_err(read)?;
        let key = blob_key(Sha256::new([0; 32]));
        let mut pending = self.store.begin(key, Some(before.len()), u64::MAX)?;
        if before.len() >= LARGE_BYTES {
            pending.sync_while_receiving();
        }
        loop {
            let count = file.read(&mut self.buffer).map_err(read)?;
            if count == 0 {
                break;
            }
            if pending.received_bytes() + count as u64 > before.len() {
                return Err(IngestError::Changed(path.to_owned()));
            }
            pending.write(&self.buffer[..count])?;
        }
        let after = file.metadata().map_err(read)?;
        if version(&before) != version(&after) || pending.received_bytes() != before.len() {
            return Err(IngestError::Changed(path.to_owned()));
        }
        Ok(pending.verify_as(blob_key)?)
    }

    fn push(&mut self, file: TaskFile) -> Result<(), IngestError> {
        if self.files.len() >= MAX_FILES {
            return Err(IngestError::TooMany);
        }
        self.files.push(file);
        Ok(())
    }

    fn place_batch(&mut self) -> Result<(), StoreError> {
        self.batch_bytes = 0;
        self.store.place_all(std::mem::take(&mut self.batch))
    }
}

fn check_name(name: &str) -> Result<(), IngestError> {
    check_file_name(name).map_err(|cause| IngestError::Name { name: name.to_owned(), cause })
}

/// Differs when somebody has written to the file.
fn version(found: &Metadata) -> [i64; 5] {
    let size = i64::try_from(found.len()).unwrap_or(i64::MAX);
    [size, found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()]
}
