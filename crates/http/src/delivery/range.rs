//! The `Range` header (RFC 9110, 14.1.2). Pure.

use std::ops::Range;

/// The range that a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// No range that we serve: another unit, several ranges, or invalid. A server may
    /// ignore the header then and send the whole.
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

pub fn parse(value: &str, size: u64) -> RangeRequest {
    let Some((unit, set)) = value.split_once('=') else { return RangeRequest::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RangeRequest::Whole;
    }
    // The list syntax allows empty members (RFC 9110, 5.6.1).
    let mut specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return RangeRequest::Whole };
    let Some((first, last)) = spec.split_once('-') else { return RangeRequest::Whole };
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => from(first, size, size),
        (Some(first), Some(last)) if first <= last => from(first, last.saturating_add(1), size),
        (None, Some(suffix)) if first.is_empty() => match size.min(suffix) {
            0 => RangeRequest::Unsatisfiable,
            length => RangeRequest::Part(size - length..size),
        },
        _ => RangeRequest::Whole,
    }
}

fn from(first: u64, end: u64, size: u64) -> RangeRequest {
    if first < size {
        RangeRequest::Part(first..end.min(size))
    } else {
        RangeRequest::Unsatisfiable
    }
}

/// Parses digits only; a number beyond 64 bits is beyond every package.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        let part = |range: Range<u64>| RangeRequest::Part(range);
        for (value, expected) in [
            ("bytes=0-3", part(0..4)),
            ("bytes=0-0", part(0..1)),
            ("bytes=9-", part(9..10)),
            ("bytes=5-99", part(5..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-99", part(0..10)),
            ("BYTES=2-3", part(2..4)),
            ("bytes= 2-3 ,", part(2..4)),
            ("bytes=0-99999999999999999999999", part(0..10)),
            ("bytes=10-", RangeRequest::Unsatisfiable),
            ("bytes=10-12", RangeRequest::Unsatisfiable),
            ("bytes=99999999999999999999999-", RangeRequest::Unsatisfiable),
            ("bytes=-0", RangeRequest::Unsatisfiable),
            ("bytes=3-2", RangeRequest::Whole),
            ("bytes=-", RangeRequest::Whole),
            ("bytes=", RangeRequest::Whole),
            ("bytes=a-b", RangeRequest::Whole),
            ("bytes=+1-2", RangeRequest::Whole),
            ("bytes=1-+2", RangeRequest::Whole),
            ("bytes=0-1,3-4", RangeRequest::Whole),
            ("items=0-3", RangeRequest::Whole),
            ("0-3", RangeRequest::Whole),
        ] {
            assert_eq!(parse(value, 10), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_package(value in "bytes=[0-9]{0,4}-[0-9]{0,4}", size in 0_u64..5000) {
            if let RangeRequest::Part(range) = parse(&value, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn what_is_asked_for_is_what_is_given(first in 0_u64..5000, length in 1_u64..5000, size in 1_u64..5000) {
            let value = format!("bytes={first}-{}", first + length - 1);
            let expected = if first < size { RangeRequest::Part(first..size.min(first + length)) } else { RangeRequest::Unsatisfiable };
            prop_assert_eq!(parse(&value, size), expected);
        }

        #[test]
        fn nonsense_never_panics(value in ".{0,40}", size in any::<u64>()) {
            parse(&value, size);
        }
    }
}
