//! Notices edits of the configuration file made by hand.
//!
//! The folder is watched, not the file: editors write a new file and rename
//! it over the old one, and a watch on the old file would then see nothing.
//! If the file is a symbolic link, the folder of its target is watched, too.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::tasks;
use notify::{Config as WatchConfig, Event, PollWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use super::Settings;

/// Editors write in several steps; the file is read once they have paused.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// Poll interval where the system offers no events.
const POLL: Duration = Duration::from_secs(2);

/// Reloads after edits, until dropped.
pub async fn run(settings: Arc<Settings>) {
    // One pending "look again" is enough, however many events there are.
    let (tx, mut rx) = mpsc::channel::<()>(1);
    let look = || {
        let (settings, tx) = (settings.clone(), tx.clone());
        tasks::blocking(move || {
            let target = target_folder(settings.path());
            (target, watcher(settings.path(), tx))
        })
    };
    let mut watched = look().await;
    loop {
        // First without an event: the file may have been edited between being
        // read at the start and being watched.
        let reloaded = settings.clone();
        tasks::blocking(move || reloaded.reload()).await;
        if rx.recv().await.is_none() {
            return;
        }
        while let Ok(Some(())) = tokio::time::timeout(DEBOUNCE, rx.recv()).await {}
        // The file may have become a symbolic link, or another one.
        let moved = settings.clone();
        let target = tasks::blocking(move || target_folder(moved.path())).await;
        if target != watched.0 {
            watched = look().await;
        }
    }
}

fn watcher(path: &Path, tx: mpsc::Sender<()>) -> Option<Box<dyn Watcher + Send>> {
    let folder = path.parent()?;
    match events(path, folder, tx.clone()) {
        Ok(watcher) => return Some(watcher),
        Err(error) => warn!("no file events for {}, looking every 2 s: {error}", folder.display()),
    }
    match polls(path, folder, tx) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!("edits of {} need a restart to be seen: {error}", path.display());
            None
        }
    }
}

fn events(
    path: &Path,
    folder: &Path,
    tx: mpsc::Sender<()>,
) -> notify::Result<Box<dyn Watcher + Send>> {
    let mut watcher = notify::recommended_watcher(handler(path, tx))?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    if let Some(target) = target_folder(path) {
        watcher.watch(&target, RecursiveMode::NonRecursive)?;
    }
    Ok(Box::new(watcher))
}

fn target_folder(path: &Path) -> Option<PathBuf> {
    let target = path.canonicalize().ok()?;
    let folder = target.parent()?;
    (path.parent()?.canonicalize().ok()? != folder).then(|| folder.to_owned())
}

fn polls(
    path: &Path,
    folder: &Path,
    tx: mpsc::Sender<()>,
) -> notify::Result<Box<dyn Watcher + Send>> {
    let config = WatchConfig::default().with_poll_interval(POLL);
    let mut watcher = PollWatcher::new(handler(path, tx), config)?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

fn handler(path: &Path, tx: mpsc::Sender<()>) -> impl Fn(notify::Result<Event>) + Send + 'static {
    let target = path.canonicalize().unwrap_or_default();
    let names = [path, &target].map(|path| path.file_name().map(ToOwned::to_owned));
    move |event| {
        let named = |path: &PathBuf| names.iter().any(|name| path.file_name() == name.as_deref());
        let ours = match event {
            // Too many events at once, or an error: anything may have happened.
            Ok(event) if event.need_rescan() => true,
            Ok(event) => !event.kind.is_access() && event.paths.iter().any(named),
            Err(_) => true,
        };
        if ours {
            // A full channel means that a look is due anyway.
            let _ = tx.try_send(());
        }
    }
}
