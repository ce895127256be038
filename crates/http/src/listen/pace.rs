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
/// `sendfile` copies nothing there, and each time that a third of it is free costs
/// a wake-up.
pub(super) const SENDFILE_BUFFER_BYTES: usize = 1 << 20;
/// A reader on the same machine frees its socket sooner.
const SLOW: Duration = Duration::from_millis(5);
/// A reader that needs longer to make room wakes nobody often, and gets no more
/// of the kernel's memory.
const IDLE: Duration = Duration::from_millis(250);
/// So many times in a row it was the reader: once may be chance.
const SURE: u8 = 2;

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when there has been no room.
    full_since: Option<Instant>,
    /// How long there was none the last time, if ever.
    waited: Option<Duration>,
    /// Bytes that found room since then.
    filled: usize,
    slow_fills: u8,
    large_buffer: bool,
    /// What is left of the part is copied.
    in_tail: bool,
    /// The buffer is new, or has grown since it was last filled, or was emptied
    /// when a part ended: there is room that the reader has not made.
    grown: bool,
}

impl Pace {
    /// Whether the reader is slower than who sends.
    pub fn is_slow(&self) -> bool {
        self.slow_fills == SURE
    }

    /// A reader that asks for another part has emptied the buffer.
    pub fn begin_part(&mut self) {
        (self.filled, self.grown, self.in_tail) = (0, true, false);
    }

    /// The rest of the part is copied, from the small buffer.
    pub fn begin_tail(&mut self) {
        self.in_tail = true;
    }

    /// Returns true while the socket may hold more than a part's copied tail.
    pub fn has_large_buffer(&self) -> bool {
        self.large_buffer
    }

    pub fn wrote(&mut self, bytes: usize) {
        if let Some(since) = self.full_since.take() {
            (self.waited, self.filled) = (Some(since.elapsed()), 0);
        }
        self.filled = self.filled.saturating_add(bytes);
        if self.filled >= self.room() {
            self.slow_fills = 0;
        }
    }

    /// There was less room than there were bytes.
    pub fn would_block(&mut self) {
        if self.full_since.is_some() {
            return;
        }
        self.full_since = Some(Instant::now());
        let grown = std::mem::take(&mut self.grown);
        if let Some(waited) = self.waited.filter(|_| !grown) {
            // Where this machine comes back late, all of it is free by then.
            let slow = waited >= SLOW && self.filled < self.room();
            self.slow_fills = if slow { SURE.min(self.slow_fills + 1) } else { 0 };
        }
    }

    /// Another size for the socket's buffer, if it is time for one.
    pub fn buffer(&mut self) -> Option<usize> {
        let reads_on = || self.large_buffer || self.waited.is_some_and(|waited| waited < IDLE);
        let large_buffer = self.is_slow() && !self.in_tail && reads_on();
        if large_buffer == self.large_buffer {
            return None;
        }
        (self.large_buffer, self.grown) = (large_buffer, self.grown || large_buffer);
        Some(if large_buffer { SENDFILE_BUFFER_BYTES } else { SEND_BUFFER_BYTES })
    }

    /// The buffer, which is twice what was asked for. Where it was empty or has grown,
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

    /// Milliseconds of waiting for room, and the bytes that found some then.
    async fn after(fills: &[Fill]) -> Pace {
        let mut pace = Pace::default();
        pace.wrote(600 * KB);
        pace.would_block();
        for (waited, filled) in fills {
            advance(Duration::from_millis(*waited)).await;
            pace.wrote(*filled);
            pace.would_block();
            // Asked again before there is room, it is the same wait.
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
