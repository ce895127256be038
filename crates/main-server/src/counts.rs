//! What handlers and workers have done so far, for the metrics.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, Tally, labels};
use edge_mirror_http::limits::Limit;
use edge_mirror_store::verify::VerifyError;

/// What can be read off something else is not counted again here.
#[derive(Debug, Default)]
pub struct Counts {
    /// Of those that `ledger` has not: it knows where downloads went.
    pub refused_downloads: Counter,
    pub heartbeats: Tally<Taken>,
    pub registrations: Tally<Taken>,
    pub lost_nodes: Counter,
    pub uploads: Tally<Taken>,
    pub uploaded_bytes: Counter,
    pub bad_packages: Tally<Checked>,
    /// Shared with what knows no server.
    pub limits: Arc<Tally<Limit>>,
}

impl Counts {
    /// One that was not taken, or not kept.
    pub fn bad_package(&self, checked: Checked, error: &VerifyError) {
        self.bad_packages.one(checked);
        if error.is_over_limit() {
            self.limits.one(Limit::ArchiveDirectory);
        }
    }
}

labels! {
    /// What became of what was sent here.
    Taken { Well => "ok", Not => "refused" }
}

impl Taken {
    pub fn of<T, E>(outcome: &Result<T, E>) -> Self {
        if outcome.is_ok() { Self::Well } else { Self::Not }
    }
}

labels! {
    /// What was read when a package turned out to be none, or damaged.
    Checked { Uploaded => "upload", Found => "found_on_disk" }
}
