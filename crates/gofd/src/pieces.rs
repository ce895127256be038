//! The pieces of a task: its files one behind the other, cut at equal distances. A piece
//! may have the end of one file and the beginning of the next.

use sha1::{Digest, Sha1};

use crate::frame::BlockRequest;

/// A piece of tasks of GoFD's server, and of ours.
pub const PIECE_BYTES: u64 = 1 << 20;
/// The part of a piece that is asked for at a time.
pub const BLOCK_BYTES: u32 = 32 << 10;
/// Pieces that a node takes; GoFD's are of a mebibyte. A piece is in memory while it comes.
const PIECE_SIZES: std::ops::RangeInclusive<u64> = 16 << 10..=4 << 20;
/// A field of so many bits is the longest frame.
const MAX_PIECES: u64 = ((128 << 10) - 1) * 8;
/// The longest block that a frame has room for.
const MAX_BLOCK: u32 = (128 << 10) - 9;

pub type PieceDigest = [u8; 20];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceLayout {
    length: u64,
    piece_bytes: u64,
}

impl PieceLayout {
    /// None if no GoFD could send it, or pieces are too large for memory.
    pub fn new(length: u64, piece_bytes: u64) -> Option<Self> {
        let fits = PIECE_SIZES.contains(&piece_bytes) && length.div_ceil(piece_bytes) <= MAX_PIECES;
        fits.then_some(Self { length, piece_bytes })
    }

    pub fn length(self) -> u64 {
        self.length
    }

    pub fn piece_bytes(self) -> u64 {
        self.piece_bytes
    }

    pub fn pieces(self) -> u32 {
        u32::try_from(self.length.div_ceil(self.piece_bytes)).unwrap_or(u32::MAX)
    }

    /// The position of a piece among all bytes.
    pub fn offset(self, piece: u32) -> u64 {
        u64::from(piece) * self.piece_bytes
    }

    /// The bytes of a piece; the last one may be shorter.
    pub fn piece_length(self, piece: u32) -> u64 {
        self.length.saturating_sub(self.offset(piece)).min(self.piece_bytes)
    }

    /// The position and length of what is asked for; None if it is not there.
    pub fn range(self, asked: BlockRequest) -> Option<(u64, usize)> {
        let BlockRequest { piece, begin, length } = asked;
        let fits = piece < self.pieces()
            && (1..=MAX_BLOCK).contains(&length)
            && u64::from(begin) + u64::from(length) <= self.piece_length(piece);
        fits.then_some((self.offset(piece) + u64::from(begin), length as usize))
    }

    /// The blocks of a piece, in order.
    pub fn blocks(self, piece: u32) -> impl Iterator<Item = BlockRequest> {
        let length = u32::try_from(self.piece_length(piece)).unwrap_or_default();
        (0..length).step_by(BLOCK_BYTES as usize).map(move |begin| BlockRequest {
            piece,
            begin,
            length: BLOCK_BYTES.min(length - begin),
        })
    }
}

pub fn piece_digest(bytes: &[u8]) -> PieceDigest {
    Sha1::digest(bytes).into()
}

/// Digests the pieces of files that are read one after the other.
#[derive(Debug)]
pub struct PieceHasher {
    piece_bytes: u64,
    missing: u64,
    hasher: Sha1,
    digests: Vec<PieceDigest>,
}

impl Default for PieceHasher {
    fn default() -> Self {
        Self {
            piece_bytes: PIECE_BYTES,
            missing: PIECE_BYTES,
            hasher: Sha1::new(),
            digests: Vec::new(),
        }
    }
}

impl PieceHasher {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = bytes.len().min(usize::try_from(self.missing).unwrap_or(usize::MAX));
            let (head, rest) = bytes.split_at(take);
            self.hasher.update(head);
            self.missing -= take as u64;
            bytes = rest;
            if self.missing == 0 {
                self.end_piece();
            }
        }
    }

    fn end_piece(&mut self) {
        self.digests.push(self.hasher.finalize_reset().into());
        self.missing = self.piece_bytes;
    }

    pub fn finish(mut self) -> Vec<PieceDigest> {
        if self.missing < self.piece_bytes {
            self.end_piece();
        }
        self.digests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(piece: u32, begin: u32, length: u32) -> BlockRequest {
        BlockRequest { piece, begin, length }
    }

    #[test]
    fn the_last_piece_is_shorter_and_nothing_behind_it_is_there() {
        let layout = PieceLayout::new(2 * PIECE_BYTES + 40_000, PIECE_BYTES).unwrap();
        assert_eq!(layout.pieces(), 3);
        assert_eq!((layout.piece_length(1), layout.piece_length(2)), (PIECE_BYTES, 40_000));
        let blocks: Vec<_> = layout.blocks(2).collect();
        assert_eq!(blocks, [asked(2, 0, 32_768), asked(2, 32_768, 7_232)]);
        assert_eq!(layout.blocks(0).count(), 32);
        assert_eq!(layout.range(asked(2, 32_768, 7_232)), Some((2 * PIECE_BYTES + 32_768, 7_232)));
        for bad in [
            asked(3, 0, 1),
            asked(2, 0, 0),
            asked(2, 32_768, 7_233),
            asked(0, u32::MAX, u32::MAX),
            asked(0, 0, MAX_BLOCK + 1),
            asked(u32::MAX, 0, 1),
        ] {
            assert_eq!(layout.range(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_no_piece_and_too_much_is_refused() {
        let empty = PieceLayout::new(0, PIECE_BYTES).unwrap();
        assert_eq!((empty.pieces(), empty.blocks(0).count()), (0, 0));
        assert!(PieceLayout::new(MAX_PIECES * PIECE_BYTES, PIECE_BYTES).is_some());
        for (length, piece) in
            [(MAX_PIECES * PIECE_BYTES + 1, PIECE_BYTES), (1, 0), (1, 1 << 30), (u64::MAX, 1 << 20)]
        {
            assert_eq!(PieceLayout::new(length, piece), None, "{length} {piece}");
        }
    }

    #[test]
    fn digests_are_those_of_the_pieces_wherever_reads_end() {
        let bytes: Vec<u8> = (0..PIECE_BYTES * 2 + 5).map(|at| (at % 251) as u8).collect();
        let expected: Vec<_> = bytes.chunks(1 << 20).map(piece_digest).collect();
        for step in [1 << 20, 700_001, 3 << 20] {
            let mut hasher = PieceHasher::default();
            bytes.chunks(step).for_each(|part| hasher.update(part));
            assert_eq!(hasher.finish(), expected, "{step}");
        }
        assert!(PieceHasher::default().finish().is_empty());
        let hex: String = piece_digest(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
