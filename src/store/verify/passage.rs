//! Reads an archive once, from its first byte to its last, as it arrives, and
//! notes what each entry turns out to hold. What it notes are facts about the
//! bytes at an entry's place, computed by unpacking them; only the archive's
//! directory, which comes last, says what they should be. So a wrong guess
//! about where the next entry begins costs time, and never a wrong verdict:
//! whatever is not vouched for here is read again.

use std::io::{self, Read};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};
use zip::CompressionMethod;

use super::{
    ALWAYS_FINE_BYTES, BUFFER_BYTES, MAX_ENTRIES, MAX_RATIO,
    header::{DESCRIPTOR, Header, LONGEST_DESCRIPTOR_BYTES, descriptor_bytes},
    seen::{Held, Seen},
    window::Window,
};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Reads until the first thing that is no entry.
pub fn pass_through(source: impl Read) -> Seen {
    pass_through_within(source, ALWAYS_FINE_BYTES)
}

fn pass_through_within(source: impl Read, always_fine_bytes: u64) -> Seen {
    let mut passage = Passage {
        window: Window::of(source),
        inflating: Decompress::new(false),
        unpacked: vec![0; BUFFER_BYTES],
        unpacked_bytes: 0,
        always_fine_bytes,
        seen: Seen::default(),
    };
    // Whoever reads again what is not vouched for meets an error again.
    while passage.seen.count() < MAX_ENTRIES && passage.entry().unwrap_or(false) {}
    passage.seen
}

struct Passage<R> {
    window: Window<R>,
    inflating: Decompress,
    unpacked: Vec<u8>,
    /// Of all entries.
    unpacked_bytes: u64,
    always_fine_bytes: u64,
    seen: Seen,
}

impl<R: Read> Passage<R> {
    /// Passes one entry. False where none can follow, or be found.
    fn entry(&mut self) -> io::Result<bool> {
        let header_start = self.window.passed_bytes();
        let Some(header) = Header::read(&mut self.window)? else { return Ok(false) };
        let begin = self.window.passed_bytes();
        let (method, held) = match (header.method, header.packed_bytes) {
            _ if header.encrypted => (CompressionMethod::Stored, None),
            (STORED, Some(bytes)) => (CompressionMethod::Stored, self.stored(bytes)?),
            (STORED, None) => (CompressionMethod::Stored, self.stored_until_described()?),
            (DEFLATED, bytes) => (CompressionMethod::Deflated, self.deflated(bytes)?),
            _ => (CompressionMethod::Stored, None),
        };
        if let Some(held) = held {
            self.seen.add(header_start, method, held);
        }
        if let Some(bytes) = header.packed_bytes {
            let passed = self.window.passed_bytes() - begin;
            self.skip(bytes.saturating_sub(passed))?;
        }
        match (header.described_behind, held) {
            (false, _) => Ok(held.is_some() || header.packed_bytes.is_some()),
            (true, Some(held)) => self.descriptor(held),
            (true, None) => Ok(false),
        }
    }

    fn stored(&mut self, packed_bytes: u64) -> io::Result<Option<Held>> {
        let (mut crc, mut left) = (Hasher::new(), packed_bytes);
        while left > 0 {
            let bytes = up_to(left, self.window.next(1)?);
            if bytes.is_empty() {
                return Ok(None);
            }
            crc.update(bytes);
            let count = bytes.len();
            self.window.pass(count);
            left -= count as u64;
        }
        Ok(Some(Held { packed_bytes, size_bytes: packed_bytes, crc32: crc.finalize() }))
    }

    /// Up to the first signature of a descriptor that tells just what came before.
    fn stored_until_described(&mut self) -> io::Result<Option<Held>> {
        let (mut crc, mut size_bytes) = (Hasher::new(), 0);
        loop {
            let bytes = self.window.next(LONGEST_DESCRIPTOR_BYTES)?;
            let crc32 = crc.clone().finalize();
            let at = bytes.windows(DESCRIPTOR.len()).position(|four| four == DESCRIPTOR);
            let count = match at {
                Some(0) if descriptor_bytes(bytes, crc32, size_bytes, size_bytes).is_some() => {
                    return Ok(Some(Held { packed_bytes: size_bytes, size_bytes, crc32 }));
                }
                Some(0) => 1,
                Some(at) => at,
                // Its first bytes may be the last of these.
                None => bytes.len().saturating_sub(DESCRIPTOR.len() - 1),
            };
            if count == 0 {
                return Ok(None);
            }
            crc.update(&bytes[..count]);
            size_bytes += count as u64;
            self.window.pass(count);
        }
    }

    /// Up to the end of the stream, which must be within `limit`.
    fn deflated(&mut self, limit: Option<u64>) -> io::Result<Option<Held>> {
        let (mut crc, mut left) = (Hasher::new(), limit.unwrap_or(u64::MAX));
        self.inflating.reset(false);
        loop {
            let packed = up_to(left, self.window.next(1)?);
            let (before_in, before_out) = (self.inflating.total_in(), self.inflating.total_out());
            let none = FlushDecompress::None;
            let status = self.inflating.decompress(packed, &mut self.unpacked, none);
            let taken = self.inflating.total_in() - before_in;
            let made = self.inflating.total_out() - before_out;
            crc.update(up_to(made, &self.unpacked));
            // Never more than the slices are long.
            self.window.pass(usize::try_from(taken).unwrap_or(usize::MAX));
            left -= taken;
            self.unpacked_bytes += made;
            match status {
                Ok(Status::StreamEnd) => {
                    let (packed_bytes, size_bytes) =
                        (self.inflating.total_in(), self.inflating.total_out());
                    return Ok(Some(Held { packed_bytes, size_bytes, crc32: crc.finalize() }));
                }
                Ok(_) if taken + made > 0 => self.stop_at_a_bomb()?,
                // Damaged, or not at its end when its bytes are.
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }

    /// The same limit as for an archive that is complete, of the bytes so far:
    /// one that would pass in the end is read again then, and one that would
    /// not has cost no more than one that does.
    fn stop_at_a_bomb(&self) -> io::Result<()> {
        let packed_bytes = self.window.passed_bytes();
        match self.unpacked_bytes > self.always_fine_bytes
            && self.unpacked_bytes / MAX_RATIO > packed_bytes
        {
            true => Err(io::Error::other("more than may be unpacked")),
            false => Ok(()),
        }
    }

    fn skip(&mut self, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let count = up_to(left, self.window.next(1)?).len();
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.window.pass(count);
            left -= count as u64;
        }
        Ok(())
    }

    fn descriptor(&mut self, held: Held) -> io::Result<bool> {
        let bytes = self.window.next(LONGEST_DESCRIPTOR_BYTES)?;
        let length = descriptor_bytes(bytes, held.crc32, held.packed_bytes, held.size_bytes);
        self.window.pass(length.unwrap_or(0));
        Ok(length.is_some())
    }
}

fn up_to(limit: u64, bytes: &[u8]) -> &[u8] {
    &bytes[..usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len())]
}

#[cfg(test)]
mod tests;
