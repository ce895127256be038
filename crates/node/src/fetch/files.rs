//! Permits, bandwidth and room, which pulls of files share with those of packages.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_store::{Store, evict};
use tracing::info;

use super::{Fetch, PullReason, gap, gate::PullPermit, room};
use crate::{board::RemovalCause, upstream::TransferLimits};

/// Permit to receive files from the main server.
pub(crate) struct FilePermit(PullPermit);

impl Fetch {
    /// Waits for a permit. Packages come first, and those of meetings that have not been
    /// started as files do.
    pub(crate) async fn file_permit(&self) -> FilePermit {
        loop {
            self.inner.wait_for_spare_turn(true).await;
            let urgency = Arc::new(AtomicU8::new(PullReason::Prestage as u8));
            let mut refused = pin!(self.inner.wait_for_spare_turn(false));
            tokio::select! {
                biased;
                () = &mut refused => {}
                (permit, _) = self.inner.gate.enter(urgency, None) => return FilePermit(permit),
            }
        }
    }

    /// Waits until the permit has to be given back: a package is pulled, or the schedule
    /// allows nothing any more.
    pub(crate) async fn wait_to_yield(&self, permit: &FilePermit) {
        tokio::select! {
            () = permit.0.preempted().cancelled() => {}
            () = self.inner.wait_for_spare_turn(false) => {}
        }
    }

    /// Counts bytes that have come, and waits until they are within the bandwidth.
    pub(crate) async fn account(&self, bytes: usize) -> Duration {
        self.inner.pulled_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let held_up = self.inner.pacer.throttle(bytes).await;
        held_up + self.inner.throttle_while(bytes, || true).await
    }

    /// Limits of the time that a file may take.
    pub(crate) fn file_limits(&self) -> TransferLimits {
        let network = &self.inner.settings.current().network;
        TransferLimits {
            total: Duration::from_secs(network.download_timeout),
            stall: Duration::from_secs(network.connection_timeout),
            least_bytes: gap::LEAST_BYTES,
        }
    }

    /// Evicts packages and files that may go. False if that makes not enough room. Blocks.
    pub(crate) fn make_room_for_file(&self, store: &Store, key: &ObjectKey, bytes: u64) -> bool {
        let config = self.inner.settings.current();
        let shortage = store.shortage(key, bytes, config.storage.max_size);
        if !config.storage.auto_cleanup || bytes > config.storage.max_size {
            return false;
        }
        let stored = store.list();
        let others = stored.iter().filter(|stored| stored.manifest.key != *key);
        let mut candidates: Vec<_> =
            others.map(|stored| room::candidate(&self.inner.board, stored)).collect();
        candidates.retain(|candidate| !candidate.is_prestaged);
        let evicted = evict::choose_evictions(&candidates, shortage);
        candidates.retain(|candidate| evicted.contains(&candidate.key));
        let freed: u64 = candidates.iter().map(|candidate| candidate.size_bytes).sum();
        if freed == 0 || freed < shortage {
            return false;
        }
        for key in evicted.iter().filter(|key| store.remove(*key).is_ok()) {
            info!("{} removed: room is needed for a file", key.describe());
            self.inner.board.counts.evictions.inc(RemovalCause::RoomNeeded);
        }
        true
    }
}
