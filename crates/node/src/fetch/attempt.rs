//! One round: attempts with pauses between them, each of which may resume
//! where the last one stopped.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    default_title,
    package::{PackageId, PackageRoute, PackageSource, Sha256, Validators, VerifyLevel},
};
use edge_mirror_settings::Config;
use edge_mirror_store::{Provenance, StoreError, StoredPackage, growing::PartialWriter};
use reqwest::{Response, StatusCode, header};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    FetchInner, Flight, Offer, PullError, PullPhase, PullReason, PulledPackage,
    gate::PullPermit,
    is_from_origin,
    request::{AttemptContext, PartialPull, is_continuation, is_replay},
    retry,
    source::SourceChoice,
};
use crate::{
    board::CheckOccasion,
    upstream::{AnnouncedPackage, PackageLocation, root_cause},
};

/// Small chunks are gathered into one write, to save system calls.
const BATCH_BYTES: usize = 256 << 10;
/// On a slow line a batch takes seconds, and readers of the partial package read
/// the file: if no more bytes are there to be taken, a smaller batch is written,
/// but not more often than this.
const WRITE_PAUSE: Duration = Duration::from_millis(5);
/// The first bytes of an archive: nothing is evicted for an error page.
const ARCHIVE_BEGINS: &[u8] = b"PK";
/// Chunks of this size are not copied any more. A fast line's come in 400 KiB.
const LARGE_BYTES: usize = 64 << 10;

/// State that an attempt leaves for the round's next one.
#[derive(Default)]
struct RoundState {
    partial: Option<PartialPull>,
    /// Offers that were not there.
    gone: Vec<PackageLocation>,
    /// The place in the gate's queue.
    arrival: Option<u64>,
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
    place: PackageLocation,
    offer: Offer,
    resumed: Option<PartialPull>,
    response: Response,
    announced: AnnouncedPackage,
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
        let mut round = RoundState::default();
        for attempt in 1.. {
            flight.set_attempt(attempt);
            let (config, outcome) = self.attempt(flight, &mut round, attempt > 1).await;
            let error = match outcome {
                Ok(pulled) => return Ok(pulled),
                Err(error) => error,
            };
            self.count_failed(&error);
            let retries = config.network.retry_count;
            if error.is_final() || attempt >= retries {
                return Err(error);
            }
            let base = Duration::from_secs(config.network.retry_delay);
            let pause = retry::pause(attempt, base, fastrand::f64());
            warn!(
                "meeting {}: attempt {attempt} of {retries} failed, next in {:.1} s: {error}",
                flight.id(),
                pause.as_secs_f64()
            );
            flight.note_failure(&error, pause);
            self.board.counts.retries.inc();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = flight.wait_for_retry() => {}
            }
        }
        Err(PullError::Stopped)
    }

    fn count_failed(&self, error: &PullError) {
        let (counts, cause) = (&self.board.counts, error.fault().cause);
        counts.failed_attempts.inc(cause);
        if let PullError::Store(StoreError::Bad(error)) = error {
            counts.bad_package(CheckOccasion::Pulled, error);
        }
    }

    /// Verifies a package left by another node, or without its manifest, and takes
    /// it over as it is; a damaged one is removed.
    pub(super) async fn adopt(&self, id: &PackageId) -> Option<Arc<StoredPackage>> {
        let (store, looking, wanted) = (self.board.store(), self.board.store(), id.clone());
        let unverified = {
            let _turn = self.disk_looks.acquire().await;
            tasks::blocking(move || looking.has_unverified(&wanted)).await
        };
        if !unverified {
            return None;
        }
        let verify = self.settings.current().storage.verify;
        let source = PackageSource {
            route: PackageRoute::Adopted,
            origin: None,
            validators: Validators::default(),
        };
        let title =
            self.offer(id).and_then(|offer| offer.title).unwrap_or_else(|| default_title(id));
        let (id, provenance) = (id.clone(), Provenance::of_package(title, source));
        let board = self.board.clone();
        tasks::blocking(move || match store.adopt(&id, verify, None, provenance) {
            Ok(adopted) => {
                info!("package of meeting {id} found on disk, verified and adopted");
                Some(adopted)
            }
            Err(StoreError::Bad(error)) if error.is_damage() => {
                warn!("package of meeting {id} found on disk is not good and goes: {error}");
                board.counts.bad_package(CheckOccasion::Found, &error);
                if let Err(error) = store.discard_unverified(&id) {
                    warn!("it could not be removed: {error}");
                }
                None
            }
            Err(error) => {
                warn!("package of meeting {id} found on disk is left alone, not served: {error}");
                None
            }
        })
        .await
    }

    fn offer(&self, id: &PackageId) -> Option<Offer> {
        self.state().catalogue.offers.get(id).cloned()
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
            flight.set_phase(PullPhase::Waiting);
            let (permit, arrival) = self.gate.enter(flight.urgency(), round.arrival).await;
            round.arrival = Some(arrival);
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
        let held = store.get(flight.id()).filter(|held| is_from_origin(held, upstream.origin()));
        let task = AttemptContext { flight, config, upstream: &upstream, store: &store, held };
        let recall = permit.preempted();
        let asking = recall.run_until_cancelled(self.ask(&task, round, retry));
        let Some(asked) = asking.await else { return Ok(AttemptOutcome::Preempted) };
        let AnsweredRequest { place, offer, resumed, response, announced, began } = match asked? {
            RequestOutcome::Answered(asked) => *asked,
            RequestOutcome::Unanswered(tried) => return Ok(tried),
        };
        flight.set_phase(PullPhase::Pulling);
        if let Some(held) = task.unchanged_version(&response, &announced, &place) {
            let source = held.manifest.source.clone();
            let title = offer.title.unwrap_or_else(|| held.manifest.title.clone());
            let confirmed = tasks::blocking(move || store.confirm(&held, title, source)).await;
            let gone = || PullError::Unusable("its package was removed meanwhile".to_owned());
            return Ok(AttemptOutcome::Pulled(PulledPackage {
                stored: confirmed.ok_or_else(gone)?,
                changed: false,
            }));
        }
        let resumed = resumed.and_then(|mut from| {
            let rest = is_continuation(&response, &announced, &from);
            from.replayed_bytes = (!rest).then_some(0);
            (rest || is_replay(&response, &announced, &from)).then_some(from)
        });
        let mut pulling = match resumed {
            Some(resumed) => {
                debug!("meeting {}: resumed at {}", flight.id(), resumed.pending.received_bytes());
                resumed
            }
            // The partial file of another version is dropped by now, with its room.
            None => self.begin(&task, &response, place, announced)?,
        };
        // Moving each write to another thread, so that a slow disk blocks nobody
        // else, was measured to cost 8 % of the time of a fast pull.
        let received = tasks::block_on_in_place(async {
            tokio::select! {
                // First: after the end, nothing else may be polled any more.
                biased;
                () = flight.run().cancelled() => None,
                () = recall.cancelled() => Some(Ok(false)),
                received = self.receive(&task, response, &mut pulling) => {
                    Some(received.map(|()| true))
                }
            }
        });
        let Some(received) = received else {
            // The caller sees the cancellation, too, and stops.
            return std::future::pending().await;
        };
        if !matches!(received, Ok(true)) {
            if received.as_ref().err().is_none_or(is_broken_off) && pulling.is_worth_keeping() {
                // The partial package waits without a permit: there may be many of them.
                tasks::block_in_place(|| pulling.pending.pause())?;
                round.partial = Some(pulling);
            }
            return received.map(|_| AttemptOutcome::Preempted);
        }
        self.commit(&task, pulling, offer, began).await.map(AttemptOutcome::Pulled)
    }

    /// Chooses where to pull from and sends the request.
    async fn ask(
        &self,
        task: &AttemptContext<'_>,
        round: &mut RoundState,
        retry: bool,
    ) -> Result<RequestOutcome, PullError> {
        let (choice, offer) = self.choose_source(task, &round.gone, retry).await?;
        let place = match choice {
            SourceChoice::Pull(place) => place,
            SourceChoice::WaitUntil(until) => {
                return Ok(RequestOutcome::Unanswered(AttemptOutcome::NotOffered(until)));
            }
        };
        let resumed = round.partial.take().filter(|partial| partial.place == place);
        let began = Instant::now();
        match task.ask(&place, resumed.as_ref()).await {
            Ok((response, announced)) => {
                let asked = AnsweredRequest { place, offer, resumed, response, announced, began };
                Ok(RequestOutcome::Answered(Box::new(asked)))
            }
            // Only on the direct route does a 404 mean that there is no such meeting.
            Err(error) if error.is_not_found() && place != PackageLocation::Direct => {
                round.gone.push(place);
                Ok(RequestOutcome::Unanswered(AttemptOutcome::OfferGone))
            }
            Err(error) => {
                // Still good to resume from, unless the range was refused.
                round.partial =
                    resumed.filter(|kept| !error.is_unsatisfiable() && kept.is_worth_keeping());
                Err(error.into())
            }
        }
    }

    fn begin(
        &self,
        task: &AttemptContext<'_>,
        response: &Response,
        place: PackageLocation,
        announced: AnnouncedPackage,
    ) -> Result<PartialPull, PullError> {
        if response.status() != StatusCode::OK {
            return Err(PullError::Unusable(format!("unexpected status {}", response.status())));
        }
        let encoding = response.headers().get(header::CONTENT_ENCODING);
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            return Err(PullError::Unusable(format!("it is encoded as {encoding:?}")));
        }
        let (id, limit) = (task.flight.id(), task.config.storage.max_size);
        let length = announced.length;
        let begin = || task.store.begin(id, length, limit);
        let bytes = length.unwrap_or(0);
        let could_make = || self.can_make_room(task, bytes, task.store.shortage(id, bytes, limit));
        let mut pending = tasks::block_in_place(|| match begin() {
            // Anybody can announce a length: evict others only as the bytes come.
            Err(StoreError::NoRoom(_)) if could_make() => {
                task.store.begin_in_steps(id, bytes, limit)
            }
            other => other,
        })?;
        if task.config.storage.verify == VerifyLevel::Full {
            pending.unpack_while_receiving();
        }
        // A package pulled to compare is most often thrown away.
        if task.flight.reason() != PullReason::Compare {
            pending.sync_while_receiving();
        }
        let followable = length.filter(|_| !is_error_page(response));
        let grower = followable.and_then(|length| {
            tasks::block_in_place(|| PartialWriter::begin(&pending, length, announced.sha256))
        });
        if let Some(grower) = &grower {
            task.flight.set_growing(task.upstream.origin(), grower.growing());
        }
        let replayed_bytes = None;
        Ok(PartialPull { pending, place, announced, grower, replayed_bytes, is_archive: false })
    }

    /// Receives the body: written in batches as it arrives. Blocks this thread on the disk.
    async fn receive(
        &self,
        task: &AttemptContext<'_>,
        mut response: Response,
        pulling: &mut PartialPull,
    ) -> Result<(), PullError> {
        let network = &task.config.network;
        let mut deadline = Instant::now() + Duration::from_secs(network.download_timeout);
        let stall = Duration::from_secs(network.connection_timeout);
        let total = pulling.announced.length;
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        let mut arrived_at = Instant::now();
        // A client may be waiting for the first bytes.
        let mut written_at = arrived_at.checked_sub(WRITE_PAUSE).unwrap_or(arrived_at);
        loop {
            let limit = deadline.min(arrived_at + stall);
            let write_at =
                if batch.is_empty() { limit } else { limit.min(written_at + WRITE_PAUSE) };
            let chunk = match tokio::time::timeout_at(write_at, response.chunk()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => {
                    self.write(task, pulling, &batch)?;
                    let received = pulling.pending.received_bytes();
                    let cause = root_cause(&error);
                    return Err(PullError::Interrupted { received, total, cause });
                }
                Err(_) if Instant::now() < limit => {
                    self.write(task, pulling, &batch)?;
                    batch.clear();
                    written_at = Instant::now();
                    continue;
                }
                Err(_) => {
                    self.write(task, pulling, &batch)?;
                    let late = Instant::now() >= deadline;
                    return Err(match late {
                        true => PullError::TooSlow(network.download_timeout),
                        false => PullError::Stalled(network.connection_timeout),
                    });
                }
            };
            let Some(chunk) = chunk else { break };
            // A delay of our own limit does not count as the main server's.
            let held_up = self.pacer.throttle(chunk.len()).await;
            deadline += held_up;
            arrived_at = Instant::now();
            let chunk = pulling.skip_replayed(chunk)?;
            // Shown to operators as it comes: on a slow line a batch takes seconds.
            let gathered = (batch.len() + chunk.len()) as u64;
            task.flight.set_received(pulling.pending.received_bytes() + gathered, total);
            if batch.is_empty() && chunk.len() >= LARGE_BYTES {
                self.write(task, pulling, &chunk)?;
                written_at = arrived_at;
                continue;
            }
            batch.extend_from_slice(&chunk);
            if batch.len() >= BATCH_BYTES || !held_up.is_zero() {
                self.write(task, pulling, &batch)?;
                batch.clear();
                written_at = arrived_at;
            }
        }
        self.write(task, pulling, &batch)?;
        let received = pulling.pending.received_bytes();
        match total {
            Some(total) if total != received => {
                let cause = "the answer ended".to_owned();
                Err(PullError::Interrupted { received, total: Some(total), cause })
            }
            _ => Ok(()),
        }
    }

    fn write(
        &self,
        task: &AttemptContext<'_>,
        pulling: &mut PartialPull,
        bytes: &[u8],
    ) -> Result<(), PullError> {
        let pending = &mut pulling.pending;
        let after = pending.received_bytes() + bytes.len() as u64;
        if pending.received_bytes() == 0 {
            pulling.is_archive = bytes.starts_with(ARCHIVE_BEGINS);
        }
        let is_archive = pulling.is_archive;
        let make_room = |shortage| is_archive && self.make_room(task, after, shortage);
        // Writing here, in batches, was measured faster than handing over to
        // another thread.
        match pending.write(bytes) {
            Err(StoreError::NoRoom(_)) if make_room(pending.shortage(after)) => {
                pending.write(bytes)
            }
            other => other,
        }?;
        if let Some(grower) = &pulling.grower {
            grower.set_written(pending.received_bytes());
        }
        self.pulled_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn commit(
        &self,
        task: &AttemptContext<'_>,
        pulling: PartialPull,
        offer: Offer,
        began: Instant,
    ) -> Result<PulledPackage, PullError> {
        let id = task.flight.id();
        task.flight.set_phase(PullPhase::Verifying);
        let PartialPull { pending, place, announced, grower, .. } = pulling;
        let digest: Option<Sha256> = announced.sha256.or(offer.sha256);
        let modified_s = modified_s(&announced.validators);
        let source = PackageSource {
            route: place.route(),
            origin: Some(task.upstream.origin().to_owned()),
            validators: announced.validators,
        };
        let title = offer.title.unwrap_or_else(|| default_title(id));
        let provenance = Provenance { modified_s, ..Provenance::of_package(title, source) };
        let verify = task.config.storage.verify;
        // Verifying can't be interrupted, but a pull that was stopped meanwhile
        // must not replace the result of a later one.
        let run = task.flight.run().clone();
        let wanted = move || !run.is_cancelled();
        let stored = tasks::blocking(move || pending.commit(verify, digest, provenance, wanted));
        let stored = stored.await?;
        if let Some(grower) = grower {
            // Readers of the partial package continue with the copy that others use.
            let followed = grower.growing().has_readers();
            let package = match followed {
                true => task.store.package(id).await.ok().flatten(),
                false => None,
            };
            let same = package.filter(|(now, _)| now.manifest.sha256 == stored.manifest.sha256);
            grower.verified(&stored, same.map(|(_, opened)| opened));
        }
        let before = task.held.as_ref().map(|held| held.manifest.sha256);
        let changed = before != Some(stored.manifest.sha256);
        if changed {
            let (manifest, seconds) = (&stored.manifest, began.elapsed().as_secs_f64());
            info!(
                "package of meeting {id} ({}) pulled and verified: {} bytes in {seconds:.1} s, {} files",
                manifest.title, manifest.size_bytes, manifest.file_count
            );
        }
        Ok(PulledPackage { stored, changed })
    }
}

fn is_adopted(stored: &Arc<StoredPackage>) -> bool {
    stored.manifest.source.route == PackageRoute::Adopted
}

fn modified_s(validators: &Validators) -> Option<u64> {
    let at = httpdate::parse_http_date(validators.last_modified.as_deref()?).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// True if the bytes received so far are good for the next attempt.
fn is_broken_off(error: &PullError) -> bool {
    matches!(error, PullError::Interrupted { .. } | PullError::Stalled(_) | PullError::TooSlow(_))
}

/// An error page, though its status is a success: of no use to a client that waits
/// for a package.
fn is_error_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/") || kind.starts_with("application/json")
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

    use super::super::Fetch;
    use crate::{
        board::StatusBoard,
        fetch::{PullPhase, PullReason},
    };

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
