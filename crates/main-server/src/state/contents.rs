//! Outcomes of content probes of one node, and when to probe again. Pure.
//!
//! A content probe compares a part of a package at a node with the same part here. Of a
//! package whose bytes differ, the node gets no clients until a later probe finds them equal,
//! or until it has another version.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::{PackageId, Sha256};

/// Time until a package is probed again whose bytes were wrong, or could not be compared.
const RETRY: Duration = Duration::from_secs(10);

/// The outcome of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContentOutcome {
    Same,
    /// Other bytes, at that place.
    Wrong(String),
    /// Nothing to compare: the node does not give it, or has another version by now.
    Unknown,
}

/// Bytes of a package that are not this main server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongContent {
    pub since: UnixMillis,
    pub text: String,
}

/// The urgency of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentDue {
    Now,
    /// The bytes were equal; whether they still are is asked now and then.
    Sometime,
    Later,
}

/// A change of what clients are sent to the node for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentNews {
    Wrong,
    Right,
}

/// Outcomes by package, of the versions that the node has.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContentRecords {
    /// Sorted by id.
    records: Vec<ContentRecord>,
    /// One probe of a node at a time.
    pub(crate) is_probing: bool,
}

#[derive(Clone, Debug)]
struct ContentRecord {
    id: PackageId,
    sha256: Sha256,
    probed_at: UnixMillis,
    is_same: bool,
    wrong: Option<WrongContent>,
}

impl ContentRecords {
    pub(crate) fn wrong(&self, id: &PackageId, current: Sha256) -> Option<&WrongContent> {
        self.find(id, current)?.wrong.as_ref()
    }

    pub(crate) fn is_wrong(&self, id: &PackageId, current: Sha256) -> bool {
        self.wrong(id, current).is_some()
    }

    /// Those of which `current` tells the version that counts.
    pub(crate) fn all_wrong(
        &self,
        current: impl Fn(&PackageId) -> Option<Sha256>,
    ) -> impl Iterator<Item = (&PackageId, &WrongContent)> {
        let wrong = self.records.iter().filter_map(|record| Some((record, record.wrong.as_ref()?)));
        let counts = wrong.filter(move |(record, _)| current(&record.id) == Some(record.sha256));
        counts.map(|(record, wrong)| (&record.id, wrong))
    }

    pub(crate) fn due(&self, id: &PackageId, current: Sha256, now: UnixMillis) -> ContentDue {
        match self.find(id, current) {
            None => ContentDue::Now,
            Some(record) if record.is_same => ContentDue::Sometime,
            Some(record) if now.saturating_since(record.probed_at) >= RETRY => ContentDue::Now,
            Some(_) => ContentDue::Later,
        }
    }

    pub(crate) fn record(
        &mut self,
        id: &PackageId,
        sha256: Sha256,
        outcome: ContentOutcome,
        now: UnixMillis,
    ) -> Option<ContentNews> {
        let before = self.wrong(id, sha256).cloned();
        let wrong = match &outcome {
            ContentOutcome::Same => None,
            ContentOutcome::Wrong(text) => {
                let since = before.as_ref().map_or(now, |wrong| wrong.since);
                Some(WrongContent { since, text: text.clone() })
            }
            ContentOutcome::Unknown => before.clone(),
        };
        let news = match (&before, &wrong) {
            (None, Some(_)) => Some(ContentNews::Wrong),
            (Some(_), None) => Some(ContentNews::Right),
            (None, None) | (Some(_), Some(_)) => None,
        };
        // One that was equal stays so if there is nothing to compare now.
        let was_same = self.find(id, sha256).is_some_and(|record| record.is_same);
        let is_same = match outcome {
            ContentOutcome::Same => true,
            ContentOutcome::Wrong(_) => false,
            ContentOutcome::Unknown => was_same,
        };
        let record = ContentRecord { id: id.clone(), sha256, probed_at: now, is_same, wrong };
        match self.records.binary_search_by(|known| known.id.cmp(id)) {
            Ok(place) => self.records[place] = record,
            Err(place) => self.records.insert(place, record),
        }
        news
    }

    /// Forgets versions that the node does not have any more.
    pub(crate) fn retain(&mut self, has: impl Fn(&PackageId, Sha256) -> bool) {
        self.records.retain(|record| has(&record.id, record.sha256));
    }

    /// The part that is remembered of a node that starts again, perhaps with other files.
    pub(crate) fn into_wrong(mut self) -> Self {
        self.records.retain(|record| record.wrong.is_some());
        Self { records: self.records, is_probing: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.records.iter().filter_map(|record| record.wrong.as_ref());
        size_of_val(&*self.records) + texts.map(|wrong| wrong.text.capacity()).sum::<usize>()
    }

    fn find(&self, id: &PackageId, sha256: Sha256) -> Option<&ContentRecord> {
        let place = self.records.binary_search_by(|record| record.id.cmp(id)).ok()?;
        Some(&self.records[place]).filter(|record| record.sha256 == sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn version(n: u8) -> Sha256 {
        Sha256::new([n; 32])
    }

    #[test]
    fn a_wrong_package_is_one_until_a_probe_succeeds_or_the_version_changes() {
        let (id, mut records) = ("m".parse().unwrap(), ContentRecords::default());
        let wrong = || ContentOutcome::Wrong("byte 7".to_owned());
        assert_eq!(records.due(&id, version(1), at(0)), ContentDue::Now);
        assert_eq!(records.record(&id, version(1), wrong(), at(1)), Some(ContentNews::Wrong));
        assert_eq!(records.due(&id, version(1), at(2)), ContentDue::Later);
        assert_eq!(records.due(&id, version(1), at(11)), ContentDue::Now);
        for outcome in [wrong(), ContentOutcome::Unknown] {
            assert_eq!(records.record(&id, version(1), outcome, at(30)), None);
            assert_eq!(records.wrong(&id, version(1)).unwrap().since, at(1));
        }
        assert!(!records.is_wrong(&id, version(2)), "it has another one since");
        assert_eq!(records.due(&id, version(2), at(31)), ContentDue::Now);
        let mut restarted = records.clone().into_wrong();
        assert!(restarted.is_wrong(&id, version(1)));
        let right = restarted.record(&id, version(1), ContentOutcome::Same, at(60));
        assert_eq!(right, Some(ContentNews::Right));
        assert!(restarted.into_wrong().is_empty());
        records.retain(|_, sha256| sha256 == version(2));
        assert!(records.is_empty());
    }

    #[test]
    fn what_was_equal_is_asked_about_sometime_and_what_was_not_told_soon() {
        let (id, mut records) = ("m".parse().unwrap(), ContentRecords::default());
        records.record(&id, version(1), ContentOutcome::Unknown, at(0));
        assert_eq!(records.due(&id, version(1), at(9)), ContentDue::Later);
        assert_eq!(records.due(&id, version(1), at(10)), ContentDue::Now);
        records.record(&id, version(1), ContentOutcome::Same, at(20));
        records.record(&id, version(1), ContentOutcome::Unknown, at(21));
        assert_eq!(records.due(&id, version(1), at(999)), ContentDue::Sometime);
    }
}
