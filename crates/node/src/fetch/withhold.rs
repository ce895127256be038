//! Packages of meetings that have not been started: clients get nothing of them, also while
//! they are being pulled, and the same answer as for an unknown meeting.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_http::{limits::Limit, listen::rate_limit_key};
use edge_mirror_protocol::{object::ObjectKey, package::PackageId};
use edge_mirror_store::{Store, StoredPackage};
use tokio::time::timeout;
use tracing::warn;

use super::{Fetch, FetchInner, Flight, PullError};

/// The main server may send clients here a moment before it has told this node that the
/// meeting has started.
const START_WAIT: Duration = Duration::from_secs(1);

/// A decision whether clients may have a package, to be noted in its manifest.
#[derive(Clone)]
struct WithheldChange {
    store: Store,
    stored: Arc<StoredPackage>,
    withheld: bool,
}

/// Changes that are not saved yet, the last one of each package. One task saves one after
/// the other, so that the last one counts.
#[derive(Default)]
pub(super) struct WithheldChanges(BTreeMap<ObjectKey, WithheldChange>);

impl WithheldChanges {
    /// Returns the change if nobody is saving any.
    fn add(&mut self, change: WithheldChange) -> Option<WithheldChange> {
        let is_idle = self.0.is_empty();
        self.0.insert(change.stored.manifest.key.clone(), change.clone());
        is_idle.then_some(change)
    }

    /// Forgets a change that is saved, unless there is a later one, and returns the next.
    fn finish(&mut self, saved: &WithheldChange) -> Option<WithheldChange> {
        let key = &saved.stored.manifest.key;
        let is_last = |now: &WithheldChange| {
            Arc::ptr_eq(&now.stored, &saved.stored) && now.withheld == saved.withheld
        };
        if self.0.get(key).is_some_and(is_last) {
            self.0.remove(key);
        }
        self.0.values().next().cloned()
    }
}

impl Fetch {
    /// True if its meeting has not been started, as far as is known. The manifest says so
    /// when the main server has not been heard yet.
    pub(crate) fn is_withheld(&self, id: &PackageId) -> bool {
        {
            let sync = self.inner.board.sync.borrow();
            if sync.active.contains(id) {
                return false;
            }
            if sync.prestaged.contains_key(id) {
                return true;
            }
        }
        let is_prestage_pull =
            || self.inner.state().flights.get(id).is_some_and(|flight| flight.is_prestage());
        let (stored, config) = (self.inner.board.store().get(id), self.inner.settings.current());
        // Under the same id, another main server has another meeting.
        let stored = stored.filter(|stored| stored.is_of_fleet(config.fleet()));
        stored.is_some_and(|stored| stored.manifest.withheld) || is_prestage_pull()
    }

    /// Waits a moment for the meeting's start, which may not have been heard of here.
    pub(super) async fn wait_for_start(
        &self,
        id: &PackageId,
        client: &(dyn Fn() -> IpAddr + Sync),
    ) -> Result<(), Arc<PullError>> {
        let board = &self.inner.board;
        let client = rate_limit_key(client());
        let Some(_waiter) = self.inner.waiters.admit(client, board.connections.places()) else {
            board.counts.limits.inc(Limit::PullWaiters);
            return Err(Arc::new(PullError::TooManyWaiters));
        };
        let mut sync = board.sync.subscribe();
        board.poll_now.notify_one();
        let started = timeout(START_WAIT, sync.wait_for(|sync| sync.active.contains(id))).await;
        match started {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Arc::new(PullError::NotStarted)),
        }
    }

    /// Notes in the manifest whether clients may have a package. It counts at the next
    /// start: while the main server is heard, what it lists counts.
    pub(crate) fn set_withheld(&self, stored: Arc<StoredPackage>, withheld: bool) {
        let change = WithheldChange { store: self.inner.board.store(), stored, withheld };
        let first = self.inner.state().withheld_changes.add(change);
        if let Some(first) = first {
            let inner = self.inner.clone();
            self.inner.tasks.spawn("manifest", async move { inner.save_withheld(first).await });
        }
    }
}

impl FetchInner {
    async fn save_withheld(&self, first: WithheldChange) {
        let mut next = Some(first);
        while let Some(change) = next {
            let WithheldChange { store, stored, withheld } = change.clone();
            if tasks::blocking(move || store.set_withheld(&stored, withheld)).await.is_none() {
                warn!("{}: it has changed meanwhile", change.stored.manifest.key.describe());
            }
            next = self.state().withheld_changes.finish(&change);
        }
    }

    /// The reason for which a flight was ended.
    pub(super) fn cause_of_end(&self, flight: &Flight) -> PullError {
        let (state, config) = (self.state(), self.settings.current());
        let is_prestaged = state.is_prestaged(flight.id(), config.main_server());
        match is_prestaged && !flight.is_prestage() {
            true => PullError::NotStarted,
            false => PullError::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use edge_mirror_base::tasks::Tasks;
    use edge_mirror_protocol::{
        package::{PackageRoute, PackageSource, Sha256, Validators, VerifyLevel},
        relay::auth::PackageVersion,
    };
    use edge_mirror_settings::Settings;
    use edge_mirror_store::{Provenance, testing::zip_of};
    use tokio::time::Instant;

    use super::*;
    use crate::{
        board::{PrestagedMeeting, StatusBoard, SyncState},
        fetch::{Catalogue, Offer, PullReason, eviction_candidate},
        upstream::Connector,
    };

    /// Background pulls wait, so that no main server is asked.
    fn fetch(folder: &std::path::Path) -> Fetch {
        let path = folder.join("node_config.json");
        let config = r#"{"nodeId": "n", "network": {"schedule": ["00:00-24:00 off"]}}"#;
        std::fs::write(&path, config).unwrap();
        let settings = Arc::new(Settings::load_or_create(&path).unwrap());
        let (store, _) = Store::open(&folder.join("storage")).unwrap();
        let board = Arc::new(StatusBoard::new(store, 8001));
        Fetch::new(settings, board, Arc::<Connector>::default(), Tasks::new())
    }

    fn put(fetch: &Fetch, id: &PackageId, origin: &str, withheld: bool) -> Arc<StoredPackage> {
        let source = PackageSource {
            route: PackageRoute::PackageUrl,
            origin: Some(origin.to_owned()),
            validators: Validators::default(),
        };
        let provenance = Provenance::of_package("t".to_owned(), source);
        let store = fetch.inner.board.store();
        let mut pending = store.begin(id.clone(), None, u64::MAX).unwrap();
        pending.write(&zip_of(b"papers")).unwrap();
        let provenance = Provenance { withheld, ..provenance };
        pending.commit(VerifyLevel::Full, None, provenance, || true).unwrap()
    }

    /// The main server lists it as one to be here before its meeting starts.
    fn list(fetch: &Fetch, id: &PackageId) {
        let offer = Offer { path: Some("/uploads/p.zip".to_owned()), ..Offer::default() };
        let prestaged = Arc::new(HashMap::from([(id.clone(), offer)]));
        let origin = fetch.inner.settings.current().main_server().to_owned();
        fetch.set_catalogue(Catalogue { origin, prestaged, ..Catalogue::default() });
        let meeting = PrestagedMeeting {
            title: "t".to_owned(),
            sha256: Sha256::new([1; 32]),
            size_bytes: 1,
            is_here: false,
            failing: None,
        };
        let prestaged = Arc::new(BTreeMap::from([(id.clone(), meeting)]));
        let sync = SyncState { prestaged, complete: true, ..SyncState::default() };
        fetch.inner.board.sync.send_replace(Arc::new(sync));
    }

    #[tokio::test]
    async fn a_package_of_another_main_server_says_nothing_of_this_ones_meeting() {
        let (folder, id) = (tempfile::tempdir().unwrap(), "m".parse().unwrap());
        let fetch = fetch(folder.path());
        let here = fetch.inner.settings.current().main_server().to_owned();
        put(&fetch, &id, &here, true);
        assert!(fetch.is_withheld(&id));
        put(&fetch, &id, "http://10.9.9.9:80", true);
        assert!(!fetch.is_withheld(&id));
    }

    #[tokio::test]
    async fn what_waits_for_its_start_is_kept_also_while_the_main_server_does_not_say_so() {
        let (folder, id) = (tempfile::tempdir().unwrap(), "m".parse().unwrap());
        let fetch = fetch(folder.path());
        let board = &fetch.inner.board;
        let origin = fetch.inner.settings.current().main_server().to_owned();
        let answered = |is_prestage_known| {
            let (fleet, complete) = (origin.as_str().into(), true);
            let sync = SyncState { fleet, complete, is_prestage_known, ..SyncState::default() };
            board.sync.send_replace(Arc::new(sync));
        };
        for (from, withheld, is_known, kept) in [
            (&*origin, true, false, true),
            (&origin, true, true, false),
            (&origin, false, false, false),
            ("http://10.9.9.9:80", true, false, false),
        ] {
            let stored = put(&fetch, &id, from, withheld);
            answered(is_known);
            let candidate = eviction_candidate(board, &stored);
            let what = format!("{from} {withheld} {is_known}");
            assert_eq!((candidate.is_prestaged, candidate.retained), (kept, false), "{what}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_word_on_a_package_counts() {
        let (folder, id) = (tempfile::tempdir().unwrap(), "m".parse().unwrap());
        let fetch = fetch(folder.path());
        let stored = put(&fetch, &id, "http://10.9.9.9:80", false);
        for round in 0..50 {
            let last = round % 2 == 0;
            for withheld in [!last, last, !last, last] {
                fetch.set_withheld(stored.clone(), withheld);
            }
            while !fetch.inner.state().withheld_changes.0.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let now = fetch.inner.board.store().get(&id).unwrap();
            assert_eq!(now.manifest.withheld, last, "round {round}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_to_start_is_pulled_for_no_client_however_it_began() {
        let (folder, id) = (tempfile::tempdir().unwrap(), "m".parse().unwrap());
        let fetch = fetch(folder.path());
        let early = fetch.pull(&id, PullReason::Unlisted);
        list(&fetch, &id);
        let ended = early.outcome().await.unwrap_err();
        assert!(matches!(*ended, PullError::NotStarted), "{ended}");
        let refused = fetch.join_as(&id, PullReason::Unlisted, None);
        assert!(matches!(*refused.unwrap_err(), PullError::NotStarted));
        let flight = fetch.pull(&id, PullReason::Prestage);
        assert!(flight.is_prestage());
        // A client waits at another node, which has not heard of it.
        let (version, until) = (PackageVersion::Digest(Sha256::new([1; 32])), Instant::now());
        let joined = fetch.flight_for_sibling(&id, &version, until, true).await.unwrap();
        assert!(Arc::ptr_eq(&joined, &flight) && flight.is_prestage());
        assert!(fetch.is_withheld(&id) && !flight.is_awaited());
        fetch.stop();
        flight.outcome().await.unwrap_err();
    }
}
