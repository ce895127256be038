//! State of one main server's meetings; `meeting` has that of each.
//!
//! There may be ten thousand: each poll or pull looks at each meeting once, in the
//! order in memory, and copies no list that has not changed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{
    ActiveMeeting, Fault, MAX_MEETINGS, MeetingStatus, OfferedPackage, UnservedMeeting,
    fleet::FleetOrigins,
    package::{PackageId, Sha256},
};
use edge_mirror_store::{Store, StoredPackage};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    check::UNPACED_CHECKS,
    failure::next_failure,
    meeting::{HeldVersion, TrackedMeeting},
    plan::MeetingFacts,
    poll,
    prestage::PrestageList,
};
use crate::{
    board::{self, ActiveMeetings, PullFailure},
    fetch::{Catalogue, Offer, PullPhase, PullProgress, PullReason},
    upstream::PollFingerprint,
};

/// Even with rare polls and heartbeats, a package whose file alone changed at the
/// main server is noticed within a minute; this leaves time for the pull.
const SWEEP_EVERY: Duration = Duration::from_secs(45);
/// A check this recent is not repeated: no main server ends a meeting, makes
/// another package and starts it again within so short a time.
const RECHECK_AFTER: Duration = Duration::from_millis(50);

/// State of one fleet's meetings.
#[derive(Default)]
pub struct MainServerView {
    pub fleet: FleetOrigins,
    pub answers: u64,
    /// Recognizes a repeated answer.
    pub seen: Option<PollFingerprint>,
    pub token: Arc<str>,
    pub(crate) polled_ok: Option<UnixMillis>,
    pub(crate) poll_error: Option<Fault>,
    pub(crate) poll_failing_since: Option<UnixMillis>,
    pub active: Arc<ActiveMeetings>,
    pub complete: bool,
    unserved: Arc<[UnservedMeeting]>,
    pub left_out: usize,
    pub offers: Arc<HashMap<PackageId, Offer>>,
    pub(crate) offers_at: Option<Instant>,
    /// Number of lists of offers received.
    offers_taken: u64,
    /// Answers to polls bring the offers with them.
    pub(crate) offers_included: bool,
    /// State of the active ones, in their order.
    meetings: Vec<TrackedMeeting>,
    pub(crate) last_pull: Option<UnixMillis>,
    /// The sweep under way, or the last one, checks the versions that were last
    /// checked before then.
    swept_since: Option<Instant>,
    /// A heartbeat lists what was confirmed since then.
    listed_since: Option<Instant>,
    /// Number of version checks under way.
    pub(crate) checks_pending: usize,
    /// The last heartbeat before which there was a sweep.
    pub(crate) checked: u64,
    /// Confirmed versions, as last shown.
    confirmed: Arc<HashMap<PackageId, Sha256>>,
    listed: Arc<HashMap<PackageId, Sha256>>,
    failing: Arc<BTreeMap<PackageId, PullFailure>>,
    pub(crate) prestage: PrestageList,
}

impl MainServerView {
    /// Empty state of a fleet's meetings.
    pub fn of(fleet: impl Into<FleetOrigins>, last_pull: Option<UnixMillis>) -> Self {
        Self { fleet: fleet.into(), last_pull, ..Self::default() }
    }

    /// Takes in a poll's answer. If it has malformed entries, it only adds
    /// meetings: those entries may be any of the known ones. Returns the meetings
    /// that are no longer active.
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
            // Bounds the sum of ever different entries.
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
        let mut previous = std::mem::take(&mut self.meetings);
        let stay = |meeting: &ActiveMeeting| {
            let index = before.position(&meeting.id)?;
            let mut tracked = std::mem::take(previous.get_mut(index)?);
            if before.get(index).is_some_and(|known| known.title != meeting.title) {
                tracked.held.iter_mut().for_each(HeldVersion::invalidate);
            }
            Some(tracked)
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

    /// Takes in an answer that is the same as before.
    pub fn take_unchanged(&mut self) {
        if self.complete {
            self.answers += 1;
        }
    }

    pub fn take_offers(&mut self, offers: Vec<OfferedPackage>) {
        self.offers_at = Some(Instant::now());
        self.offers_taken += 1;
        // Our main server offers finished packages and makes none.
        let listed = !self.offers_included;
        let offer = |offered: OfferedPackage| {
            let OfferedPackage { id, title, time, path } = offered;
            (id, Offer { title: Some(title), time, listed, path, ..Offer::default() })
        };
        let offers = Arc::new(offers.into_iter().map(offer).collect());
        let before = std::mem::replace(&mut self.offers, offers);
        for (meeting, tracked) in self.active.iter().zip(&mut self.meetings) {
            let both = before.get(&meeting.id).zip(self.offers.get(&meeting.id));
            let differs = |(was, is): (&Offer, &Offer)| was.time != is.time || was.path != is.path;
            if both.is_some_and(differs) {
                tracked.held.iter_mut().for_each(HeldVersion::invalidate);
            }
        }
        self.note_offers();
    }

    fn note_offers(&mut self) {
        for (meeting, tracked) in self.active.iter().zip(&mut self.meetings) {
            let offer = self.offers.get(&meeting.id);
            let offered = offer.is_some_and(|offer| offer.path.is_some());
            if offered && !tracked.offered {
                // A failure by the other route may not happen by this one.
                tracked.not_before = None;
            }
            tracked.offered = offered;
        }
    }

    /// The offers for all pulls, also on demand.
    pub fn catalogue(&mut self) -> Catalogue {
        let offers = Arc::make_mut(&mut self.offers);
        for meeting in self.active.iter() {
            let offer = offers.entry(meeting.id.clone()).or_default();
            (offer.sha256, offer.size_bytes) = (meeting.sha256, meeting.size_bytes);
            offer.title.get_or_insert_with(|| meeting.title.clone());
        }
        let prestaged = Arc::new(self.prestage.catalogue());
        let (origin, offers) = (self.fleet.identity().to_owned(), self.offers.clone());
        Catalogue { origin, offers, prestaged }
    }

    /// The state that the next poll needs.
    pub(crate) fn before_poll(&self) -> poll::PollInput {
        poll::PollInput {
            seen: self.seen.clone(),
            token: self.token.to_string(),
            active: self.active.clone(),
            offers_included: self.offers_included,
            offers_age: self.offers_at.map(|at| at.elapsed()),
            waiting_for_offer: self.meetings.iter().any(|tracked| !tracked.offered),
        }
    }

    /// Looks up the stored packages of the active meetings. Returns those that clients do
    /// not get yet.
    pub fn refresh_held(&mut self, store: &Store) -> Vec<Arc<StoredPackage>> {
        let mut withheld = Vec::new();
        for (meeting, tracked) in self.active.iter().zip(&mut self.meetings) {
            let held = store.get(&meeting.id).filter(|held| held.is_of_fleet(&self.fleet));
            let sha256 = held.as_ref().map(|held| held.manifest.sha256);
            withheld.extend(held.filter(|held| held.manifest.withheld));
            if sha256 != tracked.held.as_ref().map(|held| held.sha256) {
                tracked.held = sha256.map(HeldVersion::new);
            }
        }
        withheld
    }

    /// Begins to check all versions. If the sweep before is still running, and
    /// there are too many for one go, that one continues.
    pub(crate) fn begin_sweep(&mut self, now: Instant) {
        let spread = self.comparable() > UNPACED_CHECKS;
        if spread && self.checks_pending > 0 {
            return;
        }
        let before = std::mem::replace(&mut self.swept_since, now.checked_sub(RECHECK_AFTER));
        self.listed_since = if spread { before } else { self.swept_since };
    }

    /// True if waiting a moment lets a heartbeat list more.
    pub(crate) fn delays_heartbeats(&self) -> bool {
        self.checks_pending > 0 && self.comparable() <= UNPACED_CHECKS
    }

    /// All checks of the sweep are done.
    pub(crate) fn end_sweep(&mut self) {
        self.listed_since = self.swept_since;
    }

    /// Number of packages whose versions can be checked.
    pub(crate) fn comparable(&self) -> usize {
        let both = self.active.iter().zip(&self.meetings);
        both.filter(|(meeting, tracked)| tracked.comparable(meeting.sha256).is_some()).count()
    }

    /// The plan's facts on each active meeting, as of the last look.
    pub fn facts<'a>(
        &'a self,
        under_way: &'a HashMap<PackageId, PullProgress>,
    ) -> impl Iterator<Item = MeetingFacts<'a>> {
        let pausing = |id| under_way.get(id).is_some_and(|pull| pull.phase == PullPhase::Pausing);
        self.active.iter().zip(&self.meetings).map(move |(meeting, tracked)| MeetingFacts {
            id: &meeting.id,
            held: tracked.held.as_ref().map(|held| held.sha256),
            announced: meeting.sha256,
            offered: tracked.offered,
            incomparable: tracked.held.as_ref().is_some_and(|held| held.incomparable),
            stale: tracked.held.as_ref().is_some_and(|held| held.stale),
            under_way: tracked.under_way,
            pausing: tracked.under_way.is_some() && pausing(&meeting.id),
            unchecked: tracked.held.as_ref().is_some_and(|held| self.is_unchecked(held)),
            not_before: tracked.not_before,
            confirmed: tracked.held.as_ref().and_then(|held| held.confirmed.as_deref()),
        })
    }

    fn is_unchecked(&self, held: &HeldVersion) -> bool {
        !held.asking && (held.checked.is_none() || held.checked < self.swept_since)
    }

    /// The state of an active meeting; others have none.
    pub(crate) fn meeting_mut(&mut self, id: &PackageId) -> Option<&mut TrackedMeeting> {
        self.meetings.get_mut(self.active.position(id)?)
    }

    /// The stored version, if it still has these bytes.
    fn held(&mut self, id: &PackageId, sha256: Sha256) -> Option<&mut HeldVersion> {
        self.meeting_mut(id)?.held.as_mut().filter(|held| held.sha256 == sha256)
    }

    /// These bytes were the current ones at that time, under this token.
    pub fn confirm(&mut self, id: &PackageId, sha256: Sha256, token: Arc<str>, at: Instant) {
        if let Some(held) = self.held(id, sha256) {
            held.confirmed = Some(token);
            (held.checked, held.told, held.asking) = (Some(at), true, false);
            held.gone = None;
        }
    }

    /// Its package has arrived: whatever was wrong with it is over.
    pub(crate) fn note_arrival(&mut self, id: &PackageId, sha256: Sha256) {
        if let Some(meeting) = self.meeting_mut(id) {
            let TrackedMeeting { offered, shown, .. } = *meeting;
            let held = Some(HeldVersion::new(sha256));
            *meeting = TrackedMeeting { held, offered, shown, ..TrackedMeeting::default() };
        }
    }

    /// Marks its version as being checked; false if these bytes are no longer stored.
    pub(crate) fn ask(&mut self, id: &PackageId, sha256: Sha256) -> bool {
        let held = self.held(id, sha256);
        let is_held = held.map(|held| held.asking = true).is_some();
        self.checks_pending += usize::from(is_held);
        is_held
    }

    /// Time of the next task besides polls: retrying a failure, or another sweep.
    /// Only what becomes due after `now`.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        let idle = self.meetings.iter().filter(|meeting| meeting.under_way.is_none());
        let tries = idle.filter_map(|meeting| meeting.not_before);
        let sweep = self.next_sweep().filter(|_| self.comparable() > 0);
        tries.chain(sweep).chain(self.prestage.next_look()).filter(|at| *at > now).min()
    }

    /// Latest time of the next sweep, once there was one.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.swept_since.map(|since| since + SWEEP_EVERY)
    }

    /// The main server did not tell its version.
    pub(crate) fn note_untold(&mut self, id: &PackageId, sha256: Sha256, at: Instant) {
        if let Some(held) = self.held(id, sha256) {
            (held.checked, held.told, held.asking) = (Some(at), false, false);
        }
    }

    /// Nothing is at the offered location. The offer may have moved: the next poll
    /// asks. If nothing is there either, only the bytes can tell.
    pub(crate) fn offer_gone(&mut self, id: &PackageId, sha256: Sha256, at: Instant) {
        let taken = self.offers_taken;
        let Some(held) = self.held(id, sha256) else { return };
        if *held.gone.get_or_insert(taken) < taken {
            held.invalidate();
            return self.incomparable(id, sha256);
        }
        self.offers_at = None;
        self.note_untold(id, sha256, at);
    }

    pub(crate) fn incomparable(&mut self, id: &PackageId, sha256: Sha256) {
        if let Some(held) = self.held(id, sha256) {
            (held.incomparable, held.asking) = (true, false);
        }
    }

    /// A round of pulling ended without the package.
    pub(crate) fn note_failure(&mut self, id: &PackageId, error: Fault, retry_delay: Duration) {
        let Some(meeting) = self.meeting_mut(id) else { return };
        let (failing, at) = next_failure(meeting.failing.as_ref(), error, retry_delay);
        (meeting.failing, meeting.not_before) = (Some(failing), Some(at));
    }

    /// Ends pauses after failures: a new package, a server that is back.
    pub(crate) fn retry_all(&mut self) {
        for meeting in &mut self.meetings {
            meeting.not_before = None;
        }
        self.prestage.retry_all();
    }

    /// Rechecks on an operator's request. The confirmation stays meanwhile: clients
    /// must not suffer.
    pub(crate) fn recheck(&mut self, id: &PackageId) {
        if let Some(meeting) = self.meeting_mut(id) {
            meeting.not_before = None;
            if let Some(held) = &mut meeting.held {
                held.checked = None;
                held.invalidate();
            }
        }
    }

    /// The main server has another version.
    pub(crate) fn note_outdated(&mut self, id: &PackageId, sha256: Sha256) {
        if let Some(held) = self.held(id, sha256) {
            (held.stale, held.confirmed, held.asking) = (true, None, false);
        }
    }

    /// It is being pulled.
    pub(crate) fn note_pulling(&mut self, id: &PackageId, reason: PullReason) {
        let Some(meeting) = self.meeting_mut(id) else { return };
        meeting.under_way = Some(reason);
        if let Some(held) = meeting.held.as_mut().filter(|_| reason == PullReason::Changed) {
            held.confirmed = None;
        }
    }

    /// Snapshot for the status page and the heartbeats, as of the last look.
    pub fn view(&mut self) -> board::SyncState {
        self.refresh_confirmed();
        self.refresh_failing();
        board::SyncState {
            answers: self.answers,
            fleet: self.fleet.clone(),
            token: self.token.to_string(),
            polled_ok: self.polled_ok,
            poll_error: self.poll_error.clone(),
            poll_failing_since: self.poll_failing_since,
            active: self.active.clone(),
            complete: self.complete,
            unserved: self.unserved.clone(),
            left_out: self.left_out,
            confirmed: self.confirmed.clone(),
            listed: self.listed.clone(),
            has_versions_to_check: self.comparable() > 0,
            checked: self.checked,
            failing: self.failing.clone(),
            prestaged: self.prestage.view(),
            is_prestage_known: self.prestage.is_known,
            last_pull: self.last_pull,
        }
    }

    /// Rebuilt only when an entry changed.
    fn refresh_confirmed(&mut self) {
        let (mut same, mut confirmed, mut listed) = (true, 0, 0);
        for (meeting, tracked) in self.active.iter().zip(&mut self.meetings) {
            let now = tracked.confirmed_version(meeting.sha256, &self.token, self.listed_since);
            same &= std::mem::replace(&mut tracked.shown, now) == now;
            confirmed += usize::from(now.is_some());
            listed += usize::from(now.is_some_and(|(_, listed)| listed));
        }
        // Ended meetings took their entries with them.
        if same && confirmed == self.confirmed.len() && listed == self.listed.len() {
            return;
        }
        let both = self.active.iter().zip(&self.meetings);
        let shown = both.filter_map(|(meeting, tracked)| Some((&meeting.id, tracked.shown?)));
        let all = |(id, (sha256, _)): (&PackageId, _)| (id.clone(), sha256);
        self.listed = Arc::new(shown.clone().filter(|(_, (_, listed))| *listed).map(all).collect());
        let now = shown.map(all).collect();
        if *self.confirmed != now {
            self.confirmed = Arc::new(now);
        }
    }

    fn refresh_failing(&mut self) {
        let both = self.active.iter().zip(&self.meetings);
        let failing = both
            .filter_map(|(meeting, tracked)| Some((meeting.id.clone(), tracked.failing.clone()?)));
        let now: BTreeMap<_, _> = failing.collect();
        if now != *self.failing {
            self.failing = Arc::new(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::Cause;

    use super::*;

    const HELD: Sha256 = Sha256::new([1; 32]);
    const OTHER: Sha256 = Sha256::new([2; 32]);

    fn status(ids: &[&str], unreadable: &[&str]) -> MeetingStatus {
        let meeting = |id: &&str| ActiveMeeting {
            id: id.parse().unwrap(),
            title: String::new(),
            sha256: None,
            size_bytes: None,
        };
        MeetingStatus {
            token: "t".into(),
            active: ids.iter().map(meeting).collect(),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            ..MeetingStatus::default()
        }
    }

    fn ids(known: &MainServerView) -> Vec<String> {
        known.active.iter().map(|meeting| meeting.id.to_string()).collect()
    }

    #[test]
    fn an_answer_that_says_the_same_counts_and_copies_nothing() {
        let mut known = MainServerView::of("o", None);
        assert!(known.take_status(status(&["a", "b"], &[])).is_empty());
        let a = "a".parse().unwrap();
        known.note_arrival(&a, HELD);
        known.confirm(&a, HELD, known.token.clone(), Instant::now());
        let before = known.view();
        assert!(before.confirmed.contains_key(&a));
        known.take_unchanged();
        assert!(known.take_status(status(&["a", "b"], &[])).is_empty());
        let after = known.view();
        assert_eq!((before.answers, after.answers), (1, 3));
        assert!(Arc::ptr_eq(&before.active, &after.active));
        assert!(Arc::ptr_eq(&before.confirmed, &after.confirmed));
        assert!(Arc::ptr_eq(&before.failing, &after.failing));
    }

    #[test]
    fn while_an_answer_was_not_understood_whole_it_ends_nothing_and_does_not_count() {
        let mut known = MainServerView::of("o", None);
        known.take_status(status(&["a", "b"], &[]));
        assert!(known.take_status(status(&["c", "b"], &["?"])).is_empty());
        known.take_unchanged();
        assert_eq!((ids(&known), known.answers), (vec!["c".into(), "b".into(), "a".into()], 1));
        let ended = known.take_status(status(&["b"], &[]));
        assert_eq!(ended, ["c".parse().unwrap(), "a".parse().unwrap()]);
        assert_eq!((ids(&known), known.answers), (vec!["b".into()], 2));
    }

    #[test]
    fn answers_that_were_not_understood_whole_add_up_to_no_more_than_is_taken_in() {
        let mut known = MainServerView::of("o", None);
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
        let (mut known, b) = (MainServerView::of("o", None), "b".parse().unwrap());
        known.take_status(status(&["a", "b"], &[]));
        known.note_arrival(&b, HELD);
        known.confirm(&b, HELD, known.token.clone(), Instant::now());
        known.take_status(status(&["a"], &[]));
        // A check that was under way meanwhile.
        known.confirm(&b, HELD, known.token.clone(), Instant::now());
        known.note_outdated(&b, HELD);
        known.take_status(status(&["a", "b"], &[]));
        assert_eq!(*known.meeting_mut(&b).unwrap(), TrackedMeeting::default());
    }

    /// Meetings that can be asked about, all of them just confirmed.
    fn swept(count: usize, at: Instant) -> (MainServerView, Vec<PackageId>) {
        let names: Vec<_> = (0..count).map(|n| format!("m{n}")).collect();
        let mut known = MainServerView::of("o", None);
        known.take_status(status(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]));
        let ids: Vec<PackageId> = names.iter().map(|name| name.parse().unwrap()).collect();
        for id in &ids {
            known.meeting_mut(id).unwrap().offered = true;
            known.note_arrival(id, HELD);
            known.confirm(id, HELD, known.token.clone(), at);
        }
        (known, ids)
    }

    fn unchecked(known: &MainServerView) -> usize {
        known.facts(&HashMap::new()).filter(|facts| facts.unchecked).count()
    }

    #[test]
    fn a_sweep_that_can_be_done_in_one_go_makes_heartbeats_wait_and_a_larger_one_does_not() {
        let began = Instant::now();
        for count in [UNPACED_CHECKS - 1, UNPACED_CHECKS, UNPACED_CHECKS + 1] {
            let (mut known, ids) = swept(count, began);
            assert_eq!(known.view().listed.len(), count);
            let later = began + 2 * RECHECK_AFTER;
            known.begin_sweep(later);
            assert!(ids.iter().all(|id| known.ask(id, HELD)));
            let spread = count > UNPACED_CHECKS;
            assert_eq!(known.delays_heartbeats(), !spread, "{count}");
            assert_eq!(known.view().listed.len(), if spread { count } else { 0 }, "{count}");
            assert_eq!(known.view().confirmed.len(), count);

            // Another sweep begins, for the versions that have been checked.
            known.confirm(&ids[0], HELD, known.token.clone(), later);
            known.begin_sweep(later + 2 * RECHECK_AFTER);
            assert_eq!(unchecked(&known), usize::from(!spread), "{count}");

            // The version of one of them is unknown; the others are taken in.
            known.note_untold(&ids[1], HELD, later);
            for id in &ids[2..] {
                known.confirm(id, HELD, known.token.clone(), later + 2 * RECHECK_AFTER);
            }
            known.checks_pending = 0;
            known.end_sweep();
            let left_out = if spread { 1 } else { 2 };
            assert_eq!(known.view().listed.len(), count - left_out, "{count}");
        }
    }

    #[test]
    fn what_was_pulled_or_asked_for_a_moment_ago_is_not_asked_for_again() {
        let began = Instant::now();
        let (mut known, _) = swept(3, began);
        known.begin_sweep(began + RECHECK_AFTER);
        assert_eq!((unchecked(&known), known.view().listed.len()), (0, 3));
        known.begin_sweep(began + RECHECK_AFTER + Duration::from_millis(1));
        assert_eq!((unchecked(&known), known.view().listed.len()), (3, 0));
    }

    #[test]
    fn what_is_known_is_known_of_these_bytes_and_of_no_others() {
        let (mut known, ids) = swept(1, Instant::now());
        let token = known.token.clone();
        known.confirm(&ids[0], OTHER, token.clone(), Instant::now());
        assert_eq!(known.view().confirmed[&ids[0]], HELD);
        known.note_outdated(&ids[0], OTHER);
        known.incomparable(&ids[0], OTHER);
        known.note_untold(&ids[0], OTHER, Instant::now());
        assert_eq!(known.view().listed[&ids[0]], HELD);
        // The store has other bytes under the same id.
        known.meeting_mut(&ids[0]).unwrap().held = Some(HeldVersion::new(OTHER));
        assert!(known.view().confirmed.is_empty() && known.view().listed.is_empty());
    }

    #[test]
    fn an_offer_that_is_gone_is_looked_up_once_and_then_only_the_bytes_tell() {
        let at = Instant::now();
        let (mut known, ids) = swept(2, at);
        for id in [&ids[0], &ids[0], &ids[1]] {
            known.offer_gone(id, HELD, at);
            assert!(known.offers_at.is_none(), "the next poll asks for the offers");
            assert_eq!(known.comparable(), 2);
        }
        known.take_offers(Vec::new());
        known.meeting_mut(&ids[0]).unwrap().offered = true;
        known.meeting_mut(&ids[1]).unwrap().offered = true;
        known.confirm(&ids[1], HELD, known.token.clone(), at);
        known.offer_gone(&ids[0], HELD, at);
        known.offer_gone(&ids[1], HELD, at);
        let incomparable = |known: &mut MainServerView, id| {
            known.meeting_mut(id).unwrap().held.as_ref().unwrap().incomparable
        };
        assert!(incomparable(&mut known, &ids[0]));
        let listed = known.view().listed;
        assert!(!listed.contains_key(&ids[0]), "not before they were compared");
        assert!(!incomparable(&mut known, &ids[1]), "it was there in between");
    }

    #[test]
    fn another_title_time_or_place_of_a_meeting_makes_its_package_doubtful() {
        let offer = |time: &str, path: Option<&str>| OfferedPackage {
            id: "m0".parse().unwrap(),
            title: String::new(),
            time: Some(time.into()),
            path: path.map(Into::into),
        };
        let known = || {
            let (mut known, ids) = swept(1, Instant::now());
            known.take_offers(vec![offer("9:00", None)]);
            assert_eq!(known.view().listed.len(), 1, "the first list is no news");
            (known, ids)
        };
        for (doubtful, again) in [(false, offer("9:00", None)), (true, offer("9:30", None))] {
            let (mut known, _) = known();
            known.take_offers(vec![again]);
            assert_eq!(known.view().listed.is_empty(), doubtful);
            assert_eq!(known.view().confirmed.len(), 1, "it may well be the current one");
        }
        let (mut known, _) = known();
        let mut renamed = status(&["m0"], &[]);
        renamed.active[0].title = "another".into();
        known.take_status(renamed);
        assert!(known.view().listed.is_empty());
    }

    #[test]
    fn rounds_that_fail_come_further_and_further_apart_and_at_each_node_at_another_time() {
        let fault = || Fault { cause: Cause::Damaged, text: String::new() };
        let mut waits = HashSet::new();
        for _ in 0..32 {
            let (mut known, ids) = swept(1, Instant::now());
            for longest in [5, 10, 20, 40, 80, 160, 300, 300] {
                let began = Instant::now();
                known.note_failure(&ids[0], fault(), Duration::from_secs(1));
                let at = known.meeting_mut(&ids[0]).unwrap().not_before.unwrap();
                let (wait, longest) = (at - began, Duration::from_secs(longest));
                assert!(
                    longest / 2 <= wait && wait <= longest + Duration::from_secs(1),
                    "{wait:?}"
                );
                waits.insert(wait.as_millis());
            }
        }
        assert!(waits.len() > 100, "{}", waits.len());
        assert!(waits.iter().any(|wait| *wait < 4000), "half of the first pause is jitter");
    }
}
