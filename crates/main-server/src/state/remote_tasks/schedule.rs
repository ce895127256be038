//! Decides which parts are given to which nodes now.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::remote_tasks::{MAX_INPUT_BYTES, RunKey, TaskTypeName};

use super::{
    MAX_ALL_PARTS, PartEnd, PartSpan, RemotePart, RemoteTaskTable, RunAssignment, TaskEntry,
    TaskSpread, WorkerNode,
    commands::NewAssignment,
    placement::{HoldsPackage, is_offered, package_of},
    task::json_bytes,
};

/// Parts that are given out together: they are one transaction.
const MAX_ASSIGNED: usize = 200;
/// Pairs of nodes and types whose speed is kept.
const MAX_SPEEDS: usize = 20_000;
/// The weight of the latest run.
const NEWS: f64 = 0.3;
/// A node gets this share of what it would do of the rest: so all end at about the same time,
/// also where some are slower than they were.
const SHARE_OF_REST: f64 = 0.5;

/// The outcome of one look at the queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) assignments: Vec<NewAssignment>,
    /// Parts that failed, and that no other node can do.
    pub(crate) hopeless: Vec<RunKey>,
}

/// Items per second of a run, by node and type, as they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkSpeeds(HashMap<(String, TaskTypeName), f64>);

impl WorkSpeeds {
    pub(crate) fn note(&mut self, node: &str, name: &TaskTypeName, items: u32, took: Duration) {
        let speed = f64::from(items) / took.as_secs_f64().max(0.001);
        let key = (node.to_owned(), name.clone());
        if self.0.len() >= MAX_SPEEDS && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let known = self.0.entry(key).or_insert(speed);
        *known += NEWS * (speed - *known);
    }

    fn of(&self, node: &WorkerNode, name: &TaskTypeName) -> Option<f64> {
        self.0.get(&(node.id.to_string(), name.clone())).copied()
    }

    /// The node's share of the work of all that can do it.
    fn share(&self, nodes: &[WorkerNode], node: &WorkerNode, entry: &TaskEntry) -> f64 {
        let (task, name) = (&entry.task, &entry.task.task_type);
        let able = nodes.iter().filter(|node| task.may_run_on(&node.id));
        let able: Vec<_> =
            able.filter_map(|node| Some((self.of(node, name), node.offer(name)?.places))).collect();
        let known = able.iter().filter_map(|(speed, _)| *speed);
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), speed| (sum + speed, count + 1.0));
        let mean = if count > 0.0 { sum / count } else { 1.0 };
        let total: f64 =
            able.iter().map(|(speed, places)| speed.unwrap_or(mean) * f64::from(*places)).sum();
        self.of(node, name).unwrap_or(mean) / total.max(f64::MIN_POSITIVE)
    }
}

/// Gives parts to nodes, the first in the queue first. `holds` tells whether a node has a
/// package; without `may_give_up` nodes may be there that are not known of yet.
pub(crate) fn schedule(
    table: &RemoteTaskTable,
    nodes: Vec<WorkerNode>,
    (holds, speeds): (HoldsPackage<'_>, &WorkSpeeds),
    may_give_up: bool,
    now: UnixMillis,
) -> Schedule {
    let due = table.open().filter(|entry| entry.task.is_due(now) && entry.waiting_parts() > 0);
    let mut due: Vec<_> = due.collect();
    due.sort_by_cached_key(|entry| (entry.task.queue_place(), entry.task.id.clone()));
    let room = MAX_ALL_PARTS.saturating_sub(table.open_totals().parts);
    let mut round = ScheduleRound {
        nodes,
        holds,
        speeds,
        may_give_up,
        now,
        room,
        full_types: HashSet::new(),
        found: Schedule::default(),
    };
    for entry in due {
        if round.found.assignments.len() >= MAX_ASSIGNED || !round.has_free_place() {
            break;
        }
        if entry.task.nodes.is_none() && round.full_types.contains(&entry.task.task_type) {
            continue;
        }
        match entry.task.spread {
            TaskSpread::Best => round.place_best(entry),
            TaskSpread::Every => round.place_every(entry),
            TaskSpread::Split => round.place_split(entry),
        }
    }
    round.found
}

struct ScheduleRound<'a> {
    nodes: Vec<WorkerNode>,
    holds: HoldsPackage<'a>,
    speeds: &'a WorkSpeeds,
    may_give_up: bool,
    now: UnixMillis,
    /// New parts of split tasks that there is room for.
    room: usize,
    /// Types that no node has a free place for.
    full_types: HashSet<TaskTypeName>,
    found: Schedule,
}

impl ScheduleRound<'_> {
    fn has_free_place(&self) -> bool {
        self.nodes.iter().any(|node| node.asks && node.running < node.places)
    }

    fn place_best(&mut self, entry: &TaskEntry) {
        let part = entry.part_or_new(0);
        if part.is_waiting() {
            self.place(entry, &part);
        }
    }

    fn place_every(&mut self, entry: &TaskEntry) {
        let Some(meant) = &entry.task.nodes else { return };
        for node in 0..self.nodes.len() {
            let id = self.nodes[node].id.clone();
            let Ok(number) = meant.binary_search_by(|meant| (**meant).cmp(&*id)) else { continue };
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if entry.part(number).is_some_and(|part| !part.is_waiting()) {
                continue;
            }
            let part = entry.part_or_new(number);
            // Another try at the same node would end the same.
            let has_failed = part.failure.as_ref().is_some_and(|last| last.end == PartEnd::Failed);
            if has_failed {
                self.found.hopeless.push(part.run_key());
            } else if self.nodes[node].refusal(&entry.task).is_none() {
                self.assign(node, entry, &part, PartSpan::default());
            }
        }
    }

    fn place_split(&mut self, entry: &TaskEntry) {
        let progress = entry.progress();
        if progress.known > progress.running + progress.settled() {
            for part in entry.parts().filter(|part| part.is_waiting()) {
                self.place(entry, part);
            }
        }
        let (mut uncut, mut number) = (entry.uncut(), entry.next_part());
        while uncut.count > 0 && self.room > 0 && self.found.assignments.len() < MAX_ASSIGNED {
            let Some(node) = self.best(entry, &[]) else { break };
            self.room -= 1;
            let share = self.speeds.share(&self.nodes, &self.nodes[node], entry);
            let count = cut(entry, uncut, share * SHARE_OF_REST);
            let span = PartSpan { first: uncut.first, count };
            self.assign(node, entry, &RemotePart::new(&entry.task.id, number, span), span);
            uncut = PartSpan { first: uncut.first + count, count: uncut.count - count };
            number += 1;
        }
    }

    /// Gives a part to the best node that it was not tried on. One that got lost with its
    /// node may go there again, if no other offers the type; one that failed is hopeless then.
    fn place(&mut self, entry: &TaskEntry, part: &RemotePart) {
        if let Some(node) = self.best(entry, &part.tried) {
            return self.assign(node, entry, part, part.span);
        }
        let Some(failure) = &part.failure else {
            if entry.task.nodes.is_none() {
                self.full_types.insert(entry.task.task_type.clone());
            }
            return;
        };
        let could = |node: &WorkerNode| {
            let is_tried = part.tried.iter().any(|tried| **tried == *node.id);
            !is_tried
                && node.refusal(&entry.task).is_none_or(super::placement::NodeRefusal::is_passing)
        };
        if self.nodes.iter().any(could) {
            return;
        }
        if failure.end == PartEnd::Failed {
            if self.may_give_up {
                self.found.hopeless.push(part.run_key());
            }
        } else if let Some(node) = self.best(entry, &[]) {
            self.assign(node, entry, part, part.span);
        }
    }

    /// The best node that can have a run of a task now.
    fn best(&self, entry: &TaskEntry, without: &[String]) -> Option<usize> {
        let task = &entry.task;
        let is_needless = is_offered(&self.nodes, task);
        let able = self.nodes.iter().enumerate().filter(|(_, node)| {
            node.refusal(task).is_none()
                && !(node.is_local() && is_needless)
                && !without.iter().any(|tried| **tried == *node.id)
        });
        let scored = able.map(|(place, node)| {
            let package = node.offer(&task.task_type).and_then(|offer| package_of(task, offer));
            let held = package.is_some_and(|package| (self.holds)(&node.id, package));
            (node.score(held), std::cmp::Reverse(&node.id), place)
        });
        scored.max().map(|(_, _, place)| place)
    }

    fn assign(&mut self, node: usize, entry: &TaskEntry, part: &RemotePart, span: PartSpan) {
        let node = &mut self.nodes[node];
        let Some(offered) = node.offer(&entry.task.task_type) else { return };
        let to = RunAssignment {
            node: node.id.to_string(),
            boot: node.boot.to_string(),
            at: self.now,
            repeatable: offered.repeatable,
        };
        let key = RunKey { epoch: part.epoch + 1, ..part.run_key() };
        node.take(&entry.task);
        self.found.assignments.push(NewAssignment { key, span, to });
    }
}

/// The number of items of the next part, as many as an input may have.
fn cut(entry: &TaskEntry, uncut: PartSpan, share: f64) -> u32 {
    let meant = (f64::from(uncut.count) * share).ceil().clamp(1.0, f64::from(uncut.count));
    let items = entry.task.items.iter().skip(uncut.first as usize).take(meant as usize);
    let mut bytes = 2;
    let fitting = items.take_while(|item| {
        bytes += json_bytes(item) + 1;
        bytes <= MAX_INPUT_BYTES
    });
    u32::try_from(fitting.count()).unwrap_or(u32::MAX).max(1)
}

/// Returns the nodes with what the table gives to them already.
pub(crate) fn with_runs(table: &RemoteTaskTable, mut nodes: Vec<WorkerNode>) -> Vec<WorkerNode> {
    for node in &mut nodes {
        let Some(runs) = table.runs_of(&node.id) else { continue };
        node.running = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let mut of_types: BTreeMap<TaskTypeName, u32> = BTreeMap::new();
        for (id, _) in runs.iter() {
            if let Some(entry) = table.find(id).map(Arc::as_ref) {
                *of_types.entry(entry.task.task_type.clone()).or_default() += 1;
            }
        }
        node.type_runs = of_types;
    }
    nodes
}
