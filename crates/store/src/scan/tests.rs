//! Files of tasks beside packages: written, verified, found again, evicted.

use std::fs;

use edge_mirror_base::clock::now_s;
use edge_mirror_protocol::{
    object::{FileKey, MediaType, ObjectKey, Retention, Verification},
    package::{PackageId, Sha256, VerifyLevel},
};

use crate::{
    Provenance, Store, StoreError, StoredPackage,
    evict::{EvictionCandidate, choose_evictions},
    testing::{provenance, put, zip_of},
    verify::{self, VerifyError},
};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap().0;
    (folder, store)
}

fn file(task: &str, name: &str) -> ObjectKey {
    FileKey::new(task, name).unwrap().into()
}

fn sha256(bytes: &[u8]) -> Option<Sha256> {
    Some(verify::digest_of(bytes).unwrap())
}

fn text(retention: Retention) -> Provenance {
    let media_type = MediaType::try_from("text/plain".to_owned()).unwrap();
    Provenance { media_type, retention, ..provenance() }
}

fn commit(
    store: &Store,
    key: &ObjectKey,
    bytes: &[u8],
    announced: Option<Sha256>,
) -> Result<std::sync::Arc<StoredPackage>, StoreError> {
    let mut pending = store.begin(key, Some(bytes.len() as u64), u64::MAX)?;
    pending.write(bytes)?;
    pending.commit(Verification::Digest, announced, text(Retention::Keep), || true)
}

fn read(store: &Store, key: &ObjectKey) -> Option<Vec<u8>> {
    let (_, opened) = store.open_package(key).unwrap()?;
    Some(opened.bytes().unwrap().to_vec())
}

#[tokio::test]
async fn a_file_is_verified_by_its_digest_served_and_found_after_a_restart() {
    let (folder, store) = store();
    let key = file("t1", "会议/a b.txt");
    let stored = commit(&store, &key, b"hello", sha256(b"hello")).unwrap();
    assert_eq!(read(&store, &key).unwrap(), b"hello");
    assert_eq!(fs::read(folder.path().join(".files/t1/会议/a b.txt")).unwrap(), b"hello");
    let (_, opened) = store.package(&key).await.unwrap().unwrap();
    assert_eq!(&opened.bytes().unwrap()[..], b"hello");
    stored.note_served();
    store.save_served().unwrap();

    drop((store, opened));
    let (again, found) = Store::open(folder.path()).unwrap();
    assert!(found.unverified.is_empty() && found.swept == 0);
    let kept = again.get(&key).unwrap();
    assert_eq!(kept.manifest, stored.manifest);
    assert_eq!(kept.last_served_s(), stored.last_served_s());
    assert_eq!(kept.manifest.media_type.as_str(), "text/plain");
    assert_eq!(kept.manifest.verification, Verification::Digest);
    assert_eq!(read(&again, &key).unwrap(), b"hello");

    again.remove(&key).unwrap();
    assert!(again.get(&key).is_none() && again.used_bytes() == 0);
    drop(again);
    let (_, found) = Store::open(folder.path()).unwrap();
    assert!(found.unverified.is_empty() && !folder.path().join(".files").exists());
    assert_eq!(found.swept, 3, "its folders");
}

#[test]
fn bytes_with_another_digest_or_without_an_announced_one_are_refused() {
    let (folder, store) = store();
    let key = file("t", "a");
    for (announced, is_damage) in [(sha256(b"other"), true), (None, false)] {
        match commit(&store, &key, b"hello", announced).unwrap_err() {
            StoreError::Bad(error) => assert_eq!(error.is_damage(), is_damage, "{error}"),
            other => panic!("{other}"),
        }
    }
    assert!(store.get(&key).is_none() && !folder.path().join(".files").exists());

    // A good one stays when the next is refused.
    commit(&store, &key, b"hello", sha256(b"hello")).unwrap();
    commit(&store, &key, b"world", sha256(b"other")).unwrap_err();
    assert_eq!(read(&store, &key).unwrap(), b"hello");
    commit(&store, &key, b"world", sha256(b"world")).unwrap();
    assert_eq!(read(&store, &key).unwrap(), b"world");
}

#[test]
fn a_file_that_was_changed_is_adopted_by_its_digest_alone() {
    let (folder, store) = store();
    let key = file("t", "a");
    commit(&store, &key, b"hello", sha256(b"hello")).unwrap();
    fs::write(folder.path().join(".files/t/a"), b"jelly").unwrap();
    assert_eq!(read(&store, &key), None);
    drop(store);

    let (store, found) = Store::open(folder.path()).unwrap();
    assert!(found.unverified.iter().eq([&key]));
    assert!(store.has_unverified(&key));
    let adopt = |announced| {
        store.adopt(&key, Verification::Digest, announced, text(Retention::Keep)).map(drop)
    };
    assert!(matches!(adopt(None), Err(StoreError::Bad(VerifyError::Unannounced))));
    assert!(matches!(adopt(sha256(b"hello")), Err(StoreError::Bad(VerifyError::Digest { .. }))));
    adopt(sha256(b"jelly")).unwrap();
    assert_eq!(read(&store, &key).unwrap(), b"jelly");
}

#[test]
fn a_package_and_a_file_never_mix() {
    let (folder, store) = store();
    let zip = zip_of(b"one");
    put(&store, "t", &zip);
    let files = ["t/a", "t/package.zip", "meeting_t/package.zip", "meeting_t/manifest.json"];
    for name in files {
        let key = name.parse().unwrap();
        commit(&store, &key, name.as_bytes(), sha256(name.as_bytes())).unwrap();
    }
    for name in files {
        assert_eq!(read(&store, &name.parse().unwrap()).unwrap(), name.as_bytes());
        assert!(store.get_if_open(name).is_none(), "no meeting has this id");
    }
    assert_eq!(read(&store, &"t".parse().unwrap()).unwrap(), zip);
    assert!(store.get_if_open("t").is_some());
    assert_eq!(store.ids_on_disk(), ["t".parse::<PackageId>().unwrap()]);

    store.remove(file("t", "a")).unwrap();
    store.remove("t".parse::<PackageId>().unwrap()).unwrap();
    drop(store);
    let (store, found) = Store::open(folder.path()).unwrap();
    assert_eq!((store.count(), found.unverified.len()), (3, 0));
}

#[test]
fn a_zip_among_the_files_can_be_checked_as_one() {
    let (_folder, store) = store();
    let key = file("t", "a.zip");
    for (bytes, good) in [(b"<html>".to_vec(), false), (zip_of(b"one"), true)] {
        let mut pending = store.begin(&key, None, u64::MAX).unwrap();
        pending.write(&bytes).unwrap();
        let outcome = pending.commit(VerifyLevel::Full, None, text(Retention::Keep), || true);
        assert_eq!(outcome.is_ok(), good);
    }
}

#[test]
fn names_lead_nowhere_else_and_a_file_is_no_folder() {
    let (folder, store) = store();
    let outside = ["../a", "/etc/passwd", "a/../../b", ".lock", ".served.json", "b\\c", "a\0"];
    for name in outside {
        assert!(FileKey::new("t", name).is_err() && FileKey::new(name, "a").is_err(), "{name}");
    }
    // Names that look like those of manifests, scratch files and packages.
    let odd = ["a", "a.json", "tmp-1-1", "manifest.json", "package.zip", " ", "%2e%2e"];
    for name in odd {
        commit(&store, &file("t", name), name.as_bytes(), sha256(name.as_bytes())).unwrap();
    }
    assert!(commit(&store, &file("t", "a/b"), b"x", sha256(b"x")).is_err());
    commit(&store, &file("t", "c/d"), b"x", sha256(b"x")).unwrap();
    assert!(commit(&store, &file("t", "c"), b"y", sha256(b"y")).is_err());

    // A manifest that was put in another's place, and what is not ours.
    let files = folder.path().join(".files/t");
    fs::copy(files.join(".a.json"), files.join(".a.json.json")).unwrap();
    fs::write(files.join(".tmp-4194999-7"), "half").unwrap();
    fs::write(files.join(".hidden"), "mine").unwrap();
    std::os::unix::fs::symlink("/etc/hosts", files.join("link")).unwrap();
    drop(store);
    let (store, found) = Store::open(folder.path()).unwrap();
    assert_eq!(found.unverified, [file("t", "a.json")]);
    assert_eq!((store.count(), found.swept), (odd.len(), 1));
    assert!(
        odd.iter()
            .filter(|name| **name != "a.json")
            .all(|name| { read(&store, &file("t", name)).unwrap() == name.as_bytes() })
    );
    assert!(files.join(".hidden").exists() && !files.join(".tmp-4194999-7").exists());
}

#[test]
fn files_are_evicted_by_their_class() {
    let (_folder, store) = store();
    let now_s = now_s();
    let classes = [
        ("t/past", Retention::Until(now_s - 1)),
        ("t/later", Retention::Until(now_s + 60)),
        ("t/kept", Retention::Keep),
        ("kept", Retention::Keep),
        ("active", Retention::Meeting),
        ("ended", Retention::Meeting),
    ];
    for (name, class) in classes {
        let mut pending = store.begin(name.parse::<ObjectKey>().unwrap(), None, 1 << 20).unwrap();
        pending.write(b"hello").unwrap();
        let announced = sha256(b"hello");
        pending.commit(Verification::Digest, announced, text(class), || true).unwrap();
    }
    let is_active = |id: &PackageId| id.as_str() == "active";
    let candidates: Vec<_> =
        store.list().iter().map(|s| EvictionCandidate::new(s, is_active, false, now_s)).collect();
    let mut gone: Vec<_> =
        choose_evictions(&candidates, u64::MAX).iter().map(ToString::to_string).collect();
    gone.sort();
    assert_eq!(gone, ["ended", "t/past"]);

    // The class may change without the bytes.
    let key = file("t", "past");
    assert!(commit(&store, &key, b"hello", sha256(b"hello")).is_ok());
    assert_eq!(store.get(&key).unwrap().manifest.retention, Retention::Keep);
}
