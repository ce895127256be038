//! The result of a round: for those who wait, and as it is counted.

use std::sync::Arc;

use edge_mirror_protocol::package::PackageRoute;
use edge_mirror_store::StoredPackage;

use super::error::PullError;
use crate::board::PullEnd;

/// The result of a successful round.
#[derive(Clone, Debug)]
pub struct PulledPackage {
    pub stored: Arc<StoredPackage>,
    /// False if the main server still has the stored version.
    pub changed: bool,
}

/// Errors are shared by all waiters.
pub type PullResult = Result<PulledPackage, Arc<PullError>>;

pub(super) fn pull_end(round: &Result<PulledPackage, PullError>) -> PullEnd {
    match round {
        Ok(pulled) if !pulled.changed => PullEnd::Unchanged,
        Ok(pulled) if pulled.stored.manifest.source.route == PackageRoute::Adopted => {
            PullEnd::Adopted
        }
        Ok(_) => PullEnd::Pulled,
        Err(PullError::Stopped | PullError::NotStarted) => PullEnd::GivenUp,
        Err(_) => PullEnd::Failed,
    }
}
