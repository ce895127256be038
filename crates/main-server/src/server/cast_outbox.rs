//! Casts on their way to nodes, and how far each node is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_mirror_base::clock::UnixMillis;
use tokio::sync::{Semaphore, watch};

use crate::{
    refusal::RequestError,
    server::{MAX_WAITING, Server},
    state::{
        casts::{
            self, ANSWER_BYTES, CastCursors, CastGap, CastSelection, CastTail, DeliverableCast,
            DeliveryState, KeptCast, TailSearch,
        },
        destinations::Audience,
    },
};

/// Casts that are read from the database for one answer.
const READ_CASTS: i64 = 100;

/// The newest casts, and the nodes that wait for the next one.
#[derive(Debug)]
pub(crate) struct CastOutbox {
    /// None before the start is over.
    tail: Mutex<Option<CastTail>>,
    /// Changes with each cast that can be delivered.
    news: watch::Sender<i64>,
    cursors: Mutex<CastCursors>,
    /// Permits of nodes that wait; each keeps a connection.
    pub(crate) waiting: Semaphore,
}

impl Default for CastOutbox {
    fn default() -> Self {
        Self {
            tail: Mutex::default(),
            news: watch::Sender::default(),
            cursors: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }
}

impl CastOutbox {
    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.news.subscribe()
    }

    pub(crate) fn cursors(&self) -> MutexGuard<'_, CastCursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Option<CastTail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sequence and its last number, as they are known here.
    pub(crate) fn head(&self) -> Option<(Arc<str>, i64)> {
        self.tail().as_ref().map(|tail| (tail.stream().clone(), tail.head()))
    }

    /// Begins behind a number: what is before is in the database alone.
    pub(crate) fn begin(&self, stream: Arc<str>, head: i64) {
        *self.tail() = Some(CastTail::new(stream, head));
        self.news.send_replace(head);
    }

    /// Has nodes get casts, the oldest first. False if one between is missing here.
    pub(crate) fn push(&self, new: Vec<DeliverableCast>) -> bool {
        let (head, is_complete) = {
            let mut tail = self.tail();
            let Some(tail) = tail.as_mut() else { return false };
            let mut is_complete = true;
            for cast in new {
                is_complete &= tail.push(cast);
            }
            (tail.head(), is_complete)
        };
        self.news.send_if_modified(|news| std::mem::replace(news, head) != head);
        is_complete
    }

    /// Has nobody else get a cast.
    pub(crate) fn cancel(&self, seq: i64) {
        if let Some(tail) = self.tail().as_mut() {
            tail.cancel(seq);
        }
    }

    fn search(&self, node_id: &str, after: i64, now: UnixMillis) -> TailSearch {
        match self.tail().as_ref() {
            Some(tail) => tail.search(node_id, after, now),
            None => TailSearch::Found(CastSelection { after, ..CastSelection::default() }),
        }
    }
}

impl Server {
    /// The casts that a node gets next after a number.
    pub(crate) async fn casts_after(
        &self,
        node_id: &str,
        stream: &Arc<str>,
        after: i64,
    ) -> Result<CastSelection, RequestError> {
        let now = UnixMillis::now();
        let found = match self.cast_outbox.search(node_id, after, now) {
            TailSearch::Found(found) => found,
            TailSearch::Before(first) => {
                let between = (after, first);
                let reading = self.cast_records.casts_for_node(node_id, between, now, READ_CASTS);
                let unreadable = |error: crate::error::StateError| {
                    RequestError::RecordsUnavailable(error.to_string())
                };
                let casts = reading.await.map_err(unreadable)?;
                let is_cut = i64::try_from(casts.len()).unwrap_or(i64::MAX) >= READ_CASTS;
                let mut last = casts.last().filter(|_| is_cut).map_or(first - 1, |cast| cast.seq);
                let (mut texts, mut bytes) = (Vec::<Arc<str>>::new(), 0);
                for cast in &casts {
                    if bytes >= ANSWER_BYTES {
                        break;
                    }
                    let text = casts::delivered_text(cast);
                    bytes += text.len();
                    texts.push(text.into());
                    if bytes >= ANSWER_BYTES {
                        last = cast.seq;
                    }
                }
                // The node was away: what it could have got meanwhile is not among them.
                CastSelection { texts, after: last, has_missed: true }
            }
        };
        if found.has_missed {
            let (node_id, stream, through) = (node_id.to_owned(), stream.clone(), found.after);
            let gap = CastGap { node_id, stream, after, through, at: now };
            self.cast_outbox.cursors().note_gap(gap);
        }
        Ok(found)
    }

    /// The state of a cast at each node that it is for, by node; None where they can't be
    /// known.
    pub(crate) async fn cast_deliveries(
        &self,
        cast: &KeptCast,
    ) -> Result<Vec<(String, DeliveryState)>, RequestError> {
        let unreadable =
            |error: crate::error::StateError| RequestError::RecordsUnavailable(error.to_string());
        let id = cast.id();
        let saved = self.cast_records.cast_cursors(&id).await.map_err(unreadable)?;
        let audience = self.cast_records.cast_audience(&cast.audience).await.map_err(unreadable)?;
        let nodes: Vec<String> = match audience {
            Audience::All => self.known().iter().map(|node| node.id.clone()).collect(),
            Audience::Nodes(ids) => ids.into_iter().collect(),
        };
        let (now, unsaved) = (UnixMillis::now(), self.cast_outbox.cursors());
        let state = |node: &String| {
            let cursor = unsaved.get(node).or_else(|| saved.cursors.get(node));
            let gaps = saved.gaps.iter().chain(unsaved.gaps());
            casts::delivery(cast, cursor, gaps.filter(|gap| gap.node_id == *node), now)
        };
        Ok(nodes.into_iter().map(|node| (node.clone(), state(&node))).collect())
    }
}
