//! Finished runs on disk: each report in a file of its own until the main server has it, and
//! a line for each of the last runs. Blocks.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use edge_mirror_base::atomic;
use edge_mirror_protocol::remote_tasks::{MAX_RUNS, RunKey, RunReport, TaskTypeName};
use tracing::warn;

use crate::board::PastRun;

/// Runs that the history has.
const KEPT: usize = 200;

#[derive(Debug)]
pub(super) struct RunJournal {
    folder: PathBuf,
    history: VecDeque<PastRun>,
    /// The history on disk is older.
    is_behind: bool,
}

impl RunJournal {
    /// Reads the folder, which need not be there. What can't be read is left out.
    pub(super) fn open(folder: PathBuf) -> (Self, Vec<RunReport>) {
        if let Err(error) = atomic::sweep(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!("no leftovers were removed from {}: {error}", folder.display());
        }
        let text = fs::read_to_string(folder.join("history.jsonl")).unwrap_or_default();
        let history = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let journal = Self { history: history.collect(), folder, is_behind: false };
        let entries = fs::read_dir(&journal.folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let reports = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let reports = reports.take(MAX_RUNS).filter_map(|path| match read(&path) {
            Ok(report) => Some(report),
            Err(error) => {
                warn!("the report {} can't be read and is left out: {error}", path.display());
                None
            }
        });
        let reports = reports.collect();
        (journal, reports)
    }

    /// Keeps a report until it is [forgotten](Self::forget); on disk when this returns.
    pub(super) fn keep(&mut self, report: &RunReport, task_type: TaskTypeName) -> io::Result<()> {
        self.create_folder()?;
        atomic::write_private(&self.path(&report.key), &serde_json::to_vec(report)?)?;
        self.history.push_back(PastRun {
            key: report.key.clone(),
            task_type,
            state: report.state,
            started_at: report.started_at,
            duration_ms: report.duration_ms,
            error: report.error.clone(),
        });
        while self.history.len() > KEPT {
            self.history.pop_front();
        }
        self.is_behind = true;
        Ok(())
    }

    /// Saves the history, which is for people: a crash may lose its last lines.
    pub(super) fn save_history(&mut self) -> io::Result<()> {
        if !self.is_behind {
            return Ok(());
        }
        let mut lines = Vec::new();
        for run in &self.history {
            serde_json::to_writer(&mut lines, run)?;
            lines.push(b'\n');
        }
        atomic::write_private(&self.folder.join("history.jsonl"), &lines)?;
        self.is_behind = false;
        Ok(())
    }

    pub(super) fn forget(&self, keys: &[RunKey]) {
        for key in keys {
            if let Err(error) = atomic::remove_file(&self.path(key)) {
                warn!("the report of run {} can't be removed: {error}", key.task);
            }
        }
    }

    /// The last runs, the newest first.
    pub(super) fn history(&self) -> Vec<PastRun> {
        self.history.iter().rev().cloned().collect()
    }

    fn path(&self, key: &RunKey) -> PathBuf {
        self.folder.join(format!("{}.{}.{}.json", key.task, key.part, key.epoch))
    }

    fn create_folder(&self) -> io::Result<()> {
        match atomic::create_private_folder(&self.folder) {
            Ok(()) => atomic::sync_folder_of(&self.folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn read(path: &Path) -> io::Result<RunReport> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::remote_tasks::RunState;

    use super::*;

    #[test]
    fn reports_and_the_last_runs_outlast_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("node.tasks");
        let (mut journal, found) = RunJournal::open(at.clone());
        assert!(found.is_empty());
        let report = |part| {
            let key = RunKey { task: "t".parse().unwrap(), part, epoch: 1 };
            RunReport::new(key, RunState::Succeeded)
        };
        for part in 0..3 {
            journal.keep(&report(part), "sleep".parse().unwrap()).unwrap();
        }
        journal.forget(&[report(1).key]);
        journal.save_history().unwrap();
        fs::write(at.join("broken.json"), "{").unwrap();
        let (journal, mut found) = RunJournal::open(at);
        found.sort_by_key(|report| report.key.part);
        assert_eq!(found, [report(0), report(2)]);
        let parts: Vec<u32> = journal.history().iter().map(|run| run.key.part).collect();
        assert_eq!(parts, [2, 1, 0]);
    }

    #[test]
    fn the_history_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = RunJournal::open(folder.path().join("x"));
        let key = |part| RunKey { task: "t".parse().unwrap(), part, epoch: 1 };
        let past = |part| PastRun {
            key: key(part),
            task_type: "sleep".parse().unwrap(),
            state: RunState::Failed,
            started_at: None,
            duration_ms: 0,
            error: None,
        };
        journal.history = (0..KEPT).map(|part| past(u32::try_from(part).unwrap())).collect();
        let report = RunReport::new(key(9999), RunState::Stopped);
        journal.keep(&report, "sleep".parse().unwrap()).unwrap();
        assert_eq!(journal.history().len(), KEPT);
        assert_eq!(journal.history()[0].key.part, 9999);
    }
}
