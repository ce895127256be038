//! What is known of one main server's meetings, and how each fares here.
//!
//! There may be ten thousand: whatever is done for each poll or pull looks at
//! each meeting once, and copies no list that has not changed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    plan::{CHECK_EVERY, Facts},
    poll,
};
use crate::{
    board::{self, Active, Failing, Fault},
    fetch::{Catalogue, Offer, Phase, Progress, Reason, belongs},
    package::PackageId,
    protocol::{ActiveMeeting, MeetingStatus, OfferedPackage},
    store::{Store, now_s},
    upstream::Seen,
};

/// A round that failed is followed by another after this, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What is known of one main server's meetings.
#[derive(Default)]
pub struct Known {
    pub origin: String,
    pub answers: u64,
    /// By which the same answer is known again.
    pub seen: Option<Seen>,
    pub token: Arc<str>,
    pub polled_ok_s: Option<u64>,
    pub poll_error: Option<Fault>,
    pub poll_failing_since_s: Option<u64>,
    pub active: Arc<Active>,
    pub complete: bool,
    pub offers: Arc<HashMap<PackageId, Offer>>,
    pub offers_at: Option<Instant>,
    /// Answers to polls bring the offers with them.
    pub offers_told: bool,
    /// Of active ones only.
    pub meetings: HashMap<PackageId, Meeting>,
    pub last_pull_s: Option<u64>,
    /// As they were last shown.
    confirmed: Arc<HashSet<PackageId>>,
    failing: Arc<BTreeMap<PackageId, Failing>>,
}

/// How one active meeting fares.
#[derive(Default)]
pub struct Meeting {
    pub under_way: Option<Reason>,
    pub confirmed: Option<(Instant, Arc<str>)>,
    pub stale: bool,
    pub incomparable: bool,
    pub failing: Option<Failing>,
    /// Failed lately: not again before then.
    pub not_before: Option<Instant>,
    /// The version was asked for in vain so often: not again before then.
    pub not_told: u32,
    pub ask_not_before: Option<Instant>,
}

impl Known {
    /// Nothing is known yet of the main server at `origin`.
    pub fn of(origin: &str, last_pull_s: Option<u64>) -> Self {
        Self { origin: origin.to_owned(), last_pull_s, ..Self::default() }
    }

    /// Takes in a poll's answer. While it has entries that make no sense, it
    /// only adds to what is known: they may be anybody's.
    /// Returns the meetings that are no longer active.
    pub fn take_status(&mut self, status: MeetingStatus) -> Vec<PackageId> {
        let MeetingStatus { token, mut active, unreadable, .. } = status;
        if unreadable.is_empty() {
            self.answers += 1;
        } else {
            if self.complete || self.answers == 0 {
                warn!("the list of active meetings has entries that make no sense: {unreadable:?}");
            }
            let named: HashSet<_> = active.iter().map(|meeting| meeting.id.clone()).collect();
            active.extend(self.active.iter().filter(|m| !named.contains(&m.id)).cloned());
        }
        self.complete = unreadable.is_empty();
        if *self.token != *token {
            self.token = token.into();
        }
        if *active == **self.active {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.active, Arc::new(active.into()));
        self.meetings.retain(|id, _| self.active.contains(id));
        for meeting in self.active.iter().filter(|meeting| !before.contains(&meeting.id)) {
            info!("meeting {} ({}) is active", meeting.id, meeting.title);
        }
        let ended = before.iter().filter(|meeting| !self.active.contains(&meeting.id));
        let ended = ended.inspect(|meeting| {
            info!("meeting {} ({}) is no longer active", meeting.id, meeting.title);
        });
        ended.map(|meeting| meeting.id.clone()).collect()
    }

    /// The answer was the one before once more.
    pub fn take_same(&mut self) {
        if self.complete {
            self.answers += 1;
        }
    }

    pub fn take_offers(&mut self, offers: Vec<OfferedPackage>) {
        self.offers_at = Some(Instant::now());
        let before = std::mem::take(&mut self.offers);
        let mut now = HashMap::with_capacity(offers.len());
        for OfferedPackage { id, title, path } in offers {
            let offered_before = before.get(&id).is_some_and(|offer| offer.path.is_some());
            if path.is_some()
                && !offered_before
                && let Some(meeting) = self.meetings.get_mut(&id)
            {
                // What failed by the other way may work by this one.
                meeting.not_before = None;
            }
            now.insert(id, Offer { title: Some(title), path, sha256: None });
        }
        self.offers = Arc::new(now);
    }

    /// What pulls find their way by, those on demand, too.
    pub fn catalogue(&mut self) -> Catalogue {
        let offers = Arc::make_mut(&mut self.offers);
        for meeting in self.active.iter() {
            let offer = offers.entry(meeting.id.clone()).or_default();
            offer.sha256 = meeting.sha256;
            offer.title.get_or_insert_with(|| meeting.title.clone());
        }
        Catalogue { origin: self.origin.clone(), offers: self.offers.clone() }
    }

    /// What the next poll has to know.
    pub(super) fn before_poll(&self, store: &Store) -> poll::Before {
        let missing = |meeting: &ActiveMeeting| {
            !self.offered(&meeting.id) && store.get(&meeting.id).is_none()
        };
        poll::Before {
            seen: self.seen.clone(),
            token: self.token.to_string(),
            active: self.active.clone(),
            offers_told: self.offers_told,
            offers_age: self.offers_at.map(|at| at.elapsed()),
            waiting_for_offer: !self.offers_told && self.active.iter().any(missing),
        }
    }

    fn offered(&self, id: &PackageId) -> bool {
        self.offers.get(id).is_some_and(|offer| offer.path.is_some())
    }

    /// What the plan has to know of each active meeting.
    pub fn facts<'a>(
        &'a self,
        store: &'a Store,
        under_way: &'a HashMap<PackageId, Progress>,
    ) -> impl Iterator<Item = Facts<'a>> {
        let pausing = |id| under_way.get(id).is_some_and(|pull| pull.phase == Phase::Pausing);
        self.active.iter().map(move |meeting| Facts {
            pausing: !under_way.is_empty() && pausing(&meeting.id),
            ..self.facts_of(meeting, store)
        })
    }

    fn facts_of<'a>(&'a self, meeting: &'a ActiveMeeting, store: &Store) -> Facts<'a> {
        let held = store.get(&meeting.id);
        let held = held.filter(|held| belongs(held, &self.origin));
        let fares = self.meetings.get(&meeting.id);
        Facts {
            id: &meeting.id,
            held: held.map(|held| held.manifest.sha256),
            announced: meeting.sha256,
            offered: self.offered(&meeting.id),
            incomparable: fares.is_some_and(|fares| fares.incomparable),
            stale: fares.is_some_and(|fares| fares.stale),
            under_way: fares.and_then(|fares| fares.under_way),
            pausing: false,
            ask_not_before: fares.and_then(|fares| fares.ask_not_before),
            not_before: fares.and_then(|fares| fares.not_before),
            confirmed: fares
                .and_then(|fares| fares.confirmed.as_ref())
                .map(|(at, token)| (*at, &**token)),
        }
    }

    /// How an active meeting fares; of others nothing is kept.
    pub(super) fn fares(&mut self, id: &PackageId) -> Option<&mut Meeting> {
        self.active.contains(id).then(|| self.meetings.entry(id.clone()).or_default())
    }

    pub(super) fn confirm(&mut self, id: &PackageId, token: Arc<str>) {
        if let Some(meeting) = self.fares(id) {
            meeting.confirmed = Some((Instant::now(), token));
            (meeting.not_told, meeting.ask_not_before) = (0, None);
        }
    }

    /// When there is something to do besides the next poll: try again what
    /// failed, or ask for versions once more. Only what becomes due after `now`.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let idle = self.meetings.iter().filter(|(_, meeting)| meeting.under_way.is_none());
        let looks = idle.flat_map(|(id, meeting)| {
            let confirmed = meeting.confirmed.as_ref().filter(|_| self.offered(id));
            let check = confirmed.map(|(at, _)| *at + CHECK_EVERY);
            [meeting.not_before, meeting.ask_not_before, check]
        });
        looks.flatten().filter(|at| *at > now).min()
    }

    /// The main server would not say which version it has.
    pub(super) fn not_told(&mut self, id: &PackageId) {
        if let Some(meeting) = self.fares(id) {
            meeting.not_told += 1;
            let wait = backoff(meeting.not_told, FIRST_BACKOFF).min(CHECK_EVERY);
            meeting.ask_not_before = Some(Instant::now() + wait);
        }
    }

    pub(super) fn incomparable(&mut self, id: &PackageId) {
        if let Some(meeting) = self.fares(id) {
            meeting.incomparable = true;
        }
    }

    /// A round of pulling ended without the package.
    pub(super) fn failed(&mut self, id: &PackageId, error: Fault, retry_delay: Duration) {
        let Some(meeting) = self.meetings.get_mut(id) else { return };
        let rounds = meeting.failing.as_ref().map_or(1, |failing| failing.rounds + 1);
        let wait = backoff(rounds, retry_delay);
        meeting.not_before = Some(Instant::now() + wait);
        meeting.failing = Some(Failing { rounds, error, next_try_s: now_s() + wait.as_secs() });
    }

    /// What failed may work now: a new package, a server that is back.
    pub(super) fn retry_all(&mut self) {
        for meeting in self.meetings.values_mut() {
            (meeting.not_before, meeting.ask_not_before) = (None, None);
        }
    }

    /// An operator wants to know now. What is confirmed stays so meanwhile:
    /// clients need not suffer for a look.
    pub(super) fn recheck(&mut self, id: &PackageId) {
        if let Some(meeting) = self.meetings.get_mut(id) {
            (meeting.not_before, meeting.ask_not_before) = (None, None);
            if let Some((_, token)) = &mut meeting.confirmed {
                *token = Arc::default();
            }
        }
    }

    pub(super) fn outdated(&mut self, id: &PackageId) {
        if let Some(meeting) = self.fares(id) {
            meeting.stale = true;
            meeting.confirmed = None;
        }
    }

    /// For the status page and the heartbeats.
    pub fn view(&mut self, store: &Store) -> board::Sync {
        self.show_confirmed(store);
        self.show_failing();
        board::Sync {
            answers: self.answers,
            origin: self.origin.clone(),
            token: self.token.to_string(),
            polled_ok_s: self.polled_ok_s,
            poll_error: self.poll_error.clone(),
            poll_failing_since_s: self.poll_failing_since_s,
            active: self.active.clone(),
            complete: self.complete,
            confirmed: self.confirmed.clone(),
            failing: self.failing.clone(),
            last_pull_s: self.last_pull_s,
        }
    }

    /// Looks whether it is still what was shown before it is gathered anew:
    /// mostly it is.
    fn show_confirmed(&mut self, store: &Store) {
        let held = |id: &PackageId| store.get(id).is_some_and(|held| belongs(&held, &self.origin));
        let confirmed =
            |(id, meeting): &(&PackageId, &Meeting)| meeting.confirmed.is_some() && held(id);
        let (mut count, mut same) = (0, true);
        for (id, _) in self.meetings.iter().filter(confirmed) {
            count += 1;
            same &= self.confirmed.contains(id);
        }
        if !same || count != self.confirmed.len() {
            let now = self.meetings.iter().filter(confirmed).map(|(id, _)| id.clone()).collect();
            self.confirmed = Arc::new(now);
        }
    }

    fn show_failing(&mut self) {
        let failing = |(id, meeting): (&PackageId, &Meeting)| {
            meeting.failing.clone().map(|failing| (id.clone(), failing))
        };
        let now: BTreeMap<_, _> = self.meetings.iter().filter_map(failing).collect();
        if now != *self.failing {
            self.failing = Arc::new(now);
        }
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
