//! The servers that a client trusts, and the certificate that it presents when asked for
//! one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use edge_mirror_settings::{Config, SettingProblem};
use rustls::{ClientConfig, pki_types::CertificateDer, sign::SingleCertAndKey};

use super::{
    CertificateFiles, FileError, certificates, pem, provider,
    verifier::{CertificateVerifier, TrustAnchors},
};

/// The servers trusted.
#[derive(Debug)]
pub enum TrustPolicy {
    System,
    /// Only the CAs, or the servers' own certificates, in this PEM file: a site with a CA
    /// of its own wants no other one to vouch for its servers.
    File {
        setting: &'static str,
        path: PathBuf,
    },
    /// These very certificates, and those they signed.
    Own(Vec<CertificateDer<'static>>),
    /// Any server. Only for finding out whether it is there, or for one on this machine.
    Anybody,
}

/// The TLS files for the main server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles {
    ca: Option<PathBuf>,
    pair: Option<(PathBuf, PathBuf)>,
}

pub(super) fn client(trust: &TrustPolicy) -> Result<ClientConfig, FileError> {
    with_pair(trust, None)
}

impl TrustPolicy {
    pub fn client(&self) -> Result<ClientConfig, FileError> {
        client(self)
    }
}

fn with_pair(trust: &TrustPolicy, pair: Option<(&Path, &Path)>) -> Result<ClientConfig, FileError> {
    let known = match trust {
        TrustPolicy::System => TrustAnchors::System,
        TrustPolicy::File { setting, path } => TrustAnchors::Own(certificates(setting, path)?),
        TrustPolicy::Own(certificates) => TrustAnchors::Own(certificates.clone()),
        TrustPolicy::Anybody => TrustAnchors::Anybody,
    };
    let versions = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for both versions");
    let verifier = Arc::new(CertificateVerifier::of(known, provider()));
    let judging = versions.dangerous().with_custom_certificate_verifier(verifier);
    // Without ALPN, HTTP/1.1 is spoken.
    Ok(match pair {
        None => judging.with_no_client_auth(),
        Some((cert, key)) => {
            let pair = pem::pair(("mainServerCert", cert), ("mainServerCertKey", key))?;
            judging.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
    })
}

impl TrustFiles {
    /// Empty without a main server that speaks HTTPS.
    pub fn of(config: &Config) -> Self {
        match config.has_secure_main_server() {
            true => Self { ca: config.main_server_ca(), pair: config.main_server_pair() },
            false => Self::default(),
        }
    }

    /// Reads the files.
    pub fn client(&self) -> Result<ClientConfig, FileError> {
        let trust = match &self.ca {
            Some(path) => TrustPolicy::File { setting: "mainServerCa", path: path.clone() },
            None => TrustPolicy::System,
        };
        let pair = self.pair.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        with_pair(&trust, pair)
    }

    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca.iter().chain(self.pair.iter().flat_map(|(cert, key)| [cert, key]))
    }
}

/// Checks the TLS files that a configuration names. Reads only those of settings that
/// differ from `before`: another problem may exist already, and is shown.
pub fn problem(before: Option<&Config>, config: &Config) -> Option<SettingProblem> {
    let shown = before.is_none_or(|before| before.tls_files() != config.tls_files());
    let trusted = before.is_none_or(|before| TrustFiles::of(before) != TrustFiles::of(config));
    let shown = CertificateFiles::of(config).filter(|_| shown).and_then(|files| files.load().err());
    let error = shown.or_else(|| trusted.then(|| TrustFiles::of(config).client().err()).flatten());
    error.map(|error| error.problem())
}
