//! A file's bytes in the address space. The crate's only `unsafe` code.
//!
//! Soundness: a `&[u8]` over a mapping must not change or vanish while somebody reads
//! it.
//!
//! - Nobody in this process writes to a package or truncates it. Packages are
//!   written as scratch files by `atomic`, and once they are in place they are only
//!   renamed over or unlinked, which leaves the mapped inode as it is. The mapping
//!   is private and read-only.
//! - A package that is followed while it arrives is mapped in its final length
//!   while `PendingPackage` appends to it. Only bytes that were written before are ever
//!   sliced (`PartialReader::wait_until_ready`), and those are not written again.
//! - Somebody else on the machine may write into the file nevertheless.
//!   [`Store::open_package`](super::Store::open_package) compares size, time
//!   and inode before each download, so none begins from such a file. One that
//!   is under way then gets its bytes from the kernel: they go from the mapping
//!   to a socket by `writev`, which answers EFAULT if the file has become shorter, or
//!   by `sendfile`, which finds its end, and the connection breaks. This process
//!   never reads the bytes itself, which could end it by SIGBUS. That holds for plain
//!   sockets only: encryption has to read, and must use
//!   [`OpenCopy::file`](super::OpenCopy::file) instead.

#![expect(unsafe_code, reason = "the one module that maps files, argued above")]

use std::{fs::File, io, ops::Range};

use memmap2::{Advice, Mmap, MmapOptions};

/// A whole file, mapped for reading.
#[derive(Debug)]
pub(super) struct FileMapping {
    map: Mmap,
}

impl FileMapping {
    /// Maps a file. Fails if it is larger than the address space, or on a filesystem
    /// that can't map.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: see the module's head.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map })
    }

    /// Maps a file that has not reached its length yet.
    pub(super) fn ahead(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: see the module's head.
        let map = unsafe { MmapOptions::new().len(length).map(file)? };
        Ok(Self { map })
    }

    /// True if all pages of the range are in memory, so that reading them waits for no
    /// disk, or if the kernel won't tell.
    pub(super) fn is_resident(&self, range: Range<usize>) -> bool {
        let page = rustix::param::page_size();
        let start = range.start.min(self.map.len()) / page * page;
        let length = range.end.min(self.map.len()).saturating_sub(start);
        let mut pages = [0_u8; MAX_PAGES];
        let Some(pages) = pages.get_mut(..length.div_ceil(page)) else { return false };
        // SAFETY: the range lies within the mapping (rounded up to whole pages,
        // as the mapping itself is), begins at a page, and there is one byte
        // for each of its pages.
        let told = unsafe {
            let first = self.map.as_ptr().add(start).cast_mut();
            libc::mincore(first.cast(), length, pages.as_mut_ptr().cast())
        };
        told != 0 || pages.iter().all(|page| page & 1 == 1)
    }

    /// Waits until the range is in memory.
    pub(super) fn fill(&self, range: Range<usize>) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateRead, range.start, range.len())
    }
}

impl AsRef<[u8]> for FileMapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Pages of the largest range asked for, 2 MiB in pages of 4 KiB.
const MAX_PAGES: usize = 513;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mapped(bytes: &[u8]) -> (File, FileMapping) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mapping = FileMapping::of(&file).unwrap();
        (file, mapping)
    }

    #[test]
    fn a_mapping_has_the_files_bytes() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let (file, mapping) = mapped(&bytes);
        drop(file);
        assert!(mapping.as_ref() == bytes);
    }

    #[test]
    fn a_file_that_grows_shows_what_was_written() {
        let mut file = tempfile::tempfile().unwrap();
        let mapping = FileMapping::ahead(&file, 9000).unwrap();
        for (at, byte) in [(0, 1), (4000, 2), (5000, 3)] {
            file.write_all(&vec![byte; if at == 4000 { 1000 } else { 4000 }]).unwrap();
            assert_eq!(mapping.as_ref()[at], byte);
        }
        assert!(mapping.is_resident(0..9000));
    }

    #[test]
    fn an_unlinked_or_replaced_file_stays_as_it_was_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, [1; 9000]).unwrap();
        std::fs::write(&other, [2; 10]).unwrap();
        let mapping = FileMapping::of(&File::open(&path).unwrap()).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(mapping.as_ref() == [1; 9000]);
        std::fs::remove_file(&path).unwrap();
        assert!(mapping.as_ref() == [1; 9000]);
    }

    #[test]
    fn a_file_that_was_cut_short_breaks_the_writing_and_not_the_process() {
        use std::io::IoSlice;
        let (file, mapping) = mapped(&vec![7; 1 << 20]);
        file.set_len(0).unwrap();
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let written = (&here).write_vectored(&[IoSlice::new(mapping.as_ref())]);
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn what_was_filled_is_resident_and_odd_ranges_are_no_harm() {
        let (_file, mapping) = mapped(&vec![7; (1 << 20) + 5]);
        for range in [0..1, 4095..4097, 100..1 << 20, (1 << 20)..(1 << 20) + 5, 0..usize::MAX] {
            let bounded = range.start..range.end.min((1 << 20) + 5);
            mapping.fill(bounded).unwrap();
            assert!(mapping.is_resident(range.clone()), "{range:?}");
        }
    }

    #[test]
    fn an_empty_file_is_an_error_or_empty_and_nothing_worse() {
        let file = tempfile::tempfile().unwrap();
        if let Ok(mapping) = FileMapping::of(&file) {
            assert!(mapping.as_ref().is_empty() && mapping.is_resident(0..1));
        }
    }
}
