//! Accepting connections, and closing them gracefully. HTTP/1.1 only: that is what
//! tablets, nodes and main servers speak.

mod activity;
mod address;
mod connections;
mod eviction;
mod transport;
mod pace;
mod places;
mod redirect;
mod spare_fd;
mod secure;
mod socket;
mod upgrade;

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, Response, Uri},
};
use edge_mirror_base::{liveness::Liveness, tasks::Tasks};
use futures_util::{
    FutureExt, TryFutureExt,
    future::{Either, ready},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::coop::unconstrained,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use self::{
    activity::{ConnectionActivity, WatchedRequestBody, WatchedResponseBody, WatchedStream},
    connections::ConnectionPermit,
    pace::SEND_BUFFER_BYTES,
    spare_fd::{SpareFd, is_out_of_files},
    upgrade::AcceptedUpgrade,
};
pub use self::{
    address::{canonical, host, local_address_for, own_address, rate_limit_key},
    connections::Connections,
    places::MAX_CONNECTIONS,
    redirect::{HttpsRedirect, redirect},
    socket::{SendfileSource, SendfileState},
    transport::Transport,
    upgrade::{UpgradedStream, switch_protocols},
};
use crate::tls::LiveServerConfig;

/// A burst of tablets may connect before the loop accepts again. The kernel allows less
/// if `net.core.somaxconn` is lower.
const BACKLOG: i32 = 4096;
/// A client that has not sent its headers by then never will.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// The size of a request's headers; also a connection's largest buffer.
const MAX_HEADER_BYTES: usize = 128 << 10;
/// After shutdown began, connections without a request yet are given this long to send
/// one.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// A client that reads nothing for this long is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Errors such as running out of memory seldom pass in a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}; {}", advice(cause))]
pub struct BindError {
    pub address: SocketAddr,
    pub cause: io::Error,
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "another program uses the port, stop it or choose another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address, see --host",
        _ => "choose another --host or port",
    }
}

/// A fast path tried before the router; None leaves the request to the router. It must
/// not block, and must answer as the router would.
pub type FastPath =
    Arc<dyn Fn(&Method, &Uri, &HeaderMap, &Transport) -> Option<Response<Body>> + Send + Sync>;

/// The handlers of a listener.
#[derive(Clone)]
pub struct Handlers {
    pub fast_path: Option<FastPath>,
    pub router: Router,
    /// Liveness of the accept loop.
    pub liveness: Liveness,
    /// The certificate, if there is one.
    pub shown: Arc<LiveServerConfig>,
    /// May be shared by several listeners.
    pub connections: Arc<Connections>,
}

impl From<Router> for Handlers {
    fn from(router: Router) -> Self {
        Self {
            fast_path: None,
            router,
            liveness: Liveness::default(),
            shown: Arc::default(),
            connections: Arc::default(),
        }
    }
}

/// The client's address, an extension of its request. It is the same for an IPv4 client
/// whichever socket it used (see [`canonical`]).
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// A bound socket, not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the socket; must be called within the runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = bind_socket(address).and_then(|socket| {
            let address = socket.local_addr()?;
            Ok(Self { socket: TcpListener::from_std(socket)?, address })
        });
        bound.map_err(|cause| BindError { address, cause })
    }

    /// Returns the address, with a port chosen by the system.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets requests in progress finish. Connections are
    /// spawned on `tasks`, whose owner waits for them.
    pub async fn serve(self, answers: impl Into<Handlers>, tasks: Tasks, stop: CancellationToken) {
        let answers = answers.into();
        let connections = answers.connections.clone();
        let mut reserve = SpareFd::take(&tasks, &answers.shown);
        // Probed while all places are taken, too: a full server is live.
        let mut responder = answers.liveness.responder();
        loop {
            let accepting = responder.serve_during(self.accept(&connections, &mut reserve));
            let accepted = stop.run_until_cancelled(accepting).await;
            // Pending connections are accepted: closing the socket would reset them.
            // Unconstrained: there may be more than tokio's budget lets a task accept in
            // one poll.
            let pending_accept =
                || unconstrained(self.accept(&connections, &mut reserve)).now_or_never();
            let accepted = accepted.or_else(pending_accept);
            let Some((stream, peer, place)) = accepted else { return };
            let (answers, number) = (answers.clone(), place.number());
            let ends = ShutdownTokens::of(&stop, &tasks, &place.activity);
            // Boxed: spawning moves a future several times, and a connection's is large.
            // TLS has its own box, so that plain connections are not as large.
            let task = tasks.spawn_for_peer(
                "connection",
                Box::pin(async move {
                    match answers.shown.get() {
                        None => serve_plain(stream, peer, answers, ends).await,
                        Some(shown) => {
                            Box::pin(secure::connection(stream, peer, shown, answers, ends)).await;
                        }
                    }
                    drop(place);
                }),
            );
            connections.mark_evictable(number, task);
        }
    }

    async fn accept(
        &self,
        connections: &Arc<Connections>,
        reserve: &mut SpareFd,
    ) -> (TcpStream, SocketAddr, ConnectionPermit) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let peer = canonical(peer);
                    if let Some(place) = connections.admit(peer.ip()).await {
                        return (stream, peer, place);
                    }
                    reserve.refuse(stream);
                    if reserve.should_log() {
                        let most = connections.per_client();
                        warn!(
                            "{} has {most} connections, as many as one address may have; others are refused",
                            peer.ip()
                        );
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let turned_away =
                        is_out_of_files(&error) && reserve.reject_with_spare(&self.socket);
                    if reserve.should_log() {
                        warn!("cannot accept connections for the moment: {error}");
                    }
                    if !turned_away {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted connections inherit these options. Small answers must not wait for the
    // kernel to gather more.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // The kernel measures the peer's silence only while data is pending: a slow reader is
    // fine, one that is gone is not.
    socket.set_tcp_user_timeout(Some(READ_TIMEOUT))?;
    // The peer of an upgraded connection may be gone while neither side has anything to
    // send.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(READ_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Tokens that end a connection, gracefully or at once, and its activity.
struct ShutdownTokens {
    stop: CancellationToken,
    abort: CancellationToken,
    activity: Arc<ConnectionActivity>,
}

impl ShutdownTokens {
    fn of(stop: &CancellationToken, tasks: &Tasks, activity: &Arc<ConnectionActivity>) -> Self {
        Self { stop: stop.clone(), abort: tasks.token().clone(), activity: activity.clone() }
    }
}

async fn serve_plain(stream: TcpStream, peer: SocketAddr, answers: Handlers, ends: ShutdownTokens) {
    let sendfile_state = SendfileState::default();
    let socket = socket::SendfileSocket::new(stream, sendfile_state.clone());
    serve_connection(socket, peer, Transport::Plain(sendfile_state), answers, ends).await;
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    transport: Transport,
    answers: Handlers,
    ends: ShutdownTokens,
) {
    let upgrade = OnceLock::new();
    {
        let service = service(peer, &transport, answers, &ends.activity, &upgrade);
        let stream = WatchedStream { stream, activity: ends.activity.clone() };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = ends.abort.cancelled() => return,
            () = ends.stop.cancelled() => {
                // A connection just accepted has a request on its way.
                if !ends.activity.has_asked()
                    && let Ok(ended) = timeout(FIRST_REQUEST, connection.as_mut()).await
                {
                    ended
                } else {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = &mut connection => ended,
                        () = ends.abort.cancelled() => return,
                    }
                }
            }
        };
        if let Err(error) = ended {
            debug!("connection with {peer} broke: {error}");
        }
    }
    if let Some(upgrade) = upgrade.into_inner() {
        transport.set_upgraded();
        upgrade.serve(&ends).await;
    }
}

/// Answers one connection's requests. Fills `upgrade` when an answer switches protocols,
/// which ends HTTP on it.
fn service<'a>(
    peer: SocketAddr,
    transport: &'a Transport,
    Handlers { fast_path, router, .. }: Handlers,
    activity: &'a Arc<ConnectionActivity>,
    upgrade: &'a OnceLock<AcceptedUpgrade>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<WatchedResponseBody<Body>>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |mut request: Request<Incoming>| {
        activity.begin();
        let quick = fast_path.as_ref().and_then(|fast_path| {
            fast_path(request.method(), request.uri(), request.headers(), transport)
        });
        let watched = |body| WatchedResponseBody { body, activity: activity.clone() };
        match quick {
            Some(answer) => Either::Left(ready(Ok::<_, Infallible>(answer.map(watched)))),
            None => {
                request.extensions_mut().insert(PeerAddress(peer));
                request.extensions_mut().insert(transport.clone());
                let received =
                    |body| Body::new(WatchedRequestBody { body, activity: activity.clone() });
                let answer = router.clone().oneshot(request.map(received));
                Either::Right(answer.map_ok(move |mut answer| {
                    if let Some(accepted) = AcceptedUpgrade::take_from(&mut answer) {
                        activity.mark_upgraded();
                        let _ = upgrade.set(accepted);
                    }
                    answer.map(watched)
                }))
            }
        }
    })
}

#[cfg(test)]
mod tests;
