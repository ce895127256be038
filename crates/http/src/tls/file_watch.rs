//! Follows files of certificates and keys: who renews them replaces them in place, or turns
//! a link.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::warn;

use super::fingerprint;

/// A certificate and its key are replaced one after the other.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Network folders, and links in the middle of a path, send no events.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The folders of some files, and what happens in them.
pub struct FileWatch {
    folders: BTreeSet<PathBuf>,
    watcher: Option<Box<dyn Watcher + Send>>,
    events: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Default for FileWatch {
    fn default() -> Self {
        Self { folders: BTreeSet::new(), watcher: None, events: mpsc::channel(1) }
    }
}

impl FileWatch {
    /// Follows these files. To be called before they are read: no change is missed in
    /// between. Blocks.
    pub fn follow(&mut self, paths: &[PathBuf]) {
        let folders = folders(paths);
        if folders != self.folders {
            self.watcher = watcher(&folders, self.events.0.clone());
            self.folders = folders;
        }
    }

    /// Waits until the files may have changed; forever without files.
    pub async fn changed(&mut self) {
        let has_files = !self.folders.is_empty();
        let events = &mut self.events.1;
        tokio::select! {
            _ = events.recv() => {
                tokio::time::sleep(DEBOUNCE).await;
                // Later events are covered by the same look.
                while events.try_recv().is_ok() {}
            }
            () = tokio::time::sleep(LOOK_EVERY), if has_files => {}
        }
    }
}

/// Returns a hash that shows whether the files have changed. It covers the paths, too:
/// another name for the same file is another setting.
pub fn fingerprint_all<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> [u8; 32] {
    let mut all = Sha256::new();
    for path in paths {
        all.update(path.as_os_str().as_encoded_bytes());
        all.update(fingerprint(path).unwrap_or_default());
    }
    all.finalize().into()
}

/// The folders of the files, and of the targets of links.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let targets = paths.iter().filter_map(|path| path.canonicalize().ok());
    let all = paths.iter().cloned().chain(targets);
    all.filter_map(|path| path.parent().map(Path::to_owned)).collect()
}

/// Any event in the folders counts: the link that changes may have another name
/// than the file.
fn watcher(folders: &BTreeSet<PathBuf>, tx: mpsc::Sender<()>) -> Option<Box<dyn Watcher + Send>> {
    let changed = move |event: notify::Result<Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel means that a look is due anyway.
            let _ = tx.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(changed).ok()?;
    for folder in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            warn!("no file events for {}, looking every 10 s: {error}", folder.display());
        }
    }
    Some(Box::new(watcher))
}
