//! Registration at the main server: register, heartbeat, unregister.
//!
//! One loop, one request at a time. A heartbeat goes out at every interval, and
//! immediately when a package was confirmed or the set of active meetings changed:
//! whole rooms wait for the main server to learn of that. Before each, `sync`
//! checks the versions of what it is to list, and it lists what is confirmed then.
//! Between check and heartbeat lie milliseconds; a main server that ended a meeting
//! and started it again within those, with another package, would be told of the
//! old one.

mod change;
mod failed;
mod load;
mod report;

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::{delivery::Traffic, limits::Limit};
use edge_mirror_protocol::{Fault, HeartbeatNotice, Registration, Unregistration};
use edge_mirror_settings::{Config, Settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use change::UnreportedChange;
use load::LoadMeter;

use super::address::{self, AdvertisedAddress};
use crate::{
    board::{self, AddressWarning, CallResult, StatusBoard},
    fetch::Fetch,
    upstream::{Connector, FailoverRound, NextTry, Upstream, UpstreamError},
};

/// While it pulls, a node says so often how far it is: our main server arranges by that
/// who pulls from whom.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Time limit of unregistering.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time limit of the request before that, if it is still under way.
const LAST_HEARTBEAT_WAIT: Duration = Duration::from_millis(500);
/// Time limit of the version checks before a heartbeat; half its interval is
/// another. Versions not confirmed by then are left out, and listed later.
const LONGEST_CHECK: Duration = Duration::from_secs(1);

pub(super) struct PresenceWorker {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
    pub(crate) connector: Arc<Connector>,
    pub traffic: Arc<Traffic>,
    pub(crate) fetch: Fetch,
    pub host: IpAddr,
    /// The last heartbeat had no room for all meetings.
    pub(crate) was_truncated: AtomicBool,
    pub(crate) load: Mutex<LoadMeter>,
}

/// A heartbeat that failed, and the time of the next one.
struct HeartbeatFailure {
    fault: Fault,
    next: NextTry,
}

/// The node's registration.
#[derive(Clone)]
struct RegisteredAs {
    upstream: Upstream,
    node_id: String,
    address: String,
    /// False once a heartbeat failed: the main server may have dropped us after a
    /// long outage, and a heartbeat does not bring it an address.
    fresh: bool,
}

impl PresenceWorker {
    pub(super) async fn run(self, end: CancellationToken) {
        let mut registered_as = None;
        let (mut failures, mut check) = (0, true);
        let mut round = FailoverRound::default();
        while !end.is_cancelled() {
            if self.board.is_running() {
                let (mut reported, began) = (self.board.sync.borrow().clone(), Instant::now());
                let before = self.settings.current();
                let outcome = {
                    let heartbeat = pin!(self.send_heartbeat(
                        &mut registered_as,
                        &mut round,
                        &mut reported,
                        check
                    ));
                    self.finish_or_abandon(heartbeat, &before, &end).await
                };
                let Some(outcome) = outcome else {
                    (failures, check) = (0, true);
                    continue;
                };
                let next = outcome.as_ref().err().map(|failure| failure.next);
                let outcome = outcome.map_err(|failure| failure.fault);
                let is_good = self.record_outcome(&registered_as, outcome);
                check = true;
                if next == Some(NextTry::AtOnce) {
                    continue;
                }
                failures = if is_good { 0 } else { failures + 1 };
                let config = self.settings.current();
                let pause = match failures == 0 && self.reports_progress() {
                    true => PROGRESS_PAUSE,
                    false => pause(failures, &config),
                };
                tokio::select! {
                    () = tokio::time::sleep_until(began + pause) => {}
                    change = self.sync_changed(&reported) => {
                        check = self.needs_check(&reported, change);
                    }
                    () = self.wait_for_stop_or_change(&before) => {}
                    () = self.wait_for_failover(&registered_as), if failures == 0 => {}
                    () = end.cancelled() => {}
                }
            } else {
                self.unregister(&mut registered_as).await;
                tokio::select! {
                    () = self.wait_for_start() => failures = 0,
                    () = end.cancelled() => {}
                }
            }
        }
        self.unregister(&mut registered_as).await;
    }

    /// Aborts a heartbeat on a stop of the service or a change of the configuration, so
    /// that a server that hangs delays neither: None then. A request that is about
    /// to be answered is waited for: the server may else read it after the
    /// unregistration that follows, and register the node again.
    async fn finish_or_abandon<T>(
        &self,
        mut heartbeat: Pin<&mut impl Future<Output = T>>,
        before: &Config,
        end: &CancellationToken,
    ) -> Option<T> {
        tokio::select! {
            outcome = &mut heartbeat => return Some(outcome),
            () = self.wait_for_stop_or_change(before) => {}
            () = end.cancelled() => {}
        }
        let _ = tokio::time::timeout(LAST_HEARTBEAT_WAIT, heartbeat).await;
        None
    }

    /// Does what is due: unregisters at a former main server, registers if not
    /// known under this address, sends a heartbeat. `reported` becomes the state
    /// that it reports; `check` has the listed versions checked. Returns the main
    /// server's reason that clients can't reach the node, if any.
    async fn send_heartbeat(
        &self,
        registered_as: &mut Option<RegisteredAs>,
        round: &mut FailoverRound,
        reported: &mut Arc<board::SyncState>,
        check: bool,
    ) -> Result<HeartbeatNotice, HeartbeatFailure> {
        let config = self.settings.current();
        let upstream = self.connector.upstream(&config);
        // At another main server of the fleet, it is the same registration.
        let here = |s: &RegisteredAs| {
            config.fleet().contains(s.upstream.base_url()) && s.node_id == config.node_id
        };
        if registered_as.as_ref().is_some_and(|registered_as| !here(registered_as)) {
            self.unregister(registered_as).await;
        }
        let port = *self.board.port.borrow();
        let server = address::main_server_at(&config, upstream.base_url());
        let address = address::advertised_address(&config, server, self.host, port);
        let address = tokio::time::timeout(limit(&config), address).await;
        let address = address.unwrap_or_else(|late| Err(late.into())).map_err(|error| {
            let asked = format!("no route to the main server {}", server.host);
            let error =
                UpstreamError::Unreachable { asked, cause: error.to_string(), refused: false };
            self.failure(round, &upstream, &error)
        })?;
        let AdvertisedAddress { address, warnings } = address;
        self.publish_address(&address, warnings);
        let for_siblings = address::relay_address(&config, server, self.host, port);
        let for_siblings = tokio::time::timeout(limit(&config), for_siblings).await;
        // Without one, siblings use the advertised address.
        let for_siblings = for_siblings.ok().and_then(Result::ok).or(Some(address.clone()));
        self.board.relay_address.send_if_modified(|known| {
            let changed = *known != for_siblings;
            *known = for_siblings;
            changed
        });
        let limit = limit(&config);
        let is_known_there = |known: &RegisteredAs| {
            known.fresh
                && known.address == address
                && known.upstream.base_url() == upstream.base_url()
        };
        if !registered_as.as_ref().is_some_and(is_known_there) {
            let (node_id, status) = (config.node_id.clone(), "online".to_owned());
            let body = Registration { node_id: node_id.clone(), address: address.clone(), status };
            // Noted before it is sent: a request whose answer is never read may
            // still have registered us, and has to be undone.
            let mut new = RegisteredAs {
                upstream: upstream.clone(),
                node_id,
                address: address.clone(),
                fresh: false,
            };
            *registered_as = Some(new.clone());
            let registering = upstream.register(&body, limit).await;
            registering.map_err(|error| self.failure(round, &upstream, &error))?;
            let (base_url, node_id) = (upstream.base_url(), &new.node_id);
            info!("registered at {base_url} as {node_id}, reachable at {address}");
            new.fresh = true;
            *registered_as = Some(new);
        }
        if check {
            self.wait_for_checks(&config).await;
        }
        *reported = self.board.sync.borrow().clone();
        let mut heartbeat = self.heartbeat(&config, address, reported);
        let left_out = heartbeat.fit();
        if left_out > 0 {
            self.board.counts.limits.inc(Limit::HeartbeatBytes);
        }
        // Logged once, not with every heartbeat.
        let was_cut = self.was_truncated.swap(left_out > 0, Ordering::Relaxed);
        if left_out > 0 && !was_cut {
            warn!("there are too many meetings for one heartbeat: {left_out} entries are left out");
        }
        let notice = upstream.heartbeat(&heartbeat, limit).await.map_err(|error| {
            if let Some(registered_as) = registered_as {
                registered_as.fresh = false;
            }
            self.failure(round, &upstream, &error)
        })?;
        self.connector.note_answer(round, &upstream);
        Ok(notice)
    }

    fn failure(
        &self,
        round: &mut FailoverRound,
        upstream: &Upstream,
        error: &UpstreamError,
    ) -> HeartbeatFailure {
        let next = self.connector.after_failure(round, upstream, error);
        HeartbeatFailure { fault: error.fault(), next }
    }

    /// Waits until another main server is in use than the one that knows the node.
    async fn wait_for_failover(&self, registered_as: &Option<RegisteredAs>) {
        let Some(registered_as) = registered_as else { return std::future::pending().await };
        let turn = registered_as.upstream.turn();
        let mut in_use = self.connector.in_use();
        // The sender is the connector's, which is alive.
        let _ = in_use.wait_for(|in_use| in_use.turn != turn).await;
    }

    /// Shown even without an answer: an operator checks it first.
    fn publish_address(&self, address: &str, warnings: Vec<AddressWarning>) {
        self.board.presence.send_if_modified(|presence| {
            // Logged once each, not with every heartbeat.
            for warning in
                warnings.iter().filter(|warning| !presence.address_warnings.contains(warning))
            {
                warn!("{warning}");
            }
            let before = presence.address.replace(address.to_owned());
            let previous = std::mem::replace(&mut presence.address_warnings, warnings);
            before != presence.address || previous != presence.address_warnings
        });
    }

    /// Waits until the versions of stored packages have been checked.
    async fn wait_for_checks(&self, config: &Config) {
        let mut sync = self.board.sync.subscribe();
        if !sync.borrow().has_versions_to_check {
            return;
        }
        let mut number = 0;
        self.board.heartbeat_number.send_modify(|last| {
            *last += 1;
            number = *last;
        });
        let limit = LONGEST_CHECK.min(Duration::from_secs(config.heartbeat.interval) / 2);
        let _ = tokio::time::timeout(limit, sync.wait_for(|sync| sync.checked >= number)).await;
    }

    /// Unregisters, with a short time limit for a server that is down.
    async fn unregister(&self, registered_as: &mut Option<RegisteredAs>) {
        let Some(RegisteredAs { upstream, node_id, .. }) = registered_as.clone() else { return };
        let body = Unregistration { node_id: node_id.clone() };
        match upstream.unregister(&body, GOODBYE).await {
            Ok(()) => info!("unregistered {node_id} at {}", upstream.base_url()),
            Err(error) => warn!("could not unregister {node_id}: {error}"),
        }
        *registered_as = None;
        self.board.presence.send_modify(|presence| {
            (presence.registered, presence.registered_at) = (false, None);
        });
    }

    /// Reports the outcome of a heartbeat; true if it succeeded.
    fn record_outcome(
        &self,
        registered_as: &Option<RegisteredAs>,
        outcome: Result<HeartbeatNotice, Fault>,
    ) -> bool {
        let good = outcome.is_ok();
        let fresh = registered_as.as_ref().filter(|registered_as| registered_as.fresh);
        self.board.counts.heartbeats.inc(CallResult::of(&outcome));
        let before = self.board.presence.borrow().clone();
        match &outcome {
            Ok(_) if before.error.is_some() => info!("the main server answers again"),
            Ok(_) => {}
            // Logged once per outage, not once per heartbeat.
            Err(error) if before.error.is_none() => warn!("heartbeat failed: {error}"),
            Err(error) => debug!("heartbeat failed: {error}"),
        }
        self.board.presence.send_replace(board::Presence {
            registered: fresh.is_some(),
            registered_at: fresh.map(|known| known.upstream.base_url().to_owned()),
            address: registered_as.as_ref().map(|s| s.address.clone()).or(before.address),
            last_ok: if good { Some(UnixMillis::now()) } else { before.last_ok },
            failing_since: outcome
                .as_ref()
                .err()
                .map(|_| before.failing_since.unwrap_or_else(UnixMillis::now)),
            notice: outcome.as_ref().ok().cloned().unwrap_or_default(),
            error: outcome.err(),
            address_warnings: before.address_warnings,
        });
        good
    }

    async fn sync_changed(&self, reported: &board::SyncState) -> Option<UnreportedChange> {
        let mut sync = self.board.sync.subscribe();
        let sync = sync.wait_for(|now| UnreportedChange::of(now, reported).is_some()).await.ok()?;
        UnreportedChange::of(&sync, reported)
    }

    /// True if versions have to be checked before the next heartbeat. Not if the
    /// news is just a late check of the last one: checking again would make the
    /// others late, and so on.
    fn needs_check(&self, reported: &board::SyncState, change: Option<UnreportedChange>) -> bool {
        change != Some(UnreportedChange::LateAnswer)
            || reported.checked >= *self.board.heartbeat_number.borrow()
    }

    async fn wait_for_start(&self) {
        let mut running = self.board.running.subscribe();
        let _ = running.wait_for(|running| *running).await;
    }

    /// Resolves on a stop of the service, and when a setting of the main server,
    /// the node's id or address, or the interval differs from `config`.
    async fn wait_for_stop_or_change(&self, config: &Config) {
        let mut running = self.board.running.subscribe();
        let mut settings = self.settings.subscribe();
        let mut port = self.board.port.subscribe();
        let listening = *port.borrow_and_update();
        let relevant = |c: &Config| {
            let public = (c.public_ip.clone(), c.public_port, c.use_public_address);
            let address = (public, c.advertise_interface.clone());
            (c.fleet().clone(), c.node_id.clone(), address, c.heartbeat.interval)
        };
        let before = relevant(config);
        tokio::select! {
            _ = running.wait_for(|running| !running) => {}
            _ = settings.wait_for(|now| relevant(now) != before) => {}
            _ = port.wait_for(|port| *port != listening) => {}
        }
    }
}

/// Time limit of a request: at most the interval, so that the node is registered
/// again within one interval of the main server's return (pauses are counted from a
/// request's beginning).
fn limit(config: &Config) -> Duration {
    Duration::from_secs(config.network.connection_timeout.min(config.heartbeat.interval))
}

/// Returns the pause after so many failures in a row. `retryCount` tries come
/// `retryDelay` apart, then one at every interval; no pause is longer than the
/// interval.
fn pause(failures: u32, config: &Config) -> Duration {
    let interval = Duration::from_secs(config.heartbeat.interval);
    let retry = Duration::from_secs(config.network.retry_delay);
    // Without a delay a refused connection would be retried in a loop.
    let retry = retry.max(Duration::from_millis(100)).min(interval);
    if (1..config.network.retry_count).contains(&failures) { retry } else { interval }
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::tasks::Tasks;
    use edge_mirror_store::Store;
    use serde_json::json;

    use super::*;

    fn worker(folder: &std::path::Path) -> PresenceWorker {
        let settings = Settings::load_or_create(&folder.join("node_config.json")).unwrap();
        let (store, _) = Store::open(&folder.join("storage")).unwrap();
        let settings = Arc::new(settings);
        let board = Arc::new(StatusBoard::new(store, 8001));
        let connector = Arc::<Connector>::default();
        let fetch = Fetch::new(settings.clone(), board.clone(), connector.clone(), Tasks::new());
        PresenceWorker {
            settings,
            board,
            connector,
            traffic: Arc::default(),
            fetch,
            host: std::net::Ipv4Addr::LOCALHOST.into(),
            was_truncated: AtomicBool::default(),
            load: Mutex::default(),
        }
    }

    /// The time that a stop waits for a heartbeat of this length, and true if it
    /// came to its end.
    async fn waited(
        worker: &PresenceWorker,
        takes: Duration,
        end: &CancellationToken,
    ) -> (Duration, bool) {
        let (before, began) = (worker.settings.current(), Instant::now());
        let mut whole = false;
        let heartbeat = async {
            tokio::time::sleep(takes).await;
            whole = true;
        };
        let outcome = worker.finish_or_abandon(pin!(heartbeat), &before, end).await;
        assert_eq!(outcome, None);
        (began.elapsed(), whole)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_about_to_be_answered_is_waited_for_before_the_goodbye_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker(folder.path());
        let (soon, never) =
            (LAST_HEARTBEAT_WAIT - Duration::from_millis(1), Duration::from_secs(3600));
        let end = CancellationToken::new();
        assert!(worker.board.switch(false, || ()));
        assert_eq!(waited(&worker, soon, &end).await, (soon, true), "a stop of the service");
        assert_eq!(waited(&worker, never, &end).await, (LAST_HEARTBEAT_WAIT, false));
        assert!(worker.board.switch(true, || ()));
        end.cancel();
        assert_eq!(waited(&worker, soon, &end).await, (soon, true), "an end of the node");
        assert_eq!(waited(&worker, never, &end).await, (LAST_HEARTBEAT_WAIT, false));
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_is_over_a_beat_has_all_the_time_that_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let (worker, end) = (worker(folder.path()), CancellationToken::new());
        let before = worker.settings.current();
        let heartbeat = async {
            tokio::time::sleep(10 * LAST_HEARTBEAT_WAIT).await;
            "answered"
        };
        assert_eq!(
            worker.finish_or_abandon(pin!(heartbeat), &before, &end).await,
            Some("answered")
        );
    }

    #[test]
    fn retries_come_soon_and_never_later_than_the_interval() {
        let config = |delay: u64| {
            let document = json!({
                "nodeId": "n",
                "network": {"retryCount": 3, "retryDelay": delay},
                "heartbeat": {"interval": 10},
            });
            edge_mirror_settings::check::parse_config(
                document.as_object().unwrap(),
                std::path::Path::new("/"),
            )
            .unwrap()
        };
        let seconds = |delay| [0, 1, 2, 3, 9].map(|f| pause(f, &config(delay)).as_secs_f64());
        assert_eq!(seconds(2), [10.0, 2.0, 2.0, 10.0, 10.0]);
        assert_eq!(seconds(60), [10.0; 5]);
        assert_eq!(seconds(0), [10.0, 0.1, 0.1, 10.0, 10.0]);
    }
}
