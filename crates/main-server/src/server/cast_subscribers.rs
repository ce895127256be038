//! Programs that follow all casts at the main server, as they are sent. From memory alone: a
//! slow one loses the oldest, and is told how many.

use std::sync::Arc;

use axum::body::Bytes;
use edge_mirror_http::wire::feed;
use tokio::sync::broadcast;

use crate::{counts::SentCastKind, state::casts::DeliverableCast};

/// Casts that are kept for subscribers that are behind, whatever the options say: 40 MiB of
/// the largest ones, of all subscribers together.
const MAX_BEHIND: usize = 10_000;

/// A cast on its way to subscribers.
#[derive(Debug)]
pub(crate) struct StreamedCast {
    pub(crate) topic: Box<str>,
    /// The event, whole.
    pub(crate) event: Bytes,
}

/// The way to all subscribers.
#[derive(Clone, Debug)]
pub(crate) struct CastSubscribers(broadcast::Sender<Arc<StreamedCast>>);

impl CastSubscribers {
    /// Each may be so many casts behind.
    pub(crate) fn new(most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(MAX_BEHIND);
        Self(broadcast::Sender::new(most.clamp(1, MAX_BEHIND)))
    }

    /// Follows what comes from now on. None if so many follow already.
    pub(crate) fn subscribe(&self, most: u64) -> Option<broadcast::Receiver<Arc<StreamedCast>>> {
        let receiver = self.0.subscribe();
        (self.count() as u64 <= most).then_some(receiver)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.receiver_count()
    }

    pub(super) fn send(&self, kind: SentCastKind, cast: &DeliverableCast) {
        if self.count() == 0 {
            return;
        }
        let name = match kind {
            SentCastKind::Kept => "cast",
            SentCastKind::Live => "live",
        };
        let event = feed::json_event(name, cast.text().as_bytes());
        // An error says that nobody is there any more.
        let _ = self.0.send(Arc::new(StreamedCast { topic: cast.topic().into(), event }));
    }
}
