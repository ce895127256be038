//! Giving pieces to one caller of a data port.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use edge_mirror_base::pacer::Pacer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    bitfield::Bitfield,
    frame::{BlockRequest, Frame, FrameError, FrameReader, write_frame},
    pieces::PieceLayout,
};

/// An agent that has nothing to say sends an empty frame every three minutes at the latest.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);
/// GoFD's agents hang up on a source that says nothing for three minutes. An empty frame
/// would have them read a byte too many, so the field is said again.
const SPEAK_EVERY: Duration = Duration::from_secs(60);
/// A caller that takes nothing for this long is gone.
const LONGEST_WRITE: Duration = Duration::from_secs(120);

/// Blocks that are read at a time, by all callers: downloads of tablets need the disk, too.
const MAX_READS: usize = 32;
static READ_PERMITS: Semaphore = Semaphore::const_new(MAX_READS);

/// The bytes of a task, of which the first pieces are there, or all.
pub trait PieceSource: Send + Sync + 'static {
    fn layout(&self) -> PieceLayout;

    /// The number of pieces that are there, from the first on.
    fn leading(&self) -> watch::Receiver<u32>;

    /// Returns bytes that are there.
    fn read(&self, offset: u64, bytes: usize) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// Notes that a caller has asked for something.
    fn note_request(&self, _from: IpAddr) {}
}

/// Serves a caller that was let in, until it leaves.
pub async fn serve_pieces<S: PieceSource>(
    (from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    source: &S,
    peer: IpAddr,
    pacer: &Pacer,
) -> Result<(), FrameError> {
    let (layout, mut leading) = (source.layout(), source.leading());
    let mut told = *leading.borrow_and_update();
    let field = |told| {
        let field = Bitfield::with_leading(layout.pieces(), told);
        Frame::Bitfield(field.as_bytes().to_vec().into())
    };
    send(&mut to, &field(told)).await?;
    let (mut frames, mut grows, mut spoke_at) = (FrameReader::new(from), true, Instant::now());
    loop {
        tokio::select! {
            frame = frames.next() => match frame? {
                None => return Ok(()),
                Some(Frame::Request(asked)) => {
                    source.note_request(peer);
                    send_block(&mut to, source, told, asked, pacer).await?;
                    spoke_at = Instant::now();
                }
                // The pieces of a caller are not asked for.
                Some(Frame::Have(_) | Frame::Bitfield(_)) => {}
                Some(Frame::Piece { data, .. }) => {
                    return Err(FrameError::Malformed { kind: 3, bytes: data.len() });
                }
            },
            changed = leading.changed(), if grows => {
                grows = changed.is_ok();
                let now = *leading.borrow_and_update();
                for piece in told..now {
                    send(&mut to, &Frame::Have(piece)).await?;
                }
                (told, spoke_at) = (told.max(now), Instant::now());
            }
            () = sleep_until(spoke_at + SPEAK_EVERY) => {
                if frames.heard_at().elapsed() >= LONGEST_SILENCE {
                    return Err(FrameError::Silent(LONGEST_SILENCE.as_secs()));
                }
                send(&mut to, &field(told)).await?;
                spoke_at = Instant::now();
            }
        }
    }
}

async fn send_block<S: PieceSource>(
    to: &mut (impl AsyncWrite + Unpin),
    source: &S,
    leading: u32,
    asked: BlockRequest,
    pacer: &Pacer,
) -> Result<(), FrameError> {
    let range = source.layout().range(asked).filter(|_| asked.piece < leading);
    let (offset, bytes) = range.ok_or(FrameError::OutOfRange(asked))?;
    // Never closed.
    let permit = READ_PERMITS.acquire().await.ok();
    let data = source.read(offset, bytes).await?;
    drop(permit);
    pacer.throttle(bytes).await;
    send(to, &Frame::Piece { piece: asked.piece, begin: asked.begin, data }).await
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<(), FrameError> {
    let written = timeout(LONGEST_WRITE, write_frame(to, frame)).await;
    Ok(written.map_err(|_| FrameError::Stuck(LONGEST_WRITE.as_secs()))??)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;
    use crate::pieces::PIECE_BYTES;

    struct GrowingSource(watch::Sender<u32>);

    impl PieceSource for GrowingSource {
        fn layout(&self) -> PieceLayout {
            PieceLayout::new(PIECE_BYTES * 2 + 10, PIECE_BYTES).unwrap()
        }

        fn leading(&self) -> watch::Receiver<u32> {
            self.0.subscribe()
        }

        async fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
            Ok(vec![u8::try_from(offset >> 20).unwrap(); bytes].into())
        }
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        stream.read_exact(&mut read).await.unwrap();
        read
    }

    fn request(piece: u8, begin: u8, length: u8) -> Vec<u8> {
        vec![0, 0, 0, 13, 2, 0, 0, 0, piece, 0, 0, 0, begin, 0, 0, 0, length]
    }

    /// Has `caller` speak to a source of which one piece is there.
    async fn serve(
        caller: impl AsyncFnOnce(&mut tokio::io::DuplexStream, &watch::Sender<u32>),
    ) -> Result<(), FrameError> {
        let source = Arc::new(GrowingSource(watch::Sender::new(1)));
        let (mut near, far) = duplex(1 << 16);
        let pacer = Pacer::default();
        let serving = serve_pieces(split(far), &*source, [127, 0, 0, 1].into(), &pacer);
        let (served, ()) = tokio::join!(serving, async {
            caller(&mut near, &source.0).await;
            drop(near);
        });
        served
    }

    #[tokio::test]
    async fn what_is_there_is_told_first_and_given_on_request() {
        let served = serve(async |caller, grown| {
            assert_eq!(read(caller, 6).await, [0, 0, 0, 2, 1, 0x80]);
            // Its own field, and an empty frame before a request.
            caller.write_all(&[0, 0, 0, 2, 1, 0, 0, 0, 0, 0]).await.unwrap();
            caller.write_all(&request(0, 9, 3)).await.unwrap();
            assert_eq!(read(caller, 16).await, [0, 0, 0, 12, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
            grown.send_replace(3);
            assert_eq!(read(caller, 9).await, [0, 0, 0, 5, 0, 0, 0, 0, 1]);
            assert_eq!(read(caller, 9).await, [0, 0, 0, 5, 0, 0, 0, 0, 2]);
            caller.write_all(&request(2, 0, 10)).await.unwrap();
            assert_eq!(read(caller, 23).await[13..], [2; 10]);
        });
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_hears_the_field_again_and_a_dead_one_is_left() {
        let begun = Instant::now();
        let served = serve(async |caller, grown| {
            let field = |bits: u8| [0, 0, 0, 2, 1, bits];
            assert_eq!(read(caller, 6).await, field(0x80));
            // Longer than the longest silence: empty frames say that it is there.
            for minute in 1..=7 {
                assert_eq!(read(caller, 6).await, field(0x80));
                assert_eq!(begun.elapsed().as_secs(), 60 * minute);
                caller.write_all(&[0; 4]).await.unwrap();
            }
            grown.send_replace(2);
            assert_eq!(read(caller, 9).await, [0, 0, 0, 5, 0, 0, 0, 0, 1]);
            for _ in 0..4 {
                assert_eq!(read(caller, 6).await, field(0xc0));
            }
            assert_eq!(caller.read(&mut [0; 6]).await.unwrap(), 0, "it is over");
        });
        assert!(matches!(served.await, Err(FrameError::Silent(300))));
        assert_eq!(begun.elapsed().as_secs(), 720);
    }

    #[tokio::test]
    async fn what_is_not_there_ends_the_connection() {
        for bytes in [request(1, 0, 1), request(3, 0, 1), request(0, 0, 0), vec![0xff; 4]] {
            let served = serve(async |caller, _| caller.write_all(&bytes).await.unwrap());
            let refused = served.await;
            // Not because the caller has left.
            let is_refusal =
                matches!(refused, Err(FrameError::OutOfRange(_) | FrameError::TooLong(_)));
            assert!(is_refusal, "{bytes:?}: {refused:?}");
        }
    }
}
