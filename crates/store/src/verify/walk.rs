//! Walks an archive's directory and all that it describes. Each record is
//! compared with the entry's local header, and its bytes with both. The entries
//! and the directory must cover the archive: no byte belongs to none of them, or
//! to two. Memory is constant whatever the number of entries: they may come in any
//! order, and none is remembered.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
};

use edge_mirror_protocol::package::VerifyLevel;

use super::{
    RATIO_EXEMPT_BYTES, VerifyError,
    directory::CentralDirectory,
    header::{EntryHeader, LONGEST_DESCRIPTOR_BYTES, descriptor_bytes},
    is_bomb,
    scanned_entries::ScannedEntries,
    unpack::{DEFLATED, STORED, Unpacker},
    window::{FileCursor, ReadWindow},
};

/// Returns how many files are in the archive. The bytes of entries that were
/// `seen` are not read again.
pub(super) fn walk(
    file: &File,
    verify: VerifyLevel,
    seen: &ScannedEntries,
) -> Result<u64, VerifyError> {
    let packed = file.metadata()?.len();
    let directory = CentralDirectory::find(file)?;
    let mut records = ReadWindow::of_file(file, directory.place.clone());
    let mut entries = EntryChecker {
        window: ReadWindow::of_file(file, 0..directory.place.start),
        unpacker: Unpacker::new(),
        end: directory.place.start,
    };
    let (mut files, mut expanded, mut tiles) = (0, 0_u64, CoverageCheck::default());
    let mut told = seen.empty_with_key();
    for number in 1..=directory.entries {
        let record = EntryHeader::read_record(&mut records)?.ok_or_else(|| {
            VerifyError::Structure(format!("record {number} of its directory is damaged"))
        })?;
        expanded = expanded.saturating_add(record.held.size_bytes);
        if is_bomb(expanded, packed, RATIO_EXEMPT_BYTES) {
            return Err(VerifyError::Bomb { packed, expanded });
        }
        let spared = record.start < seen.end;
        if spared {
            told.add(record.start, record.method, record.held);
        }
        let end = entries.check(&record, verify == VerifyLevel::Full && !spared)?;
        tiles.add(record.start, end);
        files += u64::from(!matches!(record.name.last(), Some(b'/' | b'\\')));
    }
    if records.position() != directory.place.end {
        let cause = format!("its directory has more than {} records", directory.entries);
        return Err(VerifyError::Structure(cause));
    }
    tiles.check_coverage(directory.place.start)?;
    if !told.matches(seen) {
        return Err(VerifyError::Changed);
    }
    Ok(files)
}

struct EntryChecker<'a> {
    window: ReadWindow<FileCursor<'a>>,
    unpacker: Unpacker,
    /// Start of the directory.
    end: u64,
}

impl EntryChecker<'_> {
    /// Compares an entry with its record in the directory, and returns its end.
    fn check(&mut self, record: &EntryHeader<'_>, unpack: bool) -> Result<u64, VerifyError> {
        let damaged = |cause| entry_error(record, cause);
        if record.start >= self.end {
            return Err(damaged("it lies outside of the archive".to_owned()));
        }
        self.window.seek(record.start);
        self.window.expect_header(true);
        let local = EntryHeader::read_local(&mut self.window)?;
        let local = local.ok_or_else(|| damaged("it has no good header".to_owned()))?;
        if let Some(what) = record.first_mismatch(&local) {
            return Err(damaged(format!("its header and the directory differ in its {what}")));
        }
        let end = self.window.position().saturating_add(record.held.packed_bytes);
        if end > self.end {
            return Err(damaged("it reaches into the directory".to_owned()));
        }
        if unpack {
            self.unpack(record)?;
        }
        self.window.seek(end);
        if record.has_data_descriptor() {
            let bytes = self.window.peek(LONGEST_DESCRIPTOR_BYTES)?;
            let length = descriptor_bytes(bytes, record.held);
            let length = length.ok_or_else(|| damaged("its descriptor is damaged".to_owned()))?;
            self.window.consume(length);
        }
        Ok(self.window.position())
    }

    fn unpack(&mut self, record: &EntryHeader<'_>) -> Result<(), VerifyError> {
        let (held, method) = (record.held, record.method);
        let uncheckable = |cause| Err(VerifyError::Uncheckable { name: name_of(record), cause });
        if record.is_encrypted() {
            return uncheckable("it is encrypted".to_owned());
        }
        if ![STORED, DEFLATED].contains(&method) {
            return uncheckable(format!("compression method {method}"));
        }
        self.window.expect_header(false);
        let may_hold = |size_bytes, _| size_bytes <= held.size_bytes;
        let found = self.unpacker.unpack(&mut self.window, method, held.packed_bytes, may_hold)?;
        let cause = match found {
            Some(found) if found == held => return Ok(()),
            Some(found) if found.size_bytes != held.size_bytes => {
                format!("{} bytes announced, {} there", held.size_bytes, found.size_bytes)
            }
            Some(found) if found.crc32 != held.crc32 => "its CRC is another".to_owned(),
            Some(_) => "there is more than its compressed bytes".to_owned(),
            None => "its bytes can't be unpacked".to_owned(),
        };
        Err(entry_error(record, cause))
    }
}

fn entry_error(record: &EntryHeader<'_>, cause: String) -> VerifyError {
    VerifyError::Entry { name: name_of(record), cause }
}

fn name_of(record: &EntryHeader<'_>) -> String {
    String::from_utf8_lossy(record.name).chars().take(100).collect()
}

/// Checks that pieces cover a length, in whatever order they come. If they do, each
/// place at which one ends is one at which another begins: then the sum of the hashes
/// of the beginnings is that of the ends. As each ends behind its beginning, equal sums
/// mean one chain from the first place to the last, and no piece beside it.
#[derive(Default)]
struct CoverageCheck {
    /// Random, so that nobody can find other places with the same sum.
    key: RandomState,
    balance: u64,
    bytes: u64,
}

impl CoverageCheck {
    fn add(&mut self, begin: u64, end: u64) {
        let (begun, ended) = (self.key.hash_one(begin), self.key.hash_one(end));
        self.balance = self.balance.wrapping_add(begun).wrapping_sub(ended);
        self.bytes = self.bytes.saturating_add(end - begin);
    }

    fn check_coverage(mut self, length: u64) -> Result<(), VerifyError> {
        let bytes = self.bytes;
        // Close the chain from the end to the beginning: it must be a ring.
        let (begin, end) = (self.key.hash_one(length), self.key.hash_one(0_u64));
        self.balance = self.balance.wrapping_add(begin).wrapping_sub(end);
        if self.balance == 0 {
            return Ok(());
        }
        let cause = match length.checked_sub(bytes) {
            Some(bytes @ 1..) => format!("{bytes} of its bytes belong to no entry"),
            Some(0) | None => "two of its entries overlap".to_owned(),
        };
        Err(VerifyError::Structure(cause))
    }
}
