//! The node's side of a run: starts a runner, by systemd's socket or as a child, and reads
//! what it tells.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use edge_mirror_base::tasks;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::runner::{
    self, MAX_LINE_BYTES, RunEnd, RunRequest, RunnerMessage, SUBCOMMAND, kill_below,
};

/// The socket that systemd listens on (`systemd/edge-mirror-task.socket`).
pub const SOCKET: &str = "/run/edge-mirror-task.socket";
/// The folder of declarations that the unit reads.
pub const UNIT_TYPES: &str = "/etc/edge-mirror/tasks.d";
/// The program itself, also after an upgrade has replaced its file.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// A runner that has been told to stop is gone within this time.
const PATIENCE: Duration = Duration::from_secs(15);
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// The most that the runner sends at once.
const MAX_CHUNK: usize = 64 << 10;

/// The way in which runners are started.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// None: always as a child.
    pub socket: Option<PathBuf>,
    pub program: PathBuf,
    pub types: PathBuf,
    pub work: PathBuf,
}

/// By whom a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerKind {
    Unit,
    Child,
}

/// A run under way.
#[derive(Debug)]
pub struct RunStream {
    pub kind: RunnerKind,
    reader: BufReader<OwnedReadHalf>,
    writer: Option<OwnedWriteHalf>,
    /// The part of a line, and of the bytes after it, that has been read.
    line: Vec<u8>,
    wanted: Option<usize>,
    chunk: Vec<u8>,
    child: Option<Child>,
}

/// An event of a run, as the runner tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    Started(Vec<crate::runner::MissingLimit>),
    Output(Vec<u8>),
    Ended(RunEnd),
}

impl Launcher {
    /// Starts a run. The unit has no network, so that types which need it run as a child.
    pub async fn start(&self, request: &RunRequest, network: bool) -> io::Result<RunStream> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        let socket = self.socket.as_ref().filter(|_| !network);
        let (kind, stream, child) = match socket {
            Some(path) => match UnixStream::connect(path).await {
                Ok(stream) => (RunnerKind::Unit, stream, None),
                // Where there is a unit, nothing runs with fewer limits than it has.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.child().await?,
                Err(error) => return Err(error),
            },
            None => self.child().await?,
        };
        let (reader, writer) = stream.into_split();
        let (reader, writer) = (BufReader::new(reader), Some(writer));
        let (read, wanted, chunk) = (Vec::new(), None, Vec::new());
        let mut started = RunStream { kind, reader, writer, line: read, wanted, chunk, child };
        if let Some(writer) = &mut started.writer
            && let Err(error) = writer.write_all(&line).await
        {
            started.close().await;
            return Err(error);
        }
        Ok(started)
    }

    async fn child(&self) -> io::Result<(RunnerKind, UnixStream, Option<Child>)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.arg(SUBCOMMAND).arg("--types").arg(&self.types).arg("--work").arg(&self.work);
        // The node's may have secrets.
        command.env_clear();
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        // Ctrl-C is for the node alone, which then ends its runs.
        command.stderr(Stdio::null()).process_group(0);
        let child = tasks::blocking(move || command.spawn()).await?;
        Ok((RunnerKind::Child, UnixStream::from_std(ours)?, Some(child)))
    }
}

impl RunStream {
    /// Tells the runner to kill everything. It still says how that ended.
    pub fn stop(&mut self) {
        self.writer = None;
    }

    pub fn is_stopped(&self) -> bool {
        self.writer.is_none()
    }

    /// Returns what the runner tells next. Nothing is lost if this is dropped before it ends.
    pub async fn next(&mut self) -> io::Result<RunEvent> {
        loop {
            if let Some(bytes) = self.wanted {
                self.read_chunk(bytes).await?;
                self.wanted = None;
                return Ok(RunEvent::Output(std::mem::take(&mut self.chunk)));
            }
            let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
            (&mut self.reader).take(limit).read_until(b'\n', &mut self.line).await?;
            if !self.line.ends_with(b"\n") || self.line.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("the runner ended without saying how"));
            }
            let line = std::mem::take(&mut self.line);
            match serde_json::from_slice(&line).map_err(io::Error::other)? {
                RunnerMessage::Started { missing } => return Ok(RunEvent::Started(missing)),
                RunnerMessage::Output { bytes } if bytes <= MAX_CHUNK => self.wanted = Some(bytes),
                RunnerMessage::Output { .. } => {
                    return Err(io::Error::other("the runner sent too much"));
                }
                RunnerMessage::Ended(end) => return Ok(RunEvent::Ended(end)),
            }
        }
    }

    async fn read_chunk(&mut self, bytes: usize) -> io::Result<()> {
        while self.chunk.len() < bytes {
            let read = self.reader.fill_buf().await?;
            if read.is_empty() {
                return Err(io::Error::other("the runner ended without saying how"));
            }
            let taken = read.len().min(bytes - self.chunk.len());
            self.chunk.extend_from_slice(&read[..taken]);
            self.reader.consume(taken);
        }
        Ok(())
    }

    /// Kills a runner that does not answer with all that it has started. Nothing for a unit's:
    /// systemd's watchdog does that. False if something may be left.
    pub async fn kill(&mut self) -> bool {
        self.writer = None;
        let Some(child) = &self.child else { return false };
        let runner = rustix::process::Pid::from_child(child);
        tasks::blocking(move || kill_below(runner, KILL_PATIENCE)).await
    }

    /// Waits until the runner is gone; does nothing for a unit's, which systemd ends.
    pub async fn close(mut self) {
        self.writer = None;
        let mut rest = [0; 4096];
        let drained =
            async { while self.reader.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        let _ = tokio::time::timeout(PATIENCE, drained).await;
        if let Some(mut child) = self.child.take() {
            let waited = tasks::blocking(move || child.wait());
            let _ = tokio::time::timeout(PATIENCE, waited).await;
        }
    }
}

/// Removes what runs of an earlier process have left. Blocks.
pub fn sweep(work: &Path) -> io::Result<()> {
    let mut failed = Ok(());
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        failed = failed.and(runner::remove_work(&entry.path()));
    }
    failed
}
