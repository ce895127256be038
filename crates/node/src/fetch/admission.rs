//! Bounds on what clients' requests can cause. A room full of tablets that ask for a
//! package that can't be pulled costs the main server one request and not hundreds:
//! failed pulls are remembered for a short time. And who waits for packages of
//! meetings not known to be active, which anybody can request, holds a connection at
//! no cost for as long as the main server takes: together they leave connections to
//! others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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

/// One in so many connections may wait.
const SHARE: usize = 4;
/// One in so many waiters may be from one address.
const SHARE_OF_CLIENT: usize = 4;

#[derive(Debug, Default)]
pub(super) struct ClientWaiters {
    counts: Mutex<WaiterCounts>,
}

#[derive(Debug, Default)]
struct WaiterCounts {
    all: usize,
    of_clients: HashMap<IpAddr, usize>,
}

/// Counts as waiting until dropped.
#[derive(Debug)]
pub(super) struct WaitPermit {
    waiters: Arc<ClientWaiters>,
    client: IpAddr,
}

impl ClientWaiters {
    /// None if too many wait already.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        connections: usize,
    ) -> Option<WaitPermit> {
        let most = (connections / SHARE).max(1);
        let max_per_client = (most / SHARE_OF_CLIENT).max(1);
        let mut counts = self.counts();
        let of_client = counts.of_clients.get(&client).copied().unwrap_or_default();
        if counts.all >= most || of_client >= max_per_client {
            return None;
        }
        counts.all += 1;
        counts.of_clients.insert(client, of_client + 1);
        Some(WaitPermit { waiters: self.clone(), client })
    }

    fn counts(&self) -> MutexGuard<'_, WaiterCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitPermit {
    fn drop(&mut self) {
        let mut counts = self.waiters.counts();
        counts.all -= 1;
        if let Some(count) = counts.of_clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.of_clients.remove(&self.client);
            }
        }
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
        let (error, start) = (Arc::new(PullError::Busy), Instant::now());
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
        let (error, start) = (Arc::new(PullError::Busy), Instant::now());
        for n in 0..2 * MAX_REMEMBERED {
            refusals.put(&id(n), &error, start + Duration::from_millis(n as u64));
        }
        assert_eq!(refusals.by_id.len(), MAX_REMEMBERED);
        assert!(refusals.by_id.contains_key(&id(2 * MAX_REMEMBERED - 1)));
    }

    #[test]
    fn a_quarter_of_the_connections_waits_and_a_quarter_of_that_for_one_address() {
        let waiters = Arc::new(ClientWaiters::default());
        let admit = |of: u8| waiters.admit([10, 0, 0, of].into(), 64);
        let mut waiting: Vec<_> = (0..4).map(|_| admit(1).unwrap()).collect();
        assert!(admit(1).is_none());
        waiting.extend((0..12).map(|n| admit(2 + n / 4).unwrap()));
        assert!(admit(9).is_none(), "there are sixteen");
        waiting.remove(0);
        waiting.push(admit(1).unwrap());
        drop(waiting);
        assert!(waiters.counts().all == 0 && waiters.counts().of_clients.is_empty());
        assert!(waiters.admit([10, 0, 0, 1].into(), 1).is_some());
    }
}
