//! What the benches share: the stage (a folder and processes that are gone at
//! the end, however it ends), the servers, statistics, and the report that
//! BENCHMARKS.md gets.

#![allow(dead_code, reason = "no bench uses everything")]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench sets its scene as it likes, in a folder of its own"
)]

pub mod arguments;
pub mod certificate;
pub mod cost;
pub mod http;
pub mod limits;
pub mod machine;
pub mod markers;
pub mod nginx;
pub mod node;
pub mod packages;
pub mod process;
pub mod quiet;
pub mod report;
pub mod server;
pub mod stage;
pub mod stats;
pub mod storage;
pub mod table;

pub use arguments::Common;
pub use certificate::Certificate;
pub use limits::Limit;
pub use quiet::Patience;
pub use report::Report;
pub use server::{Places, Server};
pub use stage::Stage;
pub use stats::Samples;
pub use table::Table;
