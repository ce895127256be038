//! Keeping the packages of the active meetings here and current.
//!
//! A poll every `syncInterval`, on time whatever pulls are doing; what to do
//! about its answer is `plan`'s decision; pulls and version checks run beside
//! and report back. An answer that can't be understood changes nothing.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    check::{self, Checked, Version},
    known::{Known, Meeting},
    plan::{self, Step},
    poll::{self, Polled},
};
use crate::{
    board::{self, Board},
    config::Settings,
    fetch::{Fetch, Outcome, PullError, Reason},
    package::PackageId,
    store::now_s,
    upstream::{Connector, UpstreamError},
};

pub(super) struct Worker {
    settings: Arc<Settings>,
    board: Arc<Board>,
    connector: Arc<Connector>,
    fetch: Fetch,
    known: Known,
    /// When the plan was last carried out; what became due since then is still to do.
    acted: Instant,
    /// At most one poll and one round of checks at a time.
    poll: Option<BoxFuture<'static, Result<Polled, UpstreamError>>>,
    checks: Option<BoxFuture<'static, Checked>>,
    /// One for each meeting that is being pulled.
    pulls: FuturesUnordered<BoxFuture<'static, (PackageId, String, Outcome)>>,
}

impl Worker {
    pub(super) fn new(
        settings: Arc<Settings>,
        board: Arc<Board>,
        connector: Arc<Connector>,
        fetch: Fetch,
    ) -> Self {
        let pulled = board.store().list().into_iter().map(|stored| stored.manifest.verified_s);
        Self {
            known: Known::of("", pulled.max()),
            acted: Instant::now(),
            poll: None,
            checks: None,
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
        let mut store = board.store.subscribe();
        let mut interval = self.settings.current().sync_interval;
        let mut ticks = ticks(interval);
        loop {
            let is_running = *running.borrow_and_update();
            let look = self.known.next_look(self.acted);
            tokio::select! {
                _ = ticks.tick(), if is_running && self.poll.is_none() => self.begin_poll(),
                polled = ready(&mut self.poll) => { self.poll = None; self.take_poll(polled); }
                checked = ready(&mut self.checks) => { self.checks = None; self.take_checks(checked); }
                Some(landed) = self.pulls.next() => self.take_pull(landed),
                () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() && is_running => self.act(),
                _ = running.changed() => {
                    self.forget();
                    ticks.reset_immediately();
                }
                wishes = board.wishes.take() => {
                    for id in wishes {
                        info!("meeting {id} is synced by request");
                        self.fetch.try_again_now(&id);
                        self.known.recheck(&id);
                    }
                    self.act();
                    ticks.reset_immediately();
                }
                // Another folder holds other packages.
                _ = store.changed() => self.act(),
                _ = changes.changed() => {
                    let config = changes.borrow_and_update().clone();
                    self.fetch.apply(&config);
                    if config.main_server() != self.known.origin {
                        self.forget();
                        ticks.reset_immediately();
                    }
                    if config.sync_interval != interval {
                        interval = config.sync_interval;
                        ticks = self::ticks(interval);
                    }
                }
                () = end.cancelled() => return,
            }
            let view = self.known.view(&self.board.store());
            publish(&self.board, view);
        }
    }

    /// Starts over: the service was stopped or the main server changed.
    fn forget(&mut self) {
        self.poll = None;
        self.checks = None;
        self.pulls.clear();
        self.known = Known::of("", self.known.last_pull_s);
    }

    fn begin_poll(&mut self) {
        let config = self.settings.current();
        let upstream = self.connector.to(&config);
        if self.known.origin != upstream.origin() {
            self.known = Known::of(upstream.origin(), self.known.last_pull_s);
        }
        let before = self.known.before_poll(&self.board.store());
        let limit = Duration::from_secs(config.network.connection_timeout);
        self.poll = Some(Box::pin(poll::poll(upstream, before, limit)));
    }

    fn take_poll(&mut self, polled: Result<Polled, UpstreamError>) {
        let polled = match polled {
            Ok(polled) => polled,
            Err(error) => {
                match &self.known.poll_error {
                    None => warn!("poll failed: {error}"),
                    Some(_) => debug!("poll failed: {error}"),
                }
                self.known.poll_error = Some(error.fault());
                self.known.poll_failing_since_s.get_or_insert_with(now_s);
                return;
            }
        };
        let was_away = self.known.poll_error.take().is_some();
        self.known.poll_failing_since_s = None;
        if was_away {
            info!("polling works again");
        }
        self.known.polled_ok_s = Some(now_s());
        let status = polled.status;
        let news = status.token != self.known.token || was_away;
        for ended in self.known.take_status(status) {
            self.fetch.give_up(&ended);
        }
        if let Some(offers) = polled.offers {
            self.known.take_offers(offers);
        }
        self.fetch.set_catalogue(self.known.catalogue());
        if news {
            self.fetch.try_again();
            self.known.retry_all();
        }
        self.act();
    }

    /// Carries out what the plan says.
    fn act(&mut self) {
        if !self.board.is_running() {
            return;
        }
        self.acted = Instant::now();
        let facts = self.known.facts(&self.board.store(), &self.fetch.under_way());
        let mut to_check = Vec::new();
        for step in plan::plan(&facts, &self.known.token, Instant::now()) {
            match step {
                Step::Pull(id, reason) => self.pull(id, reason),
                Step::Check(id) => to_check.push(id),
                Step::Confirm(id) => self.known.confirm(&id, self.known.token.clone()),
            }
        }
        if !to_check.is_empty() && self.checks.is_none() {
            let upstream = self.connector.to(&self.settings.current());
            let store = self.board.store();
            let wanted = to_check.into_iter().filter_map(|id| {
                let path = self.known.offers.get(&id)?.path.clone()?;
                Some((store.get(&id)?, path))
            });
            let (token, wanted) = (self.known.token.clone(), wanted.collect());
            self.checks = Some(Box::pin(check::versions(upstream, token, wanted)));
        }
    }

    fn pull(&mut self, id: PackageId, reason: Reason) {
        let flight = self.fetch.pull(&id, reason);
        let meeting = self.known.meetings.entry(id.clone()).or_default();
        meeting.under_way = Some(reason);
        if reason == Reason::Changed {
            meeting.confirmed = None;
        }
        let token = self.known.token.clone();
        self.pulls.push(Box::pin(async move { (id, token, flight.outcome().await) }));
    }

    fn take_pull(&mut self, (id, token, outcome): (PackageId, String, Outcome)) {
        let Some(meeting) = self.known.meetings.get_mut(&id) else { return };
        meeting.under_way = None;
        match outcome {
            Ok(pulled) => {
                if pulled.changed {
                    self.known.last_pull_s = Some(now_s());
                }
                *meeting = Meeting::default();
                // One that was adopted may be any version, and one of another
                // main server's any meeting's: they still have to be compared.
                let source = &pulled.stored.manifest.source;
                if source.origin.as_deref() == Some(&*self.known.origin) {
                    self.known.confirm(&id, token);
                }
            }
            // The service stops: what comes next is its start's to decide.
            Err(error) if matches!(*error, PullError::Stopped) => return,
            Err(error) => {
                let delay = Duration::from_secs(self.settings.current().network.retry_delay);
                self.known.failed(&id, error.fault(), delay);
            }
        }
        self.act();
    }

    fn take_checks(&mut self, Checked { token, versions }: Checked) {
        for (id, version) in versions {
            match version {
                Version::Same => self.known.confirm(&id, token.clone()),
                Version::Other => {
                    info!("package of meeting {id} has changed at the main server");
                    self.known.outdated(&id);
                }
                Version::Incomparable => self.known.incomparable(&id),
                Version::NotTold => self.known.not_told(&id),
            }
        }
        self.act();
    }
}

fn publish(board: &Board, view: board::Sync) {
    board.sync.send_if_modified(|slot| {
        let changed = **slot != view;
        if changed {
            *slot = Arc::new(view);
        }
        changed
    });
}

/// A poll that took longer than the interval is followed by the next at once,
/// and then in step again.
fn ticks(interval_s: u64) -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(interval_s));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The outcome of what is under way, if anything is.
async fn ready<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
