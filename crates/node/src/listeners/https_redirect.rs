//! The listener of `tls.redirectPort`, and its change to another port.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::listen::{BindError, Handlers, HttpsRedirect, Listener, redirect};
use edge_mirror_settings::Settings;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::board::StatusBoard;

/// A port that was taken may become free.
const TRY_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct RedirectWorker {
    pub settings: Arc<Settings>,
    pub board: Arc<StatusBoard>,
    pub host: IpAddr,
    pub connections: Tasks,
}

impl RedirectWorker {
    pub(crate) async fn run(self, first: Option<Listener>, stop: CancellationToken) {
        let mut changes = self.settings.subscribe();
        let mut current = first.map(|listener| self.begin(listener, &stop));
        loop {
            let wanted = self.settings.current().redirect_port();
            let mut fault = None;
            if wanted != current.as_ref().map(|(port, _)| *port) {
                let bound = wanted.map(|port| Listener::bind(SocketAddr::new(self.host, port)));
                match bound.transpose() {
                    Ok(listener) => {
                        if let Some((_, old)) = current.take() {
                            old.cancel();
                        }
                        current = listener.map(|listener| self.begin(listener, &stop));
                    }
                    Err(error) => fault = Some(error),
                }
            }
            let fits = fault.is_none();
            self.show(fault);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(TRY_AGAIN), if !fits => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn begin(&self, listener: Listener, stop: &CancellationToken) -> (u16, CancellationToken) {
        let (stop, address) = (stop.child_token(), listener.address());
        info!("plain HTTP on {address} is sent on to HTTPS");
        let (settings, board) = (self.settings.clone(), self.board.clone());
        let port = move |host: &str| {
            let config = settings.peek();
            // Behind NAT this host is reached at another port.
            let public = config.public_ip.as_deref().filter(|_| config.use_public_address);
            let asked = host.trim_matches(['[', ']']);
            let is_asked =
                |public: &str| public.trim_matches(['[', ']']).eq_ignore_ascii_case(asked);
            let public = config.public_port.filter(|_| public.is_some_and(is_asked));
            public.unwrap_or(*board.port.borrow())
        };
        let router = redirect(HttpsRedirect::To(Arc::new(port)));
        let connections = self.board.connections.clone();
        let answers = Handlers { connections, ..router.into() };
        let serving = listener.serve(answers, self.connections.clone(), stop.clone());
        self.connections.spawn("accept plain", serving);
        (address.port(), stop)
    }

    fn show(&self, refused: Option<BindError>) {
        let fault = refused.map(|error| format!("tls.redirectPort can't be used: {error}"));
        let before = self.board.redirect_fault.send_replace(fault.clone());
        if let Some(fault) = fault.filter(|fault| before.as_ref() != Some(fault)) {
            error!("{fault}");
        }
    }
}
