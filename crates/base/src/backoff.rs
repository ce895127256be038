//! Pauses between tries of something that failed. Pure: the random number is passed in.

use std::time::Duration;

/// Returns the pause after so many failures in a row (from 1): doubled with each from
/// `first` on, up to `longest`, with jitter.
pub fn backoff(failures: u32, first: Duration, longest: Duration, random: f64) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    with_jitter(first.saturating_mul(factor).min(longest), random)
}

/// Shortens a pause by up to a half by `random` (0 to 1), so that those who failed together
/// don't come back together. Not by more ("equal jitter"): who comes back at once most
/// likely fails again, and tries are few.
pub fn with_jitter(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_takes_up_to_half() {
        let seconds = Duration::from_secs;
        for (failures, first, longest, random, expected_ms) in [
            (1, seconds(5), seconds(300), 0.0, 5_000),
            (2, seconds(5), seconds(300), 0.0, 10_000),
            (3, seconds(5), seconds(300), 0.0, 20_000),
            (7, seconds(5), seconds(300), 0.0, 300_000),
            (u32::MAX, seconds(5), seconds(300), 0.0, 300_000),
            (0, seconds(5), seconds(300), 0.0, 5_000),
            (9, Duration::ZERO, seconds(300), 0.5, 0),
            (1, seconds(5), seconds(300), 0.5, 3_750),
            (1, seconds(5), seconds(300), 1.0, 2_500),
            (40, seconds(5), seconds(300), 1.0, 150_000),
            (1, seconds(5), seconds(300), 7.0, 2_500),
        ] {
            let pause = backoff(failures, first, longest, random);
            assert_eq!(pause, Duration::from_millis(expected_ms), "{failures} {random}");
        }
    }

    #[test]
    fn a_fleet_that_failed_together_comes_back_over_half_of_the_pause() {
        let mut pauses: Vec<_> = (0..40)
            .map(|node| with_jitter(Duration::from_secs(5), f64::from(node) / 40.0))
            .collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert_eq!(pauses.len(), 40);
        let spread = pauses.last().copied().unwrap_or_default().saturating_sub(pauses[0]);
        assert!(spread > Duration::from_secs(2), "{spread:?}");
    }
}
