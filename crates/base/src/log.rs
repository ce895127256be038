//! Lines of the log: their looks, the files that take them, which are rotated by
//! size, and the last ones in memory. Who writes which where is `telemetry`'s.

mod journal;
pub mod line;
mod rotate;

pub use tracing::Level;

pub use journal::{Entry, Journal};
pub use rotate::{LogError, Rotating};

/// Target of lines that the panel does not show: with a way to log in, say.
pub const SECRET: &str = "edge_mirror::secret";

/// Target of lines about what operators changed, whatever the level is.
pub const AUDIT: &str = "edge_mirror::audit";

/// As the node that this one replaces calls it.
fn said(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

pub fn level_named(name: &str) -> Option<Level> {
    let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    all.into_iter().find(|level| said(*level) == name)
}
