//! TLS: the certificate that a listener shows, whom a client trusts, and what
//! goes wrong with either in an operator's words. Who uses which, and when files
//! are read anew, is for others to say.
//!
//! rustls with ring: nothing of it needs a C++ compiler, cmake or a library of
//! the system. TLS 1.2 and 1.3; older versions are not in it.

mod doubt;
mod explain;
mod fault;
mod pem;
mod trust;
mod verifier;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use edge_mirror_settings::Config;
use reqwest::ClientBuilder;
use rustls::{
    ClientConfig, ServerConfig,
    crypto::{CryptoProvider, ring},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub use doubt::{Doubtful, doubtful};
pub use explain::explain;
pub use fault::FileError;
pub use pem::{certificates, fingerprint};
pub use trust::{Trust, TrustFiles, problem};

/// All that nodes, main servers and tablets speak.
const HTTP_1_1: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What a listener shows to those who connect from now on; while there is
/// nothing, it speaks plain HTTP.
#[derive(Debug, Default)]
pub struct Shown {
    now: ArcSwapOption<ServerConfig>,
}

impl Shown {
    pub fn get(&self) -> Option<Arc<ServerConfig>> {
        self.now.load_full()
    }

    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        self.now.store(config);
    }
}

/// What `tls.cert` and `tls.key` ask to be shown. Reads files.
pub fn to_show(config: &Config) -> Result<Option<Arc<ServerConfig>>, FileError> {
    let Some((cert, key)) = config.tls_files() else { return Ok(None) };
    let pair = pem::pair(("tls.cert", &cert), ("tls.key", &key))?;
    Ok(Some(Arc::new(server(pair))))
}

fn server(pair: CertifiedKey) -> ServerConfig {
    let versions = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for both versions");
    let shown = Arc::new(SingleCertAndKey::from(pair));
    let mut config = versions.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config
}

/// Makes clients of HTTP: with this TLS, as reqwest alone would have none and
/// panic, and without a proxy, which is for the internet and has no business
/// between nodes and main servers.
#[expect(clippy::disallowed_methods, reason = "the one place that makes them")]
pub fn http(tls: ClientConfig) -> ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

/// A client that believes everybody: for finding out whether somebody is there.
pub fn anybodys_client() -> ClientConfig {
    trust::client(&Trust::Anybody).expect("there is nothing to read")
}

/// A client that trusts the system's authorities. They are read when the first
/// server is to be judged: most processes never speak TLS to anybody.
pub fn client() -> ClientConfig {
    trust::client(&Trust::System).expect("there is nothing to read")
}
