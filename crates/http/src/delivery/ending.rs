//! The end of a mapped package, held back until all before it was written.
//!
//! What hyper was given it may write much later, when its client reads slowly,
//! and another program may write to the package meanwhile. So the last bytes are
//! read and given by themselves, after all others were written and after another
//! look at the file: with them goes the promise that all are of the package.

use std::{
    convert::Infallible,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Where less is asked for, it is written at once but for the slowest clients,
/// and writing the end by itself would cost as much again.
pub(super) const HELD_BACK_FROM_BYTES: u64 = 128 << 10;

/// What is held back of one download.
pub(super) struct Ending {
    written: oneshot::Receiver<Infallible>,
}

/// The mapping as one download has it: dropped once all was written that hyper was
/// given of it, and the download has no more to give.
struct Given {
    bytes: Bytes,
    _written: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Ending {
    pub(super) const BYTES: u64 = 4 << 10;

    /// The mapping to send a part from, and its ending if that is held back.
    pub(super) fn of(bytes: &Bytes, part: &Range<u64>) -> (Bytes, Option<Self>) {
        if part.end - part.start < HELD_BACK_FROM_BYTES {
            return (bytes.clone(), None);
        }
        let (sender, written) = oneshot::channel();
        let given = Given { bytes: bytes.clone(), _written: sender };
        (Bytes::from_owner(given), Some(Self { written }))
    }

    /// Waits until all before it was written; for who has let go of the mapping.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.written).poll(cx).map(|_| ())
    }
}
