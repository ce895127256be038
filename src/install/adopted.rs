//! A Python node's folder: `node_config.json`, and `meeting_{id}/package.zip` below the
//! folder that it names. It is only read: that node may still run, or be needed again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use edge_mirror_base::{
    atomic::{self, FileOwner},
    quantity,
};
use edge_mirror_protocol::package::PackageId;
use edge_mirror_settings::{FileDocument, SettingProblem, Settings, schema};
use edge_mirror_store::layout::Layout;
use serde_json::{Map, Value};

use super::InstallError;
use crate::terminal;

#[derive(Debug)]
pub(super) struct AdoptedNode {
    pub(super) document: Map<String, Value>,
    /// Settings of its file that are written its own way.
    pub(super) lenient: Vec<SettingProblem>,
    storage: Layout,
    /// Meetings with a package, and its size.
    packages: Vec<(PackageId, u64)>,
}

impl AdoptedNode {
    pub(super) fn read(folder: &Path) -> Result<Self, InstallError> {
        let path = folder.join("node_config.json");
        let document = Settings::document(&path)?;
        let FileDocument { settings: document, lenient } =
            document.ok_or_else(|| InstallError::NotANode(folder.to_owned()))?;
        let named = schema::get(&document, "storage.path").and_then(Value::as_str);
        let storage = Layout::new(&folder.join(named.unwrap_or("./storage")));
        let packages = packages_in(&storage);
        Ok(Self { document, lenient, storage, packages })
    }

    /// Copies the packages that are not in `to` already. The node verifies them when it
    /// starts, as it does with all that it did not pull itself.
    pub(super) fn copy_packages(
        &self,
        to: &Path,
        owner: Option<FileOwner>,
        say: &mut impl FnMut(&str),
    ) -> Result<(), InstallError> {
        let to = Layout::new(to);
        let missing = self.packages.iter().filter(|(id, _)| !to.package(id).exists());
        let missing: Vec<_> = missing.collect();
        let needed = missing.iter().map(|(_, size)| size).sum();
        has_room(to.root(), needed)?;
        for (id, _) in &missing {
            let (folder, package) = (to.folder(id), to.package(id));
            atomic::create_folder_as(&folder, 0o750, owner)
                .map_err(InstallError::io("make the folder", &folder))?;
            atomic::copy(&self.storage.package(id), &package, 0o640, owner)
                .map_err(InstallError::io("write", &package))?;
        }
        let (count, there) = (missing.len(), self.packages.len() - missing.len());
        let size = quantity::format_bytes(needed as f64);
        say(&terminal::say(
            format!("已复制 {count} 个会议包（{size}），{there} 个已存在；旧文件夹保持不变"),
            format!(
                "packages copied: {count} ({size}), already here: {there}; the old folder is \
                 unchanged"
            ),
        ));
        Ok(())
    }
}

fn packages_in(storage: &Layout) -> Vec<(PackageId, u64)> {
    let entries = fs::read_dir(storage.root()).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| Layout::id_of(&entry.file_name()));
    let sized = ids.filter_map(|id| {
        // Not the target of a link, which may be private.
        let found = fs::symlink_metadata(storage.package(&id)).ok()?;
        found.is_file().then_some((id, found.len()))
    });
    sized.collect()
}

/// Checked before the first byte is copied: half of them would be useless.
fn has_room(folder: &Path, needed: u64) -> Result<(), InstallError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|errno| InstallError::io("look at", folder)(errno.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match needed > free {
        true => Err(InstallError::NoRoom { needed, free, folder: PathBuf::from(folder) }),
        false => Ok(()),
    }
}
