//! The last lines of the log, in memory, for the panel.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tracing::Level;

use super::level_text;

/// Number of lines kept: some hundred kilobytes at most.
const KEPT: usize = 1000;
const MAX_CHARS: usize = 500;

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "LogLine"))]
pub struct JournalEntry {
    /// Number of the line.
    pub n: u64,
    pub time: i64,
    #[serde(serialize_with = "serialize_level")]
    #[cfg_attr(feature = "openapi", schemars(with = "&str"))]
    pub level: Level,
    pub text: String,
}

fn serialize_level<S: Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(level_text(*level))
}

/// The log's last lines. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: Arc<Mutex<VecDeque<JournalEntry>>>,
    /// Number of the newest line.
    last: watch::Sender<u64>,
}

impl Journal {
    pub fn note(&self, level: Level, text: &str) {
        let text: String = text.chars().take(MAX_CHARS).collect();
        let time = chrono::Local::now().timestamp();
        let mut entries = self.entries();
        if entries.len() >= KEPT {
            entries.pop_front();
        }
        let n = entries.back().map_or(1, |last| last.n + 1);
        entries.push_back(JournalEntry { n, time, level, text });
        self.last.send_replace(n);
    }

    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Returns the newest `limit` lines after number `after` that are of `level` or more
    /// severe, oldest first.
    pub fn lines(&self, after: Option<u64>, level: Level, limit: usize) -> Vec<JournalEntry> {
        let entries = self.entries();
        let newer = entries.iter().rev().take_while(|entry| after.is_none_or(|n| entry.n > n));
        // In tracing, the more severe level is the lesser one.
        let mut found: Vec<_> =
            newer.filter(|entry| entry.level <= level).take(limit).cloned().collect();
        found.reverse();
        found
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<JournalEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_of_a_level_are_kept_and_memory_is_bounded() {
        let journal = Journal::default();
        for n in 1..=2500 {
            let level = if n % 100 == 0 { Level::WARN } else { Level::INFO };
            journal.note(level, &format!("line {n} {}", "x".repeat(600)));
        }
        let numbers = |after, level, limit| -> Vec<u64> {
            journal.lines(after, level, limit).iter().map(|entry| entry.n).collect()
        };
        assert_eq!(numbers(None, Level::INFO, 3), [2498, 2499, 2500]);
        assert_eq!(numbers(None, Level::WARN, 2), [2400, 2500]);
        assert_eq!(numbers(Some(2498), Level::TRACE, 100), [2499, 2500]);
        assert!(numbers(Some(2500), Level::TRACE, 100).is_empty());
        assert!(numbers(None, Level::ERROR, 9).is_empty());
        assert_eq!(numbers(None, Level::TRACE, 5000).len(), KEPT);
        assert_eq!(journal.lines(None, Level::TRACE, 1)[0].text.chars().count(), MAX_CHARS);
    }
}
