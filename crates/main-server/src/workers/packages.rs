//! Keeps copies of packages here, and the shared store in order: pulls what is wanted,
//! keeps the copies within their bound, puts into the store what is missing there, and
//! sweeps what no row names.

mod round;

use std::{collections::HashSet, sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::package::PackageId;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    server::{Server, SharedPackages},
    state::package_pulls::MissingPackage,
};
use round::StoreRound;

/// Interval of looking whether the store is there.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// The same while it is away, and the pause after a round that failed.
const RETRY_EVERY: Duration = Duration::from_secs(5);
const ROUND_EVERY: Duration = Duration::from_secs(3600);
/// A wait without an end is cut into pieces of this.
const IDLE: Duration = Duration::from_secs(3600);

/// Pulls packages: of running meetings and those that are to start as soon as a row names
/// them, others when they are asked for.
pub(crate) async fn pull_packages(server: Arc<Server>, stop: CancellationToken) {
    let Some(shared) = server.shared.clone() else { return };
    let work = async {
        let mut pulls = FuturesUnordered::new();
        let mut named = HashSet::new();
        loop {
            let (looking, bound, before) = (server.clone(), shared.clone(), named);
            let missing;
            (named, missing) = tasks::blocking(move || {
                let named = remove_deleted(&looking, &before);
                looking.evict_copies(&bound, 0);
                (named, looking.missing_packages())
            })
            .await;
            let (due, wait) = {
                let (mut table, now) = (shared.pulls(), server.clock.now());
                let due = table.begin_due(missing, now);
                (due, table.next_try().map_or(IDLE, |at| at.saturating_since(now)))
            };
            pulls.extend(due.into_iter().map(|missing| pull(&server, &shared, missing)));
            tokio::select! {
                () = shared.puller.notified() => {}
                Some(()) = pulls.next() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(50))) => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn pull(server: &Arc<Server>, shared: &Arc<SharedPackages>, missing: MissingPackage) {
    let (evicting, bound, coming) = (server.clone(), shared.clone(), missing.package.size);
    tasks::blocking(move || evicting.evict_copies(&bound, coming)).await;
    let outcome = server.pull_copy(shared, &missing).await.map_err(|error| error.to_string());
    let now = server.clock.now();
    shared.end_pull(|pulls| pulls.finish(&missing.id, outcome, now, fastrand::f64()));
}

/// Removes the copies of packages whose meetings were deleted since the last look, by
/// whichever main server. Returns the meetings whose rows name packages.
fn remove_deleted(server: &Server, before: &HashSet<PackageId>) -> HashSet<PackageId> {
    let book = server.book();
    for id in before.iter().filter(|id| book.find(id.as_str()).is_none()) {
        if let Err(error) = server.store.remove(id) {
            warn!("copy of the package of meeting {id}, which is deleted, stays: {error}");
        }
    }
    let named = book.meetings.iter().filter(|meeting| meeting.package.is_some());
    named.map(|meeting| meeting.id.clone()).collect()
}

/// Looks after the shared store.
pub(crate) async fn keep_package_store(server: Arc<Server>, stop: CancellationToken) {
    let Some(shared) = server.shared.clone() else { return };
    let work = async {
        let (mut round, mut round_due) = (StoreRound::default(), Instant::now());
        let mut faults = shared.fault_changes();
        loop {
            let checked = shared.blobs.check().await;
            shared.note(&checked);
            let mut is_well = checked.is_ok();
            if is_well && round_due <= Instant::now() {
                let outcome = round.run(&server, &shared).await;
                shared.note(&outcome);
                is_well = outcome.is_ok();
                if let Err(error) = outcome {
                    // Whoever can't be used says so.
                    debug!("the package store is looked through again soon: {error}");
                } else {
                    round_due = Instant::now() + ROUND_EVERY;
                }
            }
            // Told of by others that use it, too.
            is_well &= faults.borrow_and_update().is_none();
            let pause = if is_well { CHECK_EVERY } else { RETRY_EVERY };
            let _ = tokio::time::timeout(pause, faults.changed()).await;
        }
    };
    stop.run_until_cancelled(work).await;
}
