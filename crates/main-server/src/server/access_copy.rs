//! The file of credentials in the data folder of a main server that shares them with others.
//! Beside it lies what was last shared: where the file differs, it was changed here, by
//! `edge-mirror token` for example, and the others get what was changed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use edge_mirror_base::atomic;
use edge_mirror_http::access::{Vault, VaultError};
use serde_json::{Map, Value};

/// The credentials as the state has them, and those that the file here has all of.
#[derive(Debug)]
pub(crate) struct AccessCopy {
    saved: ArcSwap<Option<Arc<str>>>,
    /// Locked while the file is read or written for it.
    copied: Mutex<Option<Arc<str>>>,
}

/// Credentials that were changed here.
pub(crate) struct ChangedAccess {
    /// The shared ones that were changed.
    pub(crate) base: Option<Arc<str>>,
    pub(crate) text: Arc<str>,
}

impl AccessCopy {
    /// That of a file that was [taken over](take_over).
    pub(super) fn new(saved: Option<Arc<str>>) -> Self {
        Self { saved: ArcSwap::from_pointee(saved.clone()), copied: Mutex::new(saved) }
    }

    pub(super) fn saved(&self) -> Option<Arc<str>> {
        Option::clone(&self.saved.load())
    }

    pub(super) fn set_saved(&self, access: Option<Arc<str>>) {
        self.saved.store(Arc::new(access));
    }

    /// Takes what others saved into the file; true if there was something. Blocks.
    pub(super) fn update(&self, vault: &Vault) -> Result<bool, VaultError> {
        let (mut copied, saved) = (self.copied(), self.saved());
        let Some(shared) = saved.as_ref().filter(|_| *copied != saved) else { return Ok(false) };
        vault.merge_text(copied.as_deref(), shared)?;
        // The file has it, also where that can't be noted for the next start.
        let noted = note_shared(vault.path(), shared);
        *copied = saved;
        noted.map(|()| true)
    }

    /// The file's content, if it was changed here. Blocks.
    pub(super) fn changed(&self, vault: &Vault) -> Option<ChangedAccess> {
        let copied = self.copied();
        let text = Arc::<str>::from(vault.text()?);
        let is_changed = copied.as_ref() != Some(&text);
        is_changed.then(|| ChangedAccess { base: copied.clone(), text })
    }

    fn copied(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At the start: takes what the others have. What was changed here since the file was last
/// shared stays changed.
pub(crate) fn take_over(path: &Path, shared: &str) -> Result<(), VaultError> {
    let vault = Vault::at(path.to_owned());
    let last = fs::read_to_string(marker(path)).ok();
    match last.filter(|last| serde_json::from_str::<Map<String, Value>>(last).is_ok()) {
        Some(last) => vault.merge_text(Some(&last), shared)?,
        // Never shared, or by a version that noted something else: the others count.
        None => vault.replace_text(shared)?,
    }
    note_shared(path, shared)
}

fn note_shared(path: &Path, shared: &str) -> Result<(), VaultError> {
    let path = marker(path);
    let written = atomic::write_private(&path, shared.as_bytes());
    written.map_err(|cause| VaultError::Unwritable { path, cause })
}

fn marker(path: &Path) -> PathBuf {
    path.with_extension("shared")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_here_while_it_did_not_run_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = ["here.json", "there.json"].map(|name| folder.path().join(name));
        let (_, there) = (Vault::open(here.clone()), Vault::open(there).0);
        let shared = || there.text().unwrap();
        // Never shared: the others count.
        take_over(&here, &shared()).unwrap();
        let own = Vault::at(here.clone());
        assert_eq!(own.text(), Some(shared()));
        there.set_node_key(Some("a key of nodes")).unwrap();
        take_over(&here, &shared()).unwrap();
        assert_eq!(own.text(), Some(shared()));
        let token = own.replace_token().unwrap().token;
        there.set_node_key(Some("another key")).unwrap();
        take_over(&here, &shared()).unwrap();
        assert!(own.log_in(&token).unwrap().is_some(), "a new token is not undone");
        let key = own.check_node_key(Some("another key"));
        assert_eq!(key, edge_mirror_http::access::NodeKeyCheck::Right);
        fs::remove_file(&here).unwrap();
        take_over(&here, &shared()).unwrap();
        assert_eq!(own.text(), Some(shared()));
        fs::write(marker(&here), "damaged").unwrap();
        there.set_node_key(Some("a third key of nodes")).unwrap();
        take_over(&here, &shared()).unwrap();
        assert_eq!(own.text(), Some(shared()));
    }

    #[test]
    fn what_could_not_be_taken_is_taken_later_and_what_was_changed_here_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [path, there] = ["here.json", "there.json"].map(|name| folder.path().join(name));
        let there = Vault::open(there).0;
        let shared = || Some(Arc::<str>::from(there.text().unwrap()));
        take_over(&path, &shared().unwrap()).unwrap();
        let (here, copy) = (Vault::at(path.clone()), AccessCopy::new(shared()));
        assert!(copy.changed(&here).is_none() && !copy.update(&here).unwrap());
        let code = here.new_code().unwrap().unwrap();
        let other = there.new_code().unwrap().unwrap();
        copy.set_saved(shared());
        // No file can take this one's place.
        let (kept, hidden) = (fs::read(&path).unwrap(), folder.path().join("hidden"));
        fs::rename(&path, &hidden).unwrap();
        fs::create_dir(&path).unwrap();
        copy.update(&here).unwrap_err();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, kept).unwrap();
        assert!(copy.update(&here).unwrap());
        let changed = copy.changed(&here).unwrap();
        assert_eq!(changed.base, shared());
        assert!(here.log_in(&code).unwrap().is_some() && here.log_in(&other).unwrap().is_some());
    }
}
