//! Good archives, and what is wrong with those that are not.

use std::io::{Cursor, Write};

use flate2::{Compression, write::DeflateEncoder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{header::DESCRIPTOR, *};

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub content: Vec<u8>,
    pub(crate) packing: Packing,
    pub(crate) descriptor: Descriptor,
    /// The local header has its sizes in an extra field.
    pub(crate) zip64: bool,
    /// Bytes before it that belong to nothing.
    pub(crate) gap: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Stored,
    Deflated,
    Encrypted,
    /// An unknown method.
    Strange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    None,
    /// `wide`: sizes of 8 bytes. `told`: the header has the sizes, too.
    Behind {
        signed: bool,
        wide: bool,
        told: bool,
    },
}

pub(super) const SIGNED: Descriptor = Descriptor::Behind { signed: true, wide: false, told: false };

pub(super) fn part(content: &[u8], packing: Packing, descriptor: Descriptor) -> Part {
    Part { content: content.to_vec(), packing, descriptor, zip64: false, gap: 0 }
}

/// Builds the archive of some parts.
pub(super) fn archive(parts: &[Part]) -> Vec<u8> {
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

/// Follows another extra field, as some write it.
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

pub(super) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(super) const CONTENT: &[u8] = b"meeting papers, meeting papers, meeting papers, meeting papers";

pub(super) fn random_content(length: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut content);
    content
}

fn written(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn check(bytes: &[u8]) -> Result<u64, VerifyError> {
    check_zip(&file_of(bytes), VerifyLevel::Full)
}

#[test]
fn good_archives_pass_and_their_files_are_counted() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = written(&[("会议/a.pdf", CONTENT), ("b.pdf", b"")], method);
        assert_eq!(check(&bytes).unwrap(), 2);
    }
    assert_eq!(check(&written(&[], CompressionMethod::Stored)).unwrap(), 0);
}

#[test]
fn an_archive_cut_anywhere_fails() {
    let bytes = written(&[("a", CONTENT), ("b", CONTENT)], CompressionMethod::Stored);
    for length in 0..bytes.len() {
        assert!(check(&bytes[..length]).is_err(), "cut at {length} of {}", bytes.len());
    }
}

#[test]
fn an_archive_cut_behind_an_archive_inside_it_fails() {
    let inner = written(&[("a", CONTENT)], CompressionMethod::Stored);
    let outer = written(&[("inner.zip", &inner), ("b", CONTENT)], CompressionMethod::Stored);
    let inner_end = outer.windows(inner.len()).position(|w| w == inner).unwrap() + inner.len();
    assert!(check(&outer).is_ok());
    assert!(check(&outer[..inner_end]).is_err());
}

#[test]
fn a_flipped_bit_in_an_entry_fails_in_full_mode_only() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let mut bytes = written(&[("a", CONTENT)], method);
        bytes[40] ^= 1;
        assert!(check(&bytes).is_err());
        assert!(check_zip(&file_of(&bytes), VerifyLevel::Structure).is_ok());
    }
}

#[test]
fn an_error_page_is_no_package() {
    assert!(matches!(check(b"<html><body>502</body></html>"), Err(VerifyError::Structure(_))));
}

#[test]
fn an_entry_that_can_not_be_checked_says_what_to_do() {
    let mut bytes = written(&[("a", CONTENT)], CompressionMethod::Deflated);
    // Compression method 98 (PPMd) in the local header and the directory.
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[8] = 98;
    bytes[directory + 10] = 98;
    let error = check(&bytes).unwrap_err();
    assert!(matches!(error, VerifyError::Uncheckable { .. }), "{error}");
    assert!(error.to_string().contains("storage.verify"));
    assert!(check_zip(&file_of(&bytes), VerifyLevel::Structure).is_ok());
}

#[test]
fn the_digest_is_that_of_the_standard() {
    assert_eq!(
        digest(&file_of(b"abc")).unwrap().to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

const RECORD: &[u8] = b"PK\x01\x02";

fn damage(bytes: &[u8]) -> String {
    let error = check(bytes).unwrap_err();
    assert!(error.is_damage(), "{error}");
    error.to_string()
}

fn papers(count: usize) -> Vec<Part> {
    vec![part(CONTENT, Packing::Stored, Descriptor::None); count]
}

/// Offsets of the directory's records, and of its end.
fn records(bytes: &[u8]) -> Vec<usize> {
    let signatures = bytes.windows(4).enumerate();
    let found = signatures.filter(|(_, four)| [RECORD, b"PK\x05\x06"].contains(four));
    found.map(|(at, _)| at).collect()
}

#[test]
fn bytes_that_belong_to_nothing_are_damage() {
    let mut gap = papers(3);
    gap[1].gap = 7;
    assert!(damage(&archive(&gap)).contains("7 of its bytes belong to no entry"));
    let good = archive(&papers(2));
    let before = [&b"#!/bin/sh\n"[..], &good].concat();
    assert!(damage(&before).contains("does not lie where"));
    assert!(damage(&[&good[..], b"\0\0x"].concat()).contains("no end record"));
    // Before the directory, whose offset in the end record is adjusted.
    let mut between = good.clone();
    let (begin, end) = (records(&good)[0], records(&good)[2]);
    between.splice(begin..begin, [0; 9]);
    between[end + 9 + 16] += 9;
    assert!(damage(&between).contains("9 of its bytes"));
}

#[test]
fn zeros_behind_the_end_are_padding() {
    let good = archive(&papers(2));
    for zeros in [1, 22, 10_000] {
        assert_eq!(check(&[&good[..], &vec![0; zeros]].concat()).unwrap(), 2);
    }
    // As a comment, they are not.
    let mut comment = [&good[..], &[0; 8]].concat();
    comment[good.len() - 2] = 8;
    assert!(check(&comment).is_err());
}

#[test]
fn records_may_come_in_any_order_but_each_entry_has_one() {
    let good = archive(&papers(3));
    let [first, second, third, end] = records(&good)[..] else { panic!() };
    let of = |record: usize| good[record..record + (second - first)].to_vec();
    let with = |order: [usize; 3]| [&good[..first], &order.map(of).concat(), &good[end..]].concat();
    assert_eq!(check(&with([third, first, second])).unwrap(), 3);
    assert!(damage(&with([first, second, second])).contains("overlap"));
    assert!(check(&with([first, first, first])).is_err());
    for number in [2, 4] {
        let mut bytes = good.clone();
        (bytes[end + 8], bytes[end + 10]) = (number, number);
        assert!(check(&bytes).is_err(), "{number}");
    }
}

#[test]
fn an_entry_that_reaches_into_the_directory_is_damage() {
    let mut bytes = archive(&papers(1));
    let length = 30 + "p/0".len() + CONTENT.len();
    let (record, more) = (records(&bytes)[0], CONTENT.len() as u8 + 1);
    assert_eq!(record, length);
    for header in [18, record + 20] {
        (bytes[header], bytes[header + 4]) = (more, more);
    }
    assert!(damage(&bytes).contains("reaches into the directory"));
}

#[test]
fn an_encrypted_entry_is_compared_but_for_what_it_hides() {
    let bytes = archive(&[part(CONTENT, Packing::Encrypted, SIGNED)]);
    assert!(matches!(check(&bytes), Err(VerifyError::Uncheckable { .. })));
    for crc in [0, 7] {
        let mut bytes = bytes.clone();
        bytes[14] = crc;
        assert_eq!(check_zip(&file_of(&bytes), VerifyLevel::Structure).unwrap(), 1);
        bytes[18] = 1;
        assert!(check_zip(&file_of(&bytes), VerifyLevel::Structure).is_err());
    }
}

#[test]
fn a_folder_may_be_nothing_deflated() {
    let mut bytes = archive(&[part(b"", Packing::Stored, Descriptor::None)]);
    let record = records(&bytes)[0];
    (bytes[8], bytes[record + 10]) = (8, 8);
    (bytes[32], bytes[record + 48]) = (b'/', b'/');
    assert_eq!(check(&bytes).unwrap(), 0);
}

/// An archive of empty entries, with a directory of so many bytes, if given.
fn many(entries: usize, directory_bytes: Option<usize>) -> Vec<u8> {
    let bare = archive(&vec![part(b"", Packing::Stored, Descriptor::None); entries]);
    let places = records(&bare);
    let (begin, end) = (places[0], places[entries]);
    let mut more = directory_bytes.map_or(0, |bytes| bytes - (end - begin));
    let mut directory = Vec::new();
    for record in places.windows(2) {
        let comment = more.min(usize::from(u16::MAX));
        more -= comment;
        let at = directory.len();
        directory.extend(&bare[record[0]..record[1]]);
        directory[at + 32..at + 34].copy_from_slice(&(comment as u16).to_le_bytes());
        directory.extend(vec![b'x'; comment]);
    }
    let mut bytes = [&bare[..begin], &directory].concat();
    let end = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    for long in [entries, entries, directory.len(), begin] {
        bytes.extend((long as u64).to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(end.to_le_bytes());
    bytes.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0");
    bytes.extend([0xFF; 12]);
    bytes.extend([0; 2]);
    bytes
}

#[test]
fn a_zip64_end_record_is_found_and_compared() {
    let good = many(3, None);
    let end = good.len() - 22;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[end + at..end + at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    // Without a value, its fields are full; some fill the disks', too.
    for same in [with(4, &[0xFF; 4]), with(8, &[3, 0, 3, 0])] {
        assert_eq!(check(&same).unwrap(), 3);
    }
    for other in [with(4, &[1, 0, 1, 0]), with(4, &[0xFF, 0xFF]), with(8, &[4, 0, 4, 0])] {
        assert!(check(&other).is_err());
    }
    for length in [5, 60, 100, 65_532_u16] {
        let comment = vec![b'c'; length.into()];
        let commented = [&with(20, &length.to_le_bytes())[..], &comment, &[0; 3]].concat();
        assert_eq!(check(&commented).unwrap(), 3, "{length}");
    }
}

#[test]
fn a_directory_may_have_so_many_entries_and_no_more() {
    for entries in [65_534, 65_535] {
        assert_eq!(check(&many(entries, None)).unwrap(), entries as u64);
    }
    let refused = check(&many(65_536, None)).unwrap_err();
    let text = "the archive's directory has 65536 entries, at most 65535 are accepted";
    assert!(refused.is_over_limit() && refused.is_damage() && refused.to_string() == text);
}

#[test]
fn a_directory_may_have_so_many_bytes_and_no_more() {
    const MOST: usize = 16 << 20;
    for bytes in [MOST - 1, MOST] {
        assert_eq!(check(&many(300, Some(bytes))).unwrap(), 300);
    }
    let refused = check(&many(300, Some(MOST + 1))).unwrap_err();
    let text = "the archive's directory has 16777217 bytes, at most 16777216 are accepted";
    assert!(refused.is_over_limit() && refused.to_string() == text);
}
