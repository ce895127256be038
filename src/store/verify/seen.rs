//! What is known of an archive's entries when its directory has come.

use zip::{CompressionMethod, read::ZipFileEntry};

/// What entries were found to hold.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order of their places.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    header_start: u64,
    method: CompressionMethod,
    held: Held,
}

/// What unpacking gave: so many bytes to begin with unpack to just these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub packed_bytes: u64,
    pub size_bytes: u64,
    pub crc32: u32,
}

impl Seen {
    pub(in crate::store) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Its place lies behind those of all that were added before.
    pub(super) fn add(&mut self, header_start: u64, method: CompressionMethod, held: Held) {
        self.entries.push(Entry { header_start, method, held });
    }

    /// True if reading the entry anew would find just what the directory says.
    pub(super) fn vouches_for(&self, entry: &ZipFileEntry<'_>) -> bool {
        let directory_says = Entry {
            header_start: entry.header_start(),
            method: entry.compression(),
            held: Held {
                packed_bytes: entry.compressed_size(),
                size_bytes: entry.size(),
                crc32: entry.crc32(),
            },
        };
        let place = |seen: &Entry| seen.header_start;
        let found = self.entries.binary_search_by_key(&entry.header_start(), place);
        !entry.encrypted() && found.is_ok_and(|at| self.entries[at] == directory_says)
    }
}
