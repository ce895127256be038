//! Choice of objects to evict. Pure: no disk and no clock.

use edge_mirror_protocol::{object::ObjectKey, package::PackageId};

use super::StoredPackage;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionCandidate {
    pub key: ObjectKey,
    pub size_bytes: u64,
    /// Last time it was served, or else pulled.
    pub last_used_s: u64,
    /// Kept, whatever room is needed: its meeting is active, or its class says so.
    pub retained: bool,
    /// Its meeting is to start: it goes only after all others that may go.
    pub is_prestaged: bool,
}

impl EvictionCandidate {
    pub fn new(
        stored: &StoredPackage,
        is_active: impl FnOnce(&PackageId) -> bool,
        is_prestaged: bool,
        now_s: u64,
    ) -> Self {
        let manifest = &stored.manifest;
        let is_active = manifest.key.package().is_some_and(is_active);
        Self {
            key: manifest.key.clone(),
            size_bytes: manifest.size_bytes,
            last_used_s: stored.last_served_s().unwrap_or(0).max(manifest.verified_s),
            retained: !manifest.retention.allows_eviction(is_active, now_s),
            is_prestaged,
        }
    }
}

/// Selects objects to evict, least recently used first and those of meetings that have
/// not been started last, until `excess_bytes` are freed.
/// Retained ones are never evicted.
pub fn choose_evictions(candidates: &[EvictionCandidate], excess_bytes: u64) -> Vec<ObjectKey> {
    let mut evictable: Vec<_> = candidates.iter().filter(|c| !c.retained).collect();
    evictable.sort_by_key(|c| (c.is_prestaged, c.last_used_s, c.key.clone()));
    let mut freed = 0_u64;
    evictable
        .into_iter()
        .take_while(|candidate| {
            let needed = freed < excess_bytes;
            freed = freed.saturating_add(candidate.size_bytes);
            needed
        })
        .map(|candidate| candidate.key.clone())
        .collect()
}

/// Returns how much to free: nothing until use has passed `max_bytes × threshold`, then
/// all down to a tenth below it.
pub fn excess(used_bytes: u64, max_bytes: u64, threshold: f64) -> u64 {
    // f64 is exact to 2^53, the largest size that a setting can have.
    let begins = max_bytes as f64 * threshold;
    let used = used_bytes as f64;
    if used > begins { (used - begins * 0.9).ceil() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(n: usize, size_bytes: u64, last_used_s: u64, retained: bool) -> EvictionCandidate {
        let key = format!("m{n}").parse().unwrap();
        EvictionCandidate { key, size_bytes, last_used_s, retained, is_prestaged: false }
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_needed() {
        let all = [
            candidate(1, 10, 300, false),
            candidate(2, 10, 100, false),
            candidate(3, 10, 50, true),
            candidate(4, 10, 200, false),
        ];
        let names = |excess| {
            choose_evictions(&all, excess).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(0), Vec::<String>::new());
        assert_eq!(names(1), ["m2"]);
        assert_eq!(names(10), ["m2"]);
        assert_eq!(names(11), ["m2", "m4"]);
        assert_eq!(names(1000), ["m2", "m4", "m1"]);
    }

    #[test]
    fn what_waits_for_its_start_goes_last() {
        let waiting = EvictionCandidate { is_prestaged: true, ..candidate(1, 10, 1, false) };
        let ended = candidate(2, 10, 900, false);
        let gone = |excess| choose_evictions(&[waiting.clone(), ended.clone()], excess);
        assert_eq!(gone(10), std::slice::from_ref(&ended.key));
        assert_eq!(gone(11), [ended.key.clone(), waiting.key.clone()]);
    }

    #[test]
    fn use_comes_down_to_a_tenth_below_the_threshold() {
        assert_eq!(excess(900, 1000, 0.9), 0);
        assert_eq!(excess(901, 1000, 0.9), 91);
        assert_eq!(excess(1000, 1000, 1.0), 0);
        assert_eq!(excess(1001, 1000, 1.0), 101);
    }

    proptest! {
        #[test]
        fn retained_objects_stay_and_enough_goes_where_there_is_enough(
            items in prop::collection::vec((1_u64..1000, 0_u64..50, any::<bool>()), 0..30),
            wanted in 0_u64..5000,
        ) {
            let all: Vec<_> = items.iter().enumerate()
                .map(|(n, (size, used, retained))| candidate(n, *size, *used, *retained)).collect();
            let gone = choose_evictions(&all, wanted);
            let of = |key: &ObjectKey| all.iter().find(|c| c.key == *key).unwrap();
            prop_assert!(gone.iter().all(|key| !of(key).retained));
            let freed: u64 = gone.iter().map(|key| of(key).size_bytes).sum();
            let evictable: u64 = all.iter().filter(|c| !c.retained).map(|c| c.size_bytes).sum();
            prop_assert!(freed >= wanted.min(evictable));
            if let Some((_, before)) = gone.split_last() {
                let without_last: u64 = before.iter().map(|key| of(key).size_bytes).sum();
                prop_assert!(without_last < wanted);
            }
        }
    }
}
