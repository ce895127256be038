//! The real binary: what it says when it can't start, signals, kill -9, a
//! full disk, memory, logs, settings from the environment.

pub(crate) mod disk;
mod environment;
mod kills;
mod logs;
mod memory;
mod options;
mod signals;
mod start;
