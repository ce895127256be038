//! Checks that bytes are a good package: hashes, the archive's structure, and every
//! entry's CRC. Nothing is expanded to disk, and memory stays constant.
//!
//! Every byte of an archive is checked against another that says the same, except
//! what the format has only once (`header`, `directory`), and bits of a compressed
//! entry that change nothing of what it unpacks to.
//!
//! Entries may have been unpacked while the archive was still arriving
//! (`entry_scanner`); then only its directory and headers remain to be read.

mod directory;
mod fields;
mod header;
mod entry_scanner;
mod scanned_entries;
mod unpack;
mod walk;
mod window;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use edge_mirror_protocol::package::{Sha256, VerifyLevel};
use sha2::{Digest as _, Sha256 as Sha256Hasher};
use thiserror::Error;
use walk::walk;

pub(crate) use entry_scanner::scan_entries;
pub use scanned_entries::ScannedEntries;

/// Limit of the classic format. A meeting has some thousand pages, and tablets that
/// hold a directory in memory should be able to hold this one.
const MAX_ENTRIES: u64 = 65_535;
/// 256 bytes per entry: a long name and some extra fields.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Documents seldom shrink below a hundredth; a bomb of a few kilobytes that
/// would keep a core busy for hours does.
const MAX_RATIO: u64 = 100;
/// Below this, a high ratio is harmless (a log of zeros, say).
const RATIO_EXEMPT_BYTES: u64 = 1 << 30;
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
        "the archive would expand to at least {expanded} bytes from {packed}, more than {MAX_RATIO} to 1"
    )]
    Bomb { packed: u64, expanded: u64 },
    #[error("the archive's directory has {found} {unit}, at most {accepted} are accepted")]
    Directory { found: u64, unit: &'static str, accepted: u64 },
    #[error("the SHA-256 is {got}, but {announced} was announced")]
    Digest { announced: Sha256, got: Sha256 },
    #[error("no SHA-256 was announced, and nothing else tells whether it is good")]
    Unannounced,
    #[error("it changed while it was read")]
    Changed,
    #[error("cannot read it back: {0}")]
    Io(#[from] io::Error),
}

impl VerifyError {
    pub fn is_over_limit(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// False if another try, or another setting, may find it good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Structure(_)
            | Self::Entry { .. }
            | Self::Bomb { .. }
            | Self::Directory { .. }
            | Self::Digest { .. } => true,
            Self::Uncheckable { .. } | Self::Unannounced | Self::Changed | Self::Io(_) => false,
        }
    }
}

/// Returns the digest of a whole file.
pub fn digest(mut file: &File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    digest_of(file)
}

/// Returns the digest of all that can be read.
pub fn digest_of(mut source: impl Read) -> io::Result<Sha256> {
    let (mut sha256, mut buffer) = (Sha256Hasher::new(), vec![0; BUFFER_BYTES]);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(Sha256::new(sha256.finalize().into())),
            n => sha256.update(&buffer[..n]),
        }
    }
}

/// Compares a digest with the announced one, if there is one.
pub(crate) fn check_digest(announced: Option<Sha256>, got: Sha256) -> Result<(), VerifyError> {
    match announced.filter(|announced| *announced != got) {
        Some(announced) => Err(VerifyError::Digest { announced, got }),
        None => Ok(()),
    }
}

/// Checks the archive and returns how many files are in it.
pub fn check_zip(file: &File, verify: VerifyLevel) -> Result<u64, VerifyError> {
    check_zip_with(file, verify, &ScannedEntries::default())
}

/// Like [`check_zip`], without the bytes of entries `seen` to be good in this file.
pub(crate) fn check_zip_with(
    file: &File,
    verify: VerifyLevel,
    seen: &ScannedEntries,
) -> Result<u64, VerifyError> {
    match walk(file, verify, seen) {
        // What was seen spares reading, and changes neither verdict nor message.
        Err(_) if seen.count() > 0 => walk(file, verify, &ScannedEntries::default()),
        verdict => verdict,
    }
}

fn is_bomb(expanded: u64, packed: u64, ratio_exempt_bytes: u64) -> bool {
    expanded > ratio_exempt_bytes && expanded / MAX_RATIO > packed
}

#[cfg(test)]
mod tests;
