//! The first step: starts the second one and supervises the program that it becomes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::MemfdFlags,
    process::{Pid, PidfdFlags, WaitStatus},
};

use super::{
    CONFINE, MissingLimit, RunEnd, RunOutcome, RunnerMessage, SUBCOMMAND,
    confine::{ConfineReport, ConfinedCommand},
    control_group::ControlGroup,
    descendants,
    wire::{ControlStream, read_some, timespec},
};

/// Interval of looks at what the processes use.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of standard error that are kept.
const TAIL_BYTES: usize = 4096;
/// Threads that the node may have besides those of now; the kernel's count is the last of
/// several limits.
const OTHER_THREADS: u64 = 4096;
/// Killed processes are gone within this time, unless a disk hangs.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs.
struct RunningProgram<'c> {
    control: &'c mut ControlStream,
    command: ConfinedCommand,
    pid: Pid,
    /// Becomes readable when the program has ended; none on kernels before 5.3.
    pidfd: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    group: Option<ControlGroup>,
    unit: bool,
    /// The report of the second step, until its line is whole.
    report: Option<Vec<u8>>,
    output_bytes: u64,
    tail: VecDeque<u8>,
    began: Instant,
    ended: Option<WaitStatus>,
    /// The reason that it was killed.
    verdict: Option<RunOutcome>,
}

/// Runs a command to its end, and leaves no process of it behind.
pub(super) fn run(
    control: &mut ControlStream,
    mut command: ConfinedCommand,
    input: Option<&str>,
    limit_s: u64,
    unit: bool,
) -> io::Result<RunEnd> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let group = if unit { None } else { ControlGroup::create(&command.limits) };
    command.group = group.as_ref().map(ControlGroup::members);
    let user = rustix::process::getuid();
    // The kernel does not count those of root.
    command.user_processes = (!user.is_root()).then(|| {
        // In a unit the user is its own; else others of the user come and go.
        let others = descendants::threads_of_user(user.as_raw());
        let room = if unit { 0 } else { OTHER_THREADS };
        others.saturating_add(command.limits.processes).saturating_add(room)
    });
    let began = Instant::now();
    let mut child = spawn(&command, input)?;
    let pid = Pid::from_child(&child);
    let taken = |fd: Option<OwnedFd>| -> io::Result<Option<OwnedFd>> {
        if let Some(fd) = &fd {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(fd)
    };
    let mut program = RunningProgram {
        output: taken(child.stdout.take().map(OwnedFd::from))?,
        errors: taken(child.stderr.take().map(OwnedFd::from))?,
        pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok(),
        report: Some(Vec::new()),
        output_bytes: 0,
        tail: VecDeque::new(),
        ended: None,
        verdict: None,
        control,
        command,
        pid,
        group,
        unit,
        began,
    };
    let deadline = began.checked_add(Duration::from_secs(limit_s));
    program.watch(deadline)?;
    Ok(program.finish())
}

/// Tells systemd that the runner is not stuck or stopped (sd_notify(3)).
fn feed_watchdog() {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // It runs on without: systemd decides.
    let told = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"WATCHDOG=1", to));
    drop(told);
}

fn spawn(command: &ConfinedCommand, input: Option<&str>) -> io::Result<Child> {
    let memory = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC)?;
    let mut memory = File::from(memory);
    let mut line = serde_json::to_vec(command).map_err(io::Error::other)?;
    line.push(b'\n');
    memory.write_all(&line)?;
    memory.write_all(input.unwrap_or_default().as_bytes())?;
    memory.rewind()?;
    Command::new("/proc/self/exe")
        .args([SUBCOMMAND, CONFINE])
        .stdin(Stdio::from(memory))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

impl RunningProgram<'_> {
    /// Until the program ends or has to.
    fn watch(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let mut looked = Instant::now();
        while self.ended.is_none() && self.verdict.is_none() {
            let now = Instant::now();
            let left = deadline.map_or(LOOK_EVERY, |end| end.saturating_duration_since(now));
            if left.is_zero() {
                self.verdict = Some(RunOutcome::TimedOut);
                break;
            }
            self.wait(left.min(LOOK_EVERY))?;
            self.control.write_some();
            if self.control.has_ended() {
                self.verdict = Some(RunOutcome::Stopped);
                break;
            }
            self.read_errors();
            self.read_output();
            let (ended, _) = descendants::reap(self.pid);
            self.ended = self.ended.or(ended);
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                feed_watchdog();
                self.check_usage();
            }
        }
        Ok(())
    }

    /// Waits until something happens. What the program prints waits in its pipe while the
    /// other side has not taken what came before.
    fn wait(&self, limit: Duration) -> io::Result<()> {
        let is_busy = self.control.is_busy();
        let control = if is_busy { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::from_borrowed_fd(self.control.fd(), control)];
        let output = self.output.as_ref().filter(|_| !is_busy);
        for fd in output.into_iter().chain(&self.errors).chain(&self.pidfd) {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timespec(limit))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_errors(&mut self) {
        let Some(fd) = &self.errors else { return };
        let mut read = Vec::new();
        if let Ok(Some(0)) | Err(_) = read_some(fd.as_fd(), &mut read) {
            self.errors = None;
        }
        self.tail.extend(read);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
    }

    fn read_output(&mut self) {
        if self.control.is_busy() {
            return;
        }
        let Some(fd) = &self.output else { return };
        let mut read = Vec::new();
        if let Ok(Some(0)) | Err(_) = read_some(fd.as_fd(), &mut read) {
            self.output = None;
        }
        let printed = self.after_report(read);
        if printed.is_empty() {
            return;
        }
        self.output_bytes += u64::try_from(printed.len()).unwrap_or(u64::MAX);
        if self.output_bytes > self.command.limits.output_bytes {
            self.verdict = Some(RunOutcome::TooMuchOutput);
            return;
        }
        self.control.send(&RunnerMessage::Output { bytes: printed.len() }, &printed);
    }

    /// The program's part of what was read: the first line is the second step's report.
    fn after_report(&mut self, read: Vec<u8>) -> Vec<u8> {
        let Some(report) = &mut self.report else { return read };
        report.extend(read);
        let Some(end) = report.iter().position(|byte| *byte == b'\n') else { return Vec::new() };
        let printed = report.split_off(end + 1);
        match serde_json::from_slice(report) {
            Ok(ConfineReport::Confined(missing)) => {
                let missing = self.all_missing(missing);
                self.control.send(&RunnerMessage::Started { missing }, &[]);
            }
            Ok(ConfineReport::Failed(reason)) => {
                self.verdict = Some(RunOutcome::NotStarted(reason));
            }
            Err(error) => self.verdict = Some(RunOutcome::NotStarted(error.to_string())),
        }
        self.report = None;
        printed
    }

    /// A group, or the unit, limits what the kernel does not limit for single processes.
    fn all_missing(&self, mut missing: Vec<MissingLimit>) -> Vec<MissingLimit> {
        let is_limited = self.unit || self.group.as_ref().is_some_and(|group| group.is_limited);
        match is_limited {
            true => missing
                .retain(|limit| !matches!(limit, MissingLimit::Processes | MissingLimit::Memory)),
            false => missing.insert(0, MissingLimit::ControlGroup),
        }
        missing
    }

    /// The limits that hold for all processes together.
    fn check_usage(&mut self) {
        let pids = descendants::of(rustix::process::getpid());
        let mut used = descendants::usage(&pids);
        used.cpu_ms = used.cpu_ms.saturating_add(descendants::reaped_cpu_ms());
        let limits = &self.command.limits;
        let memory = || descendants::proportional_memory(&pids) > limits.memory_bytes;
        self.verdict = match () {
            () if used.count > limits.processes => Some(RunOutcome::TooManyProcesses),
            () if used.memory_bytes > limits.memory_bytes && memory() => {
                Some(RunOutcome::TooMuchMemory)
            }
            () if used.cpu_ms > limits.cpu_s.saturating_mul(1000) => Some(RunOutcome::TooMuchCpu),
            () => return,
        };
    }

    /// Kills what is left, and says how it ended.
    fn finish(mut self) -> RunEnd {
        if let Some(group) = &self.group {
            group.kill();
        }
        let (left, ended) = descendants::kill_all(self.pid, KILL_PATIENCE);
        self.ended = self.ended.or(ended);
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Nobody writes any more: what is in the pipe is all there is, 64 KiB at most.
        for _ in 0..4 {
            self.read_errors();
        }
        self.drain_output();
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        let error_tail = String::from_utf8_lossy(&tail).into_owned();
        let outcome = self.verdict.take().unwrap_or_else(|| self.outcome());
        RunEnd { outcome, duration_ms, error_tail, left }
    }

    fn drain_output(&mut self) {
        let ends = Instant::now() + KILL_PATIENCE;
        while self.output.is_some() && self.verdict.is_none() && Instant::now() < ends {
            self.read_output();
            if self.control.is_busy() {
                let _ = super::wire::wait(self.control.fd(), PollFlags::OUT, ends);
                self.control.write_some();
            }
        }
    }

    fn outcome(&self) -> RunOutcome {
        if self.report.is_some() {
            return RunOutcome::NotStarted("the program could not be limited".to_owned());
        }
        // SIGXCPU, and SIGKILL from the kernel at the hard limit, end one that used too much.
        let Some(status) = self.ended else { return RunOutcome::Signaled(0) };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => RunOutcome::Exited(code),
            (None, Some(24)) => RunOutcome::TooMuchCpu,
            (None, signal) => RunOutcome::Signaled(signal.unwrap_or(0)),
        }
    }
}
