//! The files that arguments name, and their names at the nodes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use edge_mirror_protocol::dispatch::{MAX_FILES, check_file_name, check_file_names};

use crate::terminal;

/// A file to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SentFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
}

/// Finds all files, and checks their names before anything is sent. Blocks.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<SentFile>> {
    let mut files = Vec::new();
    for path in paths {
        // `.` and `..` have no name of their own.
        let named = fs::canonicalize(path).with_context(|| unreadable(path))?;
        let name = named.file_name().map(|name| name.to_string_lossy().into_owned());
        add(&named, name.unwrap_or_default(), &mut files)?;
    }
    check_count(files.len())?;
    for file in &files {
        check_file_name(&file.name).with_context(|| {
            let shown = file.path.display();
            terminal::say(format!("{shown} 不能发送"), format!("{shown} can't be sent"))
        })?;
    }
    check_file_names(files.iter().map(|file| &*file.name))?;
    match files.is_empty() {
        true => bail!(terminal::say("没有可发送的文件", "there is no file to send")),
        false => Ok(files),
    }
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_FILES {
        bail!(terminal::say(
            format!("共 {count} 个文件，一个任务最多 {MAX_FILES} 个，请分几次发送"),
            format!(
                "{count} files are too many: a task has at most {MAX_FILES}; send them in parts"
            ),
        ));
    }
    Ok(())
}

fn unreadable(path: &Path) -> String {
    let shown = path.display();
    terminal::say(
        format!("{shown} 无法读取，请检查路径和权限"),
        format!("{shown} can't be read; check the path and its permissions"),
    )
}

fn add(path: &Path, name: String, files: &mut Vec<SentFile>) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| unreadable(path))?;
    if found.is_file() {
        files.push(SentFile { name, path: path.to_owned(), size_bytes: found.len() });
        return Ok(());
    }
    if !found.is_dir() {
        let shown = path.display();
        bail!(terminal::say(
            format!("{shown} 既不是文件也不是文件夹"),
            format!("{shown} is neither a file nor a folder"),
        ));
    }
    let entries = fs::read_dir(path).with_context(|| unreadable(path))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(|| unreadable(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let child = entry.file_name().to_string_lossy().into_owned();
        add(&entry.path(), format!("{name}/{child}"), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_sent_with_its_name_and_what_can_not_be_sent_is_said_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("fw/1.2")).unwrap();
        fs::write(at("fw/1.2/a.bin"), "abc").unwrap();
        fs::write(at("fw/readme"), "").unwrap();
        fs::write(at("b"), "b").unwrap();
        let found = find(&[at("b"), at("fw")]).unwrap();
        let names: Vec<_> = found.iter().map(|file| (&*file.name, file.size_bytes)).collect();
        assert_eq!(names, [("b", 1), ("fw/1.2/a.bin", 3), ("fw/readme", 0)]);
        fs::write(at("fw/CON"), "").unwrap();
        std::os::unix::fs::symlink("b", at("fw/link")).unwrap();
        for (paths, told) in [
            (vec![at("none")], "can't be read"),
            (vec![at("b"), at("b")], "same name"),
            (vec![at("fw")], "neither a file nor a folder"),
            (vec![at("fw/CON")], "reserved on Windows"),
        ] {
            let error = format!("{:#}", find(&paths).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        assert!(check_count(MAX_FILES).is_ok());
        assert!(check_count(MAX_FILES + 1).unwrap_err().to_string().contains("at most 20000"));
        fs::create_dir(at("empty")).unwrap();
        assert!(find(&[at("empty")]).is_err());
    }
}
