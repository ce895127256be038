//! Removes packages that are no longer needed.
//!
//! A package goes only after two well-formed answers, at least
//! `cleanup.graceSeconds` apart, in which its meeting was neither active nor about to be
//! started: one wrong answer or a meeting that is toggled costs nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    object::{ObjectKey, Retention},
    package::{Manifest, PackageId},
};
use edge_mirror_settings::{CleanupConfig, Config, Settings};
use edge_mirror_store::{Store, evict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    board::{RemovalCause, StatusBoard},
    fetch::eviction_candidate,
};

/// Interval of looks at the storage, besides those after each answer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Interval of saving when packages were last served.
const SAVE_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct CleanupWorker {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
}

/// The stored packages by the answers since the service's start.
#[derive(Debug, Default)]
struct AbsenceTracker {
    /// Stored when the service started, and not active since.
    present_at_start: HashSet<PackageId>,
    absent_since: HashMap<PackageId, Instant>,
    answers: u64,
}

impl AbsenceTracker {
    async fn at_start(store: Store) -> Self {
        // Includes packages still to be adopted: read from the disk, which is slow
        // with thousands.
        let here = tasks::blocking(move || store.ids_on_disk()).await;
        Self { present_at_start: here.into_iter().collect(), ..Self::default() }
    }

    /// Takes in an answer and returns the packages that may go now.
    fn expired_after_answer<'a>(
        &mut self,
        stored: impl IntoIterator<Item = &'a PackageId>,
        is_listed: impl Fn(&PackageId) -> bool,
        cleanup: &CleanupConfig,
        now: Instant,
    ) -> Vec<PackageId> {
        self.present_at_start.retain(|id| !is_listed(id));
        let grace = Duration::from_secs(cleanup.grace_seconds);
        // Rebuilt each time, which drops packages that are no longer stored.
        let mut absent_since = HashMap::new();
        let mut gone = Vec::new();
        for id in stored.into_iter().filter(|id| !is_listed(id)) {
            let wanted = match self.present_at_start.contains(id) {
                true => cleanup.clean_on_startup,
                false => cleanup.clean_ended_meetings,
            };
            let before = self.absent_since.get(id).copied();
            let long = before.is_some_and(|since| now >= since + grace);
            if cleanup.enabled && wanted && long {
                gone.push(id.clone());
            }
            absent_since.insert(id.clone(), before.unwrap_or(now));
        }
        self.absent_since = absent_since;
        gone
    }
}

impl CleanupWorker {
    pub(crate) async fn run(self, end: CancellationToken) {
        let mut answers = self.board.sync.subscribe();
        let mut store = self.board.store.subscribe();
        let mut running = self.board.running.subscribe();
        let mut tracker = AbsenceTracker::at_start(self.board.store()).await;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut save = tokio::time::interval(SAVE_EVERY);
        loop {
            tokio::select! {
                _ = answers.changed() => self.end_meetings(&mut tracker).await,
                _ = look.tick() => self.evict().await,
                _ = save.tick() => self.save().await,
                _ = store.changed() => tracker = AbsenceTracker::at_start(self.board.store()).await,
                _ = running.changed() => {
                    tracker = AbsenceTracker::at_start(self.board.store()).await;
                }
                () = end.cancelled() => return self.save().await,
            }
        }
    }

    async fn end_meetings(&self, tracker: &mut AbsenceTracker) {
        let sync = self.board.sync.borrow().clone();
        if sync.answers < tracker.answers {
            // Counted from zero: another main server, or another start.
            tracker.absent_since.clear();
        }
        if sync.answers == tracker.answers || sync.answers == 0 {
            tracker.answers = sync.answers;
            return;
        }
        tracker.answers = sync.answers;
        let store = self.board.store();
        let (stored, config) = (store.list(), self.settings.current());
        let ids = stored.iter().filter(|stored| !sync.is_kept_for_start(stored));
        let ids = ids.filter_map(|stored| bound_meeting(&stored.manifest));
        let is_listed =
            |id: &PackageId| sync.active.contains(id) || sync.prestaged.contains_key(id);
        let gone = tracker.expired_after_answer(ids, is_listed, &config.cleanup, Instant::now());
        let gone = gone.into_iter().map(ObjectKey::from).collect();
        self.remove(store, gone, RemovalCause::MeetingEnded).await;
    }

    async fn evict(&self) {
        let config = self.settings.current();
        let store = self.board.store();
        let excess = excess(&config, &store);
        if excess > 0 {
            let candidates: Vec<_> =
                store.list().iter().map(|stored| eviction_candidate(&self.board, stored)).collect();
            let gone = evict::choose_evictions(&candidates, excess);
            self.remove(store, gone, RemovalCause::NearlyFull).await;
        }
    }

    async fn remove(&self, store: Store, gone: Vec<ObjectKey>, why: RemovalCause) {
        if gone.is_empty() {
            return;
        }
        let board = self.board.clone();
        tasks::blocking(move || {
            let because = match why {
                RemovalCause::MeetingEnded => "its meeting is not active any more",
                RemovalCause::NearlyFull => "the storage is nearly full",
                RemovalCause::RoomNeeded => "room is needed for another",
                RemovalCause::Request => "by request",
            };
            for key in gone {
                let what = key.describe();
                match store.remove(&key) {
                    Ok(()) => {
                        board.counts.evictions.inc(why);
                        info!("{what} removed: {because}");
                    }
                    Err(error) => warn!("{what} could not be removed: {error}"),
                }
            }
        })
        .await;
    }

    async fn save(&self) {
        let store = self.board.store();
        if let Err(error) = tasks::blocking(move || store.save_served()).await {
            warn!("when packages were last served could not be saved: {error}");
        }
    }
}

/// Returns the meeting whose end is the end of the object, too.
fn bound_meeting(manifest: &Manifest) -> Option<&PackageId> {
    manifest.key.package().filter(|_| manifest.retention == Retention::Meeting)
}

/// Bytes to evict. Files stay for their time: packages share the rest among themselves, and
/// none goes because of files that are here.
fn excess(config: &Config, store: &Store) -> u64 {
    let file_bytes = store.file_bytes();
    match config.storage.auto_cleanup {
        true => evict::excess(
            store.used_bytes().saturating_sub(file_bytes),
            config.storage.max_size.saturating_sub(file_bytes),
            config.storage.cleanup_threshold,
        ),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{ActiveMeeting, testing::manifest};

    use super::*;
    use crate::board::ActiveMeetings;

    const GRACE: u64 = 30;

    fn cleanup() -> CleanupConfig {
        CleanupConfig {
            enabled: true,
            clean_on_startup: true,
            clean_ended_meetings: true,
            grace_seconds: GRACE,
        }
    }

    fn ids(names: &[&str]) -> Vec<PackageId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Packages a (from before the start) and b (pulled since), with answers
    /// at the given seconds that name the given meetings as active.
    fn gone(cleanup: &CleanupConfig, answers: &[(u64, &[&str])]) -> Vec<Vec<PackageId>> {
        let mut tracker = AbsenceTracker {
            present_at_start: ids(&["a"]).into_iter().collect(),
            ..AbsenceTracker::default()
        };
        let start = Instant::now();
        let mut stored = ids(&["a", "b"]);
        answers
            .iter()
            .map(|(second, active)| {
                let meeting =
                    |id| ActiveMeeting { id, title: String::new(), sha256: None, size_bytes: None };
                let active: ActiveMeetings =
                    ids(active).into_iter().map(meeting).collect::<Vec<_>>().into();
                let gone = tracker.expired_after_answer(
                    &stored,
                    |id| active.contains(id),
                    cleanup,
                    start + Duration::from_secs(*second),
                );
                stored.retain(|id| !gone.contains(id));
                gone
            })
            .collect()
    }

    #[test]
    fn a_package_goes_when_its_meeting_was_absent_for_the_grace_time() {
        let gone = gone(&cleanup(), &[(0, &["a", "b"]), (10, &["a"]), (39, &["a"]), (40, &["a"])]);
        assert_eq!(gone, [vec![], vec![], vec![], ids(&["b"])]);
    }

    #[test]
    fn one_wrong_answer_costs_nothing_even_after_a_long_silence() {
        let gone = gone(
            &cleanup(),
            &[(0, &["a", "b"]), (3600, &[]), (3610, &["a", "b"]), (7200, &["a", "b"])],
        );
        assert!(gone.iter().all(Vec::is_empty));
    }

    #[test]
    fn a_toggled_meeting_starts_its_grace_anew() {
        let gone = gone(
            &cleanup(),
            &[(0, &["a"]), (20, &["a", "b"]), (25, &["a"]), (54, &["a"]), (55, &["a"])],
        );
        assert_eq!(gone, [vec![], vec![], vec![], vec![], ids(&["b"])]);
    }

    #[test]
    fn each_switch_keeps_what_it_is_for() {
        let both: &[(u64, &[&str])] = &[(0, &[]), (30, &[])];
        let last = |cleanup: CleanupConfig| gone(&cleanup, both).pop().unwrap();
        assert_eq!(last(cleanup()), ids(&["a", "b"]));
        assert_eq!(last(CleanupConfig { clean_on_startup: false, ..cleanup() }), ids(&["b"]));
        assert_eq!(last(CleanupConfig { clean_ended_meetings: false, ..cleanup() }), ids(&["a"]));
        assert_eq!(last(CleanupConfig { enabled: false, ..cleanup() }), []);
    }

    #[test]
    fn a_package_from_before_that_was_active_since_counts_as_an_ended_meetings() {
        let ended_stay = CleanupConfig { clean_ended_meetings: false, ..cleanup() };
        let gone = gone(&ended_stay, &[(0, &["a"]), (10, &[]), (99, &[])]);
        assert!(gone.iter().all(Vec::is_empty));
    }

    #[test]
    fn only_a_package_that_lives_as_long_as_its_meeting_goes_with_it() {
        for (key, retention, goes) in [
            ("m", Retention::Meeting, true),
            ("m", Retention::Keep, false),
            ("m", Retention::Until(1), false),
            ("t/a", Retention::Meeting, false),
        ] {
            let stored = Manifest { key: key.parse().unwrap(), retention, ..manifest() };
            assert_eq!(bound_meeting(&stored).is_some(), goes, "{stored:?}");
        }
    }
}
