//! The bytes of a download on their way to one client. A body ends early only by an error
//! or when dropped; hyper then breaks the connection, because the announced length was
//! not reached.
//!
//! A mapped package is sent as slices of the mapping, which are not copied on the way to
//! the kernel. Two things keep one download from holding up the others on the same worker
//! thread:
//!
//! - hyper writes for as long as the socket takes it, and over a fast network that is
//!   forever. So after each segment (`OpenCopy::segment_at`) the body yields until it is
//!   its turn again (`send_queue`). Waking itself would not do: the task would be the next to
//!   run, before any socket is polled.
//! - Pages that are not in memory would block the thread until the disk has read them.
//!   They are looked up, and read in by another thread.
//!
//! Over TLS nothing is sent from the mapping: encrypting reads it in this process (see
//! `store/mapping`). The file is read instead, as for a package that can't be mapped
//! (`chunks`).

use std::{
    fs::File,
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::HttpBody;
use bytes::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_store::OpenCopy;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::ReusableBoxFuture;

use super::{ActiveDownload, chunks::ChunkReader, ending::WithheldEnd};
use crate::listen::{SendfileSource, SendfileState, Transport};

/// The most given to hyper at a time; it writes no more in one call.
const SLICE_BYTES: u64 = 256 << 10;
/// Bytes read from a file without yielding; encrypting takes as long as copying twice
/// that.
const READ_BYTES: usize = 256 << 10;
/// The end of a part is copied into the socket, so that all that `sendfile` put there is
/// sent by then: the socket holds 512 KiB (`listen::pace`), and the pages of a file can
/// change in it. The rest is what a reader on this machine may have unread.
pub(super) const COPIED_TAIL_BYTES: u64 = (512 << 10) + (256 << 10);
/// A slow reader's socket takes up to so many segments more at a time. It holds nobody
/// up: there is no more room than the reader has made.
const MAX_EXTRA_SEGMENTS: usize = 3;

impl SendfileSource for OpenCopy {
    fn position_of(&self, slice: &[u8]) -> Option<u64> {
        let mapping = self.bytes()?.as_ptr_range();
        let within = slice.as_ptr_range();
        let is_within = mapping.start <= within.start && within.end <= mapping.end;
        is_within.then(|| within.start.addr() as u64 - mapping.start.addr() as u64)
    }

    fn file(&self) -> &File {
        OpenCopy::file(self)
    }
}

/// A part of an open package.
pub(super) struct DownloadBody {
    opened: Arc<OpenCopy>,
    left: Range<u64>,
    source: ByteSource,
    /// Only if sent from the mapping.
    ending: Option<WithheldEnd>,
    /// Some of it was sent.
    begun: bool,
    /// End of what may be sent without yielding.
    ready_end: u64,
    pause: ReusablePause,
    /// The last bytes, while the file is verified again before they go.
    last: Option<(Bytes, Recheck)>,
    under_way: ActiveDownload,
}

type Recheck = Pin<Box<dyn Future<Output = bool> + Send>>;

enum ByteSource {
    /// The mapping, and the socket's state if slow readers can be detected.
    Mapped(Bytes, Option<SendfileState>),
    Read(ChunkReader),
}

/// Created on first use, and reused: it costs an allocation.
#[derive(Default)]
struct ReusablePause {
    future: Option<ReusableBoxFuture<'static, ()>>,
    under_way: bool,
}

impl DownloadBody {
    pub(super) fn new(
        opened: Arc<OpenCopy>,
        part: Range<u64>,
        under_way: ActiveDownload,
        transport: &Transport,
    ) -> Self {
        let fits = |bytes: &&Bytes| !transport.is_tls() && part.end <= bytes.len() as u64;
        let (source, ending) = match opened.bytes().filter(fits) {
            Some(bytes) => {
                let (bytes, ending) = WithheldEnd::of(bytes, &part);
                let sendfile_state = match transport {
                    Transport::Plain(sendfile_state)
                        if part.end - part.start > COPIED_TAIL_BYTES =>
                    {
                        sendfile_state
                            .set_source(&opened, part.end.saturating_sub(COPIED_TAIL_BYTES));
                        Some(sendfile_state.clone())
                    }
                    Transport::Plain(sendfile_state) => {
                        sendfile_state.clear_source();
                        None
                    }
                    Transport::Tls => None,
                };
                (ByteSource::Mapped(bytes, sendfile_state), ending)
            }
            None => (ByteSource::Read(ChunkReader::default()), None),
        };
        let (ready_end, pause) = (part.start, ReusablePause::default());
        Self {
            opened,
            left: part,
            source,
            ending,
            begun: false,
            ready_end,
            pause,
            last: None,
            under_way,
        }
    }

    /// Waits until the end may be sent, if only that is left. It is read, as the mapping
    /// could change.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ending) = &mut self.ending
            && self.left.end - self.left.start <= WithheldEnd::BYTES
        {
            self.source = ByteSource::Read(ChunkReader::default());
            ready!(ending.poll_turn(cx));
            (self.ending, self.ready_end) = (None, self.left.end);
        }
        Poll::Ready(())
    }

    /// Returns the next bytes, as soon as they may be sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.last.is_some() {
            return self.poll_last(cx);
        }
        ready!(self.poll_ending(cx));
        let wanted = self.left.end - self.left.start;
        let allowed = ready!(self.under_way.poll_allowed(cx, wanted));
        ready!(self.poll_segment(cx));
        let bytes = ready!(self.poll_bytes(cx, allowed))?;
        // The file was compared when it was opened, just before the first bytes; before
        // the last ones it is checked for changes since.
        let is_last = bytes.len() as u64 == self.left.end - self.left.start;
        if is_last && self.begun && !self.opened.is_untouched() {
            self.last = Some((bytes, Box::pin(self.opened.clone().recheck())));
            return self.poll_last(cx);
        }
        Poll::Ready(Ok(bytes))
    }

    /// Waits until it is known whether the last bytes may be sent.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some((_, recheck)) = &mut self.last else { return Poll::Pending };
        let is_good = ready!(recheck.as_mut().poll(cx));
        let bytes = self.last.take().map(|(bytes, _)| bytes).filter(|_| is_good);
        let error = || io::Error::other("somebody wrote to the package meanwhile");
        Poll::Ready(bytes.ok_or_else(error))
    }

    /// Returns the end of what most of it is sent from.
    fn end(&self) -> u64 {
        self.left.end - self.ending.as_ref().map_or(0, |_| WithheldEnd::BYTES)
    }

    /// Waits where a segment begins, for the send queue or for pages not in memory.
    fn poll_segment(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.end();
        let Self { opened, left, source, begun, ready_end, pause, under_way, .. } = self;
        if *ready_end == left.start && !pause.under_way {
            let at = left.start as usize;
            let (mut segment, is_there) = match source {
                ByteSource::Mapped(..) => (opened.segment_at(at), false),
                // Reading finds out what is in memory.
                ByteSource::Read(_) => (at..at + READ_BYTES, true),
            };
            segment.end = segment.end.min(end as usize);
            *ready_end = segment.end as u64;
            if !is_there && !opened.is_resident(&segment) {
                let opened = opened.clone();
                pause.begin(tasks::blocking(move || opened.fill(segment)));
            } else if *begun {
                if source.is_slow_peer() {
                    *ready_end = extend_ready(opened, *ready_end, end);
                }
                pause.begin(under_way.wait_for_turn());
            }
        }
        pause.poll(cx)
    }

    /// Returns the next bytes of the current segment.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, allowed: u64) -> Poll<io::Result<Bytes>> {
        let (at, most) = (self.left.start, allowed.min(self.ready_end - self.left.start));
        let is_slow_peer = self.source.is_slow_peer();
        match &mut self.source {
            ByteSource::Mapped(bytes, _) => {
                let length = if is_slow_peer { most } else { most.min(SLICE_BYTES) };
                Poll::Ready(Ok(bytes.slice(at as usize..(at + length) as usize)))
            }
            ByteSource::Read(chunks) => chunks.poll(cx, &self.opened, at, most),
        }
    }
}

impl ByteSource {
    fn is_slow_peer(&self) -> bool {
        matches!(self, Self::Mapped(_, Some(sendfile_state)) if sendfile_state.is_slow_peer())
    }
}

/// Returns how far a slow reader may be sent without yielding: what is in memory, but for
/// the last segment, which ends the download.
fn extend_ready(opened: &OpenCopy, from: u64, end: u64) -> u64 {
    let mut to = from as usize;
    for _ in 0..MAX_EXTRA_SEGMENTS {
        let next = opened.segment_at(to);
        if next.end as u64 >= end || !opened.is_resident(&next) {
            break;
        }
        to = next.end;
    }
    to as u64
}

impl ReusablePause {
    fn begin(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        match &mut self.future {
            Some(made) => made.set(future),
            None => self.future = Some(ReusableBoxFuture::new(future)),
        }
        self.under_way = true;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(future) = self.future.as_mut().filter(|_| self.under_way) {
            ready!(future.poll(cx));
            self.under_way = false;
        }
        Poll::Ready(())
    }
}

impl HttpBody for DownloadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = ready!(self.poll_next(cx));
        if let Ok(bytes) = &bytes {
            self.begun = true;
            self.left.start += bytes.len() as u64;
            self.under_way.record_sent(bytes.len() as u64);
        }
        Poll::Ready(Some(bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::unix::fs::FileExt, task::Waker};

    use edge_mirror_protocol::package::PackageId;
    use edge_mirror_settings::ServeConfig;
    use edge_mirror_store::{
        Store,
        testing::{drop_from_cache, on_disk, put, touch, zip_of},
    };

    use super::*;
    use crate::delivery::{DownloadEnd, Traffic, ending::HELD_BACK_FROM_BYTES};

    const SIZE: u64 = (3 << 20) + 5;

    fn file() -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..SIZE as u32).map(|i| (i / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    fn part(opened: OpenCopy, part: Range<u64>) -> (DownloadBody, Arc<Traffic>) {
        part_over(&Transport::default(), opened, part)
    }

    fn part_over(
        transport: &Transport,
        opened: OpenCopy,
        part: Range<u64>,
    ) -> (DownloadBody, Arc<Traffic>) {
        let traffic = Arc::<Traffic>::default();
        let under_way = ActiveDownload::begin(traffic.acquire_unlimited(), part.end - part.start);
        (DownloadBody::new(Arc::new(opened), part, under_way, transport), traffic)
    }

    async fn all_of(mut body: DownloadBody) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose()?
        {
            let left = body.size_hint().exact().unwrap();
            got.extend_from_slice(&frame.into_data().unwrap());
            assert_eq!(left == 0, body.is_end_stream());
        }
        Ok(got)
    }

    #[tokio::test]
    async fn any_part_arrives_whole_however_it_is_read() {
        let (file, bytes) = file();
        for range in [0..SIZE, 0..1, SIZE - 1..SIZE, 5..(1 << 20) + 5, (1 << 20)..(2 << 20), 7..7] {
            for opened in [OpenCopy::mapped, OpenCopy::unmapped] {
                let opened = opened(file.try_clone().unwrap());
                let (body, traffic) = part(opened, range.clone());
                assert_eq!(traffic.under_way(), 1);
                let expected = &bytes[range.start as usize..range.end as usize];
                assert!(all_of(body).await.unwrap() == expected, "{range:?}");
                let counted = (traffic.served_bytes(), traffic.under_way());
                assert_eq!(counted, (range.end - range.start, 0));
                assert_eq!(traffic.ended.counter(DownloadEnd::Whole).get(), 1);
            }
        }
    }

    #[tokio::test]
    async fn over_tls_nothing_comes_from_the_mapping() {
        let (file, bytes) = file();
        let opened = OpenCopy::mapped(file);
        let mapping = opened.bytes().unwrap().as_ptr_range();
        let (mut body, _) = part_over(&Transport::Tls, opened, 0..SIZE);
        let mut got = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            let data = frame.unwrap().into_data().unwrap();
            assert!(!mapping.contains(&data.as_ptr()));
            got.extend_from_slice(&data);
        }
        assert!(got == bytes);
    }

    #[tokio::test]
    async fn others_get_their_turn_after_each_stretch() {
        for (transport, segments, bits) in [(Transport::default(), 5, 19), (Transport::Tls, 12, 18)]
        {
            let (mut body, _) = part_over(&transport, OpenCopy::mapped(file().0), 0..SIZE);
            let mut cx = Context::from_waker(Waker::noop());
            let (mut sent, mut pauses) = (0, Vec::new());
            while sent < SIZE {
                match Pin::new(&mut body).poll_frame(&mut cx) {
                    Poll::Ready(Some(frame)) => {
                        sent += frame.unwrap().into_data().unwrap().len() as u64;
                    }
                    Poll::Ready(None) => break,
                    Poll::Pending => pauses.push(sent),
                }
            }
            // Except the end, which is no segment.
            let expected: Vec<u64> = (1..=segments).map(|i| i << bits).collect();
            assert_eq!((sent, pauses), (SIZE, expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_paces_it_and_changes_no_byte() {
        let (file, bytes) = file();
        for opened in [OpenCopy::mapped, OpenCopy::unmapped] {
            let (body, traffic) = part(opened(file.try_clone().unwrap()), 0..SIZE);
            let bandwidth = SIZE / 2;
            let serve = ServeConfig {
                cut_through: true,
                max_downloads: 0,
                max_per_client: 0,
                max_connections_per_client: 0,
                bandwidth,
            };
            traffic.apply(&serve);
            let began = tokio::time::Instant::now();
            assert!(all_of(body).await.unwrap() == bytes);
            let took = began.elapsed().as_secs_f64();
            assert!((1.85..2.1).contains(&took), "{took}");
        }
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_brought_there_by_another_thread() {
        let folder = on_disk();
        let mut file = tempfile::tempfile_in(folder.path()).unwrap();
        file.write_all(&vec![7; SIZE as usize]).unwrap();
        for transport in [Transport::default(), Transport::Tls] {
            let begun = || {
                let opened = OpenCopy::mapped(file.try_clone().unwrap());
                let (mut body, _) = part_over(&transport, opened, 0..SIZE);
                let first = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
                (first.is_ready(), body)
            };
            assert!(begun().0, "it is there");
            if drop_from_cache(&file) {
                let (at_once, body) = begun();
                assert!(!at_once);
                assert_eq!(all_of(body).await.unwrap().len() as u64, SIZE);
                assert!(begun().0, "it was brought");
            }
        }
    }

    #[tokio::test]
    async fn what_somebody_writes_to_meanwhile_does_not_complete() {
        for opened in [OpenCopy::mapped, OpenCopy::unmapped] {
            let (file, _) = file();
            let (mut body, _) = part(opened(file.try_clone().unwrap()), 0..SIZE);
            let first = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert!(first.unwrap().is_ok());
            file.write_all_at(b"another", SIZE / 2).unwrap();
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
            file.set_modified(later).unwrap();
            assert!(all_of(body).await.is_err());
        }
    }

    #[tokio::test]
    async fn what_somebody_only_touches_completes_and_what_is_written_in_secret_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().0;
        let path = folder.path().join("meeting_m/package.zip");
        let mut content = vec![0; SIZE as usize];
        fastrand::fill(&mut content);
        let zip = zip_of(&content);
        for transport in [Transport::default(), Transport::Tls] {
            for is_written in [false, true] {
                put(&store, "m", &zip);
                let (stored, opened) =
                    store.package("m".parse::<PackageId>().unwrap()).await.unwrap().unwrap();
                let size = stored.manifest.size_bytes;
                let body = || {
                    let traffic = Arc::<Traffic>::default();
                    let under_way = ActiveDownload::begin(traffic.acquire_unlimited(), size);
                    DownloadBody::new(opened.clone(), 0..size, under_way, &transport)
                };
                let mut bodies = [body(), body(), body()];
                for body in &mut bodies {
                    let first =
                        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
                    assert!(first.unwrap().is_ok());
                }
                touch(&opened, || {
                    let file = File::options().read(true).write(true).open(&path).unwrap();
                    let before = file.metadata().unwrap();
                    if is_written {
                        let at = before.len() / 2;
                        file.write_all_at(&[!zip[at as usize]], at).unwrap();
                    }
                    // Changes ctime, and restores mtime.
                    file.set_modified(before.modified().unwrap()).unwrap();
                });
                for all in futures_util::future::join_all(bodies.map(all_of)).await {
                    assert_eq!(all.is_err(), is_written, "{transport:?}");
                }
                assert_eq!(store.count(), usize::from(!is_written));
            }
        }
    }

    #[tokio::test]
    async fn the_end_waits_until_all_else_was_written_and_for_another_look() {
        for (writes, length) in [(false, SIZE), (true, SIZE), (true, HELD_BACK_FROM_BYTES)] {
            let (file, bytes) = file();
            let (mut body, _) = part(OpenCopy::mapped(file.try_clone().unwrap()), 0..length);
            let mut given = Vec::new();
            while body.left.end - body.left.start > WithheldEnd::BYTES {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                given.push(frame.unwrap().unwrap().into_data().unwrap());
            }
            let mut end = tokio::spawn(async move {
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap()
            });
            let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut end);
            assert!(early.await.is_err(), "a client may be taking the bytes before it");
            if writes {
                file.write_all_at(b"another", 0).unwrap();
                let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
                file.set_modified(later).unwrap();
            }
            drop(given);
            match end.await.unwrap() {
                Ok(frame) => {
                    assert!(!writes);
                    let end = frame.into_data().unwrap();
                    assert!(end == bytes[bytes.len() - WithheldEnd::BYTES as usize..]);
                }
                Err(_) => assert!(writes),
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_an_error_and_no_end() {
        let (file, _) = file();
        let (body, traffic) = part(OpenCopy::unmapped(file.try_clone().unwrap()), 0..SIZE);
        file.set_len(1 << 20).unwrap();
        assert!(all_of(body).await.is_err());
        assert_eq!(traffic.ended.counter(DownloadEnd::BrokenOff).get(), 1);
    }
}
