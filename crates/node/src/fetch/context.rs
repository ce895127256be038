//! The context of one attempt, and what it says of versions.

use std::sync::Arc;

use edge_mirror_protocol::relay::auth::PackageVersion;
use edge_mirror_settings::Config;
use edge_mirror_store::{Store, StoredPackage};

use super::{FetchInner, Flight, PullReason, origin::Origin, partial::PartialPull};
use crate::upstream::{AnnouncedPackage, AnswerExtent, OriginAnswer, PackageRequest, Upstream};

/// The context of one attempt.
pub(super) struct AttemptContext<'a> {
    pub flight: &'a Flight,
    pub config: &'a Config,
    pub upstream: &'a Upstream,
    pub store: &'a Store,
    /// The stored version, if it is from this main server.
    pub held: Option<Arc<StoredPackage>>,
    /// The main server's token when the attempt began; empty if it is not known.
    pub token: String,
}

impl AttemptContext<'_> {
    /// The part to ask an origin for: the rest of what is here, or another version than
    /// the stored one, or the whole.
    pub(super) fn request<'a>(
        &'a self,
        origin: &Origin,
        resumed: Option<&'a PartialPull>,
    ) -> PackageRequest<'a> {
        if let Some(partial) = resumed
            && let Some(etag) = partial.resume_validator()
        {
            let (first, total) = (partial.pending.received_bytes(), partial.announced.length);
            return PackageRequest::Rest { first, total, etag };
        }
        let held = self.held.as_ref().map(|held| &held.manifest.source);
        match held.filter(|held| held.route == origin.route()) {
            Some(held) => PackageRequest::IfChanged(&held.validators),
            None => PackageRequest::Whole,
        }
    }

    /// True if the stored bytes are of this version.
    pub(super) fn holds(&self, version: &PackageVersion) -> bool {
        self.held.as_ref().is_some_and(|held| version.is_of(&held.manifest))
    }

    /// Identifies the version that the main server announces.
    pub(super) fn version(&self, announced: &AnnouncedPackage) -> Option<PackageVersion> {
        let by_token = || Some(PackageVersion::from_token(self.upstream.origin(), &self.token));
        announced.sha256.map(PackageVersion::Digest).or_else(|| {
            let AnnouncedPackage { validators, length, .. } = announced;
            PackageVersion::from_validators(validators, *length)
                .or_else(|| by_token().filter(|_| !self.token.is_empty()))
        })
    }

    /// The stored version, if the origin says that it is current.
    pub(super) fn unchanged_version(
        &self,
        answer: &OriginAnswer,
        origin: &Origin,
    ) -> Option<Arc<StoredPackage>> {
        let held = self.held.clone()?;
        let source = &held.manifest.source;
        let same = source.route == origin.route()
            && source.validators.same_version(&answer.announced.validators);
        // If the validators could not be trusted, the bytes are compared.
        let trusting = self.flight.reason() != PullReason::Compare;
        let unchanged = match answer.extent {
            AnswerExtent::Unchanged => true,
            AnswerExtent::Whole { .. } => trusting && same,
            AnswerExtent::Rest | AnswerExtent::Unusable(_) => false,
        };
        unchanged.then_some(held)
    }
}

impl FetchInner {
    pub(super) fn context<'a>(
        &self,
        flight: &'a Flight,
        config: &'a Config,
        upstream: &'a Upstream,
        store: &'a Store,
    ) -> AttemptContext<'a> {
        let held = store.get(flight.id()).filter(|held| held.is_of_fleet(upstream.fleet()));
        let sync = self.board.sync.borrow();
        let token = if sync.fleet.identity() == upstream.origin() {
            sync.token.clone()
        } else {
            String::new()
        };
        AttemptContext { flight, config, upstream, store, held, token }
    }
}
