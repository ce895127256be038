//! The node as an agent of a GoFD server: takes its tasks, pulls their pieces from the one
//! before it in the chain, verifies them, puts the files in place, and lets the next agent
//! pull from here.
//!
//! The server's operator and the folder's are others than those of packages, so nothing of
//! this is in the store.

mod agent;
mod api;
mod files;
mod pull;
mod report;
mod session;
mod worker;

pub(crate) use worker::AgentWorker;
