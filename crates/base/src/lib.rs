//! Foundation of the other crates. Knows no meetings, no packages and no HTTP.

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
/// Pauses between tries.
pub mod backoff;
/// The time of day.
pub mod clock;
/// A value that is read for every request and rarely changes.
pub mod live;
/// Log lines and files.
pub mod log;
/// Counters, and their text for Prometheus.
pub mod metrics;
/// A rate limit that streams share evenly.
pub mod pacer;
/// Liveness of a loop.
pub mod liveness;
/// Sizes, rates and times as people type and read them.
pub mod quantity;
/// Notifications to the service manager, and SIGHUP.
pub mod systemd;
/// Supervised background tasks and shutdown.
pub mod tasks;
