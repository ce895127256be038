//! The bytes of a package still being pulled, on their way to one client. Like all bodies
//! it ends early only by an error or when dropped, and hyper breaks the connection: the
//! announced length was not reached.

use std::{future::poll_fn, io, ops::Range, pin::Pin, sync::Arc};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_store::{
    OpenCopy,
    growing::{PartialPackage, PartialReader, ReadLimit},
};
use futures_util::stream;

use super::{
    ActiveDownload,
    body::{COPIED_TAIL_BYTES, DownloadBody},
    chunks::ChunkReader,
};
use crate::listen::Transport;

/// The most given to hyper at a time.
const SLICE_BYTES: u64 = 256 << 10;
/// A reader that is far behind could fill its socket for long without ever waiting; after
/// this much it yields to the others of its worker.
const TURN_BYTES: u64 = 1 << 20;

/// A part of a package that is not verified yet.
pub(super) struct CutThroughDownload {
    partial: Arc<PartialPackage>,
    reader: PartialReader,
    left: Range<u64>,
    turn_bytes: u64,
    noted: bool,
    under_way: ActiveDownload,
    transport: Transport,
    /// Used if the file can't be mapped, or the mapping not be sent.
    chunks: ChunkReader,
}

enum CutThroughSource {
    Growing(CutThroughDownload),
    /// Verified meanwhile: the rest comes from the shared copy.
    Opened(DownloadBody),
}

impl CutThroughDownload {
    pub(super) fn new(
        partial: &Arc<PartialPackage>,
        reader: PartialReader,
        part: Range<u64>,
        under_way: ActiveDownload,
        transport: &Transport,
    ) -> Self {
        let (partial, transport) = (partial.clone(), transport.clone());
        if let Transport::Plain(sendfile_state) = &transport {
            sendfile_state.set_source(partial.copy(), part.end.saturating_sub(COPIED_TAIL_BYTES));
        }
        let (turn_bytes, noted, chunks) = (0, false, ChunkReader::default());
        Self { partial, reader, left: part, turn_bytes, noted, under_way, transport, chunks }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(
            CutThroughSource::Growing(self),
            CutThroughSource::next,
        ))
    }

    /// Waits until something may be sent.
    async fn source(mut self) -> io::Result<(u64, CutThroughSource)> {
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            self.under_way.wait_for_turn().await;
        }
        match self.reader.wait_until_ready(self.left.start, self.left.end).await? {
            ReadLimit::To(to) => Ok((to, CutThroughSource::Growing(self))),
            ReadLimit::End => {
                // It was not known where that is.
                self.left.end = self.left.start;
                self.under_way.left_bytes = 0;
                Ok((self.left.end, CutThroughSource::Growing(self)))
            }
            ReadLimit::Verified(stored, opened) => {
                // Only now it is known that a package is served.
                if !std::mem::replace(&mut self.noted, true) {
                    self.under_way.permit.traffic.note_served(&stored);
                }
                self.left.end = self.left.end.min(stored.manifest.size_bytes);
                let end = self.left.end;
                Ok(match opened {
                    Some(opened) => {
                        let rest =
                            DownloadBody::new(opened, self.left, self.under_way, &self.transport);
                        (end, CutThroughSource::Opened(rest))
                    }
                    None => (end, CutThroughSource::Growing(self)),
                })
            }
        }
    }
}

impl CutThroughSource {
    async fn next(self) -> io::Result<Option<(Bytes, Self)>> {
        let (to, mut source) = match self {
            Self::Growing(following) if following.left.is_empty() => return Ok(None),
            Self::Growing(following) => following.source().await?,
            opened @ Self::Opened(_) => (0, opened),
        };
        if matches!(&source, Self::Growing(following) if following.left.is_empty()) {
            return Ok(None);
        }
        let chunk = match &mut source {
            Self::Growing(following) => {
                let CutThroughDownload {
                    partial,
                    left,
                    turn_bytes,
                    under_way,
                    transport,
                    chunks,
                    ..
                } = following;
                let wanted = to - left.start;
                let allowed = poll_fn(|cx| under_way.poll_allowed(cx, wanted)).await;
                let copy = partial.copy();
                let chunk = match (transport, copy.bytes()) {
                    (Transport::Plain(_), Some(bytes)) => {
                        let part = left.start..left.start + allowed.min(SLICE_BYTES);
                        slice(copy, bytes, part).await
                    }
                    _ => poll_fn(|cx| chunks.poll(cx, copy, left.start, allowed)).await?,
                };
                let length = chunk.len() as u64;
                left.start += length;
                *turn_bytes += length;
                under_way.record_sent(length);
                Some(chunk)
            }
            Self::Opened(rest) => {
                let frame = poll_fn(|cx| Pin::new(&mut *rest).poll_frame(cx)).await.transpose()?;
                frame.and_then(|frame| frame.into_data().ok())
            }
        };
        Ok(chunk.map(|chunk| (chunk, source)))
    }
}

/// Returns some bytes of a partial package. What has just been written is in memory.
/// Pages that no longer are, because this reader is far behind, must not block the others
/// of this worker.
async fn slice(copy: &Arc<OpenCopy>, bytes: &Bytes, part: Range<u64>) -> Bytes {
    let part = part.start as usize..part.end as usize;
    if !copy.is_resident(&part) {
        let (copy, part) = (copy.clone(), part.clone());
        tasks::blocking(move || copy.fill(part)).await;
    }
    bytes.slice(part)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use edge_mirror_protocol::package::{PackageId, PackageRoute, Validators, VerifyLevel};
    use edge_mirror_store::{
        Provenance, Store,
        growing::PartialWriter,
        testing::{drop_from_cache, on_disk},
    };
    use futures_util::StreamExt;

    use super::*;
    use crate::delivery::{DownloadEnd, Traffic};

    fn provenance() -> Provenance {
        let validators = Validators::default();
        let source = edge_mirror_protocol::package::PackageSource {
            route: PackageRoute::Direct,
            origin: None,
            validators,
        };
        Provenance::of_package("T".into(), source)
    }

    fn zip_of(size: usize) -> Vec<u8> {
        use std::io::Write;
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let plain = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        zip.start_file("a", plain).unwrap();
        let content: Vec<_> = (0..size).map(|at| (at / 7) as u8).collect();
        zip.write_all(&content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[tokio::test]
    async fn the_rest_comes_from_the_open_copy_or_from_the_same_file() {
        let (zip, id) = (zip_of(3 << 20), "m".parse::<PackageId>().unwrap());
        let size = zip.len() as u64;
        let plain = Transport::default;
        for (mapped, with_copy, transport) in [
            (true, true, plain()),
            (true, false, plain()),
            (true, true, Transport::Tls),
            (true, false, Transport::Tls),
            (false, true, plain()),
            (false, false, plain()),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap().0;
            let mut pending = store.begin(&id, Some(size), u64::MAX).unwrap();
            let writer = match mapped {
                true => PartialWriter::begin(&pending, Some(size), None).unwrap(),
                false => PartialWriter::begin_unmapped(&pending, size),
            };
            let traffic = Arc::<Traffic>::default();
            let body = |part: Range<u64>| {
                let under_way =
                    ActiveDownload::begin(traffic.acquire_unlimited(), part.end - part.start);
                CutThroughDownload::new(
                    writer.growing(),
                    writer.growing().reader(),
                    part,
                    under_way,
                    &transport,
                )
                .into_body()
            };
            let whole_and_part = [body(0..size), body(1..size - 1)];
            let [mut whole, mut part] = whole_and_part.map(Body::into_data_stream);
            let half = 2 << 20;
            pending.write(&zip[..half]).unwrap();
            writer.set_written(half as u64);
            let mut got = whole.next().await.unwrap().unwrap().to_vec();
            assert_eq!(Arc::strong_count(writer.growing()), 3);
            pending.write(&zip[half..]).unwrap();
            let stored = pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
            let copy = || store.open_package(&id).unwrap().unwrap().1;
            let partial = writer.growing().clone();
            writer.verified(&stored, with_copy.then(copy));
            got.extend_from_slice(&whole.next().await.unwrap().unwrap());
            // A reader that has switched no longer holds the partial file.
            assert_eq!(Arc::strong_count(&partial), if with_copy { 2 } else { 3 });
            while let Some(chunk) = whole.next().await {
                got.extend_from_slice(&chunk.unwrap());
            }
            assert!(got == zip);
            assert_eq!(traffic.under_way(), 1);
            // Each is dropped before the next, as by a connection.
            let mut got = Vec::new();
            while let Some(chunk) = part.next().await {
                got.extend_from_slice(&chunk.unwrap());
            }
            assert!(got == zip[1..zip.len() - 1]);
            assert_eq!((traffic.under_way(), traffic.served_bytes()), (0, 2 * size - 2));
            assert_eq!(stored.downloads(), 2);
            assert_eq!(traffic.ended.counter(DownloadEnd::Whole).get(), 2);
        }
    }

    #[tokio::test]
    async fn others_get_their_turn_however_much_there_is_to_send() {
        let zip = zip_of(5 << 20);
        let size = zip.len() as u64;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().0;
        let mut pending =
            store.begin("m".parse::<PackageId>().unwrap(), Some(size), u64::MAX).unwrap();
        let writer = PartialWriter::begin(&pending, Some(size), None).unwrap();
        let under_way = ActiveDownload::begin(Arc::<Traffic>::default().acquire_unlimited(), size);
        let body = CutThroughDownload::new(
            writer.growing(),
            writer.growing().reader(),
            0..size,
            under_way,
            &Transport::default(),
        )
        .into_body();
        let mut chunks = body.into_data_stream();
        pending.write(&zip[..4 << 20]).unwrap();
        writer.set_written(4 << 20);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut sent, mut pauses) = (0, Vec::new());
        while sent < 4 << 20 {
            match chunks.poll_next_unpin(&mut cx) {
                Poll::Ready(chunk) => sent += chunk.unwrap().unwrap().len() as u64,
                Poll::Pending => pauses.push(sent),
            }
        }
        assert_eq!((sent, pauses), (4 << 20, vec![1 << 20, 2 << 20, 3 << 20]));
    }

    #[tokio::test]
    async fn what_is_in_memory_no_longer_is_brought_back_by_another_thread() {
        let zip = zip_of(5 << 20);
        let size = zip.len() as u64;
        let folder = on_disk();
        let store = Store::open(folder.path()).unwrap().0;
        let mut pending =
            store.begin("m".parse::<PackageId>().unwrap(), Some(size), u64::MAX).unwrap();
        let writer = PartialWriter::begin(&pending, Some(size), None).unwrap();
        pending.write(&zip[..4 << 20]).unwrap();
        writer.set_written(4 << 20);
        let begun = || {
            let under_way =
                ActiveDownload::begin(Arc::<Traffic>::default().acquire_unlimited(), size);
            let body = CutThroughDownload::new(
                writer.growing(),
                writer.growing().reader(),
                0..size,
                under_way,
                &Transport::default(),
            )
            .into_body();
            let mut chunks = body.into_data_stream();
            let first = chunks.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
            (first.is_ready(), chunks)
        };
        assert!(begun().0, "it is there");
        if drop_from_cache(writer.growing().copy().file()) {
            let (at_once, mut chunks) = begun();
            assert!(!at_once);
            let first = chunks.next().await.unwrap().unwrap();
            assert!(first == zip[..first.len()]);
        }
    }

    #[tokio::test]
    async fn where_it_can_not_be_mapped_it_is_read_in_pieces_and_an_error_is_no_end() {
        let (zip, id) = (zip_of(1 << 20), "m".parse::<PackageId>().unwrap());
        let size = zip.len() as u64;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().0;
        let mut pending = store.begin(&id, Some(size), u64::MAX).unwrap();
        let writer = PartialWriter::begin_unmapped(&pending, size);
        let traffic = Arc::<Traffic>::default();
        let under_way = ActiveDownload::begin(traffic.acquire_unlimited(), size - 10);
        let body = CutThroughDownload::new(
            writer.growing(),
            writer.growing().reader(),
            10..size,
            under_way,
            &Transport::default(),
        )
        .into_body();
        let mut chunks = body.into_data_stream();
        const CHUNK_BYTES: u64 = 64 << 10;
        let half = 10 + 3 * CHUNK_BYTES as usize + 5;
        pending.write(&zip[..half]).unwrap();
        writer.set_written(half as u64);
        let mut got = Vec::new();
        for length in [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 5] {
            let chunk = chunks.next().await.unwrap().unwrap();
            assert_eq!(chunk.len() as u64, length);
            got.extend_from_slice(&chunk);
        }
        assert!(got == zip[10..half]);
        assert_eq!(traffic.served_bytes(), got.len() as u64);
        // More is announced than the file holds.
        writer.set_written(size);
        let broken = chunks.next().await.unwrap();
        assert_eq!(broken.unwrap_err().to_string(), "failed to fill whole buffer");
        assert!(chunks.next().await.is_none());
        assert_eq!(traffic.ended.counter(DownloadEnd::BrokenOff).get(), 1);
    }
}
