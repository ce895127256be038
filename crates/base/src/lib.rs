//! What every other crate stands on: it knows no meeting, no package and no
//! HTTP.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

/// The only place that creates, renames and removes files.
pub mod atomic;
/// The time of day.
pub mod clock;
/// A value that is read for every request and changes once in a while.
pub mod live;
/// Lines of the log.
pub mod log;
/// What is counted, and the text that Prometheus reads of it.
pub mod metrics;
/// So many bytes per second, shared evenly.
pub mod pacer;
/// Whether a loop still comes round.
pub mod pulse;
/// Sizes, rates and times as people type and read them.
pub mod quantity;
/// What the service manager is told, and asks for.
pub mod systemd;
/// Supervised background tasks and shutdown.
pub mod tasks;
