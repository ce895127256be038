//! The main server that requests go to, of those that the configuration lists.
//!
//! Packages, answers and plans belong to the fleet, whichever of its main servers gives them;
//! only the address that is asked changes. All callers share it. It changes when the one in
//! use does not answer, to the next one in order, and never just because an earlier one is
//! back: a node would otherwise move to and fro with a main server that fails now and then.

use edge_mirror_base::{clock::UnixMillis, metrics::Counter};
use edge_mirror_protocol::{Fault, fleet::FleetOrigins};
use tokio::sync::watch;
use tracing::warn;

use super::{Upstream, UpstreamError};

/// So many 5xx in a row to one caller mean that a main server can't work: one may be that of
/// a proxy in front of a main server that is starting.
const MAX_REFUSALS: u32 = 2;

/// The main server in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainServerInUse {
    /// Its base URL; empty before the first request.
    pub base_url: String,
    pub since: Option<UnixMillis>,
    /// Those that did not answer when they were last asked.
    pub failing: Vec<FailingServer>,
    /// Another one with each change.
    pub turn: u64,
}

/// A main server that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingServer {
    pub base_url: String,
    pub fault: Fault,
    pub since: UnixMillis,
}

/// One caller's tries since the last answer.
#[derive(Debug, Default)]
pub struct FailoverRound {
    /// Main servers that did not answer in this round.
    tried: usize,
    /// 5xx in a row.
    refusals: u32,
}

/// The time of the try after one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// Another main server has not been tried in this round.
    AtOnce,
    AfterPause,
}

#[derive(Debug, Default)]
pub(super) struct Failover {
    in_use: watch::Sender<MainServerInUse>,
    changes: Counter,
}

impl MainServerInUse {
    fn index_in(&self, fleet: &FleetOrigins) -> Option<usize> {
        fleet.position(&self.base_url)
    }

    /// Follows the configuration: one that is listed stays in use. True if that is a change.
    fn follow(&mut self, fleet: &FleetOrigins, now: UnixMillis) -> bool {
        if self.index_in(fleet).is_some() {
            return false;
        }
        self.failing.retain(|failing| fleet.contains(&failing.base_url));
        self.turn_to(fleet.identity(), now);
        true
    }

    fn turn_to(&mut self, base_url: &str, now: UnixMillis) {
        (self.base_url, self.since) = (base_url.to_owned(), Some(now));
        self.turn += 1;
    }

    /// Notes that the main server that was in use at `turn` does not answer.
    fn fail(&mut self, fleet: &FleetOrigins, asked: (&str, u64), fault: Fault, now: UnixMillis) {
        let (base_url, turn) = asked;
        match self.failing.iter_mut().find(|failing| failing.base_url == base_url) {
            Some(failing) => failing.fault = fault,
            None => {
                let base_url = base_url.to_owned();
                self.failing.push(FailingServer { base_url, fault, since: now });
            }
        }
        // Somebody else may have gone on to the next one meanwhile.
        let index = self.index_in(fleet).filter(|_| turn == self.turn);
        let next = index.map(|index| (index + 1) % fleet.base_urls().len());
        if let Some(next) = next.and_then(|next| fleet.base_urls().get(next))
            && *next != self.base_url
        {
            self.turn_to(next, now);
        }
    }
}

impl Failover {
    pub(super) fn follow(&self, fleet: &FleetOrigins) -> (String, u64) {
        {
            let in_use = self.in_use.borrow();
            if in_use.index_in(fleet).is_some() {
                return (in_use.base_url.clone(), in_use.turn);
            }
        }
        self.in_use.send_if_modified(|in_use| in_use.follow(fleet, UnixMillis::now()));
        let in_use = self.in_use.borrow();
        (in_use.base_url.clone(), in_use.turn)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<MainServerInUse> {
        self.in_use.subscribe()
    }

    pub(super) fn changes(&self) -> &Counter {
        &self.changes
    }

    pub(super) fn note_answer(&self, upstream: &Upstream) {
        let base_url = upstream.base_url();
        if !self.in_use.borrow().failing.iter().any(|failing| failing.base_url == base_url) {
            return;
        }
        self.in_use.send_modify(|in_use| {
            in_use.failing.retain(|failing| failing.base_url != base_url);
        });
    }

    pub(super) fn note_failure(&self, upstream: &Upstream, fault: Fault) {
        let fleet = upstream.fleet();
        if fleet.base_urls().len() < 2 {
            return;
        }
        let mut moved = None;
        self.in_use.send_modify(|in_use| {
            let (before, asked) = (in_use.turn, (upstream.base_url(), upstream.turn()));
            in_use.fail(fleet, asked, fault.clone(), UnixMillis::now());
            moved = (in_use.turn != before).then(|| in_use.base_url.clone());
        });
        if let Some(next) = moved {
            self.changes.inc();
            warn!("{fault}; the main server {next} is asked from now on");
        }
    }

    pub(super) fn after_failure(
        &self,
        round: &mut FailoverRound,
        upstream: &Upstream,
        error: &UpstreamError,
    ) -> NextTry {
        let servers = upstream.fleet().base_urls().len();
        let verdict = round.judge(error, servers);
        if verdict.is_away {
            self.note_failure(upstream, error.fault());
        }
        verdict.next
    }
}

struct Verdict {
    is_away: bool,
    next: NextTry,
}

impl FailoverRound {
    fn judge(&mut self, error: &UpstreamError, servers: usize) -> Verdict {
        if error.is_server_error() {
            self.refusals += 1;
        }
        let is_away = error.is_away() || self.refusals >= MAX_REFUSALS;
        if !is_away || servers < 2 {
            return Verdict { is_away: false, next: NextTry::AfterPause };
        }
        self.refusals = 0;
        self.tried += 1;
        let next = match self.tried < servers {
            true => NextTry::AtOnce,
            false => {
                self.tried = 0;
                NextTry::AfterPause
            }
        };
        Verdict { is_away, next }
    }

    /// Begins a new round after an answer.
    pub fn answered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::Cause;
    use reqwest::StatusCode;

    use super::*;

    fn fleet(hosts: &[&str]) -> FleetOrigins {
        FleetOrigins::new(hosts.iter().map(|host| (*host).to_owned()))
    }

    fn fault() -> Fault {
        Fault { cause: Cause::Refused, text: "away".into() }
    }

    fn refused() -> UpstreamError {
        let (asked, cause) = ("GET".to_owned(), "refused".to_owned());
        UpstreamError::Unreachable { asked, cause, refused: true }
    }

    fn status(status: u16) -> UpstreamError {
        let status = StatusCode::from_u16(status).unwrap();
        UpstreamError::Refused { asked: "GET".to_owned(), status, answer: String::new() }
    }

    #[test]
    fn the_next_one_in_order_is_asked_round_and_round() {
        let (fleet, now) = (fleet(&["a", "b", "c"]), UnixMillis::from_secs(1));
        let mut in_use = MainServerInUse::default();
        assert!(in_use.follow(&fleet, now));
        let mut asked = Vec::new();
        for _ in 0..4 {
            let (base_url, turn) = (in_use.base_url.clone(), in_use.turn);
            in_use.fail(&fleet, (&base_url, turn), fault(), now);
            // A second report of the same failure moves nobody.
            in_use.fail(&fleet, (&base_url, turn), fault(), now);
            asked.push(in_use.base_url.clone());
        }
        assert_eq!(asked, ["b", "c", "a", "b"]);
        assert_eq!(in_use.failing.len(), 3);
    }

    #[test]
    fn a_change_of_the_list_keeps_the_one_in_use() {
        let now = UnixMillis::from_secs(1);
        let mut in_use = MainServerInUse::default();
        in_use.follow(&fleet(&["a"]), now);
        for (list, expected) in
            [(&["a", "b"][..], "a"), (&["b", "a"], "a"), (&["b", "c"], "b"), (&["c"], "c")]
        {
            in_use.follow(&fleet(list), now);
            assert_eq!(in_use.base_url, expected, "{list:?}");
        }
    }

    #[test]
    fn a_round_has_no_pause_before_all_were_tried() {
        let mut round = FailoverRound::default();
        let mut next = |error: &UpstreamError, servers| round.judge(error, servers).next;
        for _ in 0..2 {
            let tries = [0; 3].map(|_| next(&refused(), 3));
            assert_eq!(tries, [NextTry::AtOnce, NextTry::AtOnce, NextTry::AfterPause]);
        }
        assert_eq!(next(&refused(), 1), NextTry::AfterPause, "there is no other one");
    }

    #[test]
    fn one_that_answers_with_errors_is_left_after_some_in_a_row() {
        let mut round = FailoverRound::default();
        assert!(!round.judge(&status(503), 2).is_away);
        assert!(!round.judge(&status(404), 2).is_away, "it works, and has no such thing");
        assert!(round.judge(&status(500), 2).is_away);
        assert!(!round.judge(&status(500), 2).is_away, "the count begins again");
        round.answered();
        assert!(!round.judge(&status(500), 2).is_away);
    }
}
