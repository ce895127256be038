//! The real binary: what it says when it can't start, signals, kill -9, a
//! full disk, memory, logs.

pub mod disk;
mod kills;
mod logs;
mod memory;
mod signals;
mod start;
