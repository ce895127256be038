//! A part of a stream that is read ahead before it is passed.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
};

/// Enough for the longest thing examined in one piece: a record of the directory, with
/// a name, an extra field and a comment of 64 KiB each. Memory is taken only for what
/// is filled, seldom more than one step.
const BYTES: usize = 256 << 10;
/// Bytes read at a time.
const STEP_BYTES: usize = 128 << 10;
/// Enough for one header: what follows it may not be of interest.
const HEADER_STEP_BYTES: usize = 4 << 10;

pub(super) struct ReadWindow<R> {
    source: R,
    step_bytes: usize,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    position: u64,
}

/// Reads a file from a position on, independently of its cursor.
pub(super) struct FileCursor<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileCursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<'a> ReadWindow<FileCursor<'a>> {
    /// Opens a window of no more of the file than `place`: memory that a small one does
    /// not fill costs more to get than all that is done with it.
    pub(super) fn of_file(file: &'a File, place: Range<u64>) -> Self {
        let bytes = usize::try_from(place.end - place.start).unwrap_or(BYTES).min(BYTES);
        let at = place.start;
        Self { position: at, ..Self::with_room(FileCursor { file, at }, bytes) }
    }

    /// Moves to another position.
    pub(super) fn seek(&mut self, to: u64) {
        let ahead = to.checked_sub(self.position).and_then(|ahead| usize::try_from(ahead).ok());
        match ahead.filter(|ahead| *ahead <= self.end - self.begin) {
            Some(ahead) => self.begin += ahead,
            None => (self.begin, self.end, self.source.at) = (0, 0, to),
        }
        self.position = to;
    }

    /// True if a header comes next, and nothing else is certain to be read.
    pub(super) fn expect_header(&mut self, header: bool) {
        self.step_bytes = if header { HEADER_STEP_BYTES } else { STEP_BYTES };
    }
}

impl<R: Read> ReadWindow<R> {
    pub(super) fn of(source: R) -> Self {
        Self::with_room(source, BYTES)
    }

    fn with_room(source: R, bytes: usize) -> Self {
        let buffer = vec![0; bytes].into_boxed_slice();
        Self { source, step_bytes: STEP_BYTES, buffer, begin: 0, end: 0, position: 0 }
    }

    /// Position in the stream where it begins now.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next bytes: at least `count`, fewer only at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let room = self.buffer.len();
        let count = count.min(room);
        while self.end - self.begin < count {
            if self.begin == self.end || self.begin + count > room {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            let step_end = room.min(self.end + self.step_bytes);
            match self.source.read(&mut self.buffer[self.end..step_end])? {
                0 => break,
                n => self.end += n,
            }
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    /// Passes bytes that were examined.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.begin);
        self.begin += count;
        self.position += count as u64;
    }

    /// Passes `count` bytes in one piece. None if fewer are left.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Option<&[u8]>> {
        self.peek(count)?;
        let begin = self.begin;
        let there = self.end - begin >= count;
        self.consume(if there { count } else { 0 });
        Ok(there.then(|| &self.buffer[begin..begin + count]))
    }
}
