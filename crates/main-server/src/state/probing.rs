//! The order of probes. Pure.
//!
//! Anybody can register ports that accept and never answer: each such probe takes
//! its whole timeout. So nodes that clients are sent to come first, then new nodes,
//! then those that failed. Within each group, probes go round robin by address,
//! then by the client that registered the node. Strangers' nodes may answer, too,
//! just in time: nodes that answer never take all the room.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use edge_mirror_base::clock::UnixMillis;

/// Probes under way: more than any venue has nodes.
pub(crate) const MAX_PROBES: usize = 256;
/// Per registering client: others keep most of the room.
pub(crate) const MAX_OF_CLIENT: usize = 64;
/// Share of nodes that answered before: others need a probe to become such.
pub(crate) const MAX_OF_REACHED: usize = MAX_PROBES / 4 * 3;
/// Per address: a port belongs to one node.
pub(crate) const MAX_AT_ADDRESS: usize = 2;
/// After an answer, and after a first failure.
const EVERY: Duration = Duration::from_secs(10);
/// Probes a second, of all nodes: with more than a thousand, each is asked less often.
const MAX_A_SECOND: u64 = 100;
/// Each failure doubles the pause up to this: what makes a node unreachable is
/// seldom fixed sooner.
const LONGEST_PAUSE: Duration = Duration::from_secs(80);

/// State of a node by its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeState {
    Reached,
    New,
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DueProbe<'a> {
    pub node_id: &'a str,
    pub address: &'a str,
    /// IPv6 by network; so is the next.
    pub client: IpAddr,
    pub standing: ProbeState,
    pub(crate) due_at: UnixMillis,
}

/// A probe that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActiveProbe<'a> {
    pub address: &'a str,
    pub client: IpAddr,
    /// At the probe's start.
    pub standing: ProbeState,
}

/// Chooses up to `room` probes to begin now, given those that are under way.
pub(crate) fn next<'a>(
    mut due: Vec<DueProbe<'a>>,
    under_way: impl Iterator<Item = ActiveProbe<'a>>,
    room: usize,
) -> Vec<DueProbe<'a>> {
    let (mut of_client, mut at_address) = (HashMap::new(), HashMap::new());
    let mut of_reached = 0;
    for probe in under_way {
        *of_client.entry(probe.client).or_insert(0) += 1;
        *at_address.entry(probe.address).or_insert(0) += 1;
        of_reached += usize::from(probe.standing == ProbeState::Reached);
    }
    due.sort_by(|a, b| (a.standing.cmp(&b.standing)).then(a.due_at.cmp(&b.due_at)));
    let (mut clients, mut addresses) = (of_client.clone(), at_address.clone());
    let mut turns: Vec<((ProbeState, usize, usize), DueProbe<'a>)> = due
        .into_iter()
        .map(|due| {
            let turn = (
                due.standing,
                take_turn(&mut addresses, due.address),
                take_turn(&mut clients, due.client),
            );
            (turn, due)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    let mut begun = Vec::new();
    for (_, due) in turns {
        if begun.len() >= room {
            break;
        }
        let client = of_client.entry(due.client).or_insert(0);
        let address = at_address.entry(due.address).or_insert(0);
        let is_reached = due.standing == ProbeState::Reached;
        if *client < MAX_OF_CLIENT
            && *address < MAX_AT_ADDRESS
            && !(is_reached && of_reached >= MAX_OF_REACHED)
        {
            *client += 1;
            *address += 1;
            of_reached += usize::from(is_reached);
            begun.push(due);
        }
    }
    begun
}

/// Returns the turns before this one.
fn take_turn<K: std::hash::Hash + Eq>(turns: &mut HashMap<K, usize>, who: K) -> usize {
    let turn = turns.entry(who).or_insert(0);
    *turn += 1;
    *turn - 1
}

/// Time from a probe to the next one of the same node, of so many nodes.
pub(crate) fn pause(failures: u32, nodes: usize) -> Duration {
    let every = EVERY.max(Duration::from_secs(nodes as u64 / MAX_A_SECOND));
    let doublings = failures.saturating_sub(1).min(16);
    (every * (1 << doublings)).min(LONGEST_PAUSE.max(every))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn due<'a>(node_id: &'a str, address: &'a str, of: u8, standing: ProbeState) -> DueProbe<'a> {
        DueProbe { node_id, address, client: client(of), standing, due_at: UnixMillis::default() }
    }

    fn probe_of<'a>(due: &DueProbe<'a>) -> ActiveProbe<'a> {
        ActiveProbe { address: due.address, client: due.client, standing: due.standing }
    }

    fn names<'a>(begun: &[DueProbe<'a>]) -> Vec<&'a str> {
        begun.iter().map(|due| due.node_id).collect()
    }

    #[test]
    fn everybodys_first_comes_before_anybodys_second() {
        use ProbeState::{Failing, New, Reached};
        let all = vec![
            due("a", "x:1", 1, Failing),
            due("b", "silent:1", 1, New),
            due("c", "silent:1", 1, New),
            due("d", "silent:1", 1, New),
            due("e", "x:2", 1, New),
            due("f", "y:1", 2, New),
            due("g", "x:3", 1, Reached),
        ];
        // At most two at one address, and d is its third.
        let begun = next(all.clone(), [].into_iter(), 9);
        assert_eq!(names(&begun), ["g", "f", "b", "e", "c", "a"]);
        assert_eq!(names(&next(all.clone(), [].into_iter(), 2)), ["g", "f"]);
        assert_eq!(next(all.clone(), [].into_iter(), 0), []);
        let under_way = [probe_of(&all[1]), probe_of(&all[2])];
        assert_eq!(names(&next(all, under_way.into_iter(), 9)), ["g", "f", "e", "a"]);
    }

    #[test]
    fn each_bound_holds_and_leaves_room_for_others() {
        let addresses: Vec<_> = (0..2 * MAX_PROBES).map(|n| format!("h:{n}")).collect();
        let of = |clients: usize| {
            let each = |n: usize| due("n", &addresses[n], (n % clients) as u8, ProbeState::New);
            (0..addresses.len()).map(each).collect::<Vec<_>>()
        };
        for (clients, begun) in [(1, MAX_OF_CLIENT), (3, 3 * MAX_OF_CLIENT), (8, MAX_PROBES)] {
            let next = next(of(clients), [].into_iter(), MAX_PROBES);
            assert_eq!(next.len(), begun, "{clients} clients");
        }
        for busy in [MAX_OF_CLIENT - 1, MAX_OF_CLIENT, MAX_OF_CLIENT + 1] {
            let (all, room) = (of(1), MAX_PROBES);
            let next = next(all[busy..].to_vec(), all[..busy].iter().map(probe_of), room);
            assert_eq!(next.len(), MAX_OF_CLIENT.saturating_sub(busy), "{busy} under way");
        }
    }

    #[test]
    fn a_failure_doubles_the_pause() {
        let pauses: Vec<_> = (0..8).map(|failures| pause(failures, 1000).as_secs()).collect();
        assert_eq!(pauses, [10, 10, 20, 40, 80, 80, 80, 80]);
        assert_eq!(pause(u32::MAX, 0), LONGEST_PAUSE);
        assert_eq!(pause(0, 10_000).as_secs(), 100, "of many nodes, each is asked less often");
        assert_eq!(pause(9, 10_000).as_secs(), 100);
    }

    #[test]
    fn those_that_answer_leave_room_for_those_that_nobody_has_asked() {
        let addresses: Vec<_> = (0..1200).map(|n| format!("slow:{n}")).collect();
        let each = |n: usize| due("slow", &addresses[n], (n % 4) as u8, ProbeState::Reached);
        let slow: Vec<_> = (0..addresses.len()).map(each).collect();
        let under_way = next(slow.clone(), [].into_iter(), MAX_PROBES);
        assert_eq!(under_way.len(), MAX_OF_REACHED);
        let mut waiting = slow[under_way.len()..].to_vec();
        waiting.push(due("new", "new:1", 99, ProbeState::New));
        let room = MAX_PROBES - under_way.len();
        assert_eq!(names(&next(waiting, under_way.iter().map(probe_of), room)), ["new"]);
    }

    proptest! {
        /// A node at an address of its own is probed in the first round in which
        /// there is room, whatever others register and whether that answers.
        #[test]
        fn a_new_node_at_its_own_address_is_not_held_up(
            others in prop::collection::vec((0_u8..6, 0_usize..900, 0..9000_u64), 0..2000),
            due_ms in 0..9000_u64,
        ) {
            let targets: Vec<_> = (0..900).map(|n| format!("other:{n}")).collect();
            let mut all: Vec<_> = others
                .iter()
                .map(|(of, at, due_ms)| {
                    let standing = if at % 4 == 0 { ProbeState::New } else { ProbeState::Reached };
                    let due = due("other", &targets[*at], *of, standing);
                    DueProbe { due_at: UnixMillis::from_millis(*due_ms), ..due }
                })
                .collect();
            let due_at = UnixMillis::from_millis(due_ms);
            all.push(DueProbe { due_at, ..due("honest", "honest:1", 99, ProbeState::New) });
            let begun = next(all, [].into_iter(), MAX_PROBES);
            let of_new = begun.iter().filter(|due| due.standing == ProbeState::New);
            let at = of_new.into_iter().position(|due| due.node_id == "honest");
            prop_assert!(at.is_some_and(|at| at <= 6), "{at:?} of {}", begun.len());
        }
    }
}
