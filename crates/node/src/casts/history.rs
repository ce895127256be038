//! The casts that are kept here, in memory and on disk. They have numbers of this node's own:
//! the main server's begin anew when it is restored.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_protocol::casts::{CastAnswer, DeliveredCast};
use edge_mirror_settings::CastConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::files::CastFiles;

/// A cast as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeCast {
    /// The number here.
    pub(crate) n: u64,
    /// The time when it came, in milliseconds since 1970.
    pub(super) received_ms: u64,
    pub(crate) cast: DeliveredCast,
}

/// The place of this node in the main server's sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CastPlace {
    pub(crate) stream: String,
    pub(crate) after: u64,
}

/// The casts that a consumer gets next.
#[derive(Debug, Default)]
pub struct FollowedCasts {
    pub(crate) casts: Vec<Arc<NodeCast>>,
    /// Casts after the consumer's place are not kept any more: those before this number.
    pub(crate) lost_before: Option<u64>,
}

/// Live casts that a consumer may be behind; the oldest make room.
const MAX_LIVE: usize = 256;
/// Casts that a consumer gets at once.
const MAX_AT_ONCE: usize = 100;

/// The casts that are kept, the oldest first.
#[derive(Debug, Default)]
struct KeptCasts {
    place: CastPlace,
    /// The number of the last one that came.
    last: u64,
    casts: VecDeque<Arc<NodeCast>>,
    ids: HashSet<String>,
    bytes: u64,
}

/// The bytes that a cast counts for.
fn bytes_of(cast: &DeliveredCast) -> u64 {
    (cast.id.len() + cast.topic.len() + cast.body.get().len() + 128) as u64
}

impl KeptCasts {
    /// Those of an answer that are not here yet, with their numbers.
    fn new_ones(&self, casts: Vec<DeliveredCast>, now: UnixMillis) -> Vec<Arc<NodeCast>> {
        let (mut ids, mut new) = (HashSet::new(), Vec::new());
        for cast in casts {
            if !self.ids.contains(&cast.id) && ids.insert(cast.id.clone()) {
                let n = self.last + 1 + new.len() as u64;
                new.push(Arc::new(NodeCast { n, received_ms: now.as_millis(), cast }));
            }
        }
        new
    }

    fn push(&mut self, cast: Arc<NodeCast>) {
        self.last = self.last.max(cast.n);
        self.ids.insert(cast.cast.id.clone());
        self.bytes += bytes_of(&cast.cast);
        self.casts.push_back(cast);
    }

    /// Removes what is old or too much. Returns the number of the first one that is left.
    fn prune(&mut self, limits: &CastConfig, now: UnixMillis) -> u64 {
        let kept_from = now.saturating_sub(Duration::from_secs(limits.max_age_s()));
        while let Some(oldest) = self.casts.front() {
            let is_beyond = self.casts.len() as u64 > limits.max_count
                || self.bytes > limits.max_bytes
                || oldest.received_ms < kept_from.as_millis();
            if !is_beyond {
                break;
            }
            self.bytes -= bytes_of(&oldest.cast);
            self.ids.remove(&oldest.cast.id);
            self.casts.pop_front();
        }
        self.first()
    }

    fn get(&self, n: u64) -> Option<Arc<NodeCast>> {
        let place = self.casts.binary_search_by_key(&n, |cast| cast.n).ok()?;
        self.casts.get(place).cloned()
    }

    fn first(&self) -> u64 {
        self.casts.front().map_or(self.last + 1, |cast| cast.n)
    }

    fn after(&self, number: u64, topic: &str) -> (FollowedCasts, u64) {
        let first = self.first();
        // Of a consumer that was here when there were other numbers, nothing is known.
        let number = number.min(self.last);
        let lost_before = (number + 1 < first).then_some(first);
        let skipped = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut casts, mut place) = (Vec::new(), number.max(first - 1));
        for cast in self.casts.iter().skip(skipped) {
            if casts.len() == MAX_AT_ONCE {
                break;
            }
            place = cast.n;
            if topic.is_empty() || cast.cast.topic == topic {
                casts.push(cast.clone());
            }
        }
        (FollowedCasts { casts, lost_before }, place)
    }
}

/// The kept casts, and who follows them.
#[derive(Debug)]
pub struct CastHistory {
    kept: Mutex<KeptCasts>,
    files: Mutex<CastFiles>,
    /// The number of the last one.
    news: watch::Sender<u64>,
    /// The same, for panels, which do not count among those who follow.
    arrivals: watch::Sender<u64>,
    /// Live casts, which are kept nowhere.
    live: broadcast::Sender<Arc<DeliveredCast>>,
    /// Marks of consumers that the main server was not told of yet, by topic.
    read: watch::Sender<BTreeMap<String, ReadMark>>,
}

/// The last cast of a topic that a consumer has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadMark {
    n: u64,
    pub(super) id: String,
}

impl Default for CastHistory {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            files: Mutex::default(),
            news: watch::Sender::default(),
            arrivals: watch::Sender::default(),
            live: broadcast::Sender::new(MAX_LIVE),
            read: watch::Sender::default(),
        }
    }
}

impl CastHistory {
    /// Reads what is in the folder, which need not be there. Blocks.
    pub fn open(folder: PathBuf) -> Self {
        let (files, place, casts) = CastFiles::open(folder);
        let mut kept = KeptCasts { place, ..KeptCasts::default() };
        casts.into_iter().for_each(|cast| kept.push(Arc::new(cast)));
        let news = watch::Sender::new(kept.last);
        Self { kept: Mutex::new(kept), files: Mutex::new(files), news, ..Self::default() }
    }

    fn kept(&self) -> MutexGuard<'_, KeptCasts> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self) -> CastPlace {
        self.kept().place.clone()
    }

    /// Keeps the casts of an answer; on disk when this returns. An error leaves the place as
    /// it was, so that they are asked for again.
    pub(crate) async fn add(
        self: &Arc<Self>,
        answer: CastAnswer,
        limits: CastConfig,
        now: UnixMillis,
    ) -> io::Result<()> {
        let history = self.clone();
        tasks::blocking(move || history.add_blocking(answer, &limits, now)).await
    }

    fn add_blocking(
        &self,
        answer: CastAnswer,
        limits: &CastConfig,
        now: UnixMillis,
    ) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let CastAnswer { stream, after, casts, .. } = answer;
        let (new, place) = (self.kept().new_ones(casts, now), CastPlace { stream, after });
        // Passing by what is for others costs no write: after a start it is passed by again.
        if !new.is_empty() {
            files.append(&place, &new)?;
        }
        // Nobody sees a cast before it is on disk.
        let first = {
            let mut kept = self.kept();
            new.iter().cloned().for_each(|cast| kept.push(cast));
            kept.place = place;
            kept.prune(limits, now)
        };
        files.remove_before(first);
        if let Some(last) = new.last() {
            self.news.send_replace(last.n);
            self.arrivals.send_replace(last.n);
        }
        Ok(())
    }

    /// Gives live casts to those who follow them now.
    pub(super) fn pass_on(&self, casts: Vec<DeliveredCast>) {
        for cast in casts {
            // An error says that nobody is there.
            let _ = self.live.send(Arc::new(cast));
        }
    }

    pub(crate) fn subscribe_live(&self) -> broadcast::Receiver<Arc<DeliveredCast>> {
        self.live.subscribe()
    }

    /// Notes that a consumer has read a cast, and what came before it of its topic. False if
    /// there is no such cast here.
    pub(crate) fn mark_read(&self, n: u64) -> bool {
        let found = self.kept().get(n);
        let Some(cast) = found else { return false };
        let mark = ReadMark { n, id: cast.cast.id.clone() };
        self.read.send_if_modified(|read| {
            let is_news = read.get(&cast.cast.topic).is_none_or(|before| before.n < n);
            if is_news {
                read.insert(cast.cast.topic.clone(), mark);
            }
            is_news
        });
        true
    }

    pub(super) fn unreported(&self) -> watch::Receiver<BTreeMap<String, ReadMark>> {
        self.read.subscribe()
    }

    /// Forgets marks that the main server has been told of.
    pub(super) fn note_reported(&self, reported: &[(String, ReadMark)]) {
        self.read.send_if_modified(|read| {
            for (topic, mark) in reported {
                if read.get(topic) == Some(mark) {
                    read.remove(topic);
                }
            }
            false
        });
    }

    /// Those who follow it now.
    pub(crate) fn followers(&self) -> usize {
        self.news.receiver_count()
    }

    /// Changes with each cast that comes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Changes with each cast that comes, for a panel.
    pub(crate) fn subscribe_arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// True if a cast of a topic came after a number.
    pub(crate) fn has_after(&self, number: u64, topic: &str) -> bool {
        let kept = self.kept();
        let mut newer = kept.casts.iter().rev().take_while(|cast| cast.n > number);
        newer.any(|cast| cast.cast.topic == topic)
    }

    /// The newest casts of a topic that have not expired, the newest first.
    pub(crate) fn newest(&self, topic: &str, now: UnixMillis, limit: usize) -> Vec<Arc<NodeCast>> {
        let kept = self.kept();
        let is_shown = |cast: &&Arc<NodeCast>| {
            cast.cast.topic == topic && cast.cast.expires_at > now.as_secs_f64()
        };
        kept.casts.iter().rev().filter(is_shown).take(limit).cloned().collect()
    }

    /// The number of the last cast that is on disk.
    pub(crate) fn last(&self) -> u64 {
        *self.news.borrow()
    }

    /// The casts after a number, of a topic if that is not empty; and the number to go on
    /// from.
    pub(crate) fn after(&self, number: u64, topic: &str) -> (FollowedCasts, u64) {
        self.kept().after(number, topic)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_000_000);

    fn limits() -> CastConfig {
        CastConfig {
            enabled: true,
            max_count: 1000,
            max_bytes: 1 << 20,
            max_age_days: 7,
            max_consumers: 10,
            ping_interval: 20,
            idle_timeout: 60,
            max_frame: 4096,
            allow_send: false,
            show_on_panel: String::new(),
        }
    }

    fn answer(stream: &str, ids: std::ops::RangeInclusive<u64>) -> CastAnswer {
        let cast = |id: u64| DeliveredCast {
            id: format!("x-{id}"),
            topic: if id.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
            body: to_raw_value(&json!({"text": "移到", "n": id})).unwrap(),
            priority: "normal".to_owned(),
            at: 1.5,
            expires_at: 2.5,
            from: None,
        };
        let casts = ids.clone().map(cast).collect();
        let (live, live_casts) = (String::new(), vec![]);
        CastAnswer { stream: stream.to_owned(), after: *ids.end(), casts, live, live_casts }
    }

    fn ids(history: &CastHistory, after: u64, topic: &str) -> (Vec<String>, u64) {
        let (found, place) = history.after(after, topic);
        (found.casts.iter().map(|cast| cast.cast.id.clone()).collect(), place)
    }

    #[test]
    fn what_was_acknowledged_is_there_after_a_restart_and_nothing_comes_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("casts");
        let history = CastHistory::open(path.clone());
        assert_eq!((history.place(), history.last()), (CastPlace::default(), 0));
        history.add_blocking(answer("s", 1..=3), &limits(), NOW).unwrap();
        history.add_blocking(answer("s", 3..=5), &limits(), NOW).unwrap();
        assert_eq!(ids(&history, 0, "even"), (vec!["x-2".into(), "x-4".into()], 5));
        drop(history);
        let history = CastHistory::open(path);
        assert_eq!(history.place(), CastPlace { stream: "s".into(), after: 5 });
        assert_eq!(ids(&history, 3, ""), (vec!["x-4".into(), "x-5".into()], 5));
        let (found, _) = history.after(4, "");
        assert_eq!(found.casts[0].cast.body.get(), r#"{"text":"移到","n":5}"#);
        // The main server was restored: other numbers, the same casts and a new one.
        history.add_blocking(answer("t", 4..=6), &limits(), NOW).unwrap();
        assert_eq!(ids(&history, 5, ""), (vec!["x-6".into()], 6));
        assert_eq!(history.place(), CastPlace { stream: "t".into(), after: 6 });
    }

    #[test]
    fn what_was_read_is_told_once_and_goes_no_further_back() {
        let folder = tempfile::tempdir().unwrap();
        let history = CastHistory::open(folder.path().join("casts"));
        history.add_blocking(answer("s", 1..=4), &limits(), NOW).unwrap();
        assert!(!history.mark_read(9));
        for n in [3, 1, 2] {
            assert!(history.mark_read(n));
        }
        let told = || {
            let marks = history.unreported().borrow().clone();
            marks.into_iter().collect::<Vec<_>>()
        };
        let ids: Vec<_> = told().into_iter().map(|(topic, mark)| (topic, mark.id)).collect();
        assert_eq!(ids, [("even".into(), "x-2".into()), ("odd".into(), "x-3".to_owned())]);
        let reported = told();
        history.mark_read(4);
        history.note_reported(&reported);
        assert_eq!(told().len(), 1, "what came meanwhile is told then");
    }

    #[test]
    fn the_history_is_bounded_in_number_bytes_and_age_also_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("casts");
        let history = CastHistory::open(path.clone());
        let few = CastConfig { max_count: 5, ..limits() };
        for n in 0..50 {
            history.add_blocking(answer("s", n * 100 + 1..=n * 100 + 100), &few, NOW).unwrap();
        }
        let (found, place) = history.after(0, "");
        assert_eq!((found.casts.len(), found.lost_before, place), (5, Some(4996), 5000));
        let on_disk = std::fs::read_dir(&path).unwrap().count();
        assert!(on_disk <= 2, "{on_disk} files");
        let one = bytes_of(&found.casts[0].cast);
        let small = CastConfig { max_bytes: 2 * one, ..limits() };
        history.add_blocking(answer("s", 5001..=5001), &small, NOW).unwrap();
        assert_eq!(history.after(0, "").0.casts.len(), 2);
        let later = NOW + Duration::from_secs(8 * 86_400);
        history.add_blocking(answer("s", 5002..=5002), &limits(), later).unwrap();
        assert_eq!(ids(&history, 0, "").0, ["x-5002"]);
        // A consumer with a number that was never given gets what comes.
        assert_eq!(ids(&history, 1 << 60, ""), (vec![], 5002));
    }

    #[test]
    fn what_can_not_be_written_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("casts");
        std::fs::write(&path, b"no folder").unwrap();
        let history = CastHistory::open(path.clone());
        assert!(history.add_blocking(answer("s", 1..=1), &limits(), NOW).is_err());
        assert_eq!((history.place(), history.last()), (CastPlace::default(), 0));
        std::fs::remove_file(&path).unwrap();
        history.add_blocking(answer("s", 1..=1), &limits(), NOW).unwrap();
        assert_eq!(history.place().after, 1);
        assert_eq!(CastHistory::open(path).place().after, 1);
    }
}
