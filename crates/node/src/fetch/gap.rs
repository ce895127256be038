//! Decides when a child leaves its parent. Pure: the time is passed in.

use tokio::time::Instant;

use std::time::Duration;

/// A parent that has so much more holds its child up, not somebody further up.
pub(super) const GAP_BYTES: u64 = 4 << 20;
const GAP_TIME: Duration = Duration::from_secs(1);
/// A parent that is still receiving itself, and gets ahead by so much more meanwhile, and
/// by this part of what it receives: two that get all that it gets are never exactly as fast.
const GROWTH_BYTES: u64 = 512 << 10;
const GROWTH_PART: u64 = 8;
/// A child of a parent that has it all is not held up if it has it within this time, too.
const CATCH_UP_S: u64 = 10;

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
    since: Option<(Instant, u64, u64)>,
}

impl ParentGap {
    /// Returns true if the parent has had much more for a while, and gets ever further
    /// ahead, or has it all and will for long: its uplink is too slow. Never by rate while
    /// it is receiving: that may have its cause anywhere above, and a distance that stays
    /// the same harms nobody.
    pub(super) fn holds_up(
        &mut self,
        received_bytes: u64,
        behind_bytes: u64,
        is_whole: bool,
        now: Instant,
    ) -> bool {
        if behind_bytes < GAP_BYTES {
            self.since = None;
            return false;
        }
        let has = received_bytes.saturating_add(behind_bytes);
        let (since, at_first, had) = *self.since.get_or_insert((now, behind_bytes, has));
        let elapsed = now.duration_since(since);
        if elapsed < GAP_TIME {
            return false;
        }
        self.since = Some((now, behind_bytes, has));
        if !is_whole {
            let least = GROWTH_BYTES.max(has.saturating_sub(had) / GROWTH_PART);
            return behind_bytes.saturating_sub(at_first) >= least;
        }
        let closed = u128::from(at_first.saturating_sub(behind_bytes));
        // The rest of the distance, at the pace at which it shrank.
        u128::from(behind_bytes) * elapsed.as_millis() > closed * u128::from(CATCH_UP_S) * 1000
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
    fn only_a_parent_that_gets_ever_further_ahead_or_sends_slowly_what_it_has_is_left() {
        const MB: u64 = 1 << 20;
        for (gaps, is_whole, left_after) in [
            // Tenths of a second, and megabytes ahead.
            (&[(0, 4), (9, 9), (10, 5)][..], false, Some(2)),
            (&[(0, 3), (5, 4), (10, 8), (14, 8), (15, 8)], false, Some(4)),
            // Close behind, or at the same distance.
            (&[(0, 3), (10, 3), (20, 3)], false, None),
            (&[(0, 4), (5, 3), (10, 4), (15, 30)], false, None),
            (&[(0, 20), (10, 20), (100, 20)], false, None),
            (&[(0, 200), (10, 100), (20, 101), (30, 102)], false, Some(2)),
            // It has it all, and the child will have it soon,
            (&[(0, 200), (10, 170), (20, 140), (30, 110), (40, 3)], true, None),
            // or not for long.
            (&[(0, 200), (10, 182)], true, Some(1)),
            (&[(0, 20), (10, 20)], true, Some(1)),
        ] {
            let (mut gap, start) = (ParentGap::default(), Instant::now());
            let left = gaps.iter().position(|(tenths, behind)| {
                let now = start + Duration::from_millis(tenths * 100);
                gap.holds_up(100 * MB, behind * MB, is_whole, now)
            });
            assert_eq!(left, left_after, "{gaps:?}");
        }
        // It gets 20 MB in a second, and this node nearly as much, or half.
        for (received, is_left) in [(18, false), (10, true)] {
            let (mut gap, start) = (ParentGap::default(), Instant::now());
            assert!(!gap.holds_up(100 * MB, 20 * MB, false, start));
            let (received, behind) = ((100 + received) * MB, (40 - received) * MB);
            let now = start + Duration::from_secs(1);
            assert_eq!(gap.holds_up(received, behind, false, now), is_left, "{received}");
        }
    }
}
