//! Changes of polls when another main server of the fleet is asked, or the
//! configuration lists others.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::fleet::FleetOrigins;
use tokio::time::Instant;

use super::{MainServerView, SyncWorker, poll::InFlightPoll};
use crate::{
    board,
    upstream::{NextTry, UpstreamError},
};

/// A held poll whose connection broke after so long may have been cut by something on the
/// way: it is asked again where it was, which a main server that has gone does not answer.
const HELD_LONG: Duration = Duration::from_secs(1);

impl SyncWorker {
    /// Takes in the configured main servers. If the fleet is still the same, nothing that is
    /// known of it is forgotten; true if it is another one.
    pub(super) fn follow_fleet(&mut self, fleet: &FleetOrigins) -> bool {
        let known = &mut self.known;
        if known.fleet == *fleet {
            return false;
        }
        if !fleet.contains(known.fleet.identity()) {
            return true;
        }
        let is_renamed = known.fleet.identity() != fleet.identity();
        known.fleet = fleet.clone();
        if is_renamed {
            self.fetch.set_catalogue(known.catalogue());
            let origin = fleet.identity().to_owned();
            self.board.relay.send_modify(|plan| {
                let section = plan.section.clone();
                *plan = Arc::new(board::MainServerPlan { origin, section });
            });
        }
        false
    }

    /// Another main server is in use: a poll that the former one holds is given up. True if
    /// the next poll is due. While polls fail, they go their own way around the list.
    pub(super) fn follow_main_server(&mut self, turn: u64) -> bool {
        let is_elsewhere = |poll: &InFlightPoll| poll.upstream.turn() != turn;
        if self.known.poll_error.is_some() || !self.poll.as_ref().is_some_and(is_elsewhere) {
            return false;
        }
        self.poll = None;
        true
    }

    /// Notes that a main server has answered a poll; true if another one did before.
    pub(super) fn note_polled(&mut self, poll: &InFlightPoll) -> bool {
        self.connector.note_answer(&mut self.round, &poll.upstream);
        let turn = poll.upstream.turn();
        self.polled_turn.replace(turn).is_some_and(|before| before != turn)
    }

    /// Goes on to the next main server if this one is away.
    pub(super) fn after_failed_poll(&mut self, poll: &InFlightPoll, error: &UpstreamError) {
        if poll.upstream.fleet().base_urls().len() < 2 {
            return;
        }
        let is_cut = poll.is_long_poll && error.is_disconnected() && poll.age() >= HELD_LONG;
        let next = match is_cut {
            true => NextTry::AtOnce,
            false => self.connector.after_failure(&mut self.round, &poll.upstream, error),
        };
        if next == NextTry::AtOnce {
            self.next_poll_at = Some(Instant::now());
        }
    }

    pub(super) fn begin_poll(&mut self) {
        let config = self.settings.current();
        let upstream = self.connector.upstream(&config);
        if self.follow_fleet(upstream.fleet()) {
            self.end_prestaging();
            self.known = MainServerView::of(upstream.fleet().clone(), self.known.last_pull);
        }
        if self.polled_turn.is_some_and(|turn| turn != upstream.turn()) {
            self.known.seen = None;
        }
        let before = self.known.before_poll();
        self.next_poll_at = None;
        self.poll =
            Some(InFlightPoll::begin(upstream, before, &config, self.board.presence.subscribe()));
    }
}
