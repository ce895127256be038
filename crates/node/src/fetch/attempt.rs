//! One round: attempts with pauses between them, each of which may resume
//! where the last one stopped.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::{
    backoff::{backoff, with_jitter},
    tasks,
};
use edge_mirror_protocol::{package::PackageRoute, relay::auth::PackageVersion};
use edge_mirror_settings::Config;
use edge_mirror_store::{StoreError, StoredPackage};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::{
    FetchInner, Flight, Offer, PullError, PullPhase, PullReason, PulledPackage,
    context::AttemptContext,
    gate::PullPermit,
    origin::{OpenError, Origin, OriginChoice},
    partial::PartialPull,
    relay::{RelayRound, SiblingsTried},
};
use crate::{
    board::CheckOccasion,
    upstream::{OriginAnswer, OriginBody},
};

/// Longest pause between attempts, however long they have failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// After an attempt that brought so much, the next one follows soon: the line was cut,
/// and other nodes may wait for the rest.
const PROGRESS_BYTES: u64 = 1 << 20;
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an attempt that stalled: the stall was pause enough.
const STALL_PAUSE: Duration = Duration::from_millis(50);

/// A client of a node that has just started waits so long for the main server's first
/// answer, which says what meetings have been started, and what other nodes there are.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(2);

/// State that an attempt leaves for the round's next one.
#[derive(Default)]
pub(super) struct RoundState {
    pub partial: Option<PartialPull>,
    /// Offers that were not there.
    pub gone: Vec<Origin>,
    /// The place in the gate's queue.
    arrival: Option<u64>,
    pub relay: RelayRound,
}

/// The outcome of an attempt that had a permit.
enum AttemptOutcome {
    Pulled(PulledPackage),
    /// The next attempt uses another source.
    OfferGone,
    /// There is nothing to be pulled yet.
    NotOffered(Instant),
    /// The permit was needed for something more urgent.
    Preempted,
}

enum RequestOutcome {
    Answered(Box<AnsweredRequest>),
    Unanswered(AttemptOutcome),
}

/// A request with its answer.
struct AnsweredRequest {
    origin: Origin,
    offer: Offer,
    resumed: Option<PartialPull>,
    answer: OriginAnswer,
    began: Instant,
}

impl FetchInner {
    pub(super) async fn run_round(&self, flight: &Flight) -> Result<PulledPackage, PullError> {
        // It may have been found at startup, and verified since the lookup.
        let missed = matches!(
            flight.reason(),
            PullReason::Missing | PullReason::OnDemand | PullReason::Unlisted
        );
        let found = || self.board.store().get(flight.id()).filter(|_| missed).filter(is_adopted);
        if let Some(adopted) = self.adopt(flight.id()).await.or_else(found) {
            return Ok(PulledPackage { stored: adopted, changed: true });
        }
        if flight.is_prestage() {
            self.check_spare_room(flight)?;
        }
        let mut round = RoundState::default();
        let (mut attempt, mut failovers) = (1, 0);
        loop {
            flight.set_attempt(attempt);
            let before = flight.received_bytes();
            let turn = self.connector.in_use().borrow().turn;
            let (config, outcome) = self.attempt(flight, &mut round, attempt > 1).await;
            let error = match outcome {
                Ok(pulled) => return Ok(pulled),
                Err(error) => error,
            };
            self.count_failed(&error);
            // At another main server it is the same attempt.
            let is_failover = failovers < config.main_servers().len()
                && (error.is_broken_off() || error.is_away())
                && self.connector.in_use().borrow().turn != turn;
            if is_failover {
                failovers += 1;
                warn!("meeting {}: goes on at another main server: {error}", flight.id());
                continue;
            }
            let retries = config.network.retry_count;
            if error.is_final() || attempt >= retries {
                return Err(error);
            }
            let first = Duration::from_secs(config.network.retry_delay);
            let mut pause = backoff(attempt, first, LONGEST_PAUSE.max(first), fastrand::f64());
            if error.is_broken_off() && flight.received_bytes() >= before + PROGRESS_BYTES {
                let is_stall = matches!(error, PullError::Stalled(_));
                let has_others = config.main_servers().len() > 1;
                let longest = if is_stall || has_others { STALL_PAUSE } else { PROGRESS_PAUSE };
                pause = pause.min(with_jitter(longest, fastrand::f64()));
            }
            warn!(
                "meeting {}: attempt {attempt} of {retries} failed, next in {:.1} s: {error}",
                flight.id(),
                pause.as_secs_f64()
            );
            flight.note_failure(&error, pause);
            self.board.counts.retries.inc();
            self.note_turn();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = flight.wait_for_retry() => {}
            }
            attempt += 1;
        }
    }

    fn count_failed(&self, error: &PullError) {
        let (counts, cause) = (&self.board.counts, error.fault().cause);
        counts.failed_attempts.inc(cause);
        if let PullError::Store(StoreError::Bad(error)) = error {
            counts.bad_package(CheckOccasion::Pulled, error);
        }
    }

    /// One attempt when its turn comes, which waits for a package that is being
    /// made. Boxed: thousands of pulls wait for their turn, and few are under way.
    async fn attempt(
        &self,
        flight: &Flight,
        round: &mut RoundState,
        retry: bool,
    ) -> (Arc<Config>, Result<PulledPackage, PullError>) {
        loop {
            self.wait_for_turn(flight).await;
            flight.set_phase(PullPhase::Waiting);
            self.note_turn();
            if flight.reason().is_clients() {
                self.wait_for_first_answer().await;
            }
            let config = self.settings.current();
            // Other nodes first: they take no permit.
            match Box::pin(self.try_siblings(flight, &config, round, retry)).await {
                Ok(SiblingsTried::Pulled(pulled)) => return (config, Ok(pulled)),
                Ok(SiblingsTried::GaveWay) => continue,
                Ok(SiblingsTried::NoneLeft) => {}
                Err(error) => return (config, Err(error)),
            }
            let (permit, arrival) = self.gate.enter(flight.urgency(), round.arrival).await;
            round.arrival = Some(arrival);
            if !self.has_turn(flight) {
                continue;
            }
            // Read each time: the configuration may have changed meanwhile.
            let config = self.settings.current();
            let mut tried = Box::pin(self.try_once(flight, &config, &permit, round, retry)).await;
            while matches!(tried, Ok(AttemptOutcome::OfferGone)) {
                tried = Box::pin(self.try_once(flight, &config, &permit, round, retry)).await;
            }
            drop(permit);
            match tried {
                Ok(AttemptOutcome::Pulled(pulled)) => return (config, Ok(pulled)),
                Ok(AttemptOutcome::NotOffered(until)) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = flight.wait_for_retry() => {}
                },
                Ok(AttemptOutcome::OfferGone | AttemptOutcome::Preempted) => {}
                Err(error) => return (config, Err(error)),
            }
        }
    }

    async fn wait_for_first_answer(&self) {
        let mut sync = self.board.sync.subscribe();
        let answered = sync.wait_for(|sync| sync.polled_ok.is_some() || sync.poll_error.is_some());
        let _ = timeout(FIRST_ANSWER_WAIT, answered).await;
    }

    async fn try_once(
        &self,
        flight: &Flight,
        config: &Config,
        permit: &PullPermit,
        round: &mut RoundState,
        retry: bool,
    ) -> Result<AttemptOutcome, PullError> {
        let upstream = self.connector.upstream(config);
        let store = self.board.store();
        let task = self.context(flight, config, &upstream, &store);
        let recall = permit.preempted();
        let asking = recall.run_until_cancelled(self.ask(&task, round, retry));
        let Some(asked) = asking.await else { return Ok(AttemptOutcome::Preempted) };
        if let Err(PullError::Upstream(error)) = &asked {
            self.connector.after_failed_pull(&upstream, error);
        }
        let AnsweredRequest { origin, offer, resumed, mut answer, began } = match asked? {
            RequestOutcome::Answered(asked) => *asked,
            RequestOutcome::Unanswered(tried) => return Ok(tried),
        };
        flight.set_phase(PullPhase::Pulling);
        offer.check_length(&answer.announced)?;
        if let Some(held) = task.unchanged_version(&answer, &origin) {
            let source = held.manifest.source.clone();
            let title = offer.title.unwrap_or_else(|| held.manifest.title.clone());
            let confirmed = tasks::blocking(move || store.confirm(&held, title, source)).await;
            let gone = || PullError::Unusable("its package was removed meanwhile".to_owned());
            return Ok(AttemptOutcome::Pulled(PulledPackage {
                stored: confirmed.ok_or_else(gone)?,
                changed: false,
            }));
        }
        let mut pulling = self.begin_or_resume(&task, resumed, &answer, origin)?;
        pulling.continue_from(None);
        round.relay.note_version(pulling.version.as_ref());
        self.note_main_server(&task, round);
        let interrupted = async {
            tokio::select! {
                () = recall.cancelled() => {}
                () = self.wait_to_give_way(flight) => {}
                // A slow root becomes a child of one that gets it sooner.
                () = self.wait_for_parent(&task, round) => {}
            }
        };
        let received = self.transfer(&task, &mut answer.body, &mut pulling, interrupted);
        let Some(received) = received else {
            // The caller sees the cancellation, too, and stops.
            return std::future::pending().await;
        };
        self.end_transfer(&task, round, pulling, received, offer, began).await
    }

    /// Stores what was received, or keeps it for the next attempt.
    async fn end_transfer(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        mut pulling: PartialPull,
        received: Result<Option<()>, PullError>,
        offer: Offer,
        began: Instant,
    ) -> Result<AttemptOutcome, PullError> {
        if let Err(PullError::Piece(bad)) = received {
            let is_its_own = pulling.is_of_one_source(bad);
            tasks::block_in_place(|| pulling.take_back(task, bad))?;
            round.partial = Some(pulling);
            if is_its_own {
                return Err(PullError::Piece(bad));
            }
            // From its beginning, it is the main server's alone.
            self.condemn_last_contributor(task, round, PullError::Piece(bad).to_string());
            return Ok(AttemptOutcome::Preempted);
        }
        if std::mem::take(&mut pulling.is_refuted) {
            // A main server that builds a package for each who asks may send any bytes.
            let is_built_once = matches!(pulling.version, Some(PackageVersion::Validators(_)));
            let wrong = is_built_once && self.condemn_contributors(task, round);
            let cause = if wrong { "were wrong" } else { "were of another build" };
            warn!(
                "meeting {}: the bytes of it that came from other nodes {cause}",
                task.flight.id()
            );
        }
        if !matches!(received, Ok(None)) {
            if received.as_ref().err().is_none_or(PullError::is_broken_off)
                && pulling.is_worth_keeping()
            {
                // The partial package waits without a permit: there may be many of them.
                tasks::block_in_place(|| pulling.pending.pause())?;
                round.partial = Some(pulling);
            }
            return received.map(|_| AttemptOutcome::Preempted);
        }
        if pulling.is_relayed && pulling.announced.sha256.is_none() {
            // The main server has sent only the rest: nothing vouches for what came
            // before.
            round.relay.disable();
            let cause = "a part of it came from nodes that can't prove it any more".to_owned();
            return Err(PullError::Unusable(cause));
        }
        let is_relayed = pulling.is_relayed;
        match self.commit(task, pulling, offer, began).await {
            Err(PullError::Store(StoreError::Bad(error)))
                if is_relayed && error.is_damage() && self.condemn_contributors(task, round) =>
            {
                warn!(
                    "meeting {}: what came of it from other nodes was wrong: {error}",
                    task.flight.id()
                );
                // Without them.
                Ok(AttemptOutcome::Preempted)
            }
            committed => committed.map(AttemptOutcome::Pulled),
        }
    }

    pub(super) fn begin_or_resume(
        &self,
        task: &AttemptContext<'_>,
        resumed: Option<PartialPull>,
        answer: &OriginAnswer,
        origin: Origin,
    ) -> Result<PartialPull, PullError> {
        match resumed.and_then(|partial| partial.resume(answer)) {
            Some(resumed) => {
                let (id, at) = (task.flight.id(), resumed.pending.received_bytes());
                debug!("meeting {id}: resumed at {at}");
                Ok(resumed)
            }
            // The partial file of another version is dropped by now, with its room.
            None => self.begin(task, answer, origin),
        }
    }

    /// Receives a body until its end (None) or until it is interrupted; None in all if the
    /// pull was cancelled.
    pub(super) fn transfer<I>(
        &self,
        task: &AttemptContext<'_>,
        body: &mut OriginBody,
        pulling: &mut PartialPull,
        interrupted: impl Future<Output = I>,
    ) -> Option<Result<Option<I>, PullError>> {
        // Moving each write to another thread, so that a slow disk blocks nobody
        // else, was measured to cost 8 % of the time of a fast pull.
        tasks::block_on_in_place(async {
            tokio::select! {
                // First: after the end, nothing else may be polled any more.
                biased;
                () = task.flight.run().cancelled() => None,
                interruption = interrupted => Some(Ok(Some(interruption))),
                received = self.receive(task, body, pulling) => Some(received.map(|()| None)),
            }
        })
    }

    /// Chooses where to pull from and sends the request.
    async fn ask(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        retry: bool,
    ) -> Result<RequestOutcome, PullError> {
        let (choice, offer) = self.choose_origin(task, &round.gone, retry).await?;
        let origin = match choice {
            OriginChoice::Pull(origin) => origin,
            OriginChoice::WaitUntil(until) => {
                return Ok(RequestOutcome::Unanswered(AttemptOutcome::NotOffered(until)));
            }
        };
        // The bytes of one origin are continued from that one only. They stay where they
        // are until it has answered: this may be given up meanwhile.
        if round.partial.as_ref().is_some_and(|partial| partial.origin != origin) {
            round.partial = None;
        }
        let began = Instant::now();
        match origin.open(task, round.partial.as_ref()).await {
            Ok(answer) => {
                let resumed = round.partial.take();
                let asked = AnsweredRequest { origin, offer, resumed, answer, began };
                Ok(RequestOutcome::Answered(Box::new(asked)))
            }
            Err(OpenError::Gone) => {
                round.gone.push(origin);
                Ok(RequestOutcome::Unanswered(AttemptOutcome::OfferGone))
            }
            Err(OpenError::Failed(error)) => {
                // Still good to resume from, unless the range was refused.
                let kept = round.partial.take();
                round.partial =
                    kept.filter(|kept| !error.is_unsatisfiable() && kept.is_worth_keeping());
                Err(error.into())
            }
        }
    }
}

fn is_adopted(stored: &Arc<StoredPackage>) -> bool {
    stored.manifest.source.route == PackageRoute::Adopted
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{Json, Router, routing::get};
    use edge_mirror_base::tasks::Tasks;
    use edge_mirror_http::listen::Listener;
    use edge_mirror_settings::Settings;
    use edge_mirror_store::{Store, testing::zip_of};
    use serde_json::json;

    use super::{super::Fetch, *};
    use crate::board::StatusBoard;

    /// Yields until `is_so`.
    async fn until(mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_stopped_while_it_was_verified_takes_no_place() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.address().port();
        let zip = zip_of(b"late");
        let router = Router::new()
            .route("/api/v1/meetings/active/meetings", get(async || Json(json!([]))))
            .route("/api/v1/meetings/m/download-package-direct", get(async move || zip.clone()));
        let serving = listener.serve(router, tasks.clone(), tasks.token().clone());
        tasks.spawn("main server", serving);
        let file = folder.path().join("node_config.json");
        let config = json!({"mainServerIp": "127.0.0.1", "mainServerPort": port, "nodeId": "n"});
        std::fs::write(&file, config.to_string()).unwrap();
        let settings = std::sync::Arc::new(Settings::load_or_create(&file).unwrap());
        let store = Store::open(&folder.path().join("storage")).unwrap().0;
        let board = std::sync::Arc::new(StatusBoard::new(store.clone(), 0));
        let fetch = Fetch::new(settings, board, Default::default(), tasks.child());
        let id = "m".parse().unwrap();
        let files = |name: &str| {
            let folder = folder.path().join("storage").join(name);
            std::fs::read_dir(folder).into_iter().flatten().count()
        };

        let pull = |fetch: &Fetch| fetch.pull(&id, PullReason::Missing);
        let still = store.lock_for_test();
        pull(&fetch);
        let verifying = |fetch: &Fetch| {
            fetch.under_way().get(&id).is_some_and(|pull| pull.phase == PullPhase::Verifying)
        };
        until(|| verifying(&fetch)).await;
        fetch.stop();
        drop(still);
        // The scratch file goes in any case.
        until(|| files(".scratch") == 0).await;
        drop(store.lock_for_test());
        assert!(store.get(&id).is_none() && files("meeting_m") == 0);

        fetch.start();
        pull(&fetch);
        until(|| store.get(&id).is_some()).await;
        tasks.shut_down(std::time::Duration::from_secs(5)).await;
    }
}
