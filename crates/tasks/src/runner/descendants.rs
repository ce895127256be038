//! All processes below the runner: children's children come to it when their parents die,
//! as it is a subreaper (prctl(2)).

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait,
};

/// The resources that they use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessUsage {
    pub(super) count: u64,
    pub(super) memory_bytes: u64,
    pub(super) cpu_ms: u64,
}

/// A line of /proc/PID/stat.
struct ProcessFigures {
    parent: i32,
    cpu_ticks: u64,
    resident_pages: u64,
}

/// Returns the descendants of a process, itself not among them.
pub(super) fn of(root: Pid) -> Vec<Pid> {
    let mut found: Vec<Pid> = Vec::new();
    let mut next = vec![root];
    let listed = has_children_lists().then_some(());
    let parents = if listed.is_some() { Vec::new() } else { all_parents() };
    while let Some(parent) = next.pop() {
        let children = match listed {
            Some(()) => children_of(parent),
            None => parents
                .iter()
                .filter(|(_, of)| *of == parent.as_raw_nonzero().get())
                .map(|(pid, _)| *pid)
                .collect(),
        };
        for child in children.into_iter().filter_map(Pid::from_raw) {
            if !found.contains(&child) {
                found.push(child);
                next.push(child);
            }
        }
    }
    found
}

/// Kernels without CONFIG_PROC_CHILDREN have none.
fn has_children_lists() -> bool {
    fs::exists("/proc/thread-self/children").unwrap_or(false)
}

fn children_of(parent: Pid) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
    let threads = threads.into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}

fn all_parents() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.parent))).collect()
}

fn stat(pid: i32) -> Option<ProcessFigures> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in parentheses, may have anything; what follows is separated by spaces.
fn parse_stat(line: &str) -> Option<ProcessFigures> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc(5) counts from 1, and the first of these is its third.
    let field = |number: usize| fields.get(number - 3);
    let count = |number: usize| field(number)?.parse::<u64>().ok();
    // Own time and that of children which it has waited for.
    let cpu_ticks = [14, 15, 16, 17].into_iter().filter_map(count).sum();
    Some(ProcessFigures { parent: field(4)?.parse().ok()?, cpu_ticks, resident_pages: count(24)? })
}

pub(super) fn usage(pids: &[Pid]) -> ProcessUsage {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut sum = ProcessUsage::default();
    for stat in pids.iter().filter_map(|pid| stat(pid.as_raw_nonzero().get())) {
        sum.count += 1;
        sum.memory_bytes += stat.resident_pages.saturating_mul(page);
        sum.cpu_ms += stat.cpu_ticks.saturating_mul(1000) / ticks;
    }
    sum
}

/// CPU time of processes that this one has waited for, orphans among them.
pub(super) fn reaped_cpu_ms() -> u64 {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = line.rsplit_once(')').map_or("", |(_, rest)| rest);
    // The 16th and 17th of proc(5), whose third is the first here.
    let times = rest.split_whitespace().skip(13).take(2);
    let sum: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    sum.saturating_mul(1000) / ticks
}

/// Memory with what processes share counted once. It costs more to find out.
pub(super) fn proportional_memory(pids: &[Pid]) -> u64 {
    let of = |pid: &Pid| {
        let text =
            fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    // A program can forbid that: then all that it has mapped counts.
    pids.iter().map(|pid| of(pid).unwrap_or_else(|| usage(&[*pid]).memory_bytes)).sum()
}

/// Threads of all processes of a user, which RLIMIT_NPROC counts.
pub(super) fn threads_of_user(user: u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok())
            && entry.metadata().is_ok_and(|found| found.uid() == user)
    });
    let threads =
        |path: std::path::PathBuf| fs::read_dir(path.join("task")).map_or(0, Iterator::count);
    own.map(|entry| u64::try_from(threads(entry.path())).unwrap_or(0)).sum()
}

/// Reaps what has ended. Returns how the program ended if it is among them, and false if no
/// child is left.
pub(super) fn reap(program: Pid) -> (Option<WaitStatus>, bool) {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => ended = Some(status),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return (ended, true),
            Err(_) => return (ended, false),
        }
    }
}

/// Kills everything below a runner that does not answer, and at last the runner. False if
/// something is left.
pub(crate) fn kill_below(runner: Pid, patience: Duration) -> bool {
    let ends = Instant::now() + patience;
    let is_alive = |pid: &Pid| {
        let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        let text = text.unwrap_or_default();
        let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    };
    let mut is_left = true;
    while is_left && Instant::now() < ends {
        let found: Vec<Pid> = of(runner).into_iter().filter(is_alive).collect();
        is_left = !found.is_empty();
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = kill_process(runner, Signal::KILL);
    !is_left
}

/// Kills the program's group and everything below this process until nothing is left, or
/// the time is over. Returns how many are left, and how the program ended.
pub(super) fn kill_all(program: Pid, patience: Duration) -> (usize, Option<WaitStatus>) {
    let ends = Instant::now() + patience;
    let own = rustix::process::getpid();
    let mut ended = None;
    loop {
        // The kernel signals a group at once, so that no process of it can outrun that by
        // having children. Those that left the group are found one by one.
        let _ = kill_process_group(program, Signal::KILL);
        let found = of(own);
        for pid in &found {
            let _ = kill_process(*pid, Signal::KILL);
        }
        let (status, is_any_left) = reap(program);
        ended = ended.or(status);
        if !is_any_left {
            return (0, ended);
        }
        if Instant::now() >= ends {
            return (of(own).len(), ended);
        }
        std::thread::sleep(Duration::from_millis(if found.len() > 50 { 0 } else { 2 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let line = "42 (a) b (c) S 7 1 1 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 1000 25 18";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.parent, stat.cpu_ticks, stat.resident_pages), (7, 100, 25));
        assert!(parse_stat("42 (a").is_none() && parse_stat("").is_none());
    }

    #[test]
    fn this_process_uses_something_and_has_a_parent() {
        let own = usage(&[rustix::process::getpid()]);
        assert_eq!(own.count, 1);
        assert!(own.memory_bytes > 1 << 16, "{own:?}");
        let parents = all_parents();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(parents.iter().any(|(pid, parent)| *pid == own && *parent > 0));
    }
}
