//! Tasks of GoFD's clients. Pure.
//!
//! They are in memory alone and go five minutes after their end, as at GoFD's server. The
//! nodes' part of one is a task of dispatch, which stays.

mod chain;
mod request;
mod table;
mod task;

pub(crate) use chain::{chain_of, silence_limit};
pub(crate) use request::{GofdRefusal, GofdRequest};
pub(crate) use table::{GofdJob, GofdPosting, GofdTable};
pub(crate) use task::{GofdPlace, GofdPlaceKind, GofdTask, PlaceReport};
