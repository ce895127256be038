//! What the benches share: the stage (a folder and processes that are gone at
//! the end, however it ends), the servers, statistics, and the report that
//! BENCHMARKS.md gets.

#![allow(dead_code, reason = "no bench uses everything")]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

pub(crate) mod arguments;
pub(crate) mod certificate;
pub(crate) mod cost;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod markers;
pub(crate) mod nginx;
pub(crate) mod node;
pub(crate) mod packages;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod quiet;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod stage;
pub(crate) mod stats;
pub(crate) mod storage;
pub(crate) mod table;

pub(crate) use arguments::Common;
pub(crate) use certificate::Certificate;
pub(crate) use limits::Limit;
pub(crate) use quiet::Patience;
pub(crate) use report::Report;
pub(crate) use server::{Places, Server};
pub(crate) use stage::Stage;
pub(crate) use stats::Samples;
pub(crate) use table::Table;
