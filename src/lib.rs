//! edge-mirror: a node that mirrors meeting packages from a main server and
//! serves them to tablets, and a small main server to run it against.
//!
//! The modules in reading order; a module knows only those below it
//! (`tests/it/house.rs` checks the arrows).

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests make the mess that the code has to live with"
    )
)]

/// The roles that run until interrupted: node, main server, demo.
pub mod roles;
/// `edge-mirror install` and `uninstall`.
pub mod install;
/// Shell completions and manual pages.
pub mod manual;
/// `edge-mirror token`.
pub mod token;
/// `edge-mirror bench`: a rehearsal of the storm.
pub mod bench;
/// Operators' commands: get, status, verify and others.
pub mod commands;

/// The command line.
pub mod cli;
/// Output of commands on the terminal.
pub mod terminal;
/// Log outputs and their formats.
pub mod telemetry;
