//! The certificates in use, and their files: read again when they change, or when the
//! configuration names others.

use std::{path::PathBuf, sync::Arc};

use edge_mirror_base::tasks;
use edge_mirror_http::tls::{
    CertificateFiles, FileError, FileWatch, LiveServerConfig, ServedCertificate, TrustFiles,
    fingerprint_all,
};
use edge_mirror_settings::{Config, Settings};
use tracing::{info, warn};

use crate::{board::StatusBoard, upstream::Connector};

pub(crate) struct CertificateWorker {
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    connector: Arc<Connector>,
    served: ServedCertificate,
    /// The files of trust as they were read last.
    trusted: Option<[u8; 32]>,
    watch: FileWatch,
}

impl CertificateWorker {
    /// Loads the configured certificates, or returns the error.
    pub(crate) async fn begin(
        settings: Arc<Settings>,
        board: Arc<StatusBoard>,
        shown: Arc<LiveServerConfig>,
        connector: Arc<Connector>,
    ) -> Result<Self, FileError> {
        let (served, watch) = (ServedCertificate::new(shown), FileWatch::default());
        let mut this = Self { settings, board, connector, served, trusted: None, watch };
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
        loop {
            let config = changes.borrow_and_update().clone();
            self = tasks::blocking(move || {
                self.watch.follow(&paths(&config));
                self.reload(&config);
                self
            })
            .await;
            tokio::select! {
                _ = changes.changed() => {}
                () = self.watch.changed() => {}
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
            if *new && config.has_secure_main_server() {
                info!("the certificates for the main server were read anew");
            }
        });
        let health = &self.board.certificate_health;
        health.record_fault([shown.err(), trusted.err()].into_iter().flatten().next());
        let (files, address) = (config.tls_files(), self.board.presence.borrow().address.clone());
        let cert = files.as_ref().map(|(cert, _)| cert.as_path());
        health.check_validity(cert, address.as_deref().map(host_of));
    }

    /// Returns true if the certificate changed.
    fn reload_server(&mut self, config: &Config) -> Result<bool, FileError> {
        let files = CertificateFiles::of(config);
        let is_new = self.served.reload(files.as_ref(), self.has_fault())?;
        if is_new {
            self.board.https.send_replace(files.is_some());
            self.board.certificate.send_replace(self.served.digest());
            if files.is_none() {
                warn!("tls.cert is not set any more: new connections are plain HTTP");
            }
        }
        Ok(is_new)
    }

    fn reload_trust(&mut self, config: &Config) -> Result<bool, FileError> {
        let files = TrustFiles::of(config);
        let seen = files.paths().next().map(|_| fingerprint_all(files.paths()));
        if seen == self.trusted && !self.has_fault() {
            return Ok(false);
        }
        files.client()?;
        // The connector reads them itself as soon as a setting changes.
        self.connector.invalidate();
        Ok(std::mem::replace(&mut self.trusted, seen) != seen)
    }

    fn has_fault(&self) -> bool {
        self.board.certificate_health.fault().is_some()
    }
}

/// The host of `host:port`, as certificates name it.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn paths(config: &Config) -> Vec<PathBuf> {
    let shown = CertificateFiles::of(config);
    let shown = shown.iter().flat_map(CertificateFiles::paths).cloned();
    shown.chain(TrustFiles::of(config).paths().cloned()).collect()
}
