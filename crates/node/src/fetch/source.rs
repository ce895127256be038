//! Chooses the source of a package: `package_url` if it is offered, else
//! `download-package-direct`, which makes the main server build it again.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{Inner, Offer, PullError, request::Task};
use crate::upstream::Place;

/// Versions that pack page images make a package in the background; asking for it
/// directly makes it a second time, into the same file. This is far longer than
/// that takes; a package that is not offered then has failed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Clients time out, too, and have to be sent the package after that.
const LONGEST_WAIT_OF_CLIENT: Duration = Duration::from_secs(10);
/// Missing offers of one package that a round tries.
const MAX_GONE: usize = 2;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Pull(Place),
    /// It is being made.
    WaitUntil(Instant),
}

/// `gone` are the offers that were not there in this round; `unoffered` is the time
/// since which the meeting is listed without one.
fn choose(
    offered: Option<Place>,
    gone: &[Place],
    unoffered: Option<Instant>,
    awaited: bool,
    now: Instant,
) -> Choice {
    let longest = if awaited { LONGEST_WAIT_OF_CLIENT } else { LONGEST_WAIT };
    match (offered, unoffered.map(|since| since + longest)) {
        (Some(place), _) if gone.len() < MAX_GONE && !gone.contains(&place) => Choice::Pull(place),
        (None, Some(until)) if gone.is_empty() && now < until => Choice::WaitUntil(until),
        _ => Choice::Pull(Place::Direct),
    }
}

impl Inner {
    /// A retry asks for the offers again, as they may have changed.
    pub(super) async fn choose_source(
        &self,
        task: &Task<'_>,
        gone: &[Place],
        retry: bool,
    ) -> Result<(Choice, Offer), PullError> {
        let (id, origin) = (task.flight.id(), task.upstream.origin());
        let (known, unoffered, waits) = {
            let state = self.state();
            let current = state.catalogue.origin == origin;
            let known = state.catalogue.offers.get(id).filter(|_| current).cloned();
            let waits = !state.waited_in_vain;
            (known, state.unoffered.get(id).copied().filter(|_| current && waits), waits)
        };
        let offered = |offer: &Offer| Place::offered(origin, offer.path.as_deref()?);
        let chosen = |offer: &Offer, unoffered| {
            choose(offered(offer), gone, unoffered, task.flight.is_awaited(), Instant::now())
        };
        let mut offer = known.unwrap_or_default();
        if !retry && gone.is_empty() && (offered(&offer).is_some() || unoffered.is_some()) {
            let choice = chosen(&offer, unoffered);
            if choice == Choice::Pull(Place::Direct) {
                self.state().note_vain_wait();
            }
            return Ok((choice, offer));
        }
        let limit = Duration::from_secs(task.config.network.connection_timeout);
        let mut unoffered = None;
        match task.upstream.offers(limit).await {
            Ok(offers) => {
                let listed = offers.into_iter().flatten().find(|listed| listed.id == *id);
                if waits && listed.as_ref().is_some_and(|listed| listed.path.is_none()) {
                    unoffered = Some(self.note_unoffered(task));
                }
                let (path, title) = listed.map_or((None, None), |l| (l.path, Some(l.title)));
                offer.path = path;
                offer.title = title.or(offer.title);
            }
            // There may be an offer: the direct route is expensive for the main server.
            Err(error) if !error.is_unreadable() => return Err(error.into()),
            Err(error) => debug!("no list of offered packages: {error}"),
        }
        let choice = chosen(&offer, unoffered);
        if !gone.is_empty() && choice == Choice::Pull(Place::Direct) {
            info!("meeting {id}: what the main server offers is not there, it is asked directly");
        }
        Ok((choice, offer))
    }

    /// The time since which it is listed without an offer. The next poll replaces
    /// it, so that there are no more of them than meetings.
    fn note_unoffered(&self, task: &Task<'_>) -> Instant {
        let mut state = self.state();
        *state.unoffered.entry(task.flight.id().clone()).or_insert_with(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_comes_first_and_then_waiting_for_one_and_then_the_direct_way() {
        let now = Instant::now();
        let since = |seconds| Some(now - Duration::from_secs(seconds));
        let place = |name: &str| Place::Uploads(format!("/uploads/{name}"));
        let (a, b, c) = (place("a"), place("b"), place("c"));
        let pull = Choice::Pull;
        for (offered, gone, unoffered, awaited, expected) in [
            (Some(&a), &[][..], None, false, pull(a.clone())),
            (Some(&a), &[], since(1), false, pull(a.clone())),
            // It is not there.
            (Some(&a), std::slice::from_ref(&a), None, false, pull(Place::Direct)),
            (Some(&b), std::slice::from_ref(&a), None, false, pull(b.clone())),
            (Some(&c), &[a.clone(), b.clone()], None, false, pull(Place::Direct)),
            (None, std::slice::from_ref(&a), since(1), false, pull(Place::Direct)),
            // It is being made.
            (None, &[], since(29), false, Choice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(30), false, pull(Place::Direct)),
            (None, &[], since(31), false, pull(Place::Direct)),
            (None, &[], since(9), true, Choice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(10), true, pull(Place::Direct)),
            // There is no such list, or it is in none.
            (None, &[], None, false, pull(Place::Direct)),
        ] {
            let chosen = choose(offered.cloned(), gone, unoffered, awaited, now);
            assert_eq!(chosen, expected, "{offered:?} {gone:?} {awaited}");
        }
    }
}
