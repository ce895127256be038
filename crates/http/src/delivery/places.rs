//! Limits the downloads in progress: `serve.maxDownloads` in all, and
//! `serve.maxPerClient` for one address. Without a free permit a download waits in a queue
//! for a moment, first come, first served, but for addresses that are at their own limit;
//! then it is told to come back.
//!
//! Without limits, a permit costs one more relaxed atomic. All are counted anyway, so that
//! a limit that is set later counts those in progress. Their addresses are recorded only
//! while there is a limit.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use edge_mirror_base::metrics::{Counter, CounterFamily, Exposition, Label, labels};
use edge_mirror_settings::ServeConfig;
use tokio::{sync::oneshot, time::timeout};

use super::Traffic;

/// Less than clients wait for an answer's first byte, and enough for a small package or
/// two to be sent.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than are served within that are better refused now.
const MAX_WAITING: usize = 256;
/// Keeps one client from filling the queue.
const MAX_WAITING_OF_CLIENT: usize = 64;

labels! {
    /// The limit that holds a download back.
    DownloadLimit {
        Downloads => "max_downloads",
        PerClient => "max_per_client",
    }
}

/// A permit to download; released when dropped.
#[derive(Debug)]
pub struct DownloadPermit {
    pub(super) traffic: Arc<Traffic>,
    /// The client, if clients are counted.
    client: Option<IpAddr>,
}

#[derive(Debug, Default)]
pub(super) struct DownloadLimiter {
    /// Counted even without a limit.
    taken: AtomicU64,
    limited: AtomicBool,
    /// Length of the queue.
    waiting: AtomicUsize,
    state: Mutex<LimiterState>,
    waited: CounterFamily<DownloadLimit>,
    paced: Counter,
    refused: CounterFamily<DownloadLimit>,
}

#[derive(Debug)]
struct LimiterState {
    most: u64,
    max_per_client: u64,
    /// Each IPv6 address by itself, unlike `listen::rate_limit_key`: the tablets of a
    /// room share the first 64 bits, and a client with more addresses is still limited by
    /// `most`.
    of_client: HashMap<IpAddr, u64>,
    queue: VecDeque<QueuedDownload>,
}

#[derive(Debug)]
struct QueuedDownload {
    client: IpAddr,
    admit: oneshot::Sender<DownloadPermit>,
}

impl Default for LimiterState {
    fn default() -> Self {
        Self {
            most: u64::MAX,
            max_per_client: u64::MAX,
            of_client: HashMap::new(),
            queue: VecDeque::new(),
        }
    }
}

impl Traffic {
    /// Applies a changed configuration: downloads in progress go on, and waiting ones
    /// begin if there is room now.
    pub fn apply(self: &Arc<Self>, serve: &ServeConfig) {
        self.set_limits(serve.max_downloads, serve.max_per_client, serve.bandwidth);
    }

    /// Limits what other nodes take: so many at a time, and bytes per second. 0: no limit.
    pub fn apply_limits(self: &Arc<Self>, max_downloads: u64, bandwidth: u64) {
        self.set_limits(max_downloads, 0, bandwidth);
    }

    fn set_limits(self: &Arc<Self>, max_downloads: u64, max_per_client: u64, bandwidth: u64) {
        self.pacer.set_rate(bandwidth);
        let limit = |setting| if setting == 0 { u64::MAX } else { setting };
        {
            let mut state = self.places.state();
            state.most = limit(max_downloads);
            state.max_per_client = limit(max_per_client);
            let limited = state.most.min(state.max_per_client) < u64::MAX;
            self.places.limited.store(limited, Ordering::Relaxed);
        }
        self.admit();
    }

    /// Acquires a permit without a limit: for the main server, which has no other to send its
    /// nodes to.
    pub fn acquire_unlimited(self: &Arc<Self>) -> DownloadPermit {
        self.take(None)
    }

    /// Acquires a permit, if one is free. `client` is called only if there is a limit; None
    /// stands for an address that is not known here.
    pub fn try_acquire(
        self: &Arc<Self>,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<DownloadPermit, DownloadLimit> {
        if !self.places.limited.load(Ordering::Relaxed) {
            return Ok(self.take(None));
        }
        let client = client();
        let mut state = self.places.state();
        state.check_free(self.places.taken(), client)?;
        Ok(self.take_of(&mut state, client))
    }

    /// Waits for a permit.
    pub async fn acquire(
        self: &Arc<Self>,
        client: IpAddr,
    ) -> Result<DownloadPermit, DownloadLimit> {
        let places = &self.places;
        let (limit, admitted) = {
            let mut state = places.state();
            let limit = match state.check_free(places.taken(), Some(client)) {
                Ok(()) => return Ok(self.take_of(&mut state, Some(client))),
                Err(limit) => limit,
            };
            let Some(admitted) = state.enqueue(client) else {
                places.refused.inc(limit);
                return Err(limit);
            };
            places.waiting.store(state.queue.len(), Ordering::SeqCst);
            (limit, admitted)
        };
        // A download that ended before saw an empty queue.
        self.admit();
        match timeout(PATIENCE, admitted).await {
            Ok(Ok(permit)) => {
                places.waited.inc(limit);
                Ok(permit)
            }
            Ok(Err(_)) | Err(_) => {
                places.refused.inc(limit);
                Err(limit)
            }
        }
    }

    pub fn under_way(&self) -> u64 {
        self.places.taken()
    }

    /// Writes the metrics of a node's limits.
    pub fn encode_limits(&self, page: &mut Exposition) {
        let mut waited = page.counter(
            "edge_mirror_downloads_waited_total",
            "Downloads that a limit made wait, before they began or on the way, by limit.",
        );
        for limit in DownloadLimit::ALL {
            waited.put(&[("limit", limit.text())], self.places.waited.counter(*limit).get());
        }
        waited.put(&[("limit", "bandwidth")], self.places.paced.get());
        page.tally(
            "edge_mirror_downloads_refused_total",
            "Downloads that were told to come back later, by limit.",
            "limit",
            &self.places.refused,
        );
    }

    /// Counts a download that the bandwidth held back, once.
    pub(super) fn count_paced(&self) {
        self.places.paced.inc();
    }

    fn take(self: &Arc<Self>, client: Option<IpAddr>) -> DownloadPermit {
        self.places.taken.fetch_add(1, Ordering::Relaxed);
        DownloadPermit { traffic: self.clone(), client }
    }

    fn take_of(
        self: &Arc<Self>,
        state: &mut LimiterState,
        client: Option<IpAddr>,
    ) -> DownloadPermit {
        if let Some(client) = client {
            *state.of_client.entry(client).or_default() += 1;
        }
        self.take(client)
    }

    /// Gives free permits to waiting downloads.
    fn admit(self: &Arc<Self>) {
        loop {
            let (permit, admit) = {
                let mut state = self.places.state();
                let next = state.next(self.places.taken());
                self.places.waiting.store(state.queue.len(), Ordering::SeqCst);
                let Some(next) = next else { return };
                (self.take_of(&mut state, Some(next.client)), next.admit)
            };
            // One that has just left gives it back by dropping it, which calls this
            // again; the queue is short, and so is the recursion.
            drop(admit.send(permit));
        }
    }
}

impl Drop for DownloadPermit {
    fn drop(&mut self) {
        let places = &self.traffic.places;
        // Ordered with `waiting`: either this one sees a waiting download, or that one
        // sees the free permit.
        places.taken.fetch_sub(1, Ordering::SeqCst);
        if let Some(client) = self.client {
            places.state().release(client);
        }
        if places.waiting.load(Ordering::SeqCst) > 0 {
            self.traffic.admit();
        }
    }
}

impl DownloadLimiter {
    fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    fn has_room_for(&self, client: IpAddr) -> bool {
        self.of_client.get(&client).copied().unwrap_or(0) < self.max_per_client
    }

    /// Checks that a new download may begin: not before waiting ones.
    fn check_free(&self, taken: u64, client: Option<IpAddr>) -> Result<(), DownloadLimit> {
        let free = match client {
            Some(client) => self.has_room_for(client),
            None => self.max_per_client == u64::MAX,
        };
        let may = |waiting: &QueuedDownload| {
            !waiting.admit.is_closed() && self.has_room_for(waiting.client)
        };
        match free {
            false => Err(DownloadLimit::PerClient),
            true if taken >= self.most || self.queue.iter().any(may) => {
                Err(DownloadLimit::Downloads)
            }
            true => Ok(()),
        }
    }

    fn enqueue(&mut self, client: IpAddr) -> Option<oneshot::Receiver<DownloadPermit>> {
        self.queue.retain(|waiting| !waiting.admit.is_closed());
        let own = self.queue.iter().filter(|waiting| waiting.client == client).count();
        if self.queue.len() >= MAX_WAITING || own >= MAX_WAITING_OF_CLIENT {
            return None;
        }
        let (admit, admitted) = oneshot::channel();
        self.queue.push_back(QueuedDownload { client, admit });
        Some(admitted)
    }

    /// Removes the first one that may begin.
    fn next(&mut self, taken: u64) -> Option<QueuedDownload> {
        self.queue.retain(|waiting| !waiting.admit.is_closed());
        if taken >= self.most {
            return None;
        }
        let next = self.queue.iter().position(|waiting| self.has_room_for(waiting.client))?;
        self.queue.remove(next)
    }

    fn release(&mut self, client: IpAddr) {
        if let Some(count) = self.of_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    fn traffic(max_downloads: u64, max_per_client: u64) -> Arc<Traffic> {
        let traffic = Arc::<Traffic>::default();
        limit(&traffic, max_downloads, max_per_client);
        traffic
    }

    fn limit(traffic: &Arc<Traffic>, max_downloads: u64, max_per_client: u64) {
        traffic.apply(&ServeConfig {
            cut_through: true,
            max_downloads,
            max_per_client,
            max_connections_per_client: 0,
            bandwidth: 0,
        });
    }

    fn client(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn at_once(traffic: &Arc<Traffic>, number: u8) -> Result<DownloadPermit, DownloadLimit> {
        traffic.try_acquire(|| Some(client(number)))
    }

    #[tokio::test]
    async fn places_are_given_up_to_the_limits_and_given_back() {
        let traffic = traffic(3, 2);
        let first = at_once(&traffic, 1).unwrap();
        let _second = at_once(&traffic, 1).unwrap();
        assert_eq!(at_once(&traffic, 1).unwrap_err(), DownloadLimit::PerClient);
        let _third = at_once(&traffic, 2).unwrap();
        assert_eq!(at_once(&traffic, 2).unwrap_err(), DownloadLimit::Downloads);
        // Clients that are not known here are refused.
        assert_eq!(traffic.try_acquire(|| None).unwrap_err(), DownloadLimit::PerClient);
        drop(first);
        assert_eq!(traffic.under_way(), 2);
        let _fourth = at_once(&traffic, 1).unwrap();
    }

    #[tokio::test]
    async fn those_who_wait_come_in_the_order_of_arrival_and_nobody_goes_past_them() {
        let traffic = traffic(1, 0);
        let inside = traffic.try_acquire(|| None).unwrap();
        let mut early = Box::pin(traffic.acquire(client(1)));
        let mut late = Box::pin(traffic.acquire(client(2)));
        assert!(early.as_mut().now_or_never().is_none());
        assert!(late.as_mut().now_or_never().is_none());
        drop(inside);
        assert!(late.as_mut().now_or_never().is_none());
        assert_eq!(at_once(&traffic, 3).unwrap_err(), DownloadLimit::Downloads);
        let inside = early.now_or_never().unwrap().unwrap();
        drop(inside);
        let _inside = late.now_or_never().unwrap().unwrap();
        assert_eq!(
            (traffic.under_way(), traffic.places.waited.counter(DownloadLimit::Downloads).get()),
            (1, 2)
        );
    }

    #[tokio::test]
    async fn one_that_waits_for_its_own_address_holds_up_no_other() {
        let traffic = traffic(2, 1);
        let inside = at_once(&traffic, 1).unwrap();
        let mut own = Box::pin(traffic.acquire(client(1)));
        assert!(own.as_mut().now_or_never().is_none());
        let other = at_once(&traffic, 2).unwrap();
        let mut third = Box::pin(traffic.acquire(client(3)));
        assert!(third.as_mut().now_or_never().is_none());
        drop(other);
        let _third = third.now_or_never().unwrap().unwrap();
        assert!(own.as_mut().now_or_never().is_none());
        drop(inside);
        assert!(own.now_or_never().unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_too_long_is_refused_and_holds_no_place() {
        let traffic = traffic(1, 0);
        let inside = at_once(&traffic, 1).unwrap();
        assert_eq!(traffic.acquire(client(2)).await.unwrap_err(), DownloadLimit::Downloads);
        let mut leaver = Box::pin(traffic.acquire(client(2)));
        assert!(leaver.as_mut().now_or_never().is_none());
        drop(leaver);
        drop(inside);
        assert_eq!(traffic.under_way(), 0);
        assert!(at_once(&traffic, 3).is_ok());
        assert_eq!(traffic.places.refused.counter(DownloadLimit::Downloads).get(), 1);
    }

    #[tokio::test]
    async fn the_line_is_short_and_nobody_fills_it_alone() {
        let traffic = traffic(1, 0);
        let inside = at_once(&traffic, 1).unwrap();
        let mut queue = Vec::new();
        let mut stand = |number| {
            let mut waiting = Box::pin(traffic.acquire(client(number)));
            let refused = waiting.as_mut().now_or_never();
            queue.push(waiting);
            refused.is_none()
        };
        assert!((0..MAX_WAITING_OF_CLIENT).all(|_| stand(1)));
        assert!(!stand(1));
        assert!((0..MAX_WAITING - MAX_WAITING_OF_CLIENT).all(|n| stand(2 + (n % 200) as u8)));
        assert!(!stand(250));
        // They all leave, the first of them just when it is admitted.
        drop(inside);
        drop(queue);
        assert_eq!(traffic.under_way(), 0);
        assert!(traffic.places.state().of_client.is_empty());
        // Nobody is kept out by those that left while no permit was free.
        let _inside = at_once(&traffic, 9).unwrap();
        let stand = || Box::pin(traffic.acquire(client(1)));
        let mut leavers: Vec<_> = (0..MAX_WAITING_OF_CLIENT).map(|_| stand()).collect();
        assert!(leavers.iter_mut().all(|leaver| leaver.as_mut().now_or_never().is_none()));
        drop(leavers);
        assert!(stand().as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn another_limit_counts_at_once_and_ends_nothing() {
        let traffic = traffic(0, 0);
        let mut inside: Vec<_> = (0..5).map(|_| at_once(&traffic, 1).unwrap()).collect();
        limit(&traffic, 2, 0);
        let mut waiting = Box::pin(traffic.acquire(client(1)));
        // Downloads from before the limit count.
        while inside.len() > 1 {
            assert!(waiting.as_mut().now_or_never().is_none(), "{} inside", inside.len());
            inside.pop();
        }
        let _one = waiting.now_or_never().unwrap().unwrap();
        let mut waiting = Box::pin(traffic.acquire(client(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        limit(&traffic, 0, 0);
        assert!(waiting.now_or_never().unwrap().is_ok());
        assert!(at_once(&traffic, 1).is_ok());
    }
}
