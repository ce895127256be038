//! The steps that tasks take by themselves: their turn comes, nodes drop out, they end.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};

use edge_mirror_base::clock::UnixMillis;

use super::{
    AbsentNodes, DispatchChange, DispatchTable, DispatchTask, NodeOutcome, NodeResult, TaskPhase,
};
use crate::state::fleet::KnownNodes;

/// Nodes that don't confirm the removal of files are waited for as long as this.
const LONGEST_REMOVAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The nodes as far as they count here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetView<'a> {
    pub(crate) known: &'a KnownNodes,
    /// Those that are there and take no files.
    pub(crate) unsupported: &'a BTreeSet<String>,
}

impl FleetView<'_> {
    fn is_known(&self, node_id: &str) -> bool {
        self.known.get(node_id).is_some()
    }

    fn is_present(&self, node_id: &str) -> bool {
        self.known.get(node_id).is_some_and(|node| node.was_present())
    }

    /// The nodes that a task is for, known or not any more.
    fn nodes_of<'a>(&'a self, task: &'a DispatchTask) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match &task.nodes {
            Some(nodes) => Box::new(nodes.iter().map(String::as_str)),
            None => Box::new(self.known.iter().map(|node| &*node.id)),
        }
    }

    fn pending<'a>(&'a self, task: &'a DispatchTask) -> impl Iterator<Item = &'a str> + 'a {
        self.nodes_of(task).filter(|node| !task.results.contains_key(*node))
    }

    /// True while it keeps nodes that are there busy: it counts against the limit.
    fn is_busy(&self, task: &DispatchTask) -> bool {
        task.phase == TaskPhase::Active
            && self
                .pending(task)
                .any(|node| self.is_present(node) && !self.unsupported.contains(node))
    }
}

/// Returns what time and the coming and going of nodes change.
pub(crate) fn advance(
    table: &DispatchTable,
    fleet: FleetView<'_>,
    max_active: usize,
    now: UnixMillis,
) -> Vec<DispatchChange> {
    let mut changed: Vec<DispatchTask> = Vec::new();
    let mut busy = table.iter().filter(|task| fleet.is_busy(task)).count();
    let mut queued: Vec<_> = table.iter().filter(|task| task.phase == TaskPhase::Queued).collect();
    queued.sort_by_key(|task| (Reverse(task.priority), task.id.clone()));
    let mut begun = BTreeSet::new();
    for task in queued {
        // One whose time is over begins, and so ends.
        if busy < max_active || task.deadline <= now {
            begun.insert(&task.id);
            busy += 1;
        }
    }
    for task in table.open_tasks() {
        let mut next = DispatchTask::clone(task);
        if begun.contains(&task.id) {
            (next.phase, next.started_at) = (TaskPhase::Active, Some(now));
        }
        if next.phase == TaskPhase::Active {
            settle_nodes(&mut next, fleet, now);
        }
        end_removal(&mut next, fleet, now);
        if next != **task {
            changed.push(next);
        }
    }
    changed.into_iter().map(|task| DispatchChange::Put(Arc::new(task))).collect()
}

/// Gives nodes that can't or won't get it an outcome, and ends the task if all have one.
fn settle_nodes(task: &mut DispatchTask, fleet: FleetView<'_>, now: UnixMillis) {
    let outcome = |node: &str| {
        let is_over = task.deadline <= now
            || !fleet.is_known(node)
            || (task.absent == AbsentNodes::Skip && !fleet.is_present(node));
        if fleet.unsupported.contains(node) {
            Some(NodeOutcome::Unsupported)
        } else {
            is_over.then_some(NodeOutcome::Missed)
        }
    };
    let settled = fleet.pending(task).filter_map(|node| Some((node.to_owned(), outcome(node)?)));
    let settled: Vec<_> = settled.collect();
    task.results
        .extend(settled.into_iter().map(|(node, outcome)| (node, NodeResult::new(outcome, now))));
    if fleet.pending(task).next().is_none() {
        (task.phase, task.finished_at) = (task.final_phase(), Some(now));
    }
}

/// Ends a removal that nobody is waited for any longer, and the task that it cancels.
fn end_removal(task: &mut DispatchTask, fleet: FleetView<'_>, now: UnixMillis) {
    let Some(removal) = &task.removal else { return };
    if removal.done_at.is_some() {
        return;
    }
    let is_late = now.saturating_since(removal.begun_at) >= LONGEST_REMOVAL;
    let mut nodes = fleet.nodes_of(task);
    // One that took no files for a while, and takes some again, removes those from before.
    let is_able = |node: &str| fleet.is_present(node) && !fleet.unsupported.contains(node);
    let awaited = nodes.any(|node| {
        fleet.is_known(node)
            && (task.awaits_removal(node) || task.orders_removal(node) && is_able(node))
    });
    drop(nodes);
    if awaited && !is_late {
        return;
    }
    if let Some(removal) = &mut task.removal {
        removal.done_at = Some(now);
    }
    if task.phase == TaskPhase::Cancelling {
        (task.phase, task.finished_at) = (TaskPhase::Cancelled, Some(now));
    }
}
