//! Outcomes of the clients, and their statistics. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{client::FinishedDownload, failure::ClientFailure};
use crate::terminal::Language;

/// Outcomes of all ended clients.
#[derive(Debug, Default)]
pub(super) struct StormTally {
    got: Vec<FinishedDownload>,
    failures: BTreeMap<ClientFailure, usize>,
}

/// Parameters of the run, and its progress.
#[derive(Clone, Debug)]
pub(super) struct StormCourse {
    pub clients: usize,
    pub arrived: usize,
    pub interrupted: bool,
    /// From the first arrival to the last end.
    pub lasted: Duration,
    /// Includes clients that failed.
    pub bytes: u64,
}

/// The result as JSON; [`super::summary`] formats it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StormSummary {
    pub clients: usize,
    pub arrived: usize,
    pub finished: usize,
    pub failed: usize,
    pub interrupted: bool,
    pub lasted_s: f64,
    pub bytes: u64,
    pub bytes_per_s: f64,
    /// None if no client finished.
    pub first_byte: Option<FirstByte>,
    pub finish: Option<FinishTimes>,
    /// Number of clients finished, by server.
    pub served_by: BTreeMap<String, usize>,
    pub failures: Vec<FailureGroup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct FirstByte {
    pub p50_s: f64,
    pub p99_s: f64,
}

/// From a client's own arrival.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct FinishTimes {
    pub median_s: f64,
    pub p95_s: f64,
    pub worst_s: f64,
    pub worst_to_median: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FailureGroup {
    pub count: usize,
    pub kind: &'static str,
    pub what: String,
    pub mend: &'static str,
}

impl StormSummary {
    pub(super) fn is_success(&self) -> bool {
        self.finished == self.clients
    }
}

impl StormTally {
    pub(super) fn add(&mut self, outcome: Result<FinishedDownload, ClientFailure>) {
        match outcome {
            Ok(got) => self.got.push(got),
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    pub(super) fn finished(&self) -> usize {
        self.got.len()
    }

    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    pub(super) fn summary(&self, course: &StormCourse, language: Language) -> StormSummary {
        let mut served_by = BTreeMap::new();
        for got in &self.got {
            *served_by.entry(got.from.clone()).or_default() += 1;
        }
        let mut failures: Vec<_> = self
            .failures
            .iter()
            .map(|(failure, count)| FailureGroup {
                count: *count,
                kind: failure.kind(),
                what: failure.what(language),
                mend: failure.advice(language),
            })
            .collect();
        failures.sort_by_key(|failed| std::cmp::Reverse(failed.count));
        let lasted_s = course.lasted.as_secs_f64();
        StormSummary {
            clients: course.clients,
            arrived: course.arrived,
            finished: self.finished(),
            failed: self.failed(),
            interrupted: course.interrupted,
            lasted_s,
            bytes: course.bytes,
            bytes_per_s: if lasted_s > 0.0 { course.bytes as f64 / lasted_s } else { 0.0 },
            first_byte: self.first_byte(),
            finish: self.finish(),
            served_by,
            failures,
        }
    }

    fn first_byte(&self) -> Option<FirstByte> {
        let times = self.sorted(|got| got.first_byte);
        Some(FirstByte { p50_s: quantile(&times, 0.5)?, p99_s: quantile(&times, 0.99)? })
    }

    fn finish(&self) -> Option<FinishTimes> {
        let times = self.sorted(|got| got.took);
        let (median_s, worst_s) = (quantile(&times, 0.5)?, quantile(&times, 1.0)?);
        let worst_to_median = if median_s > 0.0 { worst_s / median_s } else { 1.0 };
        Some(FinishTimes { median_s, p95_s: quantile(&times, 0.95)?, worst_s, worst_to_median })
    }

    fn sorted(&self, time: impl Fn(&FinishedDownload) -> Duration) -> Vec<f64> {
        let mut times: Vec<_> = self.got.iter().map(|got| time(got).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

/// Returns the least value that this share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Returns each client's arrival: evenly over the window, each at a random moment of its
/// own part of it, so that they don't arrive in step.
pub(super) fn arrivals(
    clients: usize,
    window: Duration,
    mut random: impl FnMut() -> f64,
) -> Vec<Duration> {
    let part = window.as_secs_f64() / clients.max(1) as f64;
    (0..clients).map(|at| Duration::from_secs_f64(part * (at as f64 + random()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(from: &str, first_ms: u64, took_ms: u64) -> Result<FinishedDownload, ClientFailure> {
        let first_byte = Duration::from_millis(first_ms);
        Ok(FinishedDownload {
            from: from.to_owned(),
            first_byte,
            took: Duration::from_millis(took_ms),
        })
    }

    fn course(clients: usize) -> StormCourse {
        StormCourse {
            clients,
            arrived: clients,
            interrupted: false,
            lasted: Duration::from_secs(4),
            bytes: 100,
        }
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred: Vec<_> = (1..=100).map(f64::from).collect();
        for (values, share, expected) in [
            (&hundred[..], 0.5, Some(50.0)),
            (&hundred, 0.95, Some(95.0)),
            (&hundred, 0.99, Some(99.0)),
            (&hundred, 1.0, Some(100.0)),
            (&hundred[..1], 0.99, Some(1.0)),
            (&hundred[..1], 0.0, Some(1.0)),
            (&hundred[..3], 0.5, Some(2.0)),
            (&[], 0.5, None),
        ] {
            assert_eq!(quantile(values, share), expected, "{share} of {}", values.len());
        }
    }

    #[test]
    fn who_served_and_what_failed_are_counted_apart() {
        let mut tally = StormTally::default();
        for outcome in [got("a", 1, 100), got("b", 2, 300), got("a", 9, 200)] {
            tally.add(outcome);
        }
        let silent = ClientFailure::Silent { from: "b".to_owned() };
        let refused =
            |status| ClientFailure::Refused { from: "a".to_owned(), status, answer: String::new() };
        for failure in [silent, refused(503), refused(404), refused(503)] {
            tally.add(Err(failure));
        }
        let summary = tally.summary(&course(7), Language::English);
        assert_eq!((summary.finished, summary.failed), (3, 4));
        assert!(!summary.is_success());
        assert_eq!(summary.served_by, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        let counts: Vec<_> = summary.failures.iter().map(|f| (f.count, f.kind)).collect();
        assert_eq!(counts[0], (2, "refused"), "the most frequent first");
        assert_eq!(counts.len(), 3);
        assert_eq!(summary.bytes_per_s, 25.0);
        assert_eq!(summary.first_byte, Some(FirstByte { p50_s: 0.002, p99_s: 0.009 }));
        let finish = summary.finish.unwrap();
        assert_eq!((finish.median_s, finish.p95_s, finish.worst_s), (0.2, 0.3, 0.3));
        assert!((finish.worst_to_median - 1.5).abs() < 1e-9);
    }

    #[test]
    fn where_nobody_finished_there_are_no_times() {
        let mut tally = StormTally::default();
        tally.add(Err(ClientFailure::Silent { from: "a".to_owned() }));
        let summary =
            tally.summary(&StormCourse { lasted: Duration::ZERO, ..course(1) }, Language::English);
        assert_eq!((summary.first_byte, summary.finish), (None, None));
        assert_eq!(summary.bytes_per_s, 0.0);
    }

    #[test]
    fn arrivals_fill_the_window_in_order() {
        let window = Duration::from_secs(10);
        let times = arrivals(100, window, || 0.999);
        assert!(times.is_sorted() && times.iter().all(|at| *at < window));
        assert!(times[0] < Duration::from_millis(100) && times[99] > Duration::from_millis(9900));
        assert_eq!(arrivals(3, Duration::ZERO, || 0.5), [Duration::ZERO; 3]);
        assert!(arrivals(0, window, || 0.5).is_empty());
    }
}
