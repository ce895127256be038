//! The folder whose files can be sent by their paths. Nothing outside of it is opened: each
//! segment of a path is opened by itself, and a link is refused wherever it leads.

use std::{ffi::CStr, fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::ingest::IngestError;

/// A file or folder in it.
pub(super) enum RootEntry {
    File(File),
    Folder(OwnedFd),
}

/// Without waiting for the other end, as a pipe would have one do.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens what a relative path names. Blocks.
pub(super) fn open(root: &Path, path: &str) -> Result<RootEntry, IngestError> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..") && !segment.chars().any(char::is_control)
    };
    if !trimmed.split('/').all(is_plain) {
        return Err(IngestError::Path(path.to_owned()));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, root, flags, Mode::empty());
    let mut entry = RootEntry::Folder(opened.map_err(|cause| IngestError::Root(cause.into()))?);
    for segment in trimmed.split('/') {
        let RootEntry::Folder(folder) = &entry else {
            return Err(IngestError::read(path, Errno::NOTDIR.into()));
        };
        entry = open_in(folder, segment, path)?;
    }
    Ok(entry)
}

/// True if all of these are files that can be opened; an error if one is not allowed to be
/// sent. Blocks.
pub(in crate::server) fn find_files(root: &Path, paths: &[String]) -> Result<bool, IngestError> {
    let mut are_there = true;
    for path in paths {
        are_there &= match open(root, path) {
            Ok(RootEntry::File(_)) => true,
            Ok(RootEntry::Folder(_)) | Err(IngestError::Read { .. }) => false,
            Err(error) => return Err(error),
        };
    }
    Ok(are_there)
}

/// Opens an entry of a folder; `path` is for the error.
pub(super) fn open_in(folder: &OwnedFd, name: &str, path: &str) -> Result<RootEntry, IngestError> {
    let opened = match rustix::fs::openat(folder, name, FLAGS, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::LOOP) => return Err(IngestError::Link(path.to_owned())),
        Err(cause) => return Err(IngestError::read(path, cause.into())),
    };
    let found =
        rustix::fs::fstat(&opened).map_err(|cause| IngestError::read(path, cause.into()))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(RootEntry::File(opened.into())),
        FileType::Directory => Ok(RootEntry::Folder(opened)),
        _ => Err(IngestError::Kind(path.to_owned())),
    }
}

/// The names in a folder, sorted.
pub(super) fn names(folder: &OwnedFd, path: &str) -> Result<Vec<String>, IngestError> {
    let read = |cause: Errno| IngestError::read(path, cause.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let name = name
            .to_str()
            .map_err(|_| IngestError::read(path, io::Error::other("a name in it is not UTF-8")))?;
        names.push(name.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}
