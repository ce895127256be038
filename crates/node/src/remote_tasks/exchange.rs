//! The exchanges with the main server that are under way, and when the next one is due.
//!
//! One is always under way. While something runs, another one follows every few seconds: it
//! makes the main server answer the one before, so that the lease is renewed, and one that
//! gets lost is no harm. None is given up for the next one: its answer counts for the lease.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use edge_mirror_protocol::remote_tasks::{HOLD, RunExchange, RunOrders};
use edge_mirror_settings::Config;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tracing::debug;

use super::lease::boot_time;
use crate::upstream::{Upstream, UpstreamError};

/// Pauses after errors, and where the main server has no remote tasks.
const PAUSE: Duration = Duration::from_secs(2);
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
const MISSING_PAUSE: Duration = Duration::from_secs(60);
/// Interval of exchanges while something runs: several fit into a lease.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// Ends of runs that come together are told together.
const TELL_PAUSE: Duration = Duration::from_millis(20);
/// Exchanges at a time: one that is held, the one before that it ends, and lost ones.
const MAX_ASKED: usize = 4;
/// An answer comes within this time after it may be held, or is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct ExchangeQueue {
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = ExchangeAnswer> + Send>>>,
    /// Of the last exchange that was sent.
    number: u64,
    sent_at: Option<Instant>,
    /// Of the last exchange whose answer was obeyed, and the version of its orders.
    obeyed: u64,
    version: u64,
    /// Something is to be told that no exchange has told.
    has_news: bool,
    /// Nothing is sent before.
    pause_until: Option<Instant>,
}

pub(super) struct ExchangeAnswer {
    number: u64,
    /// By the clock of leases.
    pub(super) began: Duration,
    pub(super) answer: Result<RunOrders, UpstreamError>,
}

impl ExchangeQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    pub(super) fn note_news(&mut self) {
        self.has_news = true;
    }

    /// Notes what may wait for the next exchange that is due.
    pub(super) fn note_progress(&mut self) {
        self.has_news |= self.sent_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
    }

    /// True if an exchange is to be sent now.
    pub(super) fn is_due(&self, is_active: bool) -> bool {
        if self.asked.len() >= MAX_ASKED || self.pause().is_some() {
            return false;
        }
        let is_lease_due = || self.sent_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        self.asked.is_empty() || self.has_news || (is_active && is_lease_due())
    }

    /// The time until an exchange that is wanted may be sent.
    pub(super) fn wanted_in(&self) -> Option<Duration> {
        let is_wanted = self.asked.is_empty() || self.has_news;
        let wanted = self.pause().filter(|_| is_wanted && self.asked.len() < MAX_ASKED);
        wanted.or_else(|| self.asked.is_empty().then_some(Duration::ZERO))
    }

    fn pause(&self) -> Option<Duration> {
        let left = self.pause_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Sends an exchange, with its number and the version that was obeyed.
    pub(super) fn send(&mut self, upstream: Upstream, config: &Config, mut exchange: RunExchange) {
        self.number += 1;
        (exchange.number, exchange.version) = (self.number, self.version);
        let patience = Duration::from_secs(config.network.connection_timeout);
        let limit = HOLD + patience.min(ANSWER_LIMIT);
        let (number, began, node_id) = (self.number, boot_time(), config.node_id.clone());
        let now = Instant::now();
        self.has_news = false;
        (self.sent_at, self.pause_until) = (Some(now), Some(now + TELL_PAUSE));
        self.asked.push(Box::pin(async move {
            let answer = upstream.exchange_runs(&node_id, &exchange, limit).await;
            ExchangeAnswer { number, began, answer }
        }));
    }

    /// Waits for an answer; never ends if nothing was asked.
    pub(super) async fn next(&mut self) -> ExchangeAnswer {
        match self.asked.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// True if the orders of an answer count: none to a later exchange was obeyed.
    pub(super) fn obey(&mut self, answered: u64, version: u64) -> bool {
        let is_newer = answered > self.obeyed;
        if is_newer {
            (self.obeyed, self.version) = (answered, version);
        }
        is_newer
    }

    pub(super) fn note_failure(&mut self, error: &UpstreamError, is_active: bool) {
        debug!("remote tasks can't be asked for: {error}");
        let is_unknown = error.is_not_found() || error.is_wrong_method();
        let pause = match (is_unknown, error.is_refusal()) {
            // Leases are not to be lost for a pause.
            _ if is_active => PAUSE,
            (true, _) => MISSING_PAUSE,
            // It waits for an operator to accept it, say.
            (false, true) => REFUSED_PAUSE,
            (false, false) => PAUSE,
        };
        self.pause_until = Some(Instant::now() + pause);
    }
}

impl ExchangeAnswer {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under_way(queue: &mut ExchangeQueue, count: usize) {
        for _ in 0..count {
            queue.asked.push(Box::pin(std::future::pending()));
        }
    }

    #[tokio::test]
    async fn an_exchange_is_due_if_none_is_under_way_there_is_news_or_a_lease_to_renew() {
        let mut queue = ExchangeQueue::default();
        assert!(queue.is_due(false) && queue.wanted_in().is_some());
        under_way(&mut queue, 1);
        queue.sent_at = Some(Instant::now());
        assert!(!queue.is_due(false) && !queue.is_due(true) && queue.wanted_in().is_none());
        queue.note_progress();
        assert!(!queue.is_due(true), "progress has time");
        queue.sent_at = Instant::now().checked_sub(TELL_EVERY);
        assert!(queue.is_due(true) && !queue.is_due(false));
        queue.note_news();
        assert!(queue.is_due(false));
        queue.pause_until = Some(Instant::now() + PAUSE);
        assert!(!queue.is_due(true) && queue.wanted_in() > Some(PAUSE / 2));
        queue.pause_until = None;
        under_way(&mut queue, MAX_ASKED - 1);
        assert!(!queue.is_due(true), "those that are lost are bounded");
    }

    #[test]
    fn orders_of_an_older_exchange_do_not_count_after_those_of_a_later_one() {
        let mut queue = ExchangeQueue::default();
        assert!(queue.obey(1, 7) && queue.obey(3, 9));
        assert!(!queue.obey(2, 8) && !queue.obey(3, 9));
        assert_eq!(queue.version, 9);
    }
}
