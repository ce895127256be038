//! Permits for at most `maxConcurrentDownloads` pulls: the most urgent first, and
//! among those the one that has waited longest. Pulls for meetings that are not
//! known to be active, which anybody can request, come last and have a share of the
//! permits.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::PullReason;

#[derive(Clone, Debug)]
pub(super) struct Gate {
    state: Arc<Mutex<GateState>>,
}

#[derive(Debug)]
struct GateState {
    limit: usize,
    inside: Vec<AdmittedPull>,
    /// Bounded by the number of flights: the active meetings and `MAX_FLIGHTS`.
    waiting: Vec<QueuedPull>,
    arrivals: u64,
}

#[derive(Debug)]
struct QueuedPull {
    /// Read when a permit is free: it may have become more urgent meanwhile.
    urgency: Arc<AtomicU8>,
    arrival: u64,
    admit: oneshot::Sender<PullPermit>,
}

#[derive(Clone, Debug)]
struct AdmittedPull {
    urgency: Arc<AtomicU8>,
    arrival: u64,
    recall: CancellationToken,
}

/// Permit to pull; passed on to the next waiter when dropped.
#[derive(Debug)]
pub(super) struct PullPermit {
    gate: Gate,
    arrival: u64,
    is_held: bool,
    recall: CancellationToken,
}

impl PullPermit {
    /// Cancelled when something more urgent needs the permit and can't have another
    /// one: the holder gives it back soon and queues again.
    pub(super) fn preempted(&self) -> &CancellationToken {
        &self.recall
    }
}

impl Gate {
    pub(super) fn new(limit: usize) -> Self {
        let state = GateState { limit, inside: Vec::new(), waiting: Vec::new(), arrivals: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes effect immediately; running pulls keep their permits.
    pub(super) fn set_limit(&self, limit: usize) {
        self.state().limit = limit;
        self.admit();
    }

    /// Waits for a permit. `arrival` is a place in the queue taken earlier, so that
    /// a retry does not go to its end.
    pub(super) async fn enter(
        &self,
        urgency: Arc<AtomicU8>,
        arrival: Option<u64>,
    ) -> (PullPermit, u64) {
        let (admit, admitted) = oneshot::channel();
        let arrival = {
            let mut state = self.state();
            let arrival = arrival.unwrap_or_else(|| {
                state.arrivals += 1;
                state.arrivals
            });
            state.waiting.push(QueuedPull { urgency, arrival, admit });
            arrival
        };
        self.admit();
        match admitted.await {
            Ok(permit) => (permit, arrival),
            // The sender lies in the state that `self` keeps alive.
            Err(_) => std::future::pending().await,
        }
    }

    /// Issues permits to waiters: one may have become more urgent.
    pub(super) fn admit(&self) {
        loop {
            // The lock is released before the permit is sent.
            let next = self.state().take_next();
            let Some((next, recall)) = next else { return };
            let arrival = next.arrival;
            let permit = PullPermit { gate: self.clone(), arrival, is_held: true, recall };
            if let Err(mut refused) = next.admit.send(permit) {
                // The waiter has left. Its permit goes to the next one here, not by
                // dropping it: a thousand that leave at the same time would make
                // that a thousand calls deep.
                refused.is_held = false;
                self.state().leave(arrival);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GateState {
    fn take_next(&mut self) -> Option<(QueuedPull, CancellationToken)> {
        self.waiting.retain(|waiting| !waiting.admit.is_closed());
        let key = |w: &QueuedPull| (w.urgency.load(Ordering::Relaxed), w.arrival);
        let (next, first) = self.waiting.iter().enumerate().min_by_key(|(_, w)| key(w))?;
        let not_active = self.inside.iter().filter(|inside| is_not_active(&inside.urgency)).count();
        if is_not_active(&first.urgency) {
            // Nor are those of all other waiters.
            if not_active >= max_not_active(self.limit) {
                return None;
            }
        } else if not_active == self.inside.len() {
            // No urgent pull has a permit.
            let full = self.inside.len() >= self.limit;
            self.inside.iter().take(usize::from(full)).for_each(|inside| inside.recall.cancel());
        }
        if self.inside.len() >= self.limit {
            return None;
        }
        let next = self.waiting.swap_remove(next);
        let recall = CancellationToken::new();
        let (urgency, arrival) = (next.urgency.clone(), next.arrival);
        self.inside.push(AdmittedPull { urgency, arrival, recall: recall.clone() });
        Some((next, recall))
    }

    fn leave(&mut self, arrival: u64) {
        self.inside.retain(|inside| inside.arrival != arrival);
    }
}

/// Its meeting is not known to be active, or has not been started.
fn is_not_active(urgency: &AtomicU8) -> bool {
    urgency.load(Ordering::Relaxed) >= PullReason::Unlisted as u8
}

/// Permits for meetings that are not known to be active: two thirds, so that one is
/// always left for active ones if there are two or more.
fn max_not_active(limit: usize) -> usize {
    (limit * 2 / 3).max(1)
}

impl Drop for PullPermit {
    fn drop(&mut self) {
        if self.is_held {
            self.gate.state().leave(self.arrival);
            self.gate.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn urgency(value: u8) -> Arc<AtomicU8> {
        Arc::new(AtomicU8::new(value))
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_then_the_one_that_waited_longest() {
        let gate = Gate::new(1);
        let (inside, _) = gate.enter(urgency(1), None).await;
        let mut early = Box::pin(gate.enter(urgency(1), None));
        let mut late = Box::pin(gate.enter(urgency(1), None));
        let raised = urgency(2);
        let mut hurried = Box::pin(gate.enter(raised.clone(), None));
        for waiting in [&mut early, &mut late, &mut hurried] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        raised.store(0, Ordering::Relaxed);
        drop(inside);
        let (inside, _) = hurried.now_or_never().unwrap();
        assert!(early.as_mut().now_or_never().is_none());
        drop(inside);
        let (_inside, _) = early.now_or_never().unwrap();
        assert!(late.now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_that_leaves_the_queue_costs_no_place() {
        let gate = Gate::new(1);
        let (inside, _) = gate.enter(urgency(1), None).await;
        let mut leaver = Box::pin(gate.enter(urgency(0), None));
        assert!(leaver.as_mut().now_or_never().is_none());
        drop(leaver);
        drop(inside);
        assert!(gate.enter(urgency(1), None).now_or_never().is_some());
    }

    #[tokio::test]
    async fn however_many_leave_at_once_the_next_one_is_admitted() {
        let gate = Gate::new(1);
        let (inside, _) = gate.enter(urgency(1), None).await;
        let mut leavers = Vec::new();
        for _ in 0..100_000 {
            let (admit, admitted) = oneshot::channel();
            gate.state().waiting.push(QueuedPull { urgency: urgency(0), arrival: 0, admit });
            leavers.push(admitted);
        }
        drop(leavers);
        drop(inside);
        assert!(gate.enter(urgency(1), None).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_raised_limit_admits_those_who_wait() {
        let gate = Gate::new(1);
        let (_inside, _) = gate.enter(urgency(1), None).await;
        let mut waiting = Box::pin(gate.enter(urgency(1), None));
        assert!(waiting.as_mut().now_or_never().is_none());
        gate.set_limit(2);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn one_place_is_always_left_for_active_meetings_where_there_are_two() {
        let shares = [1, 2, 3, 4, 6, 64].map(max_not_active);
        assert_eq!(shares, [1, 1, 2, 2, 4, 42]);
    }

    #[tokio::test]
    async fn what_is_not_known_to_be_active_has_its_share_and_comes_last() {
        let gate = Gate::new(3);
        let enter = |urgency: &Arc<AtomicU8>| Box::pin(gate.enter(urgency.clone(), None));
        let unlisted = || urgency(PullReason::Unlisted as u8);
        let first = enter(&unlisted()).now_or_never().unwrap();
        let _second = enter(&unlisted()).now_or_never().unwrap();
        let mut third = enter(&unlisted());
        assert!(third.as_mut().now_or_never().is_none(), "a place is left");
        let active = urgency(PullReason::Missing as u8);
        let inside = enter(&active).now_or_never().unwrap();
        let mut next = enter(&active);
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!first.0.preempted().is_cancelled(), "another place will be free");
        drop(first);
        let _next = next.now_or_never().unwrap();
        drop(inside);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_only_place_is_recalled_for_what_is_active() {
        let gate = Gate::new(1);
        let raised = urgency(PullReason::Unlisted as u8);
        let (inside, _) = gate.enter(urgency(PullReason::Unlisted as u8), None).await;
        let mut waiting = Box::pin(gate.enter(raised.clone(), None));
        assert!(waiting.as_mut().now_or_never().is_none() && !inside.preempted().is_cancelled());
        raised.store(PullReason::Missing as u8, Ordering::Relaxed);
        gate.admit();
        assert!(inside.preempted().is_cancelled());
        drop(inside);
        let (inside, _) = waiting.now_or_never().unwrap();
        let _other = gate.enter(urgency(PullReason::OnDemand as u8), None).now_or_never();
        assert!(!inside.preempted().is_cancelled(), "nothing is more urgent than a meeting");
    }
}
