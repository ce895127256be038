//! The part of a file that has come.

use std::sync::{Mutex, MutexGuard, PoisonError};

use edge_mirror_base::tasks;
use edge_mirror_protocol::{object::ObjectKey, package::Sha256};
use edge_mirror_store::{PendingPackage, StoreError, growing::PartialWriter};

use super::error::FilePullError;
use crate::fetch::{
    Fetch,
    pieces::{BadPiece, PieceDigests, PieceVerifier},
};

/// The file of which a part is here. It outlasts a pull that is given up for a more urgent
/// task, or broken off.
#[derive(Debug, Default)]
pub(super) struct PartialTaskFile(Mutex<Option<ReceivedFile>>);

#[derive(Debug)]
pub(super) struct ReceivedFile {
    key: ObjectKey,
    sha256: Sha256,
    size: u64,
    pub(super) pending: PendingPackage,
    /// The side of other nodes that follow it; None if nobody can.
    pub(super) writer: Option<PartialWriter>,
    /// Some of it came from other nodes.
    pub(super) is_relayed: bool,
    /// The main server's digests of its pieces.
    expected: PieceDigests,
    /// From the first byte of another node on: a piece may be of several sources.
    pieces: Option<PieceVerifier>,
}

impl ReceivedFile {
    pub(super) fn new(key: ObjectKey, sha256: Sha256, size: u64, pending: PendingPackage) -> Self {
        let (writer, is_relayed) = (None, false);
        let (expected, pieces) = (PieceDigests::default(), None);
        Self { key, sha256, size, pending, writer, is_relayed, expected, pieces }
    }

    /// Lets other nodes follow it from now on; those that followed what was there before are
    /// cut off. Blocks.
    fn share(&mut self, fetch: &Fetch) {
        self.writer = None;
        self.writer = PartialWriter::begin(&self.pending, Some(self.size), Some(self.sha256));
        if let Some(writer) = &self.writer {
            writer.set_written(self.pending.received_bytes());
            fetch.share_file(&self.key, writer);
        }
    }

    /// Writes what comes next. Blocks.
    fn write(&mut self, bytes: &[u8], is_relayed: bool) -> Result<u64, FilePullError> {
        let at = self.pending.received_bytes();
        self.pending.write(bytes)?;
        self.is_relayed |= is_relayed;
        if self.is_relayed && self.pieces.is_none() {
            self.pieces = Some(PieceVerifier::new(self.expected.clone()));
        }
        // What came before a bad piece is good.
        let checked = self.pieces.as_mut().map_or(Ok(()), |pieces| pieces.update(at, bytes));
        checked.map_err(bad_piece)?;
        let received_bytes = self.pending.received_bytes();
        if let Some(writer) = &self.writer {
            writer.set_written(received_bytes);
        }
        Ok(received_bytes)
    }
}

fn bad_piece(BadPiece { start }: BadPiece) -> FilePullError {
    FilePullError::BadPiece { at: start }
}

impl PartialTaskFile {
    fn lock(&self) -> MutexGuard<'_, Option<ReceivedFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets it, and removes what is here of it.
    pub(super) fn clear(&self, fetch: &Fetch) {
        let forgotten = self.lock().take();
        fetch.unshare_file();
        tasks::block_in_place(|| drop(forgotten));
    }

    /// Bytes that are here of this very file.
    pub(super) fn received(&self, key: &ObjectKey, sha256: Sha256) -> Option<u64> {
        let slot = self.lock();
        let part = slot.as_ref().filter(|part| part.key == *key && part.sha256 == sha256)?;
        Some(part.pending.received_bytes())
    }

    /// The place of the digests of the pieces, to be set once they are known.
    pub(super) fn expected(&self) -> PieceDigests {
        self.lock().as_ref().map(|part| part.expected.clone()).unwrap_or_default()
    }

    pub(super) fn begin(&self, mut part: ReceivedFile, fetch: &Fetch) {
        let before = self.lock().take();
        tasks::block_in_place(|| {
            drop(before);
            part.share(fetch);
        });
        *self.lock() = Some(part);
    }

    /// Returns how many bytes are here then.
    pub(super) fn write(&self, bytes: &[u8], is_relayed: bool) -> Result<u64, FilePullError> {
        let mut slot = self.lock();
        let part = slot.as_mut().ok_or(StoreError::Unwanted)?;
        tasks::block_in_place(|| part.write(bytes, is_relayed))
    }

    /// Checks the last piece, once all bytes are here.
    pub(super) fn check_last_piece(&self) -> Result<(), FilePullError> {
        let mut slot = self.lock();
        let part = slot.as_mut().ok_or(StoreError::Unwanted)?;
        let size = part.size;
        let checked = part.pieces.as_mut().map_or(Ok(()), |pieces| pieces.finish(size));
        checked.map_err(bad_piece)
    }

    /// Takes back the bytes from `start` on.
    pub(super) fn take_back(&self, start: u64, fetch: &Fetch) -> Result<(), StoreError> {
        let mut slot = self.lock();
        let part = slot.as_mut().ok_or(StoreError::Unwanted)?;
        part.pieces = None;
        tasks::block_in_place(|| {
            part.pending.take_back(start)?;
            part.share(fetch);
            Ok(())
        })
    }

    pub(super) fn take(&self) -> Option<ReceivedFile> {
        self.lock().take()
    }
}
