//! The places of nodes in the sequence of casts, and what became of one cast at each node.

use std::collections::HashMap;

use edge_mirror_base::clock::UnixMillis;
use serde::Serialize;

use super::{CastStatus, KeptCast};

/// Numbers of the last casts that went to a node, and that it has on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeCursor {
    pub(crate) sent: i64,
    pub(crate) received: i64,
}

/// A part of the sequence of which a node got only what could still be delivered at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CastGap {
    pub(crate) node_id: String,
    pub(crate) after: i64,
    pub(crate) through: i64,
    pub(crate) at: UnixMillis,
}

/// Changes that are not saved yet. Nothing is lost with them: each request of a node says
/// anew how far it is.
#[derive(Debug, Default)]
pub(crate) struct CastCursors {
    changed: HashMap<String, NodeCursor>,
    /// Those that were taken to be saved: a node that asks again where it is changes nothing.
    /// One for each node that asks here.
    taken: HashMap<String, NodeCursor>,
    gaps: Vec<CastGap>,
    /// Numbers up to which was read, by topic and node.
    read: HashMap<(String, String), i64>,
}

/// The last cast of a topic that was read at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CastReadMark {
    pub(crate) node_id: String,
    pub(crate) topic: String,
    pub(crate) seq: i64,
}

/// Marks that wait to be saved; nodes tell only what was read since.
const MAX_READ: usize = 100_000;
/// Gaps that wait to be saved; what is beyond is not shown as missed.
const MAX_GAPS: usize = 10_000;

/// The fate of a cast at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryState {
    /// The node has not asked for it yet.
    Pending,
    /// It is on its way, or the node has not said yet that it has it.
    Sent,
    /// The node has it on disk.
    Received,
    /// The same, and a consumer there has read it.
    Read,
    /// It expired or was cancelled before the node asked for it.
    Missed,
}

impl DeliveryState {
    pub(crate) const COUNT: usize = 5;
}

impl CastCursors {
    /// Notes that a node has everything up to a number.
    pub(crate) fn note_received(&mut self, node_id: &str, number: i64) {
        self.change(node_id, |cursor| {
            cursor.received = cursor.received.max(number);
            cursor.sent = cursor.sent.max(number);
        });
    }

    /// Notes that it is being sent everything up to a number.
    pub(crate) fn note_sent(&mut self, node_id: &str, number: i64) {
        self.change(node_id, |cursor| cursor.sent = cursor.sent.max(number));
    }

    pub(crate) fn note_gap(&mut self, gap: CastGap) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        }
    }

    /// Notes that a consumer at a node has read a topic up to a number.
    pub(crate) fn note_read(&mut self, mark: CastReadMark) {
        if self.read.len() < MAX_READ {
            let seq = self.read.entry((mark.topic, mark.node_id)).or_default();
            *seq = mark.seq.max(*seq);
        }
    }

    /// The nodes' marks of a topic that are not saved yet.
    pub(crate) fn read_of(&self, topic: &str) -> Vec<(String, i64)> {
        let of_topic = self.read.iter().filter(|((found, _), _)| found == topic);
        of_topic.map(|((_, node_id), seq)| (node_id.clone(), *seq)).collect()
    }

    pub(crate) fn take_read(&mut self) -> Vec<CastReadMark> {
        let taken = self.read.drain();
        taken.map(|((topic, node_id), seq)| CastReadMark { node_id, topic, seq }).collect()
    }

    /// The place of a node that has asked here.
    pub(crate) fn get(&self, node_id: &str) -> Option<NodeCursor> {
        self.changed.get(node_id).or_else(|| self.taken.get(node_id)).copied()
    }

    /// Nodes that were sent more than they have said to have.
    pub(crate) fn behind(&self) -> usize {
        let taken = self.taken.iter().filter(|(id, _)| !self.changed.contains_key(*id));
        let cursors = self.changed.values().chain(taken.map(|(_, cursor)| cursor));
        cursors.filter(|cursor| cursor.received < cursor.sent).count()
    }

    /// Gaps that have a number in them, and are not saved yet.
    pub(crate) fn gaps_around(&self, number: i64) -> Vec<CastGap> {
        let around = |gap: &&CastGap| (gap.after + 1..=gap.through).contains(&number);
        self.gaps.iter().filter(around).cloned().collect()
    }

    /// Takes what is to be saved.
    pub(crate) fn take(&mut self) -> (Vec<(String, NodeCursor)>, Vec<CastGap>) {
        let changed: Vec<_> = self.changed.drain().collect();
        self.taken.extend(changed.iter().cloned());
        (changed, std::mem::take(&mut self.gaps))
    }

    /// Puts back what could not be saved.
    pub(crate) fn put_back(&mut self, cursors: Vec<(String, NodeCursor)>, gaps: Vec<CastGap>) {
        for (node_id, cursor) in cursors {
            self.taken.remove(&node_id);
            self.changed.entry(node_id).or_insert(cursor);
        }
        gaps.into_iter().for_each(|gap| self.note_gap(gap));
    }

    /// Forgets what lies behind a number: the sequence was set back to it.
    pub(crate) fn set_back(&mut self, head: i64) {
        for cursor in self.changed.values_mut().chain(self.taken.values_mut()) {
            *cursor = cursor.up_to(head);
        }
        self.gaps.retain(|gap| gap.after < head);
        self.read.values_mut().for_each(|seq| *seq = head.min(*seq));
    }

    fn change(&mut self, node_id: &str, change: impl Fn(&mut NodeCursor)) {
        let known = self.get(node_id);
        let mut cursor = known.unwrap_or_default();
        change(&mut cursor);
        if known != Some(cursor) {
            self.changed.insert(node_id.to_owned(), cursor);
        }
    }
}

impl NodeCursor {
    /// The further numbers of two looks at the same node.
    pub(crate) fn furthest(self, other: Self) -> Self {
        Self { sent: self.sent.max(other.sent), received: self.received.max(other.received) }
    }

    /// The same, no further than to a number.
    pub(crate) fn up_to(self, head: i64) -> Self {
        Self { sent: self.sent.min(head), received: self.received.min(head) }
    }
}

/// The state of a cast at a node that it is for. `gaps` are the node's.
pub(crate) fn delivery(
    cast: &KeptCast,
    cursor: Option<NodeCursor>,
    gaps: &[CastGap],
    read: i64,
    now: UnixMillis,
) -> DeliveryState {
    let settled_at = cast.cancelled_at.unwrap_or(cast.expires_at);
    let is_missed =
        |gap: &CastGap| (gap.after + 1..=gap.through).contains(&cast.seq) && settled_at <= gap.at;
    let NodeCursor { sent, received } = cursor.unwrap_or_default();
    match cast.seq {
        seq if seq <= sent && gaps.iter().any(is_missed) => DeliveryState::Missed,
        seq if seq <= read => DeliveryState::Read,
        seq if seq <= received => DeliveryState::Received,
        seq if seq <= sent => DeliveryState::Sent,
        _ if cast.status(now) == CastStatus::Active => DeliveryState::Pending,
        _ => DeliveryState::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        audit::{AuditedLogin, AuditedOperator},
        casts::{CastDetails, CastPriority},
        destinations::Destinations,
    };

    fn cast(seq: i64, cancelled_s: Option<u64>) -> KeptCast {
        let by = AuditedOperator { address: [127, 0, 0, 1].into(), how: AuditedLogin::Local };
        KeptCast {
            seq,
            stream: "s".into(),
            topic: "t".into(),
            at: UnixMillis::from_secs(1),
            expires_at: UnixMillis::from_secs(100),
            cancelled_at: cancelled_s.map(UnixMillis::from_secs),
            bytes: 1,
            audience: "all".into(),
            key: String::new(),
            details: CastDetails {
                to: Destinations::default(),
                priority: CastPriority::Normal,
                by,
                from: None,
                fingerprint: String::new(),
            },
            body: "1".into(),
        }
    }

    #[test]
    fn what_became_of_a_cast_follows_from_how_far_a_node_is_and_when() {
        use DeliveryState::{Missed, Pending, Received, Sent};
        let mut cursors = CastCursors::default();
        cursors.note_received("a", 5);
        cursors.note_sent("a", 8);
        cursors.note_received("a", 3);
        let gap =
            CastGap { node_id: "a".into(), after: 1, through: 4, at: UnixMillis::from_secs(50) };
        let with_read = |seq, cancelled_s, read, now_s| {
            let now = UnixMillis::from_secs(now_s);
            delivery(
                &cast(seq, cancelled_s),
                cursors.get("a"),
                std::slice::from_ref(&gap),
                read,
                now,
            )
        };
        let at = |seq, cancelled_s, now_s| with_read(seq, cancelled_s, 0, now_s);
        assert_eq!([5, 6].map(|seq| with_read(seq, None, 5, 60)), [DeliveryState::Read, Sent]);
        assert_eq!(with_read(3, Some(49), 5, 60), Missed, "nobody can have read it");
        assert_eq!([at(1, None, 60), at(5, None, 60)], [Received; 2]);
        assert_eq!([at(6, None, 60), at(8, None, 60)], [Sent; 2]);
        assert_eq!(at(9, None, 60), Pending);
        assert_eq!(at(9, None, 100), Missed, "it has expired");
        assert_eq!(at(9, Some(60), 61), Missed);
        assert_eq!(at(5, Some(60), 61), Received, "too late to cancel it");
        assert_eq!(at(3, None, 200), Received, "it expired later");
        assert_eq!(at(3, Some(49), 60), Missed, "it was skipped");
        assert_eq!([at(1, Some(49), 60), at(5, Some(49), 60)], [Received; 2]);
        assert_eq!(cursors.behind(), 1);
        cursors.note_gap(gap);
        assert_eq!([1, 2, 4, 5].map(|seq| cursors.gaps_around(seq).len()), [0, 1, 1, 0]);
        assert_eq!(cursors.take().0.len(), 1);
        let now = |cursors: &CastCursors| {
            delivery(&cast(5, None), cursors.get("a"), &[], 0, UnixMillis::from_secs(60))
        };
        assert_eq!(now(&cursors), Received, "while it is being saved");
        cursors.set_back(2);
        assert_eq!(now(&cursors), Pending, "another one has the number now");
    }

    #[test]
    fn a_node_that_stays_where_it_is_is_saved_once_and_what_was_not_saved_comes_again() {
        let mut cursors = CastCursors::default();
        cursors.note_received("a", 5);
        let (changed, gaps) = cursors.take();
        assert_eq!(changed.len(), 1);
        cursors.note_received("a", 5);
        assert_eq!(cursors.take().0, []);
        cursors.put_back(changed, gaps);
        assert_eq!(cursors.take().0[0].1.received, 5);
        cursors.note_received("a", 6);
        assert_eq!(cursors.take().0[0].1.received, 6);
    }
}
