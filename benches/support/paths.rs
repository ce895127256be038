//! Folders of the build.

use std::path::{Path, PathBuf};

/// The target folder of cargo.
pub(crate) fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target)
}
