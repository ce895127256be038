//! Pulls from other nodes, which have the package or are still pulling it themselves: the
//! parent that our main server names, or that the nodes' ranks give; then its spares; then
//! the main server, as if there were no other nodes.

mod pull;
mod search;
mod source;
mod watch;

use std::time::Duration;

use edge_mirror_protocol::{
    package::{PackageId, Validators},
    relay::{Sibling, auth::PackageVersion},
};
use edge_mirror_settings::Config;
use edge_mirror_store::StoreError;
use tokio::time::Instant;

use super::{
    FetchInner, Flight, Offer, PullError, PullReason, PulledPackage, SourceReason,
    attempt::RoundState,
    context::AttemptContext,
    origin::{Origin, OriginChoice},
};
use crate::{
    board::ParentLoss,
    siblings::ParentCandidates,
    upstream::{AnnouncedPackage, PackageLocation, SiblingError},
};

/// Changes of parent in one round after which the main server is left alone with it.
const MAX_CHANGES: usize = 64;

/// A parent that was down may be asked again after this time.
const DOWN_PAUSE: Duration = Duration::from_secs(10);
/// A loop lasts while some nodes follow a plan, and others still the one before.
const LOOP_PAUSE: Duration = Duration::from_secs(1);
/// Ranked nodes of which none has given a byte for so long are given up: the main server is
/// there, too.
const FRUITLESS_TIME: Duration = Duration::from_secs(10);

/// The parents of one round.
#[derive(Default)]
pub(super) struct RelayRound {
    left: Vec<LeftParent>,
    /// Those that sent bytes of the package at hand.
    contributors: Vec<String>,
    /// The parent that was left last, with the reason, for the log.
    loss: Option<(String, ParentLoss, String)>,
    changes: usize,
    is_disabled: bool,
    /// The reason to ask the main server, if it is asked.
    direct: Option<SourceReason>,
    /// The version that is being pulled, or was last.
    version: Option<PackageVersion>,
}

struct LeftParent {
    node_id: String,
    /// None for the rest of the round.
    until: Option<Instant>,
    /// It works, but slowly.
    works: bool,
}

/// The end of a try with one parent.
pub(super) enum SiblingPull {
    Pulled(PulledPackage),
    /// It broke off, and is there: it goes on where it stopped.
    Resumable,
    Lost(ParentLoss, String),
    /// Something more urgent came.
    GaveWay,
}

/// The end of the tries with other nodes.
pub(super) enum SiblingsTried {
    Pulled(PulledPackage),
    GaveWay,
    /// The main server is to be asked.
    NoneLeft,
}

/// A package as the main server announces it.
struct RelayedPackage {
    version: PackageVersion,
    validators: Validators,
    length: Option<u64>,
    /// The place that the other nodes stand in for.
    origin: Origin,
    offer: Offer,
}

impl RelayRound {
    /// Notes the version of the bytes that the main server sends.
    pub(super) fn note_version(&mut self, version: Option<&PackageVersion>) {
        self.version = version.cloned();
    }

    /// Whatever parents do, a round comes to an end.
    fn count_change(&mut self) {
        self.changes += 1;
        self.is_disabled |= self.changes >= MAX_CHANGES;
    }

    /// No other node is asked any more in this round.
    pub(super) fn disable(&mut self) {
        self.is_disabled = true;
    }

    /// The node to ask. Rather than the main server, one that our main server names and
    /// that was left only for being slow: it is about to name another one.
    fn choose<'a>(&self, candidates: &'a ParentCandidates, now: Instant) -> Option<&'a Sibling> {
        let works =
            |parent: &&Sibling| self.left(&parent.node_id, now).is_none_or(|left| left.works);
        self.not_left(candidates, now)
            .next()
            .or_else(|| candidates.parents.iter().find(works).filter(|_| candidates.is_planned))
    }

    fn not_left<'a>(
        &self,
        candidates: &'a ParentCandidates,
        now: Instant,
    ) -> impl Iterator<Item = &'a Sibling> {
        let parents = candidates.parents.iter();
        parents.filter(move |parent| self.left(&parent.node_id, now).is_none())
    }

    fn left(&self, node_id: &str, now: Instant) -> Option<&LeftParent> {
        let is_left = |left: &&LeftParent| {
            left.node_id == node_id && left.until.is_none_or(|until| now < until)
        };
        self.left.iter().find(is_left)
    }

    fn leave(&mut self, node_id: &str, loss: ParentLoss, now: Instant) {
        let until = match loss {
            ParentLoss::Unreachable | ParentLoss::Refused => Some(now + DOWN_PAUSE),
            ParentLoss::Circular => Some(now + LOOP_PAUSE),
            // The plan decides when it is asked again, or another version does: it is
            // remembered as a bad parent of this one.
            ParentLoss::Reassigned | ParentLoss::Damaged => Some(now),
            ParentLoss::Unproven | ParentLoss::TooSlow | ParentLoss::Stalled => None,
        };
        self.left.retain(|left| left.node_id != node_id);
        let works = loss == ParentLoss::TooSlow;
        self.left.push(LeftParent { node_id: node_id.to_owned(), until, works });
    }
}

impl From<SiblingError> for ParentLoss {
    fn from(error: SiblingError) -> Self {
        match error {
            SiblingError::Unreachable(_) | SiblingError::TimedOut(_) => Self::Unreachable,
            SiblingError::Unproven(_) | SiblingError::WrongCertificate => Self::Unproven,
            SiblingError::NotReady(_)
            | SiblingError::Refused(_)
            | SiblingError::OtherLength { .. }
            | SiblingError::Unusable(_) => Self::Refused,
        }
    }
}

/// The loss that an error of a pull is, if another source may do better.
fn loss_of(error: &PullError) -> Option<ParentLoss> {
    match error {
        PullError::Stalled(_) | PullError::TooSlow(_) => Some(ParentLoss::Stalled),
        PullError::Interrupted { .. } => Some(ParentLoss::Unreachable),
        PullError::Unusable(_) => Some(ParentLoss::Damaged),
        // There may be room for what the main server has.
        PullError::Store(StoreError::NoRoom(_)) => Some(ParentLoss::Refused),
        PullError::Upstream(_)
        | PullError::Store(_)
        | PullError::Piece(_)
        | PullError::Stopped
        | PullError::Busy
        | PullError::ClientBusy
        | PullError::TooManyWaiters
        | PullError::NotStarted => None,
    }
}

fn loss_or_error(error: PullError) -> Result<SiblingPull, PullError> {
    match loss_of(&error) {
        Some(loss) => Ok(SiblingPull::Lost(loss, error.to_string())),
        None => Err(error),
    }
}

fn lost(error: SiblingError) -> SiblingPull {
    let cause = error.to_string();
    SiblingPull::Lost(error.into(), cause)
}

/// The reason to ask the main server where none of these nodes gives the package.
fn reason_without_parent(known: &ParentCandidates) -> SourceReason {
    match known {
        ParentCandidates { parents, .. } if !parents.is_empty() => SourceReason::NoParentLeft,
        ParentCandidates { is_planned: true, .. } => SourceReason::Assigned,
        ParentCandidates { is_first: true, .. } => SourceReason::Ranked,
        ParentCandidates { .. } => SourceReason::NoSibling,
    }
}

impl FetchInner {
    /// Pulls the package from another node.
    pub(super) async fn try_siblings(
        &self,
        flight: &Flight,
        config: &Config,
        round: &mut RoundState,
        retry: bool,
    ) -> Result<SiblingsTried, PullError> {
        round.relay.direct = self.direct_reason(flight, config, &round.relay);
        if round.relay.direct.is_some() {
            return Ok(SiblingsTried::NoneLeft);
        }
        let (upstream, store) = (self.connector.upstream(config), self.board.store());
        let task = self.context(flight, config, &upstream, &store);
        let (id, began, before) = (flight.id(), Instant::now(), flight.received_bytes());
        while round.relay.direct.is_none() {
            let package = match self.relayed_package(&task, round, retry).await {
                Ok(package) => package,
                Err(reason) => {
                    round.relay.direct = Some(reason);
                    break;
                }
            };
            // Live: relaying may have been switched off meanwhile.
            let config = self.settings.current();
            let known = self.siblings.parents(&config, id, &package.version).await;
            let without_them = reason_without_parent(&known);
            round.relay.version = Some(package.version.clone());
            let candidates = self.without_bad(id, &round.relay, known);
            let search = self.find_parent(&task, &round.relay, &package, &candidates).await;
            // Of ranked ones, all have been asked.
            let is_fruitful =
                search.found.is_some() || candidates.is_planned && !search.lost.is_empty();
            for (parent, error) in search.lost {
                let cause = error.to_string();
                self.note_loss(&task, round, &parent, error.into(), cause);
            }
            if let Some(session) = search.found {
                let parent = session.sibling.clone();
                let pulled = self.pull_from(&task, round, package, session, &candidates);
                match Box::pin(pulled).await? {
                    SiblingPull::Pulled(pulled) => return Ok(SiblingsTried::Pulled(pulled)),
                    SiblingPull::GaveWay => return Ok(SiblingsTried::GaveWay),
                    SiblingPull::Resumable => round.relay.count_change(),
                    SiblingPull::Lost(loss, cause) => {
                        self.note_loss(&task, round, &parent, loss, cause);
                    }
                }
            }
            let is_given_up = !candidates.is_planned
                && began.elapsed() >= FRUITLESS_TIME
                && flight.received_bytes() <= before;
            round.relay.direct = match is_fruitful && !is_given_up {
                true => self.direct_reason(flight, &config, &round.relay),
                false => Some(without_them),
            };
        }
        Ok(SiblingsTried::NoneLeft)
    }

    /// Leaves out nodes that sent wrong bytes of this version.
    fn without_bad(
        &self,
        id: &PackageId,
        relay: &RelayRound,
        mut candidates: ParentCandidates,
    ) -> ParentCandidates {
        let state = self.state();
        let is_bad = |node_id: &str| {
            let version = relay.version.as_ref();
            version.is_some_and(|version| state.is_bad_parent(id, version, node_id))
        };
        candidates.parents.retain(|parent| !is_bad(&parent.node_id));
        candidates
    }

    /// Remembers that it sent wrong bytes of the version at hand.
    fn condemn(&self, id: &PackageId, relay: &RelayRound, node_id: &str) {
        if let Some(version) = &relay.version {
            self.state().note_bad_parent(id, version, node_id);
        }
    }

    /// The reason to ask nobody but the main server, if there is one.
    fn direct_reason(
        &self,
        flight: &Flight,
        config: &Config,
        relay: &RelayRound,
    ) -> Option<SourceReason> {
        if !config.relay.enabled {
            Some(SourceReason::Off)
        } else if self.siblings.key(config).is_none() {
            Some(SourceReason::NoKey)
        } else if flight.reason() == PullReason::Compare {
            Some(SourceReason::Compare)
        } else {
            relay.is_disabled.then_some(SourceReason::NoParentLeft)
        }
    }

    /// Describes the package, so that the same one is known at another node; else why it
    /// can't be.
    async fn relayed_package(
        &self,
        task: &AttemptContext<'_>,
        round: &RoundState,
        retry: bool,
    ) -> Result<RelayedPackage, SourceReason> {
        let (id, base_url) = (task.flight.id(), task.upstream.origin());
        let origin = |location| Origin::MainServer { base_url: base_url.to_owned(), location };
        if self.siblings.plan_now(task.config, id).is_some() {
            let offer = self.offer_of(id, base_url).ok_or(SourceReason::Unidentified)?;
            let sha256 = offer.sha256.ok_or(SourceReason::Unidentified)?;
            if task.holds(&PackageVersion::Digest(sha256)) {
                return Err(SourceReason::Compare);
            }
            let location = offer.path.as_deref();
            let location =
                location.and_then(|p| PackageLocation::from_package_url(task.upstream.fleet(), p));
            return Ok(RelayedPackage {
                version: PackageVersion::Digest(sha256),
                // Our main server's tag.
                validators: Validators { etag: Some(format!("\"{sha256}\"")), last_modified: None },
                length: offer.size_bytes,
                origin: origin(location.unwrap_or(PackageLocation::Direct)),
                offer,
            });
        }
        let chosen = self.choose_origin(task, &round.gone, retry).await;
        let (choice, offer) = chosen.map_err(|_| SourceReason::Unidentified)?;
        let OriginChoice::Pull(origin) = choice else { return Err(SourceReason::Unidentified) };
        let Origin::MainServer { location, .. } = &origin;
        let announced = match location {
            PackageLocation::Uploads(_) => {
                task.upstream.head(id, location).await.map_err(|_| SourceReason::Unidentified)?
            }
            // It answers no HEAD.
            PackageLocation::Direct => AnnouncedPackage::default(),
        };
        // What is stored, the main server confirms at less cost.
        let version = task.version(&announced).ok_or(SourceReason::Unidentified)?;
        if task.holds(&version) {
            return Err(SourceReason::Compare);
        }
        let AnnouncedPackage { validators, length, .. } = announced;
        Ok(RelayedPackage { version, validators, length, origin, offer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_merely_slow_is_asked_rather_than_our_main_server() {
        let sibling = |node_id: &str| Sibling {
            node_id: node_id.to_owned(),
            address: format!("{node_id}:1"),
            https: false,
            certificate: None,
        };
        let parents = vec![sibling("a"), sibling("b")];
        let mut candidates =
            ParentCandidates { parents, is_planned: true, ..ParentCandidates::default() };
        let (mut round, now) = (RelayRound::default(), Instant::now());
        let chosen = |round: &RelayRound, candidates: &ParentCandidates, now| {
            round.choose(candidates, now).map(|parent| parent.node_id.clone())
        };
        round.leave("a", ParentLoss::TooSlow, now);
        assert_eq!(chosen(&round, &candidates, now).as_deref(), Some("b"));
        round.leave("b", ParentLoss::Unreachable, now);
        assert_eq!(chosen(&round, &candidates, now).as_deref(), Some("a"));
        assert!(round.not_left(&candidates, now).next().is_none(), "no reason to leave another");
        round.leave("a", ParentLoss::Stalled, now);
        assert_eq!(chosen(&round, &candidates, now), None);
        assert_eq!(chosen(&round, &candidates, now + DOWN_PAUSE).as_deref(), Some("b"));
        // Where nobody names another one, the main server is.
        round.leave("a", ParentLoss::TooSlow, now);
        candidates.is_planned = false;
        assert_eq!(chosen(&round, &candidates, now), None);
    }
}
