//! Background work: saving changes, keeping known nodes, announcing starts, probing nodes,
//! planning relays, verifying packages. Thin: decisions are made elsewhere.

mod casts;
pub(crate) mod certificates;
mod contents;
mod demand;
mod dispatch;
mod remote_tasks;
mod figures;
mod fleet;
mod gofd;
mod history;
mod local_runs;
mod packages;
pub(crate) mod probe;
mod sharing;
mod writer;

use std::{sync::Arc, time::Duration};

use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::{access::NodeKeyCheck, wire::feed};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::scheme;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    api::overview,
    repository::{StateWake, WakeTopic},
    server::{Server, SystemReadings},
    state::{
        commands::MeetingCommand,
        probing::MAX_PROBES,
        registry::{NodeReachability, NodeRegistry},
    },
    workers::probe::Prober,
};

pub(crate) use casts::save_casts;
pub(crate) use contents::probe_contents;
pub(crate) use demand::{follow_demand, tell_webhook};
pub(crate) use dispatch::{keep_dispatch, pull_blobs};
pub(crate) use figures::save_figures;
pub(crate) use fleet::keep_fleet;
pub(crate) use gofd::keep_gofd;
pub(crate) use history::keep_history;
pub(crate) use local_runs::{local_types, run_locally};
pub(crate) use packages::{keep_package_store, pull_packages};
pub(crate) use remote_tasks::keep_remote_tasks;
pub(crate) use sharing::{share_access, share_calls};
pub(crate) use writer::write;

/// Interval of looking for due probes and silent nodes.
const PROBE_TICK: Duration = Duration::from_secs(1);
/// Least time between two looks, each of which goes through all nodes.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// Free disk space changes all the time; a page shows it in three digits.
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// Least time between two plans of who pulls from whom; heartbeats come by the hundred.
/// Ten packages and two hundred nodes take 20 ms, unoptimized.
const PLAN_PAUSE: Duration = Duration::from_millis(100);
/// Planning takes at most this part of a core.
const PLAN_SHARE: u32 = 10;
/// A node that pulls and falls silent is noticed by then.
const PLAN_TICK: Duration = Duration::from_secs(1);
/// Pause after a failed save; the disk may be full for hours.
const SAVE_PAUSE: Duration = Duration::from_secs(5);

/// Wakes those who read what another main server has written.
pub(crate) async fn listen(server: Arc<Server>, wake: StateWake, stop: CancellationToken) {
    let listening = wake.run(|topic| match topic {
        WakeTopic::State => server.wake.writer.notify_one(),
        WakeTopic::Casts => server.wake.casts.notify_one(),
    });
    stop.run_until_cancelled(listening).await;
}

/// Changes the token when started meetings are due to be announced.
pub(crate) async fn announce(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        loop {
            // Each heartbeat wakes this.
            if server.next_announcement().is_none() {
                server.wake.announcer.notified().await;
                continue;
            }
            let looking = server.clone();
            let due = tasks::blocking(move || looking.due_announcements(&looking.book())).await;
            if !due.is_empty() {
                match server.change(MeetingCommand::Announce(due.clone())).await {
                    Ok(()) => note_announced(&due),
                    Err(cause) => {
                        error!("the start of meetings can't be announced to clients: {cause}");
                        tokio::time::sleep(SAVE_PAUSE).await;
                    }
                }
                continue;
            }
            // Woken by heartbeats; the time is for timeouts, and for nodes that died
            // meanwhile.
            let woken = server.wake.announcer.notified();
            let wait = server.next_announcement().unwrap_or_default();
            drop(tokio::time::timeout(wait, woken).await);
        }
    };
    stop.run_until_cancelled(work).await;
}

fn note_announced(meetings: &[PackageId]) {
    for id in meetings {
        info!("start of meeting {id} announced to clients");
    }
}

/// Plans who pulls from whom after each change, and while anybody pulls.
pub(crate) async fn plan_relays(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        loop {
            let is_busy = server.relay.borrow().is_busy();
            let woken = server.wake.planner.notified();
            if tokio::time::timeout(PLAN_TICK, woken).await.is_err() && !is_busy {
                continue;
            }
            let changed = server.registry().take_relay_change();
            if !changed && !is_busy {
                continue;
            }
            let planning = server.clone();
            let begun = Instant::now();
            tasks::blocking(move || planning.plan_relays()).await;
            tokio::time::sleep(PLAN_PAUSE.max(begun.elapsed() * PLAN_SHARE)).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Reads the packages that are about to spread, for the digests of their pieces.
pub(crate) async fn digest_pieces(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        let mut plan = server.relay.subscribe();
        while plan.changed().await.is_ok() {
            server.prepare_piece_digests().await;
        }
    };
    stop.run_until_cancelled(work).await;
}

pub(crate) async fn probe(server: Arc<Server>, prober: Prober, stop: CancellationToken) {
    let mut under_way = FuturesUnordered::new();
    let mut tick = tokio::time::interval(PROBE_TICK);
    let mut look_at = Instant::now();
    loop {
        if Instant::now() < look_at {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(probed) = under_way.next() => finish_probe(&server, &probed),
                () = tokio::time::sleep_until(look_at) => {}
            }
            continue;
        }
        look_at = Instant::now() + PROBE_PAUSE;
        for lost in server.registry().take_lost(server.clock.now()) {
            server.counts.lost_nodes.inc();
            warn!("node {lost} was not heard from for 30 s and is dropped");
            server.wake.planner.notify_one();
        }
        let room = MAX_PROBES - under_way.len();
        let due = server.registry().take_due_probes(room, server.clock.now());
        under_way.extend(due.into_iter().map(|(node_id, address)| {
            let prober = prober.clone();
            async move {
                let reach = prober.ask(&node_id, &address).await;
                (node_id, address, reach)
            }
        }));
        tokio::select! {
            () = stop.cancelled() => return,
            Some(probed) = under_way.next() => finish_probe(&server, &probed),
            () = server.wake.prober.notified() => {}
            _ = tick.tick() => {}
        }
    }
}

/// Takes in the outcome of a probe: the node's id, the address that was asked, the answer.
fn finish_probe(server: &Server, (node_id, address, reach): &(String, String, NodeReachability)) {
    let now = server.clock.now();
    note(&mut server.registry(), node_id, address, reach, now);
    server.share_probe(node_id, address, reach);
    // A node that turned out unreachable holds up no start, and feeds nobody.
    server.wake.announcer.notify_one();
    server.wake.planner.notify_one();
}

fn note(
    registry: &mut NodeRegistry,
    node_id: &str,
    address: &str,
    reach: &NodeReachability,
    now: UnixMillis,
) {
    if !registry.record_probe(node_id, address, reach, now) {
        return;
    }
    match reach {
        NodeReachability::Reachable { https } => {
            let scheme = scheme(*https);
            info!("node {node_id} can be reached at {scheme}://{address}");
        }
        NodeReachability::Unreachable(reason) => {
            warn!("node {node_id} gets no clients, it can't be reached: {reason}");
        }
        NodeReachability::Unknown => {}
    }
}

/// Runs at the start, then whenever a package turned out to be changed.
pub(crate) async fn verify(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        loop {
            let verifying = server.clone();
            tasks::blocking(move || verifying.verify_leftovers()).await;
            server.wake.announcer.notify_one();
            server.wake.verifier.notified().await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Reads the disk's figures for the page; woken when the nodes' key changed.
pub(crate) async fn gauge(server: Arc<Server>, stop: CancellationToken) {
    let work = async {
        loop {
            let reading = server.clone();
            let outside = tasks::blocking(move || {
                reading.store.close_idle();
                SystemReadings {
                    free: reading.store.free_bytes().ok(),
                    node_key: reading.access.vault().check_node_key(None)
                        != NodeKeyCheck::NotRequired,
                    login_fault: reading.access.vault().fault(),
                }
            });
            server.outside.send_replace(outside.await);
            let _ = tokio::time::timeout(GAUGE_EVERY, server.wake.gauge.notified()).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Compares the state while pages follow it.
pub(crate) async fn follow(server: Arc<Server>, stop: CancellationToken) {
    let work = server.feed.run(|before| overview::snapshot(&server, before));
    stop.run_until_cancelled(work).await;
}

/// Tests the storage while readiness is asked for.
pub(crate) async fn try_storage(server: Arc<Server>, stop: CancellationToken) {
    let work = server.health.run(|| server.store.clone());
    stop.run_until_cancelled(work).await;
}

pub(crate) async fn record(server: Arc<Server>, stop: CancellationToken) {
    let read = || {
        let download_log = server.download_log();
        [download_log.redirects(), download_log.own_downloads(), server.traffic.under_way()]
    };
    stop.run_until_cancelled(feed::record(&server.history, read)).await;
}
