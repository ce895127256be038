//! How one active meeting fares, and what is known of its package here.

use std::sync::Arc;

use edge_mirror_protocol::package::Sha256;
use tokio::time::Instant;

use crate::{board::Failing, fetch::Reason};

/// How one active meeting fares.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// The package that is here, as of the last look at the store.
    pub held: Option<HeldVersion>,
    /// The main server says where its package lies.
    pub offered: bool,
    /// As it was last shown: confirmed, and whether listed.
    pub shown: Option<(Sha256, bool)>,
    pub under_way: Option<Reason>,
    pub failing: Option<Failing>,
    /// Failed lately: not again before then.
    pub not_before: Option<Instant>,
}

/// What is known of the package that is here. It is known of these bytes: once
/// there are others, nothing is.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldVersion {
    pub sha256: Sha256,
    /// Under which token it was last known to be current.
    pub confirmed: Option<Arc<str>>,
    /// When its version was last asked for or, with the same outcome, pulled,
    pub checked: Option<Instant>,
    /// and whether the main server said then that it is current.
    pub told: bool,
    /// It is being asked for.
    pub asking: bool,
    pub stale: bool,
    pub incomparable: bool,
    /// Nothing lay where it was offered, after so many lists of offers.
    pub gone: Option<u64>,
}

impl HeldVersion {
    pub fn new(sha256: Sha256) -> Self {
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

    /// There is reason to think that the meeting was started again.
    pub fn doubt(&mut self) {
        if let Some(token) = &mut self.confirmed {
            *token = Arc::default();
        }
    }
}

impl Meeting {
    /// The package that is here, if the main server can be asked for its version.
    pub fn comparable(&self, announced: Option<Sha256>) -> Option<&HeldVersion> {
        let asked = self.offered && announced.is_none();
        self.held.as_ref().filter(|held| asked && !held.incomparable)
    }

    /// What is here and current as far as is known, and whether a heartbeat may
    /// list it. Where there is nothing to ask, the token is all there is.
    pub fn standing(
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
        let offered = |held| Meeting { held: Some(held), offered: true, ..Meeting::default() };
        let direct = |held| Meeting { offered: false, ..offered(held) };
        let old = || HeldVersion { confirmed: Some("s".into()), ..version() };
        let incomparable = |held| HeldVersion { incomparable: true, ..held };
        let listed = |meeting: Meeting, announced| {
            meeting.standing(announced, "t", Some(now)).map(|(_, listed)| listed)
        };
        for (what, meeting, announced, expected) in [
            ("nothing here", Meeting::default(), None, None),
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
