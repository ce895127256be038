//! Permits for large bodies: each is in memory whole before it is parsed, and anybody
//! on the network can send one. A permit is held for milliseconds on a LAN; a sender
//! that makes it last loses it if others wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex as Queue, Notify, OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size (dozens of meetings) need no permit.
pub(crate) const SMALL_BYTES: u64 = 16 << 10;
/// Permits in all, a megabyte each.
const MAX_AT_ONCE: usize = 16;
/// Permits of one client, so that others get theirs.
const MAX_OF_CLIENT: usize = 4;
/// Guaranteed time of a permit: a megabyte at 4 Mbit/s.
const MIN_HOLD: Duration = Duration::from_secs(2);
/// A request that still waits after this has a further permit revoked.
const REVOKE_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct LargeBodies {
    all: Arc<LargeBodyQueue>,
    /// Clients that hold a permit or wait for one.
    of_clients: Mutex<HashMap<IpAddr, Arc<ClientBodyQueue>>>,
}

#[derive(Debug)]
struct LargeBodyQueue {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Each notification revokes one permit held for longer than is guaranteed.
    wanted: Notify,
}

#[derive(Debug)]
struct ClientBodyQueue {
    own: LargeBodyQueue,
    /// Lets one request of a client wait for a shared permit, so that this queue is
    /// no longer than the number of clients.
    head_of_line: Queue<()>,
}

/// Permit to have a large body in memory.
#[derive(Debug)]
pub(crate) struct LargeBodyPermit {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
    client: Arc<ClientBodyQueue>,
    all: Arc<LargeBodyQueue>,
}

impl Default for LargeBodies {
    fn default() -> Self {
        Self { all: Arc::new(LargeBodyQueue::new(MAX_AT_ONCE)), of_clients: Mutex::default() }
    }
}

impl LargeBodies {
    /// Waits for a permit. Never None: the semaphores are not closed.
    pub(crate) async fn acquire(&self, client: IpAddr) -> Option<LargeBodyPermit> {
        let client = self.of_client(client);
        let own = client.own.acquire().await?;
        let shared = match self.all.free.clone().try_acquire_owned() {
            Ok(shared) => shared,
            Err(_) => {
                let _foremost = client.head_of_line.lock().await;
                self.all.acquire().await?
            }
        };
        Some(LargeBodyPermit { _own: own, _shared: shared, client, all: self.all.clone() })
    }

    fn of_client(&self, client: IpAddr) -> Arc<ClientBodyQueue> {
        let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Permits and waiters hold a reference to their client's entry.
        of_clients.retain(|_, permits| Arc::strong_count(permits) > 1);
        of_clients.entry(client).or_default().clone()
    }
}

impl Default for ClientBodyQueue {
    fn default() -> Self {
        Self { own: LargeBodyQueue::new(MAX_OF_CLIENT), head_of_line: Queue::default() }
    }
}

impl LargeBodyQueue {
    fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }

    async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Some(permit);
        }
        let _waiter = WaitingGuard::new(&self.waiting);
        let mut permit = pin!(self.free.clone().acquire_owned());
        loop {
            self.wanted.notify_one();
            if let Ok(permit) = tokio::time::timeout(REVOKE_EVERY, &mut permit).await {
                return permit.ok();
            }
        }
    }

    /// Waits until a request that waits wants this permit revoked, and no other.
    async fn revocation_requested(&self) {
        loop {
            self.wanted.notified().await;
            // Nobody may wait any more: a notification is kept until it is taken.
            if self.waiting.load(Ordering::Acquire) > 0 {
                return;
            }
        }
    }
}

/// Counts as waiting until dropped.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl<'a> WaitingGuard<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LargeBodyPermit {
    /// Waits until the guaranteed time is over and a request that waits wants this permit.
    pub(crate) async fn revoked(&self) {
        tokio::time::sleep(MIN_HOLD).await;
        tokio::select! {
            () = self.all.revocation_requested() => {}
            () = self.client.own.revocation_requested() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_client_has_few_turns_all_have_some_and_each_is_given_back() {
        let bodies = LargeBodies::default();
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let permit = |n| bodies.acquire(client(n)).now_or_never().flatten();
        let mut of_one: Vec<_> = (0..MAX_OF_CLIENT).map(|_| permit(0).unwrap()).collect();
        assert!(permit(0).is_none());
        let others = MAX_AT_ONCE - MAX_OF_CLIENT;
        let of_others: Vec<_> = (0..others).map(|n| permit(1 + n / 2).unwrap()).collect();
        assert!(permit(99).is_none(), "there are no more in all");
        of_one.pop();
        assert!(permit(99).is_some() && permit(0).is_some());
        drop((of_one, of_others));
        drop(permit(5));
        assert_eq!(bodies.of_clients.lock().unwrap().len(), 1, "nothing is kept of who is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_lasts_expires_once_it_is_wanted_and_never_sooner_than_guaranteed() {
        let bodies = LargeBodies::default();
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let mut permits = Vec::new();
        for n in 0..MAX_AT_ONCE {
            permits.push(bodies.acquire(client(n / MAX_OF_CLIENT)).await.unwrap());
        }
        tokio::time::timeout(2 * MIN_HOLD, permits[0].revoked()).await.expect_err("nobody waits");
        for waits_for in [99, 0] {
            let mut waiter = pin!(bodies.acquire(client(waits_for)));
            let began = tokio::time::Instant::now();
            tokio::select! {
                _ = &mut waiter => panic!("there is no turn for client {waits_for}"),
                () = permits[1].revoked() => {}
            }
            assert_eq!(began.elapsed(), MIN_HOLD, "client {waits_for}");
        }
        // What those who have given up wanted is not taken from anybody.
        tokio::time::timeout(2 * MIN_HOLD, permits[0].revoked()).await.expect_err("nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_ends_one_turn_and_not_all() {
        let bodies = LargeBodies::default();
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let mut held = tokio::task::JoinSet::new();
        let ended = Arc::new(AtomicUsize::new(0));
        for n in 0..MAX_AT_ONCE {
            let (permit, ended) =
                (bodies.acquire(client(n / MAX_OF_CLIENT)).await.unwrap(), ended.clone());
            held.spawn(async move {
                permit.revoked().await;
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(2 * MIN_HOLD).await;
        for waiters in 1..=3 {
            let began = tokio::time::Instant::now();
            drop(bodies.acquire(client(99)).await.unwrap());
            assert!(began.elapsed() < REVOKE_EVERY);
            tokio::time::sleep(2 * MIN_HOLD).await;
            assert_eq!(ended.load(Ordering::Relaxed), waiters);
            // Its place is taken again by one that is never asked to end.
            std::mem::forget(bodies.acquire(client(100 + waiters)).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_with_many_comes_once_before_another() {
        let bodies = LargeBodies::default();
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let mut held = Vec::new();
        for n in 0..MAX_AT_ONCE {
            held.push(bodies.acquire(client(n / MAX_OF_CLIENT)).await.unwrap());
        }
        let many: Vec<_> =
            (0..MAX_OF_CLIENT).map(|_| Box::pin(bodies.acquire(client(98)))).collect();
        let mut many = futures_util::future::join_all(many);
        assert!((&mut many).now_or_never().is_none());
        let mut one = pin!(bodies.acquire(client(99)));
        assert!(one.as_mut().now_or_never().is_none());
        for _ in 0..2 {
            held.pop();
            assert!((&mut many).now_or_never().is_none());
        }
        assert!(one.now_or_never().is_some());
    }
}
