//! Reads an archive once, from its first byte to its last, as it arrives, and notes
//! what each entry holds. These are facts about the bytes at an entry's place, computed
//! by unpacking them; only the archive's directory, which comes last, says what they
//! should be. So a wrong guess about where the next entry begins costs time, and never
//! causes a wrong verdict: whatever is not confirmed here is read again.

use std::io::{self, Read};

use crc32fast::Hasher;

use super::{
    RATIO_EXEMPT_BYTES,
    header::{DESCRIPTOR, EntryHeader, LONGEST_DESCRIPTOR_BYTES, descriptor_bytes},
    is_bomb,
    scanned_entries::ScannedEntries,
    unpack::{DEFLATED, DataDescriptor, STORED, Unpacker},
    window::ReadWindow,
};

/// Reads up to the first thing that is not an entry or can't be judged.
pub(crate) fn scan_entries(source: impl Read) -> ScannedEntries {
    scan_entries_within(source, RATIO_EXEMPT_BYTES)
}

fn scan_entries_within(source: impl Read, ratio_exempt_bytes: u64) -> ScannedEntries {
    let mut entry_scanner = EntryScanner {
        window: ReadWindow::of(source),
        unpacker: Unpacker::new(),
        unpacked_bytes: 0,
        ratio_exempt_bytes,
        seen: ScannedEntries::default(),
    };
    // The second read of what is not confirmed meets an error again.
    while entry_scanner.entry().unwrap_or(false) {}
    entry_scanner.seen
}

struct EntryScanner<R> {
    window: ReadWindow<R>,
    unpacker: Unpacker,
    /// Total of all entries.
    unpacked_bytes: u64,
    ratio_exempt_bytes: u64,
    seen: ScannedEntries,
}

impl<R: Read> EntryScanner<R> {
    /// Passes one entry. False if there is none that can be judged.
    fn entry(&mut self) -> io::Result<bool> {
        let start = self.window.position();
        let Some(header) = EntryHeader::read_local(&mut self.window)? else { return Ok(false) };
        let (method, described_behind) = (header.method, header.has_data_descriptor());
        // Zero means that only the descriptor has it.
        let packed = Some(header.held.packed_bytes).filter(|n| !described_behind || *n != 0);
        if header.is_encrypted() {
            return Ok(false);
        }
        // The limit for a complete archive, applied to the bytes so far: an archive that
        // would pass in the end is read again then, and one that would not has cost no
        // more than one that does.
        let (before, fine) = (self.unpacked_bytes, self.ratio_exempt_bytes);
        let may_hold = |size_bytes, passed_bytes| !is_bomb(before + size_bytes, passed_bytes, fine);
        let held = match (method, packed) {
            (STORED | DEFLATED, Some(bytes)) => {
                self.unpacker.unpack(&mut self.window, method, bytes, may_hold)?
            }
            (STORED, None) => self.scan_stored_to_descriptor()?,
            (DEFLATED, None) => self.unpacker.deflated(&mut self.window, u64::MAX, may_hold)?,
            _ => None,
        };
        let Some(held) = held else { return Ok(false) };
        self.unpacked_bytes += held.size_bytes;
        if described_behind {
            let bytes = self.window.peek(LONGEST_DESCRIPTOR_BYTES)?;
            let Some(length) = descriptor_bytes(bytes, held) else { return Ok(false) };
            self.window.consume(length);
        }
        self.seen.add(start, method, held);
        self.seen.end = self.window.position();
        Ok(true)
    }

    /// Reads up to the first signed descriptor that tells just what came before.
    fn scan_stored_to_descriptor(&mut self) -> io::Result<Option<DataDescriptor>> {
        let (mut crc, mut size_bytes) = (Hasher::new(), 0);
        loop {
            let bytes = self.window.peek(LONGEST_DESCRIPTOR_BYTES)?;
            let held = DataDescriptor {
                packed_bytes: size_bytes,
                size_bytes,
                crc32: crc.clone().finalize(),
            };
            let at = bytes.windows(DESCRIPTOR.len()).position(|four| four == DESCRIPTOR);
            let count = match at {
                Some(0) if descriptor_bytes(bytes, held).is_some() => return Ok(Some(held)),
                Some(0) => 1,
                Some(at) => at,
                // The last bytes may be the beginning of a signature.
                None => bytes.len().saturating_sub(DESCRIPTOR.len() - 1),
            };
            if count == 0 {
                return Ok(None);
            }
            crc.update(&bytes[..count]);
            size_bytes += count as u64;
            self.window.consume(count);
        }
    }
}

#[cfg(test)]
mod tests;
