//! What is known of one main server's meetings, and how each fares here.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    plan::{CHECK_EVERY, Facts},
    poll,
};
use crate::{
    board::{self, Failing, Fault},
    fetch::{Catalogue, Offer, Phase, Progress, Reason, belongs},
    package::PackageId,
    protocol::{ActiveMeeting, MeetingStatus, OfferedPackage},
    store::{Store, now_s},
};

/// A round that failed is followed by another after this, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What is known of one main server's meetings.
#[derive(Default)]
pub(super) struct Known {
    pub origin: String,
    pub answers: u64,
    pub token: String,
    pub polled_ok_s: Option<u64>,
    pub poll_error: Option<Fault>,
    pub poll_failing_since_s: Option<u64>,
    pub active: Vec<ActiveMeeting>,
    pub complete: bool,
    pub offers: HashMap<PackageId, Offer>,
    pub offers_at: Option<Instant>,
    pub meetings: BTreeMap<PackageId, Meeting>,
    pub last_pull_s: Option<u64>,
}

/// How one active meeting fares.
#[derive(Default)]
pub(super) struct Meeting {
    pub under_way: Option<Reason>,
    pub confirmed: Option<(Instant, String)>,
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
    pub(super) fn of(origin: &str, last_pull_s: Option<u64>) -> Self {
        Self { origin: origin.to_owned(), last_pull_s, ..Self::default() }
    }

    /// Takes in a poll's answer. While it has entries that make no sense, it
    /// only adds to what is known: they may be anybody's.
    /// Returns the meetings that are no longer active.
    pub(super) fn take_status(&mut self, status: MeetingStatus) -> Vec<PackageId> {
        let MeetingStatus { token, mut active, unreadable } = status;
        if unreadable.is_empty() {
            self.answers += 1;
        } else {
            if self.complete || self.answers == 0 {
                warn!("the list of active meetings has entries that make no sense: {unreadable:?}");
            }
            let named = |id: &PackageId| active.iter().any(|meeting| meeting.id == *id);
            let kept: Vec<_> = self.active.iter().filter(|m| !named(&m.id)).cloned().collect();
            active.extend(kept);
        }
        self.complete = unreadable.is_empty();
        self.note_changes(&active);
        let is_active = |id: &PackageId| active.iter().any(|meeting| meeting.id == *id);
        self.meetings.retain(|id, _| is_active(id));
        self.token = token;
        let before = std::mem::replace(&mut self.active, active.clone());
        before.into_iter().map(|meeting| meeting.id).filter(|id| !is_active(id)).collect()
    }

    pub(super) fn take_offers(&mut self, offers: Vec<OfferedPackage>) {
        self.offers_at = Some(Instant::now());
        let before = std::mem::take(&mut self.offers);
        for OfferedPackage { id, title, path } in offers {
            let offered_before = before.get(&id).is_some_and(|offer| offer.path.is_some());
            if path.is_some()
                && !offered_before
                && let Some(meeting) = self.meetings.get_mut(&id)
            {
                // What failed by the other way may work by this one.
                meeting.not_before = None;
            }
            self.offers.insert(id, Offer { title: Some(title), path, sha256: None });
        }
    }

    fn note_changes(&self, active: &[ActiveMeeting]) {
        let known = |id: &PackageId| self.active.iter().any(|meeting| meeting.id == *id);
        for meeting in active.iter().filter(|meeting| !known(&meeting.id)) {
            info!("meeting {} ({}) is active", meeting.id, meeting.title);
        }
        for meeting in &self.active {
            if !active.iter().any(|now| now.id == meeting.id) {
                info!("meeting {} ({}) is no longer active", meeting.id, meeting.title);
            }
        }
    }

    /// What pulls find their way by, those on demand, too.
    pub(super) fn catalogue(&mut self) -> Catalogue {
        for meeting in &self.active {
            let offer = self.offers.entry(meeting.id.clone()).or_default();
            offer.sha256 = meeting.sha256;
            offer.title.get_or_insert_with(|| meeting.title.clone());
        }
        Catalogue { origin: self.origin.clone(), offers: self.offers.clone() }
    }

    /// What the next poll has to know.
    pub(super) fn before_poll(&self, store: &Store) -> poll::Before {
        let offered = |id| self.offers.get(id).is_some_and(|offer| offer.path.is_some());
        let active = || self.active.iter().map(|meeting| &meeting.id);
        poll::Before {
            token: self.token.clone(),
            active: active().cloned().collect(),
            offers_age: self.offers_at.map(|at| at.elapsed()),
            waiting_for_offer: active().any(|id| !offered(id) && store.get(id).is_none()),
        }
    }

    /// What the plan has to know of each active meeting.
    pub(super) fn facts(
        &self,
        store: &Store,
        under_way: &HashMap<PackageId, Progress>,
    ) -> Vec<Facts> {
        let pausing =
            |id: &PackageId| under_way.get(id).is_some_and(|pull| pull.phase == Phase::Pausing);
        let facts = |meeting: &ActiveMeeting| Facts {
            pausing: pausing(&meeting.id),
            ..self.facts_of(meeting, store)
        };
        self.active.iter().map(facts).collect()
    }

    fn facts_of(&self, meeting: &ActiveMeeting, store: &Store) -> Facts {
        let held = store.get(&meeting.id);
        let held = held.filter(|held| belongs(held, &self.origin));
        let fares = self.meetings.get(&meeting.id);
        let offer = self.offers.get(&meeting.id);
        Facts {
            id: meeting.id.clone(),
            held: held.map(|held| held.manifest.sha256),
            announced: meeting.sha256,
            offered: offer.is_some_and(|offer| offer.path.is_some()),
            incomparable: fares.is_some_and(|fares| fares.incomparable),
            stale: fares.is_some_and(|fares| fares.stale),
            under_way: fares.and_then(|fares| fares.under_way),
            pausing: false,
            ask_not_before: fares.and_then(|fares| fares.ask_not_before),
            not_before: fares.and_then(|fares| fares.not_before),
            confirmed: fares.and_then(|fares| fares.confirmed.clone()),
        }
    }

    pub(super) fn confirm(&mut self, id: &PackageId, token: String) {
        let meeting = self.meetings.entry(id.clone()).or_default();
        meeting.confirmed = Some((Instant::now(), token));
        (meeting.not_told, meeting.ask_not_before) = (0, None);
    }

    /// When there is something to do besides the next poll: try again what
    /// failed, or ask for versions once more. Only what became due after the
    /// plan was last carried out.
    pub(super) fn next_look(&self, acted: Instant) -> Option<Instant> {
        let idle = self.meetings.iter().filter(|(_, meeting)| meeting.under_way.is_none());
        let looks = idle.flat_map(|(id, meeting)| {
            let offered = self.offers.get(id).is_some_and(|offer| offer.path.is_some());
            let confirmed = meeting.confirmed.as_ref().filter(|_| offered);
            let check = confirmed.map(|(at, _)| *at + CHECK_EVERY);
            [meeting.not_before, meeting.ask_not_before, check]
        });
        looks.flatten().filter(|at| *at > acted).min()
    }

    /// The main server would not say which version it has.
    pub(super) fn not_told(&mut self, id: &PackageId) {
        let meeting = self.meetings.entry(id.clone()).or_default();
        meeting.not_told += 1;
        let wait = backoff(meeting.not_told, FIRST_BACKOFF).min(CHECK_EVERY);
        meeting.ask_not_before = Some(Instant::now() + wait);
    }

    pub(super) fn incomparable(&mut self, id: &PackageId) {
        self.meetings.entry(id.clone()).or_default().incomparable = true;
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
                token.clear();
            }
        }
    }

    pub(super) fn outdated(&mut self, id: &PackageId) {
        let meeting = self.meetings.entry(id.clone()).or_default();
        meeting.stale = true;
        meeting.confirmed = None;
    }

    /// For the status page and the heartbeats.
    pub(super) fn view(&self, store: &Store) -> board::Sync {
        let confirmed = |(id, meeting): (&PackageId, &Meeting)| {
            let held = store.get(id).is_some_and(|held| belongs(&held, &self.origin));
            (meeting.confirmed.is_some() && held).then(|| id.clone())
        };
        let failing = |(id, meeting): (&PackageId, &Meeting)| {
            meeting.failing.clone().map(|failing| (id.clone(), failing))
        };
        board::Sync {
            answers: self.answers,
            origin: self.origin.clone(),
            token: self.token.clone(),
            polled_ok_s: self.polled_ok_s,
            poll_error: self.poll_error.clone(),
            poll_failing_since_s: self.poll_failing_since_s,
            active: self.active.clone(),
            complete: self.complete,
            confirmed: self.meetings.iter().filter_map(confirmed).collect(),
            failing: self.meetings.iter().filter_map(failing).collect(),
            last_pull_s: self.last_pull_s,
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
