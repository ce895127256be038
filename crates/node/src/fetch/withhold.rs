//! Packages of meetings that have not been started: clients get nothing of them, also while
//! they are being pulled, and the same answer as for an unknown meeting.

use std::{net::IpAddr, sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_http::{limits::Limit, listen::rate_limit_key};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_store::StoredPackage;
use tokio::time::timeout;
use tracing::warn;

use super::{Fetch, PullError};

/// The main server may send clients here a moment before it has told this node that the
/// meeting has started.
const START_WAIT: Duration = Duration::from_secs(1);

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
        let stored = self.inner.board.store().get(id);
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
        let store = self.inner.board.store();
        self.inner.tasks.spawn("manifest", async move {
            let id = stored.manifest.key.clone();
            let noted = tasks::blocking(move || store.set_withheld(&stored, withheld)).await;
            if noted.is_none() {
                warn!("{}: it has changed meanwhile", id.describe());
            }
        });
    }
}
