//! Histograms of durations, in fixed buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds in nanoseconds, ascending.
pub type Bounds = &'static [u64];

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// For answers: most are made in memory, some wait for the main server.
pub const ANSWERS: Bounds =
    &[MS, 5 * MS, 10 * MS, 50 * MS, 100 * MS, 500 * MS, S, 5 * S, 10 * S, 30 * S, 60 * S];
/// For packages on their way to a client.
pub const DOWNLOADS: Bounds = &[
    MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    300 * S,
    1800 * S,
];
/// For packages on their way here: retries and pauses included.
pub const PULLS: Bounds = &[
    50 * MS,
    100 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    300 * S,
    600 * S,
    1800 * S,
    3600 * S,
];

/// One more than the longest of the bounds, for what is beyond the last.
const MAX_BUCKETS: usize = 13;

#[derive(Debug)]
pub struct Histogram {
    bounds: Bounds,
    /// Counts per bucket, not cumulative.
    buckets: [AtomicU64; MAX_BUCKETS],
    /// Enough for centuries.
    sum_ns: AtomicU64,
}

impl Histogram {
    pub fn of(bounds: Bounds) -> Self {
        let bounds = &bounds[..bounds.len().min(MAX_BUCKETS - 1)];
        Self { bounds, buckets: Default::default(), sum_ns: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        // A u64 holds centuries.
        let took_ns = took.as_nanos() as u64;
        let beyond = self.bounds.len();
        let bucket = self.bounds.iter().position(|bound| took_ns <= *bound).unwrap_or(beyond);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    /// Like [`observe`](Self::observe), for what took too little time to read the clock.
    pub fn observe_zero(&self) {
        self.buckets[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many took no longer than each bound (in seconds), the count of all,
    /// and the sum of all in seconds.
    pub fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut count = 0;
        let mut up_to = |place: usize| {
            count += self.buckets[place].load(Ordering::Relaxed);
            count
        };
        let seconds = |ns: u64| ns as f64 / 1e9;
        let bounds = self.bounds.iter().enumerate();
        let read = bounds.map(|(place, bound)| (seconds(*bound), up_to(place))).collect();
        let all = up_to(self.bounds.len());
        (read, all, seconds(self.sum_ns.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_is_in_its_bucket_and_in_all_above_it() {
        let histogram = Histogram::of(&[MS, 10 * MS, S]);
        for ms in [0, 1, 2, 10, 11, 1000, 1001, 90_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        histogram.observe_zero();
        let (buckets, count, sum_s) = histogram.read();
        assert_eq!(buckets, [(0.001, 3), (0.01, 5), (1.0, 7)]);
        assert_eq!(count, 9);
        assert!((sum_s - 92.025).abs() < 1e-9, "{sum_s}");
    }

    #[test]
    fn the_bounds_in_use_ascend_and_have_room() {
        for bounds in [ANSWERS, DOWNLOADS, PULLS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
            assert_eq!(Histogram::of(bounds).read().0.len(), bounds.len());
        }
    }
}
