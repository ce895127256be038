//! A package that is being pulled: begun, received and written, and resumed after an
//! attempt that failed.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_protocol::package::{Validators, VerifyLevel};
use edge_mirror_store::{PendingPackage, StoreError, growing::PartialWriter};
use tokio::time::Instant;

use super::{FetchInner, PullError, PullReason, attempt::AttemptContext, origin::Origin};
use crate::upstream::{
    AnnouncedPackage, AnswerExtent, OriginAnswer, OriginBody, TransferError, TransferEvent,
};

/// Small chunks are gathered into one write, to save system calls.
const BATCH_BYTES: usize = 256 << 10;
/// On a slow line a batch takes seconds, and readers of the partial package read
/// the file: if no more bytes are there to be taken, a smaller batch is written,
/// but not more often than this.
const WRITE_PAUSE: Duration = Duration::from_millis(5);
/// The first bytes of an archive: nothing is evicted for an error page.
const ARCHIVE_BEGINS: &[u8] = b"PK";
/// Chunks of this size are not copied any more. A fast line's come in 400 KiB.
const LARGE_BYTES: usize = 64 << 10;

/// A package being pulled, and the state that a failed attempt leaves for the next
/// one: kept if the rest can be requested, or if it has readers.
pub(super) struct PartialPull {
    pub pending: PendingPackage,
    pub origin: Origin,
    pub announced: AnnouncedPackage,
    pub grower: Option<PartialWriter>,
    /// Bytes of it that an answer from the beginning has repeated.
    pub(crate) replayed_bytes: Option<u64>,
    /// Its first bytes look like an archive.
    pub(crate) is_archive: bool,
}

impl PartialPull {
    /// The validator for `If-Range`, if the main server has ranges.
    pub(super) fn resume_validator(&self) -> Option<&str> {
        strong_etag(&self.announced.validators).filter(|_| self.announced.ranges)
    }

    pub(super) fn is_worth_keeping(&self) -> bool {
        self.resume_validator().is_some() || self.has_readers()
    }

    /// Itself, if the answer continues it exactly where it stopped, in the same
    /// version, or may be the same version from the beginning, for its readers;
    /// [`skip_replayed`](Self::skip_replayed) finds out. Anything else must start
    /// over: versions are never mixed.
    pub(super) fn resume(mut self, answer: &OriginAnswer) -> Option<Self> {
        let (before, now) = (&self.announced, &answer.announced);
        let resumes = match answer.extent {
            AnswerExtent::Rest => now.validators.etag == before.validators.etag,
            AnswerExtent::Whole { .. } => {
                self.has_readers()
                    && (now.length, now.sha256) == (before.length, before.sha256)
                    && now.validators == before.validators
            }
            AnswerExtent::Unchanged | AnswerExtent::Unusable(_) => false,
        };
        self.replayed_bytes = (answer.extent != AnswerExtent::Rest).then_some(0);
        resumes.then_some(self)
    }

    fn has_readers(&self) -> bool {
        self.grower.as_ref().is_some_and(|grower| grower.growing().has_readers())
    }

    /// Returns the new part of a chunk. The part that an answer from the beginning
    /// repeats must be the same, byte by byte: then readers have got a part of this
    /// version, whatever tags and dates say. Blocks for the read from disk.
    pub(super) fn skip_replayed(&mut self, mut chunk: Bytes) -> Result<Bytes, PullError> {
        let (Some(at), Some(grower)) = (self.replayed_bytes, &self.grower) else {
            return Ok(chunk);
        };
        let left = self.pending.received_bytes() - at;
        let told = chunk.split_to(chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        match grower.growing().has_bytes_at(at, &told) {
            Ok(true) => {}
            Ok(false) => {
                let cause = "it became another one while it was pulled".to_owned();
                return Err(PullError::Unusable(cause));
            }
            Err(error) => {
                let cause = format!("what is here of it can't be read back: {error}");
                return Err(PullError::Unusable(cause));
            }
        }
        self.replayed_bytes = Some(at + told.len() as u64).filter(|_| told.len() as u64 != left);
        Ok(chunk)
    }
}

impl FetchInner {
    pub(super) fn begin(
        &self,
        task: &AttemptContext<'_>,
        answer: &OriginAnswer,
        origin: Origin,
    ) -> Result<PartialPull, PullError> {
        let is_page = match &answer.extent {
            AnswerExtent::Whole { is_page } => *is_page,
            AnswerExtent::Unusable(reason) => return Err(PullError::Unusable(reason.clone())),
            AnswerExtent::Rest | AnswerExtent::Unchanged => {
                let reason = "the rest of another version, or none, instead of the whole";
                return Err(PullError::Unusable(reason.to_owned()));
            }
        };
        let announced = answer.announced.clone();
        let (id, limit) = (task.flight.id(), task.config.storage.max_size);
        let length = announced.length;
        let begin = || task.store.begin(id, length, limit);
        let bytes = length.unwrap_or(0);
        let could_make = || self.can_make_room(task, bytes, task.store.shortage(id, bytes, limit));
        let mut pending = tasks::block_in_place(|| match begin() {
            // Anybody can announce a length: evict others only as the bytes come.
            Err(StoreError::NoRoom(_)) if could_make() => {
                task.store.begin_in_steps(id, bytes, limit)
            }
            other => other,
        })?;
        if task.config.storage.verify == VerifyLevel::Full {
            pending.unpack_while_receiving();
        }
        // A package pulled to compare is most often thrown away.
        if task.flight.reason() != PullReason::Compare {
            pending.sync_while_receiving();
        }
        // A page is of no use to a client that waits for a package.
        let followable = length.filter(|_| !is_page);
        let grower = followable.and_then(|length| {
            tasks::block_in_place(|| PartialWriter::begin(&pending, length, announced.sha256))
        });
        if let Some(grower) = &grower {
            task.flight.set_growing(task.upstream.origin(), grower.growing());
        }
        let replayed_bytes = None;
        Ok(PartialPull { pending, origin, announced, grower, replayed_bytes, is_archive: false })
    }

    /// Receives the body: written in batches as it arrives. Blocks this thread on the disk.
    pub(super) async fn receive(
        &self,
        task: &AttemptContext<'_>,
        body: &mut OriginBody,
        pulling: &mut PartialPull,
    ) -> Result<(), PullError> {
        let network = &task.config.network;
        let seconds = Duration::from_secs;
        body.start(seconds(network.download_timeout), seconds(network.connection_timeout));
        let total = pulling.announced.length;
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        // A client may be waiting for the first bytes.
        let now = Instant::now();
        let mut written_at = now.checked_sub(WRITE_PAUSE).unwrap_or(now);
        loop {
            let write_at = (!batch.is_empty()).then(|| written_at + WRITE_PAUSE);
            let chunk = match body.next(write_at).await {
                Ok(TransferEvent::Chunk(chunk)) => chunk,
                Ok(TransferEvent::End) => break,
                Ok(TransferEvent::Waited) => {
                    self.write(task, pulling, &batch)?;
                    batch.clear();
                    written_at = Instant::now();
                    continue;
                }
                Err(error) => {
                    self.write(task, pulling, &batch)?;
                    let received = pulling.pending.received_bytes();
                    return Err(match error {
                        TransferError::Broken(cause) => {
                            PullError::Interrupted { received, total, cause }
                        }
                        TransferError::Stalled => PullError::Stalled(network.connection_timeout),
                        TransferError::TooSlow => PullError::TooSlow(network.download_timeout),
                    });
                }
            };
            // A delay of our own limit does not count as the main server's.
            let held_up = self.pacer.throttle(chunk.len()).await;
            body.resume_after(held_up);
            let arrived_at = Instant::now();
            let chunk = pulling.skip_replayed(chunk)?;
            // Shown to operators as it comes: on a slow line a batch takes seconds.
            let gathered = (batch.len() + chunk.len()) as u64;
            task.flight.set_received(pulling.pending.received_bytes() + gathered, total);
            if batch.is_empty() && chunk.len() >= LARGE_BYTES {
                self.write(task, pulling, &chunk)?;
                written_at = arrived_at;
                continue;
            }
            batch.extend_from_slice(&chunk);
            if batch.len() >= BATCH_BYTES || !held_up.is_zero() {
                self.write(task, pulling, &batch)?;
                batch.clear();
                written_at = arrived_at;
            }
        }
        self.write(task, pulling, &batch)?;
        let received = pulling.pending.received_bytes();
        match total {
            Some(total) if total != received => {
                let cause = "the answer ended".to_owned();
                Err(PullError::Interrupted { received, total: Some(total), cause })
            }
            _ => Ok(()),
        }
    }

    fn write(
        &self,
        task: &AttemptContext<'_>,
        pulling: &mut PartialPull,
        bytes: &[u8],
    ) -> Result<(), PullError> {
        let pending = &mut pulling.pending;
        let after = pending.received_bytes() + bytes.len() as u64;
        if pending.received_bytes() == 0 {
            pulling.is_archive = bytes.starts_with(ARCHIVE_BEGINS);
        }
        let is_archive = pulling.is_archive;
        let make_room = |shortage| is_archive && self.make_room(task, after, shortage);
        // Writing here, in batches, was measured faster than handing over to
        // another thread.
        match pending.write(bytes) {
            Err(StoreError::NoRoom(_)) if make_room(pending.shortage(after)) => {
                pending.write(bytes)
            }
            other => other,
        }?;
        if let Some(grower) = &pulling.grower {
            grower.set_written(pending.received_bytes());
        }
        self.pulled_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// A strong validator (RFC 9110, 8.8.1). Only a tag can be one: a date changes by
/// the second.
fn strong_etag(validators: &Validators) -> Option<&str> {
    validators.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::package::PackageId;
    use edge_mirror_store::Store;

    use super::*;
    use crate::upstream::PackageLocation;

    #[test]
    fn only_the_rest_of_the_same_version_is_resumed_from() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let version = |etag: &str| {
            let validators = Validators { etag: Some(etag.to_owned()), ..Validators::default() };
            AnnouncedPackage { length: Some(10), validators, ranges: true, sha256: None }
        };
        for (extent, etag, expected) in [
            (AnswerExtent::Rest, "\"a\"", true),
            (AnswerExtent::Rest, "\"b\"", false),
            // Nobody reads what is here of it.
            (AnswerExtent::Whole { is_page: false }, "\"a\"", false),
            (AnswerExtent::Unchanged, "\"a\"", false),
            (AnswerExtent::Unusable(String::new()), "\"a\"", false),
        ] {
            let mut pending =
                store.begin("m".parse::<PackageId>().unwrap(), Some(10), u64::MAX).unwrap();
            pending.write(b"four").unwrap();
            let base_url = "http://10.0.0.1:80".to_owned();
            let origin = Origin::MainServer { base_url, location: PackageLocation::Direct };
            let (announced, grower, replayed_bytes) = (version("\"a\""), None, None);
            let is_archive = false;
            let partial =
                PartialPull { pending, origin, announced, grower, replayed_bytes, is_archive };
            let answer = OriginAnswer::for_test(version(etag), extent.clone());
            assert_eq!(partial.resume(&answer).is_some(), expected, "{extent:?} {etag}");
        }
    }
}
