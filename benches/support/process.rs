//! Processes according to Linux: proc(5).

use std::{collections::HashMap, fs};

use anyhow::{Context, Result};

/// Fields of `/proc/PID/stat`, counted from behind the name.
const PARENT: usize = 1;
const OWN: std::ops::Range<usize> = 11..13;
const WITH_ENDED_CHILDREN: std::ops::Range<usize> = 11..15;
/// The PID of kthreadd, the parent of kernel threads.
const KERNEL: &str = "2";

/// Returns seconds of CPU in user and kernel mode so far.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    Ok(seconds(&stat(&pid.to_string())?, OWN))
}

/// Includes this process and its children that ended.
pub(crate) fn all_ours_s() -> Result<f64> {
    Ok(seconds(&stat("self")?, WITH_ENDED_CHILDREN))
}

/// Returns the CPU time of this process and of all that it started, directly or not, whether
/// they run or have ended.
pub(crate) fn process_tree_s() -> Result<f64> {
    let processes = fs::read_dir("/proc")?.flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    // Processes that end meanwhile are their parents'.
    let stats: HashMap<String, Vec<String>> =
        names.filter_map(|pid| Some((pid.clone(), stat(&pid).ok()?))).collect();
    let own = std::process::id().to_string();
    let parent = |pid: &str| stats.get(pid).map(|stat| &*stat[PARENT]);
    let is_ours = |pid: &str| {
        // As deep as a tree of processes ever is.
        let mut line = std::iter::successors(Some(pid), |pid| parent(pid)).take(64);
        line.any(|pid| pid == own)
    };
    let ours = stats.iter().filter(|(pid, _)| is_ours(pid));
    Ok(ours.map(|(_, stat)| seconds(stat, WITH_ENDED_CHILDREN)).sum())
}

/// CPU time of kernel threads: they do the writing for processes that write a lot.
pub(crate) fn kernel_threads_s() -> Result<f64> {
    let processes = fs::read_dir("/proc")?.flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let stats = names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    // Ended processes are left out.
    let stats = stats.filter_map(|pid| stat(&pid).ok());
    Ok(stats.filter(|stat| stat[PARENT] == KERNEL).map(|stat| seconds(&stat, OWN)).sum())
}

/// Returns how often each of its threads went to sleep, and so woke up.
pub(crate) fn wakes(pid: u32) -> Result<Wakes> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    let wakes = tasks.filter_map(|task| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        Some((figure(&status, "Pid:"), figure(&status, "voluntary_ctxt_switches:")))
    });
    Ok(wakes.collect())
}

/// Keyed by thread: one that ended takes its count with it.
pub(crate) type Wakes = HashMap<u64, u64>;

/// Returns the difference, without threads that ended meanwhile.
pub(crate) fn more_wakes(before: &Wakes, now: &Wakes) -> u64 {
    now.iter().map(|(thread, wakes)| wakes - before.get(thread).unwrap_or(&0).min(wakes)).sum()
}

/// Returns bytes of memory, by names in `/proc/PID/status`.
pub(crate) fn memory(pid: u32, names: &[&str]) -> Result<Vec<u64>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(names.iter().map(|name| figure(&status, name) << 10).collect())
}

fn figure(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn stat(pid: &str) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    Ok(fields.split_whitespace().map(ToOwned::to_owned).collect())
}

fn seconds(stat: &[String], fields: std::ops::Range<usize>) -> f64 {
    let ticks = stat[fields].iter().filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
