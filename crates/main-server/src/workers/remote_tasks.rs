//! Gives remote tasks to nodes, and takes them from those whose lease is over.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::{clock::UnixMillis, tasks};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    refusal::RequestError,
    server::Server,
    state::remote_tasks::commands::{RemoteTaskCommand, apply},
};

/// Least time between two plans: what comes meanwhile is planned together.
const PAUSE: Duration = Duration::from_millis(10);
/// Interval of looking for what time alone brings.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn keep_remote_tasks(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut look_due_at = Instant::now();
        loop {
            let is_look_due = look_due_at <= Instant::now();
            if is_look_due {
                look_due_at = Instant::now() + LOOK_EVERY;
                server.remote_tasks.forget_old_sessions(server.clock.now());
            }
            if let Err(cause) = advance(&server, is_look_due).await {
                // The writer says so, and that it can save again.
                debug!("remote tasks can't be saved: {cause}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = server.wake.remote_tasks.notified() => {}
                () = tokio::time::sleep_until(look_due_at) => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn advance(server: &Arc<Server>, is_look_due: bool) -> Result<(), RequestError> {
    if server.remote_tasks.table().open_count() == 0 {
        return Ok(());
    }
    if is_look_due {
        server.release_lapsed_runs().await?;
        end_late_tasks(server).await?;
    }
    let plan = server.plan_runs().await;
    if !plan.assignments.is_empty() {
        server.change(RemoteTaskCommand::Assign(plan.assignments)).await?;
    }
    if !plan.hopeless.is_empty() {
        let at = UnixMillis::now();
        server.change(RemoteTaskCommand::GiveUp { parts: plan.hopeless, at }).await?;
    }
    Ok(())
}

async fn end_late_tasks(server: &Server) -> Result<(), RequestError> {
    if !*server.leads.borrow() {
        return Ok(());
    }
    let command = RemoteTaskCommand::Advance { at: UnixMillis::now() };
    let (table, known, looked) = (server.remote_tasks.table(), server.known(), command.clone());
    // Most looks find nothing, and cost the writer nothing. With many tasks, each takes a while.
    let found = tasks::blocking(move || apply(&table, &known, &looked));
    if found.await?.is_empty() {
        return Ok(());
    }
    server.change(command).await
}
