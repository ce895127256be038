//! The pieces that a side has, as the data port writes them: the high bit of the first byte
//! is piece 0, and bits beyond the last piece are 0.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    pieces: u32,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a bitfield of {bytes} bytes does not fit {pieces} pieces")]
pub struct UnusableBitfield {
    bytes: usize,
    pieces: u32,
}

impl Bitfield {
    /// Has the first `leading` of the pieces.
    pub fn with_leading(pieces: u32, leading: u32) -> Self {
        let mut this = Self { bytes: vec![0; bytes_of(pieces)], pieces };
        (0..leading.min(pieces)).for_each(|piece| this.set(piece));
        this
    }

    pub fn parse(pieces: u32, bytes: &[u8]) -> Result<Self, UnusableBitfield> {
        let unused = bytes_of(pieces) as u64 * 8 - u64::from(pieces);
        let spare = bytes.last().copied().unwrap_or(0) & ((1u16 << unused) - 1) as u8;
        if bytes.len() != bytes_of(pieces) || spare != 0 {
            return Err(UnusableBitfield { bytes: bytes.len(), pieces });
        }
        Ok(Self { bytes: bytes.to_owned(), pieces })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets a piece; one that is out of range is ignored.
    pub fn set(&mut self, piece: u32) {
        if piece < self.pieces {
            self.bytes[piece as usize / 8] |= 0x80 >> (piece % 8);
        }
    }

    pub fn has(&self, piece: u32) -> bool {
        piece < self.pieces && self.bytes[piece as usize / 8] & (0x80 >> (piece % 8)) != 0
    }
}

fn bytes_of(pieces: u32) -> usize {
    pieces.div_ceil(8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_bit_comes_first_and_spare_bits_are_0() {
        assert_eq!(Bitfield::with_leading(10, 10).as_bytes(), [0xff, 0xc0]);
        assert_eq!(Bitfield::with_leading(10, 1).as_bytes(), [0x80, 0]);
        assert_eq!(Bitfield::with_leading(8, 9).as_bytes(), [0xff]);
        assert_eq!(Bitfield::with_leading(0, 0).as_bytes(), [0u8; 0]);
        let parsed = Bitfield::parse(10, &[0x01, 0x40]).unwrap();
        let has: Vec<_> = (0..12).filter(|piece| parsed.has(*piece)).collect();
        assert_eq!(has, [7, 9]);
        for (pieces, bytes) in
            [(10, vec![0xff, 0xe0]), (10, vec![0xff]), (8, vec![0xff, 0]), (0, vec![0])]
        {
            let refused = Bitfield::parse(pieces, &bytes);
            assert_eq!(refused, Err(UnusableBitfield { bytes: bytes.len(), pieces }));
        }
        assert!(Bitfield::parse(0, &[]).is_ok());
    }
}
