//! Copies of verified files in the folder that the node's operator named for them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use edge_mirror_base::atomic;

/// Copies a file to its name below `folder`, whole or not at all. A link on the way is
/// refused: whoever can write in the folder could lead the copy anywhere by one. Blocks.
pub(super) fn place(source: &Path, folder: &Path, name: &str, mode: u32) -> io::Result<()> {
    let target = prepared(folder, name)?;
    atomic::copy(source, &target, mode, None)
}

/// The path of a file, whose folders are there. Blocks.
pub(crate) fn prepared(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = folder.to_owned();
    atomic::create_folder(&path)?;
    let mut segments = name.split('/').peekable();
    while let Some(segment) = segments.next() {
        path.push(segment);
        let is_file = segments.peek().is_none();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() != is_file && !found.is_symlink() => {}
            Ok(_) => {
                let what = if is_file { "not a file" } else { "not a folder" };
                return Err(io::Error::other(format!("{} is {what}", path.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_file => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                atomic::create_folder(&path)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_comes_whole_under_its_own_name_and_with_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (source, drop) = (folder.path().join("source"), folder.path().join("drop"));
        for bytes in ["one", "two"] {
            fs::write(&source, bytes).unwrap();
            place(&source, &drop, "fw/1.2/firmware.bin", 0o640).unwrap();
            let target = drop.join("fw/1.2/firmware.bin");
            assert_eq!(fs::read_to_string(&target).unwrap(), bytes);
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(fs::read_dir(drop.join("fw/1.2")).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_link_or_a_folder_in_its_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (source, drop) = (folder.path().join("source"), folder.path().join("drop"));
        let outside = folder.path().join("outside");
        fs::write(&source, "new").unwrap();
        fs::create_dir_all(drop.join("folder")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a"), "old").unwrap();
        symlink(&outside, drop.join("out")).unwrap();
        symlink(outside.join("a"), drop.join("link")).unwrap();
        fs::write(drop.join("file"), "old").unwrap();
        for name in ["out/a", "link", "folder", "file/a"] {
            assert!(place(&source, &drop, name, 0o644).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "old");
        assert_eq!(fs::read_to_string(drop.join("file")).unwrap(), "old");
    }
}
