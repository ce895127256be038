//! Counters of workers, for the metrics. Each worker counts its own work; figures
//! that can be read elsewhere (stored packages, bytes pulled) are not counted again
//! here.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, CounterFamily, Histogram, histogram::PULLS, labels};
use edge_mirror_http::limits::Limit;
use edge_mirror_protocol::Cause;
use edge_mirror_store::verify::VerifyError;

#[derive(Debug)]
pub struct NodeCounters {
    pub heartbeats: CounterFamily<CallResult>,
    pub polls: CounterFamily<CallResult>,
    pub pulls: CounterFamily<PullEnd>,
    /// Pulls that brought a package.
    pub(crate) pull_duration: Histogram,
    pub(crate) failed_attempts: CounterFamily<Cause>,
    pub retries: Counter,
    pub(crate) evictions: CounterFamily<RemovalCause>,
    pub bad_packages: CounterFamily<CheckOccasion>,
    /// Shared with code that has no `StatusBoard`.
    pub limits: Arc<CounterFamily<Limit>>,
}

impl Default for NodeCounters {
    fn default() -> Self {
        Self {
            heartbeats: CounterFamily::default(),
            polls: CounterFamily::default(),
            pulls: CounterFamily::default(),
            pull_duration: Histogram::of(PULLS),
            failed_attempts: CounterFamily::default(),
            retries: Counter::default(),
            evictions: CounterFamily::default(),
            bad_packages: CounterFamily::default(),
            limits: Arc::default(),
        }
    }
}

impl NodeCounters {
    /// Counts a package that was refused or removed.
    pub fn bad_package(&self, checked: CheckOccasion, error: &VerifyError) {
        self.bad_packages.inc(checked);
        if error.is_over_limit() {
            self.limits.inc(Limit::ArchiveDirectory);
        }
    }
}

labels! {
    /// Outcome of a call to the main server.
    CallResult { Well => "ok", Not => "failed" }
}

impl CallResult {
    pub fn of<T, E>(outcome: &Result<T, E>) -> Self {
        if outcome.is_ok() { Self::Well } else { Self::Not }
    }
}

labels! {
    /// Outcome of a pull: a round of up to `retryCount` attempts.
    PullEnd {
        Pulled => "pulled",
        /// The main server still has the version that was here.
        Unchanged => "unchanged",
        /// A package on disk was verified and taken over.
        Adopted => "adopted",
        Failed => "failed",
        /// The service was stopped, or the meeting ended.
        GivenUp => "given_up",
    }
}

labels! {
    /// Reason for removing a package.
    RemovalCause {
        MeetingEnded => "meeting_ended",
        NearlyFull => "storage_nearly_full",
        RoomNeeded => "room_needed",
        Request => "request",
    }
}

labels! {
    /// The occasion on which a damaged package or no ZIP was found.
    CheckOccasion {
        /// Just pulled.
        Pulled => "pull",
        /// On disk without a manifest that fits.
        Found => "found_on_disk",
        /// Stored and verified long ago.
        ReadAgain => "read_again",
    }
}
