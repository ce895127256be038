//! Room for a package that is about to be pulled, or is being pulled.
//!
//! Others are evicted as its bytes come, and not by its announced length: an error
//! page can announce any.

use std::{collections::VecDeque, sync::PoisonError, time::Duration};

use edge_mirror_base::clock::now_s;
use edge_mirror_http::limits::Limit;
use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_store::{
    Store, StoreError, StoredPackage,
    evict::{self, EvictionCandidate},
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{FetchInner, context::AttemptContext};
use crate::board::{RemovalCause, StatusBoard};

/// In any such period, packages not known to be active may evict at most half of
/// `storage.maxSize`: invented requests must not empty the storage.
const ALLOWANCE_PERIOD: Duration = Duration::from_secs(3600);
/// Evictions within this time are counted as one, so that there is little to remember.
const ALLOWANCE_STEP: Duration = Duration::from_secs(60);

/// Recent evictions for packages that only clients asked for.
#[derive(Debug, Default)]
pub(super) struct EvictionBudget {
    /// Beginning and bytes of each step; the oldest first.
    spent: VecDeque<(Instant, u64)>,
}

impl EvictionBudget {
    fn left(&self, limit_bytes: u64, now: Instant) -> u64 {
        let lately = self.spent.iter().filter(|(began, _)| is_within_period(*began, now));
        let spent = lately.fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        (limit_bytes / 2).saturating_sub(spent)
    }

    /// False, and nothing is spent, where so much is not left.
    fn spend(&mut self, bytes: u64, limit_bytes: u64, now: Instant) -> bool {
        if bytes > self.left(limit_bytes, now) {
            return false;
        }
        self.spent.retain(|(began, _)| is_within_period(*began, now));
        match self.spent.back_mut() {
            Some((began, spent)) if now < *began + ALLOWANCE_STEP => {
                *spent = spent.saturating_add(bytes);
            }
            _ => self.spent.push_back((now, bytes)),
        }
        true
    }
}

/// True until the step's last possible eviction is a period ago.
fn is_within_period(began: Instant, now: Instant) -> bool {
    now < began + ALLOWANCE_STEP + ALLOWANCE_PERIOD
}

impl FetchInner {
    /// True if evicting can make room for `bytes`, of which `shortage` do not fit.
    pub(super) fn can_make_room(
        &self,
        task: &AttemptContext<'_>,
        bytes: u64,
        shortage: u64,
    ) -> bool {
        let evicted = evicted_bytes(&self.to_evict(task, bytes, shortage));
        let allowed = |allowance: &mut EvictionBudget, limit| {
            evicted <= allowance.left(limit, Instant::now())
        };
        evicted > 0 && evicted >= shortage && self.allows(task, allowed)
    }

    /// Evicts inactive packages for it. Returns true if something was evicted, so
    /// that trying again makes sense.
    pub(super) fn make_room(&self, task: &AttemptContext<'_>, bytes: u64, shortage: u64) -> bool {
        let evicted = self.to_evict(task, bytes, shortage);
        let spend = |allowance: &mut EvictionBudget, limit| {
            allowance.spend(evicted_bytes(&evicted), limit, Instant::now())
        };
        if evicted.is_empty() || !self.allows(task, spend) {
            return false;
        }
        let removed = evicted.iter().filter(|evicted| remove(task.store, &evicted.key).is_ok());
        removed.inspect(|_| self.board.counts.evictions.inc(RemovalCause::RoomNeeded)).count() > 0
    }

    /// Only what clients alone asked for is bounded.
    fn allows(
        &self,
        task: &AttemptContext<'_>,
        asked: impl FnOnce(&mut EvictionBudget, u64) -> bool,
    ) -> bool {
        if !task.flight.is_unlisted() {
            return true;
        }
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = asked(&mut allowance, task.config.storage.max_size);
        if !allowed {
            self.board.counts.limits.inc(Limit::EvictedForClients);
        }
        allowed
    }

    /// The packages that would go.
    fn to_evict(
        &self,
        task: &AttemptContext<'_>,
        bytes: u64,
        shortage: u64,
    ) -> Vec<EvictionCandidate> {
        // A package larger than the limit never fits.
        if !task.config.storage.auto_cleanup || bytes > task.config.storage.max_size {
            return Vec::new();
        }
        let packages = task.store.list();
        let own = Some(task.flight.id());
        let others = packages.iter().filter(|stored| stored.manifest.key.package() != own);
        let mut candidates: Vec<_> = others.map(|stored| candidate(&self.board, stored)).collect();
        // Those of meetings that have not been started make room for active ones only.
        let keeps_prestaged = task.flight.is_prestage() || task.flight.is_unlisted();
        candidates.retain(|candidate| !(keeps_prestaged && candidate.is_prestaged));
        let evicted = evict::choose_evictions(&candidates, shortage);
        candidates.retain(|candidate| evicted.contains(&candidate.key));
        candidates
    }
}

fn evicted_bytes(evicted: &[EvictionCandidate]) -> u64 {
    evicted.iter().map(|candidate| candidate.size_bytes).sum()
}

/// The properties of a package that eviction needs.
pub fn candidate(board: &StatusBoard, stored: &StoredPackage) -> EvictionCandidate {
    let is_prestaged = board.sync.borrow().is_kept_for_start(stored);
    EvictionCandidate::new(stored, |id| board.may_be_active(id), is_prestaged, now_s())
}

fn remove(store: &Store, key: &ObjectKey) -> Result<(), StoreError> {
    let (removed, what) = (store.remove(key), key.describe());
    match &removed {
        Ok(()) => info!("{what} removed: room is needed for another"),
        Err(error) => warn!("{what} could not be removed: {error}"),
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_clients_ask_for_evicts_half_of_the_storage_within_any_hour_and_no_more() {
        let (mut allowance, start) = (EvictionBudget::default(), Instant::now());
        assert_eq!(allowance.left(100, start), 50);
        assert!(!allowance.spend(51, 100, start), "more than half");
        assert!(allowance.spend(30, 100, start));
        let later = start + ALLOWANCE_PERIOD / 2;
        assert!(allowance.spend(19, 100, later));
        assert_eq!(allowance.left(100, later), 1);
        assert!(!allowance.spend(2, 100, later), "what two saw left is spent once");
        assert!(allowance.spend(1, 100, later));
        assert_eq!(allowance.left(100, later), 0);
        let after = |at| at + ALLOWANCE_STEP + ALLOWANCE_PERIOD;
        assert_eq!(allowance.left(100, start + ALLOWANCE_PERIOD), 0);
        assert_eq!(allowance.left(100, after(start)), 30, "what was evicted later still counts");
        assert!(allowance.spend(7, 100, after(start)));
        assert_eq!(allowance.left(100, after(start)), 23);
        assert_eq!(allowance.left(100, after(later)), 43);
    }

    #[test]
    fn however_it_is_spent_little_is_remembered() {
        let (mut allowance, start) = (EvictionBudget::default(), Instant::now());
        for second in 0..20_000 {
            assert!(allowance.spend(1, u64::MAX, start + Duration::from_secs(second)));
        }
        let steps = ALLOWANCE_PERIOD.as_secs() / ALLOWANCE_STEP.as_secs() + 2;
        assert!(allowance.spent.len() as u64 <= steps);
    }
}
