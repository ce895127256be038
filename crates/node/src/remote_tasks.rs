//! Remote tasks: runs what the main server orders, of types that this node's operator has
//! declared or that are built in, and reports how it goes.
//!
//! What is to run is decided by the main server alone; `ledger` compares its orders with
//! what is known here, `worker` carries that out. Nothing runs longer than its lease: `lease`
//! says when that is over. A finished report is on disk (`journal`) until it is taken.

mod built_in;
mod exchange;
mod execution;
mod journal;
mod lease;
mod ledger;
mod offer;
mod output;
mod worker;

pub(crate) use worker::{RemoteTaskWorker, run};
