//! Reads the numbers of a record one by one.

/// The rest of the record.
pub(super) struct RecordReader<'a>(pub &'a [u8]);

impl<'a> RecordReader<'a> {
    pub(super) fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, count: u16) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count.into())?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}
