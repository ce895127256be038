//! A part of a stream that is looked at before it is passed.

use std::io::{self, Read};

/// Holds the longest thing that is looked at in one piece: an extra field.
const BYTES: usize = 128 << 10;

pub(super) struct Window<R> {
    source: R,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    passed_bytes: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn of(source: R) -> Self {
        let buffer = vec![0; BYTES].into_boxed_slice();
        Self { source, buffer, begin: 0, end: 0, passed_bytes: 0 }
    }

    /// Where in the stream it begins now.
    pub(super) fn passed_bytes(&self) -> u64 {
        self.passed_bytes
    }

    /// The bytes that come next: at least `count`, fewer only at the end.
    pub(super) fn next(&mut self, count: usize) -> io::Result<&[u8]> {
        let count = count.min(BYTES);
        while self.end - self.begin < count {
            if self.begin == self.end || self.begin + count > BYTES {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            match self.source.read(&mut self.buffer[self.end..])? {
                0 => break,
                n => self.end += n,
            }
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    /// Passes bytes that were looked at.
    pub(super) fn pass(&mut self, count: usize) {
        let count = count.min(self.end - self.begin);
        self.begin += count;
        self.passed_bytes += count as u64;
    }
}
