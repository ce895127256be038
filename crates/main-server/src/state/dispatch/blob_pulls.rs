//! Pulls of files from the shared store: those that nodes ask for. Pure: the time is passed
//! in.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::Sha256;

/// Pulls under way at a time: small files wait for the store's answer most of the time.
const MAX_UNDER_WAY: usize = 8;
/// A file that somebody asked for is pulled if that can be begun within this time.
const ASKED_FOR: Duration = Duration::from_secs(60);
/// A pull that failed is not begun again for this time.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// One pull of each digest, however many nodes wait for it. Tasks name all of them, so that
/// there are no more than files of tasks.
#[derive(Debug, Default)]
pub(crate) struct BlobPullTable {
    /// In the order of the first request for each.
    queue: VecDeque<Sha256>,
    asked: HashMap<Sha256, BlobRequest>,
    under_way: HashSet<Sha256>,
    failed: HashMap<Sha256, UnixMillis>,
}

#[derive(Clone, Copy, Debug)]
struct BlobRequest {
    size: u64,
    at: UnixMillis,
}

impl BlobPullTable {
    /// Notes that somebody waits for the file. False if a pull of it failed a moment ago.
    pub(crate) fn ask(&mut self, sha256: Sha256, size: u64, now: UnixMillis) -> bool {
        if self.under_way.contains(&sha256) {
            return true;
        }
        if self.failed.get(&sha256).is_some_and(|at| now.saturating_since(*at) < FAILURE_PAUSE) {
            return false;
        }
        if self.asked.insert(sha256, BlobRequest { size, at: now }).is_none() {
            self.queue.push_back(sha256);
        }
        true
    }

    /// Chooses the pulls that begin now: digests and sizes.
    pub(crate) fn begin_due(&mut self, now: UnixMillis) -> Vec<(Sha256, u64)> {
        self.failed.retain(|_, at| now.saturating_since(*at) < FAILURE_PAUSE);
        let mut due = Vec::new();
        while self.under_way.len() < MAX_UNDER_WAY
            && let Some(sha256) = self.queue.pop_front()
        {
            let asked = self.asked.remove(&sha256);
            let Some(BlobRequest { size, at }) = asked else { continue };
            if now.saturating_since(at) < ASKED_FOR {
                self.under_way.insert(sha256);
                due.push((sha256, size));
            }
        }
        due
    }

    /// Ends a pull that [`begin_due`](Self::begin_due) began.
    pub(crate) fn finish(&mut self, sha256: Sha256, has_failed: bool, now: UnixMillis) {
        self.under_way.remove(&sha256);
        if has_failed {
            self.failed.insert(sha256, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Sha256 {
        Sha256::new([n; 32])
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn each_file_is_pulled_once_however_many_ask_and_a_few_at_a_time() {
        let mut table = BlobPullTable::default();
        for n in 0..20 {
            for _ in 0..300 {
                assert!(table.ask(digest(n), u64::from(n), at(0)));
            }
        }
        let begun = table.begin_due(at(1));
        assert_eq!(begun.len(), MAX_UNDER_WAY);
        assert_eq!(begun[1], (digest(1), 1), "in the order of the requests");
        assert!(table.ask(digest(0), 0, at(2)), "it is under way");
        assert_eq!(table.begin_due(at(2)), []);
        table.finish(digest(0), false, at(3));
        assert_eq!(table.begin_due(at(3)), [(digest(8), 8)]);
    }

    #[test]
    fn a_pull_that_failed_pauses_and_one_that_nobody_waits_for_is_not_begun() {
        let mut table = BlobPullTable::default();
        table.ask(digest(1), 1, at(0));
        assert_eq!(table.begin_due(at(0)), [(digest(1), 1)]);
        table.finish(digest(1), true, at(1));
        assert!(!table.ask(digest(1), 1, at(2)));
        assert_eq!(table.begin_due(at(2)), []);
        assert!(table.ask(digest(1), 1, at(6)));
        assert_eq!(table.begin_due(at(66)), [], "who asked has left");
        assert!(table.ask(digest(1), 1, at(67)));
        assert_eq!(table.begin_due(at(67)), [(digest(1), 1)]);
    }
}
