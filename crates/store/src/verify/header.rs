//! Headers of an entry in an archive (APPNOTE 4.3.7, 4.3.9, 4.3.12, 4.5): the local
//! header before its bytes, a descriptor behind some, and its record in the directory,
//! which repeats nearly all of it.
//!
//! The format has only once, so no reader can notice a change: in the record the
//! program that made the entry, its attributes and its comment; an extra field, or the
//! end of one, that only one header has, and so the number of fields; values in a Zip64
//! field that its header has itself. Where a descriptor follows, the local header may
//! have a size or not: a power of two is one flipped bit from none. None of that is
//! what an entry holds.

use std::{io, io::Read, iter};

use super::{fields::RecordReader, unpack::DataDescriptor, window::ReadWindow};

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
const RECORD: [u8; 4] = *b"PK\x01\x02";
const RECORD_BYTES: usize = 46;
pub(super) const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
pub(super) const LONGEST_DESCRIPTOR_BYTES: usize = 24;
const ENCRYPTED: u16 = 1;
const DATA_DESCRIPTOR: u16 = 1 << 3;
const ZIP64: u16 = 1;
/// Info-ZIP's timestamps, newer and older.
const TIMES: [u16; 2] = [0x5455, 0x5855];
/// Versions for stored, deflated and Zip64: writers raise it in one of the two headers
/// if only that one needs more. No flipped bit leads from one of them to another.
const VERSIONS: [u16; 3] = [10, 20, 45];
/// Two or three are usual. Comparing takes quadratic time.
const COMPARED_EXTRA_FIELDS: usize = 32;

#[derive(Debug)]
pub(super) struct EntryHeader<'a> {
    version: u16,
    flags: u16,
    pub method: u16,
    modified: u32,
    pub held: DataDescriptor,
    /// Offset of the local header, which does not contain it itself.
    pub start: u64,
    pub name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> EntryHeader<'a> {
    /// Passes a local header. None if there is none.
    pub(super) fn read_local(window: &'a mut ReadWindow<impl Read>) -> io::Result<Option<Self>> {
        let fixed = window.peek(LOCAL_BYTES)?;
        let length = LOCAL_BYTES + length_at(fixed, 26) + length_at(fixed, 28);
        Ok(window.take(length)?.and_then(Self::parse_local))
    }

    /// Passes a record of the directory. None if there is none.
    pub(super) fn read_record(window: &'a mut ReadWindow<impl Read>) -> io::Result<Option<Self>> {
        let fixed = window.peek(RECORD_BYTES)?;
        let lengths = [28, 30, 32].map(|at| length_at(fixed, at));
        let length = RECORD_BYTES + lengths.iter().sum::<usize>();
        Ok(window.take(length)?.and_then(Self::parse_record))
    }

    fn parse_local(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = RecordReader(bytes.strip_prefix(&LOCAL)?);
        let (mut header, name_bytes, extra_bytes) = Self::common(&mut fields)?;
        header.name = fields.bytes(name_bytes)?;
        header.extra = fields.bytes(extra_bytes)?;
        header.apply_zip64(0)
    }

    fn parse_record(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = RecordReader(bytes.strip_prefix(&RECORD)?);
        let _made_by = fields.short()?;
        let (mut header, name_bytes, extra_bytes) = Self::common(&mut fields)?;
        let _comment_bytes = fields.short()?;
        let disk = fields.short()?;
        let _attributes = (fields.short()?, fields.word()?);
        header.start = u64::from(fields.word()?);
        header.name = fields.bytes(name_bytes)?;
        header.extra = fields.bytes(extra_bytes)?;
        header.apply_zip64(disk)
    }

    /// Reads the fields that both have in the same order.
    fn common(fields: &mut RecordReader<'a>) -> Option<(Self, u16, u16)> {
        let (version, flags, method) = (fields.short()?, fields.short()?, fields.short()?);
        let (modified, crc32) = (fields.word()?, fields.word()?);
        let (packed, size) = (fields.word()?, fields.word()?);
        let held = DataDescriptor { packed_bytes: packed.into(), size_bytes: size.into(), crc32 };
        let (start, name, extra) = (0, &[][..], &[][..]);
        let header = Self { version, flags, method, modified, held, start, name, extra };
        Some((header, fields.short()?, fields.short()?))
    }

    /// Takes values that did not fit their fields from the Zip64 field, in this order.
    /// None if an extra field is damaged or names another disk.
    fn apply_zip64(mut self, disk: u16) -> Option<Self> {
        let mut disk = u32::from(disk);
        if let Some(zip64) = checked(self.extra)?.find(|(id, _)| *id == ZIP64) {
            let mut wide = RecordReader(zip64.1);
            let held = &mut self.held;
            for value in [&mut held.size_bytes, &mut held.packed_bytes, &mut self.start] {
                if *value == u64::from(u32::MAX) {
                    *value = wide.long()?;
                }
            }
            if disk == u32::from(u16::MAX) {
                disk = wide.word()?;
            }
        }
        (disk == 0).then_some(self)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// True if a descriptor follows the entry's bytes.
    pub(super) fn has_data_descriptor(&self) -> bool {
        self.flags & DATA_DESCRIPTOR != 0
    }

    /// Returns the first field in which this record of the directory and the entry's local
    /// header differ.
    pub(super) fn first_mismatch(&self, local: &EntryHeader<'_>) -> Option<&'static str> {
        let versions = [self.version, local.version];
        let version = self.version == local.version
            || versions.iter().all(|version| VERSIONS.contains(version));
        let agreed = [
            ("name", self.name == local.name),
            ("version", version),
            ("flags", self.flags == local.flags),
            ("method", self.method == local.method),
            ("date", self.modified == local.modified),
            ("CRC or size", self.held == local.held || self.is_in_data_descriptor(local)),
            ("extra field", extra_fields_agree(self.extra, local.extra)),
        ];
        agreed.iter().find(|(_, agreed)| !agreed).map(|(what, _)| *what)
    }

    /// True if the local header has zeros for what only the descriptor tells:
    /// the CRC, or the packed size, too, or all three.
    fn is_in_data_descriptor(&self, local: &EntryHeader<'_>) -> bool {
        let unknown = [
            DataDescriptor { crc32: 0, ..self.held },
            DataDescriptor { crc32: 0, packed_bytes: 0, ..self.held },
            DataDescriptor { crc32: 0, packed_bytes: 0, size_bytes: 0 },
        ];
        // An encrypted entry's header has something else in place of the CRC.
        let crc32 = if self.is_encrypted() { 0 } else { local.held.crc32 };
        local.has_data_descriptor() && unknown.contains(&DataDescriptor { crc32, ..local.held })
    }
}

/// Times may be fewer in the directory, and some other fields empty.
fn extra_fields_agree(here: &[u8], there: &[u8]) -> bool {
    let fields = |extra| extra_fields(extra).take(COMPARED_EXTRA_FIELDS);
    let agree = |id, one: &[u8], other: &[u8]| {
        one == other || other.is_empty() || TIMES.contains(&id) && one.starts_with(other)
    };
    fields(here).filter(|(id, _)| *id != ZIP64).all(|(id, one)| {
        let other = fields(there).find(|(other, _)| *other == id);
        other.is_none_or(|(_, other)| agree(id, one, other) || agree(id, other, one))
    })
}

/// Returns the fields with their ids, until none follows.
fn extra_fields(extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut fields = RecordReader(extra);
    iter::from_fn(move || {
        let (id, length) = (fields.short()?, fields.short()?);
        Some((id, fields.bytes(length)?))
    })
}

/// Like [`extra_fields`], if these are all but a few zeros for alignment.
fn checked(extra: &[u8]) -> Option<impl Iterator<Item = (u16, &[u8])>> {
    let length: usize = extra_fields(extra).map(|(_, field)| 4 + field.len()).sum();
    let rest = &extra[length..];
    (rest.len() < 4 && rest.iter().all(|byte| *byte == 0)).then(|| extra_fields(extra))
}

/// Returns the length of a descriptor at the beginning of `bytes` that says just this,
/// if there is one. It may have a signature, and sizes of 8 bytes.
pub(super) fn descriptor_bytes(bytes: &[u8], held: DataDescriptor) -> Option<usize> {
    let says_so = |signature: usize, width: usize| {
        let mut fields = RecordReader(bytes.get(signature..)?);
        let signed = signature == 0 || bytes.starts_with(&DESCRIPTOR);
        let crc32 = fields.word()?;
        let mut size = || if width == 8 { fields.long() } else { fields.word().map(u64::from) };
        let told = DataDescriptor { packed_bytes: size()?, size_bytes: size()?, crc32 };
        (signed && told == held).then_some(signature + 4 + 2 * width)
    };
    // The long ones first: an empty entry's begins like a short one.
    says_so(4, 8).or_else(|| says_so(0, 8)).or_else(|| says_so(4, 4)).or_else(|| says_so(0, 4))
}

fn length_at(fixed: &[u8], at: usize) -> usize {
    let bytes = fixed.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes).into())
}
