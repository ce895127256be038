//! Activity of a connection, for deciding whether it may be closed to make room for
//! others. Written by the connection alone, with relaxed atomics: it costs a request a
//! few instructions and no lock.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::body::HttpBody;
use bytes::Buf;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::eviction::ConnectionConduct;

/// The period a rate is measured over: a tablet that roams from one access point to the
/// next is back within a few seconds.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// A client that moves fewer bytes in a second may be closed while others wait. A hundred
/// megabytes would take two hours, and can be resumed.
pub(super) const MIN_BYTES_PER_S: u64 = 16 << 10;

/// Time for the TLS handshake and the first request. Until then a connection does not
/// count as idle.
pub(super) const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);

/// Times are microseconds since the connection was accepted.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    accepted: Instant,
    /// A request has come.
    asked: AtomicBool,
    /// An answer has begun and not ended.
    answering: AtomicBool,
    /// HTTP has ended, and another protocol is spoken.
    upgraded: AtomicBool,
    idle_since_us: AtomicU64,
    /// The client reads nothing for now, or sends nothing of a body.
    stalled: AtomicBool,
    /// Bytes in both directions.
    moved: AtomicU64,
    /// Start of the window, plus one; 0 while the answer has not stalled yet. Until then
    /// bytes only fill the socket's buffer.
    window_us: AtomicU64,
    window_moved: AtomicU64,
    /// Bytes per second in the last complete window.
    last_rate: AtomicU64,
}

impl ConnectionActivity {
    pub(super) fn new(accepted: Instant) -> Self {
        Self {
            accepted,
            asked: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            idle_since_us: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            window_us: AtomicU64::new(0),
            window_moved: AtomicU64::new(0),
            last_rate: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn conduct(&self, now: Instant) -> ConnectionConduct {
        let now_us = self.at(now);
        let in_use = self.answering.load(Relaxed) || self.is_upgraded();
        match (self.stalled.load(Relaxed), in_use) {
            (true, _) => {
                let bytes_per_s = self.rate(now_us).unwrap_or_else(|| self.last_rate.load(Relaxed));
                match bytes_per_s < MIN_BYTES_PER_S {
                    true => ConnectionConduct::Slow { bytes_per_s },
                    false => ConnectionConduct::Busy,
                }
            }
            (false, true) => ConnectionConduct::Busy,
            (false, false)
                if !self.has_asked() && now_us < FIRST_REQUEST_GRACE.as_micros() as u64 =>
            {
                ConnectionConduct::Busy
            }
            (false, false) => ConnectionConduct::Idle {
                for_us: now_us.saturating_sub(self.idle_since_us.load(Relaxed)),
            },
        }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    pub(super) fn begin(&self) {
        self.asked.store(true, Relaxed);
        self.forget_rate();
        self.answering.store(true, Relaxed);
    }

    pub(super) fn end(&self, now: Instant) {
        self.idle_since_us.store(self.at(now), Relaxed);
        self.answering.store(false, Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// From now on it is not idle, whatever is sent or not.
    pub(super) fn mark_upgraded(&self) {
        self.upgraded.store(true, Relaxed);
    }

    fn forget_rate(&self) {
        self.window_us.store(0, Relaxed);
        self.last_rate.store(u64::MAX, Relaxed);
    }

    fn record_progress(&self, bytes: u64) {
        self.moved.store(self.moved.load(Relaxed) + bytes, Relaxed);
        if self.stalled.load(Relaxed) {
            self.stalled.store(false, Relaxed);
        }
    }

    pub(super) fn record_stall(&self, now: Instant) {
        let was_stalled = self.stalled.load(Relaxed);
        self.stalled.store(true, Relaxed);
        // It sends only when there is something to say, so its rate before tells nothing.
        if self.is_upgraded() && !was_stalled {
            self.forget_rate();
        }
        let now_us = self.at(now);
        let rate = self.rate(now_us);
        if let Some(rate) = rate {
            self.last_rate.store(rate, Relaxed);
        }
        if rate.is_some() || self.window_us.load(Relaxed) == 0 {
            self.window_us.store(now_us + 1, Relaxed);
            self.window_moved.store(self.moved.load(Relaxed), Relaxed);
        }
    }

    /// Returns the bytes per second in a window; None before it is complete.
    fn rate(&self, now_us: u64) -> Option<u64> {
        let began_us = self.window_us.load(Relaxed).checked_sub(1)?;
        let length_us = now_us.saturating_sub(began_us);
        let moved = self.moved.load(Relaxed).saturating_sub(self.window_moved.load(Relaxed));
        (length_us >= WINDOW.as_micros() as u64).then(|| moved * 1_000_000 / length_us)
    }

    fn at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.accepted).as_micros() as u64
    }
}

/// A stream whose bytes are recorded in an [`ConnectionActivity`].
pub(super) struct WatchedStream<S> {
    pub stream: S,
    pub(crate) activity: Arc<ConnectionActivity>,
}

impl<S> WatchedStream<S> {
    fn note<T>(&self, done: &Poll<io::Result<T>>, bytes: impl FnOnce(&T) -> usize) {
        match done {
            Poll::Ready(Ok(written)) => self.activity.record_progress(bytes(written) as u64),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.record_stall(Instant::now()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&done, |written| *written);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(&done, |written| *written);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Over TLS, written data waits here for the socket.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(&done, |()| 0);
        done
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body: waiting for it is waiting for the client.
pub(super) struct WatchedRequestBody<B> {
    pub body: B,
    pub(crate) activity: Arc<ConnectionActivity>,
}

impl<B: HttpBody + Unpin> HttpBody for WatchedRequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.activity.record_stall(Instant::now());
        }
        let frame = ready!(frame);
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        self.activity.record_progress(data.map_or(0, |data| data.remaining() as u64));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body: the connection is idle once it is dropped.
pub(super) struct WatchedResponseBody<B> {
    pub body: B,
    pub(crate) activity: Arc<ConnectionActivity>,
}

impl<B: HttpBody + Unpin> HttpBody for WatchedResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for WatchedResponseBody<B> {
    fn drop(&mut self) {
        self.activity.end(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_US: u64 = WINDOW.as_micros() as u64;

    #[test]
    fn it_is_slow_only_while_the_client_holds_it_up_and_not_before_a_whole_window() {
        let accepted = Instant::now();
        let at = |us| accepted + Duration::from_micros(us);
        let whole = MIN_BYTES_PER_S * WINDOW_US / 1_000_000;
        for (moved, waited_us, conduct) in [
            (0, WINDOW_US - 1, ConnectionConduct::Busy),
            (0, WINDOW_US, ConnectionConduct::Slow { bytes_per_s: 0 }),
            (whole - 1, WINDOW_US, ConnectionConduct::Slow { bytes_per_s: MIN_BYTES_PER_S - 1 }),
            (whole, WINDOW_US, ConnectionConduct::Busy),
        ] {
            let activity = ConnectionActivity::new(accepted);
            activity.begin();
            // Filling the socket's buffer tells nothing of the client.
            activity.record_progress(10 << 20);
            activity.record_stall(at(50_000));
            activity.record_progress(moved);
            assert_eq!(activity.conduct(at(50_000 + waited_us)), ConnectionConduct::Busy);
            activity.record_stall(at(50_001));
            assert_eq!(activity.conduct(at(50_000 + waited_us)), conduct, "{moved} {waited_us}");
        }
    }

    #[test]
    fn a_new_window_is_judged_by_the_last_one_until_it_is_whole() {
        let accepted = Instant::now();
        let at = |us| accepted + Duration::from_micros(us);
        let activity = ConnectionActivity::new(accepted);
        activity.begin();
        activity.record_stall(at(0));
        activity.record_progress(100);
        activity.record_stall(at(WINDOW_US));
        let slow = ConnectionConduct::Slow { bytes_per_s: 100 * 1_000_000 / WINDOW_US };
        assert_eq!(activity.conduct(at(WINDOW_US + 1)), slow);
        activity.record_progress(100 << 20);
        activity.record_stall(at(WINDOW_US * 2));
        assert_eq!(activity.conduct(at(WINDOW_US * 2 + 1)), ConnectionConduct::Busy);
        // The next answer has a new window.
        activity.record_progress(1);
        activity.end(at(WINDOW_US * 3));
        assert_eq!(activity.conduct(at(WINDOW_US * 3 + 7)), ConnectionConduct::Idle { for_us: 7 });
        activity.begin();
        activity.record_stall(at(WINDOW_US * 9));
        assert_eq!(activity.conduct(at(WINDOW_US * 9 + 1)), ConnectionConduct::Busy);
    }

    #[test]
    fn an_upgraded_one_never_idles_and_is_slow_after_a_whole_window_of_a_stall() {
        let accepted = Instant::now();
        let at = |us| accepted + Duration::from_micros(us);
        let activity = ConnectionActivity::new(accepted);
        activity.begin();
        activity.mark_upgraded();
        activity.end(at(0));
        assert_eq!(activity.conduct(at(1 << 40)), ConnectionConduct::Busy);
        for stalled in [1, 2, 3].map(|nth| nth * 20 * WINDOW_US) {
            activity.record_stall(at(stalled));
            let last = at(stalled + WINDOW_US - 1);
            activity.record_stall(last);
            assert_eq!(activity.conduct(last), ConnectionConduct::Busy);
            let slow = ConnectionConduct::Slow { bytes_per_s: 0 };
            assert_eq!(activity.conduct(at(stalled + WINDOW_US)), slow);
            activity.record_progress(1);
            assert_eq!(activity.conduct(at(stalled + WINDOW_US)), ConnectionConduct::Busy);
        }
    }

    #[test]
    fn who_does_not_ask_in_time_idles_and_what_is_not_taken_whole_does_not() {
        let accepted = Instant::now();
        let at = |us| accepted + Duration::from_micros(us);
        let activity = ConnectionActivity::new(accepted);
        let time_us = FIRST_REQUEST_GRACE.as_micros() as u64;
        assert_eq!(activity.conduct(at(time_us - 1)), ConnectionConduct::Busy);
        assert_eq!(activity.conduct(at(time_us)), ConnectionConduct::Idle { for_us: time_us });
        activity.begin();
        assert_eq!(activity.conduct(at(1 << 30)), ConnectionConduct::Busy);
        // The last bytes are pending, and nobody reads them.
        activity.record_stall(at(10));
        activity.end(at(10));
        assert_eq!(activity.conduct(at(11)), ConnectionConduct::Busy);
        assert_eq!(
            activity.conduct(at(10 + WINDOW_US)),
            ConnectionConduct::Slow { bytes_per_s: 0 }
        );
    }
}
