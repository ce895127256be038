//! Reads every stored package again, once a week, slowly: a disk may lose bits
//! without a change of a file's size or time. A damaged package is removed, and
//! sync pulls it again if its meeting is active.

use std::{collections::HashSet, sync::Arc, time::Duration};

use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_protocol::object::ObjectKey;
use edge_mirror_store::{
    OpenedPackage, Store, StoreError,
    reread::{self, CHUNK_BYTES},
};
use tracing::{debug, error, warn};

use crate::board::{CheckOccasion, NodeCounters, StatusBoard};

const EVERY_S: u64 = 7 * 24 * 3600;
/// Interval of looking for a package that is due.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Slow enough that downloads are not affected.
const SLOW_BYTES_PER_S: f64 = 4e6;
/// A pass over a large storage has to end before the next is due.
const PASS_S: f64 = EVERY_S as f64 / 2.0;

pub(crate) async fn run(board: Arc<StatusBoard>) {
    let (mut folder, counts) = (board.store.subscribe(), &board.counts);
    loop {
        let store = Store::clone(&folder.borrow_and_update());
        let look = async move {
            look(store, counts).await;
            tokio::time::sleep(LOOK_EVERY).await;
        };
        tokio::select! {
            () = look => {}
            // A reader in the old folder would keep its lock.
            _ = folder.changed() => {}
        }
    }
}

/// Reads all packages that are due.
async fn look(store: Store, counts: &NodeCounters) {
    // One that can't be read must not keep the others from being read.
    let mut unreadable = HashSet::new();
    while let Some(package) = due(&store, &mut unreadable).await {
        let key = package.0.manifest.key.clone();
        let what = key.describe();
        match check(&store, package).await {
            Ok(true) => debug!("{what} read again: it is as it was verified"),
            Ok(false) => {
                counts.bad_packages.inc(CheckOccasion::ReadAgain);
                error!("{what} was damaged on disk and was removed");
            }
            Err(error) => {
                warn!("{what} could not be read again: {error}");
                unreadable.insert(key);
            }
        }
    }
}

/// The object that was read longest ago, if it is due; adds those that can't be opened
/// to `unreadable`.
async fn due(store: &Store, unreadable: &mut HashSet<ObjectKey>) -> Option<OpenedPackage> {
    let (store, mut skipped) = (store.clone(), std::mem::take(unreadable));
    let looking = tasks::blocking(move || {
        let before = now_s().saturating_sub(EVERY_S);
        let mut due: Vec<_> = store.list();
        due.retain(|stored| {
            stored.manifest.read_s() < before && !skipped.contains(&stored.manifest.key)
        });
        due.sort_by_key(|stored| stored.manifest.read_s());
        // One whose file was changed or removed leaves the index by the attempt.
        let opened = due.iter().map(|stored| &stored.manifest.key).find_map(|key| {
            store.open_package(key).unwrap_or_else(|error| {
                warn!("{} could not be opened to be read again: {error}", key.describe());
                skipped.insert(key.clone());
                None
            })
        });
        (opened, skipped)
    });
    let (opened, skipped) = looking.await;
    *unreadable = skipped;
    opened
}

/// True if the bytes are those that were verified.
async fn check(store: &Store, package: OpenedPackage) -> Result<bool, StoreError> {
    let rest = pause(store.used_bytes());
    let (stored, good) = (package.0.clone(), reread::is_good(store, &package, rest, |_| ()).await?);
    let store = store.clone();
    tasks::blocking(move || store.record_reread(&stored, good)).await?;
    Ok(good)
}

/// Pause between two chunks.
fn pause(stored_bytes: u64) -> Duration {
    let bytes_per_s = SLOW_BYTES_PER_S.max(stored_bytes as f64 / PASS_S);
    Duration::from_secs_f64(CHUNK_BYTES as f64 / bytes_per_s)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, path::Path};

    use edge_mirror_protocol::package::VerifyLevel;
    use edge_mirror_store::testing::{provenance, put, zip_of};

    use super::*;

    /// Flips a bit, without a change of size or time.
    fn rot(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let before = std::fs::metadata(path).unwrap().modified().unwrap();
        bytes[40] ^= 1;
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(before)).unwrap();
    }

    #[tokio::test]
    async fn lost_bits_are_found_and_what_is_good_is_left_alone_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let put = |store: &Store, name: &str| {
            let mut pending =
                store.begin(name.parse::<ObjectKey>().unwrap(), None, u64::MAX).unwrap();
            pending.write(&zip_of(&[b'x'; 2000])).unwrap();
            pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
        };
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "good");
        put(&store, "rotten");
        rot(&folder.path().join("meeting_rotten/package.zip"));
        assert!(due(&store, &mut HashSet::new()).await.is_none(), "both were read just now");
        for (name, expected) in [("good", true), ("rotten", false)] {
            let package = store.open_package(name.parse::<ObjectKey>().unwrap()).unwrap().unwrap();
            assert_eq!(check(&store, package).await.unwrap(), expected);
            assert_eq!(store.get(name.parse::<ObjectKey>().unwrap()).is_some(), expected);
        }
    }

    #[tokio::test]
    async fn the_package_that_was_read_longest_ago_is_due_first() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            let mut pending =
                store.begin(name.parse::<ObjectKey>().unwrap(), None, u64::MAX).unwrap();
            pending.write(&zip_of(b"x")).unwrap();
            pending.commit(VerifyLevel::Full, None, provenance(), || true).unwrap();
        }
        drop(store);
        for (name, read_s) in [("a", 2), ("b", 1)] {
            tell(folder.path(), name, "verified_s", read_s);
        }
        let (store, _) = Store::open(folder.path()).unwrap();
        for expected in [Some("b"), Some("a"), None] {
            let package = due(&store, &mut HashSet::new()).await;
            let id = package.as_ref().map(|(stored, _)| stored.manifest.key.to_string());
            assert_eq!(id.as_deref(), expected);
            if let Some(package) = package {
                assert!(check(&store, package).await.unwrap());
            }
        }
    }

    /// Puts something else into a manifest.
    fn tell(folder: &Path, name: &str, field: &str, value: u64) {
        let path = folder.join(format!("meeting_{name}/manifest.json"));
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest[field] = value.into();
        std::fs::write(&path, manifest.to_string()).unwrap();
    }

    #[tokio::test]
    async fn one_that_can_not_be_read_does_not_keep_the_others_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        put(&store, "broken", &zip_of(b"x"));
        put(&store, "good", &zip_of(b"x"));
        drop(store);
        tell(folder.path(), "broken", "verified_s", 1);
        tell(folder.path(), "good", "verified_s", 2);
        let (store, _) = Store::open(folder.path()).unwrap();
        let package = due(&store, &mut HashSet::new()).await.unwrap();
        let broken = package.0.manifest.key.clone();
        assert_eq!(broken.as_str(), "broken");
        // It is truncated after it was opened.
        let file =
            File::options().write(true).open(folder.path().join("meeting_broken/package.zip"));
        file.unwrap().set_len(10).unwrap();
        assert!(check(&store, package).await.is_err());
        let next = due(&store, &mut HashSet::from([broken])).await.unwrap();
        assert_eq!(next.0.manifest.key.as_str(), "good");
    }

    #[tokio::test]
    async fn each_package_that_turns_out_damaged_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        for name in ["good", "rotten"] {
            put(&store, name, &zip_of(&[b'x'; 2000]));
        }
        drop(store);
        for name in ["good", "rotten"] {
            tell(folder.path(), name, "verified_s", 1);
        }
        rot(&folder.path().join("meeting_rotten/package.zip"));
        let counts = NodeCounters::default();
        look(Store::open(folder.path()).unwrap().0, &counts).await;
        assert_eq!(counts.bad_packages.counter(CheckOccasion::ReadAgain).get(), 1);
    }

    #[tokio::test]
    async fn a_folder_that_is_no_longer_used_is_let_go_at_once() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _) = Store::open(old.path()).unwrap();
        let mut long = vec![0; 100 * CHUNK_BYTES];
        fastrand::fill(&mut long);
        put(&store, "m", &zip_of(&long));
        drop(store);
        tell(old.path(), "m", "verified_s", 1);
        let board = Arc::new(StatusBoard::new(Store::open(old.path()).unwrap().0, 0));
        let tasks = tasks::Tasks::new();
        tasks.spawn("scrub", run(board.clone()));
        // It is open because it is being read.
        while board.store().get_if_open("m").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        board.store.set(Store::open(new.path()).unwrap().0);
        let again = old.path().to_owned();
        tasks::blocking(move || Store::open(&again).map(drop)).await.unwrap();
    }

    #[test]
    fn a_pass_is_slow_and_ends_within_the_week() {
        let pass_s = |bytes: u64| bytes as f64 / CHUNK_BYTES as f64 * pause(bytes).as_secs_f64();
        assert!(pass_s(1 << 30) > 200.0);
        for terabytes in [1_u64, 5, 50] {
            assert!(pass_s(terabytes << 40) < EVERY_S as f64, "{terabytes} TB");
        }
    }
}
