//! Packages to serve and to pull: valid ZIP archives of a given size.

use std::{
    fs::{self, File},
    io::{Cursor, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

pub(crate) const KB: u64 = 1000;
pub(crate) const MB: u64 = 1000 * KB;
const BLOCK_BYTES: usize = 1 << 20;

/// A package of a meeting `id`, in a storage folder as nodes lay it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub id: String,
    pub size: u64,
}

impl Package {
    /// Names the meeting by its size: `m100k`, `m10m`.
    pub(crate) fn of(size: u64) -> Self {
        Self { id: format!("m{}", short(size)), size }
    }

    pub(crate) fn file(&self, storage: &Path) -> PathBuf {
        storage.join(self.path())
    }

    /// Returns its path below the storage folder.
    pub(crate) fn path(&self) -> String {
        format!("meeting_{}/package.zip", self.id)
    }

    /// Returns its URL at a node.
    pub(crate) fn url(&self) -> String {
        format!("/api/v1/meetings/{}/download-package", self.id)
    }

    /// Returns `1 KB`, `300 MB`.
    pub(crate) fn label(&self) -> String {
        label(self.size)
    }

    /// Writes it to disk: only clean pages can be dropped from the cache.
    pub(crate) fn make(&self, storage: &Path) -> Result<()> {
        let path = self.file(storage);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        let file = write(File::create(&path)?, self.size, Method::Stored)?;
        file.sync_all()?;
        ensure!(file.metadata()?.len() == self.size, "{} has another size", path.display());
        Ok(())
    }
}

/// Formats `1k`, `300m`, `1g`.
pub(crate) fn short(size: u64) -> String {
    match size {
        size if size % (1000 * MB) == 0 => format!("{}g", size / (1000 * MB)),
        size if size % MB == 0 => format!("{}m", size / MB),
        size => format!("{}k", size / KB),
    }
}

/// Formats `1 KB`, `300 MB`.
pub(crate) fn label(size: u64) -> String {
    let text = short(size).to_uppercase();
    format!("{} {}B", &text[..text.len() - 1], &text[text.len() - 1..])
}

/// Parses [`short`].
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "k" => KB,
        "m" => MB,
        "g" => 1000 * MB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Random, like PDFs.
    Stored,
    /// Hardly compressible, as PDFs and pictures may be: nearly every byte has to be
    /// decoded, which is the worst case. The archive has about the given size, not
    /// exactly.
    Deflated,
}

/// Returns an archive in memory.
pub(crate) fn in_memory(size: u64) -> Result<Vec<u8>> {
    Ok(write(Cursor::new(Vec::new()), size, Method::Stored)?.into_inner())
}

/// Writes an archive with entries of a paper's size.
pub(crate) fn write<W: Write + Seek>(to: W, size: u64, method: Method) -> Result<W> {
    let entries = (size / (10 * MB)).clamp(1, 100);
    let empty = archive(Cursor::new(Vec::new()), entries, method, |_| 0)?.into_inner();
    let content = size.checked_sub(empty.len() as u64).context("smaller than any archive")?;
    let part = content / entries;
    let length = |at| if at == 0 { content - part * (entries - 1) } else { part };
    archive(to, entries, method, length)
}

fn archive<W: Write + Seek>(
    to: W,
    entries: u64,
    method: Method,
    length: impl Fn(u64) -> u64,
) -> Result<W> {
    let mut zip = ZipWriter::new(to);
    let options = SimpleFileOptions::default();
    let options = match method {
        Method::Stored => options.compression_method(CompressionMethod::Stored),
        Method::Deflated => {
            options.compression_method(CompressionMethod::Deflated).compression_level(Some(1))
        }
    };
    let mut block = vec![0; BLOCK_BYTES];
    let mut random = fastrand::Rng::with_seed(entries);
    for entry in 0..entries {
        zip.start_file(format!("{entry:03}.pdf"), options)?;
        let mut left = length(entry);
        while left > 0 {
            let n = left.min(BLOCK_BYTES as u64) as usize;
            fill(&mut random, &mut block[..n], method);
            zip.write_all(&block[..n])?;
            left -= n as u64;
        }
    }
    Ok(zip.finish()?)
}

fn fill(random: &mut fastrand::Rng, block: &mut [u8], method: Method) {
    random.fill(block);
    if method == Method::Deflated {
        let mut other = vec![0; block.len()];
        random.fill(&mut other);
        // The larger of two is more often large.
        block.iter_mut().zip(other).for_each(|(byte, other)| *byte = (*byte).max(other));
    }
}
