//! A package that is being pulled: begun, received and written, and resumed after an
//! attempt that failed.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    package::{Validators, VerifyLevel},
    relay::auth::PackageVersion,
};
use edge_mirror_settings::NetworkConfig;
use edge_mirror_store::{PendingPackage, StoreError, growing::PartialWriter};
use tokio::time::Instant;

use super::{
    FetchInner, PullError, PullReason,
    context::AttemptContext,
    error::StallLimit,
    flight::SharedPartial,
    gap,
    origin::Origin,
    pieces::{BadPiece, PieceVerifier},
};
use crate::upstream::{
    AnnouncedPackage, AnswerExtent, OriginAnswer, OriginBody, TransferError, TransferEvent,
    TransferLimits,
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

/// A time that no pull takes, and that can be added to a date.
const LONGEST_S: u64 = 366 * 86400;

/// A package being pulled, and the state that a failed attempt leaves for the next
/// one: kept if the rest can be requested, or if it has readers.
pub(super) struct PartialPull {
    pub pending: PendingPackage,
    pub origin: Origin,
    pub announced: AnnouncedPackage,
    /// None where nothing tells versions apart.
    pub version: Option<PackageVersion>,
    /// The node that bytes come from now, or came from last.
    pub parent: Option<String>,
    /// Bytes that were here when that one began.
    pub parent_start: u64,
    /// Some of it came through other nodes, and the main server did not repeat it.
    pub is_relayed: bool,
    /// The main server has sent other bytes than those that came through other nodes.
    pub is_refuted: bool,
    pub pieces: Option<PieceVerifier>,
    pub grower: Option<PartialWriter>,
    /// Bytes of it that an answer from the beginning has repeated.
    pub(crate) replayed_bytes: Option<u64>,
    /// Its first bytes look like an archive.
    pub(crate) is_archive: bool,
}

impl PartialPull {
    fn new(
        pending: PendingPackage,
        origin: Origin,
        announced: AnnouncedPackage,
        version: Option<PackageVersion>,
    ) -> Self {
        Self {
            pending,
            origin,
            announced,
            version,
            parent: None,
            parent_start: 0,
            is_relayed: false,
            is_refuted: false,
            pieces: None,
            grower: None,
            replayed_bytes: None,
            is_archive: false,
        }
    }

    /// The validator for `If-Range`, if the main server has ranges.
    pub(super) fn resume_validator(&self) -> Option<&str> {
        strong_etag(&self.announced.validators).filter(|_| self.announced.ranges)
    }

    pub(super) fn is_worth_keeping(&self) -> bool {
        self.resume_validator().is_some() || self.has_readers() || self.is_relayed
    }

    /// Itself, if the answer continues it exactly where it stopped, in the same
    /// version, or may be the same version from the beginning, for its readers;
    /// [`skip_replayed`](Self::skip_replayed) finds out. Anything else must start
    /// over: versions are never mixed.
    pub(super) fn resume(mut self, answer: &OriginAnswer) -> Option<Self> {
        let (before, now) = (&self.announced, &answer.announced);
        let resumes = match answer.extent {
            AnswerExtent::Rest => {
                now.validators.etag == before.validators.etag && before.fits_length(now.length)
            }
            AnswerExtent::Whole { .. } => {
                // Of one digest, whatever else main server and parent say of it.
                let is_same = match (before.sha256, now.sha256) {
                    (Some(before), Some(now)) => before == now,
                    (None, None) => now.validators == before.validators,
                    _ => false,
                };
                (self.has_readers() || self.is_relayed && self.grower.is_some())
                    && now.length == before.length
                    && is_same
            }
            AnswerExtent::Unchanged | AnswerExtent::Unusable(_) => false,
        };
        self.replayed_bytes = (answer.extent != AnswerExtent::Rest).then_some(0);
        resumes.then_some(self)
    }

    /// All its bytes are here: what is missing is the proof that they are right.
    pub(super) fn is_complete(&self) -> bool {
        self.announced.length == Some(self.pending.received_bytes())
    }

    /// Notes whom the next bytes come from.
    pub(super) fn continue_from(&mut self, parent: Option<String>) {
        (self.parent, self.parent_start) = (parent, self.pending.received_bytes());
    }

    /// True if the one that sends now has sent the whole of a bad piece.
    pub(super) fn is_of_one_source(&self, bad: BadPiece) -> bool {
        bad.start >= self.parent_start
    }

    fn has_readers(&self) -> bool {
        self.grower.as_ref().is_some_and(|grower| grower.growing().has_readers())
    }

    /// Returns the new part of a chunk. The part that an answer from the beginning
    /// repeats must be the same, byte by byte: then readers have got a part of this
    /// version, whatever tags and dates say. Blocks for the read from disk.
    pub(super) fn skip_replayed(
        &mut self,
        task: &AttemptContext<'_>,
        mut chunk: Bytes,
    ) -> Result<Bytes, PullError> {
        let (Some(at), Some(grower)) = (self.replayed_bytes, &self.grower) else {
            return Ok(chunk);
        };
        let whole = chunk.clone();
        let left = self.pending.received_bytes() - at;
        let told = chunk.split_to(chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        match grower.growing().has_bytes_at(at, &told) {
            Ok(true) => {}
            // Up to here, other nodes' bytes are the main server's; the rest is its own.
            Ok(false) if self.is_relayed => {
                (self.is_relayed, self.is_refuted) = (false, true);
                (self.replayed_bytes, self.pieces) = (None, None);
                self.take_back(task, BadPiece { start: at })?;
                return Ok(whole);
            }
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
        // The main server has sent the same.
        self.is_relayed &= self.replayed_bytes.is_some();
        Ok(chunk)
    }

    /// Lets children and clients follow it from now on. Blocks.
    pub(super) fn share(&mut self, task: &AttemptContext<'_>) {
        let length = self.announced.length;
        // First: who follows what was there before is cut off.
        self.grower = None;
        self.grower = PartialWriter::begin(&self.pending, length, self.announced.sha256);
        if let Some(grower) = &self.grower {
            grower.set_written(self.pending.received_bytes());
            task.flight.set_growing(SharedPartial {
                origin: task.upstream.origin().to_owned(),
                version: self.version.clone(),
                partial: grower.growing().clone(),
            });
        }
    }

    /// Takes back a piece whose bytes are not the package's. Blocks.
    pub(super) fn take_back(
        &mut self,
        task: &AttemptContext<'_>,
        bad: BadPiece,
    ) -> Result<(), StoreError> {
        self.pending.take_back(bad.start)?;
        task.flight.set_received(bad.start, self.announced.length);
        self.share(task);
        Ok(())
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
        let version = task.version(&announced);
        let mut pulling = PartialPull::new(pending, origin, announced, version);
        // A page is of no use to a client that waits for a package.
        if !is_page {
            tasks::block_in_place(|| pulling.share(task));
        }
        Ok(pulling)
    }

    /// Receives the body: written in batches as it arrives. Blocks this thread on the disk.
    pub(super) async fn receive(
        &self,
        task: &AttemptContext<'_>,
        body: &mut OriginBody,
        pulling: &mut PartialPull,
    ) -> Result<(), PullError> {
        let network = &task.config.network;
        let (total, stall) = limits(network, pulling.parent.is_some());
        body.start(TransferLimits {
            total: Duration::from_secs(total),
            stall: Duration::from_secs(stall.seconds),
            least_bytes: gap::LEAST_BYTES,
        });
        task.flight.begin_transfer();
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
                        TransferError::Stalled => PullError::Stalled(stall),
                        TransferError::TooSlow => PullError::TooSlow(network.download_timeout),
                    });
                }
            };
            // A delay of our own limit does not count as the main server's.
            let mut held_up = self.pacer.throttle(chunk.len()).await;
            if task.flight.urgency_now().is_background() {
                held_up += self.throttle_background(task.flight, chunk.len()).await;
            }
            body.resume_after(held_up);
            let arrived_at = Instant::now();
            let chunk = pulling.skip_replayed(task, chunk)?;
            // Shown to operators as it comes: on a slow line a batch takes seconds.
            let gathered = (batch.len() + chunk.len()) as u64;
            // Without a length of its own, an answer may go on for ever.
            if total.is_some_and(|total| pulling.pending.received_bytes() + gathered > total) {
                let cause = "more bytes come than were announced".to_owned();
                return Err(PullError::Unusable(cause));
            }
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
            Some(total) if total == received => {
                pulling.pieces.as_mut().map_or(Ok(()), |pieces| pieces.finish(total))?;
                Ok(())
            }
            Some(total) => {
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
        let checked = match &mut pulling.pieces {
            Some(pieces) => pieces.update(after - bytes.len() as u64, bytes),
            None => Ok(()),
        };
        self.pulled_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pulling.parent.is_some() {
            pulling.is_relayed |= !bytes.is_empty();
            self.board.counts.relayed_bytes.add(bytes.len() as u64);
            task.flight.edit_source(|source| source.relayed_bytes += bytes.len() as u64);
        }
        checked?;
        if let Some(grower) = &pulling.grower {
            grower.set_written(pulling.pending.received_bytes());
        }
        Ok(())
    }
}

/// Returns the seconds for the whole, and the longest pause.
fn limits(network: &NetworkConfig, has_parent: bool) -> (u64, StallLimit) {
    let NetworkConfig { download_timeout, connection_timeout, .. } = *network;
    match has_parent {
        false => {
            let setting = "network.connectionTimeout";
            (download_timeout, StallLimit { seconds: connection_timeout, setting })
        }
        // What counts is that bytes come. Whether the parent is there, and could send
        // more, it is asked meanwhile.
        true => {
            let setting = "network.downloadTimeout";
            (LONGEST_S, StallLimit { seconds: download_timeout, setting })
        }
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
    fn a_pull_that_is_given_up_names_the_limit_that_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node_config.json");
        std::fs::write(&file, r#"{"nodeId": "n"}"#).unwrap();
        let settings = edge_mirror_settings::Settings::load_or_create(&file).unwrap();
        let network = &settings.current().network;
        let told = |has_parent| PullError::Stalled(limits(network, has_parent).1).to_string();
        assert_eq!(told(false), "no byte came for 10 s (network.connectionTimeout)");
        assert_eq!(told(true), "no byte came for 300 s (network.downloadTimeout)");
        assert_eq!(
            PullError::TooSlow(network.download_timeout).to_string(),
            "not complete after 300 s (network.downloadTimeout), and less than 256 KiB came within network.connectionTimeout"
        );
    }

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
            let partial = PartialPull::new(pending, origin, version("\"a\""), None);
            let answer = OriginAnswer::for_test(version(etag), extent.clone());
            assert_eq!(partial.resume(&answer).is_some(), expected, "{extent:?} {etag}");
        }
    }
}
