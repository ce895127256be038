//! Chooses a client's node. Pure: random numbers are passed in.

/// The less busy of two drawn at random ("the power of two choices"): nearly as
/// even as picking the least busy, without the stampede when a room of tablets asks
/// between two heartbeats.
///
/// `cost` answers None for one that can't be chosen, which should be rare: the next one is
/// taken then. `draw` answers a number below its argument.
pub(crate) fn choose(
    count: usize,
    cost: impl Fn(usize) -> Option<u64>,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let from = draw(count);
    let all = (0..count).map(|n| (from + n) % count);
    let (first, first_cost) = first_with_cost(all, &cost)?;
    // Among the others, so that two nodes are always compared.
    let among = count - 1;
    let from = if among == 0 { 0 } else { draw(among) };
    let others = (0..among).map(|n| (first + 1 + (from + n) % among) % count);
    let second = first_with_cost(others, &cost).filter(|(_, cost)| *cost < first_cost);
    Some(second.map_or(first, |(second, _)| second))
}

fn first_with_cost(
    mut places: impl Iterator<Item = usize>,
    cost: impl Fn(usize) -> Option<u64>,
) -> Option<(usize, u64)> {
    places.find_map(|place| Some((place, cost(place)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::choose;

    fn chosen(busy: &[Option<u64>], draws: [usize; 2]) -> Option<usize> {
        let mut draws = draws.into_iter();
        choose(busy.len(), |n| busy[n], |below| draws.next().unwrap() % below)
    }

    #[test]
    fn without_a_choice_there_is_none_to_make() {
        assert_eq!(chosen(&[], [1, 2]), None);
        assert_eq!(chosen(&[None; 3], [1, 2]), None);
        assert_eq!(chosen(&[Some(9)], [1, 2]), Some(0));
        assert_eq!(chosen(&[None, Some(9), None], [2, 1]), Some(1));
        assert_eq!(chosen(&[Some(3), Some(1)], [0, 0]), Some(1));
        assert_eq!(chosen(&[Some(3), Some(1)], [1, 7]), Some(1));
    }

    proptest! {
        #[test]
        fn neither_the_one_busiest_node_nor_one_that_is_gone_is_ever_chosen(
            mut busy in prop::collection::vec(prop::option::weighted(0.8, 0_u64..100), 3..20),
            at in any::<prop::sample::Index>(),
            draws in any::<[usize; 2]>(),
        ) {
            let busiest = at.index(busy.len());
            busy[busiest] = Some(100);
            let others = busy.iter().flatten().count() - 1;
            let chosen = chosen(&busy, draws);
            prop_assert!(chosen.is_some_and(|n| busy[n].is_some()));
            prop_assert_eq!(chosen == Some(busiest), others == 0);
        }

        #[test]
        fn every_node_that_is_as_busy_as_the_others_can_be_chosen(count in 1_usize..20, wanted in any::<prop::sample::Index>()) {
            let wanted = wanted.index(count);
            prop_assert_eq!(chosen(&vec![Some(5); count], [wanted, 0]), Some(wanted));
        }

        #[test]
        fn a_room_full_of_clients_spreads_evenly(count in 2_usize..10, seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut busy = vec![0_u64; count];
            for _ in 0..count * 50 {
                let n = choose(count, |n| Some(busy[n]), |below| random.usize(..below)).unwrap();
                busy[n] += 1;
            }
            let spread = busy.iter().max().unwrap() - busy.iter().min().unwrap();
            prop_assert!(spread <= 12, "{:?}", busy);
        }
    }
}
