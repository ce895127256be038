//! A bench's temporary folder and processes. Both are gone at the end, be it the end, an
//! error, a panic, Ctrl-C or SIGTERM.

use std::{
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

const POLITE: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Stage {
    folder: PathBuf,
    running: Arc<Mutex<Vec<Pid>>>,
}

impl Stage {
    /// Runs the bench; its result is the process's exit code.
    pub(crate) fn run(bench: impl FnOnce(&Self) -> Result<()> + Send + 'static) -> ExitCode {
        match Self::guarded(bench) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn guarded(bench: impl FnOnce(&Self) -> Result<()> + Send + 'static) -> Result<()> {
        // Under target, not under /tmp, which may be in memory.
        let target = env!("CARGO_TARGET_TMPDIR");
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(target)?;
        let stage = Self { folder: folder.path().to_owned(), running: Arc::default() };
        let (tell, told) = oneshot::channel();
        let player = stage.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let outcome = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            // A separate thread, as it blocks; only this one gets signals.
            std::thread::spawn(move || {
                let outcome = panic::catch_unwind(AssertUnwindSafe(|| bench(&player)));
                let _ = tell.send(outcome.unwrap_or_else(|_| Err(anyhow!("it panicked"))));
            });
            tokio::select! {
                outcome = told => outcome?,
                _ = interrupt.recv() => Err(anyhow!("interrupted")),
                _ = terminate.recv() => Err(anyhow!("terminated")),
            }
        });
        // Held until the process ends, so that the bench starts nothing more.
        let running = stage.running();
        for pid in running.iter() {
            let _ = kill_process_group(*pid, Signal::KILL);
        }
        std::mem::forget(running);
        drop(folder);
        outcome
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates a folder in the folder.
    pub(crate) fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
        Ok(path)
    }

    /// Creates an empty one with this prefix.
    pub(crate) fn make_new(&self, name: &str) -> Result<PathBuf> {
        let new = tempfile::Builder::new().prefix(name).tempdir_in(&self.folder)?;
        Ok(new.keep())
    }

    /// Starts a process that leads a group, so that its children go with it.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<Child> {
        use std::os::unix::process::CommandExt;
        let mut running = self.running();
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        running.push(Pid::from_child(&child));
        Ok(child)
    }

    /// Ends it and its children; with SIGTERM first, as a killed master leaves its
    /// workers for others to reap.
    pub(crate) fn end(&self, child: &mut Child) {
        let pid = Pid::from_child(child);
        let begin = Instant::now();
        // One that was waited for is no more: its number may be another's.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while begin.elapsed() < POLITE && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill(child);
    }

    /// Ends it and its children at once.
    pub(crate) fn kill(&self, child: &mut Child) {
        let pid = Pid::from_child(child);
        let mut running = self.running();
        if running.contains(&pid) {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            running.retain(|other| *other != pid);
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
