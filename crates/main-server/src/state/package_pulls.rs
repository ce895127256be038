//! Pulls of packages from the shared store: due ones, and those that failed. Pure: the time
//! and the random number are passed in.

use std::{collections::HashMap, time::Duration};

use edge_mirror_base::{backoff::backoff, clock::UnixMillis};
use edge_mirror_protocol::package::{PackageId, Sha256};

use crate::state::meetings::PackageBlob;

/// Pulls under way at a time; each keeps a core busy.
pub(crate) const MAX_PULLS: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A package that somebody asked for is pulled if it can be begun within this time.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// A meeting whose package is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingPackage {
    pub(crate) id: PackageId,
    pub(crate) package: PackageBlob,
    /// Its meeting runs or is to start: it is pulled, whoever asks.
    pub(crate) is_wanted: bool,
}

/// A pull that failed, of these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PausedPull {
    sha256: Sha256,
    failures: u32,
    pub(crate) reason: String,
    next_try: UnixMillis,
}

#[derive(Debug, Default)]
pub(crate) struct PullTable {
    asked: HashMap<PackageId, UnixMillis>,
    /// With packages that an upload is about to put in place.
    under_way: HashMap<PackageId, Sha256>,
    failed: HashMap<PackageId, PausedPull>,
}

impl PullTable {
    /// Notes that somebody waits for the package.
    pub(crate) fn ask(&mut self, id: &PackageId, now: UnixMillis) {
        self.asked.insert(id.clone(), now);
    }

    /// Chooses the pulls that begin now, wanted ones first.
    pub(crate) fn begin_due(
        &mut self,
        mut missing: Vec<MissingPackage>,
        now: UnixMillis,
    ) -> Vec<MissingPackage> {
        self.asked.retain(|_, at| now.saturating_since(*at) < ASKED_FOR);
        let names =
            |pull: &PausedPull, missing: &MissingPackage| pull.sha256 == missing.package.sha256;
        self.failed.retain(|id, pull| {
            missing.iter().any(|missing| missing.id == *id && names(pull, missing))
        });
        missing.retain(|missing| {
            let is_asked_for = missing.is_wanted || self.asked.contains_key(&missing.id);
            is_asked_for
                && !self.under_way.contains_key(&missing.id)
                && self.failed.get(&missing.id).is_none_or(|pull| pull.next_try <= now)
        });
        missing.sort_by_key(|missing| !missing.is_wanted);
        missing.truncate(MAX_PULLS.saturating_sub(self.under_way.len()));
        for MissingPackage { id, package, .. } in &missing {
            self.under_way.insert(id.clone(), package.sha256);
        }
        missing
    }

    /// Keeps pulls of a package away that is about to be put in place. False if one is
    /// under way.
    pub(crate) fn begin_placing(&mut self, id: &PackageId, sha256: Sha256) -> bool {
        let is_free = !self.under_way.contains_key(id);
        if is_free {
            self.under_way.insert(id.clone(), sha256);
        }
        is_free
    }

    pub(crate) fn finish_placing(&mut self, id: &PackageId) {
        self.under_way.remove(id);
        self.failed.remove(id);
    }

    /// Ends a pull that [`begin_due`](Self::begin_due) began.
    pub(crate) fn finish(
        &mut self,
        id: &PackageId,
        outcome: Result<(), String>,
        now: UnixMillis,
        random: f64,
    ) {
        let Some(sha256) = self.under_way.remove(id) else { return };
        match outcome {
            Ok(()) => {
                self.asked.remove(id);
                self.failed.remove(id);
            }
            Err(reason) => {
                let before = self.failed.get(id).filter(|pull| pull.sha256 == sha256);
                let failures = before.map_or(0, |pull| pull.failures).saturating_add(1);
                let pause = backoff(failures, FIRST_PAUSE, LONGEST_PAUSE, random);
                let failed = PausedPull { sha256, failures, reason, next_try: now + pause };
                self.failed.insert(id.clone(), failed);
            }
        }
    }

    /// The failure of a package that is waited for until its next try.
    pub(crate) fn failure(&self, id: &PackageId) -> Option<&PausedPull> {
        self.failed.get(id).filter(|_| !self.under_way.contains_key(id))
    }

    /// The time of the next try of something that failed.
    pub(crate) fn next_try(&self) -> Option<UnixMillis> {
        self.failed.values().map(|pull| pull.next_try).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PackageId {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn missing(name: &str, n: u8, is_wanted: bool) -> MissingPackage {
        let sha256 = Sha256::new([n; 32]);
        let package = PackageBlob { sha256, size: 1, file_count: 1, modified_s: 1 };
        MissingPackage { id: id(name), package, is_wanted }
    }

    fn begun(table: &mut PullTable, missing: &[MissingPackage], seconds: u64) -> Vec<String> {
        let due = table.begin_due(missing.to_vec(), at(seconds));
        due.iter().map(|due| due.id.to_string()).collect()
    }

    #[test]
    fn what_runs_is_pulled_at_once_and_others_when_they_are_asked_for() {
        let mut table = PullTable::default();
        let all = [missing("asked", 1, false), missing("old", 2, false), missing("runs", 3, true)];
        table.ask(&id("asked"), at(0));
        assert_eq!(begun(&mut table, &all, 1), ["runs", "asked"]);
        assert!(begun(&mut table, &all, 2).is_empty(), "once for all who wait");
        table.finish(&id("asked"), Ok(()), at(3), 0.0);
        assert!(begun(&mut table, &all, 3).is_empty());
        table.ask(&id("old"), at(0));
        assert!(begun(&mut table, &all, 60).is_empty(), "nobody waits that long");
    }

    #[test]
    fn only_a_few_are_pulled_at_a_time() {
        let mut table = PullTable::default();
        let all: Vec<_> = (0..9).map(|n| missing(&n.to_string(), n, true)).collect();
        assert_eq!(begun(&mut table, &all, 1).len(), MAX_PULLS);
        assert_eq!(begun(&mut table, &all, 1).len(), 0);
        table.finish(&id("0"), Ok(()), at(1), 0.0);
        assert_eq!(begun(&mut table, &all[1..], 1), ["3"]);
    }

    #[test]
    fn what_failed_waits_longer_each_time_and_another_package_does_not() {
        let mut table = PullTable::default();
        let all = [missing("m", 1, true)];
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(begun(&mut table, &all, now), ["m"], "{now}");
            assert!(table.failure(&id("m")).is_none(), "it is being tried");
            table.finish(&id("m"), Err("away".into()), at(now), 0.0);
            assert_eq!(table.failure(&id("m")).unwrap().reason, "away");
            assert_eq!(table.next_try(), Some(at(now + pause)));
            assert!(begun(&mut table, &all, now + pause - 1).is_empty());
            now += pause;
        }
        let replaced = [missing("m", 2, true)];
        assert_eq!(begun(&mut table, &replaced, now - 1), ["m"]);
        table.finish(&id("m"), Ok(()), at(now), 0.0);
        assert!(table.failure(&id("m")).is_none() && table.next_try().is_none());
    }

    #[test]
    fn what_is_being_put_in_place_is_not_pulled() {
        let mut table = PullTable::default();
        let all = [missing("m", 1, true)];
        assert!(table.begin_placing(&id("m"), all[0].package.sha256));
        assert!(begun(&mut table, &all, 1).is_empty());
        table.finish_placing(&id("m"));
        assert_eq!(begun(&mut table, &all, 1), ["m"]);
        assert!(!table.begin_placing(&id("m"), all[0].package.sha256));
    }
}
