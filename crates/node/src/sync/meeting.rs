//! State of one active meeting and of its stored package.

use std::sync::Arc;

use edge_mirror_protocol::package::Sha256;
use tokio::time::Instant;

use crate::{board::PullFailure, fetch::PullReason};

/// State of one active meeting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackedMeeting {
    /// The stored package, as of the last look at the store.
    pub held: Option<HeldVersion>,
    /// The main server offers a location.
    pub offered: bool,
    /// Last shown: the confirmed digest, and true if listed.
    pub shown: Option<(Sha256, bool)>,
    pub under_way: Option<PullReason>,
    pub failing: Option<PullFailure>,
    /// Failed recently: no retry before then.
    pub not_before: Option<Instant>,
}

/// State of the stored package. It belongs to these bytes: other bytes start with none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeldVersion {
    pub sha256: Sha256,
    /// The token under which it was last known to be current.
    pub confirmed: Option<Arc<str>>,
    /// Time of the last version check or, with the same outcome, pull,
    pub checked: Option<Instant>,
    /// and true if the main server said then that it is current.
    pub told: bool,
    /// A check is under way.
    pub asking: bool,
    pub(crate) stale: bool,
    pub(crate) incomparable: bool,
    /// Number of offer lists at which the offered location was empty.
    pub gone: Option<u64>,
}

impl HeldVersion {
    pub(crate) fn new(sha256: Sha256) -> Self {
        Self {
            sha256,
            confirmed: None,
            checked: None,
            told: false,
            asking: false,
            stale: false,
            incomparable: false,
            gone: None,
        }
    }

    /// The meeting may have been started again.
    pub(crate) fn invalidate(&mut self) {
        if let Some(token) = &mut self.confirmed {
            *token = Arc::default();
        }
    }
}

impl TrackedMeeting {
    /// The stored package, if the main server can be asked for its version.
    pub(crate) fn comparable(&self, announced: Option<Sha256>) -> Option<&HeldVersion> {
        let asked = self.offered && announced.is_none();
        self.held.as_ref().filter(|held| asked && !held.incomparable)
    }

    /// The stored version, if it is current as far as is known, and true if a
    /// heartbeat may list it. Without a check, the token is all there is.
    pub(crate) fn confirmed_version(
        &self,
        announced: Option<Sha256>,
        token: &str,
        since: Option<Instant>,
    ) -> Option<(Sha256, bool)> {
        let held = self.held.as_ref()?;
        let confirmed = held.confirmed.as_deref()?;
        let listed = match (announced, self.comparable(announced)) {
            (Some(announced), _) => announced == held.sha256,
            (None, Some(held)) => held.told && held.checked >= since,
            (None, None) => confirmed == token,
        };
        Some((held.sha256, listed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_heartbeat_lists_what_was_just_confirmed_and_not_all_that_is_taken_for_current() {
        let (here, other) = (Sha256::new([1; 32]), Sha256::new([2; 32]));
        let now = Instant::now();
        let before = Some(now - Duration::from_secs(1));
        let version = || HeldVersion {
            confirmed: Some("t".into()),
            checked: Some(now),
            told: true,
            ..HeldVersion::new(here)
        };
        let offered =
            |held| TrackedMeeting { held: Some(held), offered: true, ..TrackedMeeting::default() };
        let direct = |held| TrackedMeeting { offered: false, ..offered(held) };
        let old = || HeldVersion { confirmed: Some("s".into()), ..version() };
        let incomparable = |held| HeldVersion { incomparable: true, ..held };
        let listed = |meeting: TrackedMeeting, announced| {
            meeting.confirmed_version(announced, "t", Some(now)).map(|(_, listed)| listed)
        };
        for (what, meeting, announced, expected) in [
            ("nothing here", TrackedMeeting::default(), None, None),
            ("never confirmed", offered(HeldVersion::new(here)), None, None),
            ("asked for now", offered(version()), None, Some(true)),
            ("under whatever token", offered(old()), None, Some(true)),
            (
                "too long ago",
                offered(HeldVersion { checked: before, ..version() }),
                None,
                Some(false),
            ),
            ("asked in vain", offered(HeldVersion { told: false, ..version() }), None, Some(false)),
            (
                "announced",
                offered(HeldVersion { checked: before, ..version() }),
                Some(here),
                Some(true),
            ),
            ("another announced", offered(version()), Some(other), Some(false)),
            ("direct only", direct(HeldVersion { checked: before, ..version() }), None, Some(true)),
            ("direct only, another token", direct(old()), None, Some(false)),
            ("incomparable", offered(incomparable(version())), None, Some(true)),
            ("incomparable, another token", offered(incomparable(old())), None, Some(false)),
        ] {
            assert_eq!(listed(meeting, announced), expected, "{what}");
        }
    }
}
