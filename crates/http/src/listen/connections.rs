//! The table of connections, and making room for new ones.
//!
//! `serve.maxConnectionsPerClient` limits the connections of one address. If they are all
//! in use, or all places are taken, connections that are idle or have slow clients are
//! closed (`eviction`). If there are none, a new connection waits, or is refused if its
//! own address is at the limit. The table is used when connections come and go, not for
//! each request.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use edge_mirror_base::metrics::{CounterFamily, Exposition, Label};
use slab::Slab;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};
use tracing::warn;

use super::{
    activity::ConnectionActivity,
    address::rate_limit_key,
    eviction::{self, EvictionLimits, ObservedConnection},
    places::{MAX_CONNECTIONS, places},
};
use crate::limits::Limit;

/// Quarters of all places that one address may have by default: a venue behind one
/// address may be all clients that there are, and others still get in.
const QUARTERS: usize = 3;
/// The places divided by this are the idle connections closed at a time: not every new
/// connection should scan all others.
const IDLE_SHARE: usize = 64;
/// The same for slow ones, which are in the middle of something.
const SLOW_SHARE: usize = 512;
/// Pause after a scan that found none to close.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Time for which the status shows a reached limit.
const SHOWN_FOR: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Connections {
    places: usize,
    free: Arc<Semaphore>,
    table: Mutex<ConnectionTable>,
    limits: Arc<CounterFamily<Limit>>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    per_client: usize,
    last_number: u64,
    connections: Slab<ConnectionEntry>,
    clients: HashMap<IpAddr, ClientConnections>,
    last_failed_eviction: Option<Instant>,
    /// The last time each limit was reached.
    reached: HashMap<&'static str, (Limit, Instant)>,
}

#[derive(Debug, Default)]
struct ClientConnections {
    connections: usize,
    last_failed_eviction: Option<Instant>,
}

#[derive(Debug)]
struct ConnectionEntry {
    /// Unique over time: another connection may have reused its key.
    number: u64,
    client: IpAddr,
    activity: Arc<ConnectionActivity>,
    state: ConnectionState,
}

#[derive(Debug)]
enum ConnectionState {
    Accepted,
    Begun(AbortHandle),
    /// Evicted: it no longer counts as its client's.
    Closed,
}

/// A connection's permit; released when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    key: usize,
    number: u64,
    pub(crate) activity: Arc<ConnectionActivity>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(MAX_CONNECTIONS, Arc::default())
    }
}

impl Connections {
    /// At most `most`, and fewer where there are not enough file descriptors.
    pub fn new(most: usize, limits: Arc<CounterFamily<Limit>>) -> Self {
        Self::with_places(places(most), limits)
    }

    pub(super) fn with_places(places: usize, limits: Arc<CounterFamily<Limit>>) -> Self {
        let free = Arc::new(Semaphore::new(places));
        let this = Self { places, free, table: Mutex::default(), limits };
        this.apply(0);
        this
    }

    /// Applies `serve.maxConnectionsPerClient` to new connections.
    pub fn apply(&self, per_client: u64) {
        let automatic = (self.places * QUARTERS / 4).max(1);
        let setting = usize::try_from(per_client).unwrap_or(usize::MAX);
        self.table().per_client = if setting == 0 { automatic } else { setting };
    }

    /// Returns the maximum number.
    pub fn places(&self) -> usize {
        self.places
    }

    pub(crate) fn per_client(&self) -> usize {
        self.table().per_client
    }

    /// Returns the limits that were reached lately, without connections closed for others
    /// of their own address.
    pub(crate) fn recent_limits(&self) -> Vec<Limit> {
        let table = self.table();
        let lately = table.reached.values().filter(|(_, at)| at.elapsed() < SHOWN_FOR);
        lately.map(|(limit, _)| *limit).collect()
    }

    /// Writes how many connections there are.
    pub fn encode(&self, page: &mut Exposition) {
        let (mut http, mut upgraded) = (0_usize, 0_usize);
        for (_, connection) in &self.table().connections {
            match connection.activity.is_upgraded() {
                true => upgraded += 1,
                false => http += 1,
            }
        }
        let mut family = page.gauge(
            "edge_mirror_connections",
            "Open connections, by whether they switched from HTTP to another protocol.",
        );
        family.put(&[("protocol", "http")], http);
        family.put(&[("protocol", "upgraded")], upgraded);
    }

    /// Waits for a place for a new connection; None if its address is at its limit.
    pub(super) async fn admit(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let mut place = self.enter(rate_limit_key(address), Instant::now())?;
        place.permit = Some(self.acquire_permit().await);
        Some(place)
    }

    /// From now on it may be closed to make room.
    pub(super) fn mark_evictable(&self, (key, number): (usize, u64), task: AbortHandle) {
        let mut table = self.table();
        let connection = table.connections.get_mut(key);
        if let Some(connection) = connection.filter(|connection| connection.number == number) {
            connection.state = ConnectionState::Begun(task);
        }
    }

    fn enter(self: &Arc<Self>, client: IpAddr, now: Instant) -> Option<ConnectionPermit> {
        let mut table = self.table();
        let of_client = table.clients.entry(client).or_default();
        of_client.connections += 1;
        let is_over = of_client.connections > table.per_client;
        if is_over && !self.make_room(&mut table, Some(client), now) {
            table.leave(client);
            let limit = Limit::ConnectionsPerClient;
            self.limits.inc(limit);
            table.reached.insert(limit.text(), (limit, now));
            return None;
        }
        let activity = Arc::new(ConnectionActivity::new(now));
        table.last_number += 1;
        let (number, state) = (table.last_number, ConnectionState::Accepted);
        let connection = ConnectionEntry { number, client, activity: activity.clone(), state };
        let key = table.connections.insert(connection);
        Some(ConnectionPermit { connections: self.clone(), key, number, activity, permit: None })
    }

    async fn acquire_permit(&self) -> OwnedSemaphorePermit {
        let mut is_noted = false;
        loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                return permit;
            }
            self.make_room(&mut self.table(), None, Instant::now());
            match timeout(LOOK_PAUSE, self.free.clone().acquire_owned()).await {
                Ok(Ok(permit)) => return permit,
                // This semaphore is never closed.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) if is_noted => {}
                Err(_) => {
                    self.note_wait(Instant::now());
                    is_noted = true;
                }
            }
        }
    }

    /// Records that no connection could be closed for a new one.
    fn note_wait(&self, now: Instant) {
        let limit = Limit::Connections;
        self.limits.inc(limit);
        let before = self.table().reached.insert(limit.text(), (limit, now));
        if before.is_none_or(|(_, at)| now.saturating_duration_since(at) >= SHOWN_FOR) {
            warn!("all {} connections are in use and none can be closed: others wait", self.places);
        }
    }

    /// Closes some connections, of one client or of all. Returns false if none could be
    /// closed.
    fn make_room(&self, table: &mut ConnectionTable, client: Option<IpAddr>, now: Instant) -> bool {
        let in_vain = table.last_failed_eviction(client);
        if in_vain.is_some_and(|at| now.saturating_duration_since(at) < LOOK_PAUSE) {
            return false;
        }
        let (limit, chosen) = eviction::choose(
            &table.seen(client, now),
            EvictionLimits {
                idle: 1 + self.places / IDLE_SHARE,
                slow: 1 + self.places / SLOW_SHARE,
            },
        );
        if chosen.is_empty() {
            *table.last_failed_eviction(client) = Some(now);
            return false;
        }
        for key in &chosen {
            // Its place is freed when the task ends, which is at once.
            table.close(*key);
        }
        self.limits.counter(limit).add(chosen.len() as u64);
        if client.is_none() {
            table.reached.insert(limit.text(), (limit, now));
        }
        true
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn seen(&self, of: Option<IpAddr>, now: Instant) -> Vec<ObservedConnection> {
        let begun = self.connections.iter().filter(|(_, connection)| {
            matches!(connection.state, ConnectionState::Begun(_))
                && of.is_none_or(|of| of == connection.client)
        });
        let seen = begun.map(|(key, ConnectionEntry { client, activity, .. })| {
            ObservedConnection { key, client: *client, conduct: activity.conduct(now) }
        });
        seen.collect()
    }

    fn last_failed_eviction(&mut self, client: Option<IpAddr>) -> &mut Option<Instant> {
        match client {
            Some(client) => &mut self.clients.entry(client).or_default().last_failed_eviction,
            None => &mut self.last_failed_eviction,
        }
    }

    fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (client, closed) = (connection.client, &mut connection.state);
        if let ConnectionState::Begun(task) = std::mem::replace(closed, ConnectionState::Closed) {
            task.abort();
        }
        self.leave(client);
    }

    fn remove(&mut self, key: usize) {
        let ConnectionEntry { client, state, .. } = self.connections.remove(key);
        if !matches!(state, ConnectionState::Closed) {
            self.leave(client);
        }
    }

    /// Removes one connection of a client.
    fn leave(&mut self, client: IpAddr) {
        if let Entry::Occupied(mut of_client) = self.clients.entry(client) {
            of_client.get_mut().connections -= 1;
            if of_client.get().connections == 0 {
                of_client.remove();
            }
        }
    }
}

impl ConnectionPermit {
    pub(super) fn number(&self) -> (usize, u64) {
        (self.key, self.number)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.table().remove(self.key);
        drop(self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::tasks::Tasks;
    use futures_util::FutureExt;

    use super::{super::activity::WINDOW, *};

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// A connection that was accepted long ago.
    fn old(
        connections: &Arc<Connections>,
        tasks: &Tasks,
        of: u8,
    ) -> (ConnectionPermit, AbortHandle) {
        accepted(connections, tasks, of, Instant::now().checked_sub(2 * WINDOW).unwrap())
    }

    fn accepted(
        connections: &Arc<Connections>,
        tasks: &Tasks,
        of: u8,
        accepted: Instant,
    ) -> (ConnectionPermit, AbortHandle) {
        let mut place = connections.enter(client(of), accepted).unwrap();
        place.permit = Some(connections.free.clone().try_acquire_owned().unwrap());
        let task = tasks.spawn_for_peer("connection", std::future::pending());
        connections.mark_evictable(place.number(), task.clone());
        (place, task)
    }

    fn with(places: usize) -> Arc<Connections> {
        Arc::new(Connections::with_places(places, Arc::default()))
    }

    #[tokio::test]
    async fn slow_ones_give_way_once_somebody_waits_and_those_that_do_well_do_not() {
        let (connections, tasks) = (with(3), Tasks::new());
        connections.apply(3);
        let long_ago = Instant::now().checked_sub(WINDOW).unwrap();
        let (fast, slow) = (old(&connections, &tasks, 1), old(&connections, &tasks, 1));
        fast.0.activity.begin();
        slow.0.activity.begin();
        slow.0.activity.record_stall(long_ago);
        let last = old(&connections, &tasks, 2);
        last.0.activity.begin();
        last.0.activity.record_stall(long_ago);
        assert_eq!(connections.recent_limits(), [], "nobody waits");
        assert!(connections.admit(client(3)).now_or_never().is_none());
        assert_eq!(connections.recent_limits(), [Limit::SlowConnections]);
        // The runtime does this with an aborted task.
        drop(slow.0);
        assert!(connections.admit(client(3)).now_or_never().is_some());
        tokio::task::yield_now().await;
        let ended = [fast.1, slow.1, last.1].map(|task| task.is_finished());
        assert_eq!(ended, [false, true, false]);
    }

    #[tokio::test]
    async fn who_has_only_just_come_stays_and_a_slow_one_goes() {
        let (connections, tasks) = (with(2), Tasks::new());
        let slow = old(&connections, &tasks, 1);
        slow.0.activity.begin();
        slow.0.activity.record_stall(Instant::now().checked_sub(WINDOW).unwrap());
        let newcomer = accepted(&connections, &tasks, 2, Instant::now());
        assert!(connections.admit(client(3)).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!([newcomer.1, slow.1].map(|task| task.is_finished()), [false, true]);
        assert_eq!(connections.recent_limits(), [Limit::SlowConnections]);
    }

    #[tokio::test]
    async fn one_network_is_one_client_and_three_quarters_is_the_default() {
        let connections = with(8);
        assert_eq!((connections.places(), connections.per_client()), (8, 6));
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let admit = |address| connections.admit(address).now_or_never().flatten();
        let all: Vec<_> = (1..=6).map(|last| admit(address(last)).unwrap()).collect();
        assert!(admit(address(7)).is_none());
        assert!(admit("2001:db8:0:2::1".parse().unwrap()).is_some());
        drop(all);
        assert!(admit(address(7)).is_some());
        connections.apply(1);
        let _one = admit(address(1)).unwrap();
        assert!(admit(address(2)).is_none());
        assert_eq!(connections.limits.counter(Limit::ConnectionsPerClient).get(), 2);
        assert_eq!(connections.table().clients.len(), 1, "nothing is left of the others");
    }
}
