//! A package under way, for clients and other nodes that take its bytes while they
//! arrive.
//!
//! The receiver holds the [`PartialWriter`]; any number follow the [`PartialPackage`], each at its
//! own pace from the same open file. A growing package is one file of one attempt's
//! version and never becomes another: it ends verified, or with all followers cut
//! off.

use std::{io, os::unix::fs::FileExt, sync::Arc};

use edge_mirror_protocol::package::Sha256;
use tokio::sync::watch;

use super::{OpenCopy, PendingPackage, StoredPackage};

/// Length of the end of every package that nobody gets before the whole is verified: a
/// ZIP's last record, by which it is opened, lies there even with the longest comment.
/// The part that was sent of a bad package is then no archive, even for programs that
/// don't notice a broken connection. (An archive that is an entry of the package can't
/// be kept from looking like one.)
pub const HELD_BACK_BYTES: u64 = (64 << 10) + 22;

#[derive(Clone, Debug)]
enum PartialState {
    /// Number of bytes that are written.
    UnderWay(u64),
    /// All of them are, and are being verified.
    Received(u64),
    Verified(Arc<StoredPackage>, Option<Arc<OpenCopy>>),
    Broken,
}

/// The side of the followers.
#[derive(Debug)]
pub struct PartialPackage {
    /// A second, read-only handle of the file that is written, and its mapping.
    /// Both stay valid when the file is renamed into place, or removed.
    copy: Arc<OpenCopy>,
    /// None if it was not announced.
    total_bytes: Option<u64>,
    sha256: Option<Sha256>,
    state: watch::Sender<PartialState>,
}

/// The side of the receiver; dropped before the package is verified, it cuts off
/// all followers.
#[derive(Debug)]
pub struct PartialWriter(Arc<PartialPackage>);

impl PartialWriter {
    /// None if there are no more file descriptors. Nobody follows it then.
    pub fn begin(
        pending: &PendingPackage,
        total_bytes: Option<u64>,
        sha256: Option<Sha256>,
    ) -> Option<Self> {
        let file = pending.reader().ok()?;
        let copy = match total_bytes {
            Some(length) if length > HELD_BACK_BYTES => OpenCopy::growing(file, length),
            // Of unknown length, or too short to be worth a mapping.
            Some(_) | None => OpenCopy::unmapped(file),
        };
        Some(Self::of(copy, total_bytes, sha256))
    }

    fn of(copy: OpenCopy, total_bytes: Option<u64>, sha256: Option<Sha256>) -> Self {
        let (copy, state) = (Arc::new(copy), watch::Sender::new(PartialState::UnderWay(0)));
        Self(Arc::new(PartialPackage { copy, total_bytes, sha256, state }))
    }

    /// Begins with a file that can't be mapped.
    #[cfg(any(test, feature = "testing"))]
    pub fn begin_unmapped(pending: &PendingPackage, total_bytes: u64) -> Self {
        let copy = OpenCopy::unmapped(pending.reader().expect("it is open"));
        Self::of(copy, Some(total_bytes), None)
    }

    pub fn growing(&self) -> &Arc<PartialPackage> {
        &self.0
    }

    /// Notes how many bytes can be read from the file.
    pub fn set_written(&self, written_bytes: u64) {
        self.0.state.send_if_modified(|state| match state {
            PartialState::UnderWay(before) if *before < written_bytes => {
                *before = written_bytes;
                true
            }
            PartialState::UnderWay(_)
            | PartialState::Received(_)
            | PartialState::Verified(..)
            | PartialState::Broken => false,
        });
    }

    /// Notes that all bytes are there; they are being verified.
    pub fn set_received(&self, total_bytes: u64) {
        self.0.state.send_if_modified(|state| {
            let under_way = matches!(state, PartialState::UnderWay(_));
            if under_way {
                *state = PartialState::Received(total_bytes);
            }
            under_way
        });
    }

    /// Ends with the bytes of `stored`, whether this file took its place or was redundant.
    /// `opened` is the copy to continue from, if there is one.
    pub fn verified(self, stored: &Arc<StoredPackage>, opened: Option<Arc<OpenCopy>>) {
        self.0.state.send_replace(PartialState::Verified(stored.clone(), opened));
    }
}

impl Drop for PartialWriter {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|fate| {
            let broken = matches!(fate, PartialState::UnderWay(_) | PartialState::Received(_));
            if broken {
                *fate = PartialState::Broken;
            }
            broken
        });
    }
}

impl PartialPackage {
    /// Size that the main server announced.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Size of a package that clients can follow: of others nothing may be sent before
    /// all of it is verified, or not even the length is known.
    pub fn followable_bytes(&self) -> Option<u64> {
        self.total_bytes.filter(|total| *total > HELD_BACK_BYTES)
    }

    /// Bytes that are there, and whether these are all.
    pub fn received_bytes(&self) -> (u64, bool) {
        match &*self.state.borrow() {
            PartialState::UnderWay(written) => (*written, false),
            PartialState::Received(total) => (*total, true),
            PartialState::Verified(stored, _) => (stored.manifest.size_bytes, true),
            PartialState::Broken => (0, false),
        }
    }

    /// Digest that the main server announced for these bytes.
    pub fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// Returns the file; only what is [`ReadLimit`] may be read.
    pub fn copy(&self) -> &Arc<OpenCopy> {
        &self.copy
    }

    pub fn is_broken(&self) -> bool {
        matches!(*self.state.borrow(), PartialState::Broken)
    }

    pub fn has_readers(&self) -> bool {
        self.state.receiver_count() > 0
    }

    /// True if the file holds these bytes at `at`. Reads from the page cache, where they
    /// have just been put; blocks if they are there no longer.
    pub fn has_bytes_at(&self, at: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut held = vec![0; bytes.len()];
        self.copy.file().read_exact_at(&mut held, at)?;
        Ok(held == bytes)
    }

    /// For a client: the end is held back until all is verified.
    pub fn reader(&self) -> PartialReader {
        let end = self.total_bytes.unwrap_or(0).saturating_sub(HELD_BACK_BYTES);
        PartialReader { state: self.state.subscribe(), unverified_end: Some(end) }
    }

    /// For a node that verifies the package itself.
    pub fn unverified_reader(&self) -> PartialReader {
        PartialReader { state: self.state.subscribe(), unverified_end: None }
    }
}

/// One follower's view of the progress.
#[derive(Debug)]
pub struct PartialReader {
    state: watch::Receiver<PartialState>,
    /// End of what may be sent before all is verified; none if all may be.
    unverified_end: Option<u64>,
}

/// Bytes that a follower may send.
#[derive(Clone, Debug)]
pub enum ReadLimit {
    /// Up to this byte, unverified.
    To(u64),
    /// There is no more of it.
    End,
    /// To the end of the requested range, from this copy if there is one.
    Verified(Arc<StoredPackage>, Option<Arc<OpenCopy>>),
}

impl PartialReader {
    /// Waits until a follower that wants the bytes before `end` may send more from `at`.
    /// No range of a package completes unverified at a client: its last byte, too, is
    /// held back.
    pub async fn wait_until_ready(&mut self, at: u64, end: u64) -> io::Result<ReadLimit> {
        let limit = self.unverified_end;
        let to = |written: u64| match limit {
            Some(limit) => written.min(limit).min(end.saturating_sub(1)),
            None => written.min(end),
        };
        let is_end = |total: u64| limit.is_none() && total <= at;
        let news = self.state.wait_for(|state| match state {
            PartialState::UnderWay(written) => to(*written) > at,
            PartialState::Received(total) => is_end(*total) || to(*total) > at,
            PartialState::Verified(..) | PartialState::Broken => true,
        });
        match news.await.map(|state| state.clone()) {
            Ok(PartialState::Received(total)) if is_end(total) => Ok(ReadLimit::End),
            Ok(PartialState::UnderWay(ready) | PartialState::Received(ready)) => {
                Ok(ReadLimit::To(to(ready)))
            }
            Ok(PartialState::Verified(stored, _)) if is_end(stored.manifest.size_bytes) => {
                Ok(ReadLimit::End)
            }
            Ok(PartialState::Verified(stored, opened)) => Ok(ReadLimit::Verified(stored, opened)),
            Ok(PartialState::Broken) | Err(_) => Err(io::Error::other("the pull broke off")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use edge_mirror_protocol::{object::ObjectKey, package::VerifyLevel};
    use futures_util::FutureExt;

    use super::{
        super::{
            Store,
            testing::{provenance, zip_of},
        },
        *,
    };

    const TOTAL: u64 = HELD_BACK_BYTES + 100;

    fn pending(folder: &tempfile::TempDir) -> PendingPackage {
        let store = Store::open(folder.path()).unwrap().0;
        store.begin("m".parse::<ObjectKey>().unwrap(), None, u64::MAX).unwrap()
    }

    fn ready(watched: &mut PartialReader, at: u64, end: u64) -> Option<Option<u64>> {
        Some(match watched.wait_until_ready(at, end).now_or_never()? {
            Ok(ReadLimit::To(ready)) => Some(ready),
            Ok(ReadLimit::End) => Some(u64::MAX - 1),
            Ok(ReadLimit::Verified(..)) => Some(u64::MAX),
            Err(_) => None,
        })
    }

    #[test]
    fn what_is_written_is_given_but_for_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let grower = PartialWriter::begin(&pending(&folder), Some(TOTAL), None).unwrap();
        let mut watched = grower.growing().reader();
        assert_eq!(ready(&mut watched, 0, TOTAL), None);
        grower.set_written(60);
        assert_eq!(ready(&mut watched, 0, TOTAL), Some(Some(60)));
        assert_eq!(ready(&mut watched, 60, TOTAL), None);
        // The last byte of the range, too.
        assert_eq!(ready(&mut watched, 0, 60), Some(Some(59)));
        assert_eq!(ready(&mut watched, 59, 60), None);
        grower.set_written(TOTAL);
        assert_eq!(ready(&mut watched, 60, TOTAL), Some(Some(100)));
        assert_eq!(ready(&mut watched, 100, TOTAL), None);
        assert_eq!(ready(&mut watched, TOTAL - 1, TOTAL), None);
    }

    #[test]
    fn all_is_given_once_it_is_verified_and_nothing_once_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut pending = pending(&folder);
        pending.write(&zip_of(b"x")).unwrap();
        let begin = || PartialWriter::begin(&pending, Some(TOTAL), None).unwrap();
        let (good, bad) = (begin(), begin());
        let (mut of_good, mut of_bad) = (good.growing().reader(), bad.growing().reader());
        bad.set_written(50);
        let growing = bad.growing().clone();
        assert!(!growing.is_broken());
        drop(bad);
        assert!(growing.is_broken());
        assert_eq!(ready(&mut of_bad, 10, TOTAL), Some(None), "not even what is there");
        let stored = pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
        good.verified(&stored, None);
        assert_eq!(ready(&mut of_good, TOTAL - 1, TOTAL), Some(Some(u64::MAX)));
    }

    #[test]
    fn a_package_that_is_all_end_or_of_unknown_length_is_for_nodes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pending = pending(&folder);
        let followable = |total| {
            let writer = PartialWriter::begin(&pending, total, None).unwrap();
            writer.growing().followable_bytes()
        };
        assert_eq!(followable(None), None);
        assert_eq!(followable(Some(HELD_BACK_BYTES)), None);
        assert_eq!(followable(Some(HELD_BACK_BYTES + 1)), Some(HELD_BACK_BYTES + 1));
    }

    #[test]
    fn nodes_get_all_that_is_written_and_its_end_and_clients_still_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pending = pending(&folder);
        for total in [Some(TOTAL), None] {
            let writer = PartialWriter::begin(&pending, total, None).unwrap();
            let partial = writer.growing().clone();
            let (mut node, mut client) = (partial.unverified_reader(), partial.reader());
            let end = total.unwrap_or(u64::MAX);
            assert_eq!(ready(&mut node, 0, end), None);
            writer.set_written(TOTAL - 1);
            assert_eq!(ready(&mut node, 0, end), Some(Some(TOTAL - 1)));
            assert_eq!(ready(&mut node, TOTAL - 1, end), None);
            writer.set_written(TOTAL);
            assert_eq!(ready(&mut node, TOTAL - 1, end), Some(Some(TOTAL)));
            assert_eq!(partial.received_bytes(), (TOTAL, false));
            writer.set_received(TOTAL);
            assert_eq!(partial.received_bytes(), (TOTAL, true));
            assert_eq!(ready(&mut node, TOTAL, end), Some(Some(u64::MAX - 1)), "its end");
            assert_eq!(ready(&mut client, total.map_or(0, |_| 100), TOTAL), None);
            drop(writer);
            assert_eq!(ready(&mut node, TOTAL, end), Some(None), "it was not good");
        }
    }

    #[test]
    fn without_its_end_a_package_is_no_archive_however_long_its_comment() {
        for comment in [0, 1, 1000, u16::MAX as usize] {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            zip.set_comment("x".repeat(comment)).unwrap();
            let plain = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored);
            zip.start_file("a", plain).unwrap();
            zip.write_all(&[7; 200_000]).unwrap();
            let zip = zip.finish().unwrap().into_inner();
            let opens = |bytes: &[u8]| zip::ZipArchive::new(Cursor::new(bytes)).is_ok();
            assert!(opens(&zip));
            assert!(!opens(&zip[..zip.len() - HELD_BACK_BYTES as usize]), "{comment}");
        }
    }
}
