//! One pull from one parent: asked, received, vouched for and stored.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    package::Sha256,
    relay::{
        PIECE_BYTES, Sibling,
        auth::{PackageVersion, ParentState},
    },
};
use edge_mirror_store::StoreError;
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        FetchInner, Offer, PullError, PullPhase, SourceReason,
        attempt::RoundState,
        context::AttemptContext,
        gap::LEAST_BYTES,
        partial::PartialPull,
        pieces::{BadPiece, PieceDigests, PieceVerifier},
    },
    RelayRound, RelayedPackage, SiblingPull, loss_or_error, lost,
};
use crate::{
    board::ParentLoss,
    siblings::ParentCandidates,
    upstream::{OriginAnswer, SiblingError, SiblingObject, SiblingSession},
};

/// Pause before a parent that has nothing yet is asked again; it keeps the question for
/// seconds itself.
const READY_PAUSE: Duration = Duration::from_millis(100);
/// A parent that has nothing for so long is left: the main server may have failed it.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A parent keeps the question for the digest of the whole for so long.
const DIGEST_WAIT: Duration = Duration::from_secs(5);
const DIGEST_TRIES: usize = 12;
/// Time for a parent to take back a piece that it was sent wrong itself.
const TAKE_BACK_TIME: Duration = Duration::from_millis(100);
/// A piece, and what has come since. Who has still less begins anew.
const MOST_TAKEN_BACK: u64 = 2 * PIECE_BYTES;
/// A parent that has broken off proves within this time that it is there.
const ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// A pull under way, and the conversation with its parent.
struct OpenPull {
    session: SiblingSession,
    pulling: PartialPull,
    offer: Offer,
    began: Instant,
}

impl FetchInner {
    pub(super) async fn pull_from(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        package: RelayedPackage,
        mut session: SiblingSession,
        candidates: &ParentCandidates,
    ) -> Result<SiblingPull, PullError> {
        let parent = &session.sibling.clone();
        let is_same = |partial: &PartialPull| partial.version.as_ref() == Some(&package.version);
        let (resumed, began) = (round.partial.take().filter(is_same), Instant::now());
        let reason = match candidates.is_planned {
            true => SourceReason::Assigned,
            false => SourceReason::Ranked,
        };
        let resumed = match resumed {
            Some(pulling) if pulling.is_complete() => {
                self.note_source(task, round, Some(parent), reason);
                let pull = OpenPull { session, pulling, offer: package.offer, began };
                return self.finish(task, round, pull).await;
            }
            other => other,
        };
        let first = resumed.as_ref().map_or(0, |partial| partial.pending.received_bytes());
        let opened = self.open_session(task, &round.relay, &mut session, candidates, first).await;
        let answer = match opened {
            Ok(answer) => answer,
            Err(lost) => {
                round.partial = resumed;
                return Ok(lost);
            }
        };
        let length = answer.announced.length;
        if resumed.as_ref().is_some_and(|partial| !partial.announced.fits_length(length)) {
            // One of the two parents lies. What is here is dropped, and the whole asked for.
            let cause = "another one told another length".to_owned();
            return Ok(SiblingPull::Lost(ParentLoss::Reassigned, cause));
        }
        // The caller sees the end of the service, too.
        let Ok(_place) = self.relay_places.acquire().await else { return Err(PullError::Stopped) };
        task.flight.set_phase(PullPhase::Pulling);
        self.note_source(task, round, Some(parent), reason);
        let RelayedPackage { origin, offer, .. } = package;
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
        let pull = OpenPull { session, pulling, offer, began };
        self.receive_from(task, round, candidates, answer, pull).await
    }

    /// Receives what the parent sends, while the parent is watched.
    async fn receive_from(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        candidates: &ParentCandidates,
        mut answer: OriginAnswer,
        mut pull: OpenPull,
    ) -> Result<SiblingPull, PullError> {
        let OpenPull { session, pulling, .. } = &mut pull;
        let (mut pieces, length) = (PieceDigests::default(), answer.announced.length);
        let sha256 = pulling.version.as_ref().and_then(PackageVersion::digest);
        if candidates.is_planned && sha256.is_some() {
            let verifier = pulling.pieces.get_or_insert_with(|| PieceVerifier::new(pieces));
            pieces = verifier.expected().clone();
        }
        // In a branch of its own that never ends: with its end, the select would end, and
        // the parent be watched no more.
        let with_pieces = async {
            match self.get_pieces(task, sha256, length, &pieces).await {
                Ok(()) => std::future::pending().await,
                Err(lost) => lost,
            }
        };
        let interrupted = async {
            tokio::select! {
                () = self.wait_to_give_way(task.flight) => (SiblingPull::GaveWay, true),
                lost = self.watch_parent(task, &round.relay, session, candidates) => (lost, true),
                // What is here is not of the length of the package.
                lost = with_pieces => (lost, false),
            }
        };
        let received = self.transfer(task, &mut answer.body, pulling, interrupted);
        match received {
            // The caller sees the cancellation, too, and stops.
            None => std::future::pending().await,
            Some(Ok(None)) => self.finish(task, round, pull).await,
            Some(Ok(Some((interruption, is_good)))) => {
                let mut pulling = pull.pulling;
                if matches!(interruption, SiblingPull::GaveWay) {
                    tasks::block_in_place(|| pulling.pending.pause())?;
                }
                round.partial = Some(pulling).filter(|_| is_good);
                Ok(interruption)
            }
            Some(Err(PullError::Piece(bad))) => self.take_back(task, round, pull, bad).await,
            Some(Err(error)) => Self::break_off(round, pull, error).await,
        }
    }

    /// The transfer ended with an error. A parent that takes back a wrong piece breaks off
    /// with its children, and is the one to go on with: the piece is checked here, too.
    async fn break_off(
        round: &mut RoundState,
        pull: OpenPull,
        error: PullError,
    ) -> Result<SiblingPull, PullError> {
        let OpenPull { mut session, pulling, .. } = pull;
        if !error.is_broken_off() {
            return loss_or_error(error);
        }
        let received_bytes = pulling.pending.received_bytes();
        let is_interrupted = matches!(error, PullError::Interrupted { .. });
        let state = match is_interrupted {
            true => timeout(ALIVE_LIMIT, session.probe(None)).await.ok().and_then(Result::ok),
            false => None,
        };
        let has_taken_back = |state: &ParentState| {
            let less = received_bytes.saturating_sub(state.received_bytes);
            0 < less && less <= MOST_TAKEN_BACK
        };
        let is_resumable = state.is_some_and(|state| {
            has_taken_back(&state) || received_bytes >= pulling.parent_start + LEAST_BYTES
        });
        round.partial = Some(pulling);
        match is_resumable {
            true => Ok(SiblingPull::Resumable),
            false => loss_or_error(error),
        }
    }

    /// Takes back a piece whose bytes are not the package's.
    async fn take_back(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        pull: OpenPull,
        bad: BadPiece,
    ) -> Result<SiblingPull, PullError> {
        let OpenPull { mut session, mut pulling, .. } = pull;
        let cause = PullError::Piece(bad).to_string();
        let is_its_own = pulling.is_of_one_source(bad);
        tasks::block_in_place(|| pulling.take_back(task, bad))?;
        round.partial = Some(pulling);
        if !is_its_own {
            // Nobody knows whose part is wrong: it sends the piece again, alone.
            let cause = format!("{cause}, and began with another node's bytes");
            return Ok(SiblingPull::Lost(ParentLoss::Reassigned, cause));
        }
        Ok(self.blame(&mut session, bad.start, cause).await)
    }

    /// Has the bytes vouched for, and stores them.
    async fn finish(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        pull: OpenPull,
    ) -> Result<SiblingPull, PullError> {
        let OpenPull { mut session, mut pulling, offer, began } = pull;
        let is_vouched_for =
            pulling.version.as_ref().is_some_and(|version| version.digest().is_some());
        if !is_vouched_for {
            match self.digest_of(&mut session).await {
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
    pub(in super::super) fn condemn_contributors(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
    ) -> bool {
        task.flight.forget_digest();
        let contributors = std::mem::take(&mut round.relay.contributors);
        for node_id in &contributors {
            self.condemn(task.flight.id(), &round.relay, node_id);
        }
        !contributors.is_empty()
    }

    /// The main server has completed a piece that others began, and it is wrong.
    pub(in super::super) fn condemn_last_contributor(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        cause: String,
    ) {
        if let Some(node_id) = round.relay.contributors.pop() {
            self.condemn(task.flight.id(), &round.relay, &node_id);
            round.relay.loss = Some((node_id, ParentLoss::Damaged, cause));
        }
    }

    pub(super) fn session(
        &self,
        task: &AttemptContext<'_>,
        package: &RelayedPackage,
        parent: &Sibling,
    ) -> Result<SiblingSession, SiblingError> {
        let config = self.settings.current();
        let secret = self.siblings.key(&config);
        let secret = secret.ok_or(SiblingError::Unproven("relaying is off here"))?;
        let object = SiblingObject {
            key: task.flight.id().into(),
            version: package.version.clone(),
            secret,
            child_id: config.node_id.clone(),
            child_address: self.siblings.own_address().unwrap_or_default(),
            validators: package.validators.clone(),
            length: package.length,
        };
        SiblingSession::new(self.siblings.client(), parent.clone(), Arc::new(object))
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
        let (began, mut loop_since) = (Instant::now(), None);
        loop {
            session.is_urgent = task.flight.is_awaited();
            let is_told = session.is_urgent;
            let answered = tokio::select! {
                answered = session.get(first) => answered,
                // The parent keeps the question for seconds: it may have more to do, and
                // somebody further up.
                () = task.flight.wait_for_client(), if !is_told => continue,
            };
            let (state, answer) = match answered {
                Ok((state, answer)) => (state, Some(answer)),
                Err(SiblingError::NotReady(state)) => (state, None),
                Err(error) => return Err(lost(error)),
            };
            if let Err(lost) = self.note_state(task, session, &state)
                && !self.tolerates_loop(task, session, &mut loop_since)
            {
                return Err(lost);
            }
            if let Some(answer) = answer {
                return Ok(answer);
            }
            self.check_assignment(task, relay, session, candidates)?;
            if began.elapsed() > READY_LIMIT {
                return Err(lost(SiblingError::NotReady(state)));
            }
            sleep(READY_PAUSE).await;
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
        sha256: Option<Sha256>,
        length: Option<u64>,
        pieces: &PieceDigests,
    ) -> Result<(), SiblingPull> {
        let (Some(sha256), Some(length)) = (sha256, length) else { return Ok(()) };
        let limit = Duration::from_secs(task.config.network.connection_timeout);
        let told = task.upstream.piece_digests(task.flight.id(), sha256, limit).await;
        // Without them, the digest of the whole decides.
        let Ok(digests) = told else { return Ok(()) };
        if digests.len() as u64 != length.div_ceil(PIECE_BYTES) {
            let count = digests.len();
            let cause = format!("it has another version, of {length} bytes and not {count} MiB");
            return Err(SiblingPull::Lost(ParentLoss::Refused, cause));
        }
        let _ = pieces.set(digests);
        Ok(())
    }
}
