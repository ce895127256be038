//! A page's event stream (server-sent events): the whole state first, then changes, at
//! most once a second, and the history of the last minutes.
//!
//! The state is read once a second however many watch, and not at all while nobody does.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_base::clock::now_s;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::{detail, snapshot::Snapshot};
use crate::listen::rate_limit_key;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Proxies close connections that are silent for a minute; and pages notice when the node
/// is gone.
pub const SILENCE: Duration = Duration::from_secs(15);
/// Each costs a connection and a copy of the state; other pages poll.
const MAX_STREAMS: usize = 64;
/// Streams without a login: they must not take all, nor one address all of theirs.
const MAX_ANONYMOUS: usize = 48;
const MAX_FROM_ADDRESS: usize = 12;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A quarter of an hour.
const MAX_SAMPLES: usize = 180;

/// One step: its end, and three figures defined by its owner.
pub type Sample = [u64; 4];

/// Samples of the last quarter of an hour, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub fn last(&self) -> Option<Sample> {
        self.samples.back().copied()
    }
}

/// The history as it is sent.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "History"))]
pub struct HistoryView<'a> {
    /// Seconds from one sample to the next.
    step: u64,
    samples: &'a VecDeque<Sample>,
}

impl Serialize for History {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = HistoryView { step: SAMPLE_EVERY.as_secs(), samples: &self.samples };
        view.serialize(serializer)
    }
}

/// Records a history: the increase of two counters in each step, and a third figure as it
/// is.
pub async fn record(history: &watch::Sender<History>, read: impl Fn() -> [u64; 3]) {
    let mut before = read();
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = read();
        let grown = |n: usize| now[n].saturating_sub(before[n]);
        let sample = [now_s(), grown(0), grown(1), now[2]];
        history.send_modify(|history| history.push(sample));
        before = now;
    }
}

/// The state that streams follow.
#[derive(Debug, Default)]
pub struct Feed {
    latest: watch::Sender<FeedUpdate>,
    wanted: Notify,
    taken: Arc<Mutex<HashMap<IpAddr, StreamCounts>>>,
}

/// A snapshot of the state, and its difference from the one before: computed once, for
/// all that saw that.
#[derive(Clone, Debug, Default)]
struct FeedUpdate {
    number: u64,
    state: Arc<Snapshot>,
    change: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct StreamCounts {
    operators: usize,
    anonymous: usize,
}

impl Feed {
    /// Takes snapshots while anybody watches; `look` gets the one before.
    pub async fn run(&self, look: impl Fn(&Snapshot) -> Snapshot) {
        loop {
            if self.latest.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            let before = self.latest.borrow().state.clone();
            let state = Arc::new(look(&before));
            self.latest.send_modify(|latest| {
                let change = change(&latest.state, &state);
                *latest = FeedUpdate { number: latest.number + 1, state, change };
            });
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns None while too many watch.
    pub fn watch(&self, now: Snapshot, address: IpAddr, operator: bool) -> Option<FeedWatcher> {
        let permit = StreamPermit::take(&self.taken, address, operator)?;
        let mut latest = self.latest.subscribe();
        latest.mark_unchanged();
        self.wanted.notify_one();
        let seen = Arc::new(now);
        Some(FeedWatcher { seen, number: None, latest, _permit: permit })
    }
}

/// A permit to watch.
#[derive(Debug)]
struct StreamPermit {
    taken: Arc<Mutex<HashMap<IpAddr, StreamCounts>>>,
    address: IpAddr,
    operator: bool,
}

impl StreamPermit {
    fn take(
        taken: &Arc<Mutex<HashMap<IpAddr, StreamCounts>>>,
        address: IpAddr,
        operator: bool,
    ) -> Option<Self> {
        let address = rate_limit_key(address);
        let mut all = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let anonymous: usize = all.values().map(|taken| taken.anonymous).sum();
        let operators: usize = all.values().map(|taken| taken.operators).sum();
        let own = all.get(&address).copied().unwrap_or_default();
        let room = anonymous + operators < MAX_STREAMS
            && (operator || (anonymous < MAX_ANONYMOUS && own.anonymous < MAX_FROM_ADDRESS));
        if !room {
            return None;
        }
        let own = all.entry(address).or_default();
        match operator {
            true => own.operators += 1,
            false => own.anonymous += 1,
        }
        Some(Self { taken: taken.clone(), address, operator })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = all.get_mut(&self.address) else { return };
        match self.operator {
            true => own.operators -= 1,
            false => own.anonymous -= 1,
        }
        if own.operators + own.anonymous == 0 {
            all.remove(&self.address);
        }
    }
}

/// One page's view.
#[derive(Debug)]
pub struct FeedWatcher {
    seen: Arc<Snapshot>,
    /// Number of the last one seen; the first one was the page's own.
    number: Option<u64>,
    latest: watch::Receiver<FeedUpdate>,
    _permit: StreamPermit,
}

impl FeedWatcher {
    pub fn first(&self) -> Bytes {
        json_event("status", self.seen.json())
    }

    /// Returns the next change. Loses nothing when dropped half way.
    pub async fn next(&mut self) -> Bytes {
        loop {
            if self.latest.changed().await.is_err() {
                return std::future::pending().await;
            }
            let look = self.latest.borrow_and_update().clone();
            let change = match self.number {
                Some(number) if number + 1 == look.number => look.change,
                // A slow reader missed some, a new one saw none.
                _ => change(&self.seen, &look.state),
            };
            (self.seen, self.number) = (look.state, Some(look.number));
            if let Some(change) = change {
                return change;
            }
        }
    }
}

fn change(before: &Snapshot, now: &Snapshot) -> Option<Bytes> {
    now.difference(before).map(|change| json_event("change", &change))
}

/// Formats one event; JSON has no line breaks of its own.
pub fn event(name: &str, content: &impl Serialize) -> Bytes {
    json_event(name, &serde_json::to_vec(content).unwrap_or_default())
}

/// An event whose content is JSON already.
pub fn json_event(name: &str, json: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"].concat().into()
}

/// Keeps a silent stream open.
pub fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

pub fn response(
    events: impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response {
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would buffer events until its buffer is full.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (fields, Body::from_stream(events)).into_response()
}

pub(crate) fn too_many_streams() -> Response {
    let text = "打开的页面过多 / too many pages follow already, poll instead";
    detail(StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_while_nobody_watches() {
        let looks = std::sync::atomic::AtomicU64::new(0);
        let feed = Feed::default();
        let of = |n| Snapshot::new(&json!({ "n": n }), &[]);
        let look =
            |_: &Snapshot| of(json!(looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        tokio::time::timeout(Duration::from_secs(60), feed.run(look)).await.unwrap_err();
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 0);
        let mut watcher = feed.watch(of(json!("first")), HERE, true).unwrap();
        assert!(watcher.first().starts_with(b"event: status\n"));
        let next = tokio::select! {
            () = feed.run(look) => unreachable!(),
            next = watcher.next() => next,
        };
        assert_eq!(next, event("change", &json!({"set": {"n": 0}, "lists": {}})));
        // The next difference is the one computed for all.
        let next = tokio::select! {
            () = feed.run(look) => unreachable!(),
            next = watcher.next() => next,
        };
        assert_eq!(next, event("change", &json!({"set": {"n": 1}, "lists": {}})));
    }

    #[test]
    fn a_stream_too_many_is_refused_and_strangers_leave_room_for_operators() {
        let feed = Feed::default();
        let watch = |host: u8, operator| {
            feed.watch(Snapshot::default(), IpAddr::from([10, 0, 0, host]), operator)
        };
        let mut own: Vec<_> = (0..MAX_FROM_ADDRESS).map(|_| watch(1, false).unwrap()).collect();
        assert!(watch(1, false).is_none() && watch(1, true).is_some());
        own.pop();
        assert!(watch(1, false).is_some());
        let others: Vec<_> = (2..200).filter_map(|host| watch(host, false)).collect();
        assert_eq!(own.len() + others.len(), MAX_ANONYMOUS);
        let operators: Vec<_> = (0..200).filter_map(|_| watch(9, true)).collect();
        assert_eq!(operators.len(), MAX_STREAMS - MAX_ANONYMOUS);
        drop((own, others, operators));
        assert!(feed.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn one_machine_is_one_stranger_however_many_addresses_it_has() {
        let feed = Feed::default();
        let watch =
            |address: String| feed.watch(Snapshot::default(), address.parse().unwrap(), false);
        let all: Vec<_> = (0..99).filter_map(|n| watch(format!("2001:db8::{n}"))).collect();
        assert_eq!(all.len(), MAX_FROM_ADDRESS);
        assert!(watch("2001:db8:0:1::1".to_owned()).is_some());
        drop(all);
        assert!(watch("2001:db8::1".to_owned()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_history_has_what_was_added_and_a_quarter_of_an_hour() {
        let total = std::sync::atomic::AtomicU64::new(100);
        let history = watch::Sender::default();
        let read = || [total.fetch_add(7, std::sync::atomic::Ordering::Relaxed), 5, 3];
        let recording = record(&history, read);
        tokio::time::timeout(Duration::from_secs(2000), recording).await.unwrap_err();
        let history = history.borrow();
        assert_eq!(history.samples.len(), MAX_SAMPLES);
        assert_eq!(history.last().unwrap()[1..], [7, 0, 3]);
    }
}
