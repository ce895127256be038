//! A short memory of failed pulls, so that a room full of tablets asking for a
//! package that can't be pulled costs the main server one request and not hundreds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge_mirror_protocol::package::PackageId;
use tokio::time::Instant;

use super::PullError;

/// Clients can invent ids; beyond this the oldest entry goes.
const MAX_REMEMBERED: usize = 1024;
const FIRST: Duration = Duration::from_secs(5);
/// Longest time that a refusal is repeated without another request.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_id: HashMap<PackageId, PullRefusal>,
}

#[derive(Debug)]
struct PullRefusal {
    error: Arc<PullError>,
    until: Instant,
    /// Consecutive refusals.
    times: u32,
}

impl Refusals {
    /// The error to repeat, if it is recent.
    pub(super) fn get(&self, id: &PackageId, now: Instant) -> Option<Arc<PullError>> {
        self.by_id
            .get(id)
            .filter(|refusal| now < refusal.until)
            .map(|refusal| refusal.error.clone())
    }

    /// The refusals that still hold.
    pub(super) fn list(&self, now: Instant) -> Vec<(PackageId, String)> {
        let fresh = self.by_id.iter().filter(|(_, refusal)| now < refusal.until);
        fresh.map(|(id, refusal)| (id.clone(), refusal.error.to_string())).collect()
    }

    pub(super) fn put(&mut self, id: &PackageId, error: &Arc<PullError>, now: Instant) {
        let times = self.by_id.get(id).map_or(1, |refusal| refusal.times + 1);
        let lasts = FIRST.saturating_mul(1 << (times - 1).min(8)).min(LONGEST);
        if self.by_id.len() >= MAX_REMEMBERED && !self.by_id.contains_key(id) {
            let oldest = self.by_id.iter().min_by_key(|(_, refusal)| refusal.until);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.by_id.remove(&oldest);
            }
        }
        let refusal = PullRefusal { error: error.clone(), until: now + lasts, times };
        self.by_id.insert(id.clone(), refusal);
    }

    pub(super) fn remove(&mut self, id: &PackageId) {
        self.by_id.remove(id);
    }

    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> PackageId {
        format!("m{n}").parse().unwrap()
    }

    #[test]
    fn a_refusal_is_remembered_for_a_while_and_longer_each_time() {
        let mut refusals = Refusals::default();
        let (error, start) = (Arc::new(PullError::Stalled(1)), Instant::now());
        refusals.put(&id(1), &error, start);
        assert!(refusals.get(&id(1), start + Duration::from_secs(4)).is_some());
        assert!(refusals.get(&id(1), start + Duration::from_secs(5)).is_none());
        refusals.put(&id(1), &error, start);
        assert!(refusals.get(&id(1), start + Duration::from_secs(9)).is_some());
        for _ in 0..40 {
            refusals.put(&id(1), &error, start);
        }
        assert!(refusals.get(&id(1), start + LONGEST).is_none());
        refusals.remove(&id(1));
        assert!(refusals.get(&id(1), start).is_none());
    }

    #[test]
    fn invented_ids_do_not_fill_the_memory() {
        let mut refusals = Refusals::default();
        let (error, start) = (Arc::new(PullError::Stalled(1)), Instant::now());
        for n in 0..2 * MAX_REMEMBERED {
            refusals.put(&id(n), &error, start + Duration::from_millis(n as u64));
        }
        assert_eq!(refusals.by_id.len(), MAX_REMEMBERED);
        assert!(refusals.by_id.contains_key(&id(2 * MAX_REMEMBERED - 1)));
    }
}
