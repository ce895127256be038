//! Frames of the data port: a length of four bytes, big-endian, then a type and what
//! belongs to it.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

/// The longest frame without its length.
const MAX_BYTES: usize = 128 << 10;
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

const HAVE: u8 = 0;
const BITFIELD: u8 = 1;
const REQUEST: u8 = 2;
const PIECE: u8 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The sender has another piece.
    Have(u32),
    /// The pieces that the sender has.
    Bitfield(Bytes),
    Request(BlockRequest),
    Piece {
        piece: u32,
        begin: u32,
        data: Bytes,
    },
}

/// A part of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    pub piece: u32,
    pub begin: u32,
    pub length: u32,
}

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is longer than {MAX_BYTES}")]
    TooLong(u32),
    #[error("a frame of type {kind} with {bytes} bytes")]
    Malformed { kind: u8, bytes: usize },
    #[error("the connection ended within a frame")]
    CutOff,
    #[error("a request for bytes that are not there: piece {}, {} bytes from {}", .0.piece, .0.length, .0.begin)]
    OutOfRange(BlockRequest),
    #[error("nothing came for {0} s")]
    Silent(u64),
    #[error("nothing was taken for {0} s")]
    Stuck(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Frame {
    /// Reads a frame without its length, which is at least 1.
    fn parse(mut payload: Bytes) -> Result<Self, FrameError> {
        let kind = payload.get_u8();
        let malformed = FrameError::Malformed { kind, bytes: payload.len() };
        match (kind, payload.len()) {
            (HAVE, 4) => Ok(Self::Have(payload.get_u32())),
            (BITFIELD, _) => Ok(Self::Bitfield(payload)),
            (REQUEST, 12) => Ok(Self::Request(BlockRequest {
                piece: payload.get_u32(),
                begin: payload.get_u32(),
                length: payload.get_u32(),
            })),
            (PIECE, 8..) => Ok(Self::Piece {
                piece: payload.get_u32(),
                begin: payload.get_u32(),
                data: payload,
            }),
            _ => Err(malformed),
        }
    }

    /// The frame with its length, without the data of a piece or the bits of a field.
    fn head(&self) -> BytesMut {
        let mut head = BytesMut::with_capacity(17);
        head.put_u32(0);
        match self {
            Self::Have(piece) => {
                head.put_u8(HAVE);
                head.put_u32(*piece);
            }
            Self::Bitfield(_) => head.put_u8(BITFIELD),
            Self::Request(BlockRequest { piece, begin, length }) => {
                head.put_u8(REQUEST);
                head.put_u32(*piece);
                head.put_u32(*begin);
                head.put_u32(*length);
            }
            Self::Piece { piece, begin, .. } => {
                head.put_u8(PIECE);
                head.put_u32(*piece);
                head.put_u32(*begin);
            }
        }
        let length = head.len() - 4 + self.data().len();
        head[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        head
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Have(_) | Self::Request(_) => &[],
            Self::Bitfield(data) | Self::Piece { data, .. } => data,
        }
    }
}

/// Writes a frame. Never one of length 0: GoFD reads a byte too many after it.
pub async fn write_frame(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut bytes = frame.head();
    bytes.extend_from_slice(frame.data());
    to.write_all(&bytes).await
}

/// Reads frames from a connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    heard_at: Instant,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: BytesMut::new(), heard_at: Instant::now() }
    }

    /// The time of the last bytes, which may be a frame of length 0.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Returns the next frame; None at the end. Nothing is lost if it is cancelled. Frames
    /// of length 0, which keep a connection alive, are skipped.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::CutOff) };
            }
            self.heard_at = Instant::now();
        }
    }

    fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(length) = self.buffer.first_chunk().map(|length| u32::from_be_bytes(*length))
            else {
                return Ok(None);
            };
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            if bytes > MAX_BYTES {
                return Err(FrameError::TooLong(length));
            }
            if self.buffer.len() < 4 + bytes {
                return Ok(None);
            }
            self.buffer.advance(4);
            if bytes > 0 {
                return Frame::parse(self.buffer.split_to(bytes).freeze()).map(Some);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn written(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, frame).await.unwrap();
        bytes
    }

    async fn read(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let (mut reader, mut frames) = (FrameReader::new(bytes), Vec::new());
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn each_frame_has_its_bytes_and_is_read_from_them() {
        let request = BlockRequest { piece: 1, begin: 0x8000, length: 0x0102_0304 };
        for (frame, bytes) in [
            (Frame::Have(258), vec![0, 0, 0, 5, 0, 0, 0, 1, 2]),
            (Frame::Bitfield(Bytes::from_static(&[0xc0])), vec![0, 0, 0, 2, 1, 0xc0]),
            (Frame::Bitfield(Bytes::new()), vec![0, 0, 0, 1, 1]),
            (Frame::Request(request), vec![0, 0, 0, 13, 2, 0, 0, 0, 1, 0, 0, 0x80, 0, 1, 2, 3, 4]),
            (
                Frame::Piece { piece: 2, begin: 3, data: Bytes::from_static(b"ab") },
                vec![0, 0, 0, 11, 3, 0, 0, 0, 2, 0, 0, 0, 3, b'a', b'b'],
            ),
        ] {
            assert_eq!(written(&frame).await, bytes, "{frame:?}");
            assert_eq!(read(&bytes).await.unwrap(), [frame]);
        }
    }

    #[tokio::test]
    async fn a_frame_that_keeps_alive_is_skipped() {
        let bytes = [vec![0; 8], vec![0, 0, 0, 5, 0, 0, 0, 0, 7], vec![0; 4]].concat();
        assert_eq!(read(&bytes).await.unwrap(), [Frame::Have(7)]);
    }

    #[tokio::test]
    async fn hostile_frames_are_refused_before_they_are_stored() {
        for (bytes, told) in [
            (vec![0xff, 0xff, 0xff, 0xff], "longer than 131072"),
            (vec![0, 2, 0, 1, 3], "longer than 131072"),
            (vec![0, 0, 0, 1, 4], "type 4"),
            (vec![0, 0, 0, 4, 0, 0, 0, 0], "type 0 with 3 bytes"),
            (vec![0, 0, 0, 6, 0, 0, 0, 0, 0, 0], "type 0 with 5 bytes"),
            (vec![0, 0, 0, 2, 2, 0], "type 2 with 1 bytes"),
            (vec![0, 0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0], "type 3 with 7 bytes"),
            (vec![0, 0, 0, 5, 0], "within a frame"),
            (vec![0, 0], "within a frame"),
        ] {
            let refusal = read(&bytes).await.unwrap_err().to_string();
            assert!(refusal.contains(told), "{bytes:?}: {refusal}");
        }
        let longest = [vec![0, 2, 0, 0, 1], vec![0; MAX_BYTES - 1]].concat();
        assert_eq!(read(&longest).await.unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&bytes));
        }
    }
}
