//! The end of a mapped package, held back until everything before it was written.
//!
//! hyper may write what it was given much later, if its client reads slowly, and another
//! program may write to the package meanwhile. So the last bytes are read and sent
//! separately, after all others were written and the file was checked again: they confirm
//! that all bytes are of the package.

use std::{
    convert::Infallible,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Smaller parts are written at once for all but the slowest clients, and a separate
/// write of the end would cost as much again.
pub(super) const HELD_BACK_FROM_BYTES: u64 = 128 << 10;

/// The held-back end of a download.
pub(super) struct WithheldEnd {
    written: oneshot::Receiver<Infallible>,
}

/// A download's handle of the mapping: dropped once everything that hyper was given of it
/// was written, and the download has no more to give.
struct MappingLease {
    bytes: Bytes,
    _written: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for MappingLease {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl WithheldEnd {
    pub(super) const BYTES: u64 = 4 << 10;

    /// Returns the mapping to send a part from, and its ending if held back.
    pub(super) fn of(bytes: &Bytes, part: &Range<u64>) -> (Bytes, Option<Self>) {
        if part.end - part.start < HELD_BACK_FROM_BYTES {
            return (bytes.clone(), None);
        }
        let (sender, written) = oneshot::channel();
        let lease = MappingLease { bytes: bytes.clone(), _written: sender };
        (Bytes::from_owner(lease), Some(Self { written }))
    }

    /// Waits until all before it was written; the caller has dropped the mapping.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.written).poll(cx).map(|_| ())
    }
}
