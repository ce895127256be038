//! The reasons to pull a package, and those for which a round ends without it.

use edge_mirror_protocol::{Cause, Fault};
use edge_mirror_store::StoreError;
use thiserror::Error;

use super::{MAX_FLIGHTS, MAX_FLIGHTS_PER_CLIENT, gap::LEAST_BYTES, pieces::BadPiece};
use crate::upstream::UpstreamError;

/// Reason of a pull, which is also its urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PullReason {
    /// A client is waiting for an active meeting's.
    OnDemand,
    /// An active meeting's package is not here.
    Missing,
    /// The main server has another version.
    Changed,
    /// Only a pull can tell if the main server has another version.
    Compare,
    /// A client is waiting for it, and the meeting is not known to be active:
    /// anybody can invent such ids.
    Unlisted,
    /// Its meeting has not been started.
    Prestage,
}

impl PullReason {
    /// True for those that `network.schedule` limits.
    pub(super) fn is_background(self) -> bool {
        matches!(self, Self::Compare | Self::Prestage)
    }

    pub(super) fn is_clients(self) -> bool {
        matches!(self, Self::OnDemand | Self::Unlisted)
    }
}

/// The time without a byte after which a source is given up, and the setting that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallLimit {
    pub(super) seconds: u64,
    pub(super) setting: &'static str,
}

/// The error of a round that ended without the package.
#[derive(Debug, Error)]
pub enum PullError {
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("the connection broke after {received} of {} bytes: {cause}", total.map_or("unknown".to_owned(), |t| t.to_string()))]
    Interrupted { received: u64, total: Option<u64>, cause: String },
    #[error("no byte came for {} s ({})", .0.seconds, .0.setting)]
    Stalled(StallLimit),
    #[error("not complete after {0} s (network.downloadTimeout), and less than {kib} KiB came within network.connectionTimeout", kib = LEAST_BYTES >> 10)]
    TooSlow(u64),
    #[error("the answer can't be taken for the package: {0}")]
    Unusable(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the piece that begins at byte {} is not the package's", .0.start)]
    Piece(BadPiece),
    #[error("the service is stopped")]
    Stopped,
    #[error("{MAX_FLIGHTS} packages that clients wait for are being pulled already")]
    Busy,
    #[error("{MAX_FLIGHTS_PER_CLIENT} packages that one client asked for are being pulled already")]
    ClientBusy,
    #[error("too many clients wait for packages of meetings that are not active")]
    TooManyWaiters,
    #[error("the meeting has not been started")]
    NotStarted,
}

impl From<BadPiece> for PullError {
    fn from(bad: BadPiece) -> Self {
        Self::Piece(bad)
    }
}

impl PullError {
    /// True if another attempt right away can't help.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_not_found(),
            Self::Store(StoreError::Bad(error)) => error.is_over_limit(),
            Self::Store(StoreError::NoRoom(_))
            | Self::Stopped
            | Self::Busy
            | Self::ClientBusy
            | Self::TooManyWaiters
            | Self::NotStarted => true,
            Self::Interrupted { .. }
            | Self::Stalled(_)
            | Self::TooSlow(_)
            | Self::Unusable(_)
            | Self::Piece(_)
            | Self::Store(_) => false,
        }
    }

    /// True if the pull was ended, rather than that it failed.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Stopped | Self::NotStarted)
    }

    /// True if the bytes received so far are good for the next attempt.
    pub(super) fn is_broken_off(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::Stalled(_) | Self::TooSlow(_))
    }

    /// True if the main server did not answer.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.is_away())
    }

    pub fn fault(&self) -> Fault {
        let cause = match self {
            Self::Upstream(error) => error.cause(),
            Self::Interrupted { .. } => Cause::Interrupted,
            Self::Stalled(_) => Cause::Stalled,
            Self::TooSlow(_) => Cause::TooSlow,
            Self::Unusable(_) => Cause::Unreadable,
            Self::Piece(_) => Cause::Damaged,
            Self::Store(StoreError::NoRoom(_)) => Cause::NoRoom,
            Self::Store(StoreError::Bad(_)) => Cause::Damaged,
            Self::Store(StoreError::Io { .. } | StoreError::InUse(_)) => Cause::Disk,
            Self::Store(StoreError::Unwanted) | Self::Stopped | Self::NotStarted => Cause::Other,
            Self::Busy | Self::ClientBusy | Self::TooManyWaiters => Cause::Busy,
        };
        Fault { cause, text: self.to_string() }
    }

    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Stalled(_) | Self::TooSlow(_) | Self::Upstream(UpstreamError::TimedOut { .. })
        )
    }
}
