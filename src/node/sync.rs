//! Keeping the packages of the active meetings here and current.
//!
//! A poll every `syncInterval`, on time whatever pulls are doing; what to do
//! about its answer is `plan`'s decision; pulls and version checks run beside
//! and report back. An answer that can't be understood changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    check::{self, Version},
    plan::{self, Facts, Step},
    poll::{self, Polled},
};
use crate::{
    board::{self, Board, Failing},
    config::Settings,
    fetch::{Catalogue, Fetch, Offer, Outcome, PullError, Reason, belongs},
    package::PackageId,
    protocol::{ActiveMeeting, OfferedPackage},
    store::now_s,
    upstream::{Connector, UpstreamError},
};

/// A round that failed is followed by another after this, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

pub(super) struct Worker {
    settings: Arc<Settings>,
    board: Arc<Board>,
    connector: Arc<Connector>,
    fetch: Fetch,
    known: Known,
    /// At most one poll and one round of checks at a time.
    poll: Option<BoxFuture<'static, Result<Polled, UpstreamError>>>,
    checks: Option<BoxFuture<'static, Vec<(PackageId, Version)>>>,
    /// One for each meeting that is being pulled.
    pulls: FuturesUnordered<BoxFuture<'static, (PackageId, String, Outcome)>>,
}

/// What is known of one main server's meetings.
#[derive(Default)]
struct Known {
    origin: String,
    answers: u64,
    token: String,
    polled_ok_s: Option<u64>,
    poll_error: Option<String>,
    active: Vec<ActiveMeeting>,
    offers: HashMap<PackageId, Offer>,
    offers_at: Option<Instant>,
    meetings: BTreeMap<PackageId, Meeting>,
    last_pull_s: Option<u64>,
}

/// How one active meeting fares.
#[derive(Default)]
struct Meeting {
    under_way: Option<Reason>,
    confirmed: Option<(Instant, String)>,
    stale: bool,
    incomparable: bool,
    rounds: u32,
    error: Option<String>,
    not_before: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        settings: Arc<Settings>,
        board: Arc<Board>,
        connector: Arc<Connector>,
        fetch: Fetch,
    ) -> Self {
        let (known, poll, checks) = (Known::default(), None, None);
        let pulls = FuturesUnordered::new();
        Self { settings, board, connector, fetch, known, poll, checks, pulls }
    }

    pub(super) async fn run(mut self, end: CancellationToken) {
        let (board, settings) = (self.board.clone(), self.settings.clone());
        let (mut running, mut changes) = (board.running.subscribe(), settings.subscribe());
        let mut store = board.store.subscribe();
        let mut interval = self.settings.current().sync_interval;
        let mut ticks = ticks(interval);
        loop {
            let is_running = *running.borrow_and_update();
            let retry = self.next_retry();
            tokio::select! {
                _ = ticks.tick(), if is_running && self.poll.is_none() => self.begin_poll(),
                polled = ready(&mut self.poll) => { self.poll = None; self.take_poll(polled); }
                versions = ready(&mut self.checks) => { self.checks = None; self.take_checks(versions); }
                Some(landed) = self.pulls.next() => self.take_pull(landed),
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() && is_running => self.act(),
                _ = running.changed() => {
                    self.forget();
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
            self.publish();
        }
    }

    /// Starts over: the service was stopped or the main server changed.
    fn forget(&mut self) {
        self.poll = None;
        self.checks = None;
        self.pulls.clear();
        self.known = Known::default();
    }

    fn begin_poll(&mut self) {
        let config = self.settings.current();
        let upstream = self.connector.to(&config);
        if self.known.origin != upstream.origin() {
            self.known = Known { origin: upstream.origin().to_owned(), ..Known::default() };
        }
        let known = &self.known;
        let store = self.board.store();
        let waiting = known.active.iter().any(|meeting| {
            let offered = known.offers.get(&meeting.id).is_some_and(|offer| offer.path.is_some());
            !offered && store.get(&meeting.id).is_none()
        });
        let before = poll::Before {
            token: known.token.clone(),
            active: known.active.iter().map(|meeting| meeting.id.clone()).collect(),
            offers_age: known.offers_at.map(|at| at.elapsed()),
            waiting_for_offer: waiting,
        };
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
                self.known.poll_error = Some(error.to_string());
                return;
            }
        };
        let was_away = self.known.poll_error.take().is_some();
        if was_away {
            info!("polling works again");
        }
        self.known.polled_ok_s = Some(now_s());
        let status = polled.status;
        let news = status.token != self.known.token || was_away;
        if status.unreadable.is_empty() {
            self.known.answers += 1;
        } else {
            warn!(
                "the list of active meetings has entries that make no sense: {:?}",
                status.unreadable
            );
        }
        self.note_changes(&status.active);
        self.known.token = status.token;
        let is_active = |id: &PackageId| status.active.iter().any(|meeting| meeting.id == *id);
        self.known.meetings.retain(|id, _| is_active(id));
        self.known.active = status.active;
        if let Some(offers) = polled.offers {
            self.take_offers(offers);
        }
        self.share_catalogue();
        if news {
            // What failed may work now: a new package, a server that is back.
            self.fetch.forget_refusals();
            self.known.meetings.values_mut().for_each(|meeting| meeting.not_before = None);
        }
        self.act();
    }

    fn take_offers(&mut self, offers: Vec<OfferedPackage>) {
        self.known.offers_at = Some(Instant::now());
        let before = std::mem::take(&mut self.known.offers);
        for OfferedPackage { id, title, path } in offers {
            let offered_before = before.get(&id).is_some_and(|offer| offer.path.is_some());
            if path.is_some()
                && !offered_before
                && let Some(meeting) = self.known.meetings.get_mut(&id)
            {
                // What failed by the other way may work by this one.
                meeting.not_before = None;
            }
            self.known.offers.insert(id, Offer { title: Some(title), path, sha256: None });
        }
    }

    fn note_changes(&self, active: &[ActiveMeeting]) {
        let known = |id: &PackageId| self.known.active.iter().any(|meeting| meeting.id == *id);
        for meeting in active.iter().filter(|meeting| !known(&meeting.id)) {
            info!("meeting {} ({}) is active", meeting.id, meeting.title);
        }
        for meeting in &self.known.active {
            if !active.iter().any(|now| now.id == meeting.id) {
                info!("meeting {} ({}) is no longer active", meeting.id, meeting.title);
            }
        }
    }

    /// Pulls on demand find their way by it, too.
    fn share_catalogue(&mut self) {
        for meeting in &self.known.active {
            let offer = self.known.offers.entry(meeting.id.clone()).or_default();
            offer.sha256 = meeting.sha256;
            offer.title.get_or_insert_with(|| meeting.title.clone());
        }
        let (origin, offers) = (self.known.origin.clone(), self.known.offers.clone());
        self.fetch.set_catalogue(Catalogue { origin, offers });
    }

    /// Carries out what the plan says.
    fn act(&mut self) {
        if !self.board.is_running() {
            return;
        }
        let facts: Vec<Facts> =
            self.known.active.iter().map(|meeting| self.facts(meeting)).collect();
        let mut to_check = Vec::new();
        for step in plan::plan(&facts, &self.known.token, Instant::now()) {
            match step {
                Step::Pull(id, reason) => self.pull(id, reason),
                Step::Check(id) => to_check.push(id),
                Step::Confirm(id) => self.confirm(&id, self.known.token.clone()),
            }
        }
        if !to_check.is_empty() && self.checks.is_none() {
            let upstream = self.connector.to(&self.settings.current());
            let store = self.board.store();
            let wanted = to_check.into_iter().filter_map(|id| {
                let path = self.known.offers.get(&id)?.path.clone()?;
                Some((store.get(&id)?, path))
            });
            self.checks = Some(Box::pin(check::versions(upstream, wanted.collect())));
        }
    }

    fn facts(&self, meeting: &ActiveMeeting) -> Facts {
        let held = self.board.store().get(&meeting.id);
        let held = held.filter(|held| belongs(held, &self.known.origin));
        let fares = self.known.meetings.get(&meeting.id);
        let offer = self.known.offers.get(&meeting.id);
        Facts {
            id: meeting.id.clone(),
            held: held.map(|held| held.manifest.sha256),
            announced: meeting.sha256,
            offered: offer.is_some_and(|offer| offer.path.is_some()),
            incomparable: fares.is_some_and(|fares| fares.incomparable),
            stale: fares.is_some_and(|fares| fares.stale),
            under_way: fares.and_then(|fares| fares.under_way),
            not_before: fares.and_then(|fares| fares.not_before),
            confirmed: fares.and_then(|fares| fares.confirmed.clone()),
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
        let (delay, now) = (self.settings.current().network.retry_delay, Instant::now());
        let Some(meeting) = self.known.meetings.get_mut(&id) else { return };
        meeting.under_way = None;
        match outcome {
            Ok(pulled) => {
                if pulled.changed {
                    self.known.last_pull_s = Some(now_s());
                }
                *meeting = Meeting { confirmed: meeting.confirmed.take(), ..Meeting::default() };
                self.confirm(&id, token);
            }
            Err(error) if matches!(*error, PullError::Stopped) => {}
            Err(error) => {
                meeting.rounds += 1;
                let backoff = backoff(meeting.rounds, Duration::from_secs(delay));
                meeting.not_before = Some(now + backoff);
                warn!(
                    "package of meeting {id} could not be pulled, next try in {} s: {error}",
                    backoff.as_secs()
                );
                meeting.error = Some(error.to_string());
            }
        }
        self.act();
    }

    fn take_checks(&mut self, versions: Vec<(PackageId, Version)>) {
        for (id, version) in versions {
            self.take_version(&id, version);
        }
        self.act();
    }

    fn take_version(&mut self, id: &PackageId, version: Version) {
        let token = self.known.token.clone();
        match version {
            Version::Same => self.confirm(id, token),
            Version::Other => {
                info!("package of meeting {id} has changed at the main server");
                let meeting = self.known.meetings.entry(id.clone()).or_default();
                meeting.stale = true;
                meeting.confirmed = None;
            }
            Version::Incomparable => {
                self.known.meetings.entry(id.clone()).or_default().incomparable = true;
            }
            Version::NotTold => {}
        }
    }

    fn confirm(&mut self, id: &PackageId, token: String) {
        let meeting = self.known.meetings.entry(id.clone()).or_default();
        meeting.confirmed = Some((Instant::now(), token));
    }

    fn next_retry(&self) -> Option<Instant> {
        let idle = self.known.meetings.values().filter(|meeting| meeting.under_way.is_none());
        idle.filter_map(|meeting| meeting.not_before).filter(|at| *at > Instant::now()).min()
    }

    fn publish(&self) {
        let known = &self.known;
        let store = self.board.store();
        let confirmed = |(id, meeting): (&PackageId, &Meeting)| {
            (meeting.confirmed.is_some() && store.get(id).is_some()).then(|| id.clone())
        };
        let failing = |(id, meeting): (&PackageId, &Meeting)| {
            let wait = meeting.not_before.map(|at| at.saturating_duration_since(Instant::now()));
            let failing = Failing {
                rounds: meeting.rounds,
                error: meeting.error.clone()?,
                next_try_s: now_s() + wait.unwrap_or_default().as_secs(),
            };
            Some((id.clone(), failing))
        };
        let sync = board::Sync {
            answers: known.answers,
            origin: known.origin.clone(),
            token: known.token.clone(),
            polled_ok_s: known.polled_ok_s,
            poll_error: known.poll_error.clone(),
            active: known.active.clone(),
            confirmed: known.meetings.iter().filter_map(confirmed).collect(),
            failing: known.meetings.iter().filter_map(failing).collect(),
            last_pull_s: known.last_pull_s,
        };
        self.board.sync.send_if_modified(|slot| {
            let changed = **slot != sync;
            if changed {
                *slot = Arc::new(sync);
            }
            changed
        });
    }
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

fn backoff(rounds: u32, retry_delay: Duration) -> Duration {
    let first = FIRST_BACKOFF.max(retry_delay).min(LONGEST_BACKOFF);
    let factor = 1_u32.checked_shl(rounds.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_fail_come_further_and_further_apart() {
        let seconds = |rounds| backoff(rounds, Duration::from_secs(1)).as_secs();
        assert_eq!([1, 2, 3, 7, 99].map(seconds), [5, 10, 20, 300, 300]);
        assert_eq!(backoff(1, Duration::from_secs(3600)), LONGEST_BACKOFF);
    }
}
