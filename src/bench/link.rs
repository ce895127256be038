//! A client's connection to one server, for one request.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use edge_mirror_http::tls;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::{failure::ClientFailure, target::BenchTarget};
use crate::terminal::{say, words};

/// The buffer of each client; all that it holds of the package.
const BUFFER_BYTES: usize = 16 << 10;
/// The first words of an error page are enough.
const SHOWN_ANSWER_CHARS: usize = 160;
/// Data that the kernel may buffer for a client with a rate limit.
const AHEAD: Duration = Duration::from_millis(250);

pub(super) struct BenchConnection {
    sender: SendRequest<Empty<Bytes>>,
    patience: Duration,
    pub from: String,
}

impl BenchConnection {
    /// Also returns the future that drives the connection, see [`drive_during`]. `rate` is
    /// the client's limit per second.
    pub(super) async fn open(
        target: &BenchTarget,
        patience: Duration,
        rate: Option<u64>,
        tls: &TlsConnector,
    ) -> Result<(Self, impl Future<Output = ()>), ClientFailure> {
        let from = target.authority();
        let failed = |cause| ClientFailure::Connect { to: from.clone(), cause };
        let stream = timeout(patience, secured(target, rate, tls)).await;
        let stream = stream.map_err(|_| failed("timed out".to_owned()))?;
        let stream = stream.map_err(|error| {
            let shown = say("它对客户端证书的要求", "what it asks of its clients");
            let of_tls = tls::explain(&error, "--cacert", &shown);
            let of_tls = of_tls.map(|(chinese, english)| say(chinese, english));
            failed(of_tls.unwrap_or_else(|| error.to_string()))
        })?;
        let mut builder = Builder::new();
        builder.read_buf_exact_size(Some(BUFFER_BYTES));
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| broken(&from, &error))?;
        // If it breaks, the waiting request gets the error.
        Ok((Self { sender, patience, from }, async { drop(connection.await) }))
    }

    /// Returns the head of the answer.
    pub(super) async fn ask(
        &mut self,
        target: &BenchTarget,
        range: Option<&'static str>,
    ) -> Result<Response<Incoming>, ClientFailure> {
        let answer = self.sender.send_request(request(target, range));
        match timeout(self.patience, answer).await {
            Ok(answer) => answer.map_err(|error| broken(&self.from, &error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Returns the next bytes; None at the end of the whole. hyper returns an error if it
    /// ends before the announced length.
    pub(super) async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, ClientFailure> {
        loop {
            match timeout(self.patience, body.frame()).await.map_err(|_| self.silent())? {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(&self.from, &error)),
                // Trailers are not part of the package.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
            }
        }
    }

    /// Includes the reason given by the answer.
    pub(super) async fn refused(&self, response: Response<Incoming>) -> ClientFailure {
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        let page = self.piece(&mut body).await.ok().flatten().unwrap_or_default();
        let detail: Option<serde_json::Value> = serde_json::from_slice(&page).ok();
        let answer = match detail.as_ref().and_then(|answer| answer["detail"].as_str()) {
            Some(detail) => plain(detail),
            None => plain(&String::from_utf8_lossy(&page)),
        };
        ClientFailure::Refused { from: self.from.clone(), status, answer }
    }

    fn silent(&self) -> ClientFailure {
        ClientFailure::Silent { from: self.from.clone() }
    }
}

/// Drives the connection while `work` runs. If it ends first, what it had received can
/// still be read.
pub(super) async fn drive_during<T>(
    connection: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> T {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    tokio::select! {
        biased;
        done = &mut work => done,
        () = &mut connection => work.await,
    }
}

/// Uses TLS if the target does.
async fn secured(
    target: &BenchTarget,
    rate: Option<u64>,
    tls: &TlsConnector,
) -> io::Result<Either<TcpStream, TlsStream<TcpStream>>> {
    let stream = connected(target, rate).await?;
    if !target.is_https() {
        return Ok(Either::Left(stream));
    }
    let name = ServerName::try_from(target.host_and_port().0.to_owned());
    tls.connect(name.map_err(io::Error::other)?, stream).await.map(Either::Right)
}

async fn connected(target: &BenchTarget, rate: Option<u64>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(target.host_and_port()).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(rate) = rate {
            // Otherwise the kernel takes megabytes in one go, and a slow tablet would
            // look like a fast one that pauses.
            let ahead = (rate as f64 * AHEAD.as_secs_f64()) as u32;
            socket.set_recv_buffer_size(ahead.clamp(16 << 10, 4 << 20))?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn request(target: &BenchTarget, range: Option<&'static str>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    // A URL's path and host are valid in a request.
    *request.uri_mut() = target.path().parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = target.authority().parse() {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static("edge-mirror bench"));
    if let Some(range) = range {
        headers.insert(header::RANGE, HeaderValue::from_static(range));
    }
    request
}

fn broken(from: &str, error: &hyper::Error) -> ClientFailure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ClientFailure::Broken { from: from.to_owned(), cause: cause.to_string() }
}

/// Returns the first words of an answer.
pub(super) fn plain(text: &str) -> String {
    words::plain(text).chars().take(SHOWN_ANSWER_CHARS).collect()
}
