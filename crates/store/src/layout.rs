//! The one type that knows the paths in a storage folder.
//!
//! ```text
//! {root}/meeting_{id}/package.zip     the package
//! {root}/meeting_{id}/manifest.json   facts about it
//! {root}/.files/{task}/{name}         a file of a task; its name may have folders
//! {root}/.files/{task}/.{name}.json   facts about it, in the same folder
//! {root}/.scratch/                    objects under way, on the same filesystem
//! {root}/.runs/                       working folders of remote tasks, which `remote_tasks` sweeps
//! {root}/.served.json                 when each object was last served
//! {root}/.lock                        held by the process that uses the folder
//! ```
//!
//! Ids are not encoded: what can't name a folder is no [`PackageId`], and the Python
//! node's folders have the same names. No part of a file's name begins with a dot, so
//! none is a manifest's or that of a scratch file. The filesystem must keep names byte by byte,
//! as those of Linux do unless they are told otherwise.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use edge_mirror_protocol::{object::ObjectKey, package::PackageId};

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

    /// Returns the folder of all files.
    pub(crate) fn files(&self) -> PathBuf {
        self.root.join(".files")
    }

    /// Returns the path of an object's bytes.
    pub(crate) fn object(&self, key: &ObjectKey) -> PathBuf {
        match key {
            ObjectKey::Package(id) => self.package(id),
            ObjectKey::File(file) => self.files().join(file.as_str()),
        }
    }

    pub(crate) fn manifest(&self, key: &ObjectKey) -> PathBuf {
        let name = match key {
            ObjectKey::Package(_) => "manifest.json",
            ObjectKey::File(file) => &format!(".{}.json", file.file_name()),
        };
        self.object(key).with_file_name(name)
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

    /// Returns the meeting whose folder has this name, if any.
    pub fn id_of(folder: &OsStr) -> Option<PackageId> {
        folder.to_str()?.strip_prefix(FOLDER_PREFIX)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn packages_lie_where_they_always_did_and_files_apart_from_them() {
        let layout = Layout::new(Path::new("/s"));
        for (key, object, manifest) in [
            ("m1", "/s/meeting_m1/package.zip", "/s/meeting_m1/manifest.json"),
            ("files", "/s/meeting_files/package.zip", "/s/meeting_files/manifest.json"),
            ("t/a.json", "/s/.files/t/a.json", "/s/.files/t/.a.json.json"),
            (
                "meeting_m1/package.zip",
                "/s/.files/meeting_m1/package.zip",
                "/s/.files/meeting_m1/.package.zip.json",
            ),
            ("t/b/c", "/s/.files/t/b/c", "/s/.files/t/b/.c.json"),
        ] {
            let key = key.parse().unwrap();
            assert_eq!(layout.object(&key), Path::new(object));
            assert_eq!(layout.manifest(&key), Path::new(manifest));
        }
    }

    #[test]
    fn a_folder_leads_back_to_its_meeting_or_is_none_of_ours() {
        let layout = Layout::new(Path::new("/s"));
        for id in ["m1", "会议1", "a b", "50%", "%2e", "u\u{308}", " ", &"x".repeat(200)] {
            let id: PackageId = id.parse().unwrap();
            let folder = layout.folder(&id);
            assert_eq!(folder.parent(), Some(layout.root()));
            assert_eq!(Layout::id_of(folder.file_name().unwrap()), Some(id));
        }
        for name in [&b"meeting_"[..], b"meeting_\xff", b"meeting_a\nb", b"meeting_..", b"m1"] {
            assert_eq!(Layout::id_of(OsStr::from_bytes(name)), None);
        }
    }
}
