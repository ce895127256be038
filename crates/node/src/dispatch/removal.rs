//! Removal of files: of tasks that were cancelled, and of those whose time is over.

use edge_mirror_base::clock::now_s;
use edge_mirror_protocol::{
    dispatch::TaskId,
    object::{ObjectKey, Retention},
};
use edge_mirror_store::{Store, StoreError};
use tracing::{info, warn};

/// Removes all files of a task. Blocks.
pub(super) fn remove_task(store: &Store, task: &TaskId) -> Result<u64, StoreError> {
    let stored = store.list();
    let keys = stored.iter().map(|stored| &stored.manifest.key);
    let is_of_task =
        |key: &&ObjectKey| matches!(key, ObjectKey::File(key) if key.task() == task.as_str());
    let mut removed = 0;
    for key in keys.filter(is_of_task) {
        store.remove(key)?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes files that were to be kept until a time that has passed. Blocks.
pub(super) fn remove_expired(store: &Store) {
    let now_s = now_s();
    for stored in store.list() {
        let manifest = &stored.manifest;
        let is_over = matches!(manifest.retention, Retention::Until(until_s) if until_s <= now_s);
        if manifest.key.package().is_some() || !is_over {
            continue;
        }
        match store.remove(&manifest.key) {
            Ok(()) => info!("{} removed: its time is over", manifest.key.describe()),
            Err(error) => warn!("{} could not be removed: {error}", manifest.key.describe()),
        }
    }
}
