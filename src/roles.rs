//! The long-running roles: a node, a main server, and the demo that has both.

pub mod demo;
pub mod main_server;
pub mod node;
pub mod task_runner;

use std::time::Duration;

use anyhow::{Result, bail};
use edge_mirror_base::{
    liveness::Liveness,
    log::SECRET,
    systemd::Notifier,
    tasks::{Interrupt, Tasks},
};
use tracing::warn;

use crate::token;

/// Longest wait for blocking work that is still under way when all else has ended.
const BLOCKING_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs it on a runtime of its own.
pub fn block_on(main: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(main);
    // Reading a package of gigabytes, or a dead network mount, must not hold up
    // the exit; work that is cut off never counted.
    runtime.shutdown_timeout(BLOCKING_TIMEOUT);
    outcome
}

/// Waits until requests are answered, reports readiness to the service manager,
/// and feeds its watchdog until the process ends.
async fn report_ready(notifier: &Notifier, listener: &Liveness, status: &str) {
    listener.probe().await;
    notifier.notify_ready(status);
    Tasks::new().spawn("watchdog", notifier.clone().feed_watchdog(listener.clone()));
}

/// At the first start. A link in a log that is kept for ever works for an hour
/// only. A warning, so that no log level in use hides it.
fn log_login_link(page: &str, code: &str) {
    let link = token::login_link(page, code);
    warn!(target: SECRET, "open this link within an hour to log in, it works once (edge-mirror token makes others): {link}");
}

/// Shuts down in order; a second signal ends the process at once.
async fn shut_down(
    in_order: impl Future<Output = bool>,
    mut interrupt: Interrupt,
    failed: Option<String>,
) -> Result<()> {
    tokio::select! {
        _ = in_order => {}
        () = interrupt.recv() => bail!("ended at once by a second signal"),
    }
    failed.map_or(Ok(()), |failed| bail!("{failed}"))
}
