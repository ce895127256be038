//! A program that follows the casts of this node, and its place among them. What it has not
//! got yet waits in the history and nowhere else, so that a slow one costs no memory.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use edge_mirror_protocol::casts::DeliveredCast;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::Instant,
};

use super::{CastHistory, NodeCast};

/// A follower ends after this time, and its program connects again: with the rights that it
/// has then.
const LIFETIME: Duration = Duration::from_secs(600);

/// An event for a program.
#[derive(Clone, Debug)]
pub(crate) enum ConsumerEvent {
    Kept(Arc<NodeCast>),
    Live(Arc<DeliveredCast>),
    /// So many live casts were not given to it: it was too slow.
    Dropped(u64),
    /// Casts after its place that come before this number are not kept any more.
    Lost(u64),
}

/// Takes a program's place as long as it lives.
pub(crate) struct CastFollower {
    history: Arc<CastHistory>,
    news: watch::Receiver<u64>,
    live: broadcast::Receiver<Arc<DeliveredCast>>,
    place: u64,
    topic: String,
    ready: VecDeque<ConsumerEvent>,
    ends: Instant,
}

impl CastHistory {
    /// Follows what comes after a number, or from now on; of a topic if that is not empty.
    /// None if `most` follow already.
    pub(crate) fn follow(
        self: &Arc<Self>,
        after: Option<u64>,
        topic: String,
        most: u64,
    ) -> Option<CastFollower> {
        let news = self.subscribe();
        if self.followers() as u64 > most {
            return None;
        }
        Some(CastFollower {
            news,
            live: self.subscribe_live(),
            place: after.unwrap_or_else(|| self.last()),
            history: self.clone(),
            topic,
            ready: VecDeque::new(),
            ends: Instant::now() + LIFETIME,
        })
    }
}

impl CastFollower {
    /// Waits for the next event; None at the end. May be dropped half way and loses nothing.
    pub(crate) async fn next(&mut self) -> Option<ConsumerEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.news.borrow_and_update();
            let before = self.place;
            let (found, place) = self.history.after(before, &self.topic);
            self.place = place;
            self.ready.extend(found.lost_before.map(ConsumerEvent::Lost));
            self.ready.extend(found.casts.into_iter().map(ConsumerEvent::Kept));
            if !self.ready.is_empty() || place != before {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                live = self.live.recv() => self.ready.extend(self.live_event(live)),
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    fn live_event(&self, received: Result<Arc<DeliveredCast>, RecvError>) -> Option<ConsumerEvent> {
        match received {
            Ok(cast) => {
                let is_wanted = self.topic.is_empty() || cast.topic == self.topic;
                is_wanted.then_some(ConsumerEvent::Live(cast))
            }
            Err(RecvError::Lagged(count)) => Some(ConsumerEvent::Dropped(count)),
            // The history is as long-lived as the node.
            Err(RecvError::Closed) => None,
        }
    }
}
