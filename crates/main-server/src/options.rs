//! The options that a main server is started with.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use edge_mirror_http::{listen, tls::CertificateFiles};
use reqwest::Url;

use crate::{
    castray::CastRayOptions,
    packages::{PackagesLocation, S3Environment},
    repository::StateLocation,
    server::{DispatchOptions, GofdOptions, LiveOptions, ShownOptions},
    state::casts::CastLimits,
};

#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Folder of packages, and of all else where nothing else is said.
    pub data: PathBuf,
    pub state: StateLocation,
    pub packages: Option<PackageStoreOptions>,
    pub listen: SocketAddr,
    /// Longest delay of a start's announcement, for nodes to get its package.
    pub announce_timeout: Duration,
    pub live: LiveOptions,
    /// Bytes of packages per second to all who download; 0: no limit.
    pub upload_limit: u64,
    /// HTTPS, and the certificate for it.
    pub tls: Option<CertificateFiles>,
    /// Plain HTTP on this port is redirected to HTTPS.
    pub redirect_port: Option<u16>,
    /// Told of each change of the number of nodes that the load wants.
    pub demand_webhook: Option<Url>,
    /// Bounds of casts.
    pub casts: CastLimits,
    pub dispatch: DispatchOptions,
    /// Remote tasks of built-in types are run here where no node offers them.
    pub local_tasks: bool,
    /// A listener for CastRay's clients.
    pub castray: Option<CastRayOptions>,
    /// The gateway for GoFD's clients and agents.
    pub gofd: Option<GofdOptions>,
    /// The page's list of all options.
    pub shown: ShownOptions,
}

impl Default for MasterOptions {
    fn default() -> Self {
        Self {
            data: PathBuf::from("master-data"),
            state: StateLocation::default(),
            packages: None,
            listen: SocketAddr::new(listen::host(None), 8000),
            announce_timeout: Duration::from_secs(30),
            live: LiveOptions::default(),
            upload_limit: 0,
            tls: None,
            redirect_port: None,
            demand_webhook: None,
            casts: CastLimits::default(),
            dispatch: DispatchOptions::default(),
            local_tasks: false,
            castray: None,
            gofd: None,
            shown: ShownOptions::default(),
        }
    }
}

/// A store of packages that several main servers share; the data folder then has copies.
#[derive(Clone, Debug)]
pub struct PackageStoreOptions {
    pub location: PackagesLocation,
    pub environment: S3Environment,
    /// The bound of the copies, in bytes.
    pub cache_bytes: Option<u64>,
}
