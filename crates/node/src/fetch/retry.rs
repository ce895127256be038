//! Pauses between attempts. Pure.

use std::time::Duration;

/// Longest pause, however long it has failed.
const LONGEST: Duration = Duration::from_secs(300);

/// The pause after the `attempt`-th attempt (from 1): doubling from `base`,
/// shortened by up to a quarter by `random` (0 to 1), so that nodes that
/// failed together don't come back together.
pub(super) fn pause(attempt: u32, base: Duration, random: f64) -> Duration {
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = LONGEST.max(base);
    base.saturating_mul(factor).min(longest).mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_and_end_at_five_minutes() {
        let seconds = |attempt| pause(attempt, Duration::from_secs(5), 0.0).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [5, 10, 20, 40]);
        assert_eq!(seconds(40), 300);
        assert_eq!(pause(9, Duration::ZERO, 0.0), Duration::ZERO);
        assert_eq!(pause(1, Duration::from_secs(3600), 0.0).as_secs(), 3600);
    }

    proptest! {
        #[test]
        fn pauses_grow_and_jitter_shortens_by_a_quarter_at_most(attempt in 1_u32..100, base in 0_u64..3600, random in 0.0..1.0) {
            let base = Duration::from_secs(base);
            let plain = pause(attempt, base, 0.0);
            prop_assert!(pause(attempt + 1, base, 0.0) >= plain);
            let jittered = pause(attempt, base, random);
            prop_assert!(jittered <= plain && jittered >= plain.mul_f64(0.74));
        }
    }
}
