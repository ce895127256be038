//! Pulls from other nodes, which have the package or are still pulling it themselves: the
//! parent that our main server names, or that the nodes' ranks give; then its spares; then
//! the main server, as if there were no other nodes.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::{clock::UnixMillis, metrics::Label, tasks};
use edge_mirror_protocol::{
    package::{PackageId, Sha256, Validators},
    relay::{
        MAX_SLOW_PARENTS, PIECE_BYTES, Sibling,
        auth::{PackageVersion, ParentState},
    },
};
use edge_mirror_settings::Config;
use edge_mirror_store::StoreError;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::{
    FetchInner, Flight, Offer, PullError, PullPhase, PullReason, PulledPackage, SourceReason,
    attempt::{AttemptContext, RoundState},
    gap::{LEAST_BYTES, ParentGap, ParentProgress},
    origin::{Origin, OriginChoice},
    partial::PartialPull,
    pieces::{PieceDigests, PieceVerifier},
};
use crate::{
    board::ParentLoss,
    siblings::ParentCandidates,
    upstream::{
        AnnouncedPackage, OriginAnswer, PackageLocation, SiblingError, SiblingPackage,
        SiblingSession,
    },
};

/// A parent is asked how far it is this often.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// A plan counts that lasts so long: while nodes come back after an outage, there are
/// several within a moment.
const REASSIGNED_FOR: Duration = Duration::from_secs(1);
/// Pause before a parent that has nothing yet is asked again; it keeps the question for
/// seconds itself.
const READY_PAUSE: Duration = Duration::from_millis(100);
/// A parent that has nothing for so long is left: the main server may have failed it.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A parent that was down may be asked again after this time.
const DOWN_PAUSE: Duration = Duration::from_secs(10);
/// Failed probes after which a parent that sends nothing counts as gone.
const MAX_FAILED_PROBES: u32 = 2;
/// A parent keeps the question for the digest of the whole for so long.
const DIGEST_WAIT: Duration = Duration::from_secs(5);
const DIGEST_TRIES: usize = 12;
/// Changes of parent in one round after which the main server is left alone with it: so
/// whatever parents do, a round comes to an end.
const MAX_CHANGES: usize = 64;
/// Time for a parent to take back a piece that it was sent wrong itself.
const TAKE_BACK_TIME: Duration = Duration::from_millis(100);

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

    async fn pull_from(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        package: RelayedPackage,
        parent: &Sibling,
        candidates: &ParentCandidates,
    ) -> Result<SiblingPull, PullError> {
        let mut session = match self.session(task, &package, parent) {
            Ok(session) => session,
            Err(error) => return Ok(lost(error)),
        };
        let is_same = |partial: &PartialPull| partial.version.as_ref() == Some(&package.version);
        let (resumed, began) = (round.partial.take().filter(is_same), Instant::now());
        let reason = match candidates.is_planned {
            true => SourceReason::Assigned,
            false => SourceReason::Ranked,
        };
        let resumed = match resumed {
            Some(complete) if complete.is_complete() => {
                self.note_source(task, round, Some(parent), reason);
                return self
                    .finish(task, round, &mut session, complete, package.offer, began)
                    .await;
            }
            other => other,
        };
        let first = resumed.as_ref().map_or(0, |partial| partial.pending.received_bytes());
        let opened = self.open_session(task, &round.relay, &mut session, candidates, first).await;
        let mut answer = match opened {
            Ok(answer) => answer,
            Err(lost) => {
                round.partial = resumed;
                return Ok(lost);
            }
        };
        // The caller sees the end of the service, too.
        let Ok(_place) = self.relay_places.acquire().await else { return Err(PullError::Stopped) };
        task.flight.set_phase(PullPhase::Pulling);
        self.note_source(task, round, Some(parent), reason);
        let RelayedPackage { version, origin, offer, .. } = package;
        let mut pulling = match self.begin_or_resume(task, resumed, &answer, origin) {
            Ok(pulling) => pulling,
            Err(error) => return loss_or_error(error),
        };
        pulling.continue_from(Some(parent.node_id.clone()));
        if pulling.parent_start == 0 {
            round.relay.contributors.clear();
        }
        round.relay.contributors.retain(|node_id| *node_id != parent.node_id);
        round.relay.contributors.push(parent.node_id.clone());
        let (mut pieces, length) = (PieceDigests::default(), answer.announced.length);
        if reason == SourceReason::Assigned && version.digest().is_some() {
            let verifier = pulling.pieces.get_or_insert_with(|| PieceVerifier::new(pieces));
            pieces = verifier.expected().clone();
        }
        // In a branch of its own that never ends: with its end, the select would end, and
        // the parent be watched no more.
        let with_pieces = async {
            self.get_pieces(task, &version, length, &pieces).await;
            std::future::pending().await
        };
        let interrupted = async {
            tokio::select! {
                lost = self.watch_parent(task, &round.relay, &mut session, candidates) => lost,
                lost = with_pieces => lost,
            }
        };
        let received = self.transfer(task, &mut answer.body, &mut pulling, interrupted);
        match received {
            // The caller sees the cancellation, too, and stops.
            None => return std::future::pending().await,
            Some(Ok(None)) => {}
            Some(Ok(Some(lost))) => {
                round.partial = Some(pulling);
                return Ok(lost);
            }
            Some(Err(PullError::Piece(bad))) => {
                let cause = PullError::Piece(bad).to_string();
                let is_its_own = pulling.is_of_one_source(bad);
                tasks::block_in_place(|| pulling.take_back(task, bad))?;
                round.partial = Some(pulling);
                if !is_its_own {
                    // Nobody knows whose part is wrong: it sends the piece again, alone.
                    let cause = format!("{cause}, and began with another node's bytes");
                    return Ok(SiblingPull::Lost(ParentLoss::Reassigned, cause));
                }
                return Ok(self.blame(&mut session, bad.start, cause).await);
            }
            Some(Err(error)) => {
                if error.is_broken_off() {
                    round.partial = Some(pulling);
                }
                return loss_or_error(error);
            }
        }
        self.finish(task, round, &mut session, pulling, offer, began).await
    }

    /// Has the bytes vouched for, and stores them.
    async fn finish(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        session: &mut SiblingSession,
        mut pulling: PartialPull,
        offer: Offer,
        began: Instant,
    ) -> Result<SiblingPull, PullError> {
        let is_vouched_for =
            pulling.version.as_ref().is_some_and(|version| version.digest().is_some());
        if !is_vouched_for {
            match self.digest_of(session).await {
                Ok(sha256) => {
                    pulling.announced.sha256 = Some(sha256);
                    // Children need not wait until it is verified here.
                    task.flight.set_digest(sha256);
                }
                Err(lost) => {
                    // Another may know it; what is here is not fetched again.
                    round.partial = Some(pulling);
                    return Ok(lost);
                }
            }
        }
        match self.commit(task, pulling, offer, began).await {
            Ok(pulled) => Ok(SiblingPull::Pulled(pulled)),
            // What the root has verified was good.
            Err(PullError::Store(StoreError::Bad(error))) if error.is_damage() => {
                self.condemn_contributors(task, round);
                Ok(SiblingPull::Lost(ParentLoss::Damaged, error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// None of those that sent bytes of a package that turned out to be wrong is asked
    /// for it again. False if there are none.
    pub(super) fn condemn_contributors(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
    ) -> bool {
        task.flight.forget_digest();
        let mut state = self.state();
        let contributors = std::mem::take(&mut round.relay.contributors);
        for node_id in &contributors {
            state.note_bad_parent(task.flight.id(), node_id.clone());
        }
        !contributors.is_empty()
    }

    /// The main server has completed a piece that others began, and it is wrong.
    pub(super) fn condemn_last_contributor(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        cause: String,
    ) {
        if let Some(node_id) = round.relay.contributors.pop() {
            self.state().note_bad_parent(task.flight.id(), node_id.clone());
            round.relay.loss = Some((node_id, ParentLoss::Damaged, cause));
        }
    }

    fn session(
        &self,
        task: &AttemptContext<'_>,
        package: &RelayedPackage,
        parent: &Sibling,
    ) -> Result<SiblingSession, SiblingError> {
        let config = self.settings.current();
        let key = self.siblings.key(&config);
        let key = key.ok_or(SiblingError::Unproven("relaying is off here"))?;
        let package = SiblingPackage {
            id: task.flight.id().clone(),
            version: package.version.clone(),
            key,
            child_id: config.node_id.clone(),
            child_address: self.siblings.own_address().unwrap_or_default(),
            validators: package.validators.clone(),
            length: package.length,
        };
        SiblingSession::new(self.siblings.client(), parent.clone(), Arc::new(package))
    }

    /// Asks until the parent has something to send.
    async fn open_session(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &mut SiblingSession,
        candidates: &ParentCandidates,
        first: u64,
    ) -> Result<OriginAnswer, SiblingPull> {
        let began = Instant::now();
        loop {
            let state = match session.get(first).await {
                Ok((state, answer)) => {
                    self.note_state(task, session, &state)?;
                    return Ok(answer);
                }
                Err(SiblingError::NotReady(state)) => state,
                Err(error) => return Err(lost(error)),
            };
            self.note_state(task, session, &state)?;
            self.check_assignment(task, relay, session, candidates)?;
            if began.elapsed() > READY_LIMIT {
                return Err(lost(SiblingError::NotReady(state)));
            }
            sleep(READY_PAUSE).await;
        }
    }

    /// Asks the parent how far it is until there is a reason to leave it.
    async fn watch_parent(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &mut SiblingSession,
        candidates: &ParentCandidates,
    ) -> SiblingPull {
        let mut plans = self.board.relay.subscribe();
        let (mut gap, mut progress) = (ParentGap::default(), ParentProgress::default());
        let (mut failed, mut received, mut reassigned_at) = (0, 0, None);
        loop {
            let _ = timeout(PROBE_PAUSE, plans.changed()).await;
            match self.check_assignment(task, relay, session, candidates) {
                Ok(()) => reassigned_at = None,
                Err(lost) => {
                    let since = *reassigned_at.get_or_insert_with(Instant::now);
                    let is_off = self.siblings.key(&self.settings.current()).is_none();
                    if is_off || since.elapsed() >= REASSIGNED_FOR {
                        return lost;
                    }
                }
            }
            let before = std::mem::replace(&mut received, task.flight.received_bytes());
            match session.probe(None).await {
                Ok(state) => {
                    failed = 0;
                    if let Err(lost) = self.note_state(task, session, &state) {
                        return lost;
                    }
                    let here = task.flight.received_bytes();
                    let behind = state.received_bytes.saturating_sub(here);
                    let network = &task.config.network;
                    let limit = Duration::from_secs(network.connection_timeout);
                    let is_whole = match task.flight.progress().total_bytes {
                        Some(total) => state.received_bytes == total,
                        None => state.sha256.is_some(),
                    };
                    // What our own limit holds up is nobody's fault.
                    let least_bytes = match network.bandwidth {
                        0 => LEAST_BYTES,
                        rate => LEAST_BYTES.min(rate.saturating_mul(limit.as_secs()) / 32),
                    };
                    let now = Instant::now();
                    if progress.is_stuck(here, behind, is_whole, least_bytes, limit, now) {
                        let cause = format!(
                            "it has {} KiB more, and next to none came for {} s",
                            behind >> 10,
                            limit.as_secs()
                        );
                        return SiblingPull::Lost(ParentLoss::Stalled, cause);
                    }
                    // The main server is not asked instead of a parent that is merely slow.
                    if gap.holds_up(behind, is_whole, now)
                        && self.has_other(task, relay, session, candidates)
                    {
                        let cause = format!("it is {} MiB ahead, and stays so", behind >> 20);
                        return SiblingPull::Lost(ParentLoss::TooSlow, cause);
                    }
                }
                // It may be busy sending.
                Err(_) if task.flight.received_bytes() > before => failed = 0,
                Err(error) => {
                    failed += 1;
                    if failed >= MAX_FAILED_PROBES {
                        return lost(error);
                    }
                }
            }
        }
    }

    /// True if yet another node can be asked, as it is arranged now.
    fn has_other(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &SiblingSession,
        chosen_of: &ParentCandidates,
    ) -> bool {
        let id = task.flight.id();
        let planned = self.siblings.plan_now(&self.settings.current(), id);
        let mut others = self.without_bad(id, planned.unwrap_or_else(|| chosen_of.clone()));
        others.parents.retain(|other| other.node_id != session.sibling.node_id);
        relay.choose(&others, Instant::now()).is_some()
    }

    /// Shows the parent's state; an error if it gets the package from here.
    fn note_state(
        &self,
        task: &AttemptContext<'_>,
        session: &SiblingSession,
        state: &ParentState,
    ) -> Result<(), SiblingPull> {
        let me = &task.config.node_id;
        if state.path.contains(me) {
            let cause = "it gets the package from here".to_owned();
            return Err(SiblingPull::Lost(ParentLoss::Circular, cause));
        }
        let behind_bytes = state.received_bytes.saturating_sub(task.flight.received_bytes());
        task.flight.edit_source(|source| {
            let path = std::iter::once(&session.sibling.node_id).chain(&state.path);
            source.path = path.cloned().collect();
            source.behind_bytes = behind_bytes;
        });
        Ok(())
    }

    /// An error if our main server arranges it otherwise than when this parent was chosen.
    fn check_assignment(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &SiblingSession,
        chosen_of: &ParentCandidates,
    ) -> Result<(), SiblingPull> {
        let config = self.settings.current();
        if self.siblings.key(&config).is_none() {
            let cause = "relaying was switched off".to_owned();
            return Err(SiblingPull::Lost(ParentLoss::Reassigned, cause));
        }
        let id = task.flight.id();
        let Some(named) = self.siblings.plan_now(&config, id) else { return Ok(()) };
        let named = self.without_bad(id, named);
        let stays = named == *chosen_of
            || relay.choose(&named, Instant::now()).is_some_and(|first| *first == session.sibling);
        match stays {
            true => Ok(()),
            false => {
                let cause = "the main server names another one".to_owned();
                Err(SiblingPull::Lost(ParentLoss::Reassigned, cause))
            }
        }
    }

    /// Finds out whether the parent was sent the wrong piece itself: then it has taken it
    /// back by now.
    async fn blame(&self, session: &mut SiblingSession, start: u64, cause: String) -> SiblingPull {
        sleep(TAKE_BACK_TIME).await;
        match session.probe(None).await {
            Ok(state) if state.received_bytes < start + PIECE_BYTES => {
                SiblingPull::Lost(ParentLoss::Reassigned, format!("{cause}, nor was it its own"))
            }
            _ => SiblingPull::Lost(ParentLoss::Damaged, cause),
        }
    }

    async fn digest_of(&self, session: &mut SiblingSession) -> Result<Sha256, SiblingPull> {
        for _ in 0..DIGEST_TRIES {
            match session.probe(Some(DIGEST_WAIT)).await {
                Ok(state) => {
                    if let Some(sha256) = state.sha256 {
                        return Ok(sha256);
                    }
                }
                Err(error) => return Err(lost(error)),
            }
        }
        let cause = "it does not tell the digest of the package".to_owned();
        Err(SiblingPull::Lost(ParentLoss::Stalled, cause))
    }

    async fn get_pieces(
        &self,
        task: &AttemptContext<'_>,
        version: &PackageVersion,
        length: Option<u64>,
        pieces: &PieceDigests,
    ) {
        let (Some(sha256), Some(length)) = (version.digest(), length) else { return };
        let limit = Duration::from_secs(task.config.network.connection_timeout);
        // Without them, the digest of the whole decides.
        if let Ok(digests) = task.upstream.piece_digests(task.flight.id(), sha256, limit).await
            && digests.len() as u64 == length.div_ceil(PIECE_BYTES)
        {
            let _ = pieces.set(digests);
        }
    }

    /// Waits until our main server names a parent while its own bytes are being pulled.
    pub(super) async fn wait_for_parent(&self, task: &AttemptContext<'_>, round: &RoundState) {
        let mut plans = self.board.relay.subscribe();
        loop {
            if plans.changed().await.is_err() {
                return std::future::pending().await;
            }
            let config = self.settings.current();
            let id = task.flight.id();
            let named = self.siblings.plan_now(&config, id).is_some_and(|named| {
                let named = self.without_bad(id, named);
                round.relay.choose(&named, Instant::now()).is_some()
            });
            if named && self.may_relay(task.flight, &config, round) {
                return;
            }
        }
    }

    fn note_loss(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        parent: &Sibling,
        loss: ParentLoss,
        cause: String,
    ) {
        self.board.counts.parent_changes.inc(loss);
        round.relay.changes += 1;
        round.relay.is_disabled |= round.relay.changes >= MAX_CHANGES;
        round.relay.leave(&parent.node_id, loss, Instant::now());
        if loss == ParentLoss::Damaged {
            self.state().note_bad_parent(task.flight.id(), parent.node_id.clone());
        }
        if loss == ParentLoss::Unproven {
            self.siblings.forget(&parent.node_id);
        }
        // Our main server names neither to this node again.
        if matches!(loss, ParentLoss::TooSlow | ParentLoss::Damaged) {
            task.flight.edit_source(|source| {
                if source.slow_parents.len() < MAX_SLOW_PARENTS {
                    source.slow_parents.push(parent.node_id.clone());
                }
            });
        }
        round.relay.loss = Some((parent.node_id.clone(), loss, cause));
    }

    /// The main server sends it.
    pub(super) fn note_main_server(&self, task: &AttemptContext<'_>, round: &mut RoundState) {
        let planned = self.siblings.plan_now(task.config, task.flight.id());
        let reason = match planned {
            _ if round.relay.loss.is_some() => SourceReason::NoParentLeft,
            Some(ParentCandidates { parents, .. }) if parents.is_empty() => SourceReason::Assigned,
            _ => SourceReason::NoSibling,
        };
        self.note_source(task, round, None, reason);
    }

    /// One line for each change.
    fn note_source(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        parent: Option<&Sibling>,
        reason: SourceReason,
    ) {
        let id: &PackageId = task.flight.id();
        let name = |parent: Option<&Sibling>| match parent {
            Some(Sibling { node_id, address, .. }) => format!("node {node_id} at {address}"),
            None => "the main server".to_owned(),
        };
        match round.relay.loss.take() {
            Some((node_id, loss, cause)) => info!(
                "meeting {id}: now from {}, no longer from node {node_id} ({}): {cause}",
                name(parent),
                loss.text()
            ),
            None if parent.is_some() => info!("meeting {id}: from {}", name(parent)),
            None => {}
        }
        task.flight.edit_source(|source| {
            if source.parent.as_ref() != parent || source.reason == SourceReason::Undecided {
                source.since = UnixMillis::now();
            }
            (source.parent, source.reason) = (parent.cloned(), reason);
            if parent.is_none() {
                (source.path, source.behind_bytes) = (Vec::new(), 0);
            }
        });
    }
}
