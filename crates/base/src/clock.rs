//! Times and clocks. Times are whole milliseconds; what is stored or sent as seconds is
//! converted where it is written and read.

use std::{
    ops::Add,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chrono::Timelike;

/// A time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// Reads the machine's clock. It may be set while the process runs: whoever compares
    /// times with each other for more than display asks a [`SteadyClock`].
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(0) + since
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Rounds to milliseconds; a time before 1970 is 1970.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1000.0).round() as u64)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Returns the time that has passed since `earlier`; None if that is later.
    pub fn checked_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }

    /// Returns the time that has passed since `earlier`; nothing if that is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.checked_since(earlier).unwrap_or_default()
    }

    /// Returns the time that was `age` ago, at the earliest the epoch.
    pub fn saturating_sub(self, age: Duration) -> Self {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// The machine's clock in whole seconds, as it is stored and sent.
pub fn now_s() -> u64 {
    UnixMillis::now().as_secs()
}

/// The minute of the local day, from 0 to 1439, by the machine's time zone.
pub fn local_minute_of_day() -> u16 {
    let now = chrono::Local::now();
    (now.hour() * 60 + now.minute()) as u16
}

/// A clock that starts as the machine's and never jumps: that one may be set while a
/// server runs, which must neither drop every node nor keep dead ones.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    began: Instant,
    began_at: UnixMillis,
}

impl SteadyClock {
    pub fn start() -> Self {
        Self { began: Instant::now(), began_at: UnixMillis::now() }
    }

    pub fn now(&self) -> UnixMillis {
        self.began_at + self.began.elapsed()
    }
}

/// Serde's `with` for times that are seconds with a fraction.
pub mod fractional_seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UnixMillis;

    pub fn serialize<S: Serializer>(time: &UnixMillis, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixMillis, D::Error> {
        f64::deserialize(from).map(UnixMillis::from_secs_f64)
    }

    /// The same where there may be no time.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::UnixMillis;

        pub fn serialize<S: Serializer>(
            time: &Option<UnixMillis>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            time.map(UnixMillis::as_secs_f64).serialize(to)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<UnixMillis>, D::Error> {
            Ok(Option::<f64>::deserialize(from)?.map(UnixMillis::from_secs_f64))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_before_1970_and_one_without_end_stay_within_bounds() {
        for (seconds, millis) in [
            (-1.0, 0),
            (f64::NAN, 0),
            (0.0004, 0),
            (0.0005, 1),
            (1_763_712_345.678, 1_763_712_345_678),
            (f64::INFINITY, u64::MAX),
        ] {
            assert_eq!(UnixMillis::from_secs_f64(seconds).as_millis(), millis, "{seconds}");
        }
        let last = UnixMillis::from_millis(u64::MAX);
        assert_eq!((last + Duration::MAX, UnixMillis::from_secs(u64::MAX)), (last, last));
    }

    #[test]
    fn a_steady_clock_starts_as_the_machines_and_only_advances() {
        let (before, clock) = (UnixMillis::now(), SteadyClock::start());
        let mut last = clock.now();
        assert!(last.checked_since(before).is_some_and(|since| since < Duration::from_secs(60)));
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    proptest! {
        #[test]
        fn seconds_with_a_fraction_read_back_as_the_same_time(millis in 0..1_u64 << 50) {
            let time = UnixMillis::from_millis(millis);
            prop_assert_eq!(UnixMillis::from_secs_f64(time.as_secs_f64()), time);
            let text = serde_json::to_string(&time.as_secs_f64()).unwrap();
            let read = fractional_seconds::deserialize(&mut serde_json::Deserializer::from_str(&text));
            prop_assert_eq!(read.unwrap(), time);
        }

        #[test]
        fn what_was_added_is_what_has_passed(millis in 0..1_u64 << 50, more in 0..1_u64 << 40) {
            let (time, more) = (UnixMillis::from_millis(millis), Duration::from_millis(more));
            prop_assert_eq!((time + more).checked_since(time), Some(more));
            prop_assert_eq!(time.saturating_since(time + more), Duration::ZERO);
        }
    }
}
