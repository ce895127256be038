//! Limits of bandwidth by the hour: `08:00-18:00 10MB` on working hours, `off` for
//! nothing at all. What no range names has no limit.

use std::fmt;

use edge_mirror_base::{clock, quantity};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::setting::{EXACT, MIN_BANDWIDTH};

/// A day of half hours; a longer list is a mistake.
pub(crate) const MAX_RANGES: usize = 48;
const DAY_MINUTES: u16 = 24 * 60;

/// Ranges of local time, each with its own limit. No two overlap, so that their order
/// means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct BandwidthSchedule(Vec<ScheduledRange>);

/// The limit at one time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledLimit {
    Unlimited,
    BytesPerSecond(u64),
    /// Nothing is sent or received.
    Off,
}

/// From one minute of the day to another, over midnight where that is earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ScheduledRange {
    from: u16,
    /// No longer in it; 1440 for the end of the day.
    to: u16,
    /// Bytes per second; none: nothing at all.
    rate: Option<u64>,
}

/// Fault of a schedule; each quotes the range that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    #[error(
        "{0:?} is not a range and a limit, such as \"08:00-18:00 10MB\" or \"22:00-06:00 off\""
    )]
    Unreadable(String),
    #[error("{0:?} begins and ends at the same time; 00:00-24:00 is the whole day")]
    Empty(String),
    #[error(
        "{0:?} has the limit 0; write \"off\" for no background transfers, or leave the range out for no limit"
    )]
    Zero(String),
    #[error("{0:?} has a limit below {MIN_BANDWIDTH} bytes per second; write \"off\" for none")]
    TooSlow(String),
    #[error("{0:?} and {1:?} overlap")]
    Overlapping(String, String),
    #[error("has {0} ranges; {MAX_RANGES} are allowed")]
    TooMany(usize),
}

impl BandwidthSchedule {
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, ScheduleError> {
        if texts.len() > MAX_RANGES {
            return Err(ScheduleError::TooMany(texts.len()));
        }
        let mut ranges: Vec<ScheduledRange> = Vec::with_capacity(texts.len());
        for text in texts {
            let text = text.as_ref();
            let range = ScheduledRange::parse(text)?;
            if let Some(other) = ranges.iter().position(|other| other.overlaps(&range)) {
                let other = texts[other].as_ref().to_owned();
                return Err(ScheduleError::Overlapping(other, text.to_owned()));
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }

    /// Returns the limit at a minute of the local day, from 0 to 1439.
    pub fn limit_at(&self, minute: u16) -> ScheduledLimit {
        match self.0.iter().find(|range| range.contains(minute)).map(|range| range.rate) {
            None => ScheduledLimit::Unlimited,
            Some(None) => ScheduledLimit::Off,
            Some(Some(rate)) => ScheduledLimit::BytesPerSecond(rate),
        }
    }

    /// Returns the limit by the machine's clock and time zone. Whoever works for longer
    /// asks again: the clock may be set, and daylight saving begin.
    pub fn limit_now(&self) -> ScheduledLimit {
        match self.0.is_empty() {
            true => ScheduledLimit::Unlimited,
            false => self.limit_at(clock::local_minute_of_day()),
        }
    }
}

impl ScheduledRange {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let (from, to, limit) =
            split_range(text).ok_or_else(|| ScheduleError::Unreadable(text.to_owned()))?;
        if from == to {
            return Err(ScheduleError::Empty(text.to_owned()));
        }
        if limit.eq_ignore_ascii_case("off") {
            return Ok(Self { from, to, rate: None });
        }
        match quantity::parse_rate(limit) {
            Some(0) => Err(ScheduleError::Zero(text.to_owned())),
            Some(rate) if rate < MIN_BANDWIDTH => Err(ScheduleError::TooSlow(text.to_owned())),
            Some(rate) if rate <= EXACT => Ok(Self { from, to, rate: Some(rate) }),
            Some(_) | None => Err(ScheduleError::Unreadable(text.to_owned())),
        }
    }

    fn contains(&self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.from) || other.contains(self.from)
    }
}

/// Splits `08:00-18:00 10MB` into minutes of the day and the text of the limit.
fn split_range(text: &str) -> Option<(u16, u16, &str)> {
    let (from, rest) = text.split_once('-')?;
    let (to, limit) = rest.trim_start().split_once(char::is_whitespace)?;
    let from = parse_minute(from.trim()).filter(|minute| *minute < DAY_MINUTES)?;
    Some((from, parse_minute(to)?, limit.trim()))
}

/// Parses `8:00` or `08:00`, up to `24:00`.
fn parse_minute(text: &str) -> Option<u16> {
    let digits = |text: &str, least: usize| {
        let good = (least..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| good)
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (digits(hour, 1)?, digits(minute, 2)?);
    let whole = hour * 60 + minute;
    (minute < 60 && whole <= DAY_MINUTES).then_some(whole)
}

impl ScheduleError {
    /// Returns the text in Chinese and in English.
    pub(crate) fn message(&self) -> (String, String) {
        let zh = match self {
            Self::Unreadable(text) => {
                format!("{text:?} 不是时段和限制，应如 \"08:00-18:00 10MB\" 或 \"22:00-06:00 off\"")
            }
            Self::Empty(text) => format!("{text:?} 的起止时间相同；全天请写 00:00-24:00"),
            Self::Zero(text) => {
                format!("{text:?} 的限制为 0；不允许后台传输请写 off，不限制则去掉该时段")
            }
            Self::TooSlow(text) => {
                format!("{text:?} 的限制低于每秒 {MIN_BANDWIDTH} 字节；不允许后台传输请写 off")
            }
            Self::Overlapping(one, other) => format!("{one:?} 与 {other:?} 重叠"),
            Self::TooMany(count) => format!("共有 {count} 个时段，最多 {MAX_RANGES} 个"),
        };
        (zh, self.to_string())
    }
}

impl TryFrom<Vec<String>> for BandwidthSchedule {
    type Error = ScheduleError;

    fn try_from(texts: Vec<String>) -> Result<Self, ScheduleError> {
        Self::parse(&texts)
    }
}

impl From<BandwidthSchedule> for Vec<String> {
    fn from(schedule: BandwidthSchedule) -> Self {
        schedule.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for ScheduledRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{} ", time(self.from), time(self.to))?;
        f.write_str(&self.rate.map_or_else(|| "off".to_owned(), exact_rate))
    }
}

const UNITS: &[(u64, &str)] = &[
    (1 << 30, "GiB"),
    (1_000_000_000, "GB"),
    (1 << 20, "MiB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1000, "kB"),
];

/// Formats in the largest unit that keeps the number whole, so that nothing is lost
/// between the file and the panel.
fn exact_rate(rate: u64) -> String {
    let unit = UNITS.iter().find(|(bytes, _)| rate.is_multiple_of(*bytes));
    unit.map_or_else(|| rate.to_string(), |(bytes, unit)| format!("{}{unit}", rate / bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ScheduledLimit::*, *};

    fn schedule(texts: &[&str]) -> BandwidthSchedule {
        BandwidthSchedule::parse(texts).unwrap()
    }

    fn minute(text: &str) -> u16 {
        parse_minute(text).unwrap()
    }

    #[test]
    fn a_limit_holds_from_its_first_minute_to_the_one_before_its_last() {
        let plan = schedule(&["08:00-18:00 10MB", "22:00-06:00 off", "20:00-22:00 1 MiB/s"]);
        for (time, limit) in [
            ("00:00", Off),
            ("05:59", Off),
            ("06:00", Unlimited),
            ("07:59", Unlimited),
            ("08:00", BytesPerSecond(10_000_000)),
            ("17:59", BytesPerSecond(10_000_000)),
            ("18:00", Unlimited),
            ("20:00", BytesPerSecond(1 << 20)),
            ("21:59", BytesPerSecond(1 << 20)),
            ("22:00", Off),
            ("23:59", Off),
        ] {
            assert_eq!(plan.limit_at(minute(time)), limit, "{time}");
        }
        assert_eq!(schedule(&[]).limit_at(0), Unlimited);
        assert_eq!(schedule(&[]).limit_now(), Unlimited);
        assert_eq!(schedule(&["00:00-24:00 off"]).limit_now(), Off);
    }

    #[test]
    fn a_schedule_is_shown_in_one_form_however_it_was_written() {
        for (written, shown) in [
            ("08:00-18:00 10MB", "08:00-18:00 10MB"),
            ("  8:00 - 18:00   10 mb/s ", "08:00-18:00 10MB"),
            ("22:00-06:00 OFF", "22:00-06:00 off"),
            ("00:00-24:00 10485760", "00:00-24:00 10MiB"),
            ("00:00-00:01 2.5MB", "00:00-00:01 2500kB"),
            ("23:59-00:00 12345", "23:59-00:00 12345"),
        ] {
            assert_eq!(Vec::<String>::from(schedule(&[written])), [shown]);
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_range_in_both_languages() {
        let unreadable = |text: &str| ScheduleError::Unreadable(text.to_owned());
        for text in [
            "",
            "off",
            "08:00 10MB",
            "08:00-18:00",
            "08:00-18:00 fast",
            "08:00-18:00 -1",
            "08:00-18:00 off now",
            "8-18 10MB",
            "08:0-18:00 10MB",
            "008:00-18:00 10MB",
            "08:60-18:00 10MB",
            "24:00-06:00 10MB",
            "08:00-24:01 10MB",
            "+8:00-18:00 10MB",
            "08:00-18:00 9007199254740993",
            "08：00-18：00 10MB",
        ] {
            assert_eq!(BandwidthSchedule::parse(&[text]), Err(unreadable(text)));
        }
        for (texts, part) in [
            (&["08:00-08:00 10MB"][..], "00:00-24:00"),
            (&["08:00-18:00 0"], "off"),
            (&["08:00-18:00 0 MB/s"], "off"),
            (&["08:00-18:00 9999"], "10000"),
            (&["08:00-18:00 10MB", "22:00-08:01 off"], "22:00-08:01 off"),
            (&["22:00-06:00 10MB", "23:00-05:00 off"], "22:00-06:00 10MB"),
            (&["05:00-07:00 10MB", "22:00-06:00 off"], "05:00-07:00 10MB"),
            (&["00:00-24:00 10MB", "12:00-13:00 off"], "12:00-13:00 off"),
            (&["08:00-09:00 off"; MAX_RANGES + 1], "48"),
        ] {
            let (zh, en) = BandwidthSchedule::parse(texts).unwrap_err().message();
            assert!(zh.contains(part) && en.contains(part), "{zh} {en}");
        }
    }

    fn range() -> impl Strategy<Value = ScheduledRange> {
        let rate = prop_oneof![
            Just(None),
            (MIN_BANDWIDTH..=EXACT / 2).prop_map(Some),
            (1..9000_u64).prop_map(|n| Some(n * 1_000_000)),
            (1..9000_u64).prop_map(|n| Some(n << 20)),
        ];
        (0..DAY_MINUTES, 0..=DAY_MINUTES, rate)
            .prop_filter("it has a length", |(from, to, _)| from != to)
            .prop_map(|(from, to, rate)| ScheduledRange { from, to, rate })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(range in range()) {
            prop_assert_eq!(ScheduledRange::parse(&range.to_string()), Ok(range));
        }

        #[test]
        fn no_minute_is_in_two_ranges_of_a_schedule(
            ranges in prop::collection::vec(range(), 0..6), shift in 0..6_usize,
        ) {
            let mut texts: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            let most = (0..DAY_MINUTES)
                .map(|minute| ranges.iter().filter(|range| range.contains(minute)).count())
                .max()
                .unwrap_or_default();
            let plan = BandwidthSchedule::parse(&texts);
            prop_assert_eq!(plan.is_ok(), most <= 1, "{:?}", texts);
            let shift = shift.min(texts.len());
            texts.rotate_left(shift);
            let turned = BandwidthSchedule::parse(&texts);
            prop_assert_eq!(turned.is_ok(), plan.is_ok());
            if let (Ok(plan), Ok(turned)) = (plan, turned) {
                for minute in 0..DAY_MINUTES {
                    prop_assert_eq!(plan.limit_at(minute), turned.limit_at(minute));
                }
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = BandwidthSchedule::parse(&[text]);
        }
    }
}
