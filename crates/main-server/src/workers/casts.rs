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
    repository::CastRepository,
    server::{AddedCasts, PendingCasts, Server},
    state::casts::NewCast,
};

/// Casts of one transaction, about.
const MAX_BATCH: usize = 2000;
/// Interval of removing those that are old.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
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
    let mut writer = CastWriter { server, repository, fault: None };
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            pending = queue.recv() => match pending {
                Some(pending) => writer.carry_out(pending, &mut queue).await,
                None => break,
            },
            _ = sweep.tick() => writer.sweep().await,
        }
    }
    writer.repository.close().await;
    writer.server.cast_records.close().await;
}

struct CastWriter {
    server: Arc<Server>,
    repository: CastRepository,
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
        for ((casts, reply), outcome) in requests.into_iter().zip(saved.outcomes) {
            let stream = saved.stream.clone();
            let added = outcome.map(|receipts| AddedCasts { stream, receipts, casts });
            let _ = reply.send(added.map_err(RequestError::from));
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

    async fn sweep(&mut self) {
        if self.refusal().is_some() {
            return;
        }
        let limits = &self.server.casts.limits;
        let swept = self.repository.sweep(limits, UnixMillis::now()).await;
        if let Err(refusal) = self.noted(swept) {
            debug!("old casts were not removed: {refusal}");
        }
    }
}
