//! What stands around an entry's bytes in an archive (APPNOTE 4.3.7, 4.3.9 and
//! 4.5.3): the local header before them, and a descriptor behind some.

use std::io::{self, Read};

use super::window::Window;

const HEADER: [u8; 4] = *b"PK\x03\x04";
const HEADER_BYTES: usize = 30;
pub(super) const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
pub(super) const LONGEST_DESCRIPTOR_BYTES: usize = 24;
const ENCRYPTED: u16 = 1;
const DESCRIBED_BEHIND: u16 = 1 << 3;
const ZIP64: u16 = 1;

#[derive(Debug)]
pub(super) struct Header {
    pub method: u16,
    pub encrypted: bool,
    /// A descriptor follows the entry's bytes.
    pub described_behind: bool,
    /// None where only the descriptor tells.
    pub packed_bytes: Option<u64>,
}

impl Header {
    /// Passes a header, with the name and extra field that belong to it. None
    /// where there is none.
    pub(super) fn read(window: &mut Window<impl Read>) -> io::Result<Option<Self>> {
        let Some(fixed) = window.next(HEADER_BYTES)?.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        if !fixed.starts_with(&HEADER) {
            return Ok(None);
        }
        let fixed = *fixed;
        let short = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let flags = short(6);
        let (packed, size) = (word(&fixed[18..]), word(&fixed[22..]));
        let (name_bytes, extra_bytes) = (usize::from(short(26)), usize::from(short(28)));
        window.next(HEADER_BYTES + name_bytes)?;
        window.pass(HEADER_BYTES + name_bytes);
        let extra = window.next(extra_bytes)?;
        let extra = &extra[..extra_bytes.min(extra.len())];
        let packed_bytes = match packed {
            u32::MAX => zip64_packed(extra, size == u32::MAX).unwrap_or(u64::from(u32::MAX)),
            packed => u64::from(packed),
        };
        window.pass(extra_bytes);
        let described_behind = flags & DESCRIBED_BEHIND != 0;
        Ok(Some(Self {
            method: short(8),
            encrypted: flags & ENCRYPTED != 0,
            described_behind,
            packed_bytes: Some(packed_bytes).filter(|bytes| !described_behind || *bytes != 0),
        }))
    }
}

/// The packed size in a Zip64 extra field; it stands behind the size, if that
/// one did not fit the header either.
fn zip64_packed(mut extra: &[u8], behind_size: bool) -> Option<u64> {
    loop {
        let (head, rest) = extra.split_first_chunk::<4>()?;
        let id = u16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let field = rest.get(..length)?;
        if id == ZIP64 {
            return long(field.get(if behind_size { 8 } else { 0 }..)?);
        }
        extra = &rest[length..];
    }
}

/// The length of a descriptor at the beginning of `bytes` that says just this;
/// none if there is no such one. It may have a signature, and sizes of 8 bytes.
pub(super) fn descriptor_bytes(
    bytes: &[u8],
    crc32: u32,
    packed_bytes: u64,
    size_bytes: u64,
) -> Option<usize> {
    let says_so = |signature: usize, width: usize| {
        let fields = bytes.get(signature..signature + 4 + 2 * width)?;
        let (crc, sizes) = fields.split_at(4);
        let (packed, size) = sizes.split_at(width);
        let read = |field| if width == 8 { long(field) } else { Some(u64::from(word(field))) };
        let signed = signature == 0 || bytes.starts_with(&DESCRIPTOR);
        let same = word(crc) == crc32
            && read(packed) == Some(packed_bytes)
            && read(size) == Some(size_bytes);
        (signed && same).then_some(signature + 4 + 2 * width)
    };
    // The long ones first: an empty entry's begins like a short one.
    says_so(4, 8).or_else(|| says_so(0, 8)).or_else(|| says_so(4, 4)).or_else(|| says_so(0, 4))
}

/// Of at least four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
