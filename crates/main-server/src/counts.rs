//! Counters of handlers and workers, for the metrics.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, CounterFamily, labels};
use edge_mirror_http::{limits::Limit, wire::websocket::SocketRefusal};
use edge_mirror_store::verify::VerifyError;

/// Figures that can be read elsewhere are not counted again.
#[derive(Debug, Default)]
pub(crate) struct MasterCounters {
    pub heartbeats: CounterFamily<IntakeResult>,
    pub registrations: CounterFamily<IntakeResult>,
    pub(crate) lost_nodes: Counter,
    pub(crate) content_probes: CounterFamily<ContentResult>,
    pub(crate) uploads: CounterFamily<IntakeResult>,
    pub(crate) uploaded_bytes: Counter,
    pub bad_packages: CounterFamily<MasterCheckOccasion>,
    /// Packages put into the shared store, and pulled from there.
    pub(crate) package_puts: CounterFamily<TransferOutcome>,
    pub(crate) package_pulls: CounterFamily<TransferOutcome>,
    pub(crate) swept_packages: Counter,
    pub(crate) evicted_copies: Counter,
    pub(crate) casts: CounterFamily<SentCastKind>,
    /// Runs of remote tasks that nodes reported.
    pub(crate) runs: CounterFamily<ReportedRun>,
    pub(crate) dropped_casts: CounterFamily<DroppedCastReader>,
    /// Shared with the connections of CastRay's clients.
    pub(crate) castray_sockets: Arc<CounterFamily<SocketRefusal>>,
    /// Shared with code that has no `Server`.
    pub limits: Arc<CounterFamily<Limit>>,
}

impl MasterCounters {
    /// Counts a package that was refused or removed.
    pub(crate) fn bad_package(&self, checked: MasterCheckOccasion, error: &VerifyError) {
        self.bad_packages.inc(checked);
        if error.is_over_limit() {
            self.limits.inc(Limit::ArchiveDirectory);
        }
    }
}

labels! {
    /// Outcome of a call.
    IntakeResult { Well => "ok", Not => "refused" }
}

impl IntakeResult {
    pub(crate) fn of<T, E>(outcome: &Result<T, E>) -> Self {
        if outcome.is_ok() { Self::Well } else { Self::Not }
    }
}

labels! {
    /// A cast that operators sent.
    SentCastKind { Kept => "kept", Live => "live" }
}

labels! {
    /// The reader that a live cast, or an event of CastRay's, was not given to, as it was too
    /// slow.
    DroppedCastReader { Subscriber => "subscriber", Node => "node", CastRay => "castray" }
}

labels! {
    /// The end of a run of a remote task, as its node reports it; or it is not heard of again.
    ReportedRun {
        Succeeded => "succeeded",
        Failed => "failed",
        Stopped => "stopped",
        Refused => "refused",
        Lost => "lost",
    }
}

labels! {
    /// The outcome of a content probe.
    ContentResult { Same => "same", Wrong => "wrong", Unknown => "unknown" }
}

labels! {
    /// Outcome of a transfer to or from the shared package store.
    TransferOutcome { Done => "ok", Broken => "failed" }
}

impl TransferOutcome {
    pub(crate) fn of<T, E>(outcome: &Result<T, E>) -> Self {
        if outcome.is_ok() { Self::Done } else { Self::Broken }
    }
}

labels! {
    /// The occasion on which a damaged package or no ZIP was found.
    MasterCheckOccasion {
        Uploaded => "upload",
        Found => "found_on_disk",
        Pulled => "package_store",
    }
}
