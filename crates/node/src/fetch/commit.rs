//! The end of a pull: its bytes are verified, and take their place in the store.

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    default_title,
    package::{PackageSource, Sha256, Validators},
};
use edge_mirror_store::Provenance;
use tokio::time::Instant;
use tracing::info;

use super::{
    FetchInner, Offer, PullError, PullPhase, PulledPackage, context::AttemptContext,
    partial::PartialPull,
};

impl FetchInner {
    pub(super) async fn commit(
        &self,
        task: &AttemptContext<'_>,
        pulling: PartialPull,
        offer: Offer,
        began: Instant,
    ) -> Result<PulledPackage, PullError> {
        let id = task.flight.id();
        task.flight.set_phase(PullPhase::Verifying);
        let PartialPull { pending, origin, announced, grower, version, .. } = pulling;
        if let Some(grower) = &grower {
            grower.set_received(pending.received_bytes());
        }
        let digest: Option<Sha256> = announced.sha256.or(offer.sha256);
        let modified_s = modified_s(&announced.validators);
        let source = PackageSource {
            route: origin.route(),
            origin: Some(task.upstream.origin().to_owned()),
            validators: announced.validators,
        };
        let title = offer.title.unwrap_or_else(|| default_title(id));
        // Nobody needs it yet; `sync` lets clients have it when its meeting starts.
        let withheld = task.flight.is_prestage();
        let provenance =
            Provenance { modified_s, withheld, ..Provenance::of_package(title, source) };
        let verify = task.config.storage.verify;
        // Verifying can't be interrupted, but a pull that was stopped meanwhile
        // must not replace the result of a later one.
        let run = task.flight.run().clone();
        let wanted = move || !run.is_cancelled();
        let stored = tasks::blocking(move || pending.commit(verify, digest, provenance, wanted));
        let stored = stored.await?;
        task.flight.set_digest(stored.manifest.sha256);
        self.state().note_version(id, stored.manifest.sha256, version);
        if let Some(grower) = grower {
            // Readers of the partial package continue with the copy that others use.
            let followed = grower.growing().has_readers();
            let package = match followed {
                true => task.store.package(id).await.ok().flatten(),
                false => None,
            };
            let same = package.filter(|(now, _)| now.manifest.sha256 == stored.manifest.sha256);
            grower.verified(&stored, same.map(|(_, opened)| opened));
        }
        let before = task.held.as_ref().map(|held| held.manifest.sha256);
        let changed = before != Some(stored.manifest.sha256);
        if changed {
            let (manifest, seconds) = (&stored.manifest, began.elapsed().as_secs_f64());
            info!(
                "package of meeting {id} ({}) pulled and verified: {} bytes in {seconds:.1} s, {} files",
                manifest.title, manifest.size_bytes, manifest.file_count
            );
        }
        Ok(PulledPackage { stored, changed })
    }
}

fn modified_s(validators: &Validators) -> Option<u64> {
    let at = httpdate::parse_http_date(validators.last_modified.as_deref()?).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}
