//! Chooses the source of a package: `package_url` if it is offered, else
//! `download-package-direct`, which makes the main server build it again.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{FetchInner, Offer, PullError, request::AttemptContext};
use crate::upstream::PackageLocation;

/// Versions that pack page images make a package in the background; asking for it
/// directly makes it a second time, into the same file. This is far longer than
/// that takes; a package that is not offered then has failed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Clients time out, too, and have to be sent the package after that.
const LONGEST_WAIT_OF_CLIENT: Duration = Duration::from_secs(10);
/// Missing offers of one package that a round tries.
const MAX_GONE: usize = 2;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SourceChoice {
    Pull(PackageLocation),
    /// It is being made.
    WaitUntil(Instant),
}

/// `gone` are the offers that were not there in this round; `unoffered` is the time
/// since which the meeting is listed without one.
fn choose_place(
    offered: Option<PackageLocation>,
    gone: &[PackageLocation],
    unoffered: Option<Instant>,
    awaited: bool,
    now: Instant,
) -> SourceChoice {
    let longest = if awaited { LONGEST_WAIT_OF_CLIENT } else { LONGEST_WAIT };
    match (offered, unoffered.map(|since| since + longest)) {
        (Some(place), _) if gone.len() < MAX_GONE && !gone.contains(&place) => {
            SourceChoice::Pull(place)
        }
        (None, Some(until)) if gone.is_empty() && now < until => SourceChoice::WaitUntil(until),
        _ => SourceChoice::Pull(PackageLocation::Direct),
    }
}

impl FetchInner {
    /// A retry asks for the offers again, as they may have changed.
    pub(super) async fn choose_source(
        &self,
        task: &AttemptContext<'_>,
        gone: &[PackageLocation],
        retry: bool,
    ) -> Result<(SourceChoice, Offer), PullError> {
        let (id, origin) = (task.flight.id(), task.upstream.origin());
        let (known, unoffered, waits) = {
            let state = self.state();
            let current = state.catalogue.origin == origin;
            let known = state.catalogue.offers.get(id).filter(|_| current).cloned();
            let waits = !state.offer_timed_out;
            (known, state.unoffered.get(id).copied().filter(|_| current && waits), waits)
        };
        let offered =
            |offer: &Offer| PackageLocation::from_package_url(origin, offer.path.as_deref()?);
        let chosen = |offer: &Offer, unoffered| {
            choose_place(offered(offer), gone, unoffered, task.flight.is_awaited(), Instant::now())
        };
        let mut offer = known.unwrap_or_default();
        if !retry && gone.is_empty() && (offered(&offer).is_some() || unoffered.is_some()) {
            let choice = chosen(&offer, unoffered);
            if choice == SourceChoice::Pull(PackageLocation::Direct) {
                self.state().note_offer_timeout();
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
        if !gone.is_empty() && choice == SourceChoice::Pull(PackageLocation::Direct) {
            info!("meeting {id}: what the main server offers is not there, it is asked directly");
        }
        Ok((choice, offer))
    }

    /// The time since which it is listed without an offer. The next poll replaces
    /// it, so that there are no more of them than meetings.
    fn note_unoffered(&self, task: &AttemptContext<'_>) -> Instant {
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
        let place = |name: &str| PackageLocation::Uploads(format!("/uploads/{name}"));
        let (a, b, c) = (place("a"), place("b"), place("c"));
        let pull = SourceChoice::Pull;
        for (offered, gone, unoffered, awaited, expected) in [
            (Some(&a), &[][..], None, false, pull(a.clone())),
            (Some(&a), &[], since(1), false, pull(a.clone())),
            // It is not there.
            (Some(&a), std::slice::from_ref(&a), None, false, pull(PackageLocation::Direct)),
            (Some(&b), std::slice::from_ref(&a), None, false, pull(b.clone())),
            (Some(&c), &[a.clone(), b.clone()], None, false, pull(PackageLocation::Direct)),
            (None, std::slice::from_ref(&a), since(1), false, pull(PackageLocation::Direct)),
            // It is being made.
            (None, &[], since(29), false, SourceChoice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(30), false, pull(PackageLocation::Direct)),
            (None, &[], since(31), false, pull(PackageLocation::Direct)),
            (None, &[], since(9), true, SourceChoice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(10), true, pull(PackageLocation::Direct)),
            // There is no such list, or it is in none.
            (None, &[], None, false, pull(PackageLocation::Direct)),
        ] {
            let chosen = choose_place(offered.cloned(), gone, unoffered, awaited, now);
            assert_eq!(chosen, expected, "{offered:?} {gone:?} {awaited}");
        }
    }
}
