//! The newest casts, in memory: nodes that are there get them without a question to the
//! database.

use std::{collections::VecDeque, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::casts::DeliveredCast;
use serde_json::value::RawValue;

use super::{CastStreams, KeptCast};
use crate::state::destinations::Audience;

/// Bounds of what is held; nodes that are further behind read the database.
const MAX_CASTS: usize = 20_000;
const MAX_BYTES: usize = 16 << 20;
/// The same of live casts, which are nowhere else.
const MAX_LIVE_CASTS: usize = 4096;
const MAX_LIVE_BYTES: usize = 4 << 20;
/// Bounds of one answer.
const ANSWER_CASTS: usize = 200;
pub(crate) const ANSWER_BYTES: usize = 256 << 10;

/// A cast as nodes get it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeliverableCast {
    seq: i64,
    topic: Box<str>,
    audience: Arc<Audience>,
    expires_at: UnixMillis,
    is_cancelled: bool,
    /// JSON, the same for all nodes.
    text: Arc<str>,
    /// The memory that it takes; an audience that it shares with the one before is not its.
    bytes: usize,
}

impl DeliverableCast {
    pub(crate) fn new(cast: &KeptCast, audience: Arc<Audience>) -> Self {
        Self {
            seq: cast.seq,
            topic: cast.topic.as_str().into(),
            audience,
            expires_at: cast.expires_at,
            is_cancelled: cast.cancelled_at.is_some(),
            text: delivered_text(cast).into(),
            bytes: 0,
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn audience(&self) -> &Audience {
        &self.audience
    }
}

/// A cast as nodes get it, in JSON.
pub(crate) fn delivered_text(cast: &KeptCast) -> String {
    let delivered = DeliveredCast {
        id: cast.id().to_string(),
        topic: cast.topic.clone(),
        // It was written by this program.
        body: RawValue::from_string(cast.body.clone()).unwrap_or_default(),
        priority: cast.details.priority.name().to_owned(),
        at: cast.at.as_secs_f64(),
        expires_at: cast.expires_at.as_secs_f64(),
        from: cast.details.from.clone(),
    };
    serde_json::to_string(&delivered).unwrap_or_default()
}

/// All casts behind a number, up to the last one.
#[derive(Debug)]
pub(crate) struct CastTail {
    streams: CastStreams,
    head: i64,
    casts: VecDeque<DeliverableCast>,
    bytes: usize,
    max_casts: usize,
    max_bytes: usize,
}

/// The casts of an answer to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CastSelection {
    /// The name of the sequence.
    pub(crate) stream: Arc<str>,
    pub(crate) texts: Vec<Arc<str>>,
    /// The number to go on from.
    pub(crate) after: i64,
    /// A cast that was for the node had expired or was cancelled.
    pub(crate) has_missed: bool,
}

/// The result of a search here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TailSearch {
    Found(CastSelection),
    /// The database has what comes before this number.
    Before(i64),
}

impl CastTail {
    pub(crate) fn new(streams: CastStreams, head: i64) -> Self {
        let (max_casts, max_bytes) = (MAX_CASTS, MAX_BYTES);
        Self { streams, head, casts: VecDeque::new(), bytes: 0, max_casts, max_bytes }
    }

    /// A sequence of live casts.
    pub(crate) fn live(streams: CastStreams) -> Self {
        let (max_casts, max_bytes) = (MAX_LIVE_CASTS, MAX_LIVE_BYTES);
        Self { max_casts, max_bytes, ..Self::new(streams, 0) }
    }

    pub(crate) fn streams(&self) -> &CastStreams {
        &self.streams
    }

    /// Goes on under other names. False if the sequence was set back: what is here may be no
    /// part of it.
    pub(crate) fn rename(&mut self, streams: CastStreams) -> bool {
        let is_same = streams.resolve(self.streams.current(), self.head) == Some(self.head);
        if is_same {
            self.streams = streams;
        }
        is_same
    }

    /// The number of the last cast.
    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// Adds the cast after the last one; others are there already, or not to be followed
    /// yet. False then.
    pub(crate) fn push(&mut self, mut cast: DeliverableCast) -> bool {
        if cast.seq != self.head + 1 {
            return false;
        }
        self.head = cast.seq;
        let last = self.casts.back();
        let is_shared = last.is_some_and(|last| Arc::ptr_eq(&last.audience, &cast.audience));
        cast.bytes =
            cast.text.len() + cast.topic.len() + if is_shared { 0 } else { cast.audience.bytes() };
        self.bytes += cast.bytes;
        self.casts.push_back(cast);
        while self.casts.len() > self.max_casts || self.bytes > self.max_bytes {
            let Some(oldest) = self.casts.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
        true
    }

    pub(crate) fn cancel(&mut self, seq: i64) {
        let place = usize::try_from(seq - self.first());
        if let Some(cast) = place.ok().and_then(|place| self.casts.get_mut(place)) {
            cast.is_cancelled = true;
        }
    }

    pub(crate) fn last(&self) -> Option<&DeliverableCast> {
        self.casts.back()
    }

    /// Looks for the casts of a node after a number.
    pub(crate) fn search(&self, node_id: &str, after: i64, now: UnixMillis) -> TailSearch {
        let first = self.first();
        if after + 1 < first {
            return TailSearch::Before(first);
        }
        let stream = self.streams.current().clone();
        let mut found = CastSelection { stream, after: after.max(0), ..CastSelection::default() };
        let mut bytes = 0;
        let begin = usize::try_from(after + 1 - first).unwrap_or_default();
        for cast in self.casts.iter().skip(begin) {
            if cast.audience.has(node_id) {
                match cast.is_cancelled || cast.expires_at <= now {
                    true => found.has_missed = true,
                    false => {
                        bytes += cast.text.len();
                        found.texts.push(cast.text.clone());
                    }
                }
            }
            found.after = cast.seq;
            if found.texts.len() >= ANSWER_CASTS || bytes >= ANSWER_BYTES {
                break;
            }
        }
        TailSearch::Found(found)
    }

    /// The number of the first cast here, or of the next one that comes.
    fn first(&self) -> i64 {
        self.casts.front().map_or(self.head + 1, |cast| cast.seq)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(100);

    fn cast(seq: i64, to: &str, expires_s: u64) -> DeliverableCast {
        let audience = match to {
            "all" => Audience::All,
            id => Audience::Nodes([id.to_owned()].into()),
        };
        let (audience, expires_at) = (Arc::new(audience), UnixMillis::from_secs(expires_s));
        let text = seq.to_string().into();
        DeliverableCast {
            seq,
            topic: Box::default(),
            audience,
            expires_at,
            is_cancelled: false,
            text,
            bytes: 0,
        }
    }

    fn tail_behind(head: i64) -> CastTail {
        CastTail::new(CastStreams::new("s".into(), HashMap::default()), head)
    }

    fn found(tail: &CastTail, node: &str, after: i64) -> (Vec<String>, i64, bool) {
        match tail.search(node, after, NOW) {
            TailSearch::Found(found) => {
                let texts = found.texts.iter().map(ToString::to_string).collect();
                (texts, found.after, found.has_missed)
            }
            TailSearch::Before(number) => (vec![format!("before {number}")], after, false),
        }
    }

    #[test]
    fn a_node_gets_what_is_for_it_in_order_and_goes_on_behind_the_rest() {
        let mut tail = tail_behind(10);
        assert_eq!(found(&tail, "a", 10), (vec![], 10, false));
        for (seq, to, expires_s) in
            [(11, "all", 200), (12, "b", 200), (13, "a", 200), (14, "a", 100), (15, "b", 200)]
        {
            assert!(tail.push(cast(seq, to, expires_s)));
        }
        assert_eq!(found(&tail, "a", 10), (vec!["11".into(), "13".into()], 15, true));
        assert_eq!(found(&tail, "a", 13), (vec![], 15, true));
        assert_eq!(found(&tail, "a", 14), (vec![], 15, false));
        assert_eq!(found(&tail, "c", 10), (vec!["11".into()], 15, false));
        assert_eq!(found(&tail, "a", 9), (vec!["before 11".into()], 9, false));
        assert_eq!(found(&tail, "a", 99), (vec![], 99, false));
        for seq in [11, 14, 99, 3] {
            tail.cancel(seq);
        }
        assert_eq!(found(&tail, "c", 10), (vec![], 15, true));
    }

    #[test]
    fn casts_stay_where_the_sequence_goes_on_under_another_name() {
        let mut tail = tail_behind(10);
        tail.push(cast(11, "all", 200));
        let renamed = |ended| CastStreams::new("t".into(), HashMap::from([("s".into(), ended)]));
        assert!(tail.rename(renamed(11)));
        assert_eq!((found(&tail, "a", 10).0.len(), &**tail.streams().current()), (1, "t"));
        assert!(!tail_behind(12).rename(renamed(11)), "12 is another cast now");
        assert!(!tail.rename(CastStreams::new("x".into(), HashMap::default())));
    }

    #[test]
    fn only_the_next_one_is_taken_and_the_oldest_make_room() {
        let mut tail = tail_behind(0);
        assert!(!tail.push(cast(2, "all", 200)));
        for seq in 1..=30_000 {
            assert!(tail.push(cast(seq, "all", 200)));
        }
        assert!(!tail.push(cast(30_000, "all", 200)));
        assert_eq!((tail.head(), tail.casts.len()), (30_000, MAX_CASTS));
        assert_eq!(found(&tail, "a", 9_999).0, ["before 10001"]);
        let (texts, after, _) = found(&tail, "a", 10_000);
        assert_eq!((texts.len(), after), (ANSWER_CASTS, 10_000 + ANSWER_CASTS as i64));
        let bytes = tail.casts.iter().map(|cast| cast.text.len()).sum::<usize>();
        assert_eq!(tail.bytes, bytes);
    }

    #[test]
    fn an_audience_takes_memory_once_for_those_that_share_it() {
        let audience = || {
            let ids = (0..1000).map(|n| format!("node-{n:05}"));
            Arc::new(Audience::Nodes(ids.collect()))
        };
        let kept = |audience: &dyn Fn() -> Arc<Audience>| {
            let mut tail = tail_behind(0);
            for seq in 1..=500 {
                tail.push(DeliverableCast { audience: audience(), ..cast(seq, "all", 200) });
            }
            assert!(tail.bytes <= MAX_BYTES, "{}", tail.bytes);
            tail.casts.len()
        };
        let shared = audience();
        assert_eq!(kept(&|| shared.clone()), 500);
        assert!(kept(&audience) < 300);
    }
}
