//! The nodes whose requests are held back, by their ids: a cast wakes those that it is for,
//! and costs the others nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::state::destinations::Audience;

/// The request of a node that waits, and what it waits for.
#[derive(Debug, Default)]
pub(crate) struct WaiterSlot {
    /// The number of the first cast for the node, or `BEGUN_ANEW`; 0: none yet.
    first: AtomicI64,
    woken: Notify,
}

/// Stands for a sequence that was set back.
const BEGUN_ANEW: i64 = -1;

impl WaiterSlot {
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// The number that the node goes on from; None if it has to find its place anew.
    pub(crate) fn place(&self) -> Option<i64> {
        match self.first.load(Ordering::Acquire) {
            BEGUN_ANEW => None,
            first => Some(first - 1),
        }
    }

    fn wake(&self, first: i64) {
        self.first.store(first, Ordering::Release);
        self.woken.notify_one();
    }
}

/// The requests that wait. Whoever is woken is not among them any more.
#[derive(Debug, Default)]
pub(crate) struct CastWaiters {
    by_node: HashMap<Arc<str>, Vec<Arc<WaiterSlot>>>,
}

impl CastWaiters {
    pub(crate) fn add(&mut self, node_id: &Arc<str>, slot: Arc<WaiterSlot>) {
        self.by_node.entry(node_id.clone()).or_default().push(slot);
    }

    /// Takes a request out that waits no longer. False if it was woken.
    pub(crate) fn remove(&mut self, node_id: &str, slot: &Arc<WaiterSlot>) -> bool {
        let Some(slots) = self.by_node.get_mut(node_id) else { return false };
        let place = slots.iter().position(|other| Arc::ptr_eq(other, slot));
        place.map(|place| slots.swap_remove(place));
        if slots.is_empty() {
            self.by_node.remove(node_id);
        }
        place.is_some()
    }

    /// Wakes the nodes that a cast with this number is for; returns how many requests.
    pub(crate) fn wake(&mut self, audience: &Audience, seq: i64) -> usize {
        let mut count = 0;
        let mut wake = |slots: &[Arc<WaiterSlot>]| {
            slots.iter().for_each(|slot| slot.wake(seq));
            count += slots.len();
        };
        match audience {
            Audience::All => self.by_node.drain().for_each(|(_, slots)| wake(&slots)),
            Audience::Nodes(ids) if ids.len() < self.by_node.len() => {
                for id in ids {
                    wake(&self.by_node.remove(&**id).unwrap_or_default());
                }
            }
            Audience::Nodes(ids) => self.by_node.retain(|id, slots| {
                let is_meant = ids.contains(&**id);
                if is_meant {
                    wake(slots);
                }
                !is_meant
            }),
        }
        count
    }

    /// Has all find their places anew.
    pub(crate) fn wake_anew(&mut self) {
        for (_, slots) in self.by_node.drain() {
            slots.iter().for_each(|slot| slot.wake(BEGUN_ANEW));
        }
    }

    /// Requests that wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.by_node.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(ids: &[&str]) -> (CastWaiters, Vec<Arc<WaiterSlot>>) {
        let mut waiters = CastWaiters::default();
        let slots = ids.iter().map(|id| {
            let slot = Arc::<WaiterSlot>::default();
            waiters.add(&Arc::from(*id), slot.clone());
            slot
        });
        let slots = slots.collect();
        (waiters, slots)
    }

    /// The number that woke each; 0: it still waits.
    fn woken(slots: &[Arc<WaiterSlot>]) -> Vec<i64> {
        slots.iter().map(|slot| slot.first.load(Ordering::Acquire)).collect()
    }

    #[test]
    fn a_cast_wakes_the_nodes_that_it_is_for_once_and_nobody_else() {
        let (mut waiters, slots) = waiting(&["a", "a", "b", "c", "d"]);
        let to = |ids: &[&str]| Audience::Nodes(ids.iter().map(ToString::to_string).collect());
        assert_eq!(waiters.wake(&to(&["a", "x"]), 5), 2);
        assert_eq!(woken(&slots), [5, 5, 0, 0, 0]);
        waiters.wake(&to(&["a", "c", "v", "w", "x", "y"]), 6);
        assert_eq!(woken(&slots), [5, 5, 0, 6, 0]);
        assert!(!waiters.remove("a", &slots[0]) && waiters.remove("b", &slots[2]));
        waiters.wake(&Audience::All, 7);
        assert_eq!(woken(&slots), [5, 5, 0, 6, 7]);
        assert_eq!((slots[3].place(), waiters.count()), (Some(5), 0));
    }

    #[test]
    fn who_waits_in_a_sequence_that_was_set_back_looks_for_its_place() {
        let (mut waiters, slots) = waiting(&["a"]);
        waiters.wake_anew();
        assert_eq!(slots[0].place(), None);
    }
}
