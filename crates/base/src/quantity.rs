//! Sizes, rates, times and ports as people type them, and sizes as they read
//! them. The panel does the same in `web/js/format.js`.

use std::time::Duration;

const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Formats as `512 B`, `9.87 MiB` or `10 GiB`: three digits at most.
pub fn format_bytes(count: f64) -> String {
    let (mut value, mut unit) = (count.max(0.0), 0);
    while value >= 999.5 && unit + 1 < BINARY.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 0.9995 => 3,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let digits = format!("{value:.decimals$}");
    let digits = match decimals {
        0 => &digits,
        _ => digits.trim_end_matches('0').trim_end_matches('.'),
    };
    format!("{digits} {}", BINARY[unit])
}

/// Parses `10485760`, `10MB`, `1.5 GiB`: decimal units, and binary ones with an i, in
/// any letter case.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let unit = unit.to_ascii_lowercase();
    let prefix = unit.strip_suffix('b').unwrap_or(&unit);
    let (letter, step) = match prefix.strip_suffix('i') {
        Some(letter) if !letter.is_empty() => (letter, 1024.0_f64),
        _ => (prefix, 1000.0),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let bytes = number * step.powi(power);
    // Whole numbers are exact up to there.
    (bytes.fract() == 0.0 || power > 0).then_some(bytes)?;
    (bytes < (1_u64 << 53) as f64).then_some(bytes.round() as u64)
}

/// Parses a size per second, with `/s` or without.
pub fn parse_rate(text: &str) -> Option<u64> {
    let text = text.trim();
    parse_size(text.strip_suffix("/s").unwrap_or(text))
}

/// A day: no wait for a transfer is longer.
const LONGEST_S: f64 = 86_400.0;

/// Parses seconds, or a number with `ms`, `s`, `m` or `h` behind it; a day at most.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let unit_s = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds = number * unit_s;
    (seconds <= LONGEST_S).then(|| Duration::from_secs_f64(seconds))
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (count, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1000.0, "0.977 KiB"),
            (1024.0, "1 KiB"),
            (1_023_000.0, "999 KiB"),
            (1_048_570.0, "1 MiB"),
            (412.3 * 1_048_576.0, "412 MiB"),
            (98.76 * 1_048_576.0, "98.8 MiB"),
            (9.876 * 1_048_576.0, "9.88 MiB"),
            (10.0 * 1_073_741_824.0, "10 GiB"),
            (200.0 * 1_048_576.0, "200 MiB"),
        ] {
            assert_eq!(format_bytes(count), text, "{count}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [
            ("10485760", 10_485_760),
            ("0", 0),
            ("10GB", 10_000_000_000),
            ("10GiB", 10 << 30),
            (" 10 gib ", 10 << 30),
            ("1.5 MiB", 3 << 19),
            ("512k", 512_000),
            ("2M", 2_000_000),
            ("1TiB", 1 << 40),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "GB", "-1GB", "1.5", "10 GiBs", "2Mbit", "1..2K", "iB", "1e3", "99999TiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_in_bytes() {
        for (text, bytes) in [
            ("2MB/s", 2_000_000),
            ("2M", 2_000_000),
            ("2MiB/s", 2 << 20),
            ("500 kB/s", 500_000),
            ("1000", 1000),
        ] {
            assert_eq!(parse_rate(text), Some(bytes), "{text}");
        }
        for bad in ["", "2Mbit/s", "MB/s", "-2MB/s", "2MB/h"] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_have_units_and_seconds_need_none() {
        for (text, ms) in [
            ("60s", 60_000),
            ("60", 60_000),
            ("0", 0),
            ("2m", 120_000),
            ("1.5 min", 90_000),
            ("500ms", 500),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1d", "25h", "1..2s", "nan", "inf", "1e3s", "60 S"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
