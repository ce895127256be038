//! Where a pull gets its bytes: `package_url` if it is offered, else
//! `download-package-direct`, which makes the main server build the package again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge_mirror_protocol::package::{PackageId, PackageRoute, Sha256};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    FetchInner, PullError, context::AttemptContext, partial::PartialPull, state::FetchState,
};
use crate::upstream::{AnnouncedPackage, OriginAnswer, PackageLocation, Upstream, UpstreamError};

/// Versions that pack page images make a package in the background; asking for it
/// directly makes it a second time, into the same file. This is far longer than
/// that takes; a package that is not offered then has failed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Clients time out, too, and have to be sent the package after that.
const LONGEST_WAIT_OF_CLIENT: Duration = Duration::from_secs(10);
/// Missing offers of one package that a round tries.
const MAX_GONE: usize = 2;

/// The known location of an active meeting's package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub title: Option<String>,
    /// The meeting's time, if the list of offers has it.
    pub time: Option<String>,
    /// The main server has a list of offers, and this meeting is in it.
    pub listed: bool,
    /// `package_url` as the main server wrote it.
    pub path: Option<String>,
    /// Announced by our own main server.
    pub sha256: Option<Sha256>,
    /// Its length, announced with the digest.
    pub size_bytes: Option<u64>,
}

impl Offer {
    /// An error if the answer brings the version that is offered, in another length: its
    /// pieces could not be checked.
    pub(super) fn check_length(&self, announced: &AnnouncedPackage) -> Result<(), PullError> {
        let is_offered = self.sha256.is_some() && announced.sha256 == self.sha256;
        match (announced.length, self.size_bytes) {
            (Some(length), Some(offered)) if is_offered && length != offered => {
                let cause = format!("it is {length} bytes long, and what is listed {offered}");
                Err(PullError::Unusable(cause))
            }
            _ => Ok(()),
        }
    }
}

/// The offers of one main server; written by `node/sync`, which keeps them, too.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub origin: String,
    pub offers: Arc<HashMap<PackageId, Offer>>,
    /// Of meetings that have not been started; no client's request leads to one.
    pub prestaged: Arc<HashMap<PackageId, Offer>>,
}

impl Catalogue {
    fn offer(&self, id: &PackageId) -> Option<&Offer> {
        self.prestaged.get(id).or_else(|| self.offers.get(id))
    }

    fn has_offers(&self) -> bool {
        self.offers.values().any(|offer| offer.path.is_some())
    }
}

/// A place to get a package from. What was pulled of it from one origin is continued
/// from an equal one only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    MainServer { base_url: String, location: PackageLocation },
}

pub(super) enum OpenError {
    /// It is not there; another origin may have it.
    Gone,
    Failed(UpstreamError),
}

impl Origin {
    fn main_server(upstream: &Upstream, location: PackageLocation) -> Self {
        Self::MainServer { base_url: upstream.origin().to_owned(), location }
    }

    pub(super) fn route(&self) -> PackageRoute {
        match self {
            Self::MainServer { location, .. } => location.route(),
        }
    }

    fn is_direct(&self) -> bool {
        matches!(self, Self::MainServer { location: PackageLocation::Direct, .. })
    }

    /// Asks for the package, and for its rest where that is `resumed`.
    pub(super) async fn open(
        &self,
        task: &AttemptContext<'_>,
        resumed: Option<&PartialPull>,
    ) -> Result<OriginAnswer, OpenError> {
        let wanted = task.request(self, resumed);
        let opened = match self {
            Self::MainServer { location, .. } => {
                task.upstream.get(task.flight.id(), location, wanted).await
            }
        };
        // Only on the direct route does "not found" mean that there is no such meeting.
        opened.map_err(|error| match error.is_not_found() && !self.is_direct() {
            true => OpenError::Gone,
            false => OpenError::Failed(error),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum OriginChoice {
    Pull(Origin),
    /// It is being made.
    WaitUntil(Instant),
}

/// `direct` is the origin without an offer; `gone` are the offers that were not there
/// in this round; `unoffered` is the time since which the meeting is listed without one.
fn choose_origin(
    offered: Option<Origin>,
    direct: Origin,
    gone: &[Origin],
    unoffered: Option<Instant>,
    awaited: bool,
    now: Instant,
) -> OriginChoice {
    let longest = if awaited { LONGEST_WAIT_OF_CLIENT } else { LONGEST_WAIT };
    match (offered, unoffered.map(|since| since + longest)) {
        (Some(origin), _) if gone.len() < MAX_GONE && !gone.contains(&origin) => {
            OriginChoice::Pull(origin)
        }
        (None, Some(until)) if gone.is_empty() && now < until => OriginChoice::WaitUntil(until),
        _ => OriginChoice::Pull(direct),
    }
}

impl FetchState {
    /// True if the main server at `origin` lists it as a package of a meeting that has not
    /// been started. All its flights are for that reason, then.
    pub(super) fn is_prestaged(&self, id: &PackageId, origin: &str) -> bool {
        self.catalogue.origin == origin && self.catalogue.prestaged.contains_key(id)
    }

    pub(super) fn set_catalogue(&mut self, catalogue: Catalogue, now: Instant) {
        let before = std::mem::take(&mut self.unoffered);
        let unoffered = catalogue.offers.iter().filter(|(_, o)| o.listed && o.path.is_none());
        let since = |id: &PackageId| before.get(id).copied().unwrap_or(now);
        self.unoffered = unoffered.map(|(id, _)| (id.clone(), since(id))).collect();
        self.offer_timed_out &=
            !catalogue.has_offers() && catalogue.origin == self.catalogue.origin;
        self.catalogue = Arc::new(catalogue);
        self.end_early_flights();
        let offered = before.keys().filter(|id| !self.unoffered.contains_key(*id));
        offered.filter_map(|id| self.flights.get(id)).for_each(|flight| flight.wake());
    }

    /// Ends pulls that clients began before it was known that the meeting has not been
    /// started. Nobody joins them any more.
    fn end_early_flights(&mut self) {
        let prestaged = &self.catalogue.prestaged;
        let early = self
            .flights
            .extract_if(|id, flight| prestaged.contains_key(id) && !flight.is_prestage());
        early.for_each(|(_, flight)| flight.run().cancel());
    }

    fn note_offer_timeout(&mut self) {
        self.offer_timed_out = !self.catalogue.has_offers();
    }
}

impl FetchInner {
    /// The offer of this main server.
    pub(super) fn offer_of(&self, id: &PackageId, base_url: &str) -> Option<Offer> {
        let state = self.state();
        state.catalogue.offer(id).filter(|_| state.catalogue.origin == base_url).cloned()
    }

    pub(super) fn offer(&self, id: &PackageId) -> Option<Offer> {
        self.state().catalogue.offer(id).cloned()
    }

    /// A retry asks for the offers again, as they may have changed.
    pub(super) async fn choose_origin(
        &self,
        task: &AttemptContext<'_>,
        gone: &[Origin],
        retry: bool,
    ) -> Result<(OriginChoice, Offer), PullError> {
        let (id, base_url) = (task.flight.id(), task.upstream.origin());
        let (known, is_prestaged, unoffered, waits) = {
            let state = self.state();
            let current = state.catalogue.origin == base_url;
            let known = state.catalogue.offer(id).filter(|_| current).cloned();
            let is_prestaged = state.is_prestaged(id, base_url);
            let waits = !state.offer_timed_out;
            let unoffered = state.unoffered.get(id).copied().filter(|_| current && waits);
            (known, is_prestaged, unoffered, waits)
        };
        let offered = |offer: &Offer| {
            let location =
                PackageLocation::from_package_url(task.upstream.fleet(), offer.path.as_deref()?)?;
            Some(Origin::main_server(task.upstream, location))
        };
        let chosen = |offer: &Offer, unoffered| {
            let direct = Origin::main_server(task.upstream, PackageLocation::Direct);
            let awaited = task.flight.is_awaited();
            choose_origin(offered(offer), direct, gone, unoffered, awaited, Instant::now())
        };
        let is_direct = |choice: &OriginChoice| matches!(choice, OriginChoice::Pull(origin) if origin.is_direct());
        let mut offer = known.unwrap_or_default();
        if is_prestaged {
            // It is in no list of offers yet.
            return Ok((chosen(&offer, None), offer));
        }
        if !retry && gone.is_empty() && (offered(&offer).is_some() || unoffered.is_some()) {
            let choice = chosen(&offer, unoffered);
            if is_direct(&choice) {
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
        if !gone.is_empty() && is_direct(&choice) {
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
        let at = |location| Origin::MainServer { base_url: "http://a:1".into(), location };
        let offer = |name: &str| at(PackageLocation::Uploads(format!("/uploads/{name}")));
        let (a, b, c, direct) = (offer("a"), offer("b"), offer("c"), at(PackageLocation::Direct));
        let pull = |origin: &Origin| OriginChoice::Pull(origin.clone());
        for (offered, gone, unoffered, awaited, expected) in [
            (Some(&a), &[][..], None, false, pull(&a)),
            (Some(&a), &[], since(1), false, pull(&a)),
            // It is not there.
            (Some(&a), std::slice::from_ref(&a), None, false, pull(&direct)),
            (Some(&b), std::slice::from_ref(&a), None, false, pull(&b)),
            (Some(&c), &[a.clone(), b.clone()], None, false, pull(&direct)),
            (None, std::slice::from_ref(&a), since(1), false, pull(&direct)),
            // It is being made.
            (None, &[], since(29), false, OriginChoice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(30), false, pull(&direct)),
            (None, &[], since(31), false, pull(&direct)),
            (None, &[], since(9), true, OriginChoice::WaitUntil(now + Duration::from_secs(1))),
            (None, &[], since(10), true, pull(&direct)),
            // There is no such list, or it is in none.
            (None, &[], None, false, pull(&direct)),
        ] {
            let chosen =
                choose_origin(offered.cloned(), direct.clone(), gone, unoffered, awaited, now);
            assert_eq!(chosen, expected, "{offered:?} {gone:?} {awaited}");
        }
    }

    #[test]
    fn the_same_place_at_another_main_server_is_another_origin() {
        let at = |base_url: &str, location: &PackageLocation| Origin::MainServer {
            base_url: base_url.to_owned(),
            location: location.clone(),
        };
        let uploads = PackageLocation::Uploads("/uploads/a".to_owned());
        for location in [&PackageLocation::Direct, &uploads] {
            assert_eq!(at("http://a:1", location), at("http://a:1", location));
            assert_ne!(at("http://a:1", location), at("http://b:1", location));
        }
        assert_ne!(at("http://a:1", &uploads), at("http://a:1", &PackageLocation::Direct));
    }
}
