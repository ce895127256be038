//! The copy of a package that another node may pull from here, whole or still being
//! received.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::{
    package::{Manifest, PackageId},
    relay::auth::{PackageVersion, ParentState},
};
use edge_mirror_store::{OpenedPackage, StoreError, growing::PartialPackage};
use tokio::time::{Instant, timeout_at};

use super::{Fetch, Flight, PullReason};
use crate::board::SyncState;

/// A node may hear of a meeting, or of its new package, a moment before this one.
const LISTED_WAIT: Duration = Duration::from_secs(2);

pub enum SiblingCopy {
    Stored(OpenedPackage),
    Partial(Arc<PartialPackage>),
    /// It is, or will soon be, pulled.
    NotYet,
    OtherVersion,
    Absent,
}

impl Fetch {
    /// Looks for this version, and waits for the first bytes of one that is about to be
    /// pulled. If it is urgent, a client waits for it at a node further down.
    pub async fn copy_for_sibling(
        &self,
        id: &PackageId,
        version: &PackageVersion,
        wait: Duration,
        is_urgent: bool,
    ) -> Result<SiblingCopy, StoreError> {
        let until = Instant::now() + wait;
        loop {
            let opened = self.open(id).await?;
            if let Some(opened) = opened {
                if self.is_version(&opened.0.manifest, version) {
                    return Ok(SiblingCopy::Stored(opened));
                }
                if !self.becomes_announced(id, version, until).await {
                    return Ok(SiblingCopy::OtherVersion);
                }
            }
            let Some(flight) = self.flight_for_sibling(id, version, until, is_urgent).await else {
                // What has failed before its meeting's start is tried again in its own time.
                let announced = self.is_announced(id, version) && !self.is_withheld(id);
                return Ok(if announced { SiblingCopy::NotYet } else { SiblingCopy::Absent });
            };
            let (mut shared, outcome) = (flight.shared(), flight.outcome());
            let begun = shared
                .wait_for(|slot| slot.as_ref().is_some_and(|shared| !shared.partial.is_broken()));
            let found = tokio::select! {
                biased;
                found = timeout_at(until, begun) => found,
                outcome = outcome => match outcome {
                    // It is stored now.
                    Ok(_) if Instant::now() < until => continue,
                    // The next pull may fail as quickly.
                    Ok(_) | Err(_) => return Ok(SiblingCopy::NotYet),
                },
            };
            let Ok(Ok(Some(shared))) = found.map(|found| found.map(|slot| slot.clone())) else {
                return Ok(SiblingCopy::NotYet);
            };
            if shared.version.as_ref() == Some(version) {
                return Ok(SiblingCopy::Partial(shared.partial));
            }
            // The pull of the one before ends first, if this one is to follow it.
            if !self.is_announced(id, version) || timeout_at(until, flight.outcome()).await.is_err()
            {
                return Ok(SiblingCopy::OtherVersion);
            }
        }
    }

    /// The state of the copy here, for a child; with `wait`, once the digest of the whole
    /// is known, or after that time.
    pub async fn state_for_sibling(
        &self,
        id: &PackageId,
        version: &PackageVersion,
        wait: Option<Duration>,
    ) -> ParentState {
        let flight = self.inner.state().flights.get(id).cloned();
        if let (Some(wait), Some(flight)) = (wait, &flight) {
            let (mut digest, until) = (flight.digest(), Instant::now() + wait);
            tokio::select! {
                _ = timeout_at(until, digest.wait_for(Option::is_some)) => {}
                _ = flight.outcome() => {}
            }
        }
        let stored = self.inner.board.store().get(id);
        if let Some(stored) = stored.filter(|stored| self.is_version(&stored.manifest, version)) {
            let (received_bytes, sha256) =
                (stored.manifest.size_bytes, Some(stored.manifest.sha256));
            return ParentState { received_bytes, sha256, ..ParentState::default() };
        }
        let Some(flight) = flight else { return ParentState::default() };
        let shared = flight.shared().borrow().clone();
        let shared = shared.filter(|shared| shared.version.as_ref() == Some(version));
        // That of another version says nothing of this one.
        let told = shared.as_ref().and_then(|_| *flight.digest().borrow());
        let received_bytes = shared.map_or(0, |shared| shared.partial.received_bytes().0);
        let (path, sha256) = (flight.source().path, version.digest().or(told));
        ParentState { received_bytes, path, sha256, ..ParentState::default() }
    }

    /// The pull of a listed meeting's package, begun if there is none.
    pub(super) async fn flight_for_sibling(
        &self,
        id: &PackageId,
        version: &PackageVersion,
        until: Instant,
        is_urgent: bool,
    ) -> Option<Arc<Flight>> {
        let under_way = || {
            let (state, config) = (self.inner.state(), self.inner.settings.current());
            let flight = state.flights.get(id)?.clone();
            if is_urgent {
                let is_active = || self.inner.board.sync.borrow().active.contains(id);
                let reason = match state.is_prestaged(id, config.main_server()) {
                    // Its client gets nothing of it yet.
                    true => PullReason::Prestage,
                    false if is_active() => PullReason::OnDemand,
                    false => PullReason::Unlisted,
                };
                self.inner.raise(&flight, reason);
            }
            Some(flight)
        };
        if let Some(flight) = under_way() {
            return Some(flight);
        }
        let mut sync = self.inner.board.sync.subscribe();
        let has_same_list = {
            let sync = sync.borrow();
            *version == PackageVersion::from_token(sync.fleet.identity(), &sync.token)
        };
        // Who has the same list and a client that asks for what is not in it need not wait.
        let wait = if has_same_list { Duration::ZERO } else { LISTED_WAIT };
        let until = until.min(Instant::now() + wait);
        let reason_of = |sync: &SyncState| match sync.active.contains(id) {
            true if is_urgent => Some(PullReason::OnDemand),
            true => Some(PullReason::Missing),
            false => sync.prestaged.contains_key(id).then_some(PullReason::Prestage),
        };
        let listed = sync.wait_for(|sync| reason_of(sync).is_some());
        let reason = reason_of(&*timeout_at(until, listed).await.ok()?.ok()?)?;
        match self.join_as(id, reason, None) {
            Ok(Some(flight)) => Some(flight),
            // It has just arrived, or failed a moment ago.
            Ok(None) | Err(_) => under_way(),
        }
    }

    /// True if the stored bytes are of this version.
    fn is_version(&self, manifest: &Manifest, version: &PackageVersion) -> bool {
        let is_known = || {
            let state = self.inner.state();
            let known = manifest.key.package().and_then(|id| state.versions.get(id));
            known.is_some_and(|(sha256, known)| *sha256 == manifest.sha256 && known == version)
        };
        version.is_of(manifest) || is_known()
    }

    /// Waits a moment for the announcement: all nodes are told of a new package at once,
    /// and a child that hears of it first must not go to the main server for that.
    async fn becomes_announced(
        &self,
        id: &PackageId,
        version: &PackageVersion,
        until: Instant,
    ) -> bool {
        let until = until.min(Instant::now() + LISTED_WAIT);
        let mut sync = self.inner.board.sync.subscribe();
        while version.digest().is_some() && !self.is_announced(id, version) {
            if !matches!(timeout_at(until, sync.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
        version.digest().is_some()
    }

    /// True if the main server announces this version of the package.
    fn is_announced(&self, id: &PackageId, version: &PackageVersion) -> bool {
        let config = self.inner.settings.current();
        let offer = self.inner.offer_of(id, config.main_server());
        let announced = offer.and_then(|offer| offer.sha256);
        announced.is_some() && announced == version.digest()
    }
}
