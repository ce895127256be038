//! The file of credentials in the data folder of a main server that shares them with others.
//! Beside it lies the digest of what was last shared: a file that differs was changed here,
//! by `edge-mirror token` for example, and the others get it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use edge_mirror_base::atomic;
use edge_mirror_http::access::{Vault, VaultError};
use edge_mirror_protocol::package::Sha256;
use sha2::Digest;

/// At the start: takes what the others have, unless the file was changed since it was last
/// shared.
pub(crate) fn take_over(path: &Path, shared: &str) -> Result<(), VaultError> {
    let vault = Vault::at(path.to_owned());
    let own = vault.text().map(|text| digest(&text));
    let last = fs::read_to_string(marker(path)).ok();
    match own.is_some() && last.is_some() && own != last {
        true => Ok(()),
        false => replace(&vault, shared),
    }
}

/// Takes what another main server has saved.
pub(crate) fn replace(vault: &Vault, shared: &str) -> Result<(), VaultError> {
    vault.replace_text(shared)?;
    let text = vault.text().unwrap_or_default();
    let path = marker(vault.path());
    atomic::write_private(&path, digest(&text).as_bytes())
        .map_err(|cause| VaultError::Unwritable { path, cause })
}

fn marker(path: &Path) -> PathBuf {
    path.with_extension("shared")
}

fn digest(text: &str) -> String {
    Sha256::new(sha2::Sha256::digest(text).into()).to_string()
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
        take_over(&here, &shared()).unwrap();
        assert!(own.log_in(&token).unwrap().is_some(), "a new token is not undone");
        fs::remove_file(&here).unwrap();
        take_over(&here, &shared()).unwrap();
        assert_eq!(own.text(), Some(shared()));
    }
}
