//! Archives of every kind, whole and damaged: what was unpacked on the way must
//! never change the verdict, and must spare reading whatever it can.

use std::io::{Cursor, Write};

use edge_mirror_protocol::package::VerifyLevel;
use proptest::prelude::*;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::verify::{
    check_zip, check_zip_with,
    tests::{CONTENT, Descriptor, Packing, Part, SIGNED, archive, file_of, part, random_content},
};

/// Reads in pieces of all sizes.
struct InPieces<'a> {
    rest: &'a [u8],
    random: fastrand::Rng,
}

impl Read for InPieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = 1 << self.random.u32(..18);
        let count = self.random.usize(1..=limit).min(buffer.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.rest = rest;
        Ok(count)
    }
}

fn seen(bytes: &[u8], seed: u64) -> ScannedEntries {
    scan_entries(InPieces { rest: bytes, random: fastrand::Rng::with_seed(seed) })
}

/// Number of entries that need not be read again.
fn spared(bytes: &[u8]) -> usize {
    usize::try_from(seen(bytes, 1).count()).unwrap()
}

#[test]
fn every_usual_layout_is_unpacked_on_the_way() {
    let mut descriptors = vec![Descriptor::None];
    for bits in 0..8 {
        let (signed, wide, told) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        descriptors.push(Descriptor::Behind { signed, wide, told });
    }
    for packing in [Packing::Stored, Packing::Deflated] {
        for &descriptor in &descriptors {
            let small = part(CONTENT, packing, descriptor);
            // Longer than a window.
            let large = part(&random_content(400_000, 3), packing, descriptor);
            let zip64 = Part { zip64: true, ..part(CONTENT, packing, Descriptor::None) };
            let mut parts = vec![small.clone(), large, zip64, small];
            // Only a signature tells where stored bytes of unknown number end.
            if let Descriptor::Behind { signed: false, told, .. } = descriptor
                && packing == Packing::Stored
            {
                if !told {
                    continue;
                }
            } else {
                parts.insert(1, part(b"", packing, descriptor));
            }
            let bytes = archive(&parts);
            assert_eq!(check_zip(&file_of(&bytes), VerifyLevel::Full).unwrap(), parts.len() as u64);
            assert_eq!(spared(&bytes), parts.len(), "{packing:?} {descriptor:?}");
        }
    }
    assert_eq!(spared(&archive(&[])), 0);
}

#[test]
fn entries_that_were_unpacked_on_the_way_are_not_read_again() {
    let part = part(CONTENT, Packing::Stored, SIGNED);
    let mut bytes = archive(&[part.clone(), part]);
    let seen = seen(&bytes, 2);
    let content = bytes.windows(CONTENT.len()).rposition(|there| there == CONTENT).unwrap();
    bytes[content] ^= 1;
    assert!(check_zip_with(&file_of(&bytes), VerifyLevel::Full, &seen).is_ok());
    assert!(check_zip(&file_of(&bytes), VerifyLevel::Full).is_err());
}

#[test]
fn what_the_directory_says_otherwise_is_read_again() {
    let plain = part(CONTENT, Packing::Stored, Descriptor::None);
    let bytes = archive(&[plain.clone(), plain.clone()]);
    for other in [part(b"", Packing::Stored, Descriptor::None), plain] {
        let another = archive(&[other]);
        assert!(check_zip_with(&file_of(&another), VerifyLevel::Full, &seen(&bytes, 3)).is_ok());
    }
}

#[test]
fn what_common_writers_make_is_unpacked_on_the_way() {
    let plain = SimpleFileOptions::default();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_directory("会议", plain).unwrap();
    zip.start_file("会议/a.pdf", plain.large_file(true)).unwrap();
    zip.write_all(CONTENT).unwrap();
    assert_eq!(spared(&zip.finish().unwrap().into_inner()), 2);

    // To a writer that can't go back to complete a header.
    let mut zip = ZipWriter::new_stream(Vec::new());
    for name in ["a", "b"] {
        zip.start_file(name, plain).unwrap();
        zip.write_all(CONTENT).unwrap();
    }
    assert_eq!(spared(&zip.finish().unwrap().into_inner()), 2);
}

#[test]
fn from_the_first_that_can_not_be_judged_all_are_read_again() {
    let good = part(CONTENT, Packing::Deflated, Descriptor::None);
    for packing in [Packing::Encrypted, Packing::Strange] {
        let odd = part(CONTENT, packing, Descriptor::None);
        assert_eq!(spared(&archive(&[good.clone(), odd, good.clone()])), 1, "{packing:?}");
    }
    let mut damaged = archive(&[good.clone(), good.clone(), good.clone()]);
    let second = damaged.windows(3).position(|three| three == b"p/1").unwrap() + 3;
    damaged[second] ^= 0xFF;
    assert_eq!(spared(&damaged), 1);
    let apart = Part { gap: 7, ..good.clone() };
    assert_eq!(spared(&archive(&[good.clone(), apart, good])), 1);
}

#[test]
fn descriptors_inside_stored_entries_are_told_from_their_own() {
    let inner = archive(&[part(CONTENT, Packing::Stored, SIGNED)]);
    let with_false_ends = [&b"PK\x07\x08PK\x07PK\x07\x08"[..], &inner, b"PK\x07"].concat();
    let bytes = archive(&[
        part(&with_false_ends, Packing::Stored, SIGNED),
        part(&with_false_ends.repeat(3000), Packing::Stored, SIGNED),
    ]);
    assert_eq!(spared(&bytes), 2);
}

#[test]
fn a_bomb_is_not_unpacked_to_its_end() {
    const FINE: u64 = 1 << 20;
    let zeros = part(&vec![0; 64 << 20], Packing::Deflated, Descriptor::None);
    let bytes = archive(&[part(CONTENT, Packing::Stored, Descriptor::None), zeros]);
    assert_eq!(scan_entries_within(&bytes[..], u64::MAX).count(), 2);
    assert_eq!(scan_entries_within(&bytes[..], FINE).count(), 1);
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let packing = prop_oneof![
        4 => Just(Packing::Stored),
        4 => Just(Packing::Deflated),
        1 => Just(Packing::Encrypted),
        1 => Just(Packing::Strange),
    ];
    let behind = (any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(signed, wide, told)| Descriptor::Behind { signed, wide, told });
    let descriptor = prop_oneof![2 => Just(Descriptor::None), 1 => behind];
    let content = prop_oneof![
        Just(Vec::new()),
        "[a-c]{0,300}".prop_map(String::into_bytes),
        (0_usize..5000, any::<u64>()).prop_map(|(length, seed)| random_content(length, seed)),
    ];
    let gap = prop_oneof![9 => Just(0), 1 => 1_usize..40];
    let part = (content, packing, descriptor, any::<bool>(), gap).prop_map(
        |(content, packing, descriptor, zip64, gap)| Part {
            content,
            packing,
            descriptor,
            zip64,
            gap,
        },
    );
    prop::collection::vec(part, 0..6)
}

#[derive(Clone, Debug)]
enum Harm {
    None,
    Flipped(Vec<(prop::sample::Index, u8)>),
    Cut(prop::sample::Index),
    Trailing(Vec<u8>),
    /// The directory differs from what is there.
    Directory(prop::sample::Index, u8),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        Just(Harm::None),
        prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4).prop_map(Harm::Flipped),
        any::<prop::sample::Index>().prop_map(Harm::Cut),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(Harm::Trailing),
        (any::<prop::sample::Index>(), 1_u8..).prop_map(|(at, flip)| Harm::Directory(at, flip)),
    ]
}

fn harmed(mut bytes: Vec<u8>, harm: &Harm) -> Vec<u8> {
    match harm {
        Harm::None => {}
        Harm::Flipped(places) => {
            let length = bytes.len();
            places.iter().for_each(|(at, flip)| bytes[at.index(length)] ^= flip);
        }
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Harm::Trailing(more) => bytes.extend(more),
        Harm::Directory(at, flip) => {
            let begin = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap_or(0);
            let at = begin + at.index(bytes.len() - begin);
            bytes[at] ^= flip;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_verdict_is_that_of_reading_it_all_again(
        parts in parts(),
        harm in harm(),
        seed in any::<u64>(),
    ) {
        let bytes = harmed(archive(&parts), &harm);
        let file = file_of(&bytes);
        let said = |verdict: Result<u64, _>| verdict.map_err(|error| format!("{error:?}"));
        let again = said(check_zip(&file, VerifyLevel::Full));
        prop_assert_eq!(said(check_zip_with(&file, VerifyLevel::Full, &seen(&bytes, seed))), again);
    }
}
