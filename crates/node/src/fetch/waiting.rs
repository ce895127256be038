//! Clients that wait for packages of meetings not known to be active. Anybody can
//! request one, and holds a connection at no cost for as long as the main server
//! takes: together they must leave connections to others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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
