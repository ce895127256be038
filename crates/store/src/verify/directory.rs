//! Finds an archive's directory by its last records (APPNOTE 4.3.14 to 4.3.16), before
//! anything of it is read.
//!
//! The format has only once, so no reader can notice a change: the bytes of the
//! archive's comment, and the versions in the Zip64 end record.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

use super::{MAX_DIRECTORY_BYTES, MAX_ENTRIES, VerifyError, fields::RecordReader};

const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: usize = 22;
const ZIP64_END: [u8; 4] = *b"PK\x06\x06";
const ZIP64_END_BYTES: usize = 56;
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const LOCATOR_BYTES: usize = 20;
/// Both are before the end record, or neither is.
const ZIP64_BYTES: usize = ZIP64_END_BYTES + LOCATOR_BYTES;

#[derive(Debug)]
pub(super) struct CentralDirectory {
    pub place: Range<u64>,
    pub entries: u64,
}

/// Fields of both kinds of end records.
struct EndRecord {
    disk: u32,
    entries: u64,
    size_bytes: u64,
    begin: u64,
}

impl CentralDirectory {
    /// Reads the end records; refuses a directory that is too large.
    pub(super) fn find(file: &File) -> Result<Self, VerifyError> {
        let length = file.metadata()?.len();
        // Few archives have a comment.
        for comment_bytes in [0, u16::MAX] {
            let most = (ZIP64_BYTES + END_BYTES + usize::from(comment_bytes)) as u64;
            let begin = length.saturating_sub(most);
            let mut tail = vec![0; length.min(most) as usize];
            file.read_exact_at(&mut tail, begin)?;
            // With room for the Zip64 records before it.
            let first = if begin == 0 { 0 } else { ZIP64_BYTES };
            if let Some(at) = (first..tail.len()).rev().find(|at| is_last_record(&tail[*at..])) {
                return Self::parse(tail.split_at(at), begin);
            }
        }
        Err(VerifyError::Structure("it has no end record: it is cut off, or no ZIP".to_owned()))
    }

    /// Parses the end record and the bytes before it, which begin at `place`.
    fn parse((before, end): (&[u8], &[u8]), place: u64) -> Result<Self, VerifyError> {
        let damaged = |what: &str| VerifyError::Structure(what.to_owned());
        let mut at = place + before.len() as u64;
        let mut end = EndRecord::parse(end).ok_or_else(|| damaged("its end record is damaged"))?;
        if let Some((before, wide)) = before.split_last_chunk::<ZIP64_BYTES>()
            && wide[ZIP64_END_BYTES..].starts_with(&LOCATOR)
        {
            at = place + before.len() as u64;
            end = EndRecord::parse_zip64(wide, at)
                .filter(|wide| end.is_abridged(wide))
                .ok_or_else(|| damaged("its Zip64 end record or locator is damaged"))?;
        }
        for (found, unit, accepted) in
            [(end.entries, "entries", MAX_ENTRIES), (end.size_bytes, "bytes", MAX_DIRECTORY_BYTES)]
        {
            if found > accepted {
                return Err(VerifyError::Directory { found, unit, accepted });
            }
        }
        if end.disk != 0 {
            return Err(damaged("it is one of several parts"));
        }
        // A truncated archive whose last whole entry is itself a ZIP would pass
        // for that inner one; its offsets give it away.
        if end.begin.checked_add(end.size_bytes) != Some(at) {
            return Err(damaged("its directory does not lie where its end record says"));
        }
        Ok(Self { place: end.begin..at, entries: end.entries })
    }
}

impl EndRecord {
    fn parse(record: &[u8]) -> Option<Self> {
        let mut fields = RecordReader(record.strip_prefix(&END)?);
        let disks = (fields.short()?, fields.short()?);
        let (entries_here, entries) = (fields.short()?, fields.short()?);
        let (size, begin) = (fields.word()?, fields.word()?);
        let end = Self {
            disk: disks.0.into(),
            entries: entries.into(),
            size_bytes: size.into(),
            begin: begin.into(),
        };
        (disks.0 == disks.1 && entries_here == entries).then_some(end)
    }

    /// Parses the Zip64 end record at `place`, which its locator must name.
    fn parse_zip64(records: &[u8], place: u64) -> Option<Self> {
        let mut fields = RecordReader(records.strip_prefix(&ZIP64_END)?);
        let length = fields.long()?;
        let _versions = fields.word()?;
        let disks = (fields.word()?, fields.word()?);
        let (entries_here, entries) = (fields.long()?, fields.long()?);
        let (size_bytes, begin) = (fields.long()?, fields.long()?);
        let _signature = fields.word()?;
        let located = (fields.word()?, fields.long()?, fields.word()?) == (0, place, 1);
        // Counted without the first 12 bytes.
        let whole = length == ZIP64_END_BYTES as u64 - 12;
        let sound = located && whole && disks.0 == disks.1 && entries_here == entries;
        sound.then_some(Self { disk: disks.0, entries, size_bytes, begin })
    }

    /// True if it says the same, except what does not fit its fields.
    fn is_abridged(&self, wide: &Self) -> bool {
        let same = |narrow: u64, wide: u64, most: u64| narrow == wide || narrow == most;
        same(self.disk.into(), wide.disk.into(), u16::MAX.into())
            && same(self.entries, wide.entries, u16::MAX.into())
            && same(self.size_bytes, wide.size_bytes, u32::MAX.into())
            && same(self.begin, wide.begin, u32::MAX.into())
    }
}

/// True if this is an end record followed by nothing but zeros: bsdtar fills up its
/// last block with them when it writes to a pipe. They are no comment.
fn is_last_record(tail: &[u8]) -> bool {
    let rest = || {
        let mut fields = RecordReader(tail.strip_prefix(&END)?.get(END_BYTES - 6..)?);
        let comment_bytes = fields.short()?;
        let comment = fields.bytes(comment_bytes)?;
        (!comment.starts_with(&[0])).then_some(fields.0)
    };
    rest().is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}
