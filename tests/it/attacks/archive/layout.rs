//! Where in an archive a bit may flip unnoticed, told by somebody else than the
//! code under test: what ZIP writes once, and what unpacks to the same content.

use std::{io::Read, ops::Range};

use flate2::read::DeflateDecoder;

const ZIP64: u16 = 1;

/// Of a good archive whose entries are in the directory's order.
pub(super) struct Layout {
    /// Bytes that nothing else in the archive repeats.
    once: Vec<Range<usize>>,
    deflated: Vec<(Range<usize>, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Nothing else in the archive says what it was.
    WrittenOnce,
    SameContent,
    Damaged,
}

fn short(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

impl Layout {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut this = Self { once: Vec::new(), deflated: Vec::new() };
        let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap();
        this.once.push(end + 22..end + 22 + short(bytes, end + 20));
        let mut entries = short(bytes, end + 10);
        let mut directory = word(bytes, end + 16);
        if end >= 76 && bytes[end - 20..].starts_with(b"PK\x06\x07") {
            let wide = end - 76;
            this.once.push(wide + 12..wide + 16);
            (entries, directory) = (word(bytes, wide + 32), word(bytes, wide + 48));
        }
        let (mut record, mut header) = (directory, 0);
        for _ in 0..entries {
            (record, header) = this.entry(bytes, record, header);
        }
        this
    }

    /// Returns where the next record and the next header begin.
    fn entry(&mut self, bytes: &[u8], record: usize, header: usize) -> (usize, usize) {
        assert!(bytes[record..].starts_with(b"PK\x01\x02"));
        assert!(bytes[header..].starts_with(b"PK\x03\x04"));
        let name = short(bytes, record + 28);
        let there = record + 46 + name..record + 46 + name + short(bytes, record + 30);
        let here = header + 30 + name..header + 30 + name + short(bytes, header + 28);
        let comment = there.end..there.end + short(bytes, record + 32);
        let made_by_and_attributes = [record + 4..record + 6, record + 36..record + 42];
        self.once.extend(made_by_and_attributes);
        self.once.push(comment.clone());
        self.extra_fields(bytes, here.clone(), there.clone());
        self.extra_fields(bytes, there, here.clone());
        let packed = here.end..here.end + word(bytes, record + 20);
        if short(bytes, record + 10) == 8 {
            self.deflated.push((packed.clone(), inflated(&bytes[packed.clone()]).unwrap()));
        }
        // Behind a descriptor, of whatever length.
        let next = bytes[packed.end..]
            .windows(4)
            .position(|four| four == b"PK\x03\x04" || four == b"PK\x01\x02");
        (comment.end, packed.end + next.unwrap())
    }

    /// Those of one header, beside those of the other.
    fn extra_fields(&mut self, bytes: &[u8], these: Range<usize>, others: Range<usize>) {
        let others = fields(bytes, others);
        for (id, field) in fields(bytes, these).into_iter().filter(|(id, _)| *id != ZIP64) {
            let other = others.iter().find(|(other, _)| *other == id);
            let repeated = other.map_or(0, |(_, other)| other.len().min(field.len()));
            // With another number nothing is to be found in the other header.
            let head = if other.is_some() { 2 } else { 4 };
            self.once.push(field.start - 4..field.start - 4 + head);
            self.once.push(field.start + repeated..field.end);
        }
    }

    /// What it means that the bit that flipped in byte `at` was not noticed.
    pub(super) fn judge(&self, flipped: &[u8], at: usize) -> Passed {
        let same = |(range, content): &(Range<usize>, Vec<u8>)| {
            range.contains(&at) && inflated(&flipped[range.clone()]).is_some_and(|c| c == *content)
        };
        match self.once.iter().any(|range| range.contains(&at)) {
            true => Passed::WrittenOnce,
            false if self.deflated.iter().any(same) => Passed::SameContent,
            false => Passed::Damaged,
        }
    }
}

fn fields(bytes: &[u8], place: Range<usize>) -> Vec<(u16, Range<usize>)> {
    let (mut found, mut at) = (Vec::new(), place.start);
    while at < place.end {
        let field = at + 4..at + 4 + short(bytes, at + 2);
        found.push((short(bytes, at) as u16, field.clone()));
        at = field.end;
    }
    assert_eq!(at, place.end);
    found
}

fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut content).ok()?;
    Some(content)
}
