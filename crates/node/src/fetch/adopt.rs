//! Packages that lie on disk without a manifest that fits.

use std::sync::Arc;

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    default_title,
    package::{PackageId, PackageRoute, PackageSource, Validators},
};
use edge_mirror_store::{Provenance, StoreError, StoredPackage};
use tracing::{info, warn};

use super::FetchInner;
use crate::board::CheckOccasion;

impl FetchInner {
    /// Verifies a package left by another node, or without its manifest, and takes
    /// it over as it is; a damaged one is removed.
    pub(super) async fn adopt(&self, id: &PackageId) -> Option<Arc<StoredPackage>> {
        let (store, looking, wanted) = (self.board.store(), self.board.store(), id.clone());
        let unverified = {
            let _turn = self.disk_looks.acquire().await;
            tasks::blocking(move || looking.has_unverified(&wanted)).await
        };
        if !unverified {
            return None;
        }
        let verify = self.settings.current().storage.verify;
        let source = PackageSource {
            route: PackageRoute::Adopted,
            origin: None,
            validators: Validators::default(),
        };
        let title =
            self.offer(id).and_then(|offer| offer.title).unwrap_or_else(|| default_title(id));
        let (id, provenance) = (id.clone(), Provenance::of_package(title, source));
        let board = self.board.clone();
        tasks::blocking(move || match store.adopt(&id, verify, None, provenance) {
            Ok(adopted) => {
                info!("package of meeting {id} found on disk, verified and adopted");
                Some(adopted)
            }
            Err(StoreError::Bad(error)) if error.is_damage() => {
                warn!("package of meeting {id} found on disk is not good and goes: {error}");
                board.counts.bad_package(CheckOccasion::Found, &error);
                if let Err(error) = store.discard_unverified(&id) {
                    warn!("it could not be removed: {error}");
                }
                None
            }
            Err(error) => {
                warn!("package of meeting {id} found on disk is left alone, not served: {error}");
                None
            }
        })
        .await
    }
}
