//! One poll of a main server: the active meetings and, where that may have
//! news, where their packages lie.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    package::PackageId,
    protocol::{MeetingStatus, OfferedPackage},
    upstream::{Upstream, UpstreamError},
};

/// The list of offers is looked at again after this long, whatever the token.
const OFFERS_STALE: Duration = Duration::from_secs(45);

/// What was known before the poll.
pub(super) struct Before {
    pub token: String,
    pub active: BTreeSet<PackageId>,
    /// Since when the list of offers is known, if it is.
    pub offers_age: Option<Duration>,
    /// Some active meeting has neither a package here nor an offer of one.
    pub waiting_for_offer: bool,
}

pub(super) struct Polled {
    pub status: MeetingStatus,
    /// None when it was not asked for, or could not be had; empty from a
    /// version of the main server that has no such list.
    pub offers: Option<Vec<OfferedPackage>>,
}

pub(super) async fn poll(
    upstream: Upstream,
    before: Before,
    limit: Duration,
) -> Result<Polled, UpstreamError> {
    let status = upstream.status(limit).await?;
    let offers = match wants_offers(&before, &status) {
        // Without the list there is still the direct way; the next poll asks again.
        true => upstream.offers(limit).await.ok().map(Option::unwrap_or_default),
        false => None,
    };
    Ok(Polled { status, offers })
}

fn wants_offers(before: &Before, status: &MeetingStatus) -> bool {
    let same = status.token == before.token
        && status.active.len() == before.active.len()
        && status.active.iter().all(|meeting| before.active.contains(&meeting.id));
    let fresh = before.offers_age.is_some_and(|age| age < OFFERS_STALE);
    !status.active.is_empty() && (!same || !fresh || before.waiting_for_offer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ActiveMeeting;

    fn status(token: &str, ids: &[&str]) -> MeetingStatus {
        let meeting = |id: &&str| ActiveMeeting {
            id: id.parse().unwrap(),
            title: String::new(),
            sha256: None,
        };
        MeetingStatus {
            token: token.into(),
            active: ids.iter().map(meeting).collect(),
            unreadable: vec![],
        }
    }

    fn before() -> Before {
        Before {
            token: "t".into(),
            active: ["a", "b"].iter().map(|id| id.parse().unwrap()).collect(),
            offers_age: Some(Duration::from_secs(1)),
            waiting_for_offer: false,
        }
    }

    #[test]
    fn offers_are_asked_for_when_there_may_be_news() {
        let same = status("t", &["a", "b"]);
        assert!(!wants_offers(&before(), &same));
        assert!(wants_offers(&before(), &status("u", &["a", "b"])));
        assert!(wants_offers(&before(), &status("t", &["a"])));
        assert!(wants_offers(&before(), &status("t", &["a", "c"])));
        assert!(wants_offers(&Before { offers_age: None, ..before() }, &same));
        assert!(wants_offers(&Before { offers_age: Some(OFFERS_STALE), ..before() }, &same));
        assert!(wants_offers(&Before { waiting_for_offer: true, ..before() }, &same));
        assert!(!wants_offers(&Before { offers_age: None, ..before() }, &status("u", &[])));
    }
}
