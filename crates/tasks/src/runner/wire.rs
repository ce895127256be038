//! The stream between the node and the runner: lines of JSON, and after an `Output` line so
//! many bytes of what the program printed. A closed stream means to stop.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use edge_mirror_protocol::remote_tasks::TaskTypeName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MissingLimit;
use crate::BilingualText;

/// The longest line: parameters and input with what escapes them.
pub const MAX_LINE_BYTES: usize = 8 << 20;
/// A request is there at once, and the last line is read at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first line to the runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRequest {
    pub task_type: TaskTypeName,
    pub parameters: Map<String, Value>,
    pub input: Option<Value>,
    /// Base URLs of the main servers and the other nodes.
    pub fleet: Vec<String>,
    /// Less time than the declaration allows.
    pub timeout_s: Option<u64>,
}

/// Lines from the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerMessage {
    Started { missing: Vec<MissingLimit> },
    Output { bytes: usize },
    Ended(RunEnd),
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    pub outcome: RunOutcome,
    pub duration_ms: u64,
    /// The end of what it printed on standard error.
    pub error_tail: String,
    /// Processes that could not be killed.
    pub left: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Nothing was started.
    Refused(BilingualText),
    NotStarted(String),
    Exited(i32),
    Signaled(i32),
    TimedOut,
    Stopped,
    TooMuchOutput,
    TooMuchMemory,
    TooManyProcesses,
    TooMuchCpu,
}

impl RunEnd {
    fn without_run(outcome: RunOutcome) -> Self {
        Self { outcome, duration_ms: 0, error_tail: String::new(), left: 0 }
    }

    pub(super) fn refused(fault: BilingualText) -> Self {
        Self::without_run(RunOutcome::Refused(fault))
    }

    pub(super) fn not_started(reason: &str) -> Self {
        Self::without_run(RunOutcome::NotStarted(reason.to_owned()))
    }
}

/// The runner's end of the stream, and what waits to be written.
pub(super) struct ControlStream {
    stream: OwnedFd,
    waiting: Vec<u8>,
    /// The other side says nothing more, but may still read.
    is_ended: bool,
    /// Nobody reads.
    is_broken: bool,
}

impl ControlStream {
    /// Takes standard input, which is a socket, for both directions.
    pub(super) fn from_stdin() -> io::Result<Self> {
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&stream, true)?;
        Ok(Self { stream, waiting: Vec::new(), is_ended: false, is_broken: false })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Nothing if the stream is closed before a request has come.
    pub(super) fn read_request(&mut self) -> io::Result<Option<RunRequest>> {
        let ends = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        loop {
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                return serde_json::from_slice(&line[..end]).map(Some).map_err(io::Error::other);
            }
            if line.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("the request is too long"));
            }
            if !wait(self.fd(), PollFlags::IN, ends)? {
                return Err(io::Error::other("no request came"));
            }
            if read_some(self.fd(), &mut line)? == Some(0) {
                return Ok(None);
            }
        }
    }

    /// True if the other side has closed the stream. It says nothing else after its request.
    pub(super) fn has_ended(&mut self) -> bool {
        let mut ignored = Vec::new();
        self.is_ended |= match read_some(self.fd(), &mut ignored) {
            Ok(Some(0)) | Err(_) => true,
            Ok(Some(_) | None) => self.is_broken,
        };
        self.is_ended
    }

    /// True while something waits to be written: no more is to be read from the program.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn send(&mut self, message: &RunnerMessage, bytes: &[u8]) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        self.waiting.extend_from_slice(&line);
        self.waiting.extend_from_slice(bytes);
        self.write_some();
    }

    /// Writes what the other side takes now.
    pub(super) fn write_some(&mut self) {
        // Rust ignores SIGPIPE.
        while !self.waiting.is_empty() && !self.is_broken {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.stream, &self.waiting)) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(rustix::io::Errno::WOULDBLOCK) => return,
                Err(_) => self.is_broken = true,
            }
        }
        if self.is_broken {
            self.waiting.clear();
        }
    }

    pub(super) fn send_end(&mut self, end: &RunEnd) -> io::Result<()> {
        self.send(&RunnerMessage::Ended(end.clone()), &[]);
        let ends = Instant::now() + PATIENCE;
        while self.is_busy() && wait(self.fd(), PollFlags::OUT, ends)? {
            self.write_some();
        }
        Ok(())
    }
}

/// Waits until the descriptor is ready; false if the time is over.
pub(super) fn wait(fd: BorrowedFd<'_>, flags: PollFlags, ends: Instant) -> io::Result<bool> {
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Appends what can be read now; none: nothing yet, 0: nothing any more.
pub(super) fn read_some(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut chunk = [0; 32 << 10];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk[..])) {
        Ok(read) => {
            into.extend_from_slice(&chunk[..read]);
            Ok(Some(read))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
