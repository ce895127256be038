//! Pulls that the plan begins, and what their ends mean for it.

use std::{sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::PackageId;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::SyncWorker;
use crate::fetch::{PullError, PullReason, PullResult};

/// The outcome of a pull, with the time and the token of its beginning.
pub(super) struct FinishedPull {
    id: PackageId,
    began: Instant,
    token: Arc<str>,
    reason: PullReason,
    outcome: PullResult,
}

impl SyncWorker {
    pub(super) fn pull(&mut self, id: PackageId, reason: PullReason) {
        let began = Instant::now();
        let flight = self.fetch.pull(&id, reason);
        let token = self.known.token.clone();
        match reason {
            PullReason::Prestage => self.known.prestage.note_pulling(&id),
            _ => self.known.note_pulling(&id, reason),
        }
        self.pulls.push(Box::pin(async move {
            let outcome = flight.outcome().await;
            FinishedPull { id, began, token, reason, outcome }
        }));
    }

    /// Takes in a finished pull, and all others that have finished by now.
    pub(super) fn take_pulls(&mut self, pull: FinishedPull) {
        let mut next = Some(pull);
        while let Some(pull) = next {
            self.take_pull(pull);
            next = self.pulls.next().now_or_never().flatten();
        }
    }

    fn take_pull(&mut self, pull: FinishedPull) {
        let FinishedPull { id, began, token, reason, outcome } = pull;
        if reason == PullReason::Prestage {
            self.take_prestaged(&id, &outcome);
        }
        let Some(meeting) = self.known.meeting_mut(&id) else { return };
        // Its meeting has started meanwhile, and waits for the same pull.
        if reason == PullReason::Prestage {
            return;
        }
        meeting.under_way = None;
        match outcome {
            Ok(pulled) => {
                if pulled.changed {
                    self.known.last_pull = Some(UnixMillis::now());
                }
                let sha256 = pulled.stored.manifest.sha256;
                self.known.note_arrival(&id, sha256);
                // An adopted package may be any version, and one of another main
                // server any meeting's: they still have to be compared.
                let source = &pulled.stored.manifest.source;
                if source.origin.as_deref().is_some_and(|from| self.known.fleet.contains(from)) {
                    self.known.confirm(&id, sha256, token, began);
                }
            }
            // The service stops: its next start decides what follows.
            Err(error) if matches!(*error, PullError::Stopped) => return,
            Err(error) => {
                let delay = Duration::from_secs(self.settings.current().network.retry_delay);
                self.known.note_failure(&id, error.fault(), delay);
            }
        }
        self.pull_ended = true;
    }

    fn take_prestaged(&mut self, id: &PackageId, outcome: &PullResult) {
        let delay = Duration::from_secs(self.settings.current().network.retry_delay);
        match outcome {
            Ok(pulled) => {
                if pulled.changed {
                    self.known.last_pull = Some(UnixMillis::now());
                }
                self.known.prestage.note_end(id, None, delay);
            }
            Err(error) if error.is_end() => self.known.prestage.note_stop(id),
            Err(error) => self.known.prestage.note_end(id, Some(error.fault()), delay),
        }
        self.pull_ended = true;
    }
}
