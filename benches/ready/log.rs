//! What a main server saw of a node, and when.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use futures_util::{Stream, TryStreamExt};
use serde_json::Value;
use tokio::sync::Notify;

/// Whatever takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Default)]
pub(crate) struct Log {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Seen {
    polls: usize,
    /// Of packages' versions.
    heads: usize,
    asked: HashMap<String, Instant>,
    passed: HashMap<String, Instant>,
    synced: HashMap<String, Instant>,
    heartbeats: usize,
    synced_last: usize,
}

/// Of one meeting: when its start was answered, its package asked for and
/// passed on whole, and a heartbeat named it as synced.
pub(crate) struct Times {
    began: Instant,
    asked: Instant,
    passed: Instant,
    synced: Instant,
}

impl Times {
    pub(crate) fn all_ms(&self) -> f64 {
        ms(self.synced.saturating_duration_since(self.began))
    }

    /// From the request for the package to its last byte.
    pub(crate) fn pull_ms(&self) -> f64 {
        ms(self.passed.saturating_duration_since(self.asked))
    }

    /// All but the pull: until the node asks, and from the last byte on.
    pub(crate) fn rest_ms(&self) -> f64 {
        self.all_ms() - self.pull_ms()
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The meeting whose package has this path.
pub(crate) fn id_of(path: &str) -> Option<&str> {
    path.strip_prefix("/uploads/packages/meeting_")?.strip_suffix("_pdfs.zip")
}

impl Log {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics with it")
    }

    pub(crate) fn asked(&self, id: &str) {
        self.seen().asked.insert(id.to_owned(), Instant::now());
    }

    fn passed(&self, id: &str) {
        self.seen().passed.insert(id.to_owned(), Instant::now());
    }

    pub(crate) fn polled(&self) {
        self.seen().polls += 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn headed(&self) {
        self.seen().heads += 1;
    }

    pub(crate) fn heads(&self) -> usize {
        self.seen().heads
    }

    pub(crate) fn heartbeat(&self, body: &[u8]) {
        let now = Instant::now();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut seen = self.seen();
        let synced = body["synced_meetings"].as_array().map(Vec::as_slice).unwrap_or_default();
        for id in synced.iter().filter_map(Value::as_str) {
            seen.synced.entry(id.to_owned()).or_insert(now);
        }
        seen.heartbeats += 1;
        seen.synced_last = synced.len();
        drop(seen);
        self.changed.notify_waiters();
    }

    /// A package's body; the time of its last piece is what stays.
    pub(crate) fn passing<E>(
        &self,
        id: &str,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Body
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let (log, id) = (self.clone(), id.to_owned());
        Body::from_stream(bytes.inspect_ok(move |_| log.passed(&id)))
    }

    pub(crate) async fn until_heard(&self) {
        self.until("a heartbeat", |seen| (seen.heartbeats > 0).then_some(())).await;
    }

    /// From now on.
    pub(crate) async fn until_polled(&self) {
        let before = self.seen().polls;
        self.until("a poll", |seen| (seen.polls > before).then_some(())).await;
    }

    pub(crate) async fn until_synced(&self, count: usize) {
        let all = |seen: &Seen| (seen.heartbeats > 0 && seen.synced_last == count).then_some(());
        self.until("all synced", all).await;
    }

    pub(crate) async fn times(&self, id: &str, began: Instant) -> Times {
        let times = |seen: &Seen| {
            let at = |of: &HashMap<String, Instant>| of.get(id).copied();
            let (asked, passed) = (at(&seen.asked)?, at(&seen.passed)?);
            Some(Times { began, asked, passed, synced: at(&seen.synced)? })
        };
        self.until("the heartbeat", times).await
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&Seen) -> Option<T>) -> T {
        let looking = async {
            loop {
                let changed = self.changed.notified();
                let found = look(&self.seen());
                if let Some(found) = found {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
    }
}
