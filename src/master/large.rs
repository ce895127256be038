//! Large bodies take turns: each is in memory whole before it is read, and
//! anybody on the network can send one.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a node with some dozens of meetings sends needs no turn.
pub const SMALL_BYTES: u64 = 16 << 10;
/// Together as many megabytes; a turn takes milliseconds on a LAN.
const MAX_AT_ONCE: usize = 16;
/// Of one client, so that others keep their turns.
const MAX_OF_CLIENT: usize = 4;

#[derive(Debug)]
pub struct LargeBodies {
    all: Arc<Semaphore>,
    /// Of clients that have one under way, or wait.
    of_clients: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// The right to have a large body in memory.
pub type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Default for LargeBodies {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_AT_ONCE)), of_clients: Mutex::default() }
    }
}

impl LargeBodies {
    /// Waits for it. None does not happen: nobody closes these.
    pub async fn turn(&self, client: IpAddr) -> Option<Turn> {
        let own = self.of_client(client).acquire_owned().await.ok()?;
        let shared = self.all.clone().acquire_owned().await.ok()?;
        Some((own, shared))
    }

    fn of_client(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        // A permit holds its semaphore, and so does who waits for one.
        of_clients.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = of_clients.entry(client);
        turns.or_insert_with(|| Arc::new(Semaphore::new(MAX_OF_CLIENT))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_client_has_few_turns_all_have_some_and_each_is_given_back() {
        let bodies = LargeBodies::default();
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        let turn = |n| bodies.turn(client(n)).now_or_never().flatten();
        let mut of_one: Vec<_> = (0..MAX_OF_CLIENT).map(|_| turn(0).unwrap()).collect();
        assert!(turn(0).is_none());
        let others = MAX_AT_ONCE - MAX_OF_CLIENT;
        let of_others: Vec<_> = (0..others).map(|n| turn(1 + n / 2).unwrap()).collect();
        assert!(turn(99).is_none(), "there are no more in all");
        of_one.pop();
        assert!(turn(99).is_some() && turn(0).is_some());
        drop((of_one, of_others));
        drop(turn(5));
        assert_eq!(bodies.of_clients.lock().unwrap().len(), 1, "nothing is kept of who is gone");
    }
}
