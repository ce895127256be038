//! Tells whether a known node is there.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;

/// A node that is not heard for this long counts as gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NodePresence {
    Present,
    /// Not heard, but not for long enough to count as silent: it has just said goodbye, or
    /// this main server has just started.
    Awaited,
    /// Since it was last heard.
    Silent(UnixMillis),
}

impl NodePresence {
    /// `listening_since` is the start of this main server: what was not heard before is
    /// nobody's fault.
    pub(crate) fn of_absent(
        last_seen: UnixMillis,
        listening_since: UnixMillis,
        now: UnixMillis,
    ) -> Self {
        match now.saturating_since(last_seen.max(listening_since)) >= SILENCE {
            true => Self::Silent(last_seen),
            false => Self::Awaited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_silent_after_thirty_seconds_of_listening() {
        let at = UnixMillis::from_secs;
        for (seen, since, now, expected) in [
            (100, 0, 129, NodePresence::Awaited),
            (100, 0, 130, NodePresence::Silent(at(100))),
            // Away for an hour itself.
            (100, 3700, 3729, NodePresence::Awaited),
            (100, 3700, 3730, NodePresence::Silent(at(100))),
        ] {
            let got = NodePresence::of_absent(at(seen), at(since), at(now));
            assert_eq!(got, expected, "{seen} {since} {now}");
        }
    }
}
