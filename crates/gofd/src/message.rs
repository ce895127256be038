//! The documents that a server sends to agents, and their reports.

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use edge_mirror_protocol::dispatch::{
    InvalidFileName, MAX_FILES, NameConflict, check_file_name, check_file_names,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use thiserror::Error;

use crate::pieces::{PieceDigest, PieceLayout};

/// A task as a server first tells an agent of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentTask {
    pub task_id: String,
    pub meta_info: MetaInfo,
    pub link_chain: LinkChain,
    /// Bytes per second of a connection; 0: no limit.
    #[serde(default)]
    pub speed: i64,
}

/// The files of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetaInfo {
    /// Bytes of all files.
    pub length: u64,
    #[serde(rename = "PieceLen")]
    pub piece_len: u64,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub pieces: Vec<PieceDigest>,
    pub files: Vec<AgentTaskFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTaskFile {
    pub length: u64,
    /// The folder at the server.
    #[serde(default)]
    pub path: String,
    pub name: String,
    /// Nobody reads it: GoFD writes bytes into it that are no text.
    #[serde(default)]
    pub sum: String,
}

/// The order in which agents pull from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkChain {
    /// Data ports, the server's first. An agent pulls from the one before its own.
    pub dispatch_addrs: Vec<String>,
    /// The management port that reports go to.
    pub server_addr: String,
}

/// Has an agent begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStart {
    pub task_id: String,
    pub link_chain: LinkChain,
}

/// The report of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    pub task_id: String,
    pub ip: String,
    /// 100 when all is there, -1 when it has failed.
    #[serde(serialize_with = "crate::status::percent")]
    pub percent_complete: f32,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnusableMeta {
    #[error("文件数应为 1 到 {MAX_FILES} / there must be from 1 to {MAX_FILES} files")]
    Count,
    #[error("文件长度之和与 length 不符 / the lengths of the files don't make up length")]
    Length,
    #[error("PieceLen 不可用，或文件过大 / PieceLen can't be used, or the files are too large")]
    Layout,
    #[error("pieces 的个数有误 / there are too many or too few pieces")]
    Pieces,
    #[error("文件名 / file name {name:?}: {cause}")]
    Name { name: String, cause: InvalidFileName },
    #[error(transparent)]
    Conflict(#[from] NameConflict),
}

impl MetaInfo {
    /// Makes sure that the numbers fit each other.
    pub fn layout(&self) -> Result<PieceLayout, UnusableMeta> {
        if self.files.is_empty() || self.files.len() > MAX_FILES {
            return Err(UnusableMeta::Count);
        }
        let sum = self.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
        if sum != Some(self.length) {
            return Err(UnusableMeta::Length);
        }
        let layout = PieceLayout::new(self.length, self.piece_len).ok_or(UnusableMeta::Layout)?;
        match self.pieces.len() == layout.pieces() as usize {
            true => Ok(layout),
            false => Err(UnusableMeta::Pieces),
        }
    }

    /// The relative names of the files: below the innermost folder at the server that all
    /// of them are in. A single one has its own name, as at GoFD's agents; equal names in
    /// several folders stay apart, as they do not there.
    pub fn names(&self) -> Result<Vec<String>, UnusableMeta> {
        let folders: Vec<Vec<&str>> = self.files.iter().map(|file| segments(&file.path)).collect();
        let shared =
            folders.iter().skip(1).fold(folders.first().map_or(0, Vec::len), |len, other| {
                let first = folders.first().into_iter().flatten().take(len);
                first.zip(other).take_while(|(one, two)| one == two).count()
            });
        let names = self.files.iter().zip(&folders).map(|(file, folders)| {
            let segments = folders.iter().skip(shared).copied().chain([&*file.name]);
            let name = segments.collect::<Vec<_>>().join("/");
            // Also where all share it: a way up is a mistake, or worse.
            let checked = match folders.contains(&"..") {
                true => Err(InvalidFileName::Path),
                false => check_file_name(&name),
            };
            checked.map(|()| name.clone()).map_err(|cause| UnusableMeta::Name { name, cause })
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        check_file_names(names.iter().map(String::as_str))?;
        Ok(names)
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect()
}

fn to_base64<S: Serializer>(pieces: &[PieceDigest], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(pieces.as_flattened()))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PieceDigest>, D::Error> {
    // Go writes null where there is no piece.
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    let bytes = BASE64.decode(text).map_err(|_| D::Error::custom("pieces are no base64"))?;
    let (pieces, []) = bytes.as_chunks() else {
        return Err(D::Error::custom("pieces are not of 20 bytes each"));
    };
    Ok(pieces.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, name: &str, length: u64) -> AgentTaskFile {
        AgentTaskFile { length, path: path.into(), name: name.into(), sum: String::new() }
    }

    fn meta(files: &[(&str, &str)]) -> MetaInfo {
        let files = files.iter().map(|(path, name)| file(path, name, 1)).collect::<Vec<_>>();
        let length = files.len() as u64;
        MetaInfo { length, piece_len: 1 << 20, pieces: vec![[7; 20]], files }
    }

    /// As GoFD's server sends it, but for the sum.
    #[test]
    fn a_task_is_written_and_read_with_gofds_keys() {
        let text = r#"{"taskId":"t1","metaInfo":{"length":1,"PieceLen":1048576,"pieces":"BwcHBwcHBwcHBwcHBwcHBwcHBwc=","files":[{"length":1,"path":"/srv/","name":"a","sum":""}]},"linkChain":{"dispatchAddrs":["10.0.0.1:45001"],"serverAddr":"10.0.0.1:45000"},"speed":10485760}"#;
        let chain = LinkChain {
            dispatch_addrs: vec!["10.0.0.1:45001".into()],
            server_addr: "10.0.0.1:45000".into(),
        };
        let task = AgentTask {
            task_id: "t1".into(),
            meta_info: meta(&[("/srv/", "a")]),
            link_chain: chain.clone(),
            speed: 10 << 20,
        };
        assert_eq!(serde_json::to_string(&task).unwrap(), text);
        assert_eq!(serde_json::from_str::<AgentTask>(text).unwrap(), task);
        let start = AgentStart { task_id: "t1".into(), link_chain: chain };
        let text = r#"{"taskId":"t1","linkChain":{"dispatchAddrs":["10.0.0.1:45001"],"serverAddr":"10.0.0.1:45000"}}"#;
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
        let report =
            StatusReport { task_id: "t1".into(), ip: "::1".into(), percent_complete: 100.0 };
        let text = r#"{"taskId":"t1","ip":"::1","percentComplete":100}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let good = meta(&[("/a", "x"), ("/a", "y")]);
        assert_eq!(good.layout().unwrap().pieces(), 1);
        let with = |change: fn(&mut MetaInfo)| {
            let mut meta = good.clone();
            change(&mut meta);
            meta.layout().unwrap_err()
        };
        assert_eq!(with(|meta| meta.files.clear()), UnusableMeta::Count);
        assert_eq!(with(|meta| meta.length = 3), UnusableMeta::Length);
        assert_eq!(with(|meta| meta.files[0].length = u64::MAX), UnusableMeta::Length);
        assert_eq!(with(|meta| meta.piece_len = 1 << 40), UnusableMeta::Layout);
        assert_eq!(with(|meta| meta.pieces.push([0; 20])), UnusableMeta::Pieces);
        for bad in [r#""BwcH""#, r#""?""#, "1"] {
            let text = format!(r#"{{"length":1,"PieceLen":1,"files":[],"pieces":{bad}}}"#);
            assert!(serde_json::from_str::<MetaInfo>(&text).is_err(), "{bad}");
        }
        let none = r#"{"length":0,"PieceLen":1,"files":[],"pieces":null}"#;
        assert!(serde_json::from_str::<MetaInfo>(none).unwrap().pieces.is_empty());
    }

    #[test]
    fn folders_that_all_share_go_and_the_others_stay() {
        for (files, names) in [
            (vec![("/srv/fw/", "a.bin")], vec!["a.bin"]),
            (vec![("/srv/fw/", "a"), ("/srv/fw/", "b")], vec!["a", "b"]),
            (vec![("/srv/fw/", "a"), ("/srv/doc/", "a")], vec!["fw/a", "doc/a"]),
            (vec![("/srv/", "a"), ("/srv/doc/x", "a")], vec!["a", "doc/x/a"]),
            (vec![("", "a"), ("x", "b")], vec!["a", "x/b"]),
        ] {
            assert_eq!(meta(&files).names().unwrap(), names);
        }
        for files in [
            vec![("/srv/../etc/", "passwd")],
            vec![("/srv/", "..")],
            vec![("/srv/", "a/b"), ("/srv/", "../x")],
            vec![("/srv/", "")],
            vec![("/srv/", "/etc/passwd")],
            vec![("/srv/", ".hidden")],
            vec![("/srv/", "a\0")],
            vec![("/srv/", "C:\\x")],
            vec![("/srv/", "a"), ("/srv/", "A")],
        ] {
            assert!(meta(&files).names().is_err(), "{files:?}");
        }
    }
}
