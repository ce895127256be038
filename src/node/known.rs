//! What is known of one main server's meetings, and how each fares here.
//!
//! There may be ten thousand: whatever is done for each poll or pull looks at
//! each meeting once, one after the other as they lie in memory, and copies no
//! list that has not changed.

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
    package::{PackageId, Sha256},
    protocol::{ActiveMeeting, MAX_MEETINGS, MeetingStatus, OfferedPackage, UnservedMeeting},
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
    unserved: Arc<[UnservedMeeting]>,
    pub left_out: usize,
    pub offers: Arc<HashMap<PackageId, Offer>>,
    pub offers_at: Option<Instant>,
    /// Answers to polls bring the offers with them.
    pub offers_told: bool,
    /// How the active ones fare, in their order.
    meetings: Vec<Meeting>,
    pub last_pull_s: Option<u64>,
    /// As they were last shown.
    confirmed: Arc<HashSet<PackageId>>,
    failing: Arc<BTreeMap<PackageId, Failing>>,
}

/// How one active meeting fares.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// The package that is here, as of the last look at the store.
    pub held: Option<Sha256>,
    /// The main server says where its package lies.
    offered: bool,
    shown_as_confirmed: bool,
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
        let MeetingStatus { token, mut active, unreadable, unserved, left_out, .. } = status;
        if *self.unserved != *unserved {
            self.unserved = unserved.into();
        }
        self.left_out = left_out;
        if unreadable.is_empty() {
            self.answers += 1;
        } else {
            if self.complete || self.answers == 0 {
                warn!("the list of active meetings was not understood whole: {unreadable:?}");
            }
            let named: HashSet<_> = active.iter().map(|meeting| meeting.id.clone()).collect();
            active.extend(self.active.iter().filter(|m| !named.contains(&m.id)).cloned());
            // Ever other entries must not add up.
            active.truncate(MAX_MEETINGS);
        }
        self.complete = unreadable.is_empty();
        if *self.token != *token {
            self.token = token.into();
        }
        if *active == **self.active {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.active, Arc::new(active.into()));
        let mut fared = std::mem::take(&mut self.meetings);
        let stay = |meeting: &ActiveMeeting| {
            let fares = fared.get_mut(before.place(&meeting.id)?)?;
            Some(std::mem::take(fares))
        };
        self.meetings = self.active.iter().map(stay).map(Option::unwrap_or_default).collect();
        self.note_offers();
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
        let offer = |offered: OfferedPackage| {
            let OfferedPackage { id, title, path } = offered;
            (id, Offer { title: Some(title), path, sha256: None })
        };
        self.offers = Arc::new(offers.into_iter().map(offer).collect());
        self.note_offers();
    }

    fn note_offers(&mut self) {
        for (meeting, fares) in self.active.iter().zip(&mut self.meetings) {
            let offer = self.offers.get(&meeting.id);
            let offered = offer.is_some_and(|offer| offer.path.is_some());
            if offered && !fares.offered {
                // What failed by the other way may work by this one.
                fares.not_before = None;
            }
            fares.offered = offered;
        }
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
    pub(super) fn before_poll(&self) -> poll::Before {
        let missing = |fares: &Meeting| !fares.offered && fares.held.is_none();
        poll::Before {
            seen: self.seen.clone(),
            token: self.token.to_string(),
            active: self.active.clone(),
            offers_told: self.offers_told,
            offers_age: self.offers_at.map(|at| at.elapsed()),
            waiting_for_offer: self.meetings.iter().any(missing),
        }
    }

    /// Looks what is here of the active meetings' packages.
    pub fn look(&mut self, store: &Store) {
        for (meeting, fares) in self.active.iter().zip(&mut self.meetings) {
            let held = store.get(&meeting.id).filter(|held| belongs(held, &self.origin));
            fares.held = held.map(|held| held.manifest.sha256);
        }
    }

    /// What the plan has to know of each active meeting, as of the last look.
    pub fn facts<'a>(
        &'a self,
        under_way: &'a HashMap<PackageId, Progress>,
    ) -> impl Iterator<Item = Facts<'a>> {
        let pausing = |id| under_way.get(id).is_some_and(|pull| pull.phase == Phase::Pausing);
        self.active.iter().zip(&self.meetings).map(move |(meeting, fares)| Facts {
            id: &meeting.id,
            held: fares.held,
            announced: meeting.sha256,
            offered: fares.offered,
            incomparable: fares.incomparable,
            stale: fares.stale,
            under_way: fares.under_way,
            pausing: fares.under_way.is_some() && pausing(&meeting.id),
            ask_not_before: fares.ask_not_before,
            not_before: fares.not_before,
            confirmed: fares.confirmed.as_ref().map(|(at, token)| (*at, &**token)),
        })
    }

    /// How an active meeting fares; of others nothing is kept.
    pub(super) fn fares(&mut self, id: &PackageId) -> Option<&mut Meeting> {
        self.meetings.get_mut(self.active.place(id)?)
    }

    pub fn confirm(&mut self, id: &PackageId, token: Arc<str>) {
        if let Some(meeting) = self.fares(id) {
            meeting.confirmed = Some((Instant::now(), token));
            (meeting.not_told, meeting.ask_not_before) = (0, None);
        }
    }

    /// Its package has arrived: whatever was wrong with it is over.
    pub(super) fn arrived(&mut self, id: &PackageId, package: Sha256) {
        if let Some(meeting) = self.fares(id) {
            let Meeting { offered, shown_as_confirmed, .. } = *meeting;
            let held = Some(package);
            *meeting = Meeting { held, offered, shown_as_confirmed, ..Meeting::default() };
        }
    }

    /// When there is something to do besides the next poll: try again what
    /// failed, or ask for versions once more. Only what becomes due after `now`.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let idle = self.meetings.iter().filter(|meeting| meeting.under_way.is_none());
        let looks = idle.flat_map(|meeting| {
            let confirmed = meeting.confirmed.as_ref().filter(|_| meeting.offered);
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
        let Some(meeting) = self.fares(id) else { return };
        let rounds = meeting.failing.as_ref().map_or(1, |failing| failing.rounds + 1);
        let wait = backoff(rounds, retry_delay);
        meeting.not_before = Some(Instant::now() + wait);
        meeting.failing = Some(Failing { rounds, error, next_try_s: now_s() + wait.as_secs() });
    }

    /// What failed may work now: a new package, a server that is back.
    pub(super) fn retry_all(&mut self) {
        for meeting in &mut self.meetings {
            (meeting.not_before, meeting.ask_not_before) = (None, None);
        }
    }

    /// An operator wants to know now. What is confirmed stays so meanwhile:
    /// clients need not suffer for a look.
    pub(super) fn recheck(&mut self, id: &PackageId) {
        if let Some(meeting) = self.fares(id) {
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

    /// For the status page and the heartbeats, as of the last look.
    pub fn view(&mut self) -> board::Sync {
        self.show_confirmed();
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
            unserved: self.unserved.clone(),
            left_out: self.left_out,
            confirmed: self.confirmed.clone(),
            failing: self.failing.clone(),
            last_pull_s: self.last_pull_s,
        }
    }

    /// Gathered anew only when one has come or gone.
    fn show_confirmed(&mut self) {
        let mut count = 0;
        let mut same = true;
        for fares in &mut self.meetings {
            let confirmed = fares.confirmed.is_some() && fares.held.is_some();
            same &= std::mem::replace(&mut fares.shown_as_confirmed, confirmed) == confirmed;
            count += usize::from(confirmed);
        }
        // Those that have ended took their marks with them.
        if !same || count != self.confirmed.len() {
            let both = self.active.iter().zip(&self.meetings);
            let confirmed = both.filter(|(_, fares)| fares.shown_as_confirmed);
            self.confirmed = Arc::new(confirmed.map(|(meeting, _)| meeting.id.clone()).collect());
        }
    }

    fn show_failing(&mut self) {
        let both = self.active.iter().zip(&self.meetings);
        let failing =
            both.filter_map(|(meeting, fares)| Some((meeting.id.clone(), fares.failing.clone()?)));
        let now: BTreeMap<_, _> = failing.collect();
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

    fn status(ids: &[&str], unreadable: &[&str]) -> MeetingStatus {
        let meeting = |id: &&str| ActiveMeeting {
            id: id.parse().unwrap(),
            title: String::new(),
            sha256: None,
        };
        MeetingStatus {
            token: "t".into(),
            active: ids.iter().map(meeting).collect(),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            ..MeetingStatus::default()
        }
    }

    fn ids(known: &Known) -> Vec<String> {
        known.active.iter().map(|meeting| meeting.id.to_string()).collect()
    }

    #[test]
    fn an_answer_that_says_the_same_counts_and_copies_nothing() {
        let mut known = Known::of("o", None);
        assert!(known.take_status(status(&["a", "b"], &[])).is_empty());
        let a = "a".parse().unwrap();
        known.arrived(&a, Sha256::new([1; 32]));
        known.confirm(&a, known.token.clone());
        let before = known.view();
        assert!(before.confirmed.contains(&a));
        known.take_same();
        assert!(known.take_status(status(&["a", "b"], &[])).is_empty());
        let after = known.view();
        assert_eq!((before.answers, after.answers), (1, 3));
        assert!(Arc::ptr_eq(&before.active, &after.active));
        assert!(Arc::ptr_eq(&before.confirmed, &after.confirmed));
        assert!(Arc::ptr_eq(&before.failing, &after.failing));
    }

    #[test]
    fn while_an_answer_was_not_understood_whole_it_ends_nothing_and_does_not_count() {
        let mut known = Known::of("o", None);
        known.take_status(status(&["a", "b"], &[]));
        assert!(known.take_status(status(&["c", "b"], &["?"])).is_empty());
        known.take_same();
        assert_eq!((ids(&known), known.answers), (vec!["c".into(), "b".into(), "a".into()], 1));
        let ended = known.take_status(status(&["b"], &[]));
        assert_eq!(ended, ["c".parse().unwrap(), "a".parse().unwrap()]);
        assert_eq!((ids(&known), known.answers), (vec!["b".into()], 2));
    }

    #[test]
    fn answers_that_were_not_understood_whole_add_up_to_no_more_than_is_taken_in() {
        let mut known = Known::of("o", None);
        for round in 0..3 {
            let names: Vec<_> = (0..MAX_MEETINGS / 2).map(|n| format!("m{round}-{n}")).collect();
            known
                .take_status(status(&names.iter().map(String::as_str).collect::<Vec<_>>(), &["?"]));
            assert!(names.iter().all(|name| known.active.contains(&name.parse().unwrap())));
        }
        assert_eq!(known.active.len(), MAX_MEETINGS);
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let (mut known, b) = (Known::of("o", None), "b".parse().unwrap());
        known.take_status(status(&["a", "b"], &[]));
        known.confirm(&b, known.token.clone());
        known.take_status(status(&["a"], &[]));
        // A check that was under way meanwhile.
        known.confirm(&b, known.token.clone());
        known.outdated(&b);
        known.take_status(status(&["a", "b"], &[]));
        assert_eq!(*known.fares(&b).unwrap(), Meeting::default());
    }

    #[test]
    fn rounds_that_fail_come_further_and_further_apart() {
        let seconds = |rounds| backoff(rounds, Duration::from_secs(1)).as_secs();
        assert_eq!([1, 2, 3, 7, 99].map(seconds), [5, 10, 20, 300, 300]);
        assert_eq!(backoff(1, Duration::from_secs(3600)), LONGEST_BACKOFF);
    }
}
