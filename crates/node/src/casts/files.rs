//! The casts on disk: a few files of JSON lines, of which only the last one is written, as
//! a whole. The first line of each says how far the node was then.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge_mirror_base::atomic;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::history::{CastPlace, NodeCast};

/// A larger file is not added to: each addition writes it again.
const FULL_BYTES: usize = 64 << 10;

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct FileHead {
    place: CastPlace,
}

/// A file by the numbers of its first and last cast.
#[derive(Clone, Copy, Debug)]
struct CastFile {
    first: u64,
    last: u64,
}

/// The files, the oldest first.
#[derive(Debug, Default)]
pub(super) struct CastFiles {
    folder: PathBuf,
    files: VecDeque<CastFile>,
    /// The last one's lines without the first.
    lines: Vec<u8>,
}

impl CastFiles {
    /// Reads the folder, which need not be there. What can't be read is left out: the main
    /// server sends what is still valid once more.
    pub(super) fn open(folder: PathBuf) -> (Self, CastPlace, Vec<NodeCast>) {
        if let Err(error) = atomic::sweep(&folder) {
            debug!("no leftovers were removed from {}: {error}", folder.display());
        }
        let mut opened = Self { folder, files: VecDeque::new(), lines: Vec::new() };
        let (mut place, mut casts) = (CastPlace::default(), Vec::new());
        for path in opened.paths() {
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    warn!("casts in {} can't be read: {error}", path.display());
                    continue;
                }
            };
            let Some((head, found)) = parse(&text) else {
                warn!("casts in {} are damaged and are left out", path.display());
                continue;
            };
            let (Some(first), Some(last)) = (found.first(), found.last()) else { continue };
            opened.files.push_back(CastFile { first: first.n, last: last.n });
            opened.lines = text.split_once('\n').map_or("", |(_, lines)| lines).into();
            place = head.place;
            casts.extend(found);
        }
        (opened, place, casts)
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
        // Numbers have as many digits as there can be.
        paths.sort();
        paths
    }

    fn path(&self, file: CastFile) -> PathBuf {
        self.folder.join(format!("{:020}.jsonl", file.first))
    }

    /// Adds casts; they are on disk when this returns.
    pub(super) fn append(&mut self, place: &CastPlace, new: &[Arc<NodeCast>]) -> io::Result<()> {
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(()) };
        let current = self.files.back().copied().filter(|_| self.lines.len() < FULL_BYTES);
        let mut lines = current.map_or_else(Vec::new, |_| self.lines.clone());
        for cast in new {
            serde_json::to_writer(&mut lines, &**cast)?;
            lines.push(b'\n');
        }
        let file =
            CastFile { first: current.map_or(first.n, |current| current.first), last: last.n };
        let head = serde_json::to_string(&FileHead { place: place.clone() })?;
        self.create_folder()?;
        let text = [head.as_bytes(), b"\n", &lines].concat();
        atomic::write_private(&self.path(file), &text)?;
        if current.is_some() {
            self.files.pop_back();
        }
        self.files.push_back(file);
        self.lines = lines;
        Ok(())
    }

    fn create_folder(&self) -> io::Result<()> {
        match atomic::create_private_folder(&self.folder) {
            Ok(()) => atomic::sync_folder_of(&self.folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes files all of whose casts come before a number; never the last one, which says
    /// how far the node is.
    pub(super) fn remove_before(&mut self, number: u64) {
        while self.files.len() > 1 && self.files.front().is_some_and(|file| file.last < number) {
            let Some(file) = self.files.pop_front() else { break };
            remove(&self.path(file));
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = atomic::remove_file(path) {
        warn!("old casts in {} can't be removed: {error}", path.display());
    }
}

/// None if a line is none of ours.
fn parse(text: &str) -> Option<(FileHead, Vec<NodeCast>)> {
    let (head, lines) = text.split_once('\n')?;
    let casts = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Some((serde_json::from_str(head).ok()?, casts.ok()?))
}
