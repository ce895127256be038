//! Finds the objects in a storage folder, when it is opened.

use std::{fs, io, path::Path};

use edge_mirror_base::atomic;
use edge_mirror_protocol::{
    object::{FileKey, ObjectKey},
    package::Manifest,
};
use tracing::warn;

use super::{layout::Layout, stamp};

#[derive(Debug, Default)]
pub(super) struct FolderScan {
    /// Of objects whose files are still those that were verified.
    pub(super) manifests: Vec<Manifest>,
    pub(super) unverified: Vec<ObjectKey>,
    pub(super) swept: usize,
}

impl FolderScan {
    /// Reads all manifests; removes scratch files, and folders that a kill left empty.
    pub(super) fn of(layout: &Layout) -> io::Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(layout.root())?.flatten() {
            let Some(id) = Layout::id_of(&entry.file_name()) else { continue };
            found.swept += atomic::sweep_all(&entry.path()).unwrap_or(0);
            if layout.package(&id).is_file() {
                found.add(layout, id.into());
            } else {
                found.swept += usize::from(is_removed_if_empty(&entry.path()));
            }
        }
        // A link is somebody else's.
        if fs::symlink_metadata(layout.files()).is_ok_and(|found| found.is_dir()) {
            found.add_files(layout);
        }
        Ok(found)
    }

    fn add(&mut self, layout: &Layout, key: ObjectKey) {
        match load_trusted_manifest(layout, &key) {
            Some(manifest) => self.manifests.push(manifest),
            None => self.unverified.push(key),
        }
    }

    /// Adds the files of all tasks. What can't be named by a key is not ours: it is left
    /// alone, as are links.
    fn add_files(&mut self, layout: &Layout) {
        let mut folders = vec![(layout.files(), String::new())];
        let mut next = 0;
        while let Some((folder, prefix)) = folders.get(next).cloned() {
            next += 1;
            self.swept += atomic::sweep_all(&folder).unwrap_or(0);
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else { continue };
                let path = format!("{prefix}{name}");
                if kind.is_dir() && format!("{path}/f").parse::<FileKey>().is_ok() {
                    folders.push((entry.path(), format!("{path}/")));
                } else if kind.is_file()
                    && let Ok(file) = path.parse::<FileKey>()
                {
                    self.add(layout, file.into());
                }
            }
        }
        // A folder comes after the one that it is in.
        let removed = folders.iter().rev().filter(|(folder, _)| is_removed_if_empty(folder));
        self.swept += removed.count();
    }
}

/// Reads the manifest, if there is one that fits the file.
fn load_trusted_manifest(layout: &Layout, key: &ObjectKey) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(layout.manifest(key)).ok()?).ok()?;
    let file = stamp(&fs::metadata(layout.object(key)).ok()?);
    let fits = manifest.file == file && manifest.size_bytes == file.size_bytes;
    (manifest.key == *key && fits).then_some(manifest)
}

/// A folder with content is left alone.
fn is_removed_if_empty(folder: &Path) -> bool {
    if let Err(error) = atomic::remove_empty_folder(folder) {
        warn!("leftover {} could not be removed: {error}", folder.display());
    }
    !folder.exists()
}

#[cfg(test)]
mod tests;
