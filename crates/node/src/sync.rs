//! Keeps the packages of the active meetings stored and current.
//!
//! A poll every `syncInterval`, on time whatever pulls are doing, or one that the
//! main server holds back until there is a change, if it can; `plan` decides what
//! to do with its answer; pulls and version checks run in the background and report
//! back. A malformed answer changes nothing.
//!
//! Versions are checked after each poll's answer, so that a changed package is
//! pulled, and before each heartbeat (`board.heartbeat_number`), so that none is
//! listed that has changed since: the main server sends tablets to a node for each
//! listed meeting, as for one with its newest package.

mod check;
mod failover;
mod failure;
pub(crate) mod main_server_view;
mod meeting;
pub(crate) mod plan;
mod poll;
mod prestage;
mod pulls;

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::limits::Limit;
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::Settings;
use edge_mirror_store::Store;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use check::{VersionCheck, VersionComparison};
use main_server_view::MainServerView;
use plan::PlanStep;
use poll::{InFlightPoll, PollOutcome};
use pulls::FinishedPull;

use crate::{
    board::{self, CallResult, StatusBoard},
    fetch::{Fetch, PullReason},
    upstream::{Connector, FailoverRound, UpstreamError},
};

/// Planning after each of ten thousand pulls that end one by one must not dominate:
/// at most a tenth of the time goes into it.
const PAUSE_PER_RECONCILE: u32 = 9;
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// While a main server makes a package, which a whole room waits for, its list of
/// offers is fetched this often, whatever the interval.
const OFFER_PAUSE: Duration = Duration::from_secs(1);
/// Pulls that have begun, including those that wait for a permit or between two
/// attempts. Far more than run at a time: each takes some memory meanwhile.
const MAX_PULLS: usize = 1000;
/// Streams of version checks: a sweep, and one for later packages.
const MAX_CHECKS: usize = 2;

pub(super) struct SyncWorker {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    connector: Arc<Connector>,
    fetch: Fetch,
    known: MainServerView,
    /// Time of the next task besides polls, as of the last run of the plan.
    reconcile_at: Option<Instant>,
    /// A pull has ended since then; and the earliest time to plan for that.
    pull_ended: bool,
    reconcile_not_before: Instant,
    /// At most one at a time.
    poll: Option<InFlightPoll>,
    /// Tries of polls around the main servers.
    round: FailoverRound,
    /// The main server in use when a poll was last answered.
    polled_turn: Option<u64>,
    /// Time of the next poll, if that is before the interval's.
    next_poll_at: Option<Instant>,
    checks: SelectAll<BoxStream<'static, VersionCheck>>,
    /// The number of the last heartbeat, or of the one about to go out.
    heartbeat_number: u64,
    /// One for each meeting that is being pulled.
    pulls: FuturesUnordered<BoxFuture<'static, FinishedPull>>,
}

impl SyncWorker {
    pub(super) fn new(
        settings: Arc<Settings>,
        board: Arc<StatusBoard>,
        connector: Arc<Connector>,
        fetch: Fetch,
    ) -> Self {
        let pulled =
            board.store().list().into_iter().filter_map(|stored| {
                stored.manifest.key.package().map(|_| stored.manifest.verified_s)
            });
        Self {
            known: MainServerView::of("", pulled.max().map(UnixMillis::from_secs)),
            reconcile_at: None,
            pull_ended: false,
            reconcile_not_before: Instant::now(),
            poll: None,
            round: FailoverRound::default(),
            polled_turn: None,
            next_poll_at: None,
            checks: SelectAll::new(),
            heartbeat_number: 0,
            pulls: FuturesUnordered::new(),
            settings,
            board,
            connector,
            fetch,
        }
    }

    pub(super) async fn run(mut self, end: CancellationToken) {
        let (board, settings) = (self.board.clone(), self.settings.clone());
        let (mut running, mut changes) = (board.running.subscribe(), settings.subscribe());
        let (mut store, mut sweeps) = (board.store.subscribe(), board.heartbeat_number.subscribe());
        let mut in_use = self.connector.in_use();
        let mut config = self.settings.current();
        let mut ticks = ticks(config.sync_interval);
        loop {
            let is_running = *running.borrow_and_update();
            let may_poll = is_running && self.poll.is_none();
            tokio::select! {
                _ = ticks.tick(), if may_poll => self.begin_poll(),
                () = sleep_until_some(self.next_poll_at), if may_poll => self.begin_poll(),
                polled = poll_some(self.poll.as_mut().map(|poll| &mut poll.outcome)) => self.take_poll(polled),
                Some(check) = self.checks.next() => self.take_checks(check),
                _ = sweeps.changed() => {
                    self.heartbeat_number = *sweeps.borrow_and_update();
                    self.known.begin_sweep(Instant::now());
                    self.reconcile();
                }
                Some(pull) = self.pulls.next() => self.take_pulls(pull),
                () = sleep_until_some(Some(self.reconcile_not_before)), if self.pull_ended => self.reconcile(),
                () = sleep_until_some(self.reconcile_at), if is_running => self.reconcile(),
                _ = running.changed() => {
                    self.reset();
                    ticks.reset_immediately();
                }
                sync_requests = board.sync_requests.take() => {
                    for id in sync_requests {
                        info!("meeting {id} is synced by request");
                        self.fetch.retry_meeting(&id);
                        self.known.recheck(&id);
                    }
                    self.reconcile();
                    // Any answer, not only one that has news.
                    self.known.seen = None;
                    self.cancel_long_poll();
                    ticks.reset_immediately();
                }
                () = board.poll_now.notified(), if may_poll => self.begin_poll(),
                _ = in_use.changed() => {
                    let turn = in_use.borrow_and_update().turn;
                    if self.follow_main_server(turn) {
                        ticks.reset_immediately();
                    }
                }
                // Another folder holds other packages.
                _ = store.changed() => self.reconcile(),
                _ = changes.changed() => {
                    let before = std::mem::replace(&mut config, changes.borrow_and_update().clone());
                    if self.follow_fleet(config.fleet()) {
                        self.reset();
                        ticks.reset_immediately();
                    }
                    if config.sync_interval != before.sync_interval {
                        ticks = self::ticks(config.sync_interval);
                        self.cancel_long_poll();
                    }
                }
                () = end.cancelled() => return,
            }
            if !self.known.delays_heartbeats() {
                self.known.checked = self.heartbeat_number;
            }
            if !self.pull_ended {
                let view = self.known.view();
                publish(&self.board, view);
            }
        }
    }

    /// Starts over: the service was stopped or the main server changed.
    fn reset(&mut self) {
        self.end_prestaging();
        (self.poll, self.next_poll_at, self.reconcile_at) = (None, None, None);
        self.checks.clear();
        self.pulls.clear();
        self.known = MainServerView::of("", self.known.last_pull);
    }

    /// Ends these pulls: under the same id, another main server has another package.
    fn end_prestaging(&mut self) {
        for id in self.known.prestage.ids() {
            self.fetch.cancel_pull(id);
        }
    }

    /// Cancels a poll that is held back, as its wait no longer fits. One that is
    /// about to be answered is left alone.
    fn cancel_long_poll(&mut self) {
        if self.poll.as_ref().is_some_and(|poll| poll.is_long_poll) {
            self.poll = None;
        }
    }

    fn take_poll(&mut self, polled: Result<PollOutcome, UpstreamError>) {
        let Some(poll) = self.poll.take() else { return };
        self.next_poll_at = poll.next_poll_at(polled.as_ref().ok(), Instant::now());
        self.board.counts.polls.inc(CallResult::of(&polled));
        let polled = match polled {
            Ok(polled) => polled,
            Err(error) => {
                match &self.known.poll_error {
                    None => warn!("poll failed: {error}"),
                    Some(_) => debug!("poll failed: {error}"),
                }
                self.known.poll_error = Some(error.fault());
                self.known.poll_failing_since.get_or_insert_with(UnixMillis::now);
                self.after_failed_poll(&poll, &error);
                return;
            }
        };
        let was_away = self.known.poll_error.take().is_some();
        let is_another = self.note_polled(&poll);
        self.known.poll_failing_since = None;
        if was_away {
            info!("polling works again");
        }
        self.known.polled_ok = Some(UnixMillis::now());
        let token = self.known.token.clone();
        self.take_answer(polled);
        if self.fetch.is_awaiting_offers() {
            let soon = Instant::now() + OFFER_PAUSE;
            self.next_poll_at = Some(self.next_poll_at.map_or(soon, |again| again.min(soon)));
        }
        if token != self.known.token || was_away || is_another {
            self.fetch.retry_now();
            self.known.retry_all();
        }
        self.known.begin_sweep(Instant::now());
        self.reconcile();
    }

    fn take_answer(&mut self, polled: PollOutcome) {
        self.known.seen = Some(polled.seen);
        let nothing_new = polled.news.is_none() && polled.offers.is_none();
        match polled.news {
            Some(status) => {
                if status.left_out > 0 {
                    self.board.counts.limits.inc(Limit::ActiveMeetings);
                }
                self.known.offers_included = polled.offers_included;
                let (origin, section) =
                    (self.known.fleet.identity().to_owned(), status.relay.clone());
                let plan = Arc::new(board::MainServerPlan { origin, section });
                self.board.relay.send_if_modified(|known| {
                    let changed = *known != plan;
                    if changed {
                        *known = plan;
                    }
                    changed
                });
                self.board.dispatch.send_if_modified(|known| {
                    let changed = *known != status.dispatch;
                    known.clone_from(&status.dispatch);
                    changed
                });
                let prestaged = status.relay.as_ref().map(|section| section.prestage.clone());
                let mut ended = self.known.take_status(status);
                self.known.prestage.drop_started(&self.known.active);
                // Without a section it has said nothing: it may be starting.
                if let Some(offers) = prestaged {
                    ended.extend(self.known.prestage.take(&offers, &self.known.active));
                }
                for ended in ended {
                    self.fetch.cancel_pull(&ended);
                }
            }
            None => self.known.take_unchanged(),
        }
        if let Some(offers) = polled.offers {
            self.known.take_offers(offers);
        }
        if !nothing_new {
            self.fetch.set_catalogue(self.known.catalogue());
        }
    }

    /// Carries out the plan.
    fn reconcile(&mut self) {
        let began = Instant::now();
        (self.pull_ended, self.reconcile_at) = (false, None);
        if !self.board.is_running() {
            return;
        }
        let store = self.board.store();
        for stored in self.known.refresh_held(&store) {
            self.fetch.set_withheld(stored, false);
        }
        for stored in self.known.prestage.refresh(&store, &self.known.fleet) {
            self.fetch.set_withheld(stored, true);
        }
        if self.known.next_sweep().is_some_and(|at| at <= began) {
            self.known.begin_sweep(began);
        }
        let under_way = self.fetch.under_way();
        let steps = plan::plan(self.known.facts(&under_way), &self.known.token, began);
        let mut to_check = Vec::new();
        for step in steps {
            match step {
                PlanStep::Pull(id, reason) if self.pulls.len() < MAX_PULLS => self.pull(id, reason),
                // Later, when others have ended.
                PlanStep::Pull(..) => {}
                PlanStep::Check(id) => to_check.push(id),
                PlanStep::Confirm(id, held) => {
                    self.known.confirm(&id, held, self.known.token.clone(), began);
                }
            }
        }
        if let Some(id) = self.known.prestage.next_pull(began) {
            self.pull(id, PullReason::Prestage);
        }
        if !to_check.is_empty() && self.checks.len() < MAX_CHECKS {
            self.check(&store, to_check);
        }
        self.reconcile_at = self.known.next_look(began);
        let now = Instant::now();
        self.reconcile_not_before = now + LONGEST_PAUSE.min(PAUSE_PER_RECONCILE * (now - began));
    }

    /// Starts version checks of these packages.
    fn check(&mut self, store: &Store, ids: Vec<PackageId>) {
        let packages = ids.into_iter().filter_map(|id| {
            let path = self.known.offers.get(&id)?.path.clone()?;
            let stored = store.get(&id)?;
            self.known.ask(&id, stored.manifest.sha256).then_some((id, stored, path))
        });
        let packages: Vec<_> = packages.collect();
        if packages.len() > check::UNPACED_CHECKS {
            self.board.counts.limits.inc(Limit::VersionChecks);
        }
        let upstream = self.connector.upstream(&self.settings.current());
        self.checks.push(check::versions(upstream, self.known.token.clone(), packages));
    }

    /// Takes in a finished check, and all others that have finished by now.
    fn take_checks(&mut self, check: VersionCheck) {
        let (mut next, mut all_same) = (Some(check), true);
        while let Some(check) = next {
            all_same &= check.version == VersionComparison::Same;
            self.take_check(check);
            next = self.checks.next().now_or_never().flatten();
        }
        let swept = self.known.checks_pending == 0;
        if swept {
            self.known.end_sweep();
        }
        if swept || !all_same {
            self.reconcile();
        }
    }

    fn take_check(&mut self, VersionCheck { id, sha256, token, version }: VersionCheck) {
        let now = Instant::now();
        self.known.checks_pending = self.known.checks_pending.saturating_sub(1);
        match version {
            VersionComparison::Same => self.known.confirm(&id, sha256, token, now),
            VersionComparison::Other => {
                info!("package of meeting {id} has changed at the main server");
                self.known.note_outdated(&id, sha256);
            }
            VersionComparison::Incomparable => self.known.incomparable(&id, sha256),
            VersionComparison::Gone => self.known.offer_gone(&id, sha256, now),
            VersionComparison::Unknown => self.known.note_untold(&id, sha256, now),
        }
    }
}

fn publish(board: &StatusBoard, view: board::SyncState) {
    board.sync.send_if_modified(|slot| {
        let changed = **slot != view;
        if changed {
            *slot = Arc::new(view);
        }
        changed
    });
}

/// A poll that took longer than the interval is followed by the next one
/// immediately, and then in step again.
fn ticks(interval_s: u64) -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(interval_s));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Waits for the outcome, forever if nothing is under way.
async fn poll_some<T>(under_way: Option<&mut BoxFuture<'static, T>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits until that time, forever if there is none.
async fn sleep_until_some(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
