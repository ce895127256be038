//! The bytes of a growing package on their way to one client.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use rustix::io::{ReadWriteFlags, preadv2};

use super::{Traffic, UnderWay};
use crate::{
    store::growing::{Growing, Ready, Watched},
    tasks,
};

/// All that a reader holds in memory, however slow it is: hyper takes one or
/// two of these at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// A reader that is far behind could fill its socket for long without ever
/// having to wait; after so much it lets the others of its worker have a turn.
const TURN_BYTES: u64 = 1 << 20;

/// Ends early only by an error or when dropped; hyper then breaks the
/// connection, because the announced length was not reached.
pub(super) struct Following {
    growing: Arc<Growing>,
    watched: Watched,
    at: u64,
    end: u64,
    verified: bool,
    turn_bytes: u64,
    under_way: UnderWay,
}

impl Following {
    pub(super) fn new(growing: Arc<Growing>, part: Range<u64>, traffic: Arc<Traffic>) -> Self {
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        Self {
            watched: growing.follow(),
            growing,
            at: part.start,
            end: part.end,
            verified: false,
            turn_bytes: 0,
            under_way: UnderWay(traffic),
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, async |mut following| {
            let chunk = following.next().await?;
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, following)))
        }))
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at == self.end {
            return Ok(None);
        }
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            tokio::task::yield_now().await;
        }
        let ready = if self.verified { self.end } else { self.ready().await? };
        let chunk = read(&self.growing, self.at, (ready - self.at).min(CHUNK_BYTES)).await?;
        let length = chunk.len() as u64;
        self.at += length;
        self.turn_bytes += length;
        self.under_way.0.served_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(Some(chunk))
    }

    async fn ready(&mut self) -> io::Result<u64> {
        match self.watched.ready(self.at, self.end).await? {
            Ready::To(ready) => Ok(ready),
            Ready::Verified(stored) => {
                // Only now it is known that a package was served.
                stored.note_served();
                self.verified = true;
                Ok(self.end)
            }
        }
    }
}

/// Some of the next bytes, at most `length`.
async fn read(growing: &Arc<Growing>, at: u64, length: u64) -> io::Result<Bytes> {
    // At most CHUNK_BYTES.
    let mut buffer = vec![0; length as usize];
    // What has just been written is in memory, and copying it costs less than
    // handing it over to another thread. What is there no longer, because this
    // reader is far behind, must not hold up the others of this worker. The
    // kernel alone knows which it is. (Some kernels say 0 for "not in memory",
    // and some filesystems can't say; both are answered by waiting.)
    let slices = &mut [IoSliceMut::new(&mut buffer)];
    if let Ok(read @ 1..) = preadv2(growing.file(), slices, at, ReadWriteFlags::NOWAIT) {
        buffer.truncate(read);
        return Ok(buffer.into());
    }
    let growing = growing.clone();
    tasks::blocking(move || match growing.file().read_at(&mut buffer, at)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            buffer.truncate(read);
            Ok(buffer.into())
        }
    })
    .await
}
