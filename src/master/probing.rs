//! Whose probe begins next. Pure.
//!
//! Anybody can register, at ports that accept and never answer: each such probe
//! takes its whole time. So those that clients are sent to come first, then
//! those that nobody has asked yet, then those that failed; and among them
//! everybody's first before anybody's second, where a body is first who answers
//! at one address, then who registered it.

use std::{collections::HashMap, net::IpAddr};

/// Under way at a time: more than any venue has nodes.
pub const MAX_PROBES: usize = 256;
/// Of those that one client registered: others keep most of the room.
pub const MAX_OF_CLIENT: usize = 64;
/// At one address: a port is one node's.
pub const MAX_AT_ADDRESS: usize = 2;
/// Of one that answers, and after a first failure.
const EVERY_S: f64 = 10.0;
/// A failure doubles the pause up to this: what keeps somebody from being
/// reached is seldom put right sooner.
const LONGEST_PAUSE_S: f64 = 80.0;

/// What is known of a node by its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Reached,
    New,
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due<'a> {
    pub node_id: &'a str,
    pub address: &'a str,
    pub client: IpAddr,
    pub standing: Standing,
    pub due_s: f64,
}

/// Up to `room` whose probes begin now, given the clients and addresses of those
/// that are under way.
pub fn next<'a>(
    mut due: Vec<Due<'a>>,
    under_way: impl Iterator<Item = (IpAddr, &'a str)>,
    room: usize,
) -> Vec<Due<'a>> {
    let (mut of_client, mut at_address) = (HashMap::new(), HashMap::new());
    for (client, address) in under_way {
        *of_client.entry(client).or_insert(0) += 1;
        *at_address.entry(address).or_insert(0) += 1;
    }
    due.sort_by(|a, b| (a.standing.cmp(&b.standing)).then(a.due_s.total_cmp(&b.due_s)));
    let (mut clients, mut addresses) = (of_client.clone(), at_address.clone());
    let mut turns: Vec<((Standing, usize, usize), Due<'a>)> = due
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
        if *client < MAX_OF_CLIENT && *address < MAX_AT_ADDRESS {
            *client += 1;
            *address += 1;
            begun.push(due);
        }
    }
    begun
}

/// How many had theirs before.
fn take_turn<K: std::hash::Hash + Eq>(turns: &mut HashMap<K, usize>, who: K) -> usize {
    let turn = turns.entry(who).or_insert(0);
    *turn += 1;
    *turn - 1
}

/// How long after a probe the next one is due.
pub fn pause_s(failures: u32) -> f64 {
    let doublings = failures.saturating_sub(1).min(16);
    (EVERY_S * f64::from(1_u32 << doublings)).min(LONGEST_PAUSE_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn due<'a>(node_id: &'a str, address: &'a str, of: u8, standing: Standing) -> Due<'a> {
        Due { node_id, address, client: client(of), standing, due_s: 0.0 }
    }

    fn names<'a>(begun: &[Due<'a>]) -> Vec<&'a str> {
        begun.iter().map(|due| due.node_id).collect()
    }

    #[test]
    fn everybodys_first_comes_before_anybodys_second() {
        use Standing::{Failing, New, Reached};
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
        let under_way = [(client(1), "silent:1"), (client(1), "silent:1")];
        assert_eq!(names(&next(all, under_way.into_iter(), 9)), ["g", "f", "e", "a"]);
    }

    #[test]
    fn each_bound_holds_and_leaves_room_for_others() {
        let addresses: Vec<_> = (0..2 * MAX_PROBES).map(|n| format!("h:{n}")).collect();
        let of = |clients: usize| {
            let each = |n: usize| due("n", &addresses[n], (n % clients) as u8, Standing::New);
            (0..addresses.len()).map(each).collect::<Vec<_>>()
        };
        for (clients, begun) in [(1, MAX_OF_CLIENT), (3, 3 * MAX_OF_CLIENT), (8, MAX_PROBES)] {
            let next = next(of(clients), [].into_iter(), MAX_PROBES);
            assert_eq!(next.len(), begun, "{clients} clients");
        }
        for busy in [MAX_OF_CLIENT - 1, MAX_OF_CLIENT, MAX_OF_CLIENT + 1] {
            let under_way = (0..busy).map(|n| (client(0), &*addresses[n]));
            let next = next(of(1)[busy..].to_vec(), under_way, MAX_PROBES);
            assert_eq!(next.len(), MAX_OF_CLIENT.saturating_sub(busy), "{busy} under way");
        }
    }

    #[test]
    fn a_failure_doubles_the_pause() {
        let pauses: Vec<_> = (0..8).map(pause_s).collect();
        assert_eq!(pauses, [10.0, 10.0, 20.0, 40.0, 80.0, 80.0, 80.0, 80.0]);
        assert_eq!(pause_s(u32::MAX), LONGEST_PAUSE_S);
    }

    proptest! {
        /// Whatever others register: who comes from an address of its own is asked
        /// in the first round in which there is room.
        #[test]
        fn a_new_node_at_its_own_address_is_not_held_up(
            others in prop::collection::vec((0_u8..3, 0_u8..5, 0.0..9.0), 0..2000),
            due_s in 0.0..9.0,
        ) {
            let targets: Vec<_> = (0..5).map(|n| format!("silent:{n}")).collect();
            let mut all: Vec<_> = others
                .iter()
                .map(|(of, at, due_s)| {
                    let due = due("other", &targets[usize::from(*at)], *of, Standing::New);
                    Due { due_s: *due_s, ..due }
                })
                .collect();
            all.push(Due { due_s, ..due("honest", "honest:1", 99, Standing::New) });
            let begun = next(all, [].into_iter(), MAX_PROBES);
            let at = begun.iter().position(|due| due.node_id == "honest");
            prop_assert!(at.is_some_and(|at| at <= 5), "{at:?} of {}", begun.len());
        }
    }
}
