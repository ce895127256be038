//! Tells whether the reader or this machine holds a download up.

use std::time::Duration;

use tokio::time::Instant;

/// Size of a connection's send buffer; the kernel doubles it for its overhead. Left alone
/// it grows to megabytes, which a thousand slow readers turn into gigabytes, and which
/// are sent slower: what was copied there has left the processor's cache before it is
/// received. Measured with 64 KiB to 1 MiB; less starves a single fast reader. With a
/// round trip of 20 ms it is still enough for 25 MB/s.
pub(super) const SEND_BUFFER_BYTES: usize = 256 << 10;
/// `sendfile` copies nothing into it, and each time that a third of it is free costs a
/// wake-up.
pub(super) const SENDFILE_BUFFER_BYTES: usize = 1 << 20;
/// A reader on the same machine makes room sooner.
const SLOW: Duration = Duration::from_millis(5);
/// A reader that takes longer to make room causes few wake-ups, and gets no more of the
/// kernel's memory.
const IDLE: Duration = Duration::from_millis(250);
/// Slow waits in a row that count: one may be chance.
const SURE: u8 = 2;

/// Pace of one connection.
#[derive(Debug, Default)]
pub(super) struct SendPace {
    /// The time when the socket became full.
    full_since: Option<Instant>,
    /// The last wait for room, if any.
    waited: Option<Duration>,
    /// Bytes accepted since then.
    filled: usize,
    slow_fills: u8,
    large_buffer: bool,
    /// The rest of the part is copied.
    in_tail: bool,
    /// The buffer is new, or has grown since it was last filled, or was emptied
    /// when a part ended: there is room that the reader has not made.
    grown: bool,
}

impl SendPace {
    /// True if the reader is slower than the sender.
    pub(super) fn is_slow(&self) -> bool {
        self.slow_fills == SURE
    }

    /// A reader that asks for another part has emptied the buffer.
    pub(super) fn begin_part(&mut self) {
        (self.filled, self.grown, self.in_tail) = (0, true, false);
    }

    /// Begins the copied rest of the part, for the small buffer.
    pub(super) fn begin_tail(&mut self) {
        self.in_tail = true;
    }

    /// Returns true while the socket may hold more than a part's copied tail.
    pub(super) fn has_large_buffer(&self) -> bool {
        self.large_buffer
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        if let Some(since) = self.full_since.take() {
            (self.waited, self.filled) = (Some(since.elapsed()), 0);
        }
        self.filled = self.filled.saturating_add(bytes);
        if self.filled >= self.room() {
            self.slow_fills = 0;
        }
    }

    /// There was less room than there were bytes.
    pub(super) fn would_block(&mut self) {
        if self.full_since.is_some() {
            return;
        }
        self.full_since = Some(Instant::now());
        let grown = std::mem::take(&mut self.grown);
        if let Some(waited) = self.waited.filter(|_| !grown) {
            // If this machine comes back late, all of it is free by then.
            let slow = waited >= SLOW && self.filled < self.room();
            self.slow_fills = if slow { SURE.min(self.slow_fills + 1) } else { 0 };
        }
    }

    /// Returns a new size for the socket's buffer, if it is time for one.
    pub(super) fn buffer(&mut self) -> Option<usize> {
        let reads_on = || self.large_buffer || self.waited.is_some_and(|waited| waited < IDLE);
        let large_buffer = self.is_slow() && !self.in_tail && reads_on();
        if large_buffer == self.large_buffer {
            return None;
        }
        (self.large_buffer, self.grown) = (large_buffer, self.grown || large_buffer);
        Some(if large_buffer { SENDFILE_BUFFER_BYTES } else { SEND_BUFFER_BYTES })
    }

    /// Returns the buffer's size, twice what was asked for. If it was empty or has grown,
    /// up to three times as much goes to the reader's receive buffer without a wait.
    fn room(&self) -> usize {
        let asked_for = if self.large_buffer { SENDFILE_BUFFER_BYTES } else { SEND_BUFFER_BYTES };
        asked_for * if self.grown { 8 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KB: usize = 1 << 10;

    type Fill = (u64, usize);

    /// Milliseconds of waiting for room, and the bytes accepted after it.
    async fn after(fills: &[Fill]) -> SendPace {
        let mut pace = SendPace::default();
        pace.wrote(600 * KB);
        pace.would_block();
        for (waited, filled) in fills {
            advance(Duration::from_millis(*waited)).await;
            pace.wrote(*filled);
            pace.would_block();
            // A second call before there is room is the same wait.
            pace.would_block();
        }
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_slow_that_is_waited_for_and_makes_little_room() {
        let cases: [(&[Fill], bool); 9] = [
            (&[], false),
            (&[(5, 511 * KB), (500, KB)], true),
            // It made room within a moment,
            (&[(4, 170 * KB)], false),
            // or all of it while this machine did something else.
            (&[(20, 512 * KB)], false),
            (&[(20, 170 * KB), (20, 512 * KB)], false),
            // Once is not enough to be slow again.
            (&[(4, 170 * KB), (20, 170 * KB)], false),
            (&[(4, 170 * KB), (20, 170 * KB), (4, 170 * KB), (20, 170 * KB)], false),
            (&[(4, 170 * KB), (5, 511 * KB), (5, 511 * KB)], true),
            (&[(4, 170 * KB), (20, 170 * KB), (20, 170 * KB), (4, 170 * KB)], false),
        ];
        for (fills, slow) in cases {
            assert_eq!(after(fills).await.is_slow(), slow, "{fills:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_buffers_worth_without_a_wait_is_not_slow() {
        let mut pace = after(&[(20, 170 * KB), (20, 170 * KB)]).await;
        pace.wrote(511 * KB);
        assert!(pace.is_slow());
        pace.wrote(KB);
        assert!(!pace.is_slow());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_part_finds_room_that_says_nothing_of_its_reader() {
        let mut pace = after(&[(20, 170 * KB), (20, 170 * KB)]).await;
        pace.wrote(300 * KB);
        pace.begin_part();
        pace.wrote(2047 * KB);
        assert!(pace.is_slow());
        pace.would_block();
        advance(Duration::from_millis(1)).await;
        pace.wrote(170 * KB);
        pace.would_block();
        assert!(!pace.is_slow(), "it made room within a moment");
        let mut pace = after(&[(20, 170 * KB), (20, 170 * KB)]).await;
        pace.begin_part();
        pace.wrote(2048 * KB);
        assert!(!pace.is_slow(), "it takes all there is");
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_is_slow_and_reads_on_gets_a_larger_buffer_and_while_so() {
        let fill = |waited| (waited, 170 * KB);
        let mut pace = after(&[fill(20), fill(20)]).await;
        assert_eq!((pace.buffer(), pace.buffer()), (Some(SENDFILE_BUFFER_BYTES), None));
        pace.wrote(8 * SENDFILE_BUFFER_BYTES - 1);
        pace.would_block();
        assert_eq!(
            (pace.is_slow(), pace.buffer()),
            (true, None),
            "it was the kernel that made room"
        );
        advance(Duration::from_secs(1)).await;
        pace.wrote(170 * KB);
        pace.would_block();
        assert_eq!(pace.buffer(), None, "it has it, and takes no more of it");
        advance(Duration::from_millis(1)).await;
        pace.wrote(170 * KB);
        pace.would_block();
        assert_eq!(pace.buffer(), Some(SEND_BUFFER_BYTES));
        let mut pace = after(&[fill(20), fill(20)]).await;
        assert_eq!(pace.buffer(), Some(SENDFILE_BUFFER_BYTES));
        pace.begin_tail();
        assert_eq!((pace.buffer(), pace.buffer()), (Some(SEND_BUFFER_BYTES), None));
        pace.begin_part();
        assert_eq!(pace.buffer(), Some(SENDFILE_BUFFER_BYTES), "it is as slow as it was");
        for (waited, size) in [(249, Some(SENDFILE_BUFFER_BYTES)), (250, None), (251, None)] {
            let mut pace = after(&[fill(waited), fill(waited)]).await;
            assert_eq!((pace.is_slow(), pace.buffer()), (true, size), "{waited} ms");
        }
    }
}
