//! Refuses clients that can't be accepted.

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

use super::secure::is_plain;
use crate::tls::LiveServerConfig;

/// A burst must not fill the log with one message.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// The answer to a refused client. One that speaks TLS gets none: it could read it only
/// after a handshake, which costs more than a refused connection is worth.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";
/// Time for a refused client's request to arrive, and then for its end.
const LINGER: Duration = Duration::from_secs(1);
/// The number of clients waited for: each holds a descriptor.
const MAX_LINGERING: usize = 64;

/// A spare descriptor for when all others are in use: with it, new clients can be told to
/// come back instead of waiting for nothing, and the loop need not spin over an accept
/// that can't succeed.
pub(super) struct SpareFd {
    file: Option<File>,
    logged_at: Option<Instant>,
    lingering: Arc<Semaphore>,
    tasks: Tasks,
    shown: Arc<LiveServerConfig>,
}

impl SpareFd {
    pub(super) fn take(tasks: &Tasks, shown: &Arc<LiveServerConfig>) -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            logged_at: None,
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            tasks: tasks.clone(),
            shown: shown.clone(),
        }
    }

    /// Accepts one with the spare descriptor, answers and closes it.
    pub(super) fn reject_with_spare(&mut self, socket: &TcpListener) -> bool {
        drop(self.file.take());
        let accepted = SockRef::from(socket).accept();
        let turned_away = accepted.is_ok();
        if let Ok((stream, _)) = accepted {
            let _ = stream.set_nonblocking(true);
            self.close(&SockRef::from(&stream));
        }
        self.file = File::open("/dev/null").ok();
        turned_away
    }

    /// Tells a client to come back later, after its request arrived: many ignore an
    /// answer that comes before, and a socket closed earlier would be reset, and the
    /// answer lost (RFC 9112, 9.6).
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = self.lingering.clone().try_acquire_owned() else {
            return self.close(&SockRef::from(&stream));
        };
        let (abort, tls) = (self.tasks.token().clone(), self.speaks_tls());
        self.tasks.spawn_for_peer("refusal", async move {
            let _ = abort.run_until_cancelled(linger(stream, tls)).await;
            drop(permit);
        });
    }

    /// Does the same as [`refuse`](Self::refuse) without waiting, if the socket has room
    /// for it.
    fn close(&self, stream: &SockRef<'_>) {
        if !self.speaks_tls() {
            let _ = stream.send(NO_PLACE);
        }
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn speaks_tls(&self) -> bool {
        self.shown.get().is_some()
    }

    pub(super) fn should_log(&mut self) -> bool {
        let now = Instant::now();
        let due = self.logged_at.is_none_or(|at| now.duration_since(at) >= LOG_EVERY);
        if due {
            self.logged_at = Some(now);
        }
        due
    }
}

async fn linger(mut stream: TcpStream, tls: bool) -> io::Result<()> {
    let asked = timeout(LINGER, is_plain(&stream)).await;
    if !tls || asked.is_ok_and(|plain| plain.unwrap_or(false)) {
        stream.write_all(NO_PLACE).await?;
    }
    stream.shutdown().await?;
    let rest = async {
        let mut request = [0; 1024];
        while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {}
    };
    // A client that has read the answer closes.
    let _ = timeout(LINGER, rest).await;
    Ok(())
}

pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::secure::tests::nobody;

    async fn answer_to(said: &[u8], shown: &Arc<LiveServerConfig>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tasks = Tasks::new();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        SpareFd::take(&tasks, shown).refuse(stream);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn who_is_refused_reads_why_but_over_tls_where_the_connection_just_ends() {
        let (hello, request) = (&[0x16, 3, 1, 2, 0][..], &b"GET / HTTP/1.1\r\n\r\n"[..]);
        let (plain, tls) = (Arc::<LiveServerConfig>::default(), Arc::<LiveServerConfig>::default());
        tls.set(Some(Arc::new(nobody())));
        assert!(answer_to(request, &plain).await.starts_with("HTTP/1.1 503 "));
        assert!(answer_to(request, &tls).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(answer_to(hello, &tls).await, "");
    }
}
