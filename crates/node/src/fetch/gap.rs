//! Decides when a child leaves its parent. Pure: the time is passed in.

use tokio::time::Instant;

use std::time::Duration;

/// A parent that has so much more holds its child up, not somebody further up.
pub(super) const GAP_BYTES: u64 = 4 << 20;
const GAP_TIME: Duration = Duration::from_secs(1);
/// A child that catches up, or keeps up, is not held up.
const GROWTH_BYTES: u64 = 512 << 10;

/// Bytes of a parent that has them, so many at least, come within a time without which
/// a main server would count as dead.
pub(super) const LEAST_BYTES: u64 = 256 << 10;

/// The bytes that come from a parent that has more, over time.
#[derive(Debug, Default)]
pub(super) struct ParentProgress {
    since: Option<(Instant, u64)>,
}

impl ParentProgress {
    /// Returns true if the parent has had more than `received_bytes` for `limit`, all
    /// of the package or `least_bytes`, and less than that came: one that drips would
    /// never be left by its distance, which shrinks.
    pub(super) fn is_stuck(
        &mut self,
        received_bytes: u64,
        behind_bytes: u64,
        is_whole: bool,
        least_bytes: u64,
        limit: Duration,
        now: Instant,
    ) -> bool {
        let (since, at_first) = *self.since.get_or_insert((now, received_bytes));
        let has_more = behind_bytes >= least_bytes || is_whole && behind_bytes > 0;
        let came = received_bytes < at_first || received_bytes - at_first >= least_bytes;
        if !has_more || came {
            self.since = Some((now, received_bytes));
            return false;
        }
        now.duration_since(since) >= limit
    }
}

/// Distance of the parent that is ahead, over time.
#[derive(Debug, Default)]
pub(super) struct ParentGap {
    since: Option<(Instant, u64)>,
}

impl ParentGap {
    /// Returns true if the parent has had much more for a while, and ever more of it: its
    /// uplink is too slow. Never by rate: a slow rate may have its cause anywhere above.
    pub(super) fn holds_up(&mut self, behind_bytes: u64, now: Instant) -> bool {
        if behind_bytes < GAP_BYTES {
            self.since = None;
            return false;
        }
        let (since, at_first) = *self.since.get_or_insert((now, behind_bytes));
        if behind_bytes < at_first {
            self.since = Some((now, behind_bytes));
            return false;
        }
        now.duration_since(since) >= GAP_TIME && behind_bytes - at_first >= GROWTH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_has_more_and_drips_is_left_and_one_that_waits_itself_is_not() {
        const KB: u64 = 1 << 10;
        let limit = Duration::from_secs(30);
        for (steps, is_whole, stuck_after) in [
            // Seconds, kilobytes here, and ahead.
            (&[(0, 0, 5000), (10, 50, 4950), (30, 150, 4850)][..], false, Some(2)),
            (&[(0, 0, 5000), (20, 256, 4744), (40, 300, 4700), (50, 350, 4650)], false, Some(3)),
            (&[(0, 0, 5000), (20, 300, 4700), (40, 600, 4400), (60, 900, 4100)], true, None),
            // It gets no more itself.
            (&[(0, 100, 10), (40, 110, 0), (80, 110, 10)], false, None),
            (&[(0, 100, 10), (20, 105, 5), (40, 105, 5)], true, Some(2)),
            // What was here was taken back.
            (&[(0, 900, 5000), (29, 100, 5000), (40, 200, 5000)], true, None),
        ] {
            let (mut progress, start) = (ParentProgress::default(), Instant::now());
            let stuck = steps.iter().position(|(at, received, behind)| {
                let now = start + Duration::from_secs(*at);
                let (received, behind) = (received * KB, behind * KB);
                progress.is_stuck(received, behind, is_whole, LEAST_BYTES, limit, now)
            });
            assert_eq!(stuck, stuck_after, "{steps:?}");
        }
    }

    #[test]
    fn only_a_parent_that_gets_ever_further_ahead_is_left() {
        const MB: u64 = 1 << 20;
        for (gaps, left_after) in [
            // Tenths of a second, and megabytes ahead.
            (&[(0, 4), (9, 9), (10, 5)][..], Some(2)),
            (&[(0, 3), (5, 4), (10, 8), (14, 8), (15, 8)], Some(4)),
            // Close behind.
            (&[(0, 3), (10, 3), (20, 3)], None),
            (&[(0, 4), (5, 3), (10, 4), (15, 30)], None),
            // It came late and catches up, or keeps its distance.
            (&[(0, 200), (10, 190), (20, 180), (30, 3)], None),
            (&[(0, 20), (10, 20), (100, 20)], None),
            // It caught up, and then no more.
            (&[(0, 200), (10, 100), (20, 101), (30, 101)], Some(2)),
        ] {
            let (mut gap, start) = (ParentGap::default(), Instant::now());
            let left = gaps.iter().position(|(tenths, behind)| {
                gap.holds_up(behind * MB, start + Duration::from_millis(tenths * 100))
            });
            assert_eq!(left, left_after, "{gaps:?}");
        }
    }
}
