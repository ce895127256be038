//! Sizes as people write them there: numbers of B, KB, MB, GB or TB, each 1024 of the one
//! before. Pure.

const UNITS: [(&str, u32); 5] = [("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10), ("B", 0)];

/// None if it is no size. One with a unit may have a fraction.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    let Some((number, bits)) = unit else { return text.parse().ok() };
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * (1_u64 << bits) as f64;
    // What is larger is refused all the same.
    (bytes.is_finite() && bytes >= 0.0).then(|| bytes.min(1e18) as u64)
}

pub(super) fn format(bytes: u64) -> String {
    let scaled = |bits: u32| bytes as f64 / (1_u64 << bits) as f64;
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.2} KB", scaled(10)),
        0x10_0000..0x4000_0000 => format!("{:.2} MB", scaled(20)),
        0x4000_0000..0x100_0000_0000 => format!("{:.2} GB", scaled(30)),
        _ => format!("{:.2} TB", scaled(40)),
    }
}

/// The same as a part of a file's name.
pub(super) fn name_part(bytes: u64) -> String {
    format(bytes).replace(' ', "").replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_any_case_and_what_is_none_is_not() {
        for (text, bytes) in [
            ("100", Some(100)),
            ("100B", Some(100)),
            (" 1kb ", Some(1024)),
            ("1.5 MB", Some(1_572_864)),
            ("1GB", Some(1 << 30)),
            ("2TB", Some(1 << 41)),
            ("0", Some(0)),
            ("1e300TB", None),
            ("-1KB", None),
            ("nanKB", None),
            ("infGB", None),
            ("1.5", None),
            ("KB", None),
            ("", None),
            ("big", None),
        ] {
            let found = parse(text);
            assert!(found == bytes, "{text}: {found:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_two_digits() {
        for (bytes, text) in [
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1 << 20, "1.00 MB"),
            (3 << 29, "1.50 GB"),
            (1 << 40, "1.00 TB"),
        ] {
            assert_eq!(format(bytes), text);
        }
        assert_eq!(name_part(1536), "1_50KB");
    }
}
