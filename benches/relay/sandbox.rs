//! A network, a mount table and a process tree of the bench's own: nothing outside is
//! touched, and all of it is gone with the bench, however that ends.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Set inside of it.
const MARK: &str = "RELAY_BENCH_SANDBOX";
/// In memory, and of the sandbox alone once it is prepared. `ip netns` keeps its names
/// there, too.
const RUN: &str = "/run";

/// Runs the bench inside of it.
pub(crate) fn run_inside(bench: impl FnOnce() -> ExitCode) -> ExitCode {
    let outcome = match env::var_os(MARK) {
        Some(_) => prepare().map(|()| bench()),
        None => run_this_inside(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// Starts this program again inside of it, and waits for it.
fn run_this_inside() -> Result<ExitCode> {
    for program in ["setpriv", "unshare", "ip", "tc", "ss"] {
        let found = Command::new(program).arg("-V").output();
        found.with_context(|| format!("{program} is missing (packages util-linux, iproute2)"))?;
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--kill-child", "--mount-proc"]);
    command.args(["--net", "--mount", "--pid", "--fork"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--").arg(env::current_exe()?).args(env::args_os().skip(1)).env(MARK, "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before it starts: none is missed.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut unshare = Command::spawn(&mut command).context("cannot run setpriv")?;
        let pid = unshare.id();
        let ended = tokio::task::spawn_blocking(move || unshare.wait());
        tokio::pin!(ended);
        loop {
            tokio::select! {
                status = &mut ended => {
                    let code = status??.code().and_then(|code| u8::try_from(code).ok());
                    return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
                }
                _ = interrupt.recv() => pass_on_termination(pid),
                _ = terminate.recv() => pass_on_termination(pid),
            }
        }
    })
}

/// Tells the bench, which is the child of `unshare`; that one hears nothing.
fn pass_on_termination(unshare: u32) {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    for pid in children.unwrap_or_default().split_whitespace() {
        let pid = pid.parse().ok().and_then(Pid::from_raw);
        pid.map(|pid| kill_process(pid, Signal::TERM));
    }
}

fn prepare() -> Result<()> {
    run("mount", &["-t", "tmpfs", "tmpfs", RUN])
}

/// Returns a new folder in memory: the disks of many machines, which one disk can't be.
/// None if it has no room for so many bytes.
pub(crate) fn memory(bytes: u64) -> Result<Option<PathBuf>> {
    let room = rustix::fs::statvfs(RUN)?;
    let info = fs::read_to_string("/proc/meminfo")?;
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
