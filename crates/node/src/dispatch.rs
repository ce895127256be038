//! Files that operators send from the main server: learns of tasks, pulls their files,
//! verifies and keeps them, and says how far it is.
//!
//! What has to be done is on the main server alone: after a restart it is asked for again,
//! and compared with the files that are here.

mod drop_folder;
mod error;
mod partial;
mod progress;
mod pull;
mod removal;
mod source;
mod units;
mod waits;
mod worker;

pub(crate) use drop_folder::prepared;
pub(crate) use worker::{DispatchWorker, run};
