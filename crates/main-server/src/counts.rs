//! Counters of handlers and workers, for the metrics.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, Tally, labels};
use edge_mirror_http::limits::Limit;
use edge_mirror_store::verify::VerifyError;

/// Figures that can be read elsewhere are not counted again.
#[derive(Debug, Default)]
pub struct Counts {
    /// `ledger` counts the downloads that were not refused.
    pub refused_downloads: Counter,
    pub heartbeats: Tally<Taken>,
    pub registrations: Tally<Taken>,
    pub lost_nodes: Counter,
    pub uploads: Tally<Taken>,
    pub uploaded_bytes: Counter,
    pub bad_packages: Tally<Checked>,
    /// Shared with code that has no `Server`.
    pub limits: Arc<Tally<Limit>>,
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
    /// Outcome of a call.
    Taken { Well => "ok", Not => "refused" }
}

impl Taken {
    pub fn of<T, E>(outcome: &Result<T, E>) -> Self {
        if outcome.is_ok() { Self::Well } else { Self::Not }
    }
}

labels! {
    /// The occasion on which a damaged package or no ZIP was found.
    Checked { Uploaded => "upload", Found => "found_on_disk" }
}
