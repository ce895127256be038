//! Counters of workers, for the metrics. Each worker counts its own work; figures
//! that can be read elsewhere (stored packages, bytes pulled) are not counted again
//! here.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, Histogram, Tally, histogram::PULLS, labels};
use edge_mirror_http::limits::Limit;
use edge_mirror_protocol::Cause;
use edge_mirror_store::verify::VerifyError;

#[derive(Debug)]
pub struct Counts {
    pub heartbeats: Tally<Answered>,
    pub polls: Tally<Answered>,
    pub pulls: Tally<PullEnd>,
    /// Pulls that brought a package.
    pub pull_duration: Histogram,
    pub failed_attempts: Tally<Cause>,
    pub retries: Counter,
    pub evictions: Tally<Evicted>,
    pub bad_packages: Tally<Checked>,
    /// Shared with code that has no `Board`.
    pub limits: Arc<Tally<Limit>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            heartbeats: Tally::default(),
            polls: Tally::default(),
            pulls: Tally::default(),
            pull_duration: Histogram::of(PULLS),
            failed_attempts: Tally::default(),
            retries: Counter::default(),
            evictions: Tally::default(),
            bad_packages: Tally::default(),
            limits: Arc::default(),
        }
    }
}

impl Counts {
    /// Counts a package that was refused or removed.
    pub fn bad_package(&self, checked: Checked, error: &VerifyError) {
        self.bad_packages.one(checked);
        if error.is_over_limit() {
            self.limits.one(Limit::ArchiveDirectory);
        }
    }
}

labels! {
    /// Outcome of a call to the main server.
    Answered { Well => "ok", Not => "failed" }
}

impl Answered {
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
    Evicted {
        MeetingEnded => "meeting_ended",
        NearlyFull => "storage_nearly_full",
        RoomNeeded => "room_needed",
        Request => "request",
    }
}

labels! {
    /// The occasion on which a damaged package or no ZIP was found.
    Checked {
        /// Just pulled.
        Pulled => "pull",
        /// On disk without a manifest that fits.
        Found => "found_on_disk",
        /// Stored and verified long ago.
        ReadAgain => "read_again",
    }
}
