//! Whether bytes are a good package: hashes, the archive's structure, and
//! every entry's CRC. Nothing is expanded to disk; memory stays constant but
//! for the archive's directory, which is bounded.
//!
//! Entries may have been unpacked while the archive was still arriving
//! (`passage`); then only its directory remains to be read.

mod header;
mod passage;
mod seen;
mod window;

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use sha2::{Digest as _, Sha256 as Sha256Hasher};
use thiserror::Error;
use zip::{ZipArchive, result::ZipError};

use crate::{config::Verify, package::Sha256};
pub use passage::pass_through;
pub use seen::Seen;

/// The classic format's own limit; each entry costs some hundred bytes of memory.
const MAX_ENTRIES: usize = 65_535;
/// Documents seldom shrink below a hundredth; a bomb of a few kilobytes that
/// would keep a core busy for hours does.
const MAX_RATIO: u64 = 100;
/// Below this, a high ratio is harmless (a log of zeros, say).
const ALWAYS_FINE_BYTES: u64 = 1 << 30;
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("not a complete ZIP archive: {0}")]
    Structure(String),
    #[error("entry '{name}' of the ZIP archive is damaged: {cause}")]
    Entry { name: String, cause: String },
    #[error(
        "entry '{name}' can't be checked ({cause}); set storage.verify to \"structure\" to accept such archives"
    )]
    Uncheckable { name: String, cause: String },
    #[error(
        "the archive would expand to {expanded} bytes from {packed}, more than {MAX_RATIO} to 1"
    )]
    Bomb { packed: u64, expanded: u64 },
    #[error("the SHA-256 is {got}, but {announced} was announced")]
    Digest { announced: Sha256, got: Sha256 },
    #[error("it changed while it was read")]
    Changed,
    #[error("cannot read it back: {0}")]
    Io(#[from] io::Error),
}

impl VerifyError {
    /// False when another try, or another setting, may find it good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Structure(_) | Self::Entry { .. } | Self::Bomb { .. } | Self::Digest { .. } => {
                true
            }
            Self::Uncheckable { .. } | Self::Changed | Self::Io(_) => false,
        }
    }
}

/// The digest of a whole file.
pub fn digest(mut file: &File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    digest_of(file)
}

/// The digest of all that can be read.
pub fn digest_of(mut source: impl Read) -> io::Result<Sha256> {
    let (mut sha256, mut buffer) = (Sha256Hasher::new(), vec![0; BUFFER_BYTES]);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(Sha256::new(sha256.finalize().into())),
            n => sha256.update(&buffer[..n]),
        }
    }
}

/// Checks the archive and returns how many files are in it.
pub fn check_zip(file: &File, verify: Verify) -> Result<u64, VerifyError> {
    check_zip_seen(file, verify, &Seen::default())
}

/// As [`check_zip`], but for entries that were `seen` to be good in this file.
pub fn check_zip_seen(file: &File, verify: Verify, seen: &Seen) -> Result<u64, VerifyError> {
    let packed = file.metadata()?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(structure)?;
    // A truncated archive whose last whole entry is itself a ZIP would pass
    // for that inner one; its beginning gives it away.
    if archive.offset() != 0 {
        let cause = format!("{} bytes before its beginning", archive.offset());
        return Err(VerifyError::Structure(cause));
    }
    if archive.len() > MAX_ENTRIES {
        return Err(VerifyError::Structure(format!("more than {MAX_ENTRIES} entries")));
    }
    let (mut files, mut expanded) = (0, 0_u64);
    for index in 0..archive.len() {
        // Looks up the entry's own header, too.
        let entry = archive.by_index_raw(index).map_err(structure)?;
        files += u64::from(entry.is_file());
        expanded = expanded.saturating_add(entry.size());
    }
    if expanded > ALWAYS_FINE_BYTES && expanded / MAX_RATIO > packed {
        return Err(VerifyError::Bomb { packed, expanded });
    }
    if verify == Verify::Full {
        check_entries(&mut archive, seen)?;
    }
    Ok(files)
}

fn check_entries(
    archive: &mut ZipArchive<BufReader<&File>>,
    seen: &Seen,
) -> Result<(), VerifyError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for index in 0..archive.len() {
        if archive.by_index_data(index).is_ok_and(|entry| seen.vouches_for(&entry)) {
            continue;
        }
        let name = archive
            .name_for_index(index)
            .and_then(Result::ok)
            .map_or_else(|| format!("number {index}"), |name| name.chars().take(100).collect());
        let mut entry = match archive.by_index(index) {
            Ok(entry) => entry,
            Err(error) => return Err(entry_error(name, &error.into())),
        };
        let announced = entry.size();
        let mut read = 0;
        loop {
            // The reader compares the CRC when it reaches the entry's end.
            match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => read += n as u64,
                Err(error) => return Err(entry_error(name, &error)),
            }
            if read > announced {
                break;
            }
        }
        if read != announced {
            let cause = format!("{announced} bytes announced, {read} there");
            return Err(VerifyError::Entry { name, cause });
        }
    }
    Ok(())
}

/// An entry that this build has no method for is another matter than damage.
fn entry_error(name: String, error: &io::Error) -> VerifyError {
    let cause = error.to_string();
    match error.kind() {
        io::ErrorKind::Unsupported => VerifyError::Uncheckable { name, cause },
        _ => VerifyError::Entry { name, cause },
    }
}

fn structure(error: ZipError) -> VerifyError {
    match error {
        ZipError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            VerifyError::Io(error)
        }
        other => VerifyError::Structure(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn check(bytes: &[u8]) -> Result<u64, VerifyError> {
        check_zip(&file_of(bytes), Verify::Full)
    }

    const CONTENT: &[u8] = b"meeting papers, meeting papers, meeting papers, meeting papers";

    #[test]
    fn good_archives_pass_and_their_files_are_counted() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = archive(&[("会议/a.pdf", CONTENT), ("b.pdf", b"")], method);
            assert_eq!(check(&bytes).unwrap(), 2);
        }
        assert_eq!(check(&archive(&[], CompressionMethod::Stored)).unwrap(), 0);
    }

    #[test]
    fn an_archive_cut_anywhere_fails() {
        let bytes = archive(&[("a", CONTENT), ("b", CONTENT)], CompressionMethod::Stored);
        for length in 0..bytes.len() {
            assert!(check(&bytes[..length]).is_err(), "cut at {length} of {}", bytes.len());
        }
    }

    #[test]
    fn an_archive_cut_behind_an_archive_inside_it_fails() {
        let inner = archive(&[("a", CONTENT)], CompressionMethod::Stored);
        let outer = archive(&[("inner.zip", &inner), ("b", CONTENT)], CompressionMethod::Stored);
        let inner_end = outer.windows(inner.len()).position(|w| w == inner).unwrap() + inner.len();
        assert!(check(&outer).is_ok());
        assert!(check(&outer[..inner_end]).is_err());
    }

    #[test]
    fn a_flipped_bit_in_an_entry_fails_in_full_mode_only() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut bytes = archive(&[("a", CONTENT)], method);
            bytes[40] ^= 1;
            assert!(check(&bytes).is_err());
            assert!(check_zip(&file_of(&bytes), Verify::Structure).is_ok());
        }
    }

    #[test]
    fn an_error_page_is_no_package() {
        assert!(matches!(check(b"<html><body>502</body></html>"), Err(VerifyError::Structure(_))));
    }

    #[test]
    fn an_entry_that_can_not_be_checked_says_what_to_do() {
        let mut bytes = archive(&[("a", CONTENT)], CompressionMethod::Deflated);
        // Compression method 98 (PPMd) in the local header and the directory.
        let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bytes[8] = 98;
        bytes[directory + 10] = 98;
        let error = check(&bytes).unwrap_err();
        assert!(matches!(error, VerifyError::Uncheckable { .. }), "{error}");
        assert!(error.to_string().contains("storage.verify"));
        assert!(check_zip(&file_of(&bytes), Verify::Structure).is_ok());
    }

    #[test]
    fn the_digest_is_that_of_the_standard() {
        assert_eq!(
            digest(&file_of(b"abc")).unwrap().to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
