//! Has tasks take the steps that time and nodes bring, and sweeps files that no task needs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use edge_mirror_base::{clock::UnixMillis, tasks};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    refusal::RequestError,
    server::Server,
    state::dispatch::{FleetView, advance, commands::DispatchCommand},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Reports that come together are looked at together.
const PAUSE: Duration = Duration::from_millis(50);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

pub(crate) async fn keep_dispatch(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut sweep_due_at = Instant::now();
        loop {
            if let Err(cause) = advance_tasks(&server).await {
                // The writer says so, and that it can save again.
                debug!("tasks can't be saved: {cause}");
            }
            if sweep_due_at <= Instant::now() {
                let sweeping = server.clone();
                tasks::blocking(move || sweeping.sweep_blobs()).await;
                sweep_due_at = Instant::now() + SWEEP_EVERY;
            }
            tokio::select! {
                () = server.wake.dispatch.notified() => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Pulls files from the shared store that nodes ask for.
pub(crate) async fn pull_blobs(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut pulls = FuturesUnordered::new();
        loop {
            let due = server.dispatch.pulls.table().begin_due(server.clock.now());
            pulls.extend(due.into_iter().map(|(sha256, size)| server.pull_blob(sha256, size)));
            tokio::select! {
                () = server.dispatch.pulls.wanted.notified() => {}
                Some(()) = pulls.next() => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn advance_tasks(server: &Server) -> Result<(), RequestError> {
    let leads = *server.leads.borrow();
    let table = server.dispatch.table();
    if !leads || table.open_tasks().next().is_none() {
        return Ok(());
    }
    let unsupported: Arc<BTreeSet<String>> =
        Arc::new(server.registry().without_files(server.clock.now()).map(str::to_owned).collect());
    let (known, at) = (server.known(), UnixMillis::now());
    let max_active = server.dispatch.options.max_active;
    let looked_for = unsupported.clone();
    // Most looks find nothing, and cost the writer nothing. With thousands of nodes and many
    // tasks, each takes a while.
    let changes_nothing = tasks::blocking(move || {
        let fleet = FleetView { known: &known, unsupported: &looked_for };
        advance(&table, fleet, max_active, at).is_empty()
    });
    if changes_nothing.await {
        return Ok(());
    }
    server.change(DispatchCommand::Advance { unsupported, max_active, at }).await
}
