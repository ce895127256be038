//! Names of files as a task may give them: relative paths that mean the same on every
//! machine that the files may be copied to. Pure.

use std::collections::HashMap;

use thiserror::Error;

use crate::object::FileKey;

/// Names of devices on Windows, whatever extension follows.
const RESERVED: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// With a digit behind it, these are devices, too.
const NUMBERED: [&str; 2] = ["COM", "LPT"];

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidFileName {
    #[error(
        "应为相对路径，如 a/b.bin：每段 1 到 200 字节，总长不超过 900 字节，不以 . 或 / 开头，不含 \\ 和控制字符 / a relative path such as a/b.bin is needed, of at most 900 bytes: segments of 1 to 200 bytes that begin with no dot and have no \\ and no control characters"
    )]
    Path,
    #[error(
        "不能含有 < > : \" | ? *，各段不能以空格或句点结尾 / < > : \" | ? * are not allowed, nor a space or dot at the end of a segment"
    )]
    Character,
    #[error("“{0}”在 Windows 上是保留名称 / \"{0}\" is reserved on Windows")]
    Reserved(String),
}

/// Two names of a task that can't stand side by side on every machine.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameConflict {
    #[error(
        "文件名重复（不区分大小写）：{0} 和 {1} / {0} and {1} are the same name or differ only by case"
    )]
    Same(String, String),
    #[error("{0} 既是文件又是文件夹 / {0} is a file and a folder of others")]
    Folder(String),
}

/// The path in a node's storage is longer by the task's id.
pub(super) const MAX_LEN: usize = 900;

/// Makes sure that a name is a relative path that every system can have.
pub fn check_file_name(name: &str) -> Result<(), InvalidFileName> {
    if name.len() > MAX_LEN || FileKey::new("t", name).is_err() {
        return Err(InvalidFileName::Path);
    }
    name.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), InvalidFileName> {
    if segment.contains(['<', '>', ':', '"', '|', '?', '*']) || segment.ends_with([' ', '.']) {
        return Err(InvalidFileName::Character);
    }
    // Windows looks at what is before the first dot, and skips spaces before it.
    let stem = segment.split('.').next().unwrap_or_default().trim_end();
    let is_numbered = |device: &&str| {
        let rest = stem.get(..3).filter(|head| head.eq_ignore_ascii_case(device));
        let digit = rest.and_then(|_| stem.get(3..));
        digit.is_some_and(|digit| {
            matches!(digit, "¹" | "²" | "³") || matches!(digit.as_bytes(), [b'0'..=b'9'])
        })
    };
    let is_reserved = RESERVED.iter().any(|device| stem.eq_ignore_ascii_case(device))
        || NUMBERED.iter().any(is_numbered);
    if is_reserved { Err(InvalidFileName::Reserved(stem.to_owned())) } else { Ok(()) }
}

/// Makes sure that names, each of which is good, can be together in one folder.
pub fn check_file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), NameConflict> {
    let mut files = HashMap::new();
    for name in names {
        if let Some(other) = files.insert(name.to_lowercase(), name) {
            return Err(NameConflict::Same(other.to_owned(), name.to_owned()));
        }
    }
    for name in files.keys() {
        let folders = name.match_indices('/').map(|(end, _)| &name[..end]);
        if let Some(file) = folders.filter_map(|folder| files.get(folder)).next() {
            return Err(NameConflict::Folder((*file).to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_that_every_system_can_have() {
        let long = "x".repeat(200);
        for good in [
            "a",
            "fw/1.2/firmware.bin",
            "会议/演示文稿 1.pdf",
            "console.txt",
            "com10",
            "lpt",
            "a.con",
            "nulls/x",
            &long,
        ] {
            assert_eq!(check_file_name(good), Ok(()), "{good}");
        }
        let (long, deep) = ("x".repeat(201), ["x"; 451].join("/"));
        for bad in [
            "", ".", "..", "/a", "a/", "a//b", "../x", "a/../b", "a/..", ".hidden", "a/.git/b",
            "a\\b", "a\nb", "a\0", "\u{7f}", &long, &deep,
        ] {
            assert_eq!(check_file_name(bad), Err(InvalidFileName::Path), "{bad:?}");
        }
        for bad in ["a:b", "C:", "a?", "a*/b", "a|b", "<a>", "\"a\"", "a ", "a.", "a /b", "b/a."] {
            assert_eq!(check_file_name(bad), Err(InvalidFileName::Character), "{bad:?}");
        }
        for bad in ["con", "CON.txt", "a/Nul", "aux/b", "COM1", "lpt9.tar.gz", "com²", "prn .x"] {
            let refused = check_file_name(bad);
            assert!(matches!(refused, Err(InvalidFileName::Reserved(_))), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn names_that_differ_only_by_case_or_hide_each_other_are_found() {
        let check = |names: &[&str]| check_file_names(names.iter().copied());
        assert_eq!(check(&["a", "b", "c/a", "c/b", "ca"]), Ok(()));
        assert_eq!(check(&["a", "A"]), Err(NameConflict::Same("a".into(), "A".into())));
        assert!(matches!(check(&["x", "x"]), Err(NameConflict::Same(..))));
        assert!(matches!(check(&["Ü/x", "ü/X"]), Err(NameConflict::Same(..))));
        assert_eq!(check(&["a/b/c", "a/B"]), Err(NameConflict::Folder("a/B".into())));
        assert_eq!(check(&["a", "a/b"]), Err(NameConflict::Folder("a".into())));
    }
}
