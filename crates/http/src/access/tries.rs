//! Slows guessing down, by address. Pure: the time is passed in.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::listen::rate_limit_key;

/// Wrong tries without a wait.
const FREE: u32 = 5;
/// Each further one doubles the wait, from a second up to this.
const LONGEST: Duration = Duration::from_secs(300);
/// Wrong tries are forgotten after so long without another one.
const FORGET: Duration = Duration::from_secs(3600);
/// An attacker with more gets by, but can't fill our memory.
const MAX_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct LoginAttempts {
    wrong: HashMap<IpAddr, FailedAttempts>,
}

#[derive(Clone, Copy, Debug)]
struct FailedAttempts {
    times: u32,
    last: Instant,
}

impl FailedAttempts {
    fn until(&self) -> Instant {
        let over = self.times.checked_sub(FREE);
        let wait = over.map_or(0, |over| 1_u64 << over.min(20));
        self.last + Duration::from_secs(wait).min(LONGEST)
    }
}

impl LoginAttempts {
    /// Returns how long the address has to wait.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let left = self.wrong.get(&rate_limit_key(address))?.until().saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn note(&mut self, address: IpAddr, now: Instant) {
        self.wrong.retain(|_, wrong| now.saturating_duration_since(wrong.last) < FORGET);
        if self.wrong.len() >= MAX_ADDRESSES
            && let Some(oldest) = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last)
        {
            let oldest = *oldest.0;
            self.wrong.remove(&oldest);
        }
        let wrong = self
            .wrong
            .entry(rate_limit_key(address))
            .or_insert(FailedAttempts { times: 0, last: now });
        wrong.times = wrong.times.saturating_add(1);
        wrong.last = now;
    }

    pub(super) fn forget(&mut self, address: IpAddr) {
        self.wrong.remove(&rate_limit_key(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_mistakes_are_free_and_then_the_wait_grows() {
        let (mut tries, mut now) = (LoginAttempts::default(), Instant::now());
        let guesser: IpAddr = "10.0.0.5".parse().unwrap();
        let mut waits = Vec::new();
        for _ in 0..16 {
            tries.note(guesser, now);
            let wait = tries.wait(guesser, now).unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(tries.wait(guesser, now), None);
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(tries.wait("10.0.0.6".parse().unwrap(), now), None, "others are not concerned");
        tries.forget(guesser);
        tries.note(guesser, now);
        assert_eq!(tries.wait(guesser, now), None);
    }

    #[test]
    fn time_forgets_and_memory_is_bounded() {
        let (mut tries, now) = (LoginAttempts::default(), Instant::now());
        for _ in 0..9 {
            tries.note("10.0.0.5".parse().unwrap(), now);
        }
        tries.note("10.0.0.6".parse().unwrap(), now + FORGET);
        assert_eq!(tries.wrong.len(), 1);
        for n in 0..3000_u32 {
            tries.note(IpAddr::V4(n.into()), now + FORGET);
        }
        assert_eq!(tries.wrong.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_network_of_addresses_counts_as_one() {
        let (mut tries, now) = (LoginAttempts::default(), Instant::now());
        for n in 0..9 {
            tries.note(format!("2001:db8::{n}").parse().unwrap(), now);
        }
        assert!(tries.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        assert!(tries.wait("2001:db8:1::1".parse().unwrap(), now).is_none());
    }
}
