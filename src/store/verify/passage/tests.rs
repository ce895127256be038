//! Archives of every kind, whole and damaged: what was unpacked on the way must
//! never change the verdict, and must spare reading whatever it can.

use std::{
    fs::File,
    io::{Cursor, Write},
};

use flate2::{Compression, write::DeflateEncoder};
use proptest::prelude::*;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::{
    config::Verify,
    store::verify::{check_zip, check_zip_seen},
};

#[derive(Clone, Debug)]
struct Part {
    content: Vec<u8>,
    packing: Packing,
    descriptor: Descriptor,
    /// The local header has its sizes in an extra field.
    zip64: bool,
    /// Bytes before it that belong to nothing.
    gap: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Stored,
    Deflated,
    Encrypted,
    /// A method that nobody here knows.
    Strange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptor {
    None,
    /// `wide`: of 8 bytes a size. `told`: the header has the sizes, too.
    Behind {
        signed: bool,
        wide: bool,
        told: bool,
    },
}

const SIGNED: Descriptor = Descriptor::Behind { signed: true, wide: false, told: false };

fn part(content: &[u8], packing: Packing, descriptor: Descriptor) -> Part {
    Part { content: content.to_vec(), packing, descriptor, zip64: false, gap: 0 }
}

/// The archive of some parts, as its format says.
fn archive(parts: &[Part]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (number, part) in parts.iter().enumerate() {
        bytes.extend(vec![0xAA; part.gap]);
        let (header_start, name) = (bytes.len(), format!("p/{number}"));
        let packed = match part.packing {
            Packing::Deflated => deflated(&part.content),
            Packing::Stored | Packing::Encrypted | Packing::Strange => part.content.clone(),
        };
        let (behind, told) = match part.descriptor {
            Descriptor::None => (0_u16, true),
            Descriptor::Behind { told, .. } => (8, told),
        };
        let flags = behind | u16::from(part.packing == Packing::Encrypted);
        let method: u16 = match part.packing {
            Packing::Stored | Packing::Encrypted => 0,
            Packing::Deflated => 8,
            Packing::Strange => 98,
        };
        let crc = crc32fast::hash(&part.content);
        let (packed_bytes, size) = (packed.len() as u32, part.content.len() as u32);
        let fixed = |crc: u32, packed: u32, size: u32, extra: usize| {
            let mut fixed = vec![20, 0];
            fixed.extend([flags, method, 0, 0].iter().flat_map(|short| short.to_le_bytes()));
            fixed.extend([crc, packed, size].iter().flat_map(|word| word.to_le_bytes()));
            fixed.extend((name.len() as u16).to_le_bytes());
            fixed.extend((extra as u16).to_le_bytes());
            fixed
        };
        let extra = if part.zip64 { zip64_extra(size, packed_bytes) } else { Vec::new() };
        bytes.extend(b"PK\x03\x04");
        bytes.extend(match (part.zip64, told) {
            (true, _) => fixed(crc, u32::MAX, u32::MAX, extra.len()),
            (false, true) => fixed(crc, packed_bytes, size, 0),
            (false, false) => fixed(0, 0, 0, 0),
        });
        bytes.extend(name.as_bytes());
        bytes.extend(extra);
        bytes.extend(&packed);
        bytes.extend(described(part.descriptor, crc, packed_bytes, size));
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(fixed(crc, packed_bytes, size, 0));
        directory.extend([0; 10]);
        directory.extend((header_start as u32).to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (begin, length, count) = (bytes.len() as u32, directory.len() as u32, parts.len() as u16);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].iter().flat_map(|short| short.to_le_bytes()));
    bytes.extend([length, begin].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([0, 0]);
    bytes
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Behind another extra field, as some write them.
fn zip64_extra(size: u32, packed: u32) -> Vec<u8> {
    let mut extra = b"UT\x05\x00\x03\0\0\0\0\x01\x00\x10\x00".to_vec();
    extra.extend([size, packed].iter().flat_map(|word| u64::from(*word).to_le_bytes()));
    extra
}

fn described(descriptor: Descriptor, crc: u32, packed: u32, size: u32) -> Vec<u8> {
    let Descriptor::Behind { signed, wide, .. } = descriptor else { return Vec::new() };
    let mut bytes = if signed { DESCRIPTOR.to_vec() } else { Vec::new() };
    bytes.extend(crc.to_le_bytes());
    for length in [packed, size] {
        let eight = u64::from(length).to_le_bytes();
        bytes.extend(if wide { &eight[..] } else { &eight[..4] });
    }
    bytes
}

/// Gives what it has in pieces of all sizes.
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

fn seen(bytes: &[u8], seed: u64) -> Seen {
    pass_through(InPieces { rest: bytes, random: fastrand::Rng::with_seed(seed) })
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// How many entries need not be read again.
fn spared(bytes: &[u8]) -> usize {
    let archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let seen = seen(bytes, 1);
    let entries = (0..archive.len()).map(|index| archive.by_index_data(index).unwrap());
    entries.filter(|entry| seen.vouches_for(entry)).count()
}

const CONTENT: &[u8] = b"meeting papers, meeting papers, meeting papers, meeting papers";

fn random_content(length: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut content);
    content
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
            // Longer than what is looked at in one piece.
            let large = part(&random_content(400_000, 3), packing, descriptor);
            let zip64 = Part { zip64: true, ..part(CONTENT, packing, Descriptor::None) };
            let mut parts = vec![small.clone(), large, zip64, small];
            // Where stored bytes of unknown number end, only a signature tells.
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
            assert_eq!(check_zip(&file_of(&bytes), Verify::Full).unwrap(), parts.len() as u64);
            assert_eq!(spared(&bytes), parts.len(), "{packing:?} {descriptor:?}");
        }
    }
    assert_eq!(spared(&archive(&[])), 0);
}

#[test]
fn what_common_writers_make_is_unpacked_on_the_way() {
    let plain = SimpleFileOptions::default();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_directory("会议", plain).unwrap();
    zip.start_file("会议/a.pdf", plain.large_file(true)).unwrap();
    zip.write_all(CONTENT).unwrap();
    assert_eq!(spared(&zip.finish().unwrap().into_inner()), 2);

    // To where nobody can go back to complete a header.
    let mut zip = ZipWriter::new_stream(Vec::new());
    for name in ["a", "b"] {
        zip.start_file(name, plain).unwrap();
        zip.write_all(CONTENT).unwrap();
    }
    assert_eq!(spared(&zip.finish().unwrap().into_inner()), 2);
}

#[test]
fn only_what_can_not_be_judged_is_read_again() {
    let good = part(CONTENT, Packing::Deflated, Descriptor::None);
    for packing in [Packing::Encrypted, Packing::Strange] {
        let odd = part(CONTENT, packing, Descriptor::None);
        assert_eq!(spared(&archive(&[good.clone(), odd, good.clone()])), 2, "{packing:?}");
    }
    let mut damaged = archive(&[good.clone(), good.clone(), good.clone()]);
    let second = damaged.windows(3).position(|three| three == b"p/1").unwrap() + 3;
    damaged[second] ^= 0xFF;
    assert_eq!(spared(&damaged), 2);
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
    assert_eq!(pass_through_within(&bytes[..], u64::MAX).count(), 2);
    assert_eq!(pass_through_within(&bytes[..], FINE).count(), 1);
}

#[test]
fn more_entries_than_an_archive_may_have_are_not_noted() {
    let one = archive(&[part(b"", Packing::Stored, Descriptor::None)]);
    let end = one.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    let many = one[..end].repeat(MAX_ENTRIES + 10);
    assert_eq!(pass_through(&many[..]).count(), MAX_ENTRIES);
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
    /// The directory says something else of what is there.
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
        let again = said(check_zip(&file, Verify::Full));
        prop_assert_eq!(said(check_zip_seen(&file, Verify::Full, &seen(&bytes, seed))), again);
    }
}
