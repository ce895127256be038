//! A plain connection's socket. A reader that has been slower than this machine twice in
//! a row is sent files by `sendfile`, which lends the page cache's pages to the network
//! and copies nothing. A fast reader, or one not known yet, gets them by `writev` from
//! the mapping: over loopback that is quicker, as the reader finds in the processor's
//! cache what was just copied.

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

use super::pace::SendPace;

/// A mapped file that can be sent without touching the mapping.
pub trait SendfileSource: Send + Sync {
    /// Returns where in the file a slice of the mapping is.
    fn position_of(&self, slice: &[u8]) -> Option<u64>;

    fn file(&self) -> &File;
}

/// The state that a connection's socket shares with the body sent over it.
#[derive(Clone, Default)]
pub struct SendfileState(Arc<SendfileInner>);

#[derive(Default)]
struct SendfileInner {
    /// Weak: an idle connection keeps no package open. While the file is open its mapping
    /// exists, and no other bytes have its addresses.
    file: Mutex<Option<(Weak<dyn SendfileSource>, u64)>>,
    /// True if there is one; read without the lock.
    has_source: AtomicBool,
    /// Set when another part begins, cleared by the socket.
    is_new_part: AtomicBool,
    is_slow_peer: AtomicBool,
    is_upgraded: AtomicBool,
}

impl SendfileState {
    /// Announces slices of this file's mapping, of which those before `end` may be
    /// sent by `sendfile`.
    pub(crate) fn set_source<L: SendfileSource + 'static>(&self, file: &Arc<L>, end: u64) {
        let file: Weak<dyn SendfileSource> = Arc::downgrade(file) as _;
        self.set(Some((file, end)));
    }

    /// Announces bytes none of which may be sent by `sendfile`.
    pub(crate) fn clear_source(&self) {
        if self.0.has_source.load(Ordering::Relaxed) {
            self.set(None);
        }
    }

    fn set(&self, file: Option<(Weak<dyn SendfileSource>, u64)>) {
        self.0.has_source.store(file.is_some(), Ordering::Relaxed);
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        self.0.is_new_part.store(true, Ordering::Relaxed);
    }

    /// From now on the socket can be shut down before it is closed.
    pub(super) fn set_upgraded(&self) {
        self.0.is_upgraded.store(true, Ordering::Relaxed);
    }

    /// Returns true for a reader slower than this machine: a body then gives all that
    /// may be sent without a pause in one piece.
    pub(crate) fn is_slow_peer(&self) -> bool {
        self.0.is_slow_peer.load(Ordering::Relaxed)
    }

    fn find(&self, slice: &[u8]) -> Option<FileSlice> {
        let source = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, end) = source.as_ref()?;
        let file = file.upgrade()?;
        let at = file.position_of(slice)?;
        let sendable = end.saturating_sub(at).min(slice.len() as u64) as usize;
        Some(FileSlice { file, at, sendable })
    }
}

/// The position of a slice in the file.
struct FileSlice {
    file: Arc<dyn SendfileSource>,
    at: u64,
    /// The bytes of it before the part's tail.
    sendable: usize,
}

impl fmt::Debug for SendfileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendfileState")
            .field("is_slow_peer", &self.is_slow_peer())
            .finish_non_exhaustive()
    }
}

pub(super) struct SendfileSocket {
    stream: TcpStream,
    sendfile_state: SendfileState,
    pace: SendPace,
}

impl SendfileSocket {
    pub(super) fn new(stream: TcpStream, sendfile_state: SendfileState) -> Self {
        Self { stream, sendfile_state, pace: SendPace::default() }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let is_new_part = &self.sendfile_state.0.is_new_part;
        if is_new_part.load(Ordering::Relaxed) {
            is_new_part.store(false, Ordering::Relaxed);
            self.pace.begin_part();
        }
        if (self.pace.is_slow() || self.pace.has_large_buffer())
            && let [first, rest @ ..] = bufs
        {
            match self.sendfile_state.find(first) {
                Some(FileSlice { sendable: 0, .. }) => {
                    self.pace.begin_tail();
                    self.set_buffer();
                }
                Some(FileSlice { file, at, sendable }) if self.pace.is_slow() => {
                    let send = |to: &TcpStream| {
                        let mut at = at;
                        Ok(sendfile(to, file.file(), Some(&mut at), sendable)?)
                    };
                    return self.poll_call(cx, sendable, send);
                }
                Some(_) | None => {}
            }
            // An answer's head, to be sent with what follows.
            let can_send =
                |next| self.sendfile_state.find(next).is_some_and(|found| found.sendable > 0);
            if self.pace.is_slow() && rest.first().is_some_and(|next| can_send(next)) {
                let send =
                    |to: &TcpStream| SockRef::from(to).send_with_flags(first, libc::MSG_MORE);
                return self.poll_call(cx, first.len(), send);
            }
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        match &written {
            Poll::Ready(Ok(written)) => {
                self.pace.wrote(*written);
                if *written < bufs.iter().map(|buf| buf.len()).sum() {
                    self.would_block();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.would_block(),
        }
        written
    }

    /// Calls `send` once there is room.
    fn poll_call(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream)) {
                // Somebody truncated the file.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    self.pace.wrote(sent);
                    if sent < length && self.is_full() {
                        self.would_block();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.would_block(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// True if there is no room, which spares a call. The socket is asked, because a
    /// truncated file ends a call early, too.
    fn is_full(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Within `try_io`: room made after this check must wake the task, and would be
        // taken for the earlier readiness.
        let look = || match poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], Some(&at_once)) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        self.stream.try_io(Interest::WRITABLE, look).is_err()
    }

    fn would_block(&mut self) {
        self.pace.would_block();
        self.set_buffer();
    }

    fn set_buffer(&mut self) {
        let buffer = self.pace.buffer();
        // A reader is announced as slow once it has a large buffer, and only while it is
        // slow.
        if buffer.is_some() || !self.pace.is_slow() {
            self.sendfile_state.0.is_slow_peer.store(self.pace.is_slow(), Ordering::Relaxed);
        }
        let Some(bytes) = buffer else { return };
        if let Err(error) = SockRef::from(&self.stream).set_send_buffer_size(bytes) {
            debug!("a socket's buffer keeps its size: {error}");
        }
    }
}

impl AsyncRead for SendfileSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SendfileSocket {
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

    /// With HTTP, leaves it to closing the socket, which follows and does the same: a call
    /// less if each request has a connection of its own.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.sendfile_state.0.is_upgraded.load(Ordering::Relaxed) {
            true => Pin::new(&mut self.stream).poll_shutdown(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}
