//! Stored objects: their names, how their bytes are verified, and how long they are
//! kept. Pure: no disk and no clock.

use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::package::{PackageId, VerifyLevel};

/// The name of a stored object: a meeting's package, or a file of a task.
///
/// Its text is the meeting's id, or `{task}/{name}`. An id has no `/`, so a text names
/// only one of them. Keys compare and hash as their texts do.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub enum ObjectKey {
    Package(PackageId),
    File(FileKey),
}

/// The name of a file: a task, and a path relative to the task's folder.
///
/// The task is the first segment. Segments become names of folders and files as they
/// are. None begins with a dot: those names are the store's own (manifests, scratch
/// files), and `..` leads out of the folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(Arc<str>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a meeting's id, and not a task and a relative path of plain names")]
pub struct InvalidKey;

impl ObjectKey {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Package(id) => id.as_str(),
            Self::File(file) => file.as_str(),
        }
    }

    /// Returns the meeting whose package it is.
    pub fn package(&self) -> Option<&PackageId> {
        match self {
            Self::Package(id) => Some(id),
            Self::File(_) => None,
        }
    }

    /// Formats it for logs and messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Package(id) => format!("package of meeting {id}"),
            Self::File(file) => format!("file {file:?}"),
        }
    }
}

impl FileKey {
    /// In bytes. A file name has 255 at most, and a manifest's is longer by six.
    const MAX_SEGMENT_LEN: usize = 200;
    /// In bytes. A path has 4,095 at most, with the storage folder's own.
    const MAX_LEN: usize = 1000;

    pub fn new(task: &str, name: &str) -> Result<Self, InvalidKey> {
        // Otherwise a part of the task would become one of the name.
        if task.contains('/') { Err(InvalidKey) } else { format!("{task}/{name}").parse() }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn task(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(task, _)| task)
    }

    /// Returns the last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl FromStr for FileKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let is_plain = |segment: &str| {
            (1..=Self::MAX_SEGMENT_LEN).contains(&segment.len())
                && !segment.starts_with('.')
                && !segment.contains(|c: char| c.is_control() || c == '\\')
        };
        let valid =
            text.len() <= Self::MAX_LEN && text.contains('/') && text.split('/').all(is_plain);
        valid.then(|| Self(text.into())).ok_or(InvalidKey)
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for ObjectKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match text.contains('/') {
            true => text.parse().map(Self::File),
            false => text.parse().map(Self::Package).map_err(|_| InvalidKey),
        }
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Allows look-ups by text, without a key of its own.
impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ObjectKey {}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<PackageId> for ObjectKey {
    fn from(id: PackageId) -> Self {
        Self::Package(id)
    }
}

impl From<&PackageId> for ObjectKey {
    fn from(id: &PackageId) -> Self {
        Self::Package(id.clone())
    }
}

impl From<FileKey> for ObjectKey {
    fn from(file: FileKey) -> Self {
        Self::File(file)
    }
}

impl From<&Self> for ObjectKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// A media type (RFC 9110, 8.3.1), with parameters or without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MediaType(Cow<'static, str>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a media type")]
pub struct InvalidMediaType;

impl MediaType {
    /// Of packages.
    pub const ZIP: Self = Self(Cow::Borrowed("application/zip"));
    /// Of files, about which nothing is known.
    pub const BYTES: Self = Self(Cow::Borrowed("application/octet-stream"));
    const MAX_LEN: usize = 200;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self::ZIP
    }
}

impl TryFrom<String> for MediaType {
    type Error = InvalidMediaType;

    fn try_from(text: String) -> Result<Self, InvalidMediaType> {
        // Ten thousand manifests share one text.
        for known in [Self::ZIP, Self::BYTES] {
            if text == known.as_str() {
                return Ok(known);
            }
        }
        let is_header_text = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let valid = text.len() <= Self::MAX_LEN
            && is_header_text
            && text
                .split_once('/')
                .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
        valid.then_some(Self(Cow::Owned(text))).ok_or(InvalidMediaType)
    }
}

/// The check of an object's bytes before they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// A ZIP archive, checked as thoroughly as this; and its digest, if one was announced.
    Zip(VerifyLevel),
    /// The digest, which must have been announced.
    Digest,
}

/// Packages as they are checked by default: manifests without the field are of those.
impl Default for Verification {
    fn default() -> Self {
        Self::Zip(VerifyLevel::Full)
    }
}

impl From<VerifyLevel> for Verification {
    fn from(level: VerifyLevel) -> Self {
        Self::Zip(level)
    }
}

/// The class of an object: until when it is kept though room is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// As long as its meeting is active, and removed some time after it has ended.
    #[default]
    Meeting,
    /// Until this time, in seconds since 1970.
    Until(u64),
    /// Until somebody removes it.
    Keep,
}

impl Retention {
    /// True if the object may go when room is needed. An object of no meeting has none
    /// that is active.
    pub fn allows_eviction(self, is_meeting_active: bool, now_s: u64) -> bool {
        match self {
            Self::Meeting => !is_meeting_active,
            Self::Until(until_s) => until_s <= now_s,
            Self::Keep => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_key_reads_what_it_writes_and_a_package_is_never_a_file() {
        let package: ObjectKey = "m1".parse().unwrap();
        let file = ObjectKey::from(FileKey::new("t1", "a/b.bin").unwrap());
        assert!(package.package().is_some() && file.package().is_none());
        for key in [&package, &file] {
            let json = serde_json::to_string(key).unwrap();
            assert_eq!(json, format!("\"{key}\""));
            assert_eq!(serde_json::from_str::<ObjectKey>(&json).unwrap(), *key);
        }
        assert_eq!(file.to_string(), "t1/a/b.bin");
        let by_key = HashMap::from([(package, 1), (file, 2)]);
        assert_eq!((by_key.get("m1"), by_key.get("t1/a/b.bin")), (Some(&1), Some(&2)));
    }

    #[test]
    fn a_file_is_named_by_plain_names_within_its_task() {
        let (long, deep) = ("x".repeat(200), ["x"; 499].join("/"));
        for (task, name) in
            [("t", "a"), ("任务 1", "会议/文件.pdf"), ("t", "a..b/c."), ("t", &long), ("t", &deep)]
        {
            let key = FileKey::new(task, name).unwrap();
            assert_eq!((key.task(), key.as_str()), (task, &*format!("{task}/{name}")));
            assert!(name.ends_with(key.file_name()) && !key.file_name().contains('/'));
        }
        let (long, deep) = ("x".repeat(201), ["x"; 501].join("/"));
        for bad in [
            "",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "/a",
            "/",
            "a/",
            "a//b",
            "a\\b",
            "a\0",
            "a\nb",
            "\u{7f}",
            "\u{85}",
            "./a",
            "a/.b.json",
            ".tmp-1-1",
            &long,
            &deep,
        ] {
            assert_eq!(FileKey::new("t", bad), Err(InvalidKey), "{bad}");
            assert_eq!(FileKey::new(bad, "a"), Err(InvalidKey), "{bad}");
            assert!(format!("t/{bad}").parse::<ObjectKey>().is_err(), "{bad}");
        }
        assert_eq!(FileKey::new("t/a", "b"), Err(InvalidKey));
    }

    #[test]
    fn a_media_type_can_be_sent_in_a_header() {
        let read = |text: &str| MediaType::try_from(text.to_owned()).is_ok();
        assert!(read("application/zip") && read("text/plain; charset=utf-8"));
        let too_long = format!("a/{}", "b".repeat(200));
        for bad in ["", "zip", "/", "a/", "/b", "a/b\r\nx: y", "a/\u{e9}", &too_long] {
            assert!(!read(bad), "{bad}");
        }
    }

    #[test]
    fn each_class_goes_in_its_time() {
        for (class, active, now_s, goes) in [
            (Retention::Meeting, true, 10, false),
            (Retention::Meeting, false, 10, true),
            (Retention::Until(11), false, 10, false),
            (Retention::Until(10), true, 10, true),
            (Retention::Keep, false, 10, false),
        ] {
            assert_eq!(class.allows_eviction(active, now_s), goes, "{class:?}");
        }
    }
}
