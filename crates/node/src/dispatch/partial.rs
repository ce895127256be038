//! The part of a file that has come.

use std::sync::{Mutex, MutexGuard, PoisonError};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{object::ObjectKey, package::Sha256};
use edge_mirror_store::{PendingPackage, StoreError};

/// The file of which a part is here. It outlasts a pull that is given up for a more urgent
/// task, or broken off.
#[derive(Debug, Default)]
pub(super) struct PartialTaskFile(Mutex<Option<(ObjectKey, Sha256, PendingPackage)>>);

impl PartialTaskFile {
    fn lock(&self) -> MutexGuard<'_, Option<(ObjectKey, Sha256, PendingPackage)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets it, and removes what is here of it.
    pub(super) fn clear(&self) {
        let forgotten = self.lock().take();
        tasks::block_in_place(|| drop(forgotten));
    }

    /// Bytes that are here of this very file.
    pub(super) fn received(&self, key: &ObjectKey, sha256: Sha256) -> Option<u64> {
        let slot = self.lock();
        let (_, _, pending) = slot.as_ref().filter(|held| held.0 == *key && held.1 == sha256)?;
        Some(pending.received_bytes())
    }

    pub(super) fn set(&self, key: ObjectKey, sha256: Sha256, pending: PendingPackage) {
        let before = self.lock().replace((key, sha256, pending));
        tasks::block_in_place(|| drop(before));
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut slot = self.lock();
        match slot.as_mut() {
            Some((_, _, pending)) => tasks::block_in_place(|| pending.write(bytes)),
            None => Err(StoreError::Unwanted),
        }
    }

    pub(super) fn take(&self) -> Option<PendingPackage> {
        self.lock().take().map(|(_, _, pending)| pending)
    }
}
