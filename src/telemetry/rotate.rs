//! A log file rotated by size: `node.log`, `node.log.1` (newer) to
//! `node.log.N` (oldest), as Python's `RotatingFileHandler` names them.
//!
//! Hand-written because the crates for it either panic where the folder can't
//! be made or bring a thread and compression of their own. Nothing here ever
//! fails towards the caller: a log that can't be written must not stop a node.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long to leave a file alone that could not be written.
const RETRY: Duration = Duration::from_secs(10);

pub(super) struct Rotating {
    path: PathBuf,
    /// 0 stands for no rotation.
    max_bytes: u64,
    backups: u32,
    open: Option<(File, u64)>,
    failed_at: Option<Instant>,
}

impl Rotating {
    pub(super) fn new(path: PathBuf, max_bytes: u64, backups: u32) -> Self {
        Self { path, max_bytes, backups, open: None, failed_at: None }
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let full =
            |size: u64| self.max_bytes > 0 && size > 0 && size + line.len() as u64 > self.max_bytes;
        let (mut file, size) = match self.open.take() {
            Some((_, size)) if full(size) => self.roll()?,
            Some(open) => open,
            None => match open(&self.path)? {
                (_, size) if full(size) => self.roll()?,
                open => open,
            },
        };
        file.write_all(line)?;
        self.open = Some((file, size + line.len() as u64));
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "log files are no packages: losing one is fine")]
    fn roll(&self) -> io::Result<(File, u64)> {
        for number in (1..self.backups).rev() {
            let (newer, older) = (self.backup(number), self.backup(number + 1));
            if newer.exists() {
                fs::rename(newer, older)?;
            }
        }
        match self.backups {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, self.backup(1))?,
        }
        open(&self.path)
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

#[expect(clippy::disallowed_methods, reason = "log files are no packages: losing one is fine")]
fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Who may read the configuration's folder need not read who came and how
    // to log in.
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.failed_at.is_none_or(|at| at.elapsed() > RETRY) {
            let failed = self.put(line).err();
            if let Some(error) = &failed
                && self.failed_at.is_none()
            {
                // Not through the log, which is what is broken.
                eprintln!("edge-mirror: cannot write the log {}: {error}", self.path.display());
            }
            self.failed_at = failed.map(|_| Instant::now());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_kept_up_to_their_count_and_no_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/node.log");
        let mut log = Rotating::new(path.clone(), 20, 2);
        for number in 0..8 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).unwrap();
        assert_eq!(read("node.log"), "line 6\nline 7\n");
        assert_eq!(read("node.log.1"), "line 4\nline 5\n");
        assert_eq!(read("node.log.2"), "line 2\nline 3\n");
        assert!(!folder.path().join("logs/node.log.3").exists());
    }

    #[test]
    fn an_existing_file_is_continued_and_its_size_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.log");
        fs::write(&path, "seventeen bytes!\n").unwrap();
        let mut log = Rotating::new(path.clone(), 20, 1);
        log.write_all(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        assert!(folder.path().join("node.log.1").exists());
    }

    #[test]
    fn a_file_that_can_not_be_written_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("logs"), "a file where the folder should be").unwrap();
        let mut log = Rotating::new(folder.path().join("logs/node.log"), 20, 1);
        log.write_all(b"lost\n").unwrap();
        log.write_all(b"lost\n").unwrap();
    }
}
