//! Counters of workers, for the metrics. Each worker counts its own work; figures
//! that can be read elsewhere (stored packages, bytes pulled) are not counted again
//! here.

use std::sync::Arc;

use edge_mirror_base::metrics::{Counter, CounterFamily, Histogram, histogram::PULLS, labels};
use edge_mirror_gofd::DataPortEvent;
use edge_mirror_http::{limits::Limit, wire::websocket::SocketRefusal};
use edge_mirror_protocol::Cause;
use edge_mirror_store::verify::VerifyError;

use super::RunEnding;

#[derive(Debug)]
pub struct NodeCounters {
    pub heartbeats: CounterFamily<CallResult>,
    pub polls: CounterFamily<CallResult>,
    pub pulls: CounterFamily<PullEnd>,
    /// Pulls that brought a package.
    pub(crate) pull_duration: Histogram,
    pub(crate) failed_attempts: CounterFamily<Cause>,
    pub retries: Counter,
    /// Bytes that came from other nodes.
    pub(crate) relayed_bytes: Counter,
    pub(crate) parent_changes: CounterFamily<ParentLoss>,
    pub(crate) relay_refusals: CounterFamily<RelayRefusal>,
    pub(crate) evictions: CounterFamily<RemovalCause>,
    pub bad_packages: CounterFamily<CheckOccasion>,
    /// Shared with the connections of programs that follow casts.
    pub(crate) socket_refusals: Arc<CounterFamily<SocketRefusal>>,
    pub(crate) remote_runs: CounterFamily<RunEnding>,
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
            relayed_bytes: Counter::default(),
            parent_changes: CounterFamily::default(),
            relay_refusals: CounterFamily::default(),
            evictions: CounterFamily::default(),
            bad_packages: CounterFamily::default(),
            socket_refusals: Arc::default(),
            remote_runs: CounterFamily::default(),
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

/// Faults of those who call the agent of GoFD.
#[derive(Debug, Default)]
pub struct GofdAgentCounters {
    pub(crate) calls: CounterFamily<AgentCallRefusal>,
    pub(crate) data: CounterFamily<DataPortEvent>,
}

labels! {
    /// A call to the agent of GoFD that was refused.
    AgentCallRefusal { Password => "password", Body => "body", Tasks => "tasks" }
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

labels! {
    /// The reason that a pull leaves a node for another one, or for the main server.
    ParentLoss {
        /// It can't be reached, or broke the connection.
        Unreachable => "unreachable",
        /// It gives nothing: it is busy, does not relay, or has another version.
        Refused => "refused",
        /// It does not prove that it belongs to the fleet.
        Unproven => "unproven",
        /// It is far ahead, and does not send.
        TooSlow => "slow",
        /// It gets the package from here.
        Circular => "loop",
        /// It sent other bytes than those of the package.
        Damaged => "damaged",
        /// The main server names another one.
        Reassigned => "reassigned",
        /// No byte came for a long time.
        Stalled => "no_progress",
    }
}

labels! {
    /// The reason that a node which asks as a child is refused.
    RelayRefusal {
        /// It does not know the key, or proves it for something else.
        Proof => "proof",
        /// Its nonce is not ours, too old, or was used before.
        Nonce => "nonce",
        /// Relaying is off.
        Off => "off",
        /// `relay.maxChildren` is reached.
        Busy => "busy",
        /// `relay.schedule` allows nothing now.
        Schedule => "schedule",
        /// It pulls another version.
        Version => "version",
    }
}
