//! Metrics of this process, under the names that every Prometheus client library
//! uses. Read from `/proc`, which is memory; but there may be thousands of open files
//! to count, so it is not for the runtime's workers.

use std::fs;

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::Exposition;

/// Adds the metrics that can be read.
pub(super) fn encode(page: &mut Exposition) {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(stat) = stat.as_deref().and_then(ProcessStat::of) {
        let ticks = clock_ticks_per_second() as f64;
        page.counter("process_cpu_seconds_total", "Total user and system CPU time in seconds.")
            .put(&[], stat.cpu_ticks as f64 / ticks);
        page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
            .put(&[], stat.resident_pages * page_size() as u64);
        page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
            .put(&[], stat.virtual_bytes);
        if let Some(booted_s) = booted_s() {
            page.gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )
            .put(&[], booted_s as f64 + stat.started_ticks as f64 / ticks);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the one that lists the folder.
        page.gauge("process_open_fds", "Number of open file descriptors.")
            .put(&[], open.count().saturating_sub(1));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.gauge("process_max_fds", "Maximum number of open file descriptors.").put(&[], most);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ProcessStat {
    cpu_ticks: u64,
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl ProcessStat {
    /// Numbers fields as in proc(5).
    fn of(stat: &str) -> Option<Self> {
        // The second field is a name in parentheses, which may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn booted_s() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let rest: Vec<_> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a) S (b) S {}", rest.join(" "));
        let expected = ProcessStat {
            cpu_ticks: 14 + 15,
            started_ticks: 22,
            virtual_bytes: 23,
            resident_pages: 24,
        };
        assert_eq!(ProcessStat::of(&stat), Some(expected));
        assert_eq!(ProcessStat::of("1 (a) S 4 5"), None);
    }
}
