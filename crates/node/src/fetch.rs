//! One package onto disk: single flight, retries, resume, verification, commit.
//!
//! One flight pulls a package for all who ask for it; they wait for that flight,
//! and it goes on when they leave. A flight is one round: up to `retryCount`
//! attempts. `node/sync` decides when to begin another round for an active meeting.

mod admission;
mod adopt;
mod attempt;
mod background;
mod commit;
mod context;
mod error;
pub(crate) mod files;
mod flight;
mod gap;
mod gate;
mod origin;
mod outcome;
mod partial;
pub(crate) mod pieces;
mod rate;
mod relay;
mod room;
mod shared_file;
mod sibling_copy;
mod state;
mod withhold;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use edge_mirror_base::{pacer::Pacer, tasks::Tasks};
use edge_mirror_http::{limits::Limit, listen::rate_limit_key};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::{Config, Settings};
use edge_mirror_store::{OpenedPackage, StoreError, growing::PartialPackage};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::warn;

use crate::{
    board::{PullEnd, StatusBoard},
    siblings::SiblingDirectory,
    upstream::{Connector, MainServerInUse},
};
use admission::{ClientWaiters, WaitPermit};
pub use error::{PullError, PullReason};
pub use flight::{Flight, PullPhase, PullProgress, PullSource, SourceReason};
use gate::Gate;
pub use origin::{Catalogue, Offer};
pub use outcome::{PullResult, PulledPackage};
pub use pieces::BadPiece;
pub use room::candidate as eviction_candidate;
pub use sibling_copy::SiblingCopy;
use state::FetchState;

/// The package may be replaced, or the main server changed, between the end of a
/// pull and the opening; more than once in a row is no coincidence.
const OBTAIN_TRIES: usize = 3;

/// Clients can invent ids: while the main server hangs, these must not pile up
/// pulls. Active meetings are pulled beyond this limit.
const MAX_FLIGHTS: usize = 256;
/// Pulls that begin together look at the disk before they wait for permits: a
/// thousand of them must not take a thread each.
const DISK_LOOKS: usize = 4;
/// Pulls from other nodes that receive at a time. Each takes one of the runtime's 512 threads.
const RELAY_PLACES: usize = 64;
/// Unlisted flights per address: the tablets of a venue that share one ask for the
/// same few packages.
const MAX_FLIGHTS_PER_CLIENT: usize = 16;

/// A package that a client can be sent.
pub enum ServablePackage {
    Here(OpenedPackage),
    /// Being pulled: its bytes can be read as they arrive.
    Growing(Arc<PartialPackage>),
}

/// A flight that a client waits for.
struct AwaitedFlight {
    flight: Arc<Flight>,
    _waiter: Option<WaitPermit>,
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Fetch {
    inner: Arc<FetchInner>,
}

struct FetchInner {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    connector: Arc<Connector>,
    siblings: Arc<SiblingDirectory>,
    tasks: Tasks,
    gate: Gate,
    /// Permits for looking for a package on disk.
    disk_looks: Semaphore,
    /// Permits for receiving from other nodes.
    relay_places: Semaphore,
    state: Mutex<FetchState>,
    allowance: Mutex<room::EvictionBudget>,
    waiters: Arc<ClientWaiters>,
    pulled_bytes: AtomicU64,
    /// `network.bandwidth`, which all pulls share.
    pacer: Pacer,
    /// `network.schedule`, for pulls that only compare.
    background_pacer: Pacer,
    /// Changes whenever pulls may have to give way, or need not any more.
    turns: watch::Sender<()>,
    /// The file of a task that is being received, or was last.
    shared_file: watch::Sender<Option<shared_file::SharedFile>>,
}

impl Fetch {
    pub fn new(
        settings: Arc<Settings>,
        board: Arc<StatusBoard>,
        connector: Arc<Connector>,
        tasks: Tasks,
    ) -> Self {
        let siblings = Arc::new(SiblingDirectory::new(settings.clone(), board.clone()));
        let gate = Gate::new(settings.current().network.max_concurrent_downloads);
        let state = FetchState::new(tasks.token().child_token());
        let inner = FetchInner {
            settings,
            board,
            connector,
            siblings,
            tasks,
            gate,
            disk_looks: Semaphore::new(DISK_LOOKS),
            relay_places: Semaphore::new(RELAY_PLACES),
            state: Mutex::new(state),
            allowance: Mutex::default(),
            waiters: Arc::default(),
            pulled_bytes: AtomicU64::new(0),
            pacer: Pacer::default(),
            background_pacer: Pacer::default(),
            turns: watch::Sender::new(()),
            shared_file: watch::Sender::default(),
        };
        inner.pacer.set_rate(inner.settings.current().network.bandwidth);
        Self { inner: Arc::new(inner) }
    }

    /// The other nodes of the fleet.
    pub fn siblings(&self) -> &Arc<SiblingDirectory> {
        &self.inner.siblings
    }

    /// Opens a meeting's package, and pulls it first if it is not stored. Only then
    /// is the client's address evaluated.
    pub(crate) async fn obtain(
        &self,
        id: &PackageId,
        client: &(dyn Fn() -> IpAddr + Sync),
    ) -> Result<OpenedPackage, Arc<PullError>> {
        if self.is_withheld(id) {
            self.wait_for_start(id, client).await?;
        }
        for _ in 0..OBTAIN_TRIES {
            if let Some(found) = self.open(id).await.map_err(|error| Arc::new(error.into()))? {
                return Ok(found);
            }
            if let Some(joined) = self.join(id, client)? {
                joined.flight.outcome().await?;
            }
        }
        let cause = "it changed again and again while it was pulled".to_owned();
        Err(Arc::new(PullError::Unusable(cause)))
    }

    /// Like [`obtain`](Self::obtain), but waits for a missing package only until
    /// its first bytes arrive, if `serve.cutThrough` allows it and the main server
    /// announced the length. Without that there would be no `Content-Length`, no
    /// ranges and no progress, and only a missing last chunk would show a truncated
    /// package: then it waits.
    pub(crate) async fn open_or_follow(
        &self,
        id: &PackageId,
        client: &(dyn Fn() -> IpAddr + Sync),
    ) -> Result<ServablePackage, Arc<PullError>> {
        if self.is_withheld(id) {
            self.wait_for_start(id, client).await?;
        }
        if let Some(package) = self.open(id).await.map_err(|error| Arc::new(error.into()))? {
            return Ok(ServablePackage::Here(package));
        }
        let config = self.inner.settings.current();
        if config.serve.cut_through
            && let Some(joined) = self.join(id, client)?
            && let Some(growing) = joined.flight.growing(config.main_server()).await?
        {
            return Ok(ServablePackage::Growing(growing));
        }
        self.obtain(id, client).await.map(ServablePackage::Here)
    }

    /// The package, if it is stored, open, from the current main server, and not withheld.
    /// Takes no lock and never waits.
    pub fn get_if_open(&self, id: &str) -> Option<OpenedPackage> {
        let package = self.inner.board.store.peek().get_if_open(id)?;
        let is_given = !package.0.manifest.withheld
            && package.0.is_of_fleet(self.inner.settings.peek().fleet());
        is_given.then_some(package)
    }

    /// The package, if it is stored and from the current main server.
    async fn open(&self, id: &PackageId) -> Result<Option<OpenedPackage>, StoreError> {
        let found = self.inner.board.store().package(id).await?;
        let config = self.inner.settings.current();
        Ok(found.filter(|(stored, _)| stored.is_of_fleet(config.fleet())))
    }

    /// Begins a flight, or joins the one under way.
    pub fn pull(&self, id: &PackageId, reason: PullReason) -> Arc<Flight> {
        let mut state = self.inner.state();
        self.launch(&mut state, id, reason, None)
    }

    /// Like [`pull`](Self::pull), for a waiting client: returns a recent refusal
    /// again, None if the package has arrived meanwhile.
    fn join(
        &self,
        id: &PackageId,
        client: &dyn Fn() -> IpAddr,
    ) -> Result<Option<AwaitedFlight>, Arc<PullError>> {
        if self.inner.board.sync.borrow().active.contains(id) {
            let flight = self.join_as(id, PullReason::OnDemand, None)?;
            return Ok(flight.map(|flight| AwaitedFlight { flight, _waiter: None }));
        }
        let client = rate_limit_key(client());
        let waiter = self.inner.waiters.admit(client, self.inner.board.connections.places());
        let Some(waiter) = waiter else {
            self.inner.board.counts.limits.inc(Limit::PullWaiters);
            return Err(Arc::new(PullError::TooManyWaiters));
        };
        let joined = self.join_as(id, PullReason::Unlisted, Some(client));
        if let Err(error) = &joined
            && matches!(**error, PullError::ClientBusy)
        {
            self.inner.board.counts.limits.inc(Limit::PullsPerClient);
        }
        Ok(joined?.map(|flight| AwaitedFlight { flight, _waiter: Some(waiter) }))
    }

    fn join_as(
        &self,
        id: &PackageId,
        reason: PullReason,
        client: Option<IpAddr>,
    ) -> Result<Option<Arc<Flight>>, Arc<PullError>> {
        let (mut state, config) = (self.inner.state(), self.inner.settings.current());
        if reason != PullReason::Prestage && state.is_prestaged(id, config.main_server()) {
            return Err(Arc::new(PullError::NotStarted));
        }
        if !state.flights.contains_key(id) {
            // A flight that has just ended left one of these two.
            let stored = self.inner.board.store().get(id);
            if stored.is_some_and(|stored| stored.is_of_fleet(config.fleet())) {
                return Ok(None);
            }
            if let Some(error) = state.refusals.get(id, Instant::now()) {
                return Err(error);
            }
            if reason == PullReason::Unlisted {
                state.admit_unlisted(client).map_err(Arc::new)?;
            }
        }
        Ok(Some(self.launch(&mut state, id, reason, client)))
    }

    fn launch(
        &self,
        state: &mut FetchState,
        id: &PackageId,
        reason: PullReason,
        client: Option<IpAddr>,
    ) -> Arc<Flight> {
        if let Some(flight) = state.flights.get(id) {
            self.inner.raise(flight, reason);
            return flight.clone();
        }
        let flight = Arc::new(Flight::new(id.clone(), reason, client, state.run.child_token()));
        state.flights.insert(id.clone(), flight.clone());
        let (inner, job) = (self.inner.clone(), flight.clone());
        self.inner.tasks.spawn("pull", async move {
            let began = Instant::now();
            let round = job.run().run_until_cancelled(inner.run_round(&job)).await;
            let round = round.unwrap_or_else(|| Err(inner.cause_of_end(&job)));
            inner.count(&round, began);
            inner.end(&job, round);
            inner.note_turn();
        });
        self.inner.note_turn();
        flight
    }

    /// Ends the pull of a meeting that is no longer listed, unless a client waits
    /// for it: it would delay others.
    pub(crate) fn cancel_pull(&self, id: &PackageId) {
        let mut state = self.inner.state();
        if state.flights.get(id).is_some_and(|flight| !flight.is_awaited())
            && let Some(flight) = state.flights.remove(id)
        {
            flight.run().cancel();
        }
    }

    /// Verifies a package that was found on disk; never asks the main server.
    pub async fn adopt(&self, id: &PackageId) {
        self.inner.adopt(id).await;
    }

    /// Progress of all pulls, by meeting.
    pub fn under_way(&self) -> HashMap<PackageId, PullProgress> {
        let state = self.inner.state();
        state.flights.iter().map(|(id, flight)| (id.clone(), flight.progress())).collect()
    }

    pub fn set_catalogue(&self, catalogue: Catalogue) {
        self.inner.state().set_catalogue(catalogue, Instant::now());
    }

    /// A package is being made at the main server, and pulls wait for its offer.
    pub(crate) fn is_awaiting_offers(&self) -> bool {
        let state = self.inner.state();
        let waits = |since: &Instant| since.elapsed() < origin::LONGEST_WAIT;
        !state.offer_timed_out && state.unoffered.values().any(waits)
    }

    /// The main server has come back or has news: clears refusals and ends pauses,
    /// as it may now give what it refused.
    pub(crate) fn retry_now(&self) {
        let mut state = self.inner.state();
        state.refusals.clear();
        state.flights.values().for_each(|flight| flight.wake());
    }

    /// Like [`retry_now`](Self::retry_now), for one meeting.
    pub(crate) fn retry_meeting(&self, id: &PackageId) {
        let mut state = self.inner.state();
        state.refusals.remove(id);
        if let Some(flight) = state.flights.get(id) {
            flight.wake();
        }
    }

    /// The main server that is asked now, and those that do not answer.
    pub(crate) fn main_server_in_use(&self) -> MainServerInUse {
        self.inner.connector.in_use().borrow().clone()
    }

    /// Changes of the main server in use because one did not answer.
    pub(crate) fn failovers(&self) -> u64 {
        self.inner.connector.failovers()
    }

    /// Recent refusals to clients, with their errors.
    pub fn refused(&self) -> Vec<(PackageId, String)> {
        self.inner.state().refusals.list(Instant::now())
    }

    /// Applies a changed configuration.
    pub fn apply(&self, config: &Config) {
        self.inner.gate.set_limit(config.network.max_concurrent_downloads);
        self.inner.pacer.set_rate(config.network.bandwidth);
    }

    /// Ends all flights; their waiters get `Stopped`.
    pub fn stop(&self) {
        self.inner.state().run.cancel();
    }

    /// Allows flights again after a [`stop`](Self::stop).
    pub fn start(&self) {
        let mut state = self.inner.state();
        if state.run.is_cancelled() {
            state.run = self.inner.tasks.token().child_token();
            state.refusals.clear();
            // Earlier flights are ending; nobody may join them any more.
            state.flights.clear();
        }
    }

    pub(crate) fn pulled_bytes(&self) -> u64 {
        self.inner.pulled_bytes.load(Ordering::Relaxed)
    }
}

impl FetchInner {
    fn state(&self) -> MutexGuard<'_, FetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone else needs the package, too, for this reason.
    fn raise(&self, flight: &Flight, reason: PullReason) {
        flight.raise_priority(reason);
        self.gate.admit();
        self.note_turn();
    }

    fn count(&self, round: &Result<PulledPackage, PullError>, began: Instant) {
        let (counts, end) = (&self.board.counts, outcome::pull_end(round));
        counts.pulls.inc(end);
        if end == PullEnd::Pulled {
            counts.pull_duration.observe(began.elapsed());
        }
    }

    /// Removes the flight from the list; only then may another one begin.
    fn end(&self, flight: &Flight, round: Result<PulledPackage, PullError>) {
        let outcome = round.map_err(Arc::new);
        {
            let mut state = self.state();
            match &outcome {
                Ok(_) => state.refusals.remove(flight.id()),
                Err(error) if error.is_end() => {}
                Err(error) => state.refusals.put(flight.id(), error, Instant::now()),
            }
            if state
                .flights
                .get(flight.id())
                .is_some_and(|current| std::ptr::eq(&**current, flight))
            {
                state.flights.remove(flight.id());
            }
        }
        if let Err(error) = &outcome
            && !error.is_end()
        {
            warn!("package of meeting {} could not be pulled: {error}", flight.id());
        }
        flight.finish(outcome);
    }
}
