//! The digests of packages' pieces. A node that pulls from another one checks each piece
//! as it comes, and so finds a bad source within one.

use std::{
    collections::VecDeque,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;
use edge_mirror_base::tasks;
use edge_mirror_protocol::{
    object::ObjectKey,
    package::{PackageId, Sha256},
    relay::PIECE_BYTES,
};
use edge_mirror_store::{OpenCopy, OpenedPackage};
use sha2::{Digest, Sha256 as Hasher};
use tokio::sync::Semaphore;

use crate::{refusal::RequestError, server::Server};

/// Packages whose digests are kept; more than are spread at a time.
const MAX_PACKAGES: usize = 64;
/// Bytes of digests that are kept: those of 256 GiB.
const MAX_BYTES: usize = 8 << 20;

/// The digests of the packages that were asked for last.
#[derive(Debug)]
pub(crate) struct PieceDigests {
    cache: Mutex<DigestCache>,
    /// One package is read at a time: anybody may ask, and each is read once.
    turn: Arc<Semaphore>,
    /// The same of files, which can be large: packages don't wait for them.
    file_turn: Arc<Semaphore>,
}

/// By the package's own digest, the last used one first.
#[derive(Debug, Default)]
struct DigestCache(VecDeque<(Sha256, Bytes)>);

impl Default for PieceDigests {
    fn default() -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self { cache: Mutex::default(), turn: turn(), file_turn: turn() }
    }
}

impl PieceDigests {
    fn cache(&self) -> MutexGuard<'_, DigestCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DigestCache {
    fn get(&mut self, sha256: Sha256) -> Option<Bytes> {
        let at = self.0.iter().position(|(kept, _)| *kept == sha256)?;
        let found = self.0.remove(at)?;
        let digests = found.1.clone();
        self.0.push_front(found);
        Some(digests)
    }

    fn insert(&mut self, sha256: Sha256, digests: Bytes) {
        self.0.push_front((sha256, digests));
        let (mut packages, mut bytes) = (0, 0);
        let fits = self.0.iter().take_while(|(_, digests)| {
            packages += 1;
            bytes += digests.len();
            packages <= MAX_PACKAGES && bytes <= MAX_BYTES
        });
        let fits = fits.count();
        self.0.truncate(fits);
    }
}

impl Server {
    /// Opens a meeting's package.
    pub(crate) async fn package(&self, id: &PackageId) -> Result<OpenedPackage, RequestError> {
        if let Some(named) = self.book().find(id.as_str()).and_then(|meeting| meeting.package) {
            return self.named_package(id, named).await;
        }
        if let Some(package) = self.store.package(id).await? {
            return Ok(package);
        }
        let (store, looking) = (self.store.clone(), id.clone());
        if tasks::blocking_limited(move || store.has_unverified(&looking)).await {
            self.wake.verifier.notify_one();
            return Err(RequestError::Verifying);
        }
        Err(match self.is_at_another(id) {
            true => RequestError::PackageAtAnother,
            false => RequestError::NoPackage,
        })
    }

    /// True if a package that is not here may lie in the data folder of another main server:
    /// whoever asks again may get there.
    fn is_at_another(&self, id: &PackageId) -> bool {
        let (present, silent) = self.others();
        let was_uploaded = || self.book().find(id.as_str()).is_some_and(|found| found.versions > 0);
        self.shared.is_none() && (present > 0 || !silent.is_empty()) && was_uploaded()
    }

    /// Returns the SHA-256 digests of a package's pieces, one after the other, and its own.
    pub(crate) async fn piece_digests(
        &self,
        id: &PackageId,
    ) -> Result<(Sha256, Bytes), RequestError> {
        let opened = self.package(id).await?;
        let sha256 = opened.0.manifest.sha256;
        Ok((sha256, self.digests_of(opened).await?))
    }

    /// The same of any object.
    pub(crate) async fn digests_of(
        &self,
        (stored, opened): OpenedPackage,
    ) -> Result<Bytes, RequestError> {
        let (sha256, size) = (stored.manifest.sha256, stored.manifest.size_bytes);
        if let Some(known) = self.pieces.cache().get(sha256) {
            return Ok(known);
        }
        let turn = match stored.manifest.key {
            ObjectKey::Package(_) => &self.pieces.turn,
            ObjectKey::File(_) => &self.pieces.file_turn,
        };
        // Never closed.
        let turn = turn.clone().acquire_owned().await.ok();
        if let Some(known) = self.pieces.cache().get(sha256) {
            return Ok(known);
        }
        // Whoever asked may leave before a large one is read: the next one finds its digests.
        let pieces = self.pieces.clone();
        let digests = tasks::blocking(move || {
            let _turn = turn;
            let digests = digest_pieces(&opened, size)?;
            pieces.cache().insert(sha256, digests.clone());
            Ok::<_, io::Error>(digests)
        });
        digests.await.map_err(|cause| {
            RequestError::Storage(format!("cannot read {}: {cause}", stored.manifest.key))
        })
    }

    /// Reads the packages that nodes are about to pass on, so that nobody waits for it.
    pub(crate) async fn prepare_piece_digests(&self) {
        let plan = self.relay.borrow().clone();
        for tree in plan.trees().iter().take(MAX_PACKAGES / 2) {
            // A package that can't be read is reported where it is served.
            let _ = self.piece_digests(&tree.id).await;
        }
    }
}

/// Blocks for as long as reading takes.
fn digest_pieces(opened: &OpenCopy, size: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE_BYTES.min(size) as usize];
    let mut digests = Vec::with_capacity(size.div_ceil(PIECE_BYTES) as usize * size_of::<Sha256>());
    let mut at = 0;
    while at < size {
        let bytes = PIECE_BYTES.min(size - at);
        let piece = &mut piece[..bytes as usize];
        opened.file().read_exact_at(piece, at)?;
        digests.extend(Hasher::digest(&*piece));
        at += bytes;
    }
    match opened.is_untouched() {
        true => Ok(digests.into()),
        false => Err(io::Error::other("it was changed meanwhile")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(n: u8) -> Sha256 {
        Sha256::new([n; 32])
    }

    #[test]
    fn what_was_used_last_is_kept_within_both_bounds() {
        let mut cache = DigestCache::default();
        for n in 0..MAX_PACKAGES as u8 {
            cache.insert(sha256(n), Bytes::from_static(b"digests"));
        }
        assert!(cache.get(sha256(0)).is_some());
        cache.insert(sha256(200), Bytes::new());
        assert!(cache.get(sha256(0)).is_some() && cache.get(sha256(1)).is_none());
        cache.insert(sha256(201), vec![0; MAX_BYTES].into());
        assert_eq!(cache.0.len(), 1);
        cache.insert(sha256(202), vec![0; MAX_BYTES + 1].into());
        assert_eq!(cache.0.len(), 0, "it is read again whenever somebody asks");
    }

    #[test]
    fn each_piece_has_its_digest_and_the_last_one_may_be_short() {
        let piece = PIECE_BYTES as usize;
        for size in [0, 1, piece - 1, piece, piece + 1, 2 * piece + 5] {
            let bytes: Vec<u8> = (0..size).map(|n| (n / 7) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &bytes).unwrap();
            let digests = digest_pieces(&OpenCopy::unmapped(file), size as u64).unwrap();
            let expected: Vec<u8> = bytes.chunks(piece).flat_map(Hasher::digest).collect();
            assert_eq!(digests, expected, "{size}");
        }
    }
}
