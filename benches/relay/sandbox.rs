//! A network, a mount table and a process tree of the bench's own: nothing outside is
//! touched, and all of it is gone with the bench, however that ends.

use std::{env, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

/// Set inside of it.
const MARK: &str = "EDGE_MIRROR_BENCH_SANDBOX";
/// In memory, and of the sandbox alone once it is prepared. `ip netns` keeps its names
/// there, too.
const RUN: &str = "/run";

/// Goes on inside of it, in a process that takes this one's place.
pub(crate) fn enter() -> Result<()> {
    if env::var_os(MARK).is_some() {
        return prepare();
    }
    for program in ["unshare", "ip", "tc", "ss"] {
        let found = Command::new(program).arg("-V").output();
        found.with_context(|| format!("{program} is missing (packages util-linux, iproute2)"))?;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--").arg(env::current_exe()?).args(env::args_os().skip(1)).env(MARK, "1");
    Err(command.exec()).context("cannot run unshare")
}

fn prepare() -> Result<()> {
    run("mount", &["-t", "tmpfs", "tmpfs", RUN])
}

/// Returns a new folder in memory: the disks of many machines, which one disk can't be.
/// None if it has no room for so many bytes.
pub(crate) fn memory(bytes: u64) -> Result<Option<PathBuf>> {
    let room = rustix::fs::statvfs(RUN)?;
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let free = (room.f_bavail * room.f_frsize).min(kib.unwrap_or(0) << 10);
    // Buffers, and the processes themselves.
    if bytes > free / 4 * 3 {
        return Ok(None);
    }
    Ok(Some(tempfile::Builder::new().prefix("relay-").tempdir_in(RUN)?.keep()))
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
