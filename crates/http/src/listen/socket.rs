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
    /// There is one, as is seen without the lock.
    is_set: AtomicBool,
    /// Another part has begun than the one that was sent last.
    is_new: AtomicBool,
    to_slow: AtomicBool,
}

impl Lending {
    /// Tells that slices of this file's mapping are to be sent, of which those
    /// before `end` may be lent.
    pub fn lend<L: Lend + 'static>(&self, file: &Arc<L>, end: u64) {
        let file: Weak<dyn Lend> = Arc::downgrade(file) as _;
        self.set(Some((file, end)));
    }

    /// Tells that nothing of what is to be sent may be lent.
    pub fn end(&self) {
        if self.0.is_set.load(Ordering::Relaxed) {
            self.set(None);
        }
    }

    fn set(&self, file: Option<(Weak<dyn Lend>, u64)>) {
        self.0.is_set.store(file.is_some(), Ordering::Relaxed);
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        self.0.is_new.store(true, Ordering::Relaxed);
    }

    /// Whether the reader is slower than who sends: then all that can be sent at
    /// once is best given at once.
    pub fn to_slow(&self) -> bool {
        self.0.to_slow.load(Ordering::Relaxed)
    }

    fn find(&self, slice: &[u8]) -> Option<Found> {
        let lent = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, end) = lent.as_ref()?;
        let file = file.upgrade()?;
        let at = file.position_of(slice)?;
        let lendable = end.saturating_sub(at).min(slice.len() as u64) as usize;
        Some(Found { file, at, lendable })
    }
}

/// A slice of the mapping.
struct Found {
    file: Arc<dyn Lend>,
    at: u64,
    /// So many bytes of it are not of the part's tail.
    lendable: usize,
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
        let is_new = &self.lending.0.is_new;
        if is_new.load(Ordering::Relaxed) {
            is_new.store(false, Ordering::Relaxed);
            self.pace.begin_part();
        }
        if (self.pace.is_slow() || self.pace.has_lent_buffer())
            && let [first, rest @ ..] = bufs
        {
            match self.lending.find(first) {
                Some(Found { lendable: 0, .. }) => {
                    self.pace.begin_tail();
                    self.set_buffer();
                }
                Some(Found { file, at, lendable }) if self.pace.is_slow() => {
                    let send = |to: &TcpStream| {
                        let mut at = at;
                        Ok(sendfile(to, file.file(), Some(&mut at), lendable)?)
                    };
                    return self.poll_call(cx, lendable, send);
                }
                Some(_) | None => {}
            }
            // An answer's head, to go with the first of what follows.
            let lent = |next| self.lending.find(next).is_some_and(|found| found.lendable > 0);
            if self.pace.is_slow() && rest.first().is_some_and(|next| lent(next)) {
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
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Within `try_io`: room that is made after this look must wake, and would
        // be taken for the room of before.
        let look = || match poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], Some(&at_once)) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        self.stream.try_io(Interest::WRITABLE, look).is_err()
    }

    fn filled_up(&mut self) {
        self.pace.filled_up();
        self.set_buffer();
    }

    fn set_buffer(&mut self) {
        let buffer = self.pace.buffer();
        // A slow one counts as such once there is a buffer for it.
        if buffer.is_some() || !self.pace.is_slow() {
            self.lending.0.to_slow.store(self.pace.is_slow(), Ordering::Relaxed);
        }
        let Some(bytes) = buffer else { return };
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

    /// Leaves it to closing the socket, which follows at once and says the same:
    /// a call less where each request has a connection of its own.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
