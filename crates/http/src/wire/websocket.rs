//! WebSocket (RFC 6455), as far as a server needs it that speaks in texts: no extensions.
//!
//! A connection stays in its own task (`listen::switch_protocols`). Nothing is queued: what a
//! client has not read yet is one frame here and the rest in the kernel, and whoever sends
//! waits. Written by hand, as the crates that do it bring other versions of what is here
//! already.

mod frame;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use edge_mirror_base::metrics::{CounterFamily, labels};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::frame::{ClientFrame, Opcode, put_frame, take_frame};
use super::detail;
use crate::listen::{UpgradedStream, switch_protocols};

/// Longest wait for the client's leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a reason's text, at most: a control frame has 125.
const MAX_REASON: usize = 123;
/// Bytes that are read at once.
const READ_BYTES: usize = 1024;

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// A client that was silent for this long is asked whether it is there; at least once
    /// within `idle_timeout`.
    pub ping_every: Duration,
    /// One from which nothing came for this long, no answer either, is gone, and one that does
    /// not take a frame within this time is too slow.
    pub idle_timeout: Duration,
    /// Bytes of a message from a client, at most.
    pub max_message: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { ping_every: seconds(20), idle_timeout: seconds(60), max_message: 4096 }
    }
}

impl SocketLimits {
    fn ping_every(&self) -> Duration {
        self.ping_every.min(self.idle_timeout / 2)
    }
}

/// The reason for which a connection is closed, as the other side is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    pub code: u16,
    pub text: String,
}

labels! {
    /// The reason that a connection, or what came on it, was refused.
    SocketRefusal {
        /// As many are open as may be.
        Connections => "connections",
        /// It does not begin as one.
        Handshake => "handshake",
        /// Frames against the rules.
        Frame => "frame",
        /// A kind of message that is not understood.
        Kind => "kind",
        /// A text that is no UTF-8.
        Encoding => "encoding",
        /// A message that makes no sense.
        Message => "message",
        /// A message that is too large.
        Size => "size",
        /// Nothing came for long, no answer to a ping either.
        Silence => "silence",
        /// It did not take what was sent.
        Slowness => "slow",
    }
}

/// Codes of RFC 6455, 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_PAYLOAD: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const MESSAGE_TOO_BIG: u16 = 1009;

impl CloseReason {
    fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The server stops, or wants the client to connect again.
    pub fn going_away(text: &str) -> Self {
        Self::new(GOING_AWAY, text)
    }

    fn protocol(text: &str) -> Self {
        Self::new(PROTOCOL_ERROR, text)
    }

    /// A kind of message that is not understood here.
    pub fn unsupported(text: &str) -> Self {
        Self::new(UNSUPPORTED_DATA, text)
    }

    /// A message that makes no sense.
    pub fn policy(text: &str) -> Self {
        Self::new(POLICY_VIOLATION, text)
    }

    fn too_large(most: usize) -> Self {
        Self::new(MESSAGE_TOO_BIG, format!("a message has at most {most} bytes"))
    }
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// There is nobody to tell anything.
    Gone,
    /// Nothing came from the client for too long.
    Silent,
    /// The client did not take what was sent in time.
    Slow,
    Close(CloseReason),
}

impl SocketEnd {
    /// None if the client did nothing wrong.
    pub fn refusal(&self) -> Option<SocketRefusal> {
        match self {
            Self::Gone => None,
            Self::Silent => Some(SocketRefusal::Silence),
            Self::Slow => Some(SocketRefusal::Slowness),
            Self::Close(reason) => match reason.code {
                PROTOCOL_ERROR => Some(SocketRefusal::Frame),
                UNSUPPORTED_DATA => Some(SocketRefusal::Kind),
                INVALID_PAYLOAD => Some(SocketRefusal::Encoding),
                POLICY_VIOLATION => Some(SocketRefusal::Message),
                MESSAGE_TOO_BIG => Some(SocketRefusal::Size),
                _ => None,
            },
        }
    }
}

impl From<CloseReason> for SocketEnd {
    fn from(reason: CloseReason) -> Self {
        Self::Close(reason)
    }
}

/// A whole message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Text(String),
    /// Its bytes are of no use to anybody here.
    Binary,
}

/// A connection after the switch. `receive` and `send` may be dropped half way and lose
/// nothing, but that after a `send` that was dropped the frame is still sent.
pub struct WebSocket<S = UpgradedStream> {
    stream: S,
    limits: SocketLimits,
    read: BytesMut,
    out: BytesMut,
    /// Over TLS, what was written may still wait in the stream.
    is_flushed: bool,
    /// The frames of a message that has not ended.
    partial: Option<(Opcode, Vec<u8>)>,
    heard_at: Instant,
    ping_at: Instant,
}

/// Answers with 101 and has `serve` talk to the client from then on, until what it returns
/// is told to the client. The token tells of a shutdown.
pub fn accept_websocket<F, W>(
    request: Request,
    limits: SocketLimits,
    refusals: Arc<CounterFamily<SocketRefusal>>,
    serve: F,
) -> Response
where
    F: FnOnce(WebSocket, CancellationToken) -> W + Send + 'static,
    W: Future<Output = (WebSocket, SocketEnd)> + Send + 'static,
{
    let headers = request.headers();
    let field = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    // Without it, the answer says what is missing.
    let is_upgrade = headers.contains_key(header::UPGRADE);
    if is_upgrade && (request.method() != Method::GET || field(VERSION) != Some(b"13")) {
        let text =
            "需要 WebSocket 版本 13 的 GET 请求 / a GET request of WebSocket version 13 is needed";
        let mut answer = detail(StatusCode::UPGRADE_REQUIRED, text);
        answer.headers_mut().insert(VERSION, HeaderValue::from_static("13"));
        answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        refusals.inc(SocketRefusal::Handshake);
        return answer;
    }
    let key = field(KEY).unwrap_or_default().to_owned();
    if is_upgrade && STANDARD.decode(&key).map_or(0, |bytes| bytes.len()) != 16 {
        refusals.inc(SocketRefusal::Handshake);
        let text = "Sec-WebSocket-Key 无效 / Sec-WebSocket-Key is no base64 of 16 bytes";
        return detail(StatusCode::BAD_REQUEST, text);
    }
    let mut answer = switch_protocols(request, "websocket", move |stream, shutdown| async move {
        let (socket, end) = serve(WebSocket::new(stream, limits), shutdown).await;
        if let Some(refusal) = end.refusal() {
            refusals.inc(refusal);
        }
        socket.end(end).await;
    });
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Ok(proof) = HeaderValue::from_str(&accept_key(&key))
    {
        answer.headers_mut().insert(ACCEPT, proof);
    }
    answer
}

/// Proves that the request was understood (RFC 6455, 4.2.2).
fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn new(stream: S, limits: SocketLimits) -> Self {
        let now = Instant::now();
        Self {
            stream,
            limits,
            read: BytesMut::new(),
            out: BytesMut::new(),
            is_flushed: true,
            partial: None,
            heard_at: now,
            ping_at: now + limits.ping_every(),
        }
    }

    /// Waits for the next message; answers pings, and pings a client that is silent.
    pub async fn receive(&mut self) -> Result<ClientMessage, SocketEnd> {
        loop {
            self.flush().await?;
            if let Some(frame) = take_frame(&mut self.read, self.limits.max_message)? {
                if let Some(message) = self.take_message(frame)? {
                    return Ok(message);
                }
                continue;
            }
            self.read.reserve(READ_BYTES);
            tokio::select! {
                // What the client has said says that it is there.
                biased;
                read = self.stream.read_buf(&mut self.read) => {
                    if read.ok().filter(|read| *read > 0).is_none() {
                        return Err(SocketEnd::Gone);
                    }
                    self.heard_at = Instant::now();
                }
                () = sleep_until(self.ping_at) => self.ping()?,
            }
        }
    }

    /// Sends a text; it has left this process when this returns.
    pub async fn send(&mut self, text: &str) -> Result<(), SocketEnd> {
        put_frame(&mut self.out, Opcode::Text, text.as_bytes());
        self.flush().await
    }

    fn ping(&mut self) -> Result<(), SocketEnd> {
        let now = Instant::now();
        if now.duration_since(self.heard_at) >= self.limits.idle_timeout {
            return Err(SocketEnd::Silent);
        }
        put_frame(&mut self.out, Opcode::Ping, b"");
        self.ping_at = now + self.limits.ping_every();
        Ok(())
    }

    /// The message that a frame completes, if it is one's last.
    fn take_message(&mut self, frame: ClientFrame) -> Result<Option<ClientMessage>, SocketEnd> {
        let ClientFrame { is_last, opcode, payload } = frame;
        let (opcode, payload) = match (opcode, self.partial.take()) {
            (Opcode::Ping, partial) => {
                self.partial = partial;
                put_frame(&mut self.out, Opcode::Pong, &payload);
                return Ok(None);
            }
            (Opcode::Pong, partial) => {
                self.partial = partial;
                return Ok(None);
            }
            (Opcode::Close, _) => return Err(CloseReason::new(1000, "").into()),
            (Opcode::Continuation, Some((opcode, mut begun))) => {
                begun.extend(payload);
                (opcode, begun)
            }
            (Opcode::Text | Opcode::Binary, None) => (opcode, payload),
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(CloseReason::protocol("a frame without its message").into());
            }
        };
        let most = self.limits.max_message;
        if payload.len() > most {
            return Err(CloseReason::too_large(most).into());
        }
        if !is_last {
            self.partial = Some((opcode, payload));
            return Ok(None);
        }
        match opcode {
            Opcode::Binary => Ok(Some(ClientMessage::Binary)),
            _ => match String::from_utf8(payload) {
                Ok(text) => Ok(Some(ClientMessage::Text(text))),
                Err(_) => Err(CloseReason::new(INVALID_PAYLOAD, "a text is UTF-8").into()),
            },
        }
    }

    async fn flush(&mut self) -> Result<(), SocketEnd> {
        if self.out.is_empty() && self.is_flushed {
            return Ok(());
        }
        self.is_flushed = false;
        let writing = async {
            // What is written is taken out of it, also if this is dropped half way.
            self.stream.write_all_buf(&mut self.out).await?;
            self.stream.flush().await
        };
        match timeout(self.limits.idle_timeout, writing).await {
            Ok(Ok(())) => self.is_flushed = true,
            Ok(Err(_)) => return Err(SocketEnd::Gone),
            Err(_) => return Err(SocketEnd::Slow),
        }
        Ok(())
    }

    /// Takes leave, and waits a moment for the client to do the same: one that is still
    /// sending would not see the reason otherwise.
    async fn end(mut self, end: SocketEnd) {
        let SocketEnd::Close(CloseReason { code, text }) = end else { return };
        let text = &text[..text.floor_char_boundary(MAX_REASON)];
        put_frame(&mut self.out, Opcode::Close, &[&code.to_be_bytes(), text.as_bytes()].concat());
        let leaving = async {
            self.stream.write_all_buf(&mut self.out).await?;
            self.stream.shutdown().await?;
            let mut rest = [0; READ_BYTES];
            while self.stream.read(&mut rest).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Whoever is gone by then is gone.
        let _ = timeout(CLOSE_TIMEOUT, leaving).await;
    }
}

#[cfg(test)]
mod tests;
