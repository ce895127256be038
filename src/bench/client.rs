//! One client: connects, follows the main server's redirect as a tablet does,
//! reads the package at its pace and looks whether all of it came.
//!
//! Thousands of them run in one process, so each has one connection at a time
//! and one small buffer, and nothing is kept of what it reads.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, sleep_until, timeout},
};

use super::{failure::Failure, target::Target};
use crate::package;

/// Of each client.
const BUFFER_BYTES: usize = 16 << 10;
/// The main server sends to a node, and a proxy may send on once.
const MAX_REDIRECTS: usize = 4;
/// The first words of an error page are enough.
const SHOWN_ANSWER_CHARS: usize = 160;
/// What a client that is limited lets the kernel take ahead of it.
const AHEAD: Duration = Duration::from_millis(250);

/// What every client does.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub target: Target,
    /// Nothing for so long is a failure.
    pub patience: Duration,
    /// Bytes in a second.
    pub rate: Option<u64>,
    pub verify: bool,
    /// The package's size, where it is known.
    pub size: Option<u64>,
}

/// A whole package.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Got {
    pub from: String,
    /// Since the client's arrival.
    pub first_byte: Duration,
    pub took: Duration,
    pub bytes: u64,
}

/// What the first look at the package found.
#[derive(Debug)]
pub(super) struct Seen {
    pub size: Option<u64>,
}

impl Wanted {
    /// Downloads the package; `received` counts the bytes of all clients.
    pub async fn download(&self, received: &AtomicU64) -> Result<Got, Failure> {
        let arrived = Instant::now();
        let mut target = self.target.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.exchange(&target, arrived, received).await? {
                Next::Done(got) => return Ok(got),
                Next::There(next) => target = next,
            }
        }
        Err(Failure::Astray { from: self.target.authority(), location: target.authority() })
    }

    /// Asks for one byte where the clients will ask. What a server that one is
    /// sent to does wrong is left for the clients to find.
    pub async fn look(&self) -> Result<Seen, Failure> {
        let target = &self.target;
        let (mut sender, connection) = self.connect(target, BUFFER_BYTES).await?;
        let answered = async {
            let request = request(target, Some("bytes=0-0"));
            let response = self.answer(&mut sender, request, &target.authority()).await?;
            if response.status().is_redirection() || response.status().is_success() {
                return Ok(Seen { size: size_of(&response) });
            }
            Err(self.refused(response, target.authority()).await)
        };
        alongside(connection, answered).await
    }

    async fn exchange(
        &self,
        target: &Target,
        arrived: Instant,
        received: &AtomicU64,
    ) -> Result<Next, Failure> {
        let from = target.authority();
        let (mut sender, connection) = self.connect(target, BUFFER_BYTES).await?;
        let answered = async {
            let response = self.answer(&mut sender, request(target, None), &from).await?;
            let status = response.status();
            if status.is_redirection() {
                let location = response.headers().get(header::LOCATION);
                let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
                let astray = || Failure::Astray { from: from.clone(), location: plain(location) };
                return target.redirected(location).map(Next::There).ok_or_else(astray);
            }
            if status != StatusCode::OK {
                return Err(self.refused(response, from.clone()).await);
            }
            self.read(response, from.clone(), arrived, received).await.map(Next::Done)
        };
        alongside(connection, answered).await
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        from: String,
        arrived: Instant,
        received: &AtomicU64,
    ) -> Result<Got, Failure> {
        let digest = response.headers().get("repr-digest").and_then(|value| value.to_str().ok());
        let digest = digest.and_then(package::sha256_of_field);
        if self.verify && digest.is_none() {
            return Err(Failure::NoDigest { from });
        }
        let (mut body, begun) = (response.into_body(), Instant::now());
        let (mut hasher, mut bytes, mut first_byte) = (Sha256::new(), 0, None);
        while let Some(data) = self.piece(&mut body, &from).await? {
            first_byte.get_or_insert_with(|| arrived.elapsed());
            bytes += data.len() as u64;
            received.fetch_add(data.len() as u64, Ordering::Relaxed);
            if self.verify {
                hasher.update(&data);
            }
            // Kept while it naps, it would make hyper take a second buffer.
            drop(data);
            if let Some(rate) = self.rate {
                sleep_until(begun + Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
            }
        }
        let took = arrived.elapsed();
        if let Some(expected) = self.size.filter(|size| *size != bytes) {
            return Err(Failure::OtherLength { from, got: bytes, expected });
        }
        let hashed = || package::Sha256::new(hasher.finalize().into());
        if self.verify && digest != Some(hashed()) {
            return Err(Failure::Damaged { from });
        }
        Ok(Got { from, first_byte: first_byte.unwrap_or(took), took, bytes })
    }

    /// The next bytes; none at the end of the whole. hyper makes an error of an
    /// end before the announced length.
    async fn piece(&self, body: &mut Incoming, from: &str) -> Result<Option<Bytes>, Failure> {
        loop {
            let silent = || Failure::Silent { from: from.to_owned() };
            match timeout(self.patience, body.frame()).await.map_err(|_| silent())? {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(from, &error)),
                // Trailers are not of the package.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
            }
        }
    }

    async fn connect(
        &self,
        target: &Target,
        buffer: usize,
    ) -> Result<(SendRequest<Empty<Bytes>>, impl Future<Output = ()>), Failure> {
        let to = target.authority();
        let stream = match timeout(self.patience, self.stream(target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Failure::Connect { to, cause: error.to_string() }),
            Err(_) => return Err(Failure::Connect { to, cause: "timed out".to_owned() }),
        };
        let mut builder = Builder::new();
        builder.read_buf_exact_size(Some(buffer));
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| broken(&to, &error))?;
        // What breaks it is told to who waits for the answer.
        Ok((sender, async { drop(connection.await) }))
    }

    async fn stream(&self, target: &Target) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host(target.host_and_port()).await? {
            let socket =
                if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(rate) = self.rate {
                // Else the kernel takes megabytes at once, and a slow tablet
                // would look like a fast one that naps.
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

    async fn answer(
        &self,
        sender: &mut SendRequest<Empty<Bytes>>,
        request: Request<Empty<Bytes>>,
        from: &str,
    ) -> Result<Response<Incoming>, Failure> {
        match timeout(self.patience, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| broken(from, &error)),
            Err(_) => Err(Failure::Silent { from: from.to_owned() }),
        }
    }

    async fn refused(&self, response: Response<Incoming>, from: String) -> Failure {
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        let page = self.piece(&mut body, &from).await.ok().flatten().unwrap_or_default();
        let detail: Option<serde_json::Value> = serde_json::from_slice(&page).ok();
        let answer = match detail.as_ref().and_then(|answer| answer["detail"].as_str()) {
            Some(detail) => plain(detail),
            None => plain(&String::from_utf8_lossy(&page)),
        };
        Failure::Refused { from, status, answer }
    }
}

enum Next {
    Done(Got),
    There(Target),
}

/// Drives the connection for as long as somebody works with it. When it ends
/// first, what it had received is still to be read.
async fn alongside<T>(connection: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    tokio::select! {
        biased;
        done = &mut work => done,
        () = &mut connection => work.await,
    }
}

fn request(target: &Target, range: Option<&'static str>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    // A URL's path is one of a request, and its host one of a header.
    *request.uri_mut() = target.path().parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = target.authority().parse() {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static("edge-mirror bench"));
    if let Some(range) = range {
        headers.insert(header::RANGE, header::HeaderValue::from_static(range));
    }
    request
}

/// Of the whole package, whichever part this is.
fn size_of(response: &Response<Incoming>) -> Option<u64> {
    let field = |name| response.headers().get(name)?.to_str().ok();
    match response.status() {
        StatusCode::OK => field(header::CONTENT_LENGTH)?.parse().ok(),
        StatusCode::PARTIAL_CONTENT => {
            field(header::CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok()
        }
        _ => None,
    }
}

fn broken(from: &str, error: &hyper::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure::Broken { from: from.to_owned(), cause: cause.to_string() }
}

/// On one line, and nothing that a terminal would obey.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().chars().take(SHOWN_ANSWER_CHARS).collect()
}
