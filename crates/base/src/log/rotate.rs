//! A log file rotated by size: `node.log`, `node.log.1` (newer) to
//! `node.log.N` (oldest), as Python's `RotatingFileHandler` names them.
//!
//! The path is a setting, and those who may change settings need not have all rights
//! of the service's user: a file that is not a log of ours is never appended to,
//! renamed or removed, and no link is followed.
//!
//! Hand-written because the crates for it either panic where the folder can't
//! be made or bring a thread and compression of their own. Callers never see an
//! error: a log that can't be written must not stop a node.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use thiserror::Error;

use super::line;

/// Permission bits of others, neither owner nor group.
const OTHERS: u32 = 0o007;
/// Pause after a file could not be written.
const RETRY: Duration = Duration::from_secs(10);
/// Most zeros that a log of ours may begin with.
const MAX_ZEROS: usize = 64 << 10;
/// Size of an audit file: a change takes about 100 bytes, so the last 50,000 are kept.
const AUDIT_BYTES: u64 = 1 << 20;
const AUDIT_BACKUPS: u32 = 5;

#[derive(Debug, Error)]
pub enum LogError {
    #[error("{} is there already and is no log of this program", .0.display())]
    NotALog(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct RotatingFile {
    path: PathBuf,
    /// 0: no rotation.
    max_bytes: u64,
    backups: u32,
    open: Option<(File, u64)>,
    failed_at: Option<Instant>,
}

impl RotatingFile {
    pub fn new(path: PathBuf, max_bytes: u64, backups: u32) -> Self {
        Self { path, max_bytes, backups, open: None, failed_at: None }
    }

    /// The audit log.
    pub fn audit(path: PathBuf) -> Self {
        Self::new(path, AUDIT_BYTES, AUDIT_BACKUPS)
    }

    /// Checks that lines can be written and old files rotated. Creates the file and its
    /// folder if need be.
    pub fn probe(&self) -> Result<(), LogError> {
        (1..=self.backups).try_for_each(|number| check(&self.backup(number)))?;
        open(&self.path).map(drop)
    }

    fn append(&mut self, line: &[u8]) -> Result<(), LogError> {
        let full =
            |size: u64| self.max_bytes > 0 && size > 0 && size + line.len() as u64 > self.max_bytes;
        let (mut file, size) = match self.open.take() {
            Some((_, size)) if full(size) => self.rotate()?,
            Some(open) => open,
            None => match open(&self.path)? {
                (_, size) if full(size) => self.rotate()?,
                open => open,
            },
        };
        if let Err(error) = file.write_all(line) {
            // A file that begins with half a line would not count as ours.
            if size == 0 {
                file.set_len(0)?;
            }
            return Err(error.into());
        }
        self.open = Some((file, size + line.len() as u64));
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "log files are no packages: losing one is fine")]
    fn rotate(&self) -> Result<(File, u64), LogError> {
        // Check all before the first is moved.
        check(&self.path)?;
        (1..=self.backups).try_for_each(|number| check(&self.backup(number)))?;
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

fn open(path: &Path) -> Result<(File, u64), LogError> {
    // Not for all who may read the configuration's folder: it tells who came and how to
    // log in.
    let file = open_log(path, OpenOptions::new().create(true).append(true).mode(0o640))?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        // Another user's file can still be written to; its mode is theirs.
        let _ = file.set_permissions(Permissions::from_mode(mode & !OTHERS));
    }
    Ok((file, metadata.len()))
}

/// Fails if there is a file that is not a log of ours.
fn check(path: &Path) -> Result<(), LogError> {
    match open_log(path, &mut OpenOptions::new()) {
        Err(LogError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.map(drop),
    }
}

/// Opens a file that is new or begins as a log of ours. The file that is checked is the
/// one written to, whatever becomes of its name meanwhile.
#[expect(clippy::disallowed_methods, reason = "log files are no packages: losing one is fine")]
fn open_log(path: &Path, options: &mut OpenOptions) -> Result<File, LogError> {
    let not_a_log = || LogError::NotALog(path.to_owned());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Opening a pipe would wait for a writer.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_a_log()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(not_a_log());
    }
    line::is_log_head(&head(&file)?).then_some(file).ok_or_else(not_a_log)
}

/// Reads a file's beginning without leading zeros: after a power failure, unwritten
/// data may read as zeros.
fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; line::HEAD_BYTES];
    let length = file.read_at(&mut head, 0)?;
    head.truncate(length);
    if head.first() != Some(&0) {
        return Ok(head);
    }
    head.resize(MAX_ZEROS + line::HEAD_BYTES, 0);
    let length = file.read_at(&mut head, 0)?;
    head.truncate(length);
    let zeros = head.iter().take_while(|byte| **byte == 0).count();
    if zeros <= MAX_ZEROS {
        head.drain(..zeros);
    }
    head.truncate(line::HEAD_BYTES);
    Ok(head)
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.failed_at.is_none_or(|at| at.elapsed() > RETRY) {
            let failed = self.append(line).err();
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
    use std::os::unix::fs::symlink;

    use super::*;

    fn line(number: u8) -> String {
        format!("2026-11-29 10:00:00 - file_node - INFO - line {number}\n")
    }

    const LINE_BYTES: u64 = 48;

    /// A folder with a file that is not a log.
    fn with_key(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join(name);
        fs::write(&key, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        (folder, key)
    }

    fn is_untouched(key: &Path) -> bool {
        fs::read_to_string(key).unwrap() == "-----BEGIN PRIVATE KEY-----\n"
    }

    #[test]
    fn what_is_no_log_is_neither_written_to_nor_removed() {
        for backups in [0, 1] {
            let (folder, key) = with_key("tls.key");
            let mut log = RotatingFile::new(key.clone(), 1, backups);
            assert!(matches!(log.probe(), Err(LogError::NotALog(path)) if path == key));
            log.write_all(line(1).as_bytes()).unwrap();
            assert!(is_untouched(&key));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_is_no_log_is_not_rotated_over() {
        for (backups, name) in [(1, "node.log.1"), (3, "node.log.3")] {
            let (folder, key) = with_key(name);
            let mut log = RotatingFile::new(folder.path().join("node.log"), LINE_BYTES, backups);
            assert!(matches!(log.probe(), Err(LogError::NotALog(path)) if path == key));
            for number in 0..5 {
                log.append(line(number).as_bytes()).ok();
            }
            assert!(is_untouched(&key), "{name}");
            assert_eq!(fs::read_to_string(folder.path().join("node.log")).unwrap(), line(0));
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (folder, key) = with_key("tls.key");
        let (to_key, to_log, nowhere) =
            (folder.path().join("a.log"), folder.path().join("b.log"), folder.path().join("c.log"));
        let log = folder.path().join("node.log");
        fs::write(&log, line(1)).unwrap();
        symlink(&key, &to_key).unwrap();
        symlink(&log, &to_log).unwrap();
        symlink(folder.path().join("none"), &nowhere).unwrap();
        for link in [to_key, to_log, nowhere] {
            let error = RotatingFile::new(link.clone(), 1, 0).append(line(2).as_bytes());
            assert!(matches!(error, Err(LogError::NotALog(_))), "{error:?}");
        }
        assert!(is_untouched(&key) && !folder.path().join("none").exists());
        assert_eq!(fs::read_to_string(&log).unwrap(), line(1));
    }

    #[test]
    fn old_files_are_kept_up_to_their_count_and_no_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/node.log");
        let mut log = RotatingFile::new(path.clone(), 2 * LINE_BYTES, 2);
        for number in 0..8 {
            log.write_all(line(number).as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).unwrap();
        assert_eq!(read("node.log"), line(6) + &line(7));
        assert_eq!(read("node.log.1"), line(4) + &line(5));
        assert_eq!(read("node.log.2"), line(2) + &line(3));
        assert!(!folder.path().join("logs/node.log.3").exists());
    }

    #[test]
    fn zeros_that_a_power_cut_left_keep_no_log_from_going_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.log");
        let zeros = |count: usize, rest: &str| [&vec![0; count], rest.as_bytes()].concat();
        for (before, is_log) in [
            (zeros(1, ""), true),
            (zeros(4096, ""), true),
            (zeros(MAX_ZEROS, ""), true),
            (zeros(4096, &line(1)), true),
            (zeros(MAX_ZEROS, &line(1)), true),
            (zeros(MAX_ZEROS + 1, &line(1)), false),
            (zeros(1 << 20, ""), false),
            (zeros(4096, "-----BEGIN PRIVATE KEY-----"), false),
        ] {
            fs::write(&path, &before).unwrap();
            let mut log = RotatingFile::new(path.clone(), 0, 0);
            assert_eq!(log.probe().is_ok(), is_log, "{}", before.len());
            log.write_all(line(2).as_bytes()).unwrap();
            let expected = if is_log { [before, line(2).into()].concat() } else { before };
            assert!(fs::read(&path).unwrap() == expected);
        }
    }

    #[test]
    fn an_existing_file_is_continued_and_its_size_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.log");
        fs::write(&path, line(1)).unwrap();
        let mut log = RotatingFile::new(path.clone(), LINE_BYTES, 1);
        log.write_all(line(2).as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), line(2));
        assert!(folder.path().join("node.log.1").exists());
    }

    #[test]
    fn others_do_not_read_who_came_and_how_to_log_in() {
        let folder = tempfile::tempdir().unwrap();
        for (name, before) in [("new.log", None), ("old.log", Some(0o644))] {
            let path = folder.path().join(name);
            if let Some(mode) = before {
                fs::write(&path, "").unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            RotatingFile::new(path.clone(), 0, 0).write_all(b"line\n").unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & OTHERS, 0, "{name}: {mode:o}");
        }
    }

    #[test]
    fn a_file_that_can_not_be_written_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("logs"), "a file where the folder should be").unwrap();
        let mut log = RotatingFile::new(folder.path().join("logs/node.log"), 20, 1);
        log.write_all(b"lost\n").unwrap();
        log.write_all(b"lost\n").unwrap();
    }
}
