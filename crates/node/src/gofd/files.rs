//! The files of a task in the download folder. They come as pieces from the first to the
//! last, each verified before it is written: to a partial file beside the place of the
//! whole, which is renamed when all of it is there. So what is here is always a beginning.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use edge_mirror_base::atomic::{self, PartialFile};
use edge_mirror_gofd::{MetaInfo, PieceDigest, PieceLayout, UnusableMeta, piece_digest};

use crate::dispatch::prepared;

const PARTIAL_PREFIX: &str = ".gofd-";

#[derive(Debug)]
pub(super) struct AgentFiles {
    folder: PathBuf,
    layout: PieceLayout,
    files: Vec<AgentFile>,
    state: Mutex<PlacingState>,
}

#[derive(Debug)]
struct AgentFile {
    name: String,
    offset: u64,
    size: u64,
}

impl AgentFile {
    fn end(&self) -> u64 {
        self.offset + self.size
    }

    /// The name of its partial file: in the same folder.
    fn partial(&self) -> String {
        match self.name.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{PARTIAL_PREFIX}{name}"),
            None => format!("{PARTIAL_PREFIX}{}", self.name),
        }
    }
}

/// The progress of the files.
#[derive(Debug, Default)]
struct PlacingState {
    /// Files that are in place, from the first on.
    placed: usize,
    /// Those that were found whole, by number: they are not written.
    found: Arc<[bool]>,
    /// The file that is being written, by number.
    open: Option<(usize, PartialFile)>,
    /// True once nothing may be written any more.
    is_closed: bool,
}

impl AgentFiles {
    pub(super) fn new(folder: PathBuf, meta: &MetaInfo) -> Result<Self, UnusableMeta> {
        let (layout, names) = (meta.layout()?, meta.names()?);
        let mut offset = 0;
        let files = names.into_iter().zip(&meta.files).map(|(name, file)| {
            let placed = AgentFile { name, offset, size: file.length };
            offset += file.length;
            placed
        });
        Ok(Self { folder, layout, files: files.collect(), state: Mutex::default() })
    }

    pub(super) fn layout(&self) -> PieceLayout {
        self.layout
    }

    /// Verifies what is here of an earlier time, and returns the number of pieces that need
    /// not be pulled, from the first on. Blocks.
    pub(super) fn resume(&self, digests: &[PieceDigest]) -> io::Result<u32> {
        atomic::create_folder(&self.folder)?;
        let found: Vec<_> = self.files.iter().map(|file| self.is_whole(file)).collect();
        let mut good = 0;
        while good < self.layout.pieces() {
            let (offset, bytes) = (self.layout.offset(good), self.layout.piece_length(good));
            let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
            let read = self.read_with(offset, bytes, |number, file| match found[number] {
                true => File::open(self.folder.join(&file.name)),
                false => File::open(self.folder.join(file.partial())),
            });
            let is_good = |bytes: &Bytes| digests.get(good as usize) == Some(&piece_digest(bytes));
            if !read.is_ok_and(|bytes| is_good(&bytes)) {
                break;
            }
            good += 1;
        }
        // A file of the right size with other bytes is written anew from its beginning.
        let good_bytes = self.bytes_of(good);
        let is_split = |(number, file): &(usize, &AgentFile)| {
            found[*number] && file.offset < good_bytes && good_bytes < file.end()
        };
        if let Some((_, file)) = self.files.iter().enumerate().find(is_split) {
            let before = file.offset / self.layout.piece_bytes();
            good = u32::try_from(before).map_err(io::Error::other)?;
        }
        let kept =
            self.files.iter().zip(found).map(|(file, found)| found && file.end() <= good_bytes);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.placed, state.found, state.open) = (0, kept.collect(), None);
        }
        self.place_until(good)?;
        Ok(good)
    }

    /// Has nothing written any more, not even by a write that goes on. Blocks.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.is_closed, state.open) = (true, None);
    }

    /// Writes the next piece, which was verified. Blocks.
    pub(super) fn write(&self, piece: u32, bytes: &[u8]) -> io::Result<()> {
        let offset = self.layout.offset(piece);
        self.parts(offset, bytes.len()).try_for_each(|(number, from, part)| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Those before it are whole, and keep their locks until they are in place.
            self.place(&mut state, self.files[number].offset)?;
            // The second is a write that went on when its pull was given up.
            let is_there = state.found.get(number).copied().unwrap_or(false);
            if is_there || number < state.placed {
                return Ok(());
            }
            let open = self.opened(&mut state, number, from)?;
            open.file().write_all_at(&bytes[part], from)
        })?;
        self.place_until(piece + 1)
    }

    /// Reads bytes that are here. Blocks.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let (placed, found) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.placed, state.found.clone())
        };
        self.read_with(offset, bytes, |number, file| {
            let whole = || File::open(self.folder.join(&file.name));
            match number < placed || found.get(number).copied().unwrap_or(false) {
                true => whole(),
                // It may be renamed between two looks.
                false => File::open(self.folder.join(file.partial())).or_else(|_| whole()),
            }
        })
    }

    fn read_with(
        &self,
        offset: u64,
        bytes: usize,
        open: impl Fn(usize, &AgentFile) -> io::Result<File>,
    ) -> io::Result<Bytes> {
        let mut read = BytesMut::zeroed(bytes);
        for (number, from, part) in self.parts(offset, bytes) {
            open(number, &self.files[number])?.read_exact_at(&mut read[part], from)?;
        }
        Ok(read.freeze())
    }

    /// The parts of files that some bytes are: a file's number, the position in it, and the
    /// range of the bytes.
    fn parts(
        &self,
        offset: u64,
        bytes: usize,
    ) -> impl Iterator<Item = (usize, u64, std::ops::Range<usize>)> {
        let end = offset + bytes as u64;
        let first = self.files.partition_point(|file| file.end() <= offset);
        let files = self.files.iter().enumerate().skip(first);
        files.take_while(move |(_, file)| file.offset < end).filter_map(move |(number, file)| {
            let (from, to) = (file.offset.max(offset), file.end().min(end));
            let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            (from < to).then(|| (number, from - file.offset, place(from)..place(to)))
        })
    }

    fn bytes_of(&self, pieces: u32) -> u64 {
        self.layout.offset(pieces).min(self.layout.length())
    }

    fn is_whole(&self, file: &AgentFile) -> bool {
        let found = fs::symlink_metadata(self.folder.join(&file.name));
        found.is_ok_and(|found| found.is_file() && found.len() == file.size)
    }

    /// The partial file of the file with this number, in which all before `from` is there.
    fn opened<'a>(
        &self,
        state: &'a mut PlacingState,
        number: usize,
        from: u64,
    ) -> io::Result<&'a PartialFile> {
        if state.is_closed {
            return Err(io::Error::other("the task is over"));
        }
        if state.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = prepared(&self.folder, &self.files[number].partial())?;
            let opened = PartialFile::open(&path)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::WouldBlock, "another task writes this file")
            })?;
            // Removed or replaced since it was verified: it would get a hole of zeros.
            if opened.file().metadata()?.len() < from {
                return Err(io::Error::other("a partial file has lost its beginning"));
            }
            state.open = Some((number, opened));
        }
        let open = state.open.as_ref().map(|(_, open)| open);
        open.ok_or_else(|| io::Error::other("no file is open"))
    }

    /// Puts the files in place that are whole once so many pieces are there.
    fn place_until(&self, pieces: u32) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.place(&mut state, self.bytes_of(pieces))
    }

    /// Puts the files in place that end within the first `here` bytes.
    fn place(&self, state: &mut PlacingState, here: u64) -> io::Result<()> {
        while let Some(file) = self.files.get(state.placed).filter(|file| file.end() <= here) {
            let number = state.placed;
            if !state.found.get(number).copied().unwrap_or(false) {
                let target = prepared(&self.folder, &file.name)?;
                let open = self.opened(state, number, file.size)?;
                open.file().set_len(file.size)?;
                open.persist(&target)?;
                state.open = None;
            }
            state.placed += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
