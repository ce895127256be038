//! The folder of packages, and those found there unverified.

use std::{path::PathBuf, sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_settings::Settings;
use edge_mirror_store::{Store, StoreError, StoreFindings};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{board::StatusBoard, fetch::Fetch};

/// Retry interval of a folder that can't be used.
const TRY_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct StorageWorker {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
    pub fetch: Fetch,
}

impl StorageWorker {
    /// `unverified` are the packages of the first folder without a valid manifest.
    pub(crate) async fn run(self, unverified: Vec<ObjectKey>, end: CancellationToken) {
        let mut changes = self.settings.subscribe();
        let mut adopting = Some(self.adopt(unverified));
        loop {
            let path = self.settings.current().storage_path();
            let fits = path == self.board.store().root();
            if fits {
                self.board.store_fault.send_replace(None);
            } else if let Some(unverified) = self.change_to(path).await {
                adopting = Some(self.adopt(unverified));
                continue;
            }
            tokio::select! {
                () = done(&mut adopting) => adopting = None,
                _ = changes.changed() => {}
                () = tokio::time::sleep(TRY_AGAIN), if !fits => {}
                () = end.cancelled() => return,
            }
        }
    }

    /// One after the other: reading all of them together would only slow down the
    /// disk for downloads.
    fn adopt(&self, unverified: Vec<ObjectKey>) -> BoxFuture<'static, ()> {
        let (fetch, store) = (self.fetch.clone(), self.board.store());
        Box::pin(async move {
            for id in unverified.iter().filter_map(ObjectKey::package) {
                fetch.adopt(id).await;
            }
            tasks::blocking(move || {
                let files = unverified.iter().filter(|key| key.package().is_none());
                files.for_each(|file| adopt_file(&store, file));
            })
            .await;
        })
    }

    /// Packages are served from and pulled into the new folder from now on;
    /// the old one is left as it is.
    async fn change_to(&self, path: PathBuf) -> Option<Vec<ObjectKey>> {
        match open(path.clone()).await {
            Ok((store, found)) => {
                info!("packages are kept in {} from now on", path.display());
                self.board.store.set(store);
                self.board.store_fault.send_replace(None);
                Some(found.unverified)
            }
            Err(error) => {
                let fault =
                    format!("storage.path can't be used, the old folder stays in use: {error}");
                let before = self.board.store_fault.send_replace(Some(fault.clone()));
                if before.as_ref() != Some(&fault) {
                    error!("{fault}");
                }
                None
            }
        }
    }
}

/// Takes over a file by the digest in its manifest. Without one it can't be told good, and
/// goes. Blocks.
fn adopt_file(store: &Store, file: &ObjectKey) {
    let what = file.describe();
    match store.adopt_by_manifest(file) {
        Ok(Some(_)) => info!("{what} found on disk, verified and adopted"),
        Err(StoreError::Bad(error)) if error.is_damage() => {
            warn!("{what} found on disk is not good and goes: {error}");
            discard(store, file);
        }
        Ok(None) => discard(store, file),
        Err(error) => warn!("{what} found on disk is left alone, not served: {error}"),
    }
}

fn discard(store: &Store, file: &ObjectKey) {
    if let Err(error) = store.discard_unverified(file) {
        warn!("{} could not be removed: {error}", file.describe());
    }
}

async fn done(adopting: &mut Option<BoxFuture<'static, ()>>) {
    match adopting {
        Some(adopting) => adopting.await,
        None => std::future::pending().await,
    }
}

/// Opens a storage folder and returns what is there.
pub(crate) async fn open(path: PathBuf) -> Result<(Store, StoreFindings), StoreError> {
    let (store, found) = tasks::blocking(move || Store::open(&path)).await?;
    if found.swept > 0 {
        info!("{} leftovers of an earlier crash removed", found.swept);
    }
    if store.count() > 0 {
        info!("{} packages here, {} bytes", store.count(), store.used_bytes());
    }
    if !found.unverified.is_empty() {
        info!(
            "{} packages without a manifest that fits are being verified",
            found.unverified.len()
        );
    }
    Ok((store, found))
}
