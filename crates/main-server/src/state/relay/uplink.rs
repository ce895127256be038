//! The width of nodes' uplinks, as the progress of their children shows it.
//!
//! A child is held up by its parent if that has [`GAP_BYTES`] more than it. By how much
//! tells the rest: two children that together get what the parent gets mean an uplink
//! no faster than the main server's, and one that gets less a slow one. Only nodes of
//! one site are compared; a line between sites says nothing of either's uplink.
//!
//! Reports are up to a second old, and rates are of the second before them. So whatever
//! would take a node's children away has to show for a while, and for the same children:
//! one that has just come or gone makes the sum of their rates wrong.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::{package::PackageId, relay::PullReport};

use crate::state::relay::{fleet::RelayNode, tree::GAP_BYTES};

/// An uplink was perhaps busy otherwise; then it is tried again.
const MEMORY: Duration = Duration::from_secs(600);
/// Reports of a load are of its present children alone after this time.
const LOAD_SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Two reports in a row show the same by then.
const SHOWN_FOR: Duration = Duration::from_millis(1200);
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
    /// By package and parent.
    loads: BTreeMap<(PackageId, String), LoadHistory>,
    /// Since when each node shows each sign, by package.
    signs: BTreeMap<(PackageId, String, UplinkSign), UnixMillis>,
}

/// The pulls of one package from one node.
#[derive(Default)]
struct UplinkLoad<'a> {
    children: Vec<(&'a RelayNode<'a>, &'a PullReport)>,
    /// The parent's own.
    own: Option<&'a PullReport>,
    history: LoadHistory,
}

/// The children of a node, and since when they are the same.
#[derive(Clone, Debug, Default)]
struct LoadHistory {
    children: Vec<String>,
    since: UnixMillis,
    /// The last time that one came.
    grown_at: UnixMillis,
    /// The time of the first children.
    begun_at: UnixMillis,
}

/// A sign of the width of a node's uplink, if it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum UplinkSign {
    /// Its children get less than it.
    Children,
    /// It gets less than its parent's other child.
    Itself,
    /// A child left it.
    Abandonment,
    /// Several children get all that it gets.
    KeepsUp,
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
        let widths = self.widths.iter().filter(|(_, (_, until))| now < *until);
        let widths = widths.map(|(node_id, width)| (node_id.clone(), *width)).collect();
        let mut memory = Self { widths, narrow_until: self.narrow_until, ..Self::default() };
        let by_id: HashMap<_, _> = nodes.iter().map(|node| (node.node_id, node)).collect();
        let loads = memory.note_histories(&self.loads, nodes, &by_id, now);
        let mut tops: HashMap<&PackageId, u64> = HashMap::new();
        for pull in nodes.iter().flat_map(|node| node.pulls).filter(|pull| pull.parent.is_none()) {
            let top = tops.entry(&pull.id).or_default();
            *top = pull.rate.max(*top);
        }
        let mut signs = Vec::new();
        for ((id, parent), load) in &loads {
            let top = tops.get(id).copied().unwrap_or(0);
            signs.extend(memory.note_load(by_id[parent], id, load, top, now));
        }
        for child in nodes.iter().filter(|node| node.is_reachable) {
            for pull in child.pulls {
                // Who left several is slow itself, more likely than all of them.
                let [named] = &pull.slow_parents[..] else { continue };
                let parent = by_id.get(&**named);
                if let Some(parent) = parent.filter(|of| of.report.site == child.report.site) {
                    signs.push((&pull.id, parent.node_id, UplinkSign::Abandonment));
                }
            }
        }
        for (id, node_id, sign) in signs {
            let key = (id.clone(), node_id.to_owned(), sign);
            let since = *memory
                .signs
                .entry(key.clone())
                .or_insert_with(|| self.signs.get(&key).copied().unwrap_or(now));
            if now.saturating_since(since) >= SHOWN_FOR {
                memory.conclude(by_id[node_id], id, sign, loads.get(&(id, node_id)), now);
            }
        }
        memory
    }

    /// Returns who pulls from whom, by package and parent, and remembers since when.
    fn note_histories<'a>(
        &mut self,
        before: &BTreeMap<(PackageId, String), LoadHistory>,
        nodes: &'a [RelayNode<'a>],
        by_id: &HashMap<&'a str, &'a RelayNode<'a>>,
        now: UnixMillis,
    ) -> BTreeMap<(&'a PackageId, &'a str), UplinkLoad<'a>> {
        let mut loads: BTreeMap<(&PackageId, &str), UplinkLoad<'_>> = BTreeMap::new();
        for child in nodes.iter().filter(|node| node.is_reachable && node.has_fresh_report()) {
            for pull in child.pulls {
                let parent = pull.parent.as_deref().and_then(|parent| by_id.get(parent));
                if let Some(parent) = parent.filter(|parent| parent.has_fresh_report())
                    && parent.report.site == child.report.site
                {
                    let load = loads.entry((&pull.id, parent.node_id)).or_default();
                    load.own = parent.pull(&pull.id);
                    load.children.push((child, pull));
                }
            }
        }
        // Reports that are late for once make nobody new.
        let pulls = |(id, parent): &(PackageId, String)| {
            by_id.get(&**parent).is_some_and(|parent| parent.pull(id).is_some())
        };
        let known = before.iter().filter(|(key, _)| pulls(key));
        self.loads.extend(known.map(|(key, history)| (key.clone(), history.followed_by(&[], now))));
        for ((id, parent), load) in &mut loads {
            let key = ((*id).clone(), (*parent).to_owned());
            let children: Vec<_> = load.children.iter().map(|(child, _)| child.node_id).collect();
            load.history = match before.get(&key) {
                Some(history) => history.followed_by(&children, now),
                None => LoadHistory::new(&children, now),
            };
            self.loads.insert(key, load.history.clone());
        }
        loads
    }

    /// Notes what a load shows at once, and returns what it shows if it lasts.
    fn note_load<'a>(
        &mut self,
        parent: &RelayNode<'a>,
        id: &'a PackageId,
        load: &UplinkLoad<'a>,
        top: u64,
        now: UnixMillis,
    ) -> Vec<(&'a PackageId, &'a str, UplinkSign)> {
        let Some(own) = parent.pull(id).filter(|pull| pull.rate > 0) else { return Vec::new() };
        let (count, sum) = (load.children.len(), load.rate());
        // So little that no lateness of reports explains it. Who is left alone gets more.
        let has_rates = load.children.iter().all(|(_, pull)| pull.rate > 0);
        let is_far_below = has_rates && load.are_all_behind() && sum.saturating_mul(3) < own.rate;
        if is_far_below && now.saturating_since(load.history.grown_at) >= LOAD_SETTLED_AFTER {
            self.note(parent.node_id, UplinkWidth::Slow, now);
        }
        if now.saturating_since(load.history.since) < LOAD_SETTLED_AFTER {
            return Vec::new();
        }
        if load.are_all_behind() {
            if is_below(sum, own.rate, 3) {
                return vec![(id, parent.node_id, UplinkSign::Children)];
            }
            if count > 1 && is_below(sum, own.rate, 6) && !is_below(sum, own.rate, 3) {
                self.note(parent.node_id, UplinkWidth::Narrow, now);
                if own.parent.is_none() {
                    self.narrow_until = now + MEMORY;
                }
            }
            return Vec::new();
        }
        // Against what comes from the main server: a node that gets little itself bears two
        // children however narrow its uplink is.
        let is_wide = top > 0 && sum.saturating_mul(4) >= top.saturating_mul(6);
        if load.children.iter().all(|child| !load.is_behind(child)) && count > 1 && is_wide {
            return vec![(id, parent.node_id, UplinkSign::KeepsUp)];
        }
        // Those that lag where another keeps up don't receive faster.
        let laggards = load.children.iter().filter(|child| load.is_behind(child));
        laggards
            .filter(|(_, pull)| is_below(pull.rate, own.rate, 3))
            .map(|(child, _)| (id, child.node_id, UplinkSign::Itself))
            .collect()
    }

    /// A sign has lasted.
    fn conclude(
        &mut self,
        node: &RelayNode<'_>,
        id: &PackageId,
        sign: UplinkSign,
        load: Option<&UplinkLoad<'_>>,
        now: UnixMillis,
    ) {
        let width = match (sign, load) {
            (UplinkSign::Children | UplinkSign::Itself, _) => UplinkWidth::Slow,
            (UplinkSign::KeepsUp, _) => UplinkWidth::Wide,
            // In a narrow fleet it had too many children.
            (UplinkSign::Abandonment, _)
                if now < self.narrow_until || self.width(node.node_id, now).is_some() =>
            {
                return;
            }
            (UplinkSign::Abandonment, None) => UplinkWidth::Slow,
            (UplinkSign::Abandonment, Some(load)) if !load.are_all_behind() => return,
            (UplinkSign::Abandonment, Some(load)) => {
                match node.pull(id).is_some_and(|own| is_below(load.rate(), own.rate, 3)) {
                    true => UplinkWidth::Slow,
                    false => UplinkWidth::Narrow,
                }
            }
        };
        self.note(node.node_id, width, now);
    }

    fn note(&mut self, node_id: &str, width: UplinkWidth, now: UnixMillis) {
        self.widths.insert(node_id.to_owned(), (width, now + MEMORY));
    }
}

impl LoadHistory {
    /// Children that begin with their parent have the same time behind them.
    fn new(children: &[&str], now: UnixMillis) -> Self {
        let children = children.iter().map(|&child| child.to_owned()).collect();
        let ever = UnixMillis::default();
        Self { children, since: ever, grown_at: ever, begun_at: now }
    }

    fn followed_by(&self, children: &[&str], now: UnixMillis) -> Self {
        let is_new = |child: &&str| !self.children.iter().any(|known| known == child);
        let is_gone = |child: &String| !children.contains(&&**child);
        let (grows, shrinks) = (children.iter().any(is_new), self.children.iter().any(is_gone));
        let begins = now.saturating_since(self.begun_at) < LOAD_SETTLED_AFTER && !shrinks;
        if begins || !grows && !shrinks {
            return Self {
                children: children.iter().map(|&child| child.to_owned()).collect(),
                ..*self
            };
        }
        let grown_at = if grows { now } else { self.grown_at };
        let begun_at = self.begun_at;
        Self { since: now, grown_at, begun_at, ..Self::new(children, now) }
    }
}

impl UplinkLoad<'_> {
    /// By its own report, or by both positions: it asks its parent once a second, and says
    /// so up to a second later. Since its report, it may have received as fast as the parent.
    fn is_behind(&self, (child, pull): &(&RelayNode<'_>, &PullReport)) -> bool {
        let has = self.own.map_or(0, |own| own.received_bytes);
        let rate = self.own.map_or(0, |own| own.rate).max(pull.rate);
        let behind_bytes = has.saturating_sub(child.position(pull, rate));
        pull.behind_bytes.max(behind_bytes) >= GAP_BYTES
    }

    fn are_all_behind(&self) -> bool {
        self.children.iter().all(|child| self.is_behind(child))
    }

    fn rate(&self) -> u64 {
        self.children.iter().fold(0, |sum, (_, pull)| sum.saturating_add(pull.rate))
    }
}

fn is_below(rate: u64, own: u64, quarters: u64) -> bool {
    rate.saturating_mul(4) < own.saturating_mul(quarters)
}
