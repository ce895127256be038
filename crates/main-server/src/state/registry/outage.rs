//! Times at which no node was heard, though some were pulling: then this machine was cut
//! off, not they, and what it believes of them is of no use until they are back.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;

/// Nodes that pull send a heartbeat each second.
const OUTAGE: Duration = Duration::from_secs(3);
/// By then, all are back: a request that was lost is given up after 10 s, and sent again.
const RETURN_TIME: Duration = Duration::from_secs(12);

/// The last call, and the last outage.
#[derive(Debug, Default)]
pub(super) struct ContactHistory {
    heard_at: UnixMillis,
    outage: Option<(UnixMillis, UnixMillis)>,
}

impl ContactHistory {
    pub(super) fn note_call(&mut self, anybody_pulls: impl FnOnce() -> bool, now: UnixMillis) {
        if now.saturating_since(self.heard_at) >= OUTAGE && anybody_pulls() {
            self.outage = Some((self.heard_at, now));
        }
        self.heard_at = now;
    }

    /// Returns the time since which nodes may seem to be gone that are not; None if all
    /// can be believed.
    pub(super) fn missed_since(&self, is_cut_off: bool, now: UnixMillis) -> Option<UnixMillis> {
        let back = self.outage.filter(|(_, to)| now.saturating_since(*to) < RETURN_TIME);
        let cut_off = is_cut_off.then_some(self.heard_at);
        back.map(|(from, _)| from).or(cut_off)
    }
}
