//! Dispatch: files that operators send to nodes, in tasks. Pure.
//!
//! A task waits until its turn, is active while nodes can still get its files, and is
//! finished once each node has an outcome: then nothing of it changes any more, but that
//! its files can be taken back from the nodes.

mod advance;
mod blob_pulls;
pub(crate) mod commands;
mod orders;
mod progress;
mod request;
mod table;
mod task;
mod tree;

pub(crate) use advance::{FleetView, advance};
pub(crate) use blob_pulls::BlobPullTable;
pub(crate) use orders::{DispatchNotice, orders};
pub(crate) use progress::{DeliveryProgress, DispatchProgress};
pub(crate) use request::{DispatchRequest, FileSource, RequestedFile};
pub(crate) use table::{DispatchChange, DispatchTable};
pub(crate) use task::{
    AbsentNodes, DispatchPriority, DispatchTask, FileAccess, FileRemoval, FileRetention,
    NodeOutcome, NodeResult, SenderKey, TaskPhase,
};
pub(crate) use tree::{DeliveryNode, DeliveryTree};

/// Tasks that are kept, finished ones among them: the oldest of those make room.
pub(crate) const MAX_TASKS: usize = 500;
/// Files of all of them: each takes some 200 bytes of memory.
pub(crate) const MAX_ALL_FILES: u64 = 200_000;
