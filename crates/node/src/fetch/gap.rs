//! Decides when a child leaves its parent. Pure: the time is passed in.

use tokio::time::Instant;

use std::time::Duration;

/// A parent that has so much more holds its child up, not somebody further up.
pub(super) const GAP_BYTES: u64 = 4 << 20;
const GAP_TIME: Duration = Duration::from_secs(1);
/// A child that catches up, or keeps up, is not held up.
const GROWTH_BYTES: u64 = 512 << 10;

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
