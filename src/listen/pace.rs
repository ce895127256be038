//! Who holds a download up: its reader, or this machine.

use std::time::Duration;

use tokio::time::Instant;

/// What the kernel holds for one connection; it takes the double of it, for its
/// own account. Left alone it grows to megabytes, which a thousand slow readers
/// turn into gigabytes, and which are sent slower: what was copied there has
/// left the processor's cache before it is received. Measured with 64 KiB to
/// 1 MiB; less starves a single fast reader. On a line that takes 20 ms for
/// there and back it is still enough for 25 MB/s.
pub(super) const SEND_BUFFER_BYTES: usize = 256 << 10;
/// While files are lent nothing is copied there, and each time that a third of it
/// is free costs a wake-up.
pub(super) const LENT_BUFFER_BYTES: usize = 512 << 10;
/// A reader on the same machine frees its socket sooner.
const SLOW: Duration = Duration::from_millis(5);
/// A reader that needs longer to make room wakes nobody often, and gets no more
/// of the kernel's memory.
const IDLE: Duration = Duration::from_millis(250);
/// A wait is the reader's if it took so many times what a turn to send on takes:
/// where that is long, it is this machine that comes back late.
const TURNS: u32 = 4;
/// So many times in a row it was the reader: once may be chance.
const SURE: u8 = 2;

/// Of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// Since when there has been no room.
    full_since: Option<Instant>,
    /// How long the reader was waited for the last time, if ever.
    waited: Option<Duration>,
    /// Bytes that found room since then.
    filled: usize,
    slow_waits: u8,
    lent_buffer: bool,
}

impl Default for Pace {
    /// Slow, until it shows otherwise: most are, and who comes for one package
    /// has no time to show it.
    fn default() -> Self {
        Self { full_since: None, waited: None, filled: 0, slow_waits: SURE, lent_buffer: false }
    }
}

impl Pace {
    /// Whether the reader is slower than who sends.
    pub fn is_slow(&self) -> bool {
        self.slow_waits == SURE
    }

    /// So many bytes found room; `turn` is how long the last wait for a turn was.
    pub fn took(&mut self, bytes: usize, turn: Duration) {
        let waited = self.full_since.take().map(|since| since.elapsed());
        if let Some(waited) = waited.filter(|waited| *waited >= SLOW.max(turn * TURNS)) {
            self.slow_waits = SURE.min(self.slow_waits + 1);
            (self.waited, self.filled) = (Some(waited), 0);
        }
        self.filled = self.filled.saturating_add(bytes);
        if self.filled >= self.most() {
            self.slow_waits = 0;
        }
    }

    /// There was less room than there were bytes.
    pub fn filled_up(&mut self) {
        self.full_since.get_or_insert_with(Instant::now);
    }

    /// Another size for the socket's buffer, if it is time for one.
    pub fn buffer(&mut self) -> Option<usize> {
        let reads_on = self.lent_buffer || self.waited.is_some_and(|waited| waited < IDLE);
        let lent_buffer = self.is_slow() && reads_on;
        if lent_buffer == self.lent_buffer {
            return None;
        }
        self.lent_buffer = lent_buffer;
        Some(self.asked_for())
    }

    fn asked_for(&self) -> usize {
        if self.lent_buffer { LENT_BUFFER_BYTES } else { SEND_BUFFER_BYTES }
    }

    /// A slow reader takes no more between two waits: all that the kernel holds,
    /// which is twice what was asked for, and as much again on the reader's side.
    fn most(&self) -> usize {
        4 * self.asked_for()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KB: usize = 1 << 10;

    /// Milliseconds of waiting for room, and the bytes that found some then.
    type Fill = (u64, usize);

    async fn after(fills: &[Fill], turn: u64) -> Pace {
        let mut pace = Pace::default();
        let turn = Duration::from_millis(turn);
        pace.took(600 * KB, turn);
        pace.filled_up();
        for (waited, filled) in fills {
            advance(Duration::from_millis(*waited)).await;
            // Asked again before there is room, it is the same wait.
            pace.filled_up();
            pace.took(*filled, turn);
            pace.filled_up();
        }
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_slow_that_has_to_be_waited_for() {
        let some = (20, 500 * KB);
        let fast = [(4, 500 * KB), (4, 500 * KB)];
        let cases: [(&[Fill], u64, bool); 9] = [
            (&[], 0, true),
            (&[(5, 1023 * KB), (500, KB)], 1, true),
            // It makes room within moments,
            (&fast, 0, false),
            (&[fast[0], fast[1], some], 0, false),
            (&[fast[0], fast[1], some, fast[0], fast[1]], 0, false),
            (&[fast[0], fast[1], some, some], 0, true),
            // takes in bursts,
            (&[fast[0], fast[1], some, (3, 400 * KB), some, (3, 400 * KB)], 0, true),
            // or had made room long before this machine came back.
            (&[(20, 500 * KB), (20, 500 * KB)], 6, false),
            (&[(20, 500 * KB), (20, 500 * KB)], 5, true),
        ];
        for (fills, turn, slow) in cases {
            assert_eq!(after(fills, turn).await.is_slow(), slow, "{fills:?}, {turn}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_twice_a_buffer_without_a_wait_is_not_slow() {
        let mut pace = Pace::default();
        pace.took(1023 * KB, Duration::ZERO);
        assert!(pace.is_slow());
        pace.took(KB, Duration::ZERO);
        assert!(!pace.is_slow());
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_is_slow_and_reads_on_gets_a_larger_buffer_and_while_so() {
        for (waited, size) in [(249, Some(LENT_BUFFER_BYTES)), (250, None), (251, None)] {
            let mut pace = after(&[(waited, 170 * KB)], 0).await;
            assert_eq!((pace.is_slow(), pace.buffer()), (true, size), "{waited} ms");
        }
        assert_eq!(after(&[], 0).await.buffer(), None, "nothing is known of it");
        let mut pace = after(&[(20, 170 * KB)], 0).await;
        assert_eq!((pace.buffer(), pace.buffer()), (Some(LENT_BUFFER_BYTES), None));
        advance(Duration::from_secs(1)).await;
        pace.took(4 * LENT_BUFFER_BYTES - KB, Duration::ZERO);
        assert_eq!(pace.buffer(), None, "it has it, and takes no more of it");
        pace.took(KB, Duration::ZERO);
        assert_eq!((pace.is_slow(), pace.buffer()), (false, Some(SEND_BUFFER_BYTES)));
    }
}
