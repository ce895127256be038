//! A package's bytes in this process's memory: for TLS, and for packages that can't be
//! mapped. Bytes in the page cache are read directly, which takes microseconds; for the
//! rest another thread waits.

use std::{
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_store::OpenCopy;
use rustix::io::{ReadWriteFlags, preadv2};
use tokio_util::sync::ReusableBoxFuture;

/// hyper takes two of these at a time, and TLS as much: all the memory that a reader
/// uses, however slow it is.
const CHUNK_BYTES: u64 = 64 << 10;
/// The number in use at a time.
const KEPT: usize = 3;

/// The chunks of one download, in order.
#[derive(Default)]
pub(super) struct ChunkReader {
    /// Reused memory: clearing new one costs as much as reading.
    kept: Vec<Arc<Vec<u8>>>,
    reading: Option<ReusableBoxFuture<'static, io::Result<Bytes>>>,
}

/// The part of a chunk's memory that was read.
struct Chunk(Arc<Vec<u8>>, usize);

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl ChunkReader {
    /// Returns the next bytes from a position, at most `most`; an error if there are
    /// none.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        opened: &Arc<OpenCopy>,
        at: u64,
        most: u64,
    ) -> Poll<io::Result<Bytes>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                if let Some(chunk) = self.resident(opened, at, most) {
                    return Poll::Ready(Ok(chunk));
                }
                self.reading.insert(ReusableBoxFuture::new(read(opened.clone(), at, most)))
            }
        };
        let chunk = ready!(reading.poll(cx));
        self.reading = None;
        Poll::Ready(chunk)
    }

    /// Reads what needs no wait for the disk. None also if the filesystem can't tell, and
    /// at the file's end.
    fn resident(&mut self, opened: &OpenCopy, at: u64, most: u64) -> Option<Bytes> {
        let length = most.min(CHUNK_BYTES) as usize;
        let is_free = |kept: &mut Arc<Vec<u8>>| Arc::get_mut(kept).is_some();
        let mut memory = match self.kept.iter_mut().position(is_free) {
            Some(free) => self.kept.swap_remove(free),
            // Cleared below: memory that glibc clears bypasses each thread's lists of
            // freed blocks, which costs as much as ten reads.
            None => Arc::new(Vec::with_capacity(length)),
        };
        let room = Arc::get_mut(&mut memory)?;
        room.resize(length.max(room.len()), 0);
        let mut slices = [IoSliceMut::new(&mut room[..length])];
        let read = preadv2(opened.file(), &mut slices, at, ReadWriteFlags::NOWAIT);
        let read = read.ok().filter(|read| *read > 0)?;
        if most > read as u64 && self.kept.len() < KEPT {
            self.kept.push(memory.clone());
        }
        Some(Bytes::from_owner(Chunk(memory, read)))
    }
}

/// Reads from disk.
async fn read(opened: Arc<OpenCopy>, at: u64, most: u64) -> io::Result<Bytes> {
    let length = most.min(CHUNK_BYTES) as usize;
    tasks::blocking(move || {
        let mut chunk = vec![0; length];
        opened.file().read_exact_at(&mut chunk, at).map(|()| chunk.into())
    })
    .await
}
