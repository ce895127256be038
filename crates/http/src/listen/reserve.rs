//! What is left for those who can't be let in.

use std::{
    fs::File,
    io,
    net::Shutdown,
    sync::Arc,
    time::{Duration, Instant},
};

use edge_mirror_base::tasks::Tasks;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// A storm must not fill the log with one sentence.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// What a client reads for whom there is no place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";
/// For the request of a client that is refused to arrive.
const LINGER: Duration = Duration::from_secs(1);
/// So many are waited for at a time: each holds a descriptor.
const MAX_LINGERING: usize = 64;

/// A descriptor kept for the moment when there is no other: with it, those who
/// knock can be told to come back, instead of waiting for nothing, and the
/// loop need not spin over an accept that can't succeed.
pub(super) struct Reserve {
    file: Option<File>,
    complained: Option<Instant>,
    lingering: Arc<Semaphore>,
    tasks: Tasks,
}

impl Reserve {
    pub(super) fn take(tasks: &Tasks) -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            complained: None,
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            tasks: tasks.clone(),
        }
    }

    /// Accepts one with the kept descriptor, and closes it with a word.
    pub(super) fn turn_away(&mut self, socket: &TcpListener) -> bool {
        drop(self.file.take());
        let accepted = SockRef::from(socket).accept();
        let turned_away = accepted.is_ok();
        if let Ok((stream, _)) = accepted {
            let _ = stream.set_nonblocking(true);
            close(&SockRef::from(&stream));
        }
        self.file = File::open("/dev/null").ok();
        turned_away
    }

    /// Tells a client to come back later. A socket closed before the request has
    /// arrived would be reset, and with it the answer (RFC 9112, 9.6).
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = self.lingering.clone().try_acquire_owned() else {
            return close(&SockRef::from(&stream));
        };
        let abort = self.tasks.token().clone();
        self.tasks.spawn_for_peer("refusal", async move {
            let _ = abort.run_until_cancelled(timeout(LINGER, linger(stream))).await;
            drop(permit);
        });
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

async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(NO_PLACE).await?;
    stream.shutdown().await?;
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

/// As [`Reserve::refuse`], but at once; who can't take a hundred bytes gets none.
fn close(stream: &SockRef<'_>) {
    let _ = stream.send(NO_PLACE);
    let _ = stream.shutdown(Shutdown::Write);
}

pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}
