//! Remote tasks: work that nodes run for operators, of types that each node's own operator
//! has declared. Pure.
//!
//! A task is one run on the best of its nodes, one on each of them, or split: its items are
//! cut into parts for several. A part is given to a node with an epoch that only grows, and
//! is on disk before the node is told. What comes of an earlier epoch is kept to look at, and
//! not applied. A part that has an outcome keeps it, and so does a task that is finished.

pub(crate) mod commands;
mod editing;
mod entry;
mod orders;
mod placement;
mod request;
mod schedule;
mod sessions;
mod table;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use entry::TaskEntry;
pub(crate) use orders::{is_current, order_for, orders_for};
pub(crate) use placement::{NodeChoice, OfferedType, WorkerNode, explain, offered_types};
pub(crate) use request::{RemoteTaskRequest, TaskSpread};
pub(crate) use schedule::{Schedule, WorkSpeeds, schedule, with_runs};
pub(crate) use sessions::{ExchangeOrder, NodeSession, SessionTable};
pub(crate) use table::{RemoteChange, RemoteTaskTable, TableTotals};
pub(crate) use task::{
    LateResult, PartEnd, PartOutcome, PartSpan, RemotePart, RemoteTask, RemoteTaskPhase,
    RunAssignment, TaskEnding,
};

/// The main server itself among the nodes, where it may run tasks. Nothing that a node says
/// comes under this name.
pub(crate) const LOCAL_NODE: &str = "(main server)";
/// Tasks that are not finished.
pub(crate) const MAX_OPEN_TASKS: usize = 10_000;
/// Finished ones that are kept: the oldest make room.
pub(crate) const MAX_FINISHED_TASKS: usize = 2_000;
/// Runs of one task, and items of a split one.
pub(crate) const MAX_PARTS: usize = 10_000;
/// Parts of all tasks that are kept.
pub(crate) const MAX_ALL_PARTS: usize = 100_000;
/// Parameters, items and results of all tasks, as JSON.
pub(crate) const MAX_ALL_BYTES: usize = 256 << 20;
/// Results of one task; further ones are left out.
pub(crate) const MAX_TASK_RESULT_BYTES: usize = 8 << 20;
/// Nodes that a part is tried on.
pub(crate) const MAX_TRIES: u32 = 3;
