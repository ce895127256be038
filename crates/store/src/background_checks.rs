//! Background work on a package while its bytes arrive: they are hashed, the archive's
//! entries are unpacked, and it is all made durable. Each reads or writes what is in
//! the page cache, on a thread of its own, so that the pull waits for none of them.
//!
//! Measured on two cores with nginx for a main server, 1 GB: receiving and writing
//! takes as long as `curl -o`, and these threads share the other core (BENCHMARKS.md).
//! Unpacking deflated entries keeps more than a core busy at such a pace. After the
//! last byte, only their backlog is left to do.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use edge_mirror_base::tasks;
use edge_mirror_protocol::package::Sha256;

use super::verify::{ScannedEntries, digest_of, scan_entries};

/// Smaller files are hashed, unpacked and durable in no time.
const MIN_BACKGROUND_BYTES: u64 = 1 << 20;
/// Waking a thread costs more than hashing a few kilobytes.
const READ_STEP_BYTES: u64 = 1 << 20;
/// Each sync is a transaction of the filesystem's journal. The last bytes of a
/// package wait for at most two of these.
const SYNC_STEP_BYTES: u64 = 16 << 20;

/// Threads that follow a growing file; they give up when it is dropped.
#[derive(Debug, Default)]
pub(super) struct BackgroundChecks {
    /// Set to unpack the entries of the archive; `sync` is set to make bytes durable
    /// soon after they were written.
    pub(crate) unpack: bool,
    pub sync: bool,
    begun: bool,
    hashing: Option<CheckStage<io::Result<Sha256>>>,
    unpacking: Option<CheckStage<ScannedEntries>>,
    syncing: Option<CheckStage<io::Result<()>>>,
}

impl BackgroundChecks {
    /// Notes the size of the file.
    pub(super) fn grown(&mut self, file: &File, bytes: u64) {
        if !self.begun && bytes >= MIN_BACKGROUND_BYTES {
            self.begun = true;
            self.hashing = CheckStage::start("hash", file, hash);
            self.unpacking =
                self.unpack.then(|| CheckStage::start("unpack", file, unpack)).flatten();
            self.syncing = self.sync.then(|| CheckStage::start("sync", file, sync)).flatten();
        }
        self.for_each_stage(|growth| growth.grown(bytes));
    }

    /// Ends the threads, as no more bytes come for a while; the next ones start new ones.
    /// Blocks until a write to the disk that is under way has ended, whose error would
    /// otherwise be lost.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        self.for_each_stage(|growth| growth.end(WriteEnd::GivenUp));
        (self.begun, self.hashing, self.unpacking) = (false, None, None);
        self.join_sync().unwrap_or(Ok(()))
    }

    /// Notes that the file is complete.
    pub(super) fn complete(&self) {
        self.for_each_stage(|growth| growth.end(WriteEnd::Complete));
    }

    /// Returns the digest of all bytes; none if no thread hashed them.
    pub(super) fn join_hash(&mut self) -> Option<io::Result<Sha256>> {
        self.hashing.take().map(CheckStage::join)
    }

    /// Waits until all is unpacked, and returns the entries.
    pub(super) fn join_unpack(&mut self) -> ScannedEntries {
        self.unpacking.take().map(CheckStage::join).unwrap_or_default()
    }

    /// Waits until all is durable; none if no thread did it. An error is reported only
    /// here: the system tells it to the first caller.
    pub(super) fn join_sync(&mut self) -> Option<io::Result<()>> {
        self.syncing.take().map(CheckStage::join)
    }

    fn for_each_stage(&self, tell: impl Fn(&WriteProgress)) {
        self.hashing.iter().for_each(|follower| tell(&follower.growth));
        self.unpacking.iter().for_each(|follower| tell(&follower.growth));
        self.syncing.iter().for_each(|follower| tell(&follower.growth));
    }
}

impl Drop for BackgroundChecks {
    fn drop(&mut self) {
        self.for_each_stage(|growth| growth.end(WriteEnd::GivenUp));
    }
}

fn hash(file: File, growth: Arc<WriteProgress>) -> io::Result<Sha256> {
    digest_of(TailReader { file, growth, at: 0 })
}

fn unpack(file: File, growth: Arc<WriteProgress>) -> ScannedEntries {
    scan_entries(TailReader { file, growth, at: 0 })
}

fn sync(file: File, growth: Arc<WriteProgress>) -> io::Result<()> {
    let mut synced = 0;
    loop {
        let now = growth.wait_for_bytes(synced, SYNC_STEP_BYTES);
        match now.end {
            None => file.sync_data()?,
            Some(WriteEnd::Complete) => return file.sync_all(),
            Some(WriteEnd::GivenUp) => return Ok(()),
        }
        synced = now.bytes;
    }
}

#[derive(Debug)]
struct CheckStage<T> {
    growth: Arc<WriteProgress>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> CheckStage<T> {
    /// None if the system has no file or thread to give: then there is more to do at
    /// the end.
    fn start(
        name: &'static str,
        file: &File,
        work: fn(File, Arc<WriteProgress>) -> T,
    ) -> Option<Self> {
        let file = file.try_clone().ok()?;
        let growth = Arc::<WriteProgress>::default();
        let known = growth.clone();
        let thread = tasks::thread(name, move || work(file, known)).ok()?;
        Some(Self { growth, thread })
    }

    fn join(self) -> T {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Progress of a growing file.
#[derive(Debug, Default)]
struct WriteProgress {
    now: Mutex<ProgressState>,
    wake: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct ProgressState {
    bytes: u64,
    end: Option<WriteEnd>,
    /// Size at which the thread is woken.
    awaited: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteEnd {
    Complete,
    GivenUp,
}

impl WriteProgress {
    fn grown(&self, bytes: u64) {
        let mut now = self.lock();
        now.bytes = bytes;
        if bytes >= now.awaited {
            self.wake.notify_one();
        }
    }

    fn end(&self, end: WriteEnd) {
        self.lock().end = Some(end);
        self.wake.notify_one();
    }

    /// Waits until there are `step` bytes beyond `at`, or there won't be more.
    fn wait_for_bytes(&self, at: u64, step: u64) -> ProgressState {
        let mut now = self.lock();
        now.awaited = at.saturating_add(step);
        while now.bytes < now.awaited && now.end.is_none() {
            now = self.wake.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        *now
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a growing file, waiting at its end.
struct TailReader {
    file: File,
    growth: Arc<WriteProgress>,
    at: u64,
}

impl Read for TailReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut now = *self.growth.lock();
        if now.bytes <= self.at {
            now = self.growth.wait_for_bytes(self.at, READ_STEP_BYTES);
        }
        if now.end == Some(WriteEnd::GivenUp) {
            return Ok(0);
        }
        let there = usize::try_from(now.bytes - self.at).unwrap_or(usize::MAX);
        let length = there.min(buffer.len());
        // At a position of its own, as the writer has the same cursor.
        let read = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Weak,
        time::{Duration, Instant},
    };

    use edge_mirror_protocol::package::VerifyLevel;

    use super::*;
    use crate::{
        testing::zip_of,
        verify::{check_zip_with, digest},
    };

    /// Writes `bytes` in pieces of all sizes, followed by background checks.
    fn followed(bytes: &[u8]) -> (File, BackgroundChecks) {
        let file = tempfile::tempfile().unwrap();
        let mut checks = BackgroundChecks::default();
        (checks.unpack, checks.sync) = (true, true);
        let (mut random, mut at) = (fastrand::Rng::with_seed(4), 0);
        while at < bytes.len() {
            let end = bytes.len().min(at + random.usize(1..600_000));
            file.write_all_at(&bytes[at..end], at as u64).unwrap();
            at = end;
            checks.grown(&file, at as u64);
        }
        (file, checks)
    }

    fn random_zip(bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        fastrand::Rng::with_seed(5).fill(&mut content);
        zip_of(&content)
    }

    #[test]
    fn followers_see_every_byte_once_it_is_there() {
        // Whole steps, and a bit.
        for bytes in [1 << 20, 5 << 20, (40 << 20) + 5] {
            let (file, mut checks) = followed(&random_zip(bytes));
            checks.complete();
            assert_eq!(checks.join_hash().unwrap().unwrap(), digest(&file).unwrap());
            let seen = checks.join_unpack();
            assert!(check_zip_with(&file, VerifyLevel::Full, &seen).is_ok());
            assert_eq!(seen.count(), 1);
            checks.join_sync().unwrap().unwrap();
        }
    }

    #[test]
    fn what_is_small_is_followed_by_nobody() {
        let (_file, mut checks) = followed(&random_zip(1000));
        checks.complete();
        assert!(checks.join_hash().is_none() && checks.join_sync().is_none());
        assert_eq!(checks.join_unpack().count(), 0);
    }

    #[test]
    fn after_a_rest_they_begin_anew_and_see_all() {
        let bytes = random_zip(5 << 20);
        let (file, mut checks) = followed(&bytes[..3 << 20]);
        checks.pause().unwrap();
        assert!(checks.hashing.is_none() && checks.unpacking.is_none() && checks.syncing.is_none());
        file.write_all_at(&bytes[3 << 20..], 3 << 20).unwrap();
        checks.grown(&file, bytes.len() as u64);
        checks.complete();
        assert_eq!(checks.join_hash().unwrap().unwrap(), digest(&file).unwrap());
        assert_eq!(checks.join_unpack().count(), 1);
        checks.join_sync().unwrap().unwrap();
    }

    #[test]
    fn followers_end_when_nobody_wants_to_know_any_more() {
        let (_file, checks) = followed(&random_zip(3 << 20));
        let growths: Vec<Weak<WriteProgress>> = [
            checks.hashing.as_ref().map(|follower| Arc::downgrade(&follower.growth)),
            checks.unpacking.as_ref().map(|follower| Arc::downgrade(&follower.growth)),
            checks.syncing.as_ref().map(|follower| Arc::downgrade(&follower.growth)),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(growths.len(), 3);
        drop(checks);
        let late = Instant::now() + Duration::from_secs(30);
        while growths.iter().any(|growth| growth.strong_count() > 0) {
            assert!(Instant::now() < late, "a follower goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
