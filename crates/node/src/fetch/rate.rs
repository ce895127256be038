//! The pace of a pull, for those who look at it. Pure: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// The time over which bytes are counted.
const SPAN: Duration = Duration::from_secs(1);
/// The first bytes come at once; over less than this they say nothing of the pace.
const LEAST_SPAN: Duration = Duration::from_millis(100);

/// Bytes per second over the last second or two; in the first one, since its beginning.
#[derive(Debug)]
pub(super) struct TransferRate {
    since: Instant,
    bytes: u64,
    /// Over the span before, if there was one.
    last: Option<u64>,
}

impl TransferRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, last: None }
    }

    /// Counts bytes that have just arrived.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        if now.duration_since(self.since) >= SPAN {
            (self.last, self.since, self.bytes) = (Some(self.at(now)), now, 0);
        }
        self.bytes += bytes;
    }

    pub(super) fn at(&self, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.since);
        if let Some(last) = self.last.filter(|_| elapsed < SPAN) {
            return last;
        }
        let elapsed_ms = elapsed.max(LEAST_SPAN).as_millis();
        let per_second = u128::from(self.bytes) * 1000 / elapsed_ms;
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_second_has_a_rate_too() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = TransferRate::new(start);
        assert_eq!(rate.at(at(0)), 0);
        rate.add(100, at(1));
        assert_eq!(rate.at(at(1)), 1000, "not that of a millisecond");
        rate.add(100, at(300));
        assert_eq!(rate.at(at(400)), 500);
    }

    #[test]
    fn the_rate_is_that_of_the_last_second_and_falls_when_nothing_comes() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = TransferRate::new(start);
        for tenth in 0..20 {
            rate.add(100, at(tenth * 100));
        }
        assert_eq!(rate.at(at(500)), 1000);
        assert_eq!(rate.at(at(1950)), 1000);
        // Twice as fast.
        for tenth in 20..41 {
            rate.add(200, at(tenth * 100));
        }
        assert_eq!(rate.at(at(4100)), 2000);
        // A moment's pause is none yet.
        assert_eq!(rate.at(at(4900)), 2000);
        assert_eq!(rate.at(at(8000)), 50);
        assert_eq!(rate.at(at(1_000_000)), 0);
    }
}
