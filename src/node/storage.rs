//! Which folder the packages lie in, and what was found there unverified.

use std::{path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    board::Board,
    config::Settings,
    fetch::Fetch,
    package::PackageId,
    store::{Found, Store, StoreError},
    tasks,
};

pub(super) struct Worker {
    pub settings: Arc<Settings>,
    pub board: Arc<Board>,
    pub fetch: Fetch,
}

impl Worker {
    /// `unverified` is what lay in the first folder without a manifest that fits.
    pub(super) async fn run(self, unverified: Vec<PackageId>, end: CancellationToken) {
        let mut to_adopt = unverified;
        let mut changes = self.settings.subscribe();
        loop {
            let path = self.settings.current().storage_path();
            if path != self.board.store().root() {
                to_adopt = self.change_to(path).await;
            }
            tokio::select! {
                () = self.adopt(std::mem::take(&mut to_adopt)) => {
                    tokio::select! {
                        _ = changes.changed() => {}
                        () = end.cancelled() => return,
                    }
                }
                _ = changes.changed() => {}
                () = end.cancelled() => return,
            }
        }
    }

    /// One after the other: reading them all at once would only make the disk
    /// slow for those who download.
    async fn adopt(&self, unverified: Vec<PackageId>) {
        for id in unverified {
            self.fetch.adopt(&id).await;
        }
    }

    /// Packages are served from and pulled into the new folder from now on;
    /// the old one is left as it is.
    async fn change_to(&self, path: PathBuf) -> Vec<PackageId> {
        match open(path.clone()).await {
            Ok((store, found)) => {
                info!("packages are kept in {} from now on", path.display());
                self.board.store.send_replace(store);
                self.board.store_fault.send_replace(None);
                found.unverified
            }
            Err(error) => {
                let fault =
                    format!("storage.path can't be used, the old folder stays in use: {error}");
                let fresh =
                    self.board.store_fault.send_replace(Some(fault.clone())) != Some(fault.clone());
                if fresh {
                    error!("{fault}");
                }
                Vec::new()
            }
        }
    }
}

/// Opens a storage folder and says what it found there.
pub(super) async fn open(path: PathBuf) -> Result<(Store, Found), StoreError> {
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
