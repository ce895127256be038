//! Reads stored packages again, beside the downloads, to find bytes that are no
//! longer those that were verified.

use std::{io, os::unix::fs::FileExt, time::Duration};

use edge_mirror_base::tasks;
use edge_mirror_protocol::package::Sha256;
use sha2::{Digest as _, Sha256 as Sha256Hasher};

use super::{OpenCopy, OpenedPackage, Store, StoreError};

/// Bytes read at a time, on another thread; a millisecond of work.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Returns true if a package's bytes are good. Sleeps for `rest` after each chunk, and
/// calls `read` with its length. Bad ones are left to the caller.
pub async fn is_good(
    store: &Store,
    (stored, opened): &OpenedPackage,
    rest: Duration,
    read: impl Fn(u64),
) -> Result<bool, StoreError> {
    let size = stored.manifest.size_bytes;
    let mut hasher = Sha256Hasher::new();
    let mut at = 0;
    while at < size {
        let (opened, within, from) = (opened.clone(), store.clone(), at);
        let key = stored.manifest.key.clone();
        let chunk = tasks::blocking(move || match read_on(&opened, hasher, from, size) {
            Err(cause) if is_lost(&cause) => Ok(None),
            read => read.map(Some).map_err(|cause| within.unreadable(&key, cause)),
        });
        let Some(chunk) = chunk.await? else { return Ok(false) };
        (hasher, at) = chunk;
        read(at - from);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
    Ok(Sha256::new(hasher.finalize().into()) == stored.manifest.sha256)
}

/// Returns the digest of an open copy. Blocks for as long as reading takes.
pub(super) fn digest(opened: &OpenCopy, size: u64) -> io::Result<Sha256> {
    let mut hasher = Sha256Hasher::new();
    let mut at = 0;
    while at < size {
        (hasher, at) = read_on(opened, hasher, at, size)?;
    }
    Ok(Sha256::new(hasher.finalize().into()))
}

/// True if the disk lost the bytes: every download would break there.
pub(super) fn is_lost(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn read_on(
    opened: &OpenCopy,
    mut hasher: Sha256Hasher,
    at: u64,
    size: u64,
) -> io::Result<(Sha256Hasher, u64)> {
    let mut chunk = vec![0; CHUNK_BYTES.min((size - at) as usize)];
    let end = at + chunk.len() as u64;
    let was_in_memory = opened.is_resident(&(at as usize..end as usize));
    opened.file().read_exact_at(&mut chunk, at)?;
    hasher.update(&chunk);
    if !was_in_memory {
        // What nobody downloads must not displace what everybody does.
        opened.drop_cached(at..end);
    }
    Ok((hasher, end))
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::object::ObjectKey;

    use super::*;
    use crate::testing::{drop_from_cache, is_cached, on_disk, put, zip_of};

    #[tokio::test]
    async fn what_was_not_in_memory_is_not_left_there() {
        let folder = on_disk();
        let (store, _) = Store::open(folder.path()).unwrap();
        let mut content = vec![0; 4 * CHUNK_BYTES];
        fastrand::fill(&mut content);
        put(&store, "m", &zip_of(&content));
        let package = store.open_package("m".parse::<ObjectKey>().unwrap()).unwrap().unwrap();
        let file = package.1.file();
        let again = async || is_good(&store, &package, Duration::ZERO, |_| ()).await.unwrap();
        // Before the other: what was in memory once counts as resident for a while.
        if drop_from_cache(file) {
            assert!(again().await && !is_cached(file));
        }
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(again().await && is_cached(file), "others had it there");
    }

    #[test]
    fn only_what_the_disk_lost_is_damage() {
        let of = |errno: rustix::io::Errno| is_lost(&errno.into());
        assert!(of(rustix::io::Errno::IO));
        assert!(!of(rustix::io::Errno::MFILE) && !of(rustix::io::Errno::ACCESS));
    }
}
