//! Decides which connections to close while others wait for a place. Pure.

use std::{
    collections::{BinaryHeap, HashMap},
    net::IpAddr,
};

use crate::limits::Limit;

/// A connection's current behavior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionConduct {
    /// No request is being answered.
    Idle { for_us: u64 },
    /// Its client reads or sends below the minimum rate.
    Slow { bytes_per_s: u64 },
    /// It is being sent something, waits for this machine, or is new.
    Busy,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ObservedConnection {
    pub key: usize,
    pub client: IpAddr,
    pub(crate) conduct: ConnectionConduct,
}

/// The most to close at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvictionLimits {
    pub idle: usize,
    pub slow: usize,
}

/// Chooses idle ones first, longest idle first; if there are none, slow ones, slowest
/// first. Each is of the client that has the most connections.
pub(super) fn choose(seen: &[ObservedConnection], most: EvictionLimits) -> (Limit, Vec<usize>) {
    let idle = lowest_ranked(seen, most.idle, |conduct| match conduct {
        ConnectionConduct::Idle { for_us } => Some(u64::MAX - for_us),
        ConnectionConduct::Slow { .. } | ConnectionConduct::Busy => None,
    });
    if !idle.is_empty() {
        return (Limit::IdleConnections, idle);
    }
    let slow = lowest_ranked(seen, most.slow, |conduct| match conduct {
        ConnectionConduct::Slow { bytes_per_s } => Some(bytes_per_s),
        ConnectionConduct::Idle { .. } | ConnectionConduct::Busy => None,
    });
    (Limit::SlowConnections, slow)
}

/// Returns up to `most` connections that have a worth, lowest first.
fn lowest_ranked(
    seen: &[ObservedConnection],
    most: usize,
    worth: impl Fn(ConnectionConduct) -> Option<u64>,
) -> Vec<usize> {
    let mut clients: HashMap<IpAddr, (usize, Vec<(u64, usize)>)> = HashMap::new();
    for ObservedConnection { key, client, conduct } in seen {
        let (count, closable) = clients.entry(*client).or_default();
        *count += 1;
        closable.extend(worth(*conduct).map(|worth| (worth, *key)));
    }
    let mut next = BinaryHeap::new();
    for (client, (count, closable)) in &mut clients {
        closable.sort_unstable_by(|one, other| other.cmp(one));
        next.push((*count, *client));
    }
    let mut chosen = Vec::new();
    while chosen.len() < most
        && let Some((count, client)) = next.pop()
    {
        let closable = clients.get_mut(&client).and_then(|(_, closable)| closable.pop());
        if let Some((_, key)) = closable {
            chosen.push(key);
            next.push((count - 1, client));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(all: &[(usize, u8, ConnectionConduct)]) -> Vec<ObservedConnection> {
        let seen = all.iter().map(|(key, client, conduct)| ObservedConnection {
            key: *key,
            client: [10, 0, 0, *client].into(),
            conduct: *conduct,
        });
        seen.collect()
    }

    #[test]
    fn the_greediest_gives_first_and_of_its_own_the_longest_idle_or_the_slowest() {
        let idle = |for_us| ConnectionConduct::Idle { for_us };
        let slow = |bytes_per_s| ConnectionConduct::Slow { bytes_per_s };
        let busy = ConnectionConduct::Busy;
        for (all, most, expected) in [
            (&[][..], 9, &[][..]),
            (&[(1, 1, busy), (2, 1, busy)], 9, &[]),
            (&[(1, 1, idle(5)), (2, 1, idle(9)), (3, 1, idle(7))], 2, &[2, 3]),
            (&[(1, 1, slow(5)), (2, 1, slow(0)), (3, 1, busy)], 1, &[2]),
            // One that idles for less goes first if its client has more.
            (&[(1, 1, idle(99)), (2, 2, idle(1)), (3, 2, busy)], 1, &[2]),
            (&[(1, 1, idle(99)), (2, 2, idle(1)), (3, 2, busy)], 9, &[2, 1]),
            // Until it has no more than the next one.
            (
                &[(1, 1, idle(1)), (2, 1, idle(2)), (3, 1, idle(3)), (4, 2, idle(9)), (5, 2, busy)],
                3,
                &[3, 4, 2],
            ),
            // The client with most has none to close.
            (&[(1, 1, busy), (2, 1, busy), (3, 2, slow(3))], 9, &[3]),
            // A slow one stays as long as there is an idle one.
            (&[(1, 1, slow(0)), (2, 1, slow(0)), (3, 2, idle(0))], 9, &[3]),
        ] {
            let most = EvictionLimits { idle: most, slow: most };
            assert_eq!(choose(&seen(all), most).1, expected, "{all:?}");
        }
    }
}
