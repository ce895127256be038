//! The one type that knows where things lie in a storage folder.
//!
//! ```text
//! {root}/meeting_{id}/package.zip     the package
//! {root}/meeting_{id}/manifest.json   what is known of it
//! {root}/.scratch/                    packages under way, on the same filesystem
//! {root}/.served.json                 when each package was last served
//! {root}/.lock                        held by the process that uses the folder
//! ```

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::package::PackageId;

const FOLDER_PREFIX: &str = "meeting_";

#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn folder(&self, id: &PackageId) -> PathBuf {
        self.root.join(format!("{FOLDER_PREFIX}{id}"))
    }

    pub fn package(&self, id: &PackageId) -> PathBuf {
        self.folder(id).join("package.zip")
    }

    pub fn manifest(&self, id: &PackageId) -> PathBuf {
        self.folder(id).join("manifest.json")
    }

    pub fn scratch(&self) -> PathBuf {
        self.root.join(".scratch")
    }

    pub fn served(&self) -> PathBuf {
        self.root.join(".served.json")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// The meeting whose folder has this name, if it is one.
    pub fn id_of(folder: &OsStr) -> Option<PackageId> {
        folder.to_str()?.strip_prefix(FOLDER_PREFIX)?.parse().ok()
    }
}
