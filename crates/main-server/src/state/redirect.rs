//! Chooses a client's node. Pure: random numbers are passed in.

/// The less busy of two drawn at random ("the power of two choices"): nearly as
/// even as picking the least busy, without the stampede when a room of tablets asks
/// between two heartbeats.
pub(crate) fn choose(busy: &[u64], draws: (u64, u64)) -> Option<usize> {
    let count = busy.len() as u64;
    if count <= 1 {
        return (count == 1).then_some(0);
    }
    let first = draws.0 % count;
    // Among the others, so that two nodes are always compared.
    let second = (first + 1 + draws.1 % (count - 1)) % count;
    let (first, second) = (first as usize, second as usize);
    Some(if busy[second] < busy[first] { second } else { first })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::choose;

    #[test]
    fn without_a_choice_there_is_none_to_make() {
        assert_eq!(choose(&[], (1, 2)), None);
        assert_eq!(choose(&[9], (1, 2)), Some(0));
        assert_eq!(choose(&[3, 1], (0, 0)), Some(1));
        assert_eq!(choose(&[3, 1], (1, 7)), Some(1));
    }

    proptest! {
        #[test]
        fn the_one_busiest_node_is_never_chosen(
            mut busy in prop::collection::vec(0_u64..100, 2..20),
            at in any::<prop::sample::Index>(),
            draws in any::<(u64, u64)>(),
        ) {
            let busiest = at.index(busy.len());
            busy[busiest] = 100;
            let chosen = choose(&busy, draws);
            prop_assert!(chosen.is_some_and(|n| n < busy.len() && n != busiest));
        }

        #[test]
        fn every_node_that_is_as_busy_as_the_others_can_be_chosen(count in 1_usize..20, wanted in any::<prop::sample::Index>()) {
            let wanted = wanted.index(count);
            prop_assert_eq!(choose(&vec![5; count], (wanted as u64, 0)), Some(wanted));
        }

        #[test]
        fn a_room_full_of_clients_spreads_evenly(count in 2_usize..10, seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut busy = vec![0_u64; count];
            for _ in 0..count * 50 {
                let n = choose(&busy, (random.u64(..), random.u64(..))).unwrap();
                busy[n] += 1;
            }
            let spread = busy.iter().max().unwrap() - busy.iter().min().unwrap();
            prop_assert!(spread <= 12, "{:?}", busy);
        }
    }
}
