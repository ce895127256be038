//! The width of nodes' uplinks, as the progress of their children shows it.
//!
//! A child is held up by its parent if that has [`GAP_BYTES`] more than it. By how much
//! tells the rest: two children that together get what the parent gets mean an uplink
//! no faster than the main server's, and one that gets less a slow one. Only nodes of
//! one site are compared; a line between sites says nothing of either's uplink.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{package::PackageId, relay::PullReport};

use crate::state::relay::{fleet::RelayNode, tree::GAP_BYTES};

/// An uplink was perhaps busy otherwise; then it is tried again.
const MEMORY: Duration = Duration::from_secs(600);
/// Children of a node unless its uplink is known to bear fewer.
const DEGREE: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UplinkWidth {
    /// Less than the node itself gets.
    Slow,
    /// One child.
    Narrow,
    Wide,
}

/// The uplinks that showed what they bear, for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct UplinkMemory {
    widths: BTreeMap<String, (UplinkWidth, UnixMillis)>,
    /// Until then, uplinks count as no faster than the main server's.
    narrow_until: UnixMillis,
}

/// The pulls of one package from one node.
#[derive(Default)]
struct UplinkLoad<'a> {
    children: Vec<(&'a RelayNode<'a>, &'a PullReport)>,
}

impl UplinkMemory {
    pub(crate) fn degree(&self, node: &RelayNode<'_>, now: UnixMillis) -> u32 {
        let children = match self.width(node.node_id, now) {
            Some(UplinkWidth::Slow) => 0,
            Some(UplinkWidth::Narrow) => 1,
            Some(UplinkWidth::Wide) => DEGREE,
            None if now < self.narrow_until => 1,
            None => DEGREE,
        };
        children.min(node.max_children())
    }

    pub(crate) fn width(&self, node_id: &str, now: UnixMillis) -> Option<UplinkWidth> {
        let (width, until) = self.widths.get(node_id)?;
        (now < *until).then_some(*width)
    }

    /// Adds what the nodes' reports show.
    #[must_use]
    pub(crate) fn with_reports(&self, nodes: &[RelayNode<'_>], now: UnixMillis) -> Self {
        let mut memory = self.clone();
        memory.widths.retain(|_, (_, until)| now < *until);
        let by_id: HashMap<_, _> = nodes.iter().map(|node| (node.node_id, node)).collect();
        let mut loads: BTreeMap<(&PackageId, &str), UplinkLoad<'_>> = BTreeMap::new();
        // Reports of a node that fell silent are of the past.
        for child in nodes.iter().filter(|node| node.is_reachable) {
            for pull in child.pulls {
                let parent = pull.parent.as_deref().and_then(|parent| by_id.get(parent));
                if let Some(parent) = parent
                    && parent.report.site == child.report.site
                {
                    let load = loads.entry((&pull.id, parent.node_id)).or_default();
                    load.children.push((child, pull));
                }
            }
        }
        let mut tops: HashMap<&PackageId, u64> = HashMap::new();
        for pull in nodes.iter().flat_map(|node| node.pulls).filter(|pull| pull.parent.is_none()) {
            let top = tops.entry(&pull.id).or_default();
            *top = pull.rate.max(*top);
        }
        for ((id, parent), load) in &loads {
            let top = tops.get(id).copied().unwrap_or(0);
            memory.note_load(by_id[parent], id, load, top, now);
        }
        for child in nodes.iter().filter(|node| node.is_reachable) {
            for pull in child.pulls {
                // Who left several is slow itself, more likely than all of them.
                let [named] = &pull.slow_parents[..] else { continue };
                let Some(parent) = by_id.get(&**named) else { continue };
                let load = loads.get(&(&pull.id, parent.node_id));
                let keeps_up = load.is_some_and(|load| !load.are_all_behind());
                // In a narrow fleet it had too many children.
                let is_explained = keeps_up
                    || now < memory.narrow_until
                    || memory.width(parent.node_id, now).is_some();
                if parent.report.site == child.report.site && !is_explained {
                    memory.note(parent.node_id, UplinkWidth::Slow, now);
                }
            }
        }
        memory
    }

    fn note_load(
        &mut self,
        parent: &RelayNode<'_>,
        id: &PackageId,
        load: &UplinkLoad<'_>,
        top: u64,
        now: UnixMillis,
    ) {
        let Some(own) = parent.pull(id).filter(|pull| pull.rate > 0) else { return };
        let (count, sum) = (load.children.len(), load.rate());
        let is_below =
            |rate: u64, quarters: u64| rate.saturating_mul(4) < own.rate.saturating_mul(quarters);
        if load.are_all_behind() {
            if is_below(sum, 3) {
                self.note(parent.node_id, UplinkWidth::Slow, now);
            } else if count > 1 && is_below(sum, 6) {
                self.note(parent.node_id, UplinkWidth::Narrow, now);
                if own.parent.is_none() {
                    self.narrow_until = now + MEMORY;
                }
            }
            return;
        }
        // Those that lag where another keeps up don't receive faster.
        let laggards = load.children.iter().filter(|(_, pull)| is_behind(pull));
        for (child, _) in laggards.filter(|(_, pull)| is_below(pull.rate, 3)) {
            self.note(child.node_id, UplinkWidth::Slow, now);
        }
        // Against what comes from the main server: a node that gets little itself bears two
        // children however narrow its uplink is.
        let is_wide = top > 0 && sum.saturating_mul(4) >= top.saturating_mul(6);
        if load.children.iter().all(|(_, pull)| !is_behind(pull)) && count > 1 && is_wide {
            self.note(parent.node_id, UplinkWidth::Wide, now);
        }
    }

    fn note(&mut self, node_id: &str, width: UplinkWidth, now: UnixMillis) {
        self.widths.insert(node_id.to_owned(), (width, now + MEMORY));
    }
}

impl UplinkLoad<'_> {
    fn are_all_behind(&self) -> bool {
        self.children.iter().all(|(_, pull)| is_behind(pull))
    }

    fn rate(&self) -> u64 {
        self.children.iter().fold(0, |sum, (_, pull)| sum.saturating_add(pull.rate))
    }
}

fn is_behind(pull: &PullReport) -> bool {
    pull.behind_bytes >= GAP_BYTES
}
