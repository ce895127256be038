//! Casts, messages from operators at the main server: asks for those that are for this
//! node, keeps them on disk, and has local consumers follow them.

mod files;
mod history;
mod worker;

pub use history::{CastHistory, FollowedCasts, NodeCast};
pub(crate) use worker::{report_reads, run};
