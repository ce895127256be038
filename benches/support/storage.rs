//! A storage folder with any number of packages, each of minimal size.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::Result;
use edge_mirror_protocol::package::{
    Manifest, PackageId, PackageRoute, PackageSource, Validators, VerifyLevel,
};
use edge_mirror_store::{Provenance, Store};
use serde_json::{Value, json};

/// A main server that is never asked.
pub(crate) const ORIGIN: &str = "http://127.0.0.1:9";

/// Pulls and verifies one package; the others are copies of it under other names, with
/// manifests of their own. Returns the manifests. A node serves them only while its main
/// server is the one that they come from, `origin`.
pub(crate) fn fill(storage: &Path, count: usize, origin: &str) -> Result<Vec<Value>> {
    let (store, _) = Store::open(storage)?;
    let first: PackageId = "meeting-0".parse()?;
    let mut pending = store.begin(&first, None, u64::MAX)?;
    // The smallest archive: the end of a directory without entries.
    let zip = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    pending.write(&zip)?;
    let source = PackageSource {
        route: PackageRoute::PackageUrl,
        origin: Some(origin.to_owned()),
        validators: Validators { etag: Some("etag-of-some-length".into()), last_modified: None },
    };
    let provenance = Provenance::of_package("预算会议 Budget".into(), source);
    let stored = pending.commit(VerifyLevel::Full, None, provenance, || true)?;
    let pattern = json!(stored.manifest);
    let mut manifests = vec![pattern.clone()];
    for n in 1..count {
        let id = format!("meeting-{n}");
        let folder = storage.join(format!("meeting_{id}"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("package.zip"), &zip)?;
        let file = fs::metadata(folder.join("package.zip"))?;
        let mut manifest = pattern.clone();
        manifest["id"] = json!(id);
        manifest["file"]["inode"] = json!(file.ino());
        let mtime_ns = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        manifest["file"]["mtime_ns"] = json!(i64::try_from(mtime_ns)?);
        fs::write(folder.join("manifest.json"), manifest.to_string())?;
        manifests.push(manifest);
    }
    Ok(manifests)
}

pub(crate) fn id(manifest: &Value) -> &str {
    manifest["id"].as_str().expect("every manifest has one")
}

/// Returns the manifest of such a package.
pub(crate) fn manifest() -> Result<Manifest> {
    let folder = tempfile::tempdir()?;
    Ok(serde_json::from_value(fill(folder.path(), 1, ORIGIN)?.remove(0))?)
}
