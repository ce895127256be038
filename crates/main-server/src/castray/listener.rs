//! The listener, bound before anything is touched, and served once all else is there.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use edge_mirror_base::tasks::{self, Tasks};
use edge_mirror_http::listen::{Handlers, Listener};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{CastRayGateway, CastRayOptions, router, transfer};
use crate::{error::MasterError, server::Server};

pub(crate) struct CastRayListener {
    options: CastRayOptions,
    listener: Listener,
}

impl CastRayListener {
    /// None if nobody wants it.
    pub(crate) fn bind(
        host: IpAddr,
        options: Option<CastRayOptions>,
    ) -> Result<Option<Self>, MasterError> {
        let Some(options) = options else { return Ok(None) };
        let address = SocketAddr::new(host, options.port);
        let listener = Listener::bind(address).map_err(MasterError::CastRay)?;
        Ok(Some(Self { options, listener }))
    }

    /// Begins to serve, and returns the address.
    pub(crate) async fn serve(
        self,
        server: &Arc<Server>,
        workers: &Tasks,
        connections: &Tasks,
        stop: &CancellationToken,
    ) -> Result<SocketAddr, MasterError> {
        let Self { options, listener } = self;
        let shared = server.clone();
        let opened = tasks::blocking(move || CastRayGateway::open(shared, &options)).await;
        let unusable = |cause| MasterError::Data { path: server.data().join("castray"), cause };
        let gateway = Arc::new(opened.map_err(unusable)?);
        let end = workers.token().clone();
        workers.spawn("CastRay transfers", transfer::send_by_themselves(gateway.clone(), end));
        let (address, shared) = (listener.address(), server.connections.clone());
        let answers = Handlers { connections: shared, ..router(gateway).into() };
        let serving = listener.serve(answers, connections.clone(), stop.clone());
        connections.spawn("CastRay listener", serving);
        info!("CastRay clients are served on {address}");
        Ok(address)
    }
}
