//! Pulls from other nodes, which have the package or are still pulling it themselves: the
//! parent that our main server names, or that the nodes' ranks give; then its spares; then
//! the main server, as if there were no other nodes.

mod pull;
mod source;
mod watch;

use std::time::Duration;

use edge_mirror_protocol::{
    package::{PackageId, Validators},
    relay::{Sibling, auth::PackageVersion},
};
use edge_mirror_settings::Config;
use edge_mirror_store::StoreError;
use tokio::time::{Instant, timeout};

use super::{
    FetchInner, Flight, Offer, PullError, PullReason, PulledPackage,
    attempt::RoundState,
    context::AttemptContext,
    origin::{Origin, OriginChoice},
};
use crate::{
    board::ParentLoss,
    siblings::ParentCandidates,
    upstream::{AnnouncedPackage, PackageLocation, SiblingError},
};

/// A parent that was down may be asked again after this time.
const DOWN_PAUSE: Duration = Duration::from_secs(10);

/// A client of a node that has just started waits so long for the main server's first
/// answer, which says what other nodes there are.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(2);

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
}

struct LeftParent {
    node_id: String,
    /// None for the rest of the round.
    until: Option<Instant>,
}

/// The end of a try with one parent.
pub(super) enum SiblingPull {
    Pulled(PulledPackage),
    Lost(ParentLoss, String),
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
    /// No other node is asked any more in this round.
    pub(super) fn disable(&mut self) {
        self.is_disabled = true;
    }

    fn choose<'a>(&self, candidates: &'a ParentCandidates, now: Instant) -> Option<&'a Sibling> {
        let is_left = |node_id: &str| {
            let left = |left: &LeftParent| {
                left.node_id == node_id && left.until.is_none_or(|until| now < until)
            };
            self.left.iter().any(left)
        };
        candidates.parents.iter().find(|parent| !is_left(&parent.node_id))
    }

    fn leave(&mut self, node_id: &str, loss: ParentLoss, now: Instant) {
        let until = match loss {
            ParentLoss::Unreachable | ParentLoss::Refused | ParentLoss::Circular => {
                Some(now + DOWN_PAUSE)
            }
            // The plan decides when it is asked again.
            ParentLoss::Reassigned => Some(now),
            ParentLoss::Unproven
            | ParentLoss::TooSlow
            | ParentLoss::Damaged
            | ParentLoss::Stalled => None,
        };
        self.left.retain(|left| left.node_id != node_id);
        self.left.push(LeftParent { node_id: node_id.to_owned(), until });
    }
}

impl From<SiblingError> for ParentLoss {
    fn from(error: SiblingError) -> Self {
        match error {
            SiblingError::Unreachable(_) | SiblingError::TimedOut(_) => Self::Unreachable,
            SiblingError::Unproven(_) | SiblingError::WrongCertificate => Self::Unproven,
            SiblingError::NotReady(_) | SiblingError::Refused(_) | SiblingError::Unusable(_) => {
                Self::Refused
            }
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
        | PullError::TooManyWaiters => None,
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

impl FetchInner {
    /// Pulls the package from another node; None if the main server is to be asked.
    pub(super) async fn try_siblings(
        &self,
        flight: &Flight,
        config: &Config,
        round: &mut RoundState,
        retry: bool,
    ) -> Result<Option<PulledPackage>, PullError> {
        if flight.reason().is_clients() && config.relay.enabled {
            self.wait_for_first_answer().await;
        }
        if !self.may_relay(flight, config, round) {
            return Ok(None);
        }
        let (upstream, store) = (self.connector.upstream(config), self.board.store());
        let task = self.context(flight, config, &upstream, &store);
        loop {
            let Some(package) = self.relayed_package(&task, round, retry).await else {
                return Ok(None);
            };
            // Live: relaying may have been switched off meanwhile.
            let config = self.settings.current();
            let id = flight.id();
            let candidates = self.siblings.parents(&config, id, &package.version).await;
            let candidates = self.without_bad(id, candidates);
            let Some(parent) = round.relay.choose(&candidates, Instant::now()).cloned() else {
                return Ok(None);
            };
            let pulled = self.pull_from(&task, round, package, &parent, &candidates);
            match Box::pin(pulled).await? {
                SiblingPull::Pulled(pulled) => return Ok(Some(pulled)),
                SiblingPull::Lost(loss, cause) => {
                    self.note_loss(&task, round, &parent, loss, cause);
                }
            }
            if !self.may_relay(flight, &config, round) {
                return Ok(None);
            }
        }
    }

    async fn wait_for_first_answer(&self) {
        let mut sync = self.board.sync.subscribe();
        let answered = sync.wait_for(|sync| sync.polled_ok.is_some() || sync.poll_error.is_some());
        let _ = timeout(FIRST_ANSWER_WAIT, answered).await;
    }

    /// Leaves out nodes that sent wrong bytes of this package.
    fn without_bad(&self, id: &PackageId, mut candidates: ParentCandidates) -> ParentCandidates {
        let state = self.state();
        candidates.parents.retain(|parent| !state.is_bad_parent(id, &parent.node_id));
        candidates
    }

    fn may_relay(&self, flight: &Flight, config: &Config, round: &RoundState) -> bool {
        // Only the main server can say whether it still has the stored version.
        flight.reason() != PullReason::Compare
            && !round.relay.is_disabled
            && self.siblings.key(config).is_some()
    }

    /// None if the main server does not say enough of the package to know the same one
    /// at another node.
    async fn relayed_package(
        &self,
        task: &AttemptContext<'_>,
        round: &RoundState,
        retry: bool,
    ) -> Option<RelayedPackage> {
        let (id, base_url) = (task.flight.id(), task.upstream.origin());
        let origin = |location| Origin::MainServer { base_url: base_url.to_owned(), location };
        if self.siblings.plan_now(task.config, id).is_some() {
            let offer = self.offer_of(id, base_url)?;
            let sha256 = offer.sha256?;
            if task.holds(&PackageVersion::Digest(sha256)) {
                return None;
            }
            let location = offer.path.as_deref();
            let location = location.and_then(|p| PackageLocation::from_package_url(base_url, p));
            return Some(RelayedPackage {
                version: PackageVersion::Digest(sha256),
                // Our main server's tag.
                validators: Validators { etag: Some(format!("\"{sha256}\"")), last_modified: None },
                length: None,
                origin: origin(location.unwrap_or(PackageLocation::Direct)),
                offer,
            });
        }
        let (choice, offer) = self.choose_origin(task, &round.gone, retry).await.ok()?;
        let OriginChoice::Pull(origin) = choice else { return None };
        let Origin::MainServer { location, .. } = &origin;
        let announced = match location {
            PackageLocation::Uploads(_) => task.upstream.head(id, location).await.ok()?,
            // It answers no HEAD.
            PackageLocation::Direct => AnnouncedPackage::default(),
        };
        // What is stored, the main server confirms at less cost.
        let version = task.version(&announced).filter(|version| !task.holds(version))?;
        let AnnouncedPackage { validators, length, .. } = announced;
        Some(RelayedPackage { version, validators, length, origin, offer })
    }
}
