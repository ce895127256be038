//! TLS: the certificate that a listener serves, the servers that a client trusts, and
//! errors of either in an operator's words. Callers decide which is used where.
//!
//! rustls with ring: needs no C++ compiler, cmake or system library. TLS 1.2 and 1.3
//! only.

mod certificate_warning;
mod explain;
mod fault;
mod file_watch;
mod pem;
mod served;
mod trust;
mod verifier;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use reqwest::ClientBuilder;
use rustls::{
    ClientConfig, ServerConfig,
    crypto::{CryptoProvider, ring},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub use certificate_warning::{CertificateWarning, check_certificate};
pub use explain::explain;
pub use fault::FileError;
pub use file_watch::{FileWatch, fingerprint_all};
pub use pem::{certificates, fingerprint};
pub use served::{CertificateFiles, CertificateHealth, ServedCertificate, UnusableTlsFile};
pub use trust::{TrustFiles, TrustPolicy, problem};

/// The ALPN protocol of nodes, main servers and tablets.
const HTTP_1_1: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The TLS configuration for new connections; without one, the listener speaks plain
/// HTTP.
#[derive(Debug, Default)]
pub struct LiveServerConfig {
    now: ArcSwapOption<ServerConfig>,
}

impl LiveServerConfig {
    pub fn get(&self) -> Option<Arc<ServerConfig>> {
        self.now.load_full()
    }

    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        self.now.store(config);
    }
}

fn server(pair: CertifiedKey) -> ServerConfig {
    let versions = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for both versions");
    let resolver = Arc::new(SingleCertAndKey::from(pair));
    let mut config = versions.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config
}

/// Builds HTTP clients: with this TLS configuration, as reqwest would panic without one,
/// and without a proxy: proxies are for the internet, not for traffic between nodes and
/// main servers.
#[expect(clippy::disallowed_methods, reason = "the one place that makes them")]
pub fn http(tls: ClientConfig) -> ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

/// Accepts any certificate: for finding out whether a server is there.
pub fn unverified_client() -> ClientConfig {
    trust::client(&TrustPolicy::Anybody).expect("there is nothing to read")
}

/// Trusts the system's CAs. They are loaded when the first server is verified: most
/// processes never use TLS as clients.
pub fn client() -> ClientConfig {
    trust::client(&TrustPolicy::System).expect("there is nothing to read")
}
