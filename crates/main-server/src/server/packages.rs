//! Packages in the shared store, and the copies of them that lie here.
//!
//! The row of a meeting is the truth: a copy is served only while the row names its digest.
//! A package is put into the store first, then the row names it, then the copy is put in
//! place. A kill in between leaves the old package, or a copy that has to be pulled.

mod pull;

use std::{
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_http::access::Operator;
use edge_mirror_protocol::package::{PackageId, Sha256, VerifyLevel};
use edge_mirror_store::{OpenedPackage, Provenance, StoreError, VerifiedPackage};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::{Server, upload_provenance};
use crate::{
    counts::{MasterCheckOccasion, TransferOutcome},
    packages::{BlobError, BlobStore, is_copy_current},
    refusal::RequestError,
    state::{
        commands::MeetingCommand,
        meetings::{Meeting, PackageBlob},
        package_pulls::{MissingPackage, PullTable},
    },
};

/// Longest wait of a request for a package that is being pulled. Nodes wait longer for an
/// answer, and come again.
const PULL_PATIENCE: Duration = Duration::from_secs(15);

/// The shared package store, and what is under way with it.
#[derive(Debug)]
pub(crate) struct SharedPackages {
    pub(crate) blobs: BlobStore,
    /// The bound of all copies here, if there is one.
    pub(crate) cache_bytes: Option<u64>,
    /// There may be something to pull, or to remove.
    pub(crate) puller: Notify,
    pulls: Mutex<PullTable>,
    /// Tells those who wait that a pull has ended.
    ended: watch::Sender<()>,
    /// The reason that the store can't be used, while that is so.
    fault: watch::Sender<Option<String>>,
}

impl SharedPackages {
    pub(crate) fn new(blobs: BlobStore, cache_bytes: Option<u64>) -> Self {
        Self {
            blobs,
            cache_bytes,
            puller: Notify::new(),
            pulls: Mutex::default(),
            ended: watch::Sender::default(),
            fault: watch::Sender::default(),
        }
    }

    pub(crate) fn pulls(&self) -> MutexGuard<'_, PullTable> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    pub(crate) fn fault_changes(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// Notes what an outcome says about the store, and logs when that changes.
    pub(crate) fn note<T>(&self, outcome: &Result<T, BlobError>) {
        let place = self.blobs.location();
        let now = match outcome {
            Ok(_) | Err(BlobError::Missing) => None,
            Err(error) if error.is_of_store() => Some(error.to_string()),
            Err(_) => return,
        };
        self.fault.send_if_modified(|fault| {
            match (&now, fault.is_some()) {
                (Some(reason), _) if fault.as_ref() != Some(reason) => error!(
                    "packages at {place}: uploads are refused, and what is here is served: {reason}"
                ),
                (None, true) => info!("the packages at {place} can be used again"),
                _ => {}
            }
            std::mem::replace(fault, now.clone()) != now
        });
    }

    /// Ends what [`PullTable`] began, and tells those who wait.
    pub(crate) fn end_pull(&self, end: impl FnOnce(&mut PullTable)) {
        end(&mut self.pulls());
        self.ended.send_replace(());
        self.puller.notify_one();
    }
}

/// Keeps pulls of a package away that is about to be put in place.
struct PlacingGuard<'a> {
    shared: &'a SharedPackages,
    id: PackageId,
}

impl<'a> PlacingGuard<'a> {
    fn begin(shared: &'a SharedPackages, id: &PackageId, sha256: Sha256) -> Option<Self> {
        let is_free = shared.pulls().begin_placing(id, sha256);
        is_free.then(|| Self { shared, id: id.clone() })
    }
}

impl Drop for PlacingGuard<'_> {
    fn drop(&mut self) {
        self.shared.end_pull(|pulls| pulls.finish_placing(&self.id));
    }
}

impl Server {
    pub(crate) fn wake_puller(&self) {
        if let Some(shared) = &self.shared {
            shared.puller.notify_one();
        }
    }

    /// Opens the copy of the package that the meeting's row names. Waits for its pull, for
    /// a while.
    pub(super) async fn named_package(
        &self,
        id: &PackageId,
        package: PackageBlob,
    ) -> Result<OpenedPackage, RequestError> {
        if let Some(opened) = self.open_copy(id, package).await? {
            return Ok(opened);
        }
        let shared = self.shared.as_ref().ok_or(RequestError::PackageElsewhere)?;
        let mut ended = shared.ended.subscribe();
        let waiting = async {
            loop {
                // A puller that looks now begins it; one that has looked is woken.
                shared.pulls().ask(id, self.clock.now());
                shared.puller.notify_one();
                let named = self.book().get(id)?.package.ok_or(RequestError::NoPackage)?;
                if let Some(opened) = self.open_copy(id, named).await? {
                    return Ok(opened);
                }
                if shared.pulls().failure(id).is_some() {
                    return Err(RequestError::NotFetched);
                }
                // It lives as long as the server.
                let _ = ended.changed().await;
            }
        };
        let outcome = tokio::time::timeout(PULL_PATIENCE, waiting).await;
        outcome.unwrap_or(Err(RequestError::Fetching))
    }

    async fn open_copy(
        &self,
        id: &PackageId,
        package: PackageBlob,
    ) -> Result<Option<OpenedPackage>, RequestError> {
        let opened = self.store.package(id).await?;
        Ok(opened.filter(|(stored, _)| stored.manifest.sha256 == package.sha256))
    }

    /// True if the row of the meeting names these bytes.
    fn is_named(&self, id: &PackageId, sha256: Sha256) -> bool {
        let book = self.book();
        let named = book.find(id.as_str()).and_then(|meeting| meeting.package);
        named.is_some_and(|package| package.sha256 == sha256)
    }

    /// Puts an uploaded package into the shared store, has the meeting's row name it, and
    /// puts the copy in place.
    pub(crate) async fn share_upload(
        self: &Arc<Self>,
        shared: &SharedPackages,
        id: &PackageId,
        by: &Operator,
        verified: VerifiedPackage,
    ) -> Result<(), RequestError> {
        let before = self.package_blob(id);
        let modified_s = before.map_or(0, |before| before.modified_s.saturating_add(1));
        let package = PackageBlob {
            sha256: verified.sha256(),
            size: verified.size_bytes(),
            file_count: verified.file_count(),
            modified_s: modified_s.max(now_s()),
        };
        let file = verified.reader().map_err(|cause| RequestError::Storage(cause.to_string()))?;
        let file = Arc::new(file);
        let unavailable = |error: BlobError| RequestError::PackagesUnavailable(error.to_string());
        self.put_blob(shared, package, file.clone()).await.map_err(unavailable)?;
        let placing = PlacingGuard::begin(shared, id, package.sha256);
        let before = self.local_digest(id);
        let command = MeetingCommand::ReplacePackage { id: id.clone(), before, package };
        self.change_by(by, command).await?;
        if let Err(error) = self.place_copy(id, package, verified).await {
            warn!(
                "the uploaded package of meeting {id} is kept in the package store only: {error}"
            );
        }
        drop(placing);
        // A sweep may have looked at a blob of the same bytes that nobody named before.
        let found = shared.blobs.find(package.sha256).await;
        shared.note(&found);
        if matches!(found, Ok(None)) {
            self.put_blob(shared, package, file).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// Puts the bytes of a package into the shared store.
    pub(crate) async fn put_blob(
        &self,
        shared: &SharedPackages,
        package: PackageBlob,
        file: Arc<File>,
    ) -> Result<(), BlobError> {
        let PackageBlob { sha256, size, .. } = package;
        let outcome = shared.blobs.put(sha256, size, file, &self.closing).await;
        self.counts.package_puts.inc(TransferOutcome::of(&outcome));
        shared.note(&outcome);
        outcome
    }

    /// Puts a verified copy in place, if the meeting's row still names it.
    pub(crate) async fn place_copy(
        self: &Arc<Self>,
        id: &PackageId,
        package: PackageBlob,
        verified: VerifiedPackage,
    ) -> Result<(), StoreError> {
        let provenance = match self.book().find(id.as_str()) {
            Some(meeting) => copy_provenance(meeting, package),
            None => return Err(StoreError::Unwanted),
        };
        let (server, id) = (self.clone(), id.clone());
        let place = move || verified.place(provenance, || server.is_named(&id, package.sha256));
        tasks::blocking(place).await.map(drop)
    }

    /// The meetings whose rows name packages of which no copy is here. Blocks.
    pub(crate) fn missing_packages(&self) -> Vec<MissingPackage> {
        let (book, mut unverified) = (self.book(), false);
        let missing = book.meetings.iter().filter_map(|meeting| {
            let package = meeting.package?;
            if is_copy_current(meeting, &self.store) {
                return None;
            }
            if self.store.has_unverified(&meeting.id) {
                // It may be the very package.
                unverified = true;
                return None;
            }
            let is_wanted = meeting.is_running() || meeting.prestaged;
            Some(MissingPackage { id: meeting.id.clone(), package, is_wanted })
        });
        let missing = missing.collect();
        if unverified {
            self.wake.verifier.notify_one();
        }
        missing
    }

    /// Verifies a copy that lies in place unverified. Blocks.
    pub(super) fn adopt_copy(&self, meeting: &Meeting, package: PackageBlob) {
        let (id, provenance) = (&meeting.id, copy_provenance(meeting, package));
        match self.store.adopt(id, VerifyLevel::Full, Some(package.sha256), provenance) {
            Ok(_) => info!("copy of the package of meeting {id} verified again: it is good"),
            Err(StoreError::Bad(cause)) => {
                self.counts.bad_package(MasterCheckOccasion::Found, &cause);
                info!(
                    "what lies here for meeting {id} is not its package, and is removed: {cause}"
                );
                if let Err(error) = self.store.discard_unverified(id) {
                    warn!("what lies here for meeting {id} could not be removed: {error}");
                }
            }
            Err(error) => warn!("copy of the package of meeting {id} can't be verified: {error}"),
        }
    }
}

/// The provenance of a copy: the same at all main servers.
pub(crate) fn copy_provenance(meeting: &Meeting, package: PackageBlob) -> Provenance {
    Provenance { modified_s: Some(package.modified_s), ..upload_provenance(meeting) }
}
