//! A package under way, for clients that take its bytes while they arrive.
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
    /// Number of bytes that may be sent.
    UnderWay(u64),
    Verified(Arc<StoredPackage>, Option<Arc<OpenCopy>>),
    Broken,
}

/// The side of the followers.
#[derive(Debug)]
pub struct PartialPackage {
    /// A second, read-only handle of the file that is written, and its mapping.
    /// Both stay valid when the file is renamed into place, or removed.
    copy: Arc<OpenCopy>,
    total_bytes: u64,
    sha256: Option<Sha256>,
    state: watch::Sender<PartialState>,
}

/// The side of the receiver; dropped before the package is verified, it cuts off
/// all followers.
#[derive(Debug)]
pub struct PartialWriter(Arc<PartialPackage>);

impl PartialWriter {
    /// None if there is nothing to follow, as all is held back, or if there are no
    /// more file descriptors. Clients wait for the end then.
    pub fn begin(
        pending: &PendingPackage,
        total_bytes: u64,
        sha256: Option<Sha256>,
    ) -> Option<Self> {
        let file = (total_bytes > HELD_BACK_BYTES).then(|| pending.reader())?.ok()?;
        let fate = watch::Sender::new(PartialState::UnderWay(0));
        let copy = Arc::new(OpenCopy::growing(file, total_bytes));
        Some(Self(Arc::new(PartialPackage { copy, total_bytes, sha256, state: fate })))
    }

    /// Begins with a file that can't be mapped.
    #[cfg(any(test, feature = "testing"))]
    pub fn begin_unmapped(pending: &PendingPackage, total_bytes: u64) -> Self {
        let fate = watch::Sender::new(PartialState::UnderWay(0));
        let copy = Arc::new(OpenCopy::unmapped(pending.reader().expect("it is open")));
        Self(Arc::new(PartialPackage { copy, total_bytes, sha256: None, state: fate }))
    }

    pub fn growing(&self) -> &Arc<PartialPackage> {
        &self.0
    }

    /// Notes how many bytes can be read from the file.
    pub fn set_written(&self, written_bytes: u64) {
        let ready = written_bytes.min(self.0.total_bytes - HELD_BACK_BYTES);
        self.0.state.send_if_modified(|fate| match fate {
            PartialState::UnderWay(before) if *before < ready => {
                *before = ready;
                true
            }
            PartialState::UnderWay(_) | PartialState::Verified(..) | PartialState::Broken => false,
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
            let broken = matches!(fate, PartialState::UnderWay(_));
            if broken {
                *fate = PartialState::Broken;
            }
            broken
        });
    }
}

impl PartialPackage {
    /// Size that the main server announced.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
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

    pub fn reader(&self) -> PartialReader {
        PartialReader { state: self.state.subscribe() }
    }
}

/// One follower's view of the progress.
#[derive(Debug)]
pub struct PartialReader {
    state: watch::Receiver<PartialState>,
}

/// Bytes that a follower may send.
#[derive(Clone, Debug)]
pub enum ReadLimit {
    /// Up to this byte, unverified.
    To(u64),
    /// To the end of the requested range, from this copy if there is one.
    Verified(Arc<StoredPackage>, Option<Arc<OpenCopy>>),
}

impl PartialReader {
    /// Waits until a follower that wants the bytes before `end` may send more from `at`.
    /// No range of a package completes unverified: its last byte, too, is held back.
    pub async fn wait_until_ready(&mut self, at: u64, end: u64) -> io::Result<ReadLimit> {
        let to = |ready: u64| ready.min(end.saturating_sub(1));
        let news = self.state.wait_for(|fate| match fate {
            PartialState::UnderWay(ready) => to(*ready) > at,
            PartialState::Verified(..) | PartialState::Broken => true,
        });
        match news.await.map(|fate| fate.clone()) {
            Ok(PartialState::UnderWay(ready)) => Ok(ReadLimit::To(to(ready))),
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
            Ok(ReadLimit::Verified(..)) => Some(u64::MAX),
            Err(_) => None,
        })
    }

    #[test]
    fn what_is_written_is_given_but_for_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let grower = PartialWriter::begin(&pending(&folder), TOTAL, None).unwrap();
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
        let begin = || PartialWriter::begin(&pending, TOTAL, None).unwrap();
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
    fn a_package_that_is_all_end_can_not_be_followed() {
        let folder = tempfile::tempdir().unwrap();
        let pending = pending(&folder);
        assert!(PartialWriter::begin(&pending, HELD_BACK_BYTES, None).is_none());
        assert!(PartialWriter::begin(&pending, HELD_BACK_BYTES + 1, None).is_some());
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
