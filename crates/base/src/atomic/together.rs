//! Many files made durable together.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{Durable, Scratch};

/// Makes the bytes of files durable, and all else that was done in their filesystem before:
/// one sync for many, which waits for what others write there, too. (Since Linux 5.8, it
/// tells of failed writes as that of a file does.)
pub fn sync_together(files: &[&Scratch]) -> io::Result<Vec<Durable>> {
    if let Some(first) = files.first() {
        rustix::fs::syncfs(first.file())?;
    }
    Ok(files.iter().map(|_| Durable(())).collect())
}

/// Makes all that was done in the filesystem of a folder last.
pub fn sync_filesystem(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Creates a folder and its parents, before a [`sync_together`].
pub fn create_folder_unsynced(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}
