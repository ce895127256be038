//! One round of pulling one package, as its waiters see it.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use edge_mirror_base::{clock::UnixMillis, metrics::labels};
use edge_mirror_protocol::{
    Fault,
    package::{PackageId, Sha256},
    relay::{Sibling, auth::PackageVersion},
};
use edge_mirror_store::growing::PartialPackage;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{PullError, PullReason, PullResult, rate::TransferRate};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPhase {
    /// Queued for a permit.
    Waiting,
    Pulling,
    Verifying,
    /// Between two attempts.
    Pausing,
    /// In the background, until others have what they need or the schedule allows it.
    Deferred,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullProgress {
    pub phase: PullPhase,
    pub reason: PullReason,
    pub attempt: u32,
    pub received_bytes: u64,
    pub total_bytes: Option<u64>,
    /// Bytes per second now.
    pub rate: u64,
    /// The last attempt's failure, and when the next one begins.
    pub failure: Option<(Fault, UnixMillis)>,
    pub source: PullSource,
}

const PHASES: [PullPhase; 5] = [
    PullPhase::Waiting,
    PullPhase::Pulling,
    PullPhase::Verifying,
    PullPhase::Pausing,
    PullPhase::Deferred,
];
const REASONS: [PullReason; 6] = [
    PullReason::OnDemand,
    PullReason::Missing,
    PullReason::Changed,
    PullReason::Compare,
    PullReason::Unlisted,
    PullReason::Prestage,
];
/// Stands for "no length was announced".
const UNKNOWN: u64 = u64::MAX;

/// The node or main server that a pull gets its bytes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSource {
    /// None for the main server.
    pub parent: Option<Sibling>,
    pub reason: SourceReason,
    pub since: UnixMillis,
    /// The nodes that the bytes come through, the nearest first.
    pub path: Vec<String>,
    /// Bytes that the parent is ahead.
    pub behind_bytes: u64,
    /// Bytes of this pull that came from other nodes.
    pub relayed_bytes: u64,
    /// Nodes that were left because they were too slow, or sent wrong bytes.
    pub slow_parents: Vec<String>,
}

labels! {
    /// The reason that a pull has its source.
    SourceReason {
        /// Nothing was asked for yet.
        Undecided => "undecided",
        /// Relaying is off here.
        Off => "off",
        /// The nodes share no key.
        NoKey => "no_key",
        /// No other node of the fleet is known.
        NoSibling => "no_sibling",
        /// Only the main server can tell whether the stored version is its own.
        Compare => "compare",
        /// The main server does not say which version it has.
        Unidentified => "unidentified",
        /// The main server says so: it names this parent, or none.
        Assigned => "assigned",
        /// By the rank of the nodes: this parent, or none for the first one.
        Ranked => "ranked",
        /// Others were named or ranked before, and none gave it.
        NoParentLeft => "no_parent_left",
    }
}

impl Default for PullSource {
    fn default() -> Self {
        Self {
            parent: None,
            reason: SourceReason::Undecided,
            since: UnixMillis::now(),
            path: Vec::new(),
            behind_bytes: 0,
            relayed_bytes: 0,
            slow_parents: Vec::new(),
        }
    }
}

/// A package under way, with what others must know to take it for theirs.
#[derive(Clone, Debug)]
pub(super) struct SharedPartial {
    /// Base URL of the main server.
    pub origin: String,
    pub version: Option<PackageVersion>,
    pub partial: Arc<PartialPackage>,
}

#[derive(Debug)]
pub struct Flight {
    id: PackageId,
    /// Ends with the service's run, or by itself.
    run: CancellationToken,
    reason: PullReason,
    /// The client of the first request, if that has low priority.
    client: Option<IpAddr>,
    /// A client waits for it, or did.
    awaited: AtomicBool,
    /// The most urgent reason of all who joined.
    urgency: Arc<AtomicU8>,
    phase: AtomicU8,
    attempt: AtomicU32,
    received_bytes: AtomicU64,
    total_bytes: AtomicU64,
    rate: Mutex<TransferRate>,
    failure: Mutex<Option<(Fault, UnixMillis)>>,
    wake: Notify,
    /// The partial package of the attempt under way; after a failure it stays until the
    /// next attempt begins.
    growing: watch::Sender<Option<SharedPartial>>,
    source: Mutex<PullSource>,
    /// Digest of the whole, once it is known to be right: before this node has verified
    /// the package, its parent tells.
    digest: watch::Sender<Option<Sha256>>,
    outcome: watch::Sender<Option<PullResult>>,
}

impl Flight {
    pub(super) fn new(
        id: PackageId,
        reason: PullReason,
        client: Option<IpAddr>,
        run: CancellationToken,
    ) -> Self {
        Self {
            id,
            run,
            reason,
            client,
            awaited: AtomicBool::new(reason.is_clients()),
            urgency: Arc::new(AtomicU8::new(reason as u8)),
            phase: AtomicU8::new(PullPhase::Waiting as u8),
            attempt: AtomicU32::new(0),
            received_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(UNKNOWN),
            rate: Mutex::new(TransferRate::new(Instant::now())),
            failure: Mutex::new(None),
            wake: Notify::new(),
            growing: watch::Sender::new(None),
            source: Mutex::default(),
            digest: watch::Sender::new(None),
            outcome: watch::Sender::new(None),
        }
    }

    pub fn id(&self) -> &PackageId {
        &self.id
    }

    /// Waits for the end of the round.
    pub async fn outcome(&self) -> PullResult {
        let mut outcome = self.outcome.subscribe();
        let landed = outcome.wait_for(Option::is_some).await;
        match landed.ok().and_then(|landed| landed.clone()) {
            Some(outcome) => outcome,
            // The sender is `self`, which is alive.
            None => std::future::pending().await,
        }
    }

    /// Waits for a partial package from `origin` that can be read, or for the end
    /// of the round: then there is none.
    pub(super) async fn growing(
        &self,
        origin: &str,
    ) -> Result<Option<Arc<PartialPackage>>, Arc<PullError>> {
        let mut growing = self.growing.subscribe();
        let usable = |slot: &Option<SharedPartial>| {
            slot.as_ref().is_some_and(|shared| {
                let partial = &shared.partial;
                shared.origin == origin
                    && !partial.is_broken()
                    && partial.followable_bytes().is_some()
            })
        };
        tokio::select! {
            biased;
            outcome = self.outcome() => outcome.map(|_| None),
            Ok(slot) = growing.wait_for(usable) => {
                Ok(slot.as_ref().map(|shared| shared.partial.clone()))
            }
        }
    }

    pub(super) fn set_growing(&self, shared: SharedPartial) {
        self.growing.send_replace(Some(shared));
    }

    /// Follows the partial package, for other nodes.
    pub(super) fn shared(&self) -> watch::Receiver<Option<SharedPartial>> {
        self.growing.subscribe()
    }

    pub(super) fn digest(&self) -> watch::Receiver<Option<Sha256>> {
        self.digest.subscribe()
    }

    pub(super) fn set_digest(&self, sha256: Sha256) {
        self.digest.send_replace(Some(sha256));
    }

    /// The digest that the parent told is not that of its bytes.
    pub(super) fn forget_digest(&self) {
        self.digest.send_replace(None);
    }

    pub fn source(&self) -> PullSource {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn edit_source(&self, edit: impl FnOnce(&mut PullSource)) {
        edit(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    pub fn progress(&self) -> PullProgress {
        let total = self.total_bytes.load(Ordering::Relaxed);
        PullProgress {
            phase: self.phase(),
            reason: self.urgency_now(),
            attempt: self.attempt.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            total_bytes: Some(total).filter(|total| *total != UNKNOWN),
            rate: self.rate.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now()),
            failure: self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            source: self.source(),
        }
    }

    /// Cancelled when the service is stopped or the package is not needed.
    pub(super) fn run(&self) -> &CancellationToken {
        &self.run
    }

    /// The reason of the first request.
    pub(super) fn reason(&self) -> PullReason {
        self.reason
    }

    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    pub(super) fn urgency(&self) -> Arc<AtomicU8> {
        self.urgency.clone()
    }

    /// The most urgent reason so far. It only becomes more urgent.
    pub(super) fn urgency_now(&self) -> PullReason {
        REASONS[usize::from(self.urgency.load(Ordering::Relaxed)) % REASONS.len()]
    }

    pub(super) fn phase(&self) -> PullPhase {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed)) % PHASES.len()]
    }

    /// Its meeting has not been started, as far as is known.
    pub(super) fn is_prestage(&self) -> bool {
        self.urgency_now() == PullReason::Prestage
    }

    /// Only clients asked for it, and the meeting is not known to be active.
    pub(super) fn is_unlisted(&self) -> bool {
        self.urgency.load(Ordering::Relaxed) == PullReason::Unlisted as u8
    }

    /// Raises the priority to that of a new waiter, and ends a pause.
    pub(super) fn raise_priority(&self, reason: PullReason) {
        if reason == PullReason::Prestage {
            // Nothing is less urgent.
            return;
        }
        let awaited = self.awaited.fetch_or(reason.is_clients(), Ordering::Relaxed);
        let is_new = reason.is_clients() && !awaited;
        // Its meeting has become active while a client waits for it.
        let reason = if awaited && !reason.is_clients() { PullReason::OnDemand } else { reason };
        if self.urgency.fetch_min(reason as u8, Ordering::Relaxed) > reason as u8 || is_new {
            self.wake();
        }
    }

    /// Ends a pause between two attempts; no effect otherwise.
    pub(super) fn wake(&self) {
        self.wake.notify_waiters();
    }

    /// Waits until a client waits for it.
    pub(super) async fn wait_for_client(&self) {
        loop {
            let mut woken = pin!(self.wake.notified());
            woken.as_mut().enable();
            if self.is_awaited() {
                return;
            }
            woken.await;
        }
    }

    pub(super) async fn wait_for_retry(&self) {
        self.wake.notified().await;
    }

    pub(super) fn set_phase(&self, phase: PullPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// An attempt failed; the next one comes after `pause`.
    pub(super) fn note_failure(&self, error: &PullError, pause: Duration) {
        let failure = (error.fault(), UnixMillis::now() + pause);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        self.set_phase(PullPhase::Pausing);
    }

    pub(super) fn set_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Bytes begin to come, from a source that may be another one.
    pub(super) fn begin_transfer(&self) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        *rate = TransferRate::new(Instant::now());
    }

    pub(super) fn set_received(&self, received: u64, total: Option<u64>) {
        let before = self.received_bytes.swap(received, Ordering::Relaxed);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.add(received.saturating_sub(before), Instant::now());
        drop(rate);
        self.total_bytes.store(total.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub(super) fn finish(&self, outcome: PullResult) {
        self.outcome.send_replace(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_or_with_another_source_the_rate_is_that_of_the_bytes_that_come_now() {
        let id = "m".parse().unwrap();
        let flight = Flight::new(id, PullReason::Prestage, None, CancellationToken::new());
        let after = async |millis, received| {
            tokio::time::advance(Duration::from_millis(millis)).await;
            flight.set_received(received, None);
            flight.progress().rate
        };
        tokio::time::advance(Duration::from_secs(60)).await;
        flight.begin_transfer();
        assert_eq!(after(500, 5_000_000).await, 10_000_000, "waiting for a turn counts not");
        tokio::time::advance(Duration::from_secs(60)).await;
        flight.begin_transfer();
        assert_eq!(after(500, 5_500_000).await, 1_000_000);
    }
}
