//! Unpacks the bytes of an entry.

use std::io::{self, Read};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::{BUFFER_BYTES, window::ReadWindow};

pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

/// Result of unpacking: the first `packed_bytes` unpack to just these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DataDescriptor {
    pub(crate) packed_bytes: u64,
    pub size_bytes: u64,
    pub(crate) crc32: u32,
}

pub(super) struct Unpacker {
    inflating: Decompress,
    unpacked: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self { inflating: Decompress::new(false), unpacked: vec![0; BUFFER_BYTES] }
    }

    /// Unpacks an entry of a known packed size. None if it is damaged.
    pub(super) fn unpack(
        &mut self,
        window: &mut ReadWindow<impl Read>,
        method: u16,
        packed_bytes: u64,
        may_hold: impl Fn(u64, u64) -> bool,
    ) -> io::Result<Option<DataDescriptor>> {
        match method {
            // Some writers call empty folders deflated.
            DEFLATED if packed_bytes > 0 => self.deflated(window, packed_bytes, may_hold),
            _ => stored(window, packed_bytes),
        }
    }

    /// Inflates to the end of the stream, which must be within `limit`. Stops when the
    /// entry `may` not `hold` so many bytes at that position of the archive.
    pub(super) fn deflated(
        &mut self,
        window: &mut ReadWindow<impl Read>,
        limit: u64,
        may_hold: impl Fn(u64, u64) -> bool,
    ) -> io::Result<Option<DataDescriptor>> {
        let (mut crc, mut left) = (Hasher::new(), limit);
        self.inflating.reset(false);
        loop {
            let packed = up_to(left, window.peek(1)?);
            let (before_in, before_out) = (self.inflating.total_in(), self.inflating.total_out());
            let none = FlushDecompress::None;
            let status = self.inflating.decompress(packed, &mut self.unpacked, none);
            let (packed_bytes, size_bytes) =
                (self.inflating.total_in(), self.inflating.total_out());
            let taken = packed_bytes - before_in;
            let made = size_bytes - before_out;
            crc.update(up_to(made, &self.unpacked));
            // Never more than the slices are long.
            window.consume(usize::try_from(taken).unwrap_or(usize::MAX));
            left -= taken;
            match status {
                Ok(Status::StreamEnd) => {
                    return Ok(Some(DataDescriptor {
                        packed_bytes,
                        size_bytes,
                        crc32: crc.finalize(),
                    }));
                }
                Ok(_) if taken + made > 0 && may_hold(size_bytes, window.position()) => {}
                // Damaged, unfinished at the end of its bytes, or a bomb.
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }
}

fn stored(
    window: &mut ReadWindow<impl Read>,
    packed_bytes: u64,
) -> io::Result<Option<DataDescriptor>> {
    let (mut crc, mut left) = (Hasher::new(), packed_bytes);
    while left > 0 {
        let bytes = up_to(left, window.peek(1)?);
        if bytes.is_empty() {
            return Ok(None);
        }
        crc.update(bytes);
        let count = bytes.len();
        window.consume(count);
        left -= count as u64;
    }
    Ok(Some(DataDescriptor { packed_bytes, size_bytes: packed_bytes, crc32: crc.finalize() }))
}

fn up_to(limit: u64, bytes: &[u8]) -> &[u8] {
    &bytes[..usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len())]
}
