//! Checks the bytes that came from other nodes piece by piece, against the digests of our
//! main server, so that wrong ones are noticed within a piece.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use edge_mirror_protocol::{package::Sha256, relay::PIECE_BYTES};
use sha2::Digest;

/// The digests of a package's pieces; set once they are known.
pub(crate) type PieceDigests = Arc<OnceLock<Vec<Sha256>>>;

/// The start of a piece whose bytes are not those of the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPiece {
    pub(crate) start: u64,
}

#[derive(Debug)]
pub(crate) struct PieceVerifier {
    expected: PieceDigests,
    /// Of the piece at hand; none until one begins.
    hasher: Option<sha2::Sha256>,
    /// Pieces hashed before the digests were known, by number.
    unchecked: VecDeque<(u64, Sha256)>,
}

impl PieceVerifier {
    pub(crate) fn new(expected: PieceDigests) -> Self {
        Self { expected, hasher: None, unchecked: VecDeque::new() }
    }

    pub(crate) fn expected(&self) -> &PieceDigests {
        &self.expected
    }

    /// Takes the bytes that follow each other from `at` on, and checks the pieces that
    /// they complete. A piece of which it has not seen the beginning is left to the
    /// digest of the whole.
    pub(crate) fn update(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<(), BadPiece> {
        while !bytes.is_empty() {
            let left = PIECE_BYTES - at % PIECE_BYTES;
            if left == PIECE_BYTES {
                self.hasher = Some(sha2::Sha256::new());
            }
            let (now, rest) = bytes.split_at(bytes.len().min(left as usize));
            if let Some(hasher) = &mut self.hasher {
                hasher.update(now);
            }
            (at, bytes) = (at + now.len() as u64, rest);
            if at.is_multiple_of(PIECE_BYTES) {
                self.end_piece(at / PIECE_BYTES - 1)?;
            }
        }
        Ok(())
    }

    /// Checks the last piece of a package of `total` bytes.
    pub(crate) fn finish(&mut self, total: u64) -> Result<(), BadPiece> {
        self.end_piece(total / PIECE_BYTES)
    }

    fn end_piece(&mut self, number: u64) -> Result<(), BadPiece> {
        if let Some(hasher) = self.hasher.take() {
            self.unchecked.push_back((number, Sha256::new(hasher.finalize().into())));
        }
        let Some(expected) = self.expected.get() else { return Ok(()) };
        while let Some((number, sha256)) = self.unchecked.pop_front() {
            let is_known = expected.get(usize::try_from(number).unwrap_or(usize::MAX));
            if is_known.is_some_and(|expected| *expected != sha256) {
                self.unchecked.clear();
                return Err(BadPiece { start: number * PIECE_BYTES });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests(bytes: &[u8]) -> Vec<Sha256> {
        let digest = |piece: &[u8]| Sha256::new(sha2::Sha256::digest(piece).into());
        bytes.chunks(PIECE_BYTES as usize).map(digest).collect()
    }

    fn feed(
        verifier: &mut PieceVerifier,
        bytes: &[u8],
        from: usize,
        step: usize,
    ) -> Result<(), BadPiece> {
        let mut at = from;
        for chunk in bytes[from..].chunks(step) {
            verifier.update(at as u64, chunk)?;
            at += chunk.len();
        }
        verifier.finish(bytes.len() as u64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_wrong_byte_is_found_with_its_piece_however_the_bytes_come(
            length in 1_usize..(3 << 20), flipped in 0.0..1.0, step in 1_usize..(2 << 20), late: bool,
        ) {
            let step = step.max(4096);
            let mut bytes: Vec<_> = (0..length).map(|n| (n / 7) as u8).collect();
            let expected: PieceDigests = Arc::default();
            if !late {
                expected.set(digests(&bytes)).unwrap();
            }
            let mut verifier = PieceVerifier::new(expected.clone());
            prop_assert_eq!(feed(&mut verifier, &bytes, 0, step), Ok(()));
            let right = digests(&bytes);
            let at = ((length as f64 * flipped) as usize).min(length - 1);
            bytes[at] ^= 1;
            let mut verifier = PieceVerifier::new(expected.clone());
            if late {
                // They come while the last piece does.
                let head = length - 1 - (length - 1) % PIECE_BYTES as usize;
                for (number, chunk) in bytes[..head].chunks(step).enumerate() {
                    prop_assert_eq!(verifier.update((number * step) as u64, chunk), Ok(()));
                }
                expected.set(right).unwrap();
                let found = verifier.update(head as u64, &bytes[head..]).and_then(|()| verifier.finish(length as u64));
                prop_assert_eq!(found, Err(BadPiece { start: at as u64 / PIECE_BYTES * PIECE_BYTES }));
            } else {
                let start = at as u64 / PIECE_BYTES * PIECE_BYTES;
                prop_assert_eq!(feed(&mut verifier, &bytes, 0, step), Err(BadPiece { start }));
            }
        }
    }

    #[test]
    fn a_piece_that_began_before_is_left_alone_and_the_next_ones_are_checked() {
        let bytes = vec![5; 3 << 20];
        let expected: PieceDigests = Arc::default();
        expected.set(digests(&bytes)).unwrap();
        let mut wrong = bytes.clone();
        (wrong[100], wrong[(2 << 20) + 1]) = (6, 6);
        let mut verifier = PieceVerifier::new(expected);
        let found = feed(&mut verifier, &wrong, 50, 1 << 20);
        assert_eq!(found, Err(BadPiece { start: 2 << 20 }));
    }
}
