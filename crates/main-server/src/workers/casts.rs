//! Saves casts. All that wait are saved together, so that many senders cost one fsync; one
//! alone does not wait for others.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    error::StateError,
    refusal::RequestError,
    repository::{CastNews, CastRemoval, CastRepository, SavedCasts},
    server::{AddedCasts, PendingCasts, Server},
    state::casts::{DeliverableCast, NewCast},
};

/// Casts of one transaction, about.
const MAX_BATCH: usize = 2000;
/// Interval of removing those that are old, and of doing so while there are more of them.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const SWEEP_ON: Duration = Duration::from_millis(20);
/// Interval of looking for casts of other main servers, where that was not notified.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Interval of saving how far nodes are.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Casts of others that are read one by one; where there are more, nodes read the database.
const MAX_FOLLOWED: i64 = 10_000;
/// Pause after an error, in which casts are refused without a try: each would take as long
/// as the database does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Carries out what is queued until `stop`; what is under way then is finished, what is
/// left is refused.
pub(crate) async fn save_casts(
    server: Arc<Server>,
    repository: CastRepository,
    mut queue: mpsc::Receiver<PendingCasts>,
    stop: CancellationToken,
) {
    let mut writer = CastWriter {
        server,
        repository,
        changes: 0,
        has_more_to_remove: false,
        is_behind: false,
        fault: None,
    };
    let server = writer.server.clone();
    let every = |interval| {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut sweep, mut follow, mut note) =
        (every(SWEEP_EVERY), every(FOLLOW_EVERY), every(NOTE_EVERY));
    loop {
        // Before the first look nobody knows where the sequence is.
        let may_follow =
            server.unshared.is_some() || writer.is_behind || server.cast_outbox.head().is_none();
        tokio::select! {
            () = stop.cancelled() => break,
            pending = queue.recv() => match pending {
                Some(pending) => writer.carry_out(pending, &mut queue).await,
                None => break,
            },
            _ = sweep.tick() => writer.sweep().await,
            _ = note.tick() => writer.save_cursors().await,
            _ = follow.tick(), if may_follow => writer.follow().await,
            () = server.wake.casts.notified() => writer.follow().await,
        }
        if std::mem::take(&mut writer.has_more_to_remove) {
            sweep.reset_after(SWEEP_ON);
        }
    }
    writer.save_cursors().await;
    writer.repository.close().await;
    writer.server.cast_records.close().await;
    writer.server.node_casts.close().await;
}

struct CastWriter {
    server: Arc<Server>,
    repository: CastRepository,
    /// The number of the last cancellation that is known here.
    changes: i64,
    has_more_to_remove: bool,
    /// True while casts that were saved may not be in the outbox.
    is_behind: bool,
    /// The last error, while nothing is tried after it.
    fault: Option<(Arc<StateError>, Instant)>,
}

type CastReply = tokio::sync::oneshot::Sender<Result<AddedCasts, RequestError>>;

impl CastWriter {
    async fn carry_out(&mut self, first: PendingCasts, queue: &mut mpsc::Receiver<PendingCasts>) {
        let (mut requests, mut count, mut next) = (Vec::new(), 0, Some(first));
        // In the order in which they came: what is cancelled was saved before.
        while let Some(pending) = next.take() {
            match pending {
                PendingCasts::Add(casts, reply) => {
                    count += casts.len();
                    requests.push((casts, reply));
                }
                PendingCasts::Cancel(id, reply) => {
                    self.add(std::mem::take(&mut requests)).await;
                    let outcome = match self.refusal() {
                        Some(refusal) => Err(refusal),
                        None => {
                            let outcome = self.repository.cancel(&id, UnixMillis::now()).await;
                            if matches!(outcome, Ok(Some(_))) {
                                self.server.cast_outbox.cancel(id.seq);
                            }
                            self.noted(outcome)
                        }
                    };
                    // Whoever left does not want to know.
                    let _ = reply.send(outcome);
                }
            }
            if count < MAX_BATCH {
                next = queue.try_recv().ok();
            }
        }
        self.add(requests).await;
    }

    async fn add(&mut self, requests: Vec<(Vec<NewCast>, CastReply)>) {
        if requests.is_empty() {
            return;
        }
        let outcome = match self.refusal() {
            Some(refusal) => Err(refusal),
            None => {
                let casts: Vec<_> = requests.iter().map(|(casts, _)| &**casts).collect();
                let limits = &self.server.casts.limits;
                let saved = self.repository.append(&casts, limits, UnixMillis::now()).await;
                self.noted(saved)
            }
        };
        let saved = match outcome {
            Ok(saved) => saved,
            Err(_) => {
                for (_, reply) in requests {
                    let _ = reply.send(Err(self.refusal().unwrap_or_else(RequestError::stopping)));
                }
                return;
            }
        };
        self.note_removal(saved.removal);
        self.deliver(&requests, &saved).await;
        for ((casts, reply), outcome) in requests.into_iter().zip(saved.outcomes) {
            let added = outcome.map(|receipts| AddedCasts { receipts, casts });
            let _ = reply.send(added.map_err(RequestError::from));
        }
    }

    /// Has nodes get casts that were saved just now.
    async fn deliver(&mut self, requests: &[(Vec<NewCast>, CastReply)], saved: &SavedCasts) {
        let mut new = Vec::new();
        for ((casts, _), outcome) in requests.iter().zip(&saved.outcomes) {
            let Ok(receipts) = outcome else { continue };
            let added = casts.iter().zip(receipts).filter(|(_, receipt)| !receipt.repeated);
            new.extend(added.map(|(cast, receipt)| {
                DeliverableCast::new(&cast.kept(&receipt.id), cast.audience.clone())
            }));
        }
        let outbox = &self.server.cast_outbox;
        let has_name = outbox.head().is_some_and(|(known, _)| known == saved.stream);
        // Another main server's come between, or the sequence has another name.
        if !has_name || !outbox.push(new) {
            self.follow().await;
        }
    }

    /// Has nodes get casts of other main servers, and none that those cancelled.
    async fn follow(&mut self) {
        self.is_behind = true;
        while self.refusal().is_none() {
            let outbox = &self.server.cast_outbox;
            let (claimed, known) = (outbox.take_claim(), outbox.head());
            let news = self.repository.news(known.as_ref(), self.changes).await;
            let news = match news {
                // Saving does not depend on it.
                Err(error @ StateError::Damaged { .. }) => {
                    debug!("casts can't be read for nodes that wait: {error}");
                    return;
                }
                news => self.noted(news),
            };
            let Ok(news) = news else { return };
            let CastNews { streams, head, changes, casts, cancelled } = news;
            let after = known.map_or(0, |(_, after)| after);
            let outbox = &self.server.cast_outbox;
            let is_set_back = streams.is_none() && head < after.max(claimed);
            if is_set_back {
                warn!(
                    "casts up to number {} are not in the database any more, which ends at {head}: was an older one restored?",
                    after.max(claimed)
                );
                self.repository.rename_stream();
            }
            self.changes = changes;
            let goes_on = match streams.clone() {
                Some(streams) => outbox.rename(streams),
                None => head >= after,
            };
            if !goes_on || head - after > MAX_FOLLOWED {
                outbox.begin(streams, head);
                self.is_behind = false;
                return;
            }
            let new = casts.iter().map(|(cast, to)| DeliverableCast::new(cast, to.clone()));
            outbox.push(new.collect());
            cancelled.iter().for_each(|seq| outbox.cancel(*seq));
            let now = outbox.head().map_or(head, |(_, now)| now);
            if now == after && now < head {
                // The next ones were removed already: nodes read the database.
                outbox.begin(None, head);
            }
            if now >= head || now == after {
                self.is_behind = false;
                return;
            }
        }
    }

    async fn save_cursors(&mut self) {
        if self.refusal().is_some() {
            return;
        }
        let (cursors, gaps, read) = {
            let mut unsaved = self.server.cast_outbox.cursors();
            let (cursors, gaps) = unsaved.take();
            (cursors, gaps, unsaved.take_read())
        };
        if cursors.is_empty() && gaps.is_empty() && read.is_empty() {
            return;
        }
        // An error is no reason to refuse casts.
        let saved = self.repository.save_cursors(&cursors, &gaps, &read, UnixMillis::now()).await;
        if let Err(error) = saved {
            debug!("how far nodes are is not saved yet: {error}");
            let mut unsaved = self.server.cast_outbox.cursors();
            unsaved.put_back(cursors, gaps);
            read.into_iter().for_each(|mark| unsaved.note_read(mark));
        }
    }

    /// The reason that nothing is saved now.
    fn refusal(&self) -> Option<RequestError> {
        let (fault, until) = self.fault.as_ref()?;
        (Instant::now() < *until).then(|| RequestError::from(&**fault))
    }

    /// Remembers an error for a while.
    fn noted<T>(&mut self, outcome: Result<T, StateError>) -> Result<T, RequestError> {
        let error = match outcome {
            Ok(done) => {
                self.fault = None;
                return Ok(done);
            }
            Err(error) => error,
        };
        if self.fault.is_none() {
            warn!("casts can't be saved: {error}");
        }
        let refusal = RequestError::from(&error);
        self.fault = Some((Arc::new(error), Instant::now() + RETRY_PAUSE));
        Err(refusal)
    }

    fn note_removal(&mut self, removal: CastRemoval) {
        self.server.casts.note_kept(removal.kept);
        self.has_more_to_remove |= removal.has_more;
    }

    async fn sweep(&mut self) {
        if self.refusal().is_some() {
            return;
        }
        let limits = &self.server.casts.limits;
        let swept = self.repository.sweep(limits, UnixMillis::now()).await;
        match self.noted(swept) {
            Ok(removal) => self.note_removal(removal),
            Err(refusal) => debug!("old casts were not removed: {refusal}"),
        }
    }
}
