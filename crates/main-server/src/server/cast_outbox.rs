//! Casts on their way to nodes, and how far each node is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edge_mirror_base::clock::UnixMillis;
use tokio::sync::{Semaphore, watch};

use crate::{
    counts::SentCastKind,
    error::StateError,
    refusal::RequestError,
    server::{CastSubscribers, MAX_WAITING, Server},
    state::{
        casts::{
            self, ANSWER_BYTES, CastCursors, CastGap, CastId, CastReadMark, CastSelection,
            CastStreams, CastTail, CastWaiters, DeliverableCast, DeliveryState, KeptCast,
            MAX_TOPIC, NewCast, NodeCursor, TailSearch, WaiterSlot,
        },
        destinations::Audience,
    },
};

/// Casts that are read from the database for one answer.
const READ_CASTS: i64 = 100;
/// Numbers that are looked at for one answer. Whoever is further behind asks again: a look
/// takes a moment whatever there is.
const READ_NUMBERS: i64 = 20_000;

/// The newest casts, and the nodes that wait for the next one.
///
/// `queue` is locked before `cursors`.
#[derive(Debug)]
pub(crate) struct CastOutbox {
    kind: SentCastKind,
    subscribers: CastSubscribers,
    queue: Mutex<OutboxQueue>,
    /// True once it is known where the sequence is.
    is_ready: watch::Sender<bool>,
    cursors: Mutex<CastCursors>,
    /// Permits of nodes that wait; each keeps a connection.
    pub(crate) waiting: Semaphore,
}

#[derive(Debug, Default)]
struct OutboxQueue {
    /// None before the start is over.
    tail: Option<CastTail>,
    waiters: CastWaiters,
    /// The furthest number under the current name that a node had and is not known here.
    claimed: i64,
}

/// A node's place as it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPlace {
    pub(crate) stream: Arc<str>,
    pub(crate) after: i64,
}

/// A node's request that waits for a cast; nobody looks for it once this is dropped.
#[derive(Debug)]
pub(crate) struct CastWaiter<'a> {
    outbox: &'a CastOutbox,
    node_id: Arc<str>,
    slot: Arc<WaiterSlot>,
}

impl CastOutbox {
    /// Kept casts, once it is known where their sequence is.
    pub(crate) fn new(subscribers: CastSubscribers) -> Self {
        Self {
            kind: SentCastKind::Kept,
            subscribers,
            queue: Mutex::default(),
            is_ready: watch::Sender::default(),
            cursors: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Live casts, whose numbers begin now.
    pub(crate) fn live(subscribers: CastSubscribers) -> Self {
        let live = Self { kind: SentCastKind::Live, ..Self::new(subscribers) };
        let name = format!("live{:08x}", fastrand::u32(..));
        let streams = CastStreams::new(name.into(), HashMap::default());
        live.queue().tail = Some(CastTail::live(streams));
        live
    }

    pub(crate) fn subscribers(&self) -> &CastSubscribers {
        &self.subscribers
    }

    pub(crate) fn cursors(&self) -> MutexGuard<'_, CastCursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, OutboxQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is known where the sequence is.
    pub(crate) async fn ready(&self) {
        // The sender is never dropped.
        let _ = self.is_ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// The name of the sequence and its last number, as they are known here.
    pub(crate) fn head(&self) -> Option<(Arc<str>, i64)> {
        let queue = self.queue();
        queue.tail.as_ref().map(|tail| (tail.streams().current().clone(), tail.head()))
    }

    /// Begins behind a number: what is before is in the database alone. Without names, the
    /// sequence has those that it had.
    pub(crate) fn begin(&self, streams: Option<CastStreams>, head: i64) {
        let mut queue = self.queue();
        let before = queue.tail.take();
        if let Some(tail) = &before {
            // What came after it under the name of before is not in this sequence.
            let common = match &streams {
                Some(new) => new.resolve(tail.streams().current(), tail.head()).unwrap_or(0),
                None => tail.head(),
            };
            if common.min(head) < tail.head() {
                self.cursors().set_back(common.min(head));
            }
        }
        let known = || before.map(|tail| tail.streams().clone()).unwrap_or_default();
        queue.tail = Some(CastTail::new(streams.unwrap_or_else(known), head));
        queue.waiters.wake_anew();
        drop(queue);
        self.is_ready.send_replace(true);
    }

    /// Goes on under other names. False if the sequence was set back, or nothing is known
    /// of it yet.
    pub(crate) fn rename(&self, streams: CastStreams) -> bool {
        self.queue().tail.as_mut().is_some_and(|tail| tail.rename(streams))
    }

    /// Has nodes get casts, the oldest first. False if one between is missing here.
    pub(crate) fn push(&self, new: Vec<DeliverableCast>) -> bool {
        let mut queue = self.queue();
        let OutboxQueue { tail: Some(tail), waiters, .. } = &mut *queue else { return false };
        let mut is_complete = true;
        for cast in new {
            let is_next = tail.push(cast);
            if let Some(cast) = tail.last().filter(|_| is_next) {
                waiters.wake(cast.audience(), tail.head());
                self.subscribers.send(self.kind, cast);
            }
            is_complete &= is_next;
        }
        is_complete
    }

    /// Numbers live casts and has whoever is there get them. Returns their ids, and for each
    /// how many requests of nodes waited for it.
    pub(crate) fn append(&self, new: &[NewCast]) -> Vec<(CastId, usize)> {
        let mut queue = self.queue();
        let OutboxQueue { tail: Some(tail), waiters, .. } = &mut *queue else { return Vec::new() };
        let mut sent = Vec::with_capacity(new.len());
        for cast in new {
            let id = CastId { stream: tail.streams().current().clone(), seq: tail.head() + 1 };
            tail.push(DeliverableCast::new(&cast.kept(&id), cast.audience.clone()));
            let nodes = waiters.wake(&cast.audience, id.seq);
            if let Some(cast) = tail.last() {
                self.subscribers.send(self.kind, cast);
            }
            sent.push((id, nodes));
        }
        sent
    }

    /// The live casts of a node after its place, or those that come from now on where that
    /// is unknown; and how many casts after its place are not here any more.
    pub(crate) fn recent(&self, node_id: &str, place: &NamedPlace) -> (CastSelection, u64) {
        let (queue, now) = (self.queue(), UnixMillis::now());
        let Some(tail) = queue.tail.as_ref() else { return (CastSelection::default(), 0) };
        let known = tail.streams().resolve(&place.stream, place.after);
        let after = known.map_or(tail.head(), |after| after.clamp(0, tail.head()));
        match tail.search(node_id, after, now) {
            TailSearch::Found(found) => (found, 0),
            TailSearch::Before(first) => {
                let dropped = u64::try_from(first - 1 - after).unwrap_or_default();
                match tail.search(node_id, first - 1, now) {
                    TailSearch::Found(found) => (found, dropped),
                    // There is nothing before the first one.
                    TailSearch::Before(_) => (CastSelection::default(), dropped),
                }
            }
        }
    }

    /// Has nobody else get a cast.
    pub(crate) fn cancel(&self, seq: i64) {
        if let Some(tail) = self.queue().tail.as_mut() {
            tail.cancel(seq);
        }
    }

    /// True if it is a name of this sequence, or was one.
    pub(crate) fn has_name(&self, stream: &str) -> bool {
        let queue = self.queue();
        queue.tail.as_ref().is_some_and(|tail| tail.streams().resolve(stream, 0).is_some())
    }

    /// The furthest number that a node had and was not known here, if there was any.
    pub(crate) fn take_claim(&self) -> i64 {
        std::mem::take(&mut self.queue().claimed)
    }

    /// The number in this sequence from which somebody at this place goes on; None if
    /// nothing is known of its name.
    fn resolve(&self, place: &NamedPlace) -> Option<ResolvedPlace> {
        let mut queue = self.queue();
        let tail = queue.tail.as_ref()?;
        let (head, streams) = (tail.head(), tail.streams());
        let number = streams.resolve(&place.stream, place.after)?;
        let is_ahead = number > head && *place.stream == **streams.current();
        if is_ahead {
            queue.claimed = queue.claimed.max(number);
        }
        Some(ResolvedPlace { after: number.clamp(0, head), is_ahead })
    }

    fn search(&self, node_id: &str, after: i64, now: UnixMillis) -> TailSearch {
        match self.queue().tail.as_ref() {
            Some(tail) => tail.search(node_id, after, now),
            None => TailSearch::Found(CastSelection { after, ..CastSelection::default() }),
        }
    }

    /// Begins to wait behind a number. None if it is not the last one any more.
    pub(crate) fn wait(&self, node_id: &Arc<str>, after: i64) -> Option<CastWaiter<'_>> {
        let mut queue = self.queue();
        queue.tail.as_ref().filter(|tail| tail.head() == after)?;
        let slot = Arc::<WaiterSlot>::default();
        queue.waiters.add(node_id, slot.clone());
        Some(CastWaiter { outbox: self, node_id: node_id.clone(), slot })
    }

    #[cfg(test)]
    pub(crate) fn waiters(&self) -> usize {
        self.queue().waiters.count()
    }
}

/// A node's place in this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResolvedPlace {
    after: i64,
    /// It has more than is known here.
    is_ahead: bool,
}

impl CastWaiter<'_> {
    pub(crate) async fn woken(&self) {
        self.slot.woken().await;
    }

    /// The number that the node goes on from, woken or not; None if it has to find its place
    /// anew.
    pub(crate) fn place(&self) -> Option<i64> {
        let mut queue = self.outbox.queue();
        match queue.waiters.remove(&self.node_id, &self.slot) {
            // Nothing came for it.
            true => queue.tail.as_ref().map(CastTail::head),
            false => self.slot.place(),
        }
    }
}

impl Drop for CastWaiter<'_> {
    fn drop(&mut self) {
        self.outbox.queue().waiters.remove(&self.node_id, &self.slot);
    }
}

fn unreadable(error: StateError) -> RequestError {
    RequestError::RecordsUnavailable(error.to_string())
}

impl Server {
    /// The number from which a node goes on that names its place.
    pub(crate) async fn cast_place(
        &self,
        node_id: &str,
        place: &NamedPlace,
    ) -> Result<i64, RequestError> {
        let Some(found) = self.cast_outbox.resolve(place) else {
            // It was somewhere else, and has nothing or what was noted of it here.
            let is_new = place.stream.is_empty();
            let saved = match is_new {
                true => None,
                false => self.node_casts.cast_cursor(node_id).await.map_err(unreadable)?,
            };
            let head = self.cast_outbox.head().map_or(0, |(_, head)| head);
            return Ok(saved.map_or(0, |cursor| cursor.up_to(head).received));
        };
        if found.is_ahead {
            // Another main server's may not be known here yet, or the database was set back.
            self.wake.casts.notify_one();
        }
        self.cast_outbox.cursors().note_received(node_id, found.after);
        Ok(found.after)
    }

    /// Notes that a consumer at a node has read a topic up to a cast.
    pub(crate) fn note_read_cast(&self, node_id: &str, topic: String, id: &str) {
        let is_topic = topic.len() <= MAX_TOPIC && !topic.chars().any(char::is_control);
        let Some(CastId { stream, seq }) = CastId::parse(id).filter(|_| is_topic) else { return };
        let place = NamedPlace { stream, after: seq };
        // Of a sequence that nothing is known of, nothing is to be shown.
        let Some(found) = self.cast_outbox.resolve(&place) else { return };
        let (node_id, seq) = (node_id.to_owned(), found.after);
        self.cast_outbox.cursors().note_read(CastReadMark { node_id, topic, seq });
    }

    /// The casts that a node gets next after a number.
    pub(crate) async fn casts_after(
        &self,
        node_id: &str,
        after: i64,
    ) -> Result<CastSelection, RequestError> {
        let now = UnixMillis::now();
        let found = match self.cast_outbox.search(node_id, after, now) {
            TailSearch::Found(found) => found,
            TailSearch::Before(first) => self.casts_between(node_id, (after, first), now).await?,
        };
        if found.has_missed {
            let gap = CastGap { node_id: node_id.to_owned(), after, through: found.after, at: now };
            self.cast_outbox.cursors().note_gap(gap);
        }
        Ok(found)
    }

    /// Those that are in the database alone.
    async fn casts_between(
        &self,
        node_id: &str,
        (after, first): (i64, i64),
        now: UnixMillis,
    ) -> Result<CastSelection, RequestError> {
        let before = first.min(after + 1 + READ_NUMBERS);
        let reading = self.node_casts.casts_for_node(node_id, (after, before), now, READ_CASTS);
        let casts = reading.await.map_err(unreadable)?;
        let is_cut = i64::try_from(casts.len()).unwrap_or(i64::MAX) >= READ_CASTS;
        let mut last = casts.last().filter(|_| is_cut).map_or(before - 1, |cast| cast.seq);
        let (mut texts, mut bytes) = (Vec::<Arc<str>>::new(), 0);
        for cast in &casts {
            let text = casts::delivered_text(cast);
            bytes += text.len();
            texts.push(text.into());
            if bytes >= ANSWER_BYTES {
                last = cast.seq;
                break;
            }
        }
        // The node was away: what it could have got meanwhile is not among them.
        let stream = self.cast_outbox.head().map(|(stream, _)| stream).unwrap_or_default();
        Ok(CastSelection { stream, texts, after: last, has_missed: true })
    }

    /// The state of a cast at each node that it is for, by node.
    pub(crate) async fn cast_deliveries(
        &self,
        cast: &KeptCast,
    ) -> Result<Vec<(String, DeliveryState)>, RequestError> {
        let saved =
            self.cast_records.cast_cursors(cast.seq, &cast.topic).await.map_err(unreadable)?;
        let audience = self.cast_records.cast_audience(&cast.audience).await.map_err(unreadable)?;
        let nodes: Vec<String> = match audience {
            Audience::All => {
                let (known, virtual_nodes) = (self.known(), self.virtual_nodes());
                let known = known.iter().map(|node| node.id.clone());
                known.chain(virtual_nodes.iter().map(|node| node.id.clone())).collect()
            }
            Audience::Nodes(ids) => ids.into_iter().collect(),
        };
        // No longer under the lock than it takes to copy: nodes wait for it.
        let (unsaved, recent_gaps, recent_read): (Vec<Option<NodeCursor>>, _, _) = {
            let cursors = self.cast_outbox.cursors();
            let unsaved = nodes.iter().map(|node| cursors.get(node)).collect();
            (unsaved, cursors.gaps_around(cast.seq), cursors.read_of(&cast.topic))
        };
        let mut gaps = HashMap::<String, Vec<CastGap>>::new();
        for gap in saved.gaps.into_iter().chain(recent_gaps) {
            gaps.entry(gap.node_id.clone()).or_default().push(gap);
        }
        let mut read = saved.read;
        for (node, seq) in recent_read {
            let before = read.entry(node).or_default();
            *before = seq.max(*before);
        }
        let now = UnixMillis::now();
        let state = |(node, unsaved): (String, Option<NodeCursor>)| {
            let saved = saved.cursors.get(&node).copied();
            let cursor = saved.into_iter().chain(unsaved).reduce(NodeCursor::furthest);
            let gaps = gaps.get(&node).map_or(&[][..], Vec::as_slice);
            let read = read.get(&node).copied().unwrap_or_default();
            let state = casts::delivery(cast, cursor, gaps, read, now);
            (node, state)
        };
        Ok(nodes.into_iter().zip(unsaved).map(state).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn nobody_has_what_came_after_a_sequence_was_set_back_however_far_it_is_again() {
        let outbox = CastOutbox::new(CastSubscribers::new(10));
        outbox.begin(Some(CastStreams::new("a".into(), HashMap::new())), 100);
        outbox.cursors().note_received("n", 100);
        // Set back to 50; others have saved more since then.
        let streams = CastStreams::new("b".into(), HashMap::from([("a".into(), 50)]));
        outbox.begin(Some(streams), 110);
        assert_eq!(outbox.cursors().get("n").unwrap().received, 50);
        outbox.cursors().note_received("n", 110);
        let streams = CastStreams::new("c".into(), HashMap::from([("b".into(), 200)]));
        outbox.begin(Some(streams), 300);
        assert_eq!(outbox.cursors().get("n").unwrap().received, 110, "another name alone");
    }
}
