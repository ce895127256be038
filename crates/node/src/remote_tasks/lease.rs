//! The lease of what runs here. Pure but for the clock, which goes on while the machine
//! sleeps: the main server's does.

use std::time::Duration;

use edge_mirror_protocol::remote_tasks::STOP_AFTER;
use rustix::time::{ClockId, clock_gettime};

/// Time since the machine was started, its sleep included.
pub(super) fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// The begin of the last exchange that was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunLease(Option<Duration>);

impl RunLease {
    pub(super) fn renew(&mut self, began: Duration) {
        self.0 = self.0.max(Some(began));
    }

    /// False once this node has to end what it runs.
    pub(super) fn is_held(&self, now: Duration) -> bool {
        self.0.is_some_and(|began| now.saturating_sub(began) < STOP_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_begin_of_an_answered_exchange() {
        let at = Duration::from_secs;
        let mut lease = RunLease::default();
        assert!(!lease.is_held(at(0)), "nothing was answered");
        lease.renew(at(100));
        assert!(lease.is_held(at(100)) && lease.is_held(at(124)));
        assert!(!lease.is_held(at(125)));
        lease.renew(at(110));
        assert!(lease.is_held(at(134)));
        lease.renew(at(90));
        assert!(lease.is_held(at(134)), "an answer to an earlier one takes nothing away");
        let (first, second) = (boot_time(), boot_time());
        assert!(first <= second && first > Duration::ZERO);
    }
}
