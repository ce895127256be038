//! The certificates in use, and their files: read again when they change. New
//! connections get the new ones. A file that can't be used changes nothing, and is
//! shown as a problem until it is fixed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use edge_mirror_base::tasks;
use edge_mirror_http::tls::{self, FileError, LiveServerConfig, TrustFiles};
use edge_mirror_protocol::package;
use edge_mirror_settings::{Config, Settings};
use notify::{Event, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::{
    board::{StatusBoard, UnusableTlsFile},
    upstream::Connector,
};

/// A certificate and its key are replaced one after the other.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Network folders, and links in the middle of a path, send no events.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Fingerprint of the files of one purpose.
type FilesDigest = Option<[u8; 32]>;

pub(crate) struct CertificateWorker {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    shown: Arc<LiveServerConfig>,
    connector: Arc<Connector>,
    to_show: FilesDigest,
    trusted: FilesDigest,
}

impl CertificateWorker {
    /// Loads the configured certificates, or returns the error.
    pub(crate) async fn begin(
        settings: Arc<Settings>,
        board: Arc<StatusBoard>,
        shown: Arc<LiveServerConfig>,
        connector: Arc<Connector>,
    ) -> Result<Self, FileError> {
        let mut this = Self { settings, board, shown, connector, to_show: None, trusted: None };
        let config = this.settings.current();
        tasks::blocking(move || {
            this.reload_server(&config)?;
            this.reload_trust(&config)?;
            Ok(this)
        })
        .await
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut changes = self.settings.subscribe();
        let (tx, mut rx) = mpsc::channel(1);
        let mut watched = (BTreeSet::new(), None);
        loop {
            let config = changes.borrow_and_update().clone();
            let (paths, tx) = (paths(&config), tx.clone());
            let none = paths.is_empty();
            (self, watched) = tasks::blocking(move || {
                // First watched, then read: no change is missed in between.
                let folders = folders(&paths);
                let watched = match folders == watched.0 {
                    true => watched,
                    false => (folders.clone(), watcher(&folders, tx)),
                };
                self.reload(&config);
                (self, watched)
            })
            .await;
            tokio::select! {
                _ = changes.changed() => {}
                _ = rx.recv() => {
                    tokio::time::sleep(DEBOUNCE).await;
                    // Later events are covered by the same look.
                    while rx.try_recv().is_ok() {}
                }
                () = tokio::time::sleep(LOOK_EVERY), if !none => {}
            }
        }
    }

    fn reload(&mut self, config: &Config) {
        let shown = self.reload_server(config).inspect(|new| {
            if let (true, Some((cert, _))) = (new, config.tls_files()) {
                info!("new connections get the certificate in {}", cert.display());
            }
        });
        let trusted = self.reload_trust(config).inspect(|new| {
            if *new && config.main_server_tls {
                info!("the certificates for the main server were read anew");
            }
        });
        let fault = [shown.err(), trusted.err()].into_iter().flatten().next();
        let fault =
            fault.map(|error| UnusableTlsFile { text: error.to_string(), file: error.path });
        let before = self.board.tls_fault.send_replace(fault.clone());
        match fault {
            Some(fault) if before.as_ref() != Some(&fault) => {
                error!("{}; what was in use before stays in use", fault.text);
            }
            None if before.is_some() => info!("the certificates are good again"),
            Some(_) | None => {}
        }
        // A rejected file is a problem already; no warnings on top.
        if self.board.tls_fault.borrow().is_none() {
            self.check_validity(config);
        }
    }

    /// Checked not only when files change: time passes, and addresses change.
    fn check_validity(&self, config: &Config) {
        let found = config.tls_files().and_then(|(file, _)| {
            let address = self.board.presence.borrow().address.clone();
            let host = address.as_deref().map(host_of);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tls::check_certificate(&file, host, now)
        });
        let before = self.board.tls_warning.send_replace(found.clone());
        if let Some(warning) = found.filter(|found| before.as_ref() != Some(found)) {
            warn!("{}: {}; replace it", warning.file.display(), warning.text);
        }
    }

    /// Returns true if the certificate changed.
    fn reload_server(&mut self, config: &Config) -> Result<bool, FileError> {
        let files = config.tls_files();
        let seen = files.as_ref().map(|(cert, key)| fingerprint_all([cert, key]));
        if seen == self.to_show && self.board.tls_fault.borrow().is_none() {
            return Ok(false);
        }
        self.shown.set(tls::load_server_config(config)?);
        self.board.https.send_replace(files.is_some());
        let shown = files.as_ref().and_then(|(cert, _)| {
            let chain = tls::certificates("tls.cert", cert).ok()?;
            Some(package::Sha256::new(Sha256::digest(chain.first()?).into()))
        });
        self.board.certificate.send_replace(shown);
        let before = std::mem::replace(&mut self.to_show, seen);
        if before.is_some() && seen.is_none() {
            warn!("tls.cert is not set any more: new connections are plain HTTP");
        }
        Ok(seen != before)
    }

    fn reload_trust(&mut self, config: &Config) -> Result<bool, FileError> {
        let files = TrustFiles::of(config);
        let seen = files.paths().next().map(|_| fingerprint_all(files.paths()));
        if seen == self.trusted && self.board.tls_fault.borrow().is_none() {
            return Ok(false);
        }
        files.client()?;
        // The connector reads them itself as soon as a setting changes.
        self.connector.invalidate();
        Ok(std::mem::replace(&mut self.trusted, seen) != seen)
    }
}

/// The host of `host:port`, as certificates name it.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn paths(config: &Config) -> Vec<PathBuf> {
    let shown = config.tls_files().into_iter().flat_map(|(cert, key)| [cert, key]);
    shown.chain(TrustFiles::of(config).paths().cloned()).collect()
}

/// Covers the paths, too: another name for the same file is another setting.
fn fingerprint_all<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> [u8; 32] {
    let mut all = Sha256::new();
    for path in paths {
        all.update(path.as_os_str().as_encoded_bytes());
        all.update(tls::fingerprint(path).unwrap_or_default());
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
