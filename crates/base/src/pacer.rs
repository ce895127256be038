//! A limit in bytes per second for any number of streams, shared evenly.
//!
//! Streams that have bytes to move queue up. At the head, a stream gets a portion
//! and goes to the end of the queue. So streams that want more than there is
//! get the same, whatever their size, and one that wants little waits for at most one
//! portion of each of the others. Only the first in the queue waits for a timer, and
//! none does where there is no limit.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

/// Unused time that may be made up for without waiting: timers and threads are
/// late now and then, and a small package need not wait at all.
const BURST: Duration = Duration::from_millis(100);
/// Time that a portion takes. With shorter ones, the queue would move more often than
/// threads are woken.
const PORTION: Duration = Duration::from_millis(10);
/// Smallest portion: smaller packets would be mostly headers.
const MIN_PORTION_BYTES: u64 = 1 << 10;
/// Largest portion: one write to a socket.
const MAX_PORTION_BYTES: u64 = 256 << 10;

#[derive(Debug)]
pub struct Pacer {
    /// Bytes per second; 0: no limit.
    rate: AtomicU64,
    /// End of the time that the bytes let through so far take.
    free_at: Mutex<Instant>,
    /// Held by the first in the queue. Tokio's semaphore is fair.
    turn: Semaphore,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            rate: AtomicU64::new(0),
            free_at: Mutex::new(Instant::now()),
            turn: Semaphore::new(1),
        }
    }
}

impl Pacer {
    /// Begins with a limit; 0: none.
    pub fn with_rate(bytes_per_s: u64) -> Self {
        let pacer = Self::default();
        pacer.set_rate(bytes_per_s);
        pacer
    }

    /// Sets the limit; 0 removes it. Takes effect with the next portion, at most a tenth
    /// of a second later.
    pub fn set_rate(&self, bytes_per_s: u64) {
        self.rate.store(bytes_per_s, Ordering::Relaxed);
    }

    pub fn is_unlimited(&self) -> bool {
        self.rate.load(Ordering::Relaxed) == 0
    }

    /// Returns how many of the `wanted` bytes may be moved now: all where there is no
    /// limit, none if they would have to wait.
    pub fn try_take(&self, wanted: u64) -> Option<u64> {
        if self.is_unlimited() {
            return Some(wanted);
        }
        // Fails if others are queued.
        let _turn = self.turn.try_acquire().ok()?;
        self.take_unqueued(wanted).ok()
    }

    /// Like [`try_take`](Self::try_take), but waits in the queue.
    pub async fn take(&self, wanted: u64) -> u64 {
        if self.is_unlimited() {
            return wanted;
        }
        // Fails only if it was closed, which never happens.
        let _turn = self.turn.acquire().await;
        loop {
            match self.take_unqueued(wanted) {
                Ok(portion) => return portion,
                Err(free_at) => sleep_until(free_at).await,
            }
        }
    }

    /// Waits until `bytes` that have arrived already are paid for, and returns how long
    /// that took.
    pub async fn throttle(&self, bytes: usize) -> Duration {
        if self.is_unlimited() {
            return Duration::ZERO;
        }
        let (began, mut left) = (Instant::now(), bytes as u64);
        while left > 0 {
            left -= self.take(left).await;
        }
        began.elapsed()
    }

    /// Takes a portion, or returns when to try again.
    fn take_unqueued(&self, wanted: u64) -> Result<u64, Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Ok(wanted);
        }
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
        if from > now {
            return Err(from);
        }
        let portion = wanted.min(portion_at(rate));
        *free_at = from + time_of(portion, rate);
        Ok(portion)
    }
}

fn portion_at(rate: u64) -> u64 {
    let portion = u128::from(rate) * PORTION.as_millis() / 1000;
    u64::try_from(portion).unwrap_or(u64::MAX).clamp(MIN_PORTION_BYTES, MAX_PORTION_BYTES)
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicBool};

    use futures_util::{FutureExt, future::join_all};
    use proptest::prelude::*;
    use tokio::time::{advance, timeout};

    use super::*;

    fn pacer(rate: u64) -> Arc<Pacer> {
        let pacer = Pacer::default();
        pacer.set_rate(rate);
        Arc::new(pacer)
    }

    /// Moves bytes as a body does, and returns how long that took.
    async fn moves(pacer: &Pacer, mut bytes: u64) -> Duration {
        let began = Instant::now();
        while bytes > 0 {
            bytes -= pacer.take(bytes).await;
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_everything_passes_at_once() {
        let pacer = Pacer::default();
        assert_eq!(pacer.try_take(u64::MAX), Some(u64::MAX));
        assert_eq!(pacer.take(1 << 40).now_or_never(), Some(1 << 40));
        assert_eq!(pacer.throttle(1 << 30).now_or_never(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_takes_the_time_that_the_limit_gives_it() {
        for rate in [10_000, 1_000_000, 123_456_789, 5_000_000_000] {
            let took = moves(&pacer(rate), rate * 10).await.as_secs_f64();
            assert!((9.7..10.1).contains(&took), "{rate}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_made_up_for_by_a_burst_and_no_more() {
        let pacer = pacer(1_000_000);
        advance(Duration::from_secs(3600)).await;
        let mut at_once = 0;
        while let Some(portion) = pacer.try_take(u64::MAX) {
            at_once += portion;
        }
        // A tenth of a second, and the portion that was begun within it.
        assert_eq!(at_once, 110_000);
    }

    #[tokio::test(start_paused = true)]
    async fn all_get_the_same_and_a_small_one_does_not_wait_for_the_large() {
        let pacer = pacer(1_000_000);
        let large = (0..9).map(|_| moves(&pacer, 1_000_000));
        let (mut large, small) = futures_util::future::join(join_all(large), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            moves(&pacer, 20_000).await
        })
        .await;
        // Two portions, each behind those of nine others, 10 ms each.
        assert!(small < Duration::from_millis(250), "{small:?}");
        large.sort();
        assert!(large[8] - large[0] < Duration::from_millis(300), "{large:?}");
        assert!((8.7..9.1).contains(&large[8].as_secs_f64()), "{large:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn large_pieces_take_no_more_than_small_ones() {
        let pacer = pacer(1_000_000);
        let done = AtomicBool::new(false);
        let coarse = async {
            for _ in 0..10 {
                pacer.throttle(400_000).await;
            }
            done.store(true, Ordering::Relaxed);
        };
        let fine = async {
            let mut passed = 0_u64;
            while !done.load(Ordering::Relaxed) {
                pacer.throttle(10_000).await;
                passed += 10_000;
            }
            passed
        };
        let ((), passed) = futures_util::future::join(coarse, fine).await;
        assert!((3_800_000..4_200_000).contains(&passed), "{passed}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_moved_is_waited_for_and_the_wait_is_known() {
        let pacer = pacer(100_000);
        advance(Duration::from_secs(1)).await;
        assert_eq!(pacer.throttle(10_000).await, Duration::ZERO);
        let waited = pacer.throttle(100_000).await;
        assert!((0.97..1.1).contains(&waited.as_secs_f64()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_holds_nobody_up_and_pays_nothing() {
        let pacer = pacer(10_000);
        moves(&pacer, 2_000).await;
        let (mut first, mut second) = (Box::pin(pacer.take(9)), Box::pin(pacer.take(9)));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        // Nobody overtakes the queue.
        assert_eq!(pacer.try_take(1), None);
        drop(first);
        assert_eq!(timeout(Duration::from_secs(1), second).await, Ok(9));
    }

    #[tokio::test(start_paused = true)]
    async fn another_limit_counts_within_a_portion() {
        let pacer = pacer(10_000);
        let both = futures_util::future::join(moves(&pacer, 1_000_000), async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            pacer.set_rate(1_000_000);
        });
        let took = both.await.0.as_secs_f64();
        assert!((10.8..11.1).contains(&took), "{took}");
        pacer.set_rate(10_000);
        let all = join_all((0..50).map(|_| moves(&pacer, 1_000_000)));
        let both = futures_util::future::join(all, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pacer.set_rate(0);
        });
        let (took, ()) = both.await;
        assert!(took.iter().all(|took| took.as_secs_f64() < 1.2), "{took:?}");
    }

    proptest! {
        #[test]
        fn portions_are_within_their_bounds_and_their_times_add_up(rate in 1_u64..1 << 53, wanted in 1_u64..1 << 53) {
            let portion = portion_at(rate).min(wanted);
            prop_assert!((1..=MAX_PORTION_BYTES).contains(&portion));
            let exact = portion as f64 / rate as f64;
            prop_assert!((time_of(portion, rate).as_secs_f64() - exact).abs() <= 1e-6 + exact * 1e-9);
        }
    }
}
