//! The certificate that a listener shows, and its files: read again when they change.
//! New connections get the new one. A file that can't be used changes nothing, and is
//! shown as a problem until it is fixed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use edge_mirror_protocol::package;
use edge_mirror_settings::Config;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    CertificateWarning, FileError, LiveServerConfig, certificates, check_certificate,
    file_watch::fingerprint_all, pem,
};

/// The files of a certificate and its key, each with the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub settings: [&'static str; 2],
}

impl CertificateFiles {
    /// Those of `tls.cert` and `tls.key`.
    pub fn of(config: &Config) -> Option<Self> {
        let (cert, key) = config.tls_files()?;
        Some(Self { cert, key, settings: ["tls.cert", "tls.key"] })
    }

    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, FileError> {
        let [cert, key] = self.settings;
        let pair = pem::pair((cert, &self.cert), (key, &self.key))?;
        Ok(Arc::new(super::server(pair)))
    }

    pub fn paths(&self) -> [&PathBuf; 2] {
        [&self.cert, &self.key]
    }
}

/// The certificate in use.
#[derive(Debug, Default)]
pub struct ServedCertificate {
    shown: Arc<LiveServerConfig>,
    /// The files as they were read last.
    seen: Option<[u8; 32]>,
    digest: Option<package::Sha256>,
}

impl ServedCertificate {
    pub fn new(shown: Arc<LiveServerConfig>) -> Self {
        Self { shown, seen: None, digest: None }
    }

    /// Reads the files if they have changed, or `again` in any case. True if new connections
    /// get another certificate. Blocks.
    pub fn reload(
        &mut self,
        files: Option<&CertificateFiles>,
        again: bool,
    ) -> Result<bool, FileError> {
        let seen = files.map(|files| fingerprint_all(files.paths()));
        if seen == self.seen && !again {
            return Ok(false);
        }
        self.shown.set(files.map(CertificateFiles::load).transpose()?);
        self.digest = files.and_then(|files| {
            let chain = certificates(files.settings[0], &files.cert).ok()?;
            Some(package::Sha256::new(Sha256::digest(chain.first()?).into()))
        });
        Ok(std::mem::replace(&mut self.seen, seen) != seen)
    }

    /// The digest of the certificate.
    pub fn digest(&self) -> Option<package::Sha256> {
        self.digest
    }
}

/// A file of certificates or keys that is rejected, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableTlsFile {
    pub file: PathBuf,
    pub text: String,
}

/// Faults of certificates and their files, for pages and the log.
#[derive(Debug)]
pub struct CertificateHealth {
    fault: watch::Sender<Option<UnusableTlsFile>>,
    warning: watch::Sender<Option<CertificateWarning>>,
}

impl Default for CertificateHealth {
    fn default() -> Self {
        Self { fault: watch::Sender::new(None), warning: watch::Sender::new(None) }
    }
}

impl CertificateHealth {
    pub fn fault(&self) -> Option<UnusableTlsFile> {
        self.fault.borrow().clone()
    }

    pub fn warning(&self) -> Option<CertificateWarning> {
        self.warning.borrow().clone()
    }

    /// Notes the error of the files, if there is one.
    pub fn record_fault(&self, error: Option<FileError>) {
        let fault =
            error.map(|error| UnusableTlsFile { text: error.to_string(), file: error.path });
        let before = self.fault.send_replace(fault.clone());
        match fault {
            Some(fault) if before.as_ref() != Some(&fault) => {
                error!("{}; what was in use before stays in use", fault.text);
            }
            None if before.is_some() => info!("the certificates are good again"),
            Some(_) | None => {}
        }
    }

    /// Checks the certificate for clients that are sent to `host`. Not only when files
    /// change: time passes, and addresses change. A rejected file is a problem already, and
    /// gets no warnings on top. Blocks.
    pub fn check_validity(&self, cert: Option<&Path>, host: Option<&str>) {
        if self.fault.borrow().is_some() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let found = cert.and_then(|cert| check_certificate(cert, host, now));
        let before = self.warning.send_replace(found.clone());
        if let Some(warning) = found.filter(|found| before.as_ref() != Some(found)) {
            warn!("{}: {}; replace it", warning.file.display(), warning.text);
        }
    }
}
