//! Casts, messages from operators at the main server: asks for those that are for this
//! node, keeps them on disk, has local consumers follow them, and sends those of programs
//! here.

mod files;
mod follower;
mod history;
mod sender;
mod worker;

pub(crate) use follower::{CastFollower, ConsumerEvent};
pub use history::{CastHistory, FollowedCasts, NodeCast};
pub use sender::CastSender;
pub(crate) use sender::UnsentCast;
pub(crate) use worker::{report_reads, run};
