//! Times and rates as people type them: `60s`, `2m`, `2MB/s`.

use std::time::Duration;

/// Longer than any storm.
const LONGEST_S: f64 = 86_400.0;

/// A number of seconds, or one with `ms`, `s`, `m` or `h` behind it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is wanted, such as 60s, 2m or 500ms, of at most 24h".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let unit_s = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let seconds = number * unit_s;
    if seconds > LONGEST_S { Err(wrong()) } else { Ok(Duration::from_secs_f64(seconds)) }
}

/// Bytes in a second; the units are the decimal ones, in bytes.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let wrong = || "a rate is wanted, such as 2MB/s or 500KB/s, of at least 1KB/s".to_owned();
    let text = text.strip_suffix("/s").unwrap_or(text);
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let bytes = match unit {
        "" | "B" => 1.0,
        "KB" | "kB" | "k" | "K" => 1e3,
        "MB" | "M" => 1e6,
        "GB" | "G" => 1e9,
        _ => return Err(wrong()),
    };
    let rate = number * bytes;
    if (1e3..=1e12).contains(&rate) { Ok(rate as u64) } else { Err(wrong()) }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1d", "25h", "1..2s", "nan", "inf", "1e3s", "60 S"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_in_bytes() {
        for (text, bytes) in [
            ("2MB/s", 2_000_000),
            ("2M", 2_000_000),
            ("1.5MB/s", 1_500_000),
            ("500KB/s", 500_000),
            ("500 kB/s", 500_000),
            ("1GB/s", 1_000_000_000),
            ("1000", 1000),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "999B/s", "2Mbit/s", "2MiB/s", "MB/s", "-2MB/s", "2MB/h"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
