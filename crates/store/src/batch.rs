//! Many small files put in place together: the filesystem is synced for all of them, not
//! once for each, which would take a thousand times as long as writing them.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use edge_mirror_base::atomic::{self, Durable, Scratch};
use edge_mirror_protocol::object::ObjectKey;

use super::{Provenance, Store, StoreError, StoredPackage, stamp, verified::VerifiedPackage};

/// Fewer are put in place one by one: that waits for nobody else's writes.
const MIN_TOGETHER: usize = 8;

/// A verified object and where it comes from.
pub type VerifiedObject = (VerifiedPackage, Provenance);

impl Store {
    /// Does for each of them what [`VerifiedPackage::place`] does. After an error, some are
    /// in place and the others are removed. Blocks.
    pub fn place_all(&self, objects: Vec<VerifiedObject>) -> Result<(), StoreError> {
        let is_new = |(verified, _): &VerifiedObject| {
            let stored = self.open_package(verified.room.key()).ok().flatten();
            stored.is_none_or(|(stored, _)| stored.manifest.sha256 != verified.sha256)
        };
        let (mut new, mut single): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_new);
        if new.len() < MIN_TOGETHER {
            single.append(&mut new);
        }
        for (verified, provenance) in single {
            verified.place(provenance, || true)?;
        }
        if new.is_empty() {
            return Ok(());
        }
        let layout = &self.inner.layout;
        let keys: Vec<_> = new.iter().map(|(verified, _)| verified.room.key().clone()).collect();
        let paths = keys.iter().map(|key| layout.object(key));
        let folders: BTreeSet<_> =
            paths.filter_map(|path| Some(path.parent()?.to_owned())).collect();
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |cause| StoreError::io("write", &path, cause)
        };
        for folder in &folders {
            atomic::create_folder_unsynced(folder).map_err(io_error(folder))?;
        }
        let scratches: Vec<_> = new.iter().map(|(verified, _)| &verified.scratch).collect();
        let durable = atomic::sync_together(&scratches).map_err(io_error(&layout.scratch()))?;
        for (object, durable) in new.into_iter().zip(durable) {
            self.place_durable(object, durable)?;
        }
        if let Err(cause) = self.write_manifests(&keys) {
            keys.iter().for_each(|key| self.remove_without_manifest(key));
            return Err(StoreError::io("write manifests in", &layout.files(), cause));
        }
        atomic::sync_filesystem(self.root()).map_err(io_error(self.root()))
    }

    fn place_durable(
        &self,
        (verified, provenance): VerifiedObject,
        durable: Durable,
    ) -> Result<Arc<StoredPackage>, StoreError> {
        let VerifiedPackage { room, scratch, verification, sha256, file_count, .. } = verified;
        let key = room.key();
        let path = self.inner.layout.object(key);
        let io_error = |cause| StoreError::io("write", &path, cause);
        let file = stamp(&scratch.file().metadata().map_err(io_error)?);
        let manifest =
            provenance.into_manifest(key.clone(), verification, file_count, sha256, file);
        let mut turn = self.writer();
        scratch.persist(durable, &path).map_err(io_error)?;
        Ok(turn.admit(manifest))
    }

    /// Writes and syncs them before it takes the turn: that waits for what others write to the
    /// disk, and those who remove objects wait for the turn.
    fn write_manifests(&self, keys: &[ObjectKey]) -> io::Result<()> {
        let layout = &self.inner.layout;
        let mut written = Vec::with_capacity(keys.len());
        for key in keys {
            // None if it has been removed meanwhile.
            let Some(stored) = self.get(key) else { continue };
            let manifest = serde_json::to_vec_pretty(&stored.manifest)?;
            written.push((stored, Scratch::create_with(&layout.scratch(), &manifest)?));
        }
        let scratches: Vec<_> = written.iter().map(|(_, scratch)| scratch).collect();
        let durable = atomic::sync_together(&scratches)?;
        let _turn = self.manifest_turn();
        written.into_iter().zip(durable).try_for_each(|((stored, scratch), durable)| {
            let key = &stored.manifest.key;
            // Whoever has changed it since writes its manifest.
            match self.get(key).is_some_and(|now| Arc::ptr_eq(&now, &stored)) {
                true => scratch.persist(durable, &layout.manifest(key)),
                false => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_base::tasks;
    use edge_mirror_protocol::{
        object::{FileKey, Retention, Verification},
        package::Sha256,
    };
    use sha2::{Digest, Sha256 as Hasher};

    use super::*;

    fn key(name: &str) -> ObjectKey {
        FileKey::new("t", name).unwrap().into()
    }

    fn verified(store: &Store, name: &str, bytes: &[u8]) -> VerifiedObject {
        let mut pending = store.begin(key(name), Some(bytes.len() as u64), 1 << 20).unwrap();
        pending.write(bytes).unwrap();
        let sha256 = Sha256::new(Hasher::digest(bytes).into());
        let verified = pending.verify(Verification::Digest, Some(sha256)).unwrap();
        (verified, Provenance::of_file(name.to_owned(), Retention::Keep, true))
    }

    fn bytes_of(store: &Store, name: &str) -> Option<Vec<u8>> {
        store.open_package(key(name)).unwrap()?;
        std::fs::read(store.root().join(".files/t").join(name)).ok()
    }

    #[test]
    fn many_files_come_into_their_places_and_are_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let names: Vec<_> = (0..100).map(|n| format!("d{}/f{n}", n % 3)).collect();
        store.place_all(vec![verified(&store, "d0/f0", b"before")]).unwrap();
        let objects = names.iter().map(|name| verified(&store, name, name.as_bytes()));
        store.place_all(objects.collect()).unwrap();
        store
            .place_all(names.iter().map(|name| verified(&store, name, name.as_bytes())).collect())
            .unwrap();
        let scratch = || std::fs::read_dir(folder.path().join(".scratch")).unwrap().count();
        assert_eq!((store.count(), scratch()), (100, 0));
        drop(store);
        let (store, found) = Store::open(folder.path()).unwrap();
        assert_eq!((found.unverified, found.swept, store.count()), (vec![], 0, 100));
        for name in &names {
            assert_eq!(bytes_of(&store, name).as_deref(), Some(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn where_one_has_no_place_the_others_before_it_stay_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        // A folder lies where a file is to be.
        std::fs::create_dir_all(folder.path().join(".files/t/b/x")).unwrap();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let objects = names.map(|name| verified(&store, name, b"x"));
        assert!(store.place_all(objects.into()).is_err());
        assert_eq!(bytes_of(&store, "a").as_deref(), Some(&b"x"[..]));
        assert_eq!((bytes_of(&store, "c"), store.count()), (None, 1));
        assert_eq!(std::fs::read_dir(folder.path().join(".scratch")).unwrap().count(), 0);
    }
    #[test]
    fn a_file_whose_manifest_can_not_be_written_is_not_said_to_be_here() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        // A folder lies where a manifest is to be.
        std::fs::create_dir_all(folder.path().join(".files/t/.a.json/x")).unwrap();
        assert!(store.place_all(vec![verified(&store, "a", b"x")]).is_err());
        assert_eq!(store.count(), 0);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let objects = names.map(|name| verified(&store, name, b"x"));
        assert!(store.place_all(objects.into()).is_err());
        assert_eq!((store.count(), store.file_bytes()), (0, 0));
    }

    #[test]
    fn a_folder_that_was_copied_has_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let names = ["good", "bad", "unknown"];
        let objects = names.map(|name| verified(&store, name, name.as_bytes()));
        store.place_all(objects.into()).unwrap();
        let before = store.get(key("good")).unwrap();
        drop(store);
        let at = |name: &str| folder.path().join(".files/t").join(name);
        for name in names {
            std::fs::copy(at(name), at("copy")).unwrap();
            std::fs::rename(at("copy"), at(name)).unwrap();
        }
        std::fs::write(at("bad"), "BAD").unwrap();
        std::fs::remove_file(at(".unknown.json")).unwrap();
        let (store, found) = Store::open(folder.path()).unwrap();
        assert_eq!((found.unverified.len(), store.count()), (3, 0));
        let adopted = store.adopt_by_manifest(&key("good")).unwrap().unwrap();
        assert_eq!(adopted.manifest.sha256, before.manifest.sha256);
        assert_eq!(adopted.manifest.retention, before.manifest.retention);
        assert_eq!(adopted.manifest.withheld, before.manifest.withheld);
        assert!(matches!(store.adopt_by_manifest(&key("bad")), Err(StoreError::Bad(_))));
        assert!(store.adopt_by_manifest(&key("unknown")).unwrap().is_none());
        drop(store);
        let (store, _) = Store::open(folder.path()).unwrap();
        assert_eq!(bytes_of(&store, "good").as_deref(), Some(&b"good"[..]));
        assert_eq!((store.count(), store.file_bytes()), (1, 4));
    }

    #[test]
    fn first_downloads_wait_for_nobody_who_writes_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        store.place_all(vec![verified(&store, "a", b"a"), verified(&store, "b", b"b")]).unwrap();
        let turn = store.manifest_turn();
        let removing = store.clone();
        let remover = tasks::thread("remover", move || removing.remove(key("a"))).unwrap();
        for _ in 0..1000 {
            store.open_package(key("b")).unwrap().unwrap();
            drop(store.writer());
            std::thread::yield_now();
        }
        assert!(store.get(key("a")).is_some(), "it is removed under the turn");
        drop(turn);
        remover.join().unwrap().unwrap();
        assert!(store.get(key("a")).is_none());
    }
}
