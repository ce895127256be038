//! Lets at most `maxConcurrentDownloads` pulls run: the most urgent first,
//! and among those the one that has waited longest.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::oneshot;

#[derive(Clone, Debug)]
pub(super) struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    inside: usize,
    /// Bounded by the number of flights: the active meetings and `MAX_FLIGHTS`.
    waiting: Vec<Waiting>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Read when a place is free: it may have become more urgent meanwhile.
    urgency: Arc<AtomicU8>,
    arrival: u64,
    admit: oneshot::Sender<Permit>,
}

/// A place inside; given to the next one when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Gate,
    given: bool,
}

impl Gate {
    pub(super) fn new(limit: usize) -> Self {
        let state = State { limit, inside: 0, waiting: Vec::new(), arrivals: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes effect at once; pulls that are inside already stay.
    pub(super) fn set_limit(&self, limit: usize) {
        self.state().limit = limit;
        self.admit();
    }

    /// Waits for a place. `arrival` is a place in the queue taken earlier, so
    /// that a retry does not go to the end of it.
    pub(super) async fn enter(
        &self,
        urgency: Arc<AtomicU8>,
        arrival: Option<u64>,
    ) -> (Permit, u64) {
        let (admit, admitted) = oneshot::channel();
        let arrival = {
            let mut state = self.state();
            let arrival = arrival.unwrap_or_else(|| {
                state.arrivals += 1;
                state.arrivals
            });
            state.waiting.push(Waiting { urgency, arrival, admit });
            arrival
        };
        self.admit();
        match admitted.await {
            Ok(permit) => (permit, arrival),
            // The sender lies in the state that `self` keeps alive.
            Err(_) => std::future::pending().await,
        }
    }

    fn admit(&self) {
        loop {
            // The lock is gone before the permit is sent.
            let next = self.state().take_next();
            let Some(next) = next else { return };
            let permit = Permit { gate: self.clone(), given: true };
            if let Err(mut refused) = next.admit.send(permit) {
                // It has left meanwhile. Its place goes to the next one here,
                // not by dropping the permit: a thousand that leave at once
                // would make that a thousand calls deep.
                refused.given = false;
                self.state().inside -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_next(&mut self) -> Option<Waiting> {
        if self.inside >= self.limit {
            return None;
        }
        self.waiting.retain(|waiting| !waiting.admit.is_closed());
        let key = |w: &Waiting| (w.urgency.load(Ordering::Relaxed), w.arrival);
        let (next, _) = self.waiting.iter().enumerate().min_by_key(|(_, waiting)| key(waiting))?;
        self.inside += 1;
        Some(self.waiting.swap_remove(next))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.given {
            self.gate.state().inside -= 1;
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
            gate.state().waiting.push(Waiting { urgency: urgency(0), arrival: 0, admit });
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
}
