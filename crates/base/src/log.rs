//! Log lines: their format, the files they go to, rotated by size, and the last
//! ones in memory. Which lines go where is decided in `telemetry`.

mod journal;
pub mod line;
mod rotate;

pub use tracing::Level;

pub use journal::{Journal, JournalEntry};
pub use rotate::{LogError, RotatingFile};

/// Target of lines that the panel does not show, such as a way to log in.
pub const SECRET: &str = "edge_mirror::secret";

/// Target of lines about operators' changes, logged whatever the level is.
pub const AUDIT: &str = "edge_mirror::audit";

/// Names a level as the Python node did.
fn level_text(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

pub fn parse_level(name: &str) -> Option<Level> {
    let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    all.into_iter().find(|level| level_text(*level) == name)
}
