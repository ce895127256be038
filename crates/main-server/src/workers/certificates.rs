//! The certificate that the listener shows: read again when its files change.

use std::{path::PathBuf, sync::Arc};

use edge_mirror_base::tasks;
use edge_mirror_http::tls::{
    CertificateFiles, FileError, FileWatch, LiveServerConfig, ServedCertificate,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::server::Server;

pub(crate) struct CertificateFollower {
    files: CertificateFiles,
    served: ServedCertificate,
    watch: FileWatch,
    /// The server's health is that of another certificate.
    is_second: bool,
}

impl CertificateFollower {
    /// Loads the certificate, or returns the error.
    pub(crate) async fn begin(
        files: CertificateFiles,
        shown: Arc<LiveServerConfig>,
    ) -> Result<Self, FileError> {
        let (served, watch) = (ServedCertificate::new(shown), FileWatch::default());
        let mut this = Self { files, served, watch, is_second: false };
        tasks::blocking(move || {
            this.served.reload(Some(&this.files), false)?;
            Ok(this)
        })
        .await
    }

    /// Leaves the server's health alone, as it is about its own certificate: what is wrong
    /// with this one is logged.
    pub(crate) fn besides_another(self) -> Self {
        Self { is_second: true, ..self }
    }

    pub(crate) async fn run(mut self, server: Arc<Server>, stop: CancellationToken) {
        let work = async move {
            loop {
                let server = server.clone();
                self = tasks::blocking(move || {
                    let paths: Vec<PathBuf> = self.files.paths().map(PathBuf::clone).into();
                    self.watch.follow(&paths);
                    self.reload(&server);
                    self
                })
                .await;
                self.watch.changed().await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    fn reload(&mut self, server: &Server) {
        if self.is_second {
            match self.served.reload(Some(&self.files), false) {
                Ok(true) => info!("there is a new certificate in {}", self.files.cert.display()),
                Ok(false) => {}
                Err(error) => warn!("{error}"),
            }
            return;
        }
        let health = &server.certificate_health;
        let read = self.served.reload(Some(&self.files), health.fault().is_some());
        if let Ok(true) = read {
            info!("new connections get the certificate in {}", self.files.cert.display());
        }
        health.record_fault(read.err());
        // The names by which nodes and tablets reach this machine are not known here.
        health.check_validity(Some(&self.files.cert), None);
    }
}
