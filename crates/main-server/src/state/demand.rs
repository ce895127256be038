//! The number of nodes that the present load wants. Pure: the time is passed in.
//!
//! It follows a rising load within seconds, and a falling one after minutes, and only if a
//! quarter more than the load would still need fewer nodes: whoever starts and stops nodes by
//! it does so once for a load that stays or wanders slowly.

use std::time::Duration;

use edge_mirror_base::clock::UnixMillis;
use serde::Serialize;

use crate::state::MAX_NODES;

/// Percent of CPU or uplink at which a node is well used.
const TARGET_PERCENT: u64 = 60;
/// A load that is higher for so long wants more nodes.
const UP_HOLD: Duration = Duration::from_secs(15);
/// A load that is lower for so long wants fewer.
const DOWN_HOLD: Duration = Duration::from_secs(300);
/// The load counts as so many quarters of itself where nodes are to be given up.
const DOWN_QUARTERS: u64 = 5;
/// After the start, no node is given up that is there: the load is not known yet.
const SETTLE: Duration = Duration::from_secs(60);

/// Limits of the number, and the size of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DemandLimits {
    pub min: u32,
    pub max: u32,
    /// Downloads at a time that a node bears, whatever it says of its CPU and uplink.
    pub downloads_per_node: u32,
}

impl Default for DemandLimits {
    fn default() -> Self {
        Self { min: 1, max: u32::try_from(MAX_NODES).unwrap_or(u32::MAX), downloads_per_node: 100 }
    }
}

/// The load of the nodes that take clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetLoad {
    pub nodes: u32,
    /// Under way, at nodes and from this main server.
    pub downloads: u64,
    /// The sum over nodes of the busier of CPU and uplink, in percent.
    pub work_percent: u64,
}

impl FleetLoad {
    /// The least nodes that bear so many quarters of this load.
    fn nodes_needed(&self, quarters: u64, limits: &DemandLimits) -> u32 {
        let share =
            |load: u64, of_node: u64| load.saturating_mul(quarters).div_ceil(4 * of_node.max(1));
        let by_work = share(self.work_percent, TARGET_PERCENT);
        let by_downloads = share(self.downloads, limits.downloads_per_node.into());
        let needed = u32::try_from(by_work.max(by_downloads)).unwrap_or(u32::MAX);
        needed.max(limits.min).min(limits.max.max(limits.min))
    }
}

/// A difference from the wanted number, and the number that it lasts for.
#[derive(Clone, Copy, Debug)]
struct PendingDemand {
    since: UnixMillis,
    nodes: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct DemandTracker {
    limits: DemandLimits,
    started_at: UnixMillis,
    wanted: u32,
    more: Option<PendingDemand>,
    fewer: Option<PendingDemand>,
}

impl DemandTracker {
    pub(crate) fn new(limits: DemandLimits, now: UnixMillis) -> Self {
        Self { limits, started_at: now, wanted: limits.min, more: None, fewer: None }
    }

    pub(crate) fn set_limits(&mut self, limits: DemandLimits) {
        self.limits = limits;
        self.wanted = self.wanted.max(limits.min).min(limits.max.max(limits.min));
    }

    /// Returns the number of nodes that are wanted now, and the one that the load needs.
    pub(crate) fn update(&mut self, load: &FleetLoad, now: UnixMillis) -> (u32, u32) {
        let needed = load.nodes_needed(4, &self.limits);
        let with_reserve = load.nodes_needed(DOWN_QUARTERS, &self.limits);
        if now.saturating_since(self.started_at) < SETTLE {
            let there = load.nodes.min(self.limits.max.max(self.limits.min));
            self.wanted = self.wanted.max(there);
        }
        // Of what was needed all the time, the least; and of what would do, the most.
        self.more = (needed > self.wanted).then(|| {
            let before = self.more.unwrap_or(PendingDemand { since: now, nodes: needed });
            PendingDemand { nodes: before.nodes.min(needed), ..before }
        });
        self.fewer = (with_reserve < self.wanted).then(|| {
            let before = self.fewer.unwrap_or(PendingDemand { since: now, nodes: with_reserve });
            PendingDemand { nodes: before.nodes.max(with_reserve), ..before }
        });
        let lasts = |pending: Option<PendingDemand>, hold| {
            pending.filter(|pending| now.saturating_since(pending.since) >= hold)
        };
        let due = lasts(self.more, UP_HOLD).or_else(|| lasts(self.fewer, DOWN_HOLD));
        if let Some(due) = due {
            self.wanted = due.nodes;
            (self.more, self.fewer) = (None, None);
        }
        (self.wanted, needed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis::from_secs(seconds)
    }

    fn load(downloads: u64) -> FleetLoad {
        FleetLoad { downloads, ..FleetLoad::default() }
    }

    /// The wanted numbers, each once, while each load lasts for so many seconds.
    fn wanted(limits: DemandLimits, loads: impl IntoIterator<Item = (FleetLoad, u64)>) -> Vec<u32> {
        let (mut tracker, mut now) = (DemandTracker::new(limits, at(0)), 0);
        let mut wanted = Vec::new();
        for (load, seconds) in loads {
            for _ in 0..seconds {
                wanted.push(tracker.update(&load, at(now)).0);
                now += 1;
            }
        }
        wanted.dedup();
        wanted
    }

    fn limits(min: u32, max: u32) -> DemandLimits {
        DemandLimits { min, max, ..DemandLimits::default() }
    }

    #[test]
    fn more_nodes_are_wanted_within_seconds_and_fewer_after_minutes() {
        let busy = [(load(0), 5), (load(450), 20), (load(100), 299), (load(450), 5)];
        assert_eq!(wanted(limits(1, 50), busy), [1, 5], "a short pause gives up nobody");
        let over = [(load(450), 20), (load(100), 302)];
        assert_eq!(wanted(limits(1, 50), over), [1, 5, 2]);
        assert_eq!(wanted(limits(1, 50), [(load(450), 14), (load(0), 500)]), [1], "a short peak");
        assert_eq!(wanted(limits(2, 3), [(load(9999), 30), (load(0), 400)]), [2, 3, 2]);
    }

    #[test]
    fn what_nodes_say_of_their_machines_counts_too() {
        let nodes = |nodes, work_percent| FleetLoad { nodes, work_percent, downloads: 1 };
        assert_eq!(wanted(limits(1, 50), [(nodes(4, 380), 90)]), [4, 7]);
        // After a start, those that are there stay until the load is known.
        assert_eq!(wanted(limits(1, 50), [(nodes(4, 0), 200)]), [4]);
        assert_eq!(wanted(limits(1, 50), [(nodes(4, 0), 400)]), [4, 1]);
    }

    proptest! {
        #[test]
        fn a_load_that_stays_is_answered_once(downloads in 0_u64..5000, min in 0_u32..5, more in 0_u32..50) {
            let limits = limits(min, min + more);
            let wanted = wanted(limits, [(load(downloads), 1500)]);
            prop_assert!(wanted.len() <= 2, "{wanted:?}");
            prop_assert!(wanted.iter().all(|n| (min..=min + more).contains(n)), "{wanted:?}");
        }

        /// By a tenth up and down, however fast and for however long.
        #[test]
        fn a_load_that_wanders_makes_no_node_come_and_go(
            middle in 100_u64..5000,
            steps in prop::collection::vec((-10_i64..=10, 1_u64..400), 1..40),
        ) {
            let steps = steps.into_iter().map(|(percent, seconds)| {
                let downloads = i64::try_from(middle).unwrap() * (100 + percent) / 100;
                (load(u64::try_from(downloads).unwrap()), seconds)
            });
            let wanted = wanted(limits(0, 10_000), steps);
            prop_assert!(wanted.windows(2).all(|pair| pair[0] < pair[1]), "{wanted:?}");
        }

        /// Enough for every load that lasts, and never outside the limits.
        #[test]
        fn a_load_that_lasts_gets_its_nodes(
            loads in prop::collection::vec((0_u64..3000, 20_u64..400), 1..20),
        ) {
            let (mut tracker, mut now) = (DemandTracker::new(limits(1, 20), at(0)), 0);
            for (downloads, seconds) in loads {
                let mut last = (0, 0);
                for _ in 0..seconds {
                    last = tracker.update(&load(downloads), at(now));
                    prop_assert!((1..=20).contains(&last.0));
                    now += 1;
                }
                prop_assert!(last.0 >= last.1, "{last:?}");
            }
        }
    }
}
