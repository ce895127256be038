//! What is left for those who can't be let in.

use std::{
    fs::File,
    io,
    net::Shutdown,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::net::TcpListener;

/// A storm must not fill the log with one sentence.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// What a client reads for whom there is no place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// A descriptor kept for the moment when there is no other: with it, those who
/// knock can be told to come back, instead of waiting for nothing, and the
/// loop need not spin over an accept that can't succeed.
#[derive(Debug)]
pub(super) struct Reserve {
    file: Option<File>,
    complained: Option<Instant>,
}

impl Reserve {
    pub(super) fn take() -> Self {
        Self { file: File::open("/dev/null").ok(), complained: None }
    }

    /// Accepts one with the kept descriptor, and closes it with a word.
    pub(super) fn turn_away(&mut self, socket: &TcpListener) -> bool {
        drop(self.file.take());
        let accepted = SockRef::from(socket).accept();
        let turned_away = accepted.is_ok();
        if let Ok((stream, _)) = accepted {
            let _ = stream.set_nonblocking(true);
            refuse(&SockRef::from(&stream));
        }
        self.file = File::open("/dev/null").ok();
        turned_away
    }

    pub(super) fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        let due = self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY);
        if due {
            self.complained = Some(now);
        }
        due
    }
}

/// Tells a client to come back later. It must not wait; who can't take a hundred
/// bytes gets none.
pub(super) fn refuse(stream: &SockRef<'_>) {
    let _ = stream.send(NO_PLACE);
    let _ = stream.shutdown(Shutdown::Write);
}

pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}
