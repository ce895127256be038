//! Accepting connections, and closing them in order. HTTP/1.1 only: that is
//! what tablets, nodes and main servers speak.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::tasks::Tasks;

/// A storm's worth of tablets may knock before the loop comes round.
const BACKLOG: i32 = 1024;
/// Each connection costs some tens of kilobytes, in the kernel and here;
/// those beyond wait in the backlog.
const MAX_CONNECTIONS: usize = 8192;
/// Who has not sent a request's headers by then is not going to.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a request's headers; also what a connection holds back at most.
const MAX_HEADER_BYTES: usize = 128 << 10;
/// Once no more are accepted, those that have not asked for anything yet are
/// given so long to do so.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// Who takes none of what is sent for so long has gone, and holds a place.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Out of file descriptors, say: the reason seldom goes away within a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}; {}", mend(cause))]
pub struct BindError {
    pub address: SocketAddr,
    pub cause: io::Error,
}

fn mend(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "another program uses the port, stop it or choose another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address, see --host",
        _ => "choose another --host or port",
    }
}

/// Who sent a request; in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A bound socket, not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds at once; must be called within the runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = bound(address).and_then(|socket| {
            let address = socket.local_addr()?;
            Ok(Self { socket: TcpListener::from_std(socket)?, address })
        });
        bound.map_err(|cause| BindError { address, cause })
    }

    /// Where it listens, the port chosen by the system included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets requests under way finish. Connections
    /// are tasks of `tasks`, whose end is waited for by its owner.
    pub async fn serve(self, router: Router, tasks: Tasks, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = stop.run_until_cancelled(self.accept(&places)).await;
            // Those who had knocked already are let in: closing the socket would
            // reset their connections.
            let accepted = accepted.or_else(|| self.accept(&places).now_or_never());
            let Some((stream, peer, place)) = accepted else { return };
            if let Err(error) = tune(&stream) {
                debug!("socket options of {peer} not set: {error}");
            }
            let connection =
                connection(stream, peer, router.clone(), stop.clone(), tasks.token().clone());
            tasks.spawn_for_peer("connection", async move {
                connection.await;
                drop(place);
            });
        }
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                // Nobody closes this semaphore.
                return std::future::pending().await;
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!("cannot accept connections for the moment: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The address that packets to the outside leave from.
pub async fn own_address() -> io::Result<IpAddr> {
    // Of the block that is kept for documentation (RFC 5737): nobody's.
    local_towards(SocketAddr::from(([192, 0, 2, 1], 9))).await
}

/// The address that packets to `target` leave from. The host name's address is
/// often 127.0.1.1, and the first interface the wrong one; only the routing
/// table knows. Connecting a UDP socket asks it and sends nothing.
pub async fn local_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // Small answers must not wait for the kernel to gather more.
    stream.set_nodelay(true)?;
    // The kernel counts silence of the peer only while something waits to be
    // taken by it: a slow reader is fine, one that has gone is not.
    SockRef::from(stream).set_tcp_user_timeout(Some(READ_TIMEOUT))
}

fn bound(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let first = asked.clone();
    let service = router.map_request(move |mut request: Request<Incoming>| {
        first.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer));
        request.map(axum::body::Body::new)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = abort.cancelled() => return,
        () = stop.cancelled() => {
            // One that has only just been let in has a request on its way.
            let first = tokio::time::timeout(FIRST_REQUEST, connection.as_mut());
            if !asked.load(Ordering::Relaxed) && first.await.is_ok() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!("connection with {peer} broke: {error}");
    }
}
