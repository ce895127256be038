//! A plain connection's socket. A reader that has been slower than this machine
//! twice in a row is sent files by `sendfile`, which lends the page cache's pages
//! to the network and copies nothing. One that takes all there is, or of whom
//! nothing is known yet, gets them by `writev` from the mapping: over loopback
//! that is quicker, as the reader finds in the processor's cache what was just
//! copied.

use std::{
    fmt,
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::sendfile,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tracing::debug;

use super::pace::Pace;

/// A mapped file that can be sent without anybody touching the mapping.
pub trait Lend: Send + Sync {
    /// Where in the file a slice is, if it is one of the mapping.
    fn position_of(&self, slice: &[u8]) -> Option<u64>;

    fn file(&self) -> &File;
}

/// What a connection's socket and the body that is sent over it tell each other.
#[derive(Clone, Default)]
pub struct Lending(Arc<Lent>);

#[derive(Default)]
struct Lent {
    /// Weak: a connection that idles keeps no package open. While the file is
    /// open its mapping is there, and no other bytes have addresses of it.
    file: Mutex<Option<(Weak<dyn Lend>, u64)>>,
    to_slow: AtomicBool,
}

impl Lending {
    /// Tells that slices of this file's mapping are to be sent, of which those
    /// before `end` may be lent.
    pub fn lend<L: Lend + 'static>(&self, file: &Arc<L>, end: u64) {
        let file: Weak<dyn Lend> = Arc::downgrade(file) as _;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = Some((file, end));
    }

    /// Whether the reader is slower than who sends: then all that can be sent at
    /// once is best given at once.
    pub fn to_slow(&self) -> bool {
        self.0.to_slow.load(Ordering::Relaxed)
    }

    fn find(&self, slice: &[u8]) -> Option<(Arc<dyn Lend>, u64)> {
        let lent = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, end) = lent.as_ref()?;
        let file = file.upgrade()?;
        let position = file.position_of(slice)?;
        (position + slice.len() as u64 <= *end).then_some((file, position))
    }
}

impl fmt::Debug for Lending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lending").field("to_slow", &self.to_slow()).finish_non_exhaustive()
    }
}

pub(super) struct Socket {
    stream: TcpStream,
    lending: Lending,
    pace: Pace,
}

impl Socket {
    pub fn new(stream: TcpStream, lending: Lending) -> Self {
        Self { stream, lending, pace: Pace::default() }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.pace.is_slow()
            && let [first, rest @ ..] = bufs
        {
            if let Some((file, at)) = self.lending.find(first) {
                let send = |to: &TcpStream| {
                    let mut at = at;
                    Ok(sendfile(to, file.file(), Some(&mut at), first.len())?)
                };
                return self.poll_call(cx, first.len(), send);
            }
            // An answer's head, to go with the first of what follows.
            if rest.first().is_some_and(|next| self.lending.find(next).is_some()) {
                let send =
                    |to: &TcpStream| SockRef::from(to).send_with_flags(first, libc::MSG_MORE);
                return self.poll_call(cx, first.len(), send);
            }
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        match &written {
            Poll::Ready(Ok(written)) => {
                self.pace.took(*written);
                if *written < bufs.iter().map(|buf| buf.len()).sum() {
                    self.filled_up();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.filled_up(),
        }
        written
    }

    /// Makes a call that sends up to so many bytes, once there is room.
    fn poll_call(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream)) {
                // Somebody has cut the file short.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    self.pace.took(sent);
                    if sent < length && self.is_full() {
                        self.filled_up();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.filled_up(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Spares the call that would find no room. The socket is asked, because a
    /// file that has become shorter ends a call early, too.
    fn is_full(&self) -> bool {
        let mut asked = [PollFd::new(&self.stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let full = poll(&mut asked, Some(&at_once)) == Ok(0);
        if full {
            let wait = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.stream.try_io(Interest::WRITABLE, wait);
        }
        full
    }

    fn filled_up(&mut self) {
        self.pace.filled_up();
        let Some(bytes) = self.pace.buffer() else { return };
        self.lending.0.to_slow.store(self.pace.is_slow(), Ordering::Relaxed);
        if let Err(error) = SockRef::from(&self.stream).set_send_buffer_size(bytes) {
            debug!("a socket's buffer keeps its size: {error}");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
