//! The cost of a server that has little to do.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Server, process, quiet::Watch, server::Memory};

/// Wait after a start, until its work is over.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Share of one core.
    pub core: f64,
    pub wakes_per_s: f64,
    pub memory: Memory,
}

/// Waits for it to settle, and measures it; also returns the share of a core that others
/// used.
pub(crate) fn of(server: &Server, time: Duration) -> Result<(Cost, f64)> {
    std::thread::sleep(SETTLE);
    let ours_s = || anyhow::Ok(server.cpu_s()? + process::all_ours_s()?);
    let (watch, begin) = (Watch::begin()?, Instant::now());
    let before = (server.cpu_s()?, server.wakes()?, ours_s()?);
    std::thread::sleep(time);
    let passed_s = begin.elapsed().as_secs_f64();
    let cost = Cost {
        core: (server.cpu_s()? - before.0) / passed_s,
        wakes_per_s: process::more_wakes(&before.1, &server.wakes()?) as f64 / passed_s,
        memory: server.memory()?,
    };
    Ok((cost, watch.others(ours_s()? - before.2)?))
}
