//! A parent is asked how far it is, and left when it holds its child up, is gone, or is
//! no longer the one to ask.

use std::time::Duration;

use edge_mirror_protocol::relay::auth::ParentState;
use edge_mirror_settings::ScheduledLimit;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        FetchInner,
        attempt::RoundState,
        context::AttemptContext,
        gap::{GAP_BYTES, LEAST_BYTES, ParentGap, ParentProgress},
    },
    RelayRound, SiblingPull, lost,
};
use crate::{board::ParentLoss, siblings::ParentCandidates, upstream::SiblingSession};

/// A parent is asked how far it is this often.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// A plan counts that lasts so long: while nodes come back after an outage, there are
/// several within a moment.
const REASSIGNED_FOR: Duration = Duration::from_millis(500);
/// A plan that names no parent any more counts after this time while the present one works:
/// the main server has perhaps just been started, and does not know that one yet.
const RECALLED_FOR: Duration = Duration::from_secs(10);
/// A loop is left to others for so long where the plan names this very parent: plans have
/// none, and they are about to follow it.
const LOOP_TIME: Duration = Duration::from_secs(3);
/// Failed probes after which a parent that sends nothing counts as gone.
const MAX_FAILED_PROBES: u32 = 2;

/// The bytes that come from a parent, and those that it has, over time.
#[derive(Default)]
struct ParentPace {
    gap: ParentGap,
    progress: ParentProgress,
}

/// The bytes that a parent has and this node has not.
struct BehindParent {
    received_bytes: u64,
    behind_bytes: u64,
    /// The parent has all of it.
    is_whole: bool,
}

impl BehindParent {
    fn of(task: &AttemptContext<'_>, state: &ParentState) -> Self {
        let received_bytes = task.flight.received_bytes();
        let is_whole = match task.flight.progress().total_bytes {
            Some(total) => state.received_bytes == total,
            None => state.sha256.is_some(),
        };
        let behind_bytes = state.received_bytes.saturating_sub(received_bytes);
        Self { received_bytes, behind_bytes, is_whole }
    }
}

impl ParentPace {
    /// Returns the reason to leave the parent, if there is one. The main server is not
    /// asked instead of one that is merely slow.
    fn judge(
        &mut self,
        task: &AttemptContext<'_>,
        behind: &BehindParent,
        has_other: impl FnOnce() -> bool,
    ) -> Option<SiblingPull> {
        let BehindParent { received_bytes, behind_bytes, is_whole } = *behind;
        let (network, now) = (&task.config.network, Instant::now());
        let limit = Duration::from_secs(network.connection_timeout);
        // What our own limit holds up is nobody's fault.
        let scheduled = match network.schedule.limit_now() {
            ScheduledLimit::BytesPerSecond(rate) if task.flight.urgency_now().is_background() => {
                rate
            }
            _ => 0,
        };
        let own_limit = [network.bandwidth, scheduled].into_iter().filter(|rate| *rate > 0).min();
        let least_bytes = match own_limit.unwrap_or(0) {
            0 => LEAST_BYTES,
            rate => LEAST_BYTES.min(rate.saturating_mul(limit.as_secs()) / 32),
        };
        let progress = &mut self.progress;
        if progress.is_stuck(received_bytes, behind_bytes, is_whole, least_bytes, limit, now) {
            let (more, time) = (behind_bytes >> 10, limit.as_secs());
            let cause = format!("it has {more} KiB more, and next to none came for {time} s");
            return Some(SiblingPull::Lost(ParentLoss::Stalled, cause));
        }
        let is_ahead = self.gap.holds_up(received_bytes, behind_bytes, is_whole, now);
        // The schedule here holds it up.
        if scheduled == 0 && is_ahead && has_other() {
            let cause = format!("it is {} MiB ahead, and stays so", behind_bytes >> 20);
            return Some(SiblingPull::Lost(ParentLoss::TooSlow, cause));
        }
        None
    }
}

impl FetchInner {
    /// Asks the parent how far it is until there is a reason to leave it.
    pub(super) async fn watch_parent(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &mut SiblingSession,
        candidates: &ParentCandidates,
    ) -> SiblingPull {
        let mut plans = self.board.relay.subscribe();
        let mut changes = self.settings.subscribe();
        let mut pace = ParentPace::default();
        let (mut failed, mut received, mut reassigned_at) = (0, 0, None);
        let mut loop_since = None;
        loop {
            let pause = if reassigned_at.is_some() { REASSIGNED_FOR } else { PROBE_PAUSE };
            tokio::select! {
                _ = plans.changed() => {}
                _ = changes.changed() => {}
                () = sleep(pause) => {}
            }
            match self.check_assignment(task, relay, session, candidates) {
                Ok(()) => reassigned_at = None,
                Err(lost) => {
                    let since = *reassigned_at.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience(task, failed) {
                        return lost;
                    }
                }
            }
            let before = std::mem::replace(&mut received, task.flight.received_bytes());
            match session.probe(None).await {
                Ok(state) => {
                    failed = 0;
                    if let Err(lost) = self.note_state(task, session, &state) {
                        if !self.tolerates_loop(task, session, &mut loop_since) {
                            return lost;
                        }
                        continue;
                    }
                    loop_since = None;
                    let behind = BehindParent::of(task, &state);
                    if let Some(lost) = pace
                        .judge(task, &behind, || self.has_other(task, relay, session, candidates))
                    {
                        return lost;
                    }
                }
                // It may be busy sending.
                Err(_) if task.flight.received_bytes() > before => failed = 0,
                Err(error) => {
                    failed += 1;
                    if failed >= MAX_FAILED_PROBES {
                        return lost(error);
                    }
                }
            }
        }
    }

    /// Returns the time that a plan without the present parent must last before it counts.
    fn patience(&self, task: &AttemptContext<'_>, failed_probes: u32) -> Duration {
        let config = self.settings.current();
        let Some(planned) = self.siblings.plan_now(&config, task.flight.id()) else {
            return Duration::ZERO;
        };
        if !planned.parents.is_empty() {
            return REASSIGNED_FOR;
        }
        let behind_bytes = task.flight.progress().source.behind_bytes;
        match failed_probes == 0 && behind_bytes < GAP_BYTES {
            true => RECALLED_FOR,
            false => Duration::ZERO,
        }
    }

    /// True if others are to end the loop that this node is in since then.
    pub(super) fn tolerates_loop(
        &self,
        task: &AttemptContext<'_>,
        session: &SiblingSession,
        since: &mut Option<Instant>,
    ) -> bool {
        let planned = self.siblings.plan_now(&self.settings.current(), task.flight.id());
        let is_planned =
            planned.is_some_and(|planned| planned.parents.first() == Some(&session.sibling));
        is_planned && since.get_or_insert_with(Instant::now).elapsed() < LOOP_TIME
    }

    /// True if yet another node can be asked, as it is arranged now.
    fn has_other(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &SiblingSession,
        chosen_of: &ParentCandidates,
    ) -> bool {
        let id = task.flight.id();
        let planned = self.siblings.plan_now(&self.settings.current(), id);
        let mut others = self.without_bad(id, relay, planned.unwrap_or_else(|| chosen_of.clone()));
        others.parents.retain(|other| other.node_id != session.sibling.node_id);
        relay.not_left(&others, Instant::now()).next().is_some()
    }

    /// Shows the parent's state; an error if it gets the package from here.
    pub(super) fn note_state(
        &self,
        task: &AttemptContext<'_>,
        session: &SiblingSession,
        state: &ParentState,
    ) -> Result<(), SiblingPull> {
        let me = &task.config.node_id;
        if state.path.contains(me) {
            let cause = "it gets the package from here".to_owned();
            return Err(SiblingPull::Lost(ParentLoss::Circular, cause));
        }
        let behind_bytes = state.received_bytes.saturating_sub(task.flight.received_bytes());
        task.flight.edit_source(|source| {
            let path = std::iter::once(&session.sibling.node_id).chain(&state.path);
            source.path = path.cloned().collect();
            source.behind_bytes = behind_bytes;
        });
        Ok(())
    }

    /// An error if our main server arranges it otherwise than when this parent was chosen.
    pub(super) fn check_assignment(
        &self,
        task: &AttemptContext<'_>,
        relay: &RelayRound,
        session: &SiblingSession,
        chosen_of: &ParentCandidates,
    ) -> Result<(), SiblingPull> {
        let config = self.settings.current();
        if self.siblings.key(&config).is_none() {
            let cause = "relaying was switched off".to_owned();
            return Err(SiblingPull::Lost(ParentLoss::Reassigned, cause));
        }
        let id = task.flight.id();
        let Some(named) = self.siblings.plan_now(&config, id) else { return Ok(()) };
        let named = self.without_bad(id, relay, named);
        let stays = named == *chosen_of
            || relay.choose(&named, Instant::now()).is_some_and(|first| *first == session.sibling);
        match stays {
            true => Ok(()),
            false => {
                let cause = "the main server names another one".to_owned();
                Err(SiblingPull::Lost(ParentLoss::Reassigned, cause))
            }
        }
    }

    /// Waits until our main server names a parent while its own bytes are being pulled.
    pub(in super::super) async fn wait_for_parent(
        &self,
        task: &AttemptContext<'_>,
        round: &RoundState,
    ) {
        let mut plans = self.board.relay.subscribe();
        loop {
            if plans.changed().await.is_err() {
                return std::future::pending().await;
            }
            let config = self.settings.current();
            let id = task.flight.id();
            let named = self.siblings.plan_now(&config, id).is_some_and(|named| {
                let named = self.without_bad(id, &round.relay, named);
                round.relay.not_left(&named, Instant::now()).next().is_some()
            });
            if named && self.direct_reason(task.flight, &config, &round.relay).is_none() {
                return;
            }
        }
    }
}
