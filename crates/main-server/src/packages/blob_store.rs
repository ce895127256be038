//! The shared package store: blobs that are named by their digests, in a folder or in S3.
//!
//! A blob is never changed, only put again with the same bytes. No request has a condition:
//! not every S3 server heeds it. What is read is verified by whoever reads it.

use std::{fs::File, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use edge_mirror_base::{atomic, tasks};
use edge_mirror_protocol::package::Sha256;
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, aws::AmazonS3, local::LocalFileSystem,
    path::Path as Key,
};
use sha2::{Digest, Sha256 as Hasher};
use tokio_util::sync::CancellationToken;

use super::{
    fault::BlobError,
    location::PackagesLocation,
    s3::{self, S3Environment},
};
use crate::error::UnusablePackages;

/// Folder of the blobs below the prefix.
const BLOBS: &str = "sha256";
/// An object that is written to learn the time by the store's clock.
const CLOCK: &str = "clock";
/// Size of a part of an upload. S3 wants 5 MiB at least.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes 10,000.
const MAX_PARTS: u64 = 9_000;
/// Parts on their way at a time: with their size, the memory that an upload costs.
const PARTS_UNDER_WAY: usize = 2;
/// Longest wait for an answer without a package in it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct BlobStore {
    location: PackagesLocation,
    s3: Option<Arc<AmazonS3>>,
    /// Shown nowhere.
    secrets: Vec<String>,
}

/// A blob in the list of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredBlob {
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    /// By the store's clock.
    pub(crate) modified: DateTime<Utc>,
}

impl BlobStore {
    /// Asks nobody.
    pub(crate) fn new(
        location: PackagesLocation,
        environment: &S3Environment,
    ) -> Result<Self, UnusablePackages> {
        let (s3, secrets) = match &location {
            PackagesLocation::Folder(_) => (None, Vec::new()),
            PackagesLocation::S3 { bucket, .. } => {
                let (s3, secrets) = s3::connect(bucket, environment)?;
                (Some(s3), secrets)
            }
        };
        Ok(Self { location, s3, secrets })
    }

    pub(crate) fn location(&self) -> &PackagesLocation {
        &self.location
    }

    /// Asks for a list that needs the same permissions as that of all blobs, and is short.
    pub(crate) async fn check(&self) -> Result<(), BlobError> {
        let asking = async {
            let (store, prefix) = self.store().await?;
            let first = store.list(Some(&prefix.join(BLOBS).join("00"))).next().await;
            first.map_or(Ok(()), |first| self.checked(first).map(drop))
        };
        match Self::in_time(asking).await {
            // Names may come and go during the look.
            Err(BlobError::Missing) => Ok(()),
            outcome => outcome,
        }
    }

    /// Puts a package of that digest and size, whether or not it is there: its time is
    /// that of the last put. Fails if the file has other bytes. Dropped halfway, it leaves
    /// what it sent; `stop` has that removed.
    pub(crate) async fn put(
        &self,
        sha256: Sha256,
        size: u64,
        file: Arc<File>,
        stop: &CancellationToken,
    ) -> Result<(), BlobError> {
        let (store, prefix) = self.store().await?;
        let key = key_of(&prefix, sha256);
        let upload = store.put_multipart(&key).await;
        let mut upload = self.checked(upload)?;
        let sending = async {
            self.send(&mut *upload, sha256, size, file).await?;
            self.checked(upload.complete().await).map(drop)
        };
        let outcome = stop.run_until_cancelled(sending).await;
        let outcome = outcome.unwrap_or(Err(BlobError::Stopped));
        if outcome.is_err() {
            // Whatever it says: what is left of it is nobody's package.
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, upload.abort()).await;
        }
        outcome
    }

    async fn send(
        &self,
        upload: &mut dyn MultipartUpload,
        sha256: Sha256,
        size: u64,
        file: Arc<File>,
    ) -> Result<(), BlobError> {
        let part_bytes = PART_BYTES.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        let (mut hasher, mut at) = (Hasher::new(), 0);
        let mut under_way = FuturesUnordered::new();
        while at < size {
            if under_way.len() >= PARTS_UNDER_WAY {
                let sent = under_way.next().await.unwrap_or(Ok(()));
                self.checked(sent)?;
            }
            let (bytes, reading) = (part_bytes.min(size - at), file.clone());
            let read = tasks::blocking(move || {
                let mut part = vec![0; usize::try_from(bytes).unwrap_or_default()];
                reading.read_exact_at(&mut part, at)?;
                hasher.update(&part);
                Ok((hasher, part))
            });
            let part;
            (hasher, part) = read.await.map_err(BlobError::Read)?;
            under_way.push(upload.put_part(part.into()));
            at += bytes;
        }
        while let Some(sent) = under_way.next().await {
            self.checked(sent)?;
        }
        match Sha256::new(hasher.finalize().into()) == sha256 {
            true => Ok(()),
            false => Err(BlobError::Changed),
        }
    }

    /// Opens a blob: its size and its bytes, which nobody has verified.
    pub(crate) async fn open(
        &self,
        sha256: Sha256,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>), BlobError> {
        let (store, prefix) = self.store().await?;
        let found = self.checked(store.get(&key_of(&prefix, sha256)).await)?;
        let (size, secrets) = (found.meta.size, self.secrets.clone());
        let bytes = found.into_stream();
        Ok((size, bytes.map_err(move |error| BlobError::new(&error, &secrets))))
    }

    /// Looks for a blob.
    pub(crate) async fn find(&self, sha256: Sha256) -> Result<Option<StoredBlob>, BlobError> {
        let asking = async {
            let (store, prefix) = self.store().await?;
            let found = self.checked(store.head(&key_of(&prefix, sha256)).await)?;
            Ok(StoredBlob { sha256, size: found.size, modified: found.last_modified })
        };
        match Self::in_time(asking).await {
            Ok(found) => Ok(Some(found)),
            Err(BlobError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn list(
        &self,
    ) -> Result<BoxStream<'static, Result<StoredBlob, BlobError>>, BlobError> {
        let (store, prefix) = self.store().await?;
        let secrets = self.secrets.clone();
        let names = store.list(Some(&prefix.join(BLOBS)));
        let blobs = names.filter_map(move |found| {
            let found = match found {
                Ok(found) => {
                    found.location.filename().and_then(|name| name.parse().ok()).map(|sha256| {
                        let (size, modified) = (found.size, found.last_modified);
                        Ok(StoredBlob { sha256, size, modified })
                    })
                }
                Err(error) => Some(Err(BlobError::new(&error, &secrets))),
            };
            std::future::ready(found)
        });
        Ok(blobs.boxed())
    }

    pub(crate) async fn remove(&self, sha256: Sha256) -> Result<(), BlobError> {
        let removing = async {
            let (store, prefix) = self.store().await?;
            self.checked(store.delete(&key_of(&prefix, sha256)).await)
        };
        match Self::in_time(removing).await {
            Err(BlobError::Missing) => Ok(()),
            outcome => outcome,
        }
    }

    /// The time by the clock that dates blobs.
    pub(crate) async fn now(&self) -> Result<DateTime<Utc>, BlobError> {
        let asking = async {
            let (store, prefix) = self.store().await?;
            let key = prefix.join(CLOCK);
            self.checked(store.put(&key, Bytes::from_static(b"now").into()).await)?;
            self.checked(store.head(&key).await).map(|clock| clock.last_modified)
        };
        Self::in_time(asking).await
    }

    /// Removes files that a killed main server left half written. A bucket has a rule for
    /// such uploads.
    pub(crate) async fn sweep_unfinished(&self, before: DateTime<Utc>) {
        if let PackagesLocation::Folder(folder) = &self.location {
            let folder = folder.join(BLOBS);
            tasks::blocking(move || remove_unfinished(&folder, before)).await;
        }
    }

    /// A folder is opened each time: a network mount comes and goes, and where it is gone
    /// nothing may be written in its place.
    async fn store(&self) -> Result<(Arc<dyn ObjectStore>, Key), BlobError> {
        match (&self.location, &self.s3) {
            (PackagesLocation::S3 { prefix, .. }, Some(s3)) => {
                Ok((s3.clone(), Key::from(prefix.as_str())))
            }
            (PackagesLocation::Folder(folder), _) => {
                let folder = folder.clone();
                let opening = tasks::blocking_limited(move || match folder.is_dir() {
                    true => LocalFileSystem::new_with_prefix(folder)
                        .map_err(|error| BlobError::new(&error, &[])),
                    false => Err(BlobError::Unavailable("there is no such folder".to_owned())),
                });
                let opened = tokio::time::timeout(ANSWER_TIMEOUT, opening).await;
                let store = opened.map_err(|_| BlobError::timed_out())??.with_fsync(true);
                Ok((Arc::new(store), Key::default()))
            }
            (PackagesLocation::S3 { .. }, None) => Err(BlobError::timed_out()),
        }
    }

    fn checked<T>(&self, outcome: object_store::Result<T>) -> Result<T, BlobError> {
        outcome.map_err(|error| BlobError::new(&error, &self.secrets))
    }

    async fn in_time<T>(work: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
        let outcome = tokio::time::timeout(ANSWER_TIMEOUT, work).await;
        outcome.unwrap_or_else(|_| Err(BlobError::timed_out()))
    }
}

fn key_of(prefix: &Key, sha256: Sha256) -> Key {
    let name = sha256.to_string();
    prefix.clone().join(BLOBS).join(&name[..2]).join(name.as_str())
}

/// The names of files that are being written end with `#` and a number.
fn remove_unfinished(folder: &Path, before: DateTime<Utc>) {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    for file in entries(folder).flat_map(|part| entries(&part.path()).collect::<Vec<_>>()) {
        let is_unfinished = file.file_name().to_string_lossy().contains('#');
        let modified = file.metadata().and_then(|found| found.modified()).map(DateTime::from);
        if is_unfinished && modified.is_ok_and(|at: DateTime<Utc>| at < before) {
            // It is tried again in an hour.
            let _ = atomic::remove_file(&file.path());
        }
    }
}
