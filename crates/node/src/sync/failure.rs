//! Pauses after rounds that failed. Pure but for clock and dice.

use std::time::Duration;

use edge_mirror_base::{backoff::backoff, clock::UnixMillis};
use edge_mirror_protocol::Fault;
use tokio::time::Instant;

use crate::board::PullFailure;

/// The pause after a failed round, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// The failure after the one before, and when to try again.
pub(super) fn next_failure(
    before: Option<&PullFailure>,
    error: Fault,
    retry_delay: Duration,
) -> (PullFailure, Instant) {
    let rounds = before.map_or(1, |failing| failing.rounds + 1);
    let first = FIRST_BACKOFF.max(retry_delay).min(LONGEST_BACKOFF);
    // A bad package fails at all nodes at the same moment.
    let wait = backoff(rounds, first, LONGEST_BACKOFF, fastrand::f64());
    let failing = PullFailure { rounds, error, next_try: UnixMillis::now() + wait };
    (failing, Instant::now() + wait)
}
