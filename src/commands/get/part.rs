//! The part of a package that is here: a hidden file beside the final one. If the server
//! names a digest, it is in the file's name, so that a later run knows the part's
//! version.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use edge_mirror_base::atomic::PartialFile;
use edge_mirror_protocol::package::{Sha256, VerifyLevel};
use edge_mirror_store::verify;
use serde::Serialize;
use sha2::{Digest as _, Sha256 as Hasher};
use url::Url;

use super::answer::{ContentMismatch, PackageAnswer};
use crate::{commands::client, terminal::say};

const SUFFIX: &str = ".part";
/// Used in place of a digest.
const UNNAMED: &str = "unnamed";

pub(super) struct PartialDownload {
    target: PathBuf,
    partial: PartialFile,
    named: Option<Sha256>,
    /// The tag to ask for the rest, and its server: one server's tag means nothing to
    /// another, unless it is the digest.
    tag: Option<(String, String)>,
    hasher: Hasher,
    size_bytes: u64,
    /// It came with more than one answer.
    has_mixed_versions: bool,
    fate: DownloadFate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DownloadFate {
    UnderWay,
    /// Can't be used any more.
    Spent,
    Placed,
}

/// A complete package.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivedPackage {
    pub size_bytes: u64,
    pub sha256: Sha256,
    pub digest_of: Option<DigestSource>,
}

/// The source of the digest that a package was compared with. Without one, only the
/// archive was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DigestSource {
    /// The server asked, or the main server, which also gave the bytes.
    Server,
    /// The main server, for bytes from a node that it redirected to.
    MainServer,
    /// That node alone: the main server names none.
    Node,
}

/// The server that gave the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastSender {
    /// The server asked, or the main server: its digest is trusted.
    Server,
    /// A server found through these, with the main server's digest.
    Node(Option<Sha256>),
}

impl PartialDownload {
    /// Returns the longest part left by earlier runs, if any.
    pub(super) fn left_at(target: &Path) -> Result<Option<Self>> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let longest = left_overs(target).into_iter().max_by_key(|(path, _)| length(path));
        let Some((path, Some(digest))) = longest else { return Ok(None) };
        let mut part = Self::open(target, &path, Some(digest))?;
        part.has_mixed_versions = true;
        part.resume().with_context(|| cannot_read(&path))?;
        Ok(Some(part))
    }

    /// Begins an empty one, of the answer's version.
    pub(super) fn begin(target: &Path, answer: &PackageAnswer) -> Result<Self> {
        let path = path_of(target, answer.sha256);
        let mut part = Self::open(target, &path, answer.sha256)?;
        let emptied = part.partial.file().set_len(0).and_then(|()| part.partial.file().rewind());
        emptied.with_context(|| {
            say(format!("无法写入 {}", path.display()), format!("cannot write {}", path.display()))
        })?;
        part.tag = answer.strong_tag.clone().map(|tag| (answer.from.clone(), tag));
        Ok(part)
    }

    fn open(target: &Path, path: &Path, named: Option<Sha256>) -> Result<Self> {
        let opened = PartialFile::open(path);
        let opened = opened.with_context(|| {
            let folder = target.parent().unwrap_or(target).display();
            say(
                format!("无法写入文件夹 {folder}；请检查权限，或换一个 -o"),
                format!("cannot write into {folder}; check its permissions, or choose another -o"),
            )
        })?;
        let Some(partial) = opened else {
            bail!(say(
                format!("另一个 edge-mirror 正在下载到 {}", target.display()),
                format!("another edge-mirror is already downloading to {}", target.display()),
            ));
        };
        let (tag, hasher) = (None, Hasher::new());
        Ok(Self {
            target: target.to_owned(),
            partial,
            named,
            tag,
            hasher,
            size_bytes: 0,
            has_mixed_versions: false,
            fate: DownloadFate::UnderWay,
        })
    }

    /// Reads what is there, to append to it.
    fn resume(&mut self) -> io::Result<()> {
        let mut file = self.partial.file();
        let mut chunk = vec![0; 128 << 10];
        file.seek(SeekFrom::Start(0))?;
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(()),
                n => {
                    self.hasher.update(&chunk[..n]);
                    self.size_bytes += n as u64;
                }
            }
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the bytes that a later run can use.
    pub(super) fn kept(&self) -> Option<u64> {
        let of_use = self.named.is_some() && self.fate == DownloadFate::UnderWay;
        (of_use && self.size_bytes > 0).then_some(self.size_bytes)
    }

    /// Returns the offset and the tag to ask for the rest.
    pub(super) fn resumable_at(&self, source: &Url) -> Option<(u64, String)> {
        let asked = client::authority(source);
        let tag = match (&self.tag, self.named) {
            (Some((from, tag)), _) if *from == asked => tag.clone(),
            // All our servers use this form.
            (_, Some(digest)) => format!("\"{digest}\""),
            (_, None) => return None,
        };
        (self.size_bytes > 0).then_some((self.size_bytes, tag))
    }

    /// True if an answer with a part begins where this ends, in this version.
    pub(super) fn is_continued_by(&self, answer: &PackageAnswer) -> bool {
        let Some(((first, last), total)) = answer.part.zip(answer.total_bytes) else {
            return false;
        };
        let same = match (self.named, answer.sha256) {
            (Some(here), Some(there)) => here == there,
            // Without a digest the tag counts; the end is compared anyway.
            (Some(_) | None, None) => true,
            (None, Some(_)) => false,
        };
        same && first == self.size_bytes && last.checked_add(1) == Some(total)
    }

    pub(super) fn go_on(&mut self) {
        self.has_mixed_versions = true;
    }

    /// True if nothing is missing, by an answer without more bytes.
    pub(super) fn is_complete_for(&self, answer: &PackageAnswer) -> bool {
        self.size_bytes > 0 && answer.total_bytes == Some(self.size_bytes)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.partial.file().write_all(bytes)?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn give_up(mut self) {
        self.fate = DownloadFate::Spent;
    }

    /// Moves the whole to its place if it is right, or returns what is wrong with it.
    pub(super) fn finish(
        mut self,
        sender: LastSender,
    ) -> Result<std::result::Result<ReceivedPackage, ContentMismatch>> {
        self.fate = DownloadFate::Spent;
        let sha256 = Sha256::new(std::mem::take(&mut self.hasher).finalize().into());
        let size_bytes = self.size_bytes;
        let named = match (sender, self.named) {
            (LastSender::Node(Some(named)), _) => Some((DigestSource::MainServer, named)),
            (LastSender::Node(None), Some(named)) => Some((DigestSource::Node, named)),
            (LastSender::Server, Some(named)) => Some((DigestSource::Server, named)),
            (_, None) => None,
        };
        match named {
            Some((of, named)) if named != sha256 => {
                let (whose, by) = match of {
                    DigestSource::MainServer => ("主控服务器给出的", "the main server's"),
                    DigestSource::Server | DigestSource::Node => ("给出的", "the announced"),
                };
                let what = say(
                    format!("内容与{whose} SHA-256 不符：实际为 {sha256}，应为 {named}"),
                    format!("the bytes don't have {by} SHA-256: {sha256}, not {named}"),
                );
                return Ok(Err(ContentMismatch {
                    what,
                    has_mixed_versions: self.has_mixed_versions,
                }));
            }
            Some(_) => {}
            None => {
                if let Err(wrong) = verify::check_zip(self.partial.file(), VerifyLevel::Full) {
                    let what = say(
                        format!("没有给出 SHA-256，而收到的内容有误：{wrong}"),
                        format!("no SHA-256 was given, and what arrived is {wrong}"),
                    );
                    return Ok(Err(ContentMismatch {
                        what,
                        has_mixed_versions: self.has_mixed_versions,
                    }));
                }
            }
        }
        let placed = self.partial.persist(&self.target);
        placed.with_context(|| {
            let target = self.target.display();
            say(format!("无法把会议包放到 {target}"), format!("cannot put the package at {target}"))
        })?;
        self.fate = DownloadFate::Placed;
        for (other, _) in left_overs(&self.target) {
            // Of earlier versions; one in use by another run is left alone.
            if let Ok(Some(other)) = PartialFile::open(&other) {
                let _ = other.discard();
            }
        }
        let digest_of = named.map(|(of, _)| of);
        Ok(Ok(ReceivedPackage { size_bytes, sha256, digest_of }))
    }
}

impl Drop for PartialDownload {
    fn drop(&mut self) {
        if self.fate != DownloadFate::Placed && self.kept().is_none() {
            // Hidden and harmless, if it stays.
            let _ = self.partial.discard();
        }
    }
}

fn cannot_read(path: &Path) -> String {
    say(format!("无法读取 {}", path.display()), format!("cannot read {}", path.display()))
}

fn path_of(target: &Path, digest: Option<Sha256>) -> PathBuf {
    let version = digest.map_or_else(|| UNNAMED.to_owned(), |digest| digest.to_string());
    target.with_file_name(format!("{}{version}{SUFFIX}", prefix(target)))
}

fn prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.")
}

/// Returns the parts that earlier runs left, with their digests.
fn left_overs(target: &Path) -> Vec<(PathBuf, Option<Sha256>)> {
    let (prefix, folder) = (prefix(target), target.parent().unwrap_or(Path::new("/")));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let left = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?;
        let digest = version.parse().ok();
        (digest.is_some() || version == UNNAMED).then(|| (entry.path(), digest))
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_where_it_ends_and_goes_to_the_end_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let of = |sha256, part| PackageAnswer {
            sha256,
            part: Some(part),
            total_bytes: Some(10),
            ..PackageAnswer::default()
        };
        let named = Some(Sha256::new([7; 32]));
        let mut part =
            PartialDownload::begin(&folder.path().join("m1.zip"), &of(named, (0, 9))).unwrap();
        part.write(b"begun").unwrap();
        for (sha256, range, good) in [
            (named, (5, 9), true),
            (None, (5, 9), true),
            (Some(Sha256::new([8; 32])), (5, 9), false),
            (named, (4, 9), false),
            (named, (6, 9), false),
            (named, (5, 8), false),
            (named, (5, u64::MAX), false),
        ] {
            assert_eq!(part.is_continued_by(&of(sha256, range)), good, "{sha256:?} {range:?}");
        }
        assert_eq!(part.kept(), Some(5));
        part.give_up();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
