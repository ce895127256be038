//! Pulling pieces from one data port.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use edge_mirror_base::tasks;
use edge_mirror_gofd::{
    Bitfield, BlockRequest, Frame, FrameError, FrameReader, GofdCredentials, HandshakeError,
    PieceDigest, PieceLayout, UnusableBitfield, piece_digest, shake_hands, write_frame,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{files::AgentFiles, report::ReportSteps};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A source that does not let an agent in says nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Blocks that are asked for at a time, as GoFD's agents do after each new piece.
const MAX_ASKED: usize = 5;
/// A source that sends nothing that was asked for is left.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// So is one that has no new piece for this time: its own source may be lost.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// GoFD hangs up on who says nothing for three minutes. An empty frame would have it read
/// a byte too many, so the bitfield is said again.
const SPEAK_EVERY: Duration = Duration::from_secs(60);

/// The reason that a source is left.
#[derive(Debug, Error)]
pub(super) enum PieceFault {
    #[error("can't be reached: {0}")]
    Unreachable(String),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Field(#[from] UnusableBitfield),
    #[error("has hung up")]
    Gone,
    #[error("sent something that was not asked for")]
    Unasked,
    #[error("sends nothing")]
    Silent,
    #[error("piece {0} has wrong bytes")]
    Bad(u32),
    #[error("the disk: {0}")]
    Disk(io::Error),
}

/// The pull of a task's missing pieces, one after the other.
pub(super) struct PiecePull<'a> {
    pub(super) files: &'a Arc<AgentFiles>,
    pub(super) digests: &'a [PieceDigest],
    pub(super) leading: &'a watch::Sender<u32>,
    pub(super) task: &'a str,
    pub(super) credentials: &'a GofdCredentials,
    /// The management port that reports go to.
    pub(super) server: &'a str,
    pub(super) reports: &'a mpsc::Sender<(String, f32)>,
}

/// The blocks that are asked for and come next.
struct BlockQueue {
    layout: PieceLayout,
    source: Bitfield,
    /// The next block to ask for; the first of the next piece after the last of one.
    next: Option<BlockRequest>,
    asked: VecDeque<BlockRequest>,
}

impl PiecePull<'_> {
    /// Returns when all pieces are here.
    pub(super) async fn run(
        &self,
        address: &str,
        steps: &mut ReportSteps,
    ) -> Result<(), PieceFault> {
        if *self.leading.borrow() == self.files.layout().pieces() {
            return Ok(());
        }
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let unreachable = |cause: io::Error| PieceFault::Unreachable(cause.to_string());
        let connected = connecting.map_err(|_| PieceFault::Unreachable("no answer".to_owned()))?;
        let mut stream = connected.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let greeting = shake_hands(&mut stream, self.credentials, self.task);
        timeout(HANDSHAKE_TIMEOUT, greeting).await.map_err(|_| HandshakeError::Refused)??;
        let (from, to) = stream.split();
        self.pull(FrameReader::new(from), to, steps).await
    }

    async fn pull(
        &self,
        mut frames: FrameReader<impl AsyncRead + Unpin>,
        mut to: impl AsyncWrite + Unpin,
        steps: &mut ReportSteps,
    ) -> Result<(), PieceFault> {
        let layout = self.files.layout();
        let mut here = *self.leading.borrow();
        let own = Frame::Bitfield(
            Bitfield::with_leading(layout.pieces(), here).as_bytes().to_vec().into(),
        );
        write(&mut to, &own).await?;
        let mut queue = BlockQueue::new(layout, here);
        let mut piece = BytesMut::new();
        let (mut news_at, mut spoke_at) = (Instant::now(), Instant::now());
        while here < layout.pieces() {
            while let Some(request) = queue.ask() {
                write(&mut to, &Frame::Request(request)).await?;
                spoke_at = Instant::now();
            }
            let Ok(frame) = timeout_at(spoke_at + SPEAK_EVERY, frames.next()).await else {
                let longest = if queue.asked.is_empty() { LONGEST_WAIT } else { LONGEST_ANSWER };
                if news_at.elapsed() >= longest {
                    return Err(PieceFault::Silent);
                }
                write(&mut to, &own).await?;
                spoke_at = Instant::now();
                continue;
            };
            let frame = frame?.ok_or(PieceFault::Gone)?;
            // A field that is said again is no news.
            if !matches!(frame, Frame::Bitfield(_)) {
                news_at = Instant::now();
            }
            match frame {
                Frame::Have(piece) => queue.source.set(piece),
                Frame::Bitfield(bits) => queue.source = Bitfield::parse(layout.pieces(), &bits)?,
                // Nobody pulls from here on this connection.
                Frame::Request(_) => return Err(PieceFault::Unasked),
                Frame::Piece { piece: number, begin, data } => {
                    queue.take(number, begin, &data)?;
                    piece.extend_from_slice(&data);
                    if piece.len() as u64 == layout.piece_length(here) {
                        self.keep(here, piece.split().freeze()).await?;
                        here += 1;
                        self.report(steps, here);
                    }
                }
            }
        }
        Ok(())
    }

    /// Verifies and writes a piece, and lets others have it.
    async fn keep(&self, number: u32, bytes: Bytes) -> Result<(), PieceFault> {
        let (files, expected) = (self.files.clone(), self.digests.get(number as usize).copied());
        let written = tasks::blocking(move || match Some(piece_digest(&bytes)) == expected {
            true => files.write(number, &bytes).map_err(PieceFault::Disk),
            false => Err(PieceFault::Bad(number)),
        });
        written.await?;
        self.leading.send_replace(number + 1);
        Ok(())
    }

    fn report(&self, steps: &mut ReportSteps, here: u32) {
        if let Some(percent) = steps.next(here, self.files.layout().pieces()) {
            // Where so many wait, one is not missed.
            let _ = self.reports.try_send((self.server.to_owned(), percent));
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<(), PieceFault> {
    let written = timeout(LONGEST_ANSWER, write_frame(to, frame)).await;
    written.map_err(|_| PieceFault::Silent)?.map_err(|error| FrameError::Io(error).into())
}

impl BlockQueue {
    /// Begins with a piece, from a source that has said nothing of its own ones.
    fn new(layout: PieceLayout, first: u32) -> Self {
        let source = Bitfield::with_leading(layout.pieces(), 0);
        let next = layout.blocks(first).next();
        Self { layout, source, next, asked: VecDeque::new() }
    }

    /// The next block to ask for, if one may be.
    fn ask(&mut self) -> Option<BlockRequest> {
        let next =
            self.next.filter(|next| self.asked.len() < MAX_ASKED && self.source.has(next.piece))?;
        let begin = next.begin + next.length;
        self.next = match u64::from(begin) < self.layout.piece_length(next.piece) {
            true => self.layout.blocks(next.piece).find(|block| block.begin == begin),
            false => self.layout.blocks(next.piece + 1).next(),
        };
        self.asked.push_back(next);
        Some(next)
    }

    /// Takes a block, which must be the first of those that were asked for.
    fn take(&mut self, piece: u32, begin: u32, data: &[u8]) -> Result<(), PieceFault> {
        let expected = self.asked.pop_front();
        let is_it = expected.is_some_and(|asked| {
            (asked.piece, asked.begin) == (piece, begin) && asked.length as usize == data.len()
        });
        if is_it { Ok(()) } else { Err(PieceFault::Unasked) }
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_gofd::PIECE_BYTES;

    use super::*;

    #[test]
    fn blocks_are_asked_for_in_order_five_at_a_time_and_only_of_pieces_that_are_there() {
        let layout = PieceLayout::new(PIECE_BYTES + 40_000, PIECE_BYTES).unwrap();
        let mut queue = BlockQueue::new(layout, 0);
        assert_eq!(queue.ask(), None);
        queue.source.set(0);
        let asked: Vec<_> = std::iter::from_fn(|| queue.ask()).collect();
        assert_eq!(asked, layout.blocks(0).take(5).collect::<Vec<_>>());
        let mut taken = 0;
        while let Some(block) = queue.asked.front().copied() {
            queue.take(block.piece, block.begin, &vec![0; block.length as usize]).unwrap();
            taken += 1;
            let _ = queue.ask();
        }
        assert_eq!(taken, 32, "the last piece is not there");
        queue.source.set(1);
        let asked: Vec<_> = std::iter::from_fn(|| queue.ask()).collect();
        assert_eq!(asked, layout.blocks(1).collect::<Vec<_>>());
        for (piece, begin, length) in [(1, 32_768, 7_232), (1, 0, 1), (0, 0, 32_768)] {
            let mut queue = BlockQueue::new(layout, 1);
            queue.source.set(1);
            queue.ask();
            assert!(queue.take(piece, begin, &vec![0; length]).is_err());
        }
    }
}
