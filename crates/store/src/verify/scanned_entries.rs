//! Summary of an archive's entries, to be compared with its directory: one number
//! for all of them, however many there are.

use std::hash::{BuildHasher, RandomState};

use super::unpack::DataDescriptor;

/// Content of the entries from the archive's beginning up to `end`. Their hashes are
/// added up, as the directory may have them in another order.
#[derive(Debug, Default)]
pub struct ScannedEntries {
    entries: u64,
    hashes: u64,
    pub(super) end: u64,
    /// Random, so that nobody can make entries whose sum is another's.
    key: RandomState,
}

impl ScannedEntries {
    pub(crate) fn count(&self) -> u64 {
        self.entries
    }

    /// An empty summary to be compared with this.
    pub(super) fn empty_with_key(&self) -> Self {
        Self { key: self.key.clone(), ..Self::default() }
    }

    pub(super) fn add(&mut self, start: u64, method: u16, held: DataDescriptor) {
        self.entries += 1;
        self.hashes = self.hashes.wrapping_add(self.key.hash_one((start, method, held)));
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        (self.entries, self.hashes) == (other.entries, other.hashes)
    }
}
