//! A server as a process of its own: its cores, its costs.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Stage, process};

const PATIENCE: Duration = Duration::from_secs(120);

/// Ended when dropped.
pub(crate) struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// When it was started.
    pub begun: Instant,
    child: Child,
    log: PathBuf,
    stage: Stage,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub anonymous: u64,
    pub file: u64,
    pub resident: u64,
}

/// The cores to run on; by default all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    /// Number of serving threads or processes.
    pub workers: Option<usize>,
    pub core: Option<usize>,
}

impl Server {
    /// Starts it on this machine's own address, on this core alone if one is given.
    pub(crate) fn start(
        stage: &Stage,
        name: &'static str,
        port: u16,
        core: Option<usize>,
        command: Command,
    ) -> Result<Self> {
        let before = sched_getaffinity(None)?;
        // A child inherits its parent's core: no thread of it ever ran elsewhere.
        if let Some(core) = core {
            pin(core)?;
        }
        let log = stage.folder().join(format!("{name}.log"));
        let server = Self::spawn(stage, name, (Ipv4Addr::LOCALHOST, port).into(), log, command);
        sched_setaffinity(None, &before)?;
        let mut server = server?;
        server.until_it_listens()?;
        Ok(server)
    }

    /// Starts it without waiting for it.
    pub(crate) fn spawn(
        stage: &Stage,
        name: &'static str,
        address: SocketAddr,
        log: PathBuf,
        mut command: Command,
    ) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let begun = Instant::now();
        let child = stage.spawn(command)?;
        Ok(Self { name, address, begun, child, log, stage: stage.clone() })
    }

    pub(crate) fn until_it_listens(&mut self) -> Result<()> {
        self.until("it listens", |server| Ok(TcpStream::connect(server.address).is_ok()))
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.stage.kill(&mut self.child);
    }

    /// Waits for a condition; shows the log on a timeout, or if the process ends.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}:\n{}", self.name, self.log_tail());
            }
            if condition(self)? {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("{}: waited in vain until {what}:\n{}", self.name, self.log_tail());
            }
            // So that a quick start is measured as such.
            let quick = begin.elapsed() < Duration::from_millis(200);
            std::thread::sleep(Duration::from_millis(if quick { 1 } else { 10 }));
        }
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Returns its PID and its children's.
    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        pids.extend(self.children());
        pids
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.child.id();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        list.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Returns seconds of CPU in user and kernel mode so far.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let gone = || format!("{} is gone:\n{}", self.name, self.log_tail());
        self.pids().into_iter().map(|pid| process::cpu_s(pid).with_context(gone)).sum()
    }

    /// Returns how often each of its threads woke up so far.
    pub(crate) fn wakes(&self) -> Result<process::Wakes> {
        let mut wakes = process::Wakes::default();
        for pid in self.pids() {
            wakes.extend(process::wakes(pid)?);
        }
        Ok(wakes)
    }

    /// Returns that of the serving processes: a master that only waits is left out.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let children = self.children();
        let pids = if children.is_empty() { vec![self.child.id()] } else { children };
        let mut memory = Memory::default();
        for pid in pids {
            let bytes = process::memory(pid, &["RssAnon:", "RssFile:", "VmRSS:"])?;
            memory.anonymous += bytes[0];
            memory.file += bytes[1];
            memory.resident += bytes[2];
        }
        Ok(memory)
    }

    /// Returns the bytes it read from disk so far.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.pids() {
            let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
            let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
            bytes += line.and_then(|line| line.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stage.end(&mut self.child);
    }
}

/// Pins the calling thread to this core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
