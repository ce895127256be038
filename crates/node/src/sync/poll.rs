//! One poll of a main server: the active meetings and, if that may have changed,
//! the locations of their packages.
//!
//! Long polling: a main server of ours holds back its answer until it changes, or
//! the wait is over; the next poll follows immediately, so that changes arrive as
//! they happen. Any other one answers immediately, and is polled at the interval.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::{MeetingStatus, OfferedPackage};
use edge_mirror_settings::Config;
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    board::{ActiveMeetings, Presence},
    upstream::{PollFingerprint, StatusAnswer, Upstream, UpstreamError},
};

/// The list of offers is fetched again after this time, whatever the token.
const OFFERS_STALE: Duration = Duration::from_secs(45);
/// Our main server says nothing of other nodes to a node that it does not know yet; so
/// the first poll follows the first heartbeat, if that is not long in coming.
const REGISTRATION_WAIT: Duration = Duration::from_secs(1);
/// Longest wait of a poll, whatever the interval: an answer says that the main
/// server is alive, and cleaning counts answers.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Minimum interval of polls that are answered with changes: a list that changes
/// all the time must not cost a core.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Pause if a main server that held back its answers now fails, or returns them
/// unchanged too early: it is stopping, perhaps to start again.
const GONE_PAUSE: Duration = Duration::from_secs(5);
const SHORT_GONE_PAUSE: Duration = Duration::from_millis(500);

/// State before the poll.
#[derive(Default)]
pub(crate) struct PollInput {
    /// The answer before, to recognize the same one.
    pub seen: Option<PollFingerprint>,
    pub token: String,
    pub active: Arc<ActiveMeetings>,
    /// The answers themselves contain the offers.
    pub(crate) offers_included: bool,
    /// Age of the list of offers, if there is one.
    pub(crate) offers_age: Option<Duration>,
    /// Some active meeting's package is not offered: it may be by now, and if not,
    /// the list still shows that the meeting was started again.
    pub(crate) waiting_for_offer: bool,
}

pub(crate) struct PollOutcome {
    /// None if the answer is the same as before.
    pub news: Option<MeetingStatus>,
    /// None if it was not requested, or could not be read; empty from a version of
    /// the main server that has no such list.
    pub offers: Option<Vec<OfferedPackage>>,
    /// The answer itself contained them.
    pub(crate) offers_included: bool,
    pub seen: PollFingerprint,
    /// The main server holds back answers.
    pub(crate) holds_answers: bool,
}

/// A poll under way.
pub(crate) struct InFlightPoll {
    pub outcome: BoxFuture<'static, Result<PollOutcome, UpstreamError>>,
    /// The main server that is asked.
    pub(crate) upstream: Upstream,
    began: Instant,
    wait: Duration,
    /// Held back by the main server, as far as is known here.
    pub(crate) is_long_poll: bool,
}

impl InFlightPoll {
    pub(crate) fn begin(
        upstream: Upstream,
        before: PollInput,
        config: &Config,
        mut presence: watch::Receiver<Presence>,
    ) -> Self {
        let held = before.seen.as_ref().is_some_and(PollFingerprint::can_wait);
        let limit = Duration::from_secs(config.network.connection_timeout);
        let wait = Duration::from_secs(config.sync_interval).min(LONGEST_WAIT);
        let (node_id, asked) = (config.node_id.clone(), upstream.clone());
        let outcome = Box::pin(async move {
            if before.seen.is_none() {
                let registered = presence.wait_for(|presence| {
                    presence.registered_at.as_deref() == Some(asked.base_url())
                });
                let _ = timeout(REGISTRATION_WAIT, registered).await;
            }
            poll(asked, before, node_id, limit, wait).await
        });
        Self { outcome, upstream, began: Instant::now(), wait, is_long_poll: held }
    }

    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Time of the next poll, if that is sooner than the interval. `polled` is the
    /// outcome of this one; None: an error.
    pub(crate) fn next_poll_at(
        &self,
        polled: Option<&PollOutcome>,
        now: Instant,
    ) -> Option<Instant> {
        let gone_pause = match self.upstream.fleet().base_urls().len() {
            0 | 1 => GONE_PAUSE,
            // Another one is there meanwhile.
            _ => SHORT_GONE_PAUSE,
        };
        let Some(polled) = polled else { return self.is_long_poll.then(|| now + GONE_PAUSE) };
        // Half the wait: clocks differ, and an answer that is not held back comes
        // within a small part of it.
        let too_soon =
            self.is_long_poll && polled.news.is_none() && now < self.began + self.wait / 2;
        match (polled.holds_answers, too_soon) {
            (false, _) => None,
            (true, true) => Some(now + gone_pause),
            (true, false) => Some(self.began + MIN_INTERVAL),
        }
    }
}

async fn poll(
    upstream: Upstream,
    before: PollInput,
    node_id: String,
    limit: Duration,
    wait: Duration,
) -> Result<PollOutcome, UpstreamError> {
    let mut answer = upstream.status(&node_id, limit, wait, before.seen.as_ref()).await?;
    if let Some(news) = answer.news.as_ref().filter(|news| !news.faults.is_empty()) {
        warn!("part of the main server's answer is ignored: {}", news.faults.join("; "));
    }
    let included = answer.news.as_mut().and_then(|news| news.offers.take());
    let offers_included = included.is_some();
    let offers = match included {
        Some(included) => Some(included),
        // Without the list there is still the direct route; the next poll retries.
        None if should_fetch_offers(&before, answer.news.as_ref()) => {
            upstream.offers(limit).await.ok().map(Option::unwrap_or_default)
        }
        None => None,
    };
    let StatusAnswer { news, seen, waits } = answer;
    Ok(PollOutcome { news, offers, offers_included, seen, holds_answers: waits })
}

fn should_fetch_offers(before: &PollInput, news: Option<&MeetingStatus>) -> bool {
    let fresh = before.offers_age.is_some_and(|age| age < OFFERS_STALE);
    let Some(status) = news else {
        let stale = !fresh || before.waiting_for_offer;
        return !before.active.is_empty() && !before.offers_included && stale;
    };
    // A package moves with its meeting's title.
    let same = status.token == before.token && *status.active == **before.active;
    !status.active.is_empty() && (!same || !fresh || before.waiting_for_offer)
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::ActiveMeeting;

    use super::*;

    fn status(token: &str, ids: &[&str]) -> MeetingStatus {
        let meeting = |id: &&str| ActiveMeeting {
            id: id.parse().unwrap(),
            title: String::new(),
            sha256: None,
            size_bytes: None,
        };
        MeetingStatus {
            token: token.into(),
            active: ids.iter().map(meeting).collect(),
            ..MeetingStatus::default()
        }
    }

    fn before() -> PollInput {
        PollInput {
            token: "t".into(),
            active: Arc::new(ActiveMeetings::from(status("t", &["a", "b"]).active)),
            offers_age: Some(Duration::from_secs(1)),
            ..PollInput::default()
        }
    }

    #[test]
    fn offers_are_asked_for_when_there_may_be_news() {
        let wants = |before: PollInput, token: &str, ids: &[&str]| {
            should_fetch_offers(&before, Some(&status(token, ids)))
        };
        let same = |before: PollInput| wants(before, "t", &["a", "b"]);
        assert!(!same(before()));
        assert!(wants(before(), "u", &["a", "b"]));
        assert!(wants(before(), "t", &["a"]));
        assert!(wants(before(), "t", &["a", "c"]));
        let mut renamed = status("t", &["a", "b"]);
        renamed.active[0].title = "another".into();
        assert!(should_fetch_offers(&before(), Some(&renamed)));
        assert!(same(PollInput { offers_age: None, ..before() }));
        assert!(same(PollInput { offers_age: Some(OFFERS_STALE), ..before() }));
        assert!(same(PollInput { waiting_for_offer: true, ..before() }));
        assert!(!wants(PollInput { offers_age: None, ..before() }, "u", &[]));
    }

    #[test]
    fn without_news_offers_are_asked_for_when_they_are_old_or_missing_and_not_told() {
        let wants = |before: PollInput| should_fetch_offers(&before, None);
        assert!(!wants(before()));
        assert!(wants(PollInput { offers_age: Some(OFFERS_STALE), ..before() }));
        assert!(wants(PollInput { waiting_for_offer: true, ..before() }));
        let told = || PollInput { offers_included: true, ..before() };
        assert!(!wants(PollInput { offers_age: Some(OFFERS_STALE), ..told() }));
        assert!(!wants(PollInput { waiting_for_offer: true, ..told() }));
        assert!(
            !wants(PollInput { waiting_for_offer: true, ..PollInput::default() }),
            "none is active"
        );
    }

    #[test]
    fn only_where_answers_are_held_back_the_interval_does_not_count() {
        let wait = Duration::from_secs(10);
        let began = Instant::now();
        let again = |held, polled: Option<&PollOutcome>, after_s: u64| {
            let outcome = Box::pin(std::future::pending());
            let upstream = Upstream::for_test();
            let now = began + Duration::from_secs(after_s);
            let again = InFlightPoll { outcome, upstream, began, wait, is_long_poll: held }
                .next_poll_at(polled, now);
            again.map(|again| again.saturating_duration_since(now))
        };
        let polled = |waits, news: bool| PollOutcome {
            news: news.then(MeetingStatus::default),
            offers: None,
            offers_included: false,
            seen: PollFingerprint::for_test(),
            holds_answers: waits,
        };
        let (at_once, a_moment) = (Some(Duration::ZERO), Some(MIN_INTERVAL));
        // Another kind of server answers, or fails to.
        assert_eq!(again(false, Some(&polled(false, true)), 0), None);
        assert_eq!(again(false, Some(&polled(false, false)), 0), None);
        assert_eq!(again(false, None, 0), None);
        // It turns out to be one of ours: the next poll is held.
        assert_eq!(again(false, Some(&polled(true, true)), 0), a_moment);
        assert_eq!(again(false, Some(&polled(true, false)), 0), a_moment);
        // A change, and the end of the wait.
        assert_eq!(again(true, Some(&polled(true, true)), 0), a_moment);
        assert_eq!(again(true, Some(&polled(true, true)), 3), at_once);
        assert_eq!(again(true, Some(&polled(true, false)), 10), at_once);
        // It is stopping, or has gone, or has no room for another waiting poll.
        assert_eq!(again(true, Some(&polled(true, false)), 0), Some(GONE_PAUSE));
        assert_eq!(again(true, None, 3), Some(GONE_PAUSE));
        assert_eq!(again(true, Some(&polled(false, false)), 0), None);
        assert_eq!(again(true, Some(&polled(false, true)), 0), None);
    }
}
