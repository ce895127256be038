//! The wiring of the gateway for GoFD: its two ports and its worker.

use std::{path::PathBuf, sync::Arc};

use edge_mirror_base::tasks::Tasks;
use edge_mirror_gofd::DataPort;
use edge_mirror_http::{
    listen::{Connections, Handlers, Listener},
    tls::{CertificateFiles, LiveServerConfig},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    api,
    error::MasterError,
    server::{GofdGateway, GofdOptions, Server},
    workers::{self, certificates::CertificateFollower},
};

/// Connections to the management port. Those of tablets are others: GoFD's clients take no
/// place of theirs.
const MAX_CONNECTIONS: usize = 256;

/// The gateway with its ports, not yet served.
pub(crate) struct BoundGofd {
    pub(crate) gateway: Arc<GofdGateway>,
    listener: Listener,
    data: DataPort,
    shown: Arc<LiveServerConfig>,
    certificate: Option<CertificateFollower>,
}

impl BoundGofd {
    pub(crate) async fn bind(options: GofdOptions) -> Result<Self, MasterError> {
        let address = options.data;
        let listener = Listener::bind(options.listen).map_err(MasterError::Gofd)?;
        let data = DataPort::bind(address).await;
        let data = data.map_err(|cause| MasterError::GofdData { address, cause })?;
        let ports = (listener.address().port(), data.address().port());
        let gateway = GofdGateway::new(options, ports).map_err(MasterError::Prober)?;
        let shown = Arc::<LiveServerConfig>::default();
        let certificate = match gateway.config.tls.clone() {
            Some((cert, key)) => {
                let settings = ["net.tls.cert", "net.tls.key"];
                // Absolute, as their folders are watched.
                let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
                let files = CertificateFiles { cert: absolute(cert), key: absolute(key), settings };
                Some(CertificateFollower::begin(files, shown.clone()).await?.besides_another())
            }
            None => None,
        };
        Ok(Self { gateway: Arc::new(gateway), listener, data, shown, certificate })
    }

    pub(crate) fn serve(
        self,
        server: &Arc<Server>,
        workers: &Tasks,
        connections: &Tasks,
        stop: &CancellationToken,
    ) {
        let Self { gateway, listener, data, shown, certificate } = self;
        if let Some(certificate) = certificate {
            let end = workers.token().clone();
            workers.spawn("GoFD certificate", certificate.run(server.clone(), end));
        }
        info!(
            "clients and agents of GoFD are served on {} and {}",
            listener.address(),
            data.address()
        );
        let router = api::gofd::router(server.clone(), gateway.clone());
        let places = Arc::new(Connections::new(MAX_CONNECTIONS, Arc::default()));
        let answers = Handlers { shown, connections: places, ..router.into() };
        connections.spawn("GoFD", listener.serve(answers, connections.clone(), stop.clone()));
        let serving = data.serve(gateway.clone(), connections.clone(), stop.clone());
        connections.spawn("GoFD data port", serving);
        let end = workers.token().clone();
        workers.spawn("GoFD tasks", workers::keep_gofd(server.clone(), gateway, end));
    }
}
