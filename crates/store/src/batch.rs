//! Many small files put in place together: the filesystem is synced for all of them, not
//! once for each, which would take a thousand times as long as writing them.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use edge_mirror_base::atomic::{self, Durable, Scratch};
use edge_mirror_protocol::object::ObjectKey;
use tracing::warn;

use super::{
    Provenance, Store, StoreError, StoredPackage, layout::Layout, stamp, verified::VerifiedPackage,
};

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
        self.write_manifests(&keys);
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

    /// As with a single one, a failure costs a verification.
    fn write_manifests(&self, keys: &[ObjectKey]) {
        let _turn = self.manifest_turn();
        let layout = &self.inner.layout;
        let written = keys.iter().filter_map(|key| {
            // None if it has been removed meanwhile.
            let manifest = serde_json::to_vec_pretty(&self.get(key)?.manifest).ok()?;
            let scratch = Scratch::create_with(&layout.scratch(), &manifest);
            Some(scratch.map(|scratch| (key, scratch)))
        });
        let written = written.collect::<Result<Vec<_>, _>>().and_then(|written| {
            let scratches: Vec<_> = written.iter().map(|(_, scratch)| scratch).collect();
            let durable = atomic::sync_together(&scratches)?;
            written.into_iter().zip(durable).try_for_each(|((key, scratch), durable)| {
                scratch.persist(durable, &Layout::manifest(layout, key))
            })
        });
        if let Err(error) = written {
            warn!("cannot write the manifests of {} files: {error}", keys.len());
        }
    }
}

#[cfg(test)]
mod tests {
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
}
