//! Room for a package that is about to be pulled.

use tracing::{info, warn};

use crate::{
    board::{Board, Evicted},
    config::Config,
    package::PackageId,
    store::{
        Store, StoreError, Stored,
        evict::{self, Candidate},
    },
};

/// Evicts inactive packages so that `id` with `bytes` fits, `shortage` of which do not.
/// True when something was evicted, so that trying again makes sense.
pub(super) fn make(
    board: &Board,
    store: &Store,
    config: &Config,
    id: &PackageId,
    bytes: u64,
    shortage: u64,
) -> bool {
    let limit = config.storage.max_size;
    // A package that is larger than all there may be frees nothing by others.
    if !config.storage.auto_cleanup || bytes > limit {
        return false;
    }
    let candidates = candidates(board, store, id);
    let evicted = evict::to_free(&candidates, shortage);
    evicted
        .iter()
        .filter(|evicted| remove(store, evicted, "room is needed for another").is_ok())
        .inspect(|_| board.counts.evictions.one(Evicted::RoomNeeded))
        .count()
        > 0
}

/// All packages but one, as far as eviction cares.
fn candidates(board: &Board, store: &Store, besides: &PackageId) -> Vec<Candidate> {
    let packages = store.list();
    let others = packages.iter().filter(|stored| stored.manifest.id != *besides);
    others.map(|stored| candidate(board, stored)).collect()
}

/// A package as far as eviction cares.
pub fn candidate(board: &Board, stored: &Stored) -> Candidate {
    let manifest = &stored.manifest;
    Candidate {
        id: manifest.id.clone(),
        size_bytes: manifest.size_bytes,
        last_used_s: stored.last_served_s().unwrap_or(0).max(manifest.verified_s),
        active: board.may_be_active(&manifest.id),
    }
}

fn remove(store: &Store, id: &PackageId, why: &str) -> Result<(), StoreError> {
    let removed = store.remove(id);
    match &removed {
        Ok(()) => info!("package of meeting {id} removed: {why}"),
        Err(error) => warn!("package of meeting {id} could not be removed: {error}"),
    }
    removed
}
