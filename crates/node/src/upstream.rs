//! Client of a main server: its calls and its errors in an operator's words;
//! `package` has the calls for packages. Others decide when to call. Nobody else in
//! this crate speaks HTTP to a main server.

mod connector;
mod dispatch;
mod error;
mod failover;
mod package;
pub(crate) mod recheck;
mod remote_tasks;
mod sibling;

use std::time::Duration;

use bytes::Bytes;
use edge_mirror_protocol::{
    self as protocol, Heartbeat, HeartbeatNotice, MAX_ANSWER_BYTES, MeetingStatus, OfferedPackage,
    Registration, UnreadableAnswer, Unregistration,
    casts::{self, CastAnswer, CastReadReport},
    extension,
    fleet::FleetOrigins,
    package::{PackageId, Sha256, percent_encoded},
    preference::PREFER,
    relay::NODE_HEADER,
};
use edge_mirror_settings::Secret;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;

pub use connector::Connector;
pub use error::{UpstreamError, root_cause};
pub use failover::{FailingServer, FailoverRound, MainServerInUse, NextTry};
pub use package::{
    AnnouncedPackage, AnswerExtent, OriginAnswer, OriginBody, PackageLocation, PackageRequest,
    TransferError, TransferEvent, TransferLimits,
};
pub use sibling::{SiblingError, SiblingObject, SiblingSession, asks_for_proof, sibling_client};

const SHOWN_ANSWER_CHARS: usize = 200;
/// Carries the key that a main server may require of its nodes.
const KEY: &str = "x-api-key";
/// All kinds of main servers have it.
const TOKEN_PATH: &str = "/api/v1/meetings/status/token";

/// A main server of the fleet, as the configuration names it now.
#[derive(Clone, Debug)]
pub struct Upstream {
    fleet: FleetOrigins,
    /// Requests go there.
    base_url: String,
    /// Of the main server in use.
    turn: u64,
    client: Client,
    timeout: Duration,
    key: Option<Secret>,
    /// The error that prevents requests: certificates that can't be used.
    tls_error: Option<String>,
}

/// Recognizes the next poll's answer as a repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollFingerprint {
    fingerprint: Sha256,
    /// Version to ask for another one only; None if the main server does not hold
    /// back answers.
    version: Option<String>,
}

impl PollFingerprint {
    /// True if another poll that names it may be held back.
    pub(crate) fn can_wait(&self) -> bool {
        self.version.is_some()
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self { fingerprint: Sha256::new([0; 32]), version: None }
    }
}

#[derive(Clone, Debug)]
pub struct StatusAnswer {
    /// None if the answer is the same as before.
    pub news: Option<MeetingStatus>,
    pub seen: PollFingerprint,
    /// The main server holds back answers, and has room for it right now.
    pub waits: bool,
}

impl Upstream {
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let config = edge_mirror_settings::Settings::from_defaults().expect("defaults are valid");
        Connector::default().upstream(&config)
    }

    /// The fleet's identity, whichever of its main servers is asked.
    pub fn origin(&self) -> &str {
        self.fleet.identity()
    }

    pub fn fleet(&self) -> &FleetOrigins {
        &self.fleet
    }

    /// The main server that is asked.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    pub async fn register(
        &self,
        body: &Registration,
        limit: Duration,
    ) -> Result<(), UpstreamError> {
        self.post("/api/v1/nodes/register", body, limit).await.map(drop)
    }

    /// Returns what the main server says to the node's operators.
    pub async fn heartbeat(
        &self,
        body: &Heartbeat,
        limit: Duration,
    ) -> Result<HeartbeatNotice, UpstreamError> {
        let mut answer = self.post("/api/v1/nodes/heartbeat", body, limit).await?;
        // Only ours answers with more than a receipt; nothing here is an error.
        let first = tokio::time::timeout(limit, answer.chunk()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        Ok(protocol::read_notice(&first))
    }

    /// True if it answers and works. All kinds of main servers have this path.
    async fn is_there(&self, limit: Duration) -> bool {
        match self.token(limit).await {
            Ok(()) => true,
            Err(error) => !error.is_away() && !error.is_server_error(),
        }
    }

    /// A 404, not being known there, counts as success.
    pub async fn unregister(
        &self,
        body: &Unregistration,
        limit: Duration,
    ) -> Result<(), UpstreamError> {
        match self.post("/api/v1/nodes/unregister", body, limit).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Requests the active meetings. A main server of ours is asked to hold back
    /// its answer for up to `wait` while it is the same as `before`.
    pub async fn status(
        &self,
        node_id: &str,
        limit: Duration,
        wait: Duration,
        before: Option<&PollFingerprint>,
    ) -> Result<StatusAnswer, UpstreamError> {
        let path = "/api/v1/meetings/status/node";
        let asked = format!("GET {}{path}", self.base_url);
        let version = before.and_then(|before| before.version.as_ref());
        let limit = if version.is_some() { limit + wait } else { limit };
        let mut request = self.request(Method::GET, path, limit);
        // Other main servers ignore these headers.
        request = request.header(extension::ACCEPT_HEADER, extension::ACCEPT);
        request = request.header(NODE_HEADER, node_id);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        request = request.header(PREFER, format!("wait={}", wait.as_secs()));
        if let Some(version) = version {
            request = request.header(header::IF_NONE_MATCH, version);
        }
        let response = self.send(&asked, request, limit).await?;
        let waits = holds_answers(&response);
        if let (StatusCode::NOT_MODIFIED, Some(before), Some(_)) =
            (response.status(), before, version)
        {
            return Ok(StatusAnswer { news: None, seen: before.clone(), waits });
        }
        // From another kind of server it may be anybody's: a cache's, say.
        let version = field(&response, "etag").filter(|_| waits).map(ToOwned::to_owned);
        // Without a version, the next poll is not held back, and polling again
        // immediately would be a loop.
        let waits = version.is_some();
        let body = read(&asked, response, limit).await?;
        let seen = PollFingerprint { version, fingerprint: protocol::fingerprint(&body) };
        if before.is_some_and(|before| before.fingerprint == seen.fingerprint) {
            return Ok(StatusAnswer { news: None, seen, waits });
        }
        let news = protocol::read_status(&body)
            .map_err(|cause| UpstreamError::Unreadable { asked, cause })?;
        Ok(StatusAnswer { news: Some(news), seen, waits })
    }

    /// Requests the casts for this node after a number in a sequence; also returns whether the
    /// answer was held back, or would have been.
    pub async fn casts(
        &self,
        node_id: &str,
        (stream, after): (&str, u64),
        live: &str,
        limit: Duration,
        wait: Duration,
    ) -> Result<(CastAnswer, bool), UpstreamError> {
        let (path, limit) = (casts::PATH, limit + wait);
        let asked = format!("GET {}{path}", self.base_url);
        let (stream, live) = (percent_encoded(stream), percent_encoded(live));
        let place = format!("{path}?stream={stream}&after={after}&live={live}");
        let mut request = self.request(Method::GET, &place, limit).header(NODE_HEADER, node_id);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        request = request.header(PREFER, format!("wait={}", wait.as_secs()));
        let response = self.send(&asked, request, limit).await?;
        let waits = holds_answers(&response);
        let body = read(&asked, response, limit).await?;
        let answer = serde_json::from_slice(&body).map_err(|error| UpstreamError::Unreadable {
            asked,
            cause: UnreadableAnswer(error.to_string()),
        });
        Ok((answer?, waits))
    }

    /// Tells what this node's consumers have read.
    pub async fn report_read_casts(
        &self,
        node_id: &str,
        report: &CastReadReport,
        limit: Duration,
    ) -> Result<(), UpstreamError> {
        let path = casts::READ_PATH;
        let asked = format!("POST {}{path}", self.base_url);
        let request = self.request(Method::POST, path, limit).json(report);
        let mut request = request.header(NODE_HEADER, node_id);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        self.send(&asked, request, limit).await.map(drop)
    }

    /// Sends casts of programs here. What the main server says against them is an answer, too.
    pub(crate) async fn send_casts(
        &self,
        node_id: &str,
        casts: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Vec<u8>), UpstreamError> {
        let path = casts::PATH;
        let asked = format!("POST {}{path}", self.base_url);
        if let Some(cause) = self.tls_error.clone() {
            return Err(UpstreamError::Untrusted { asked, cause });
        }
        let request = self.request(Method::POST, path, limit).body(casts);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let mut request = request.header(NODE_HEADER, node_id);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        let sent = request.send().await;
        let response = sent.map_err(|error| UpstreamError::of(&asked, &error, limit))?;
        let status = response.status();
        let is_json = field(&response, "content-type") == Some("application/json");
        let body = read(&asked, response, limit).await?;
        match is_json {
            true => Ok((status, body)),
            // A proxy's, say.
            false => Err(UpstreamError::Refused { asked, status, answer: String::new() }),
        }
    }

    /// None if this version of the main server has no such list.
    pub async fn offers(
        &self,
        limit: Duration,
    ) -> Result<Option<Vec<OfferedPackage>>, UpstreamError> {
        match self.get_small("/api/v1/meetings/active/meetings", limit).await {
            Ok((asked, body)) => protocol::read_offers(&body)
                .map(Some)
                .map_err(|cause| UpstreamError::Unreadable { asked, cause }),
            Err(UpstreamError::Refused {
                status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same fleet, asked at another of its main servers.
    pub(crate) fn at(&self, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), ..self.clone() }
    }

    /// Asks for what all kinds of main servers have.
    pub(crate) async fn token(&self, limit: Duration) -> Result<(), UpstreamError> {
        self.get_small(TOKEN_PATH, limit).await.map(drop)
    }

    /// Lists the ids and addresses of all nodes. Those without are left out.
    pub async fn nodes(&self, limit: Duration) -> Result<Vec<(String, String)>, UpstreamError> {
        let (asked, body) = self.get_small("/api/v1/nodes/list", limit).await?;
        protocol::read_nodes(&body).map_err(|cause| UpstreamError::Unreadable { asked, cause })
    }

    /// Digests of a package's pieces; only our own main server has them.
    pub async fn piece_digests(
        &self,
        id: &PackageId,
        sha256: Sha256,
        limit: Duration,
    ) -> Result<Vec<Sha256>, UpstreamError> {
        let path = format!("/api/v1/meetings/{}/package-pieces", id.segment());
        let asked = format!("GET {}{path}", self.base_url);
        let response = self.send(&asked, self.request(Method::GET, &path, limit), limit).await?;
        let is_of_version = field(&response, "etag") == Some(&format!("\"{sha256}\""));
        let body = read(&asked, response, limit).await?;
        piece_digests(&body).filter(|_| is_of_version).ok_or_else(|| {
            let cause = UnreadableAnswer("it is not of this version".to_owned());
            UpstreamError::Unreadable { asked, cause }
        })
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<Response, UpstreamError> {
        let asked = format!("POST {}{path}", self.base_url);
        let mut request = self.request(Method::POST, path, limit).json(body);
        if let Some(key) = &self.key {
            request = request.header(KEY, key.reveal());
        }
        self.send(&asked, request, limit).await
    }

    async fn get_small(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<(String, Vec<u8>), UpstreamError> {
        let asked = format!("GET {}{path}", self.base_url);
        let response = self.send(&asked, self.request(Method::GET, path, limit), limit).await?;
        let body = read(&asked, response, limit).await?;
        Ok((asked, body))
    }

    fn request(&self, method: Method, path: &str, limit: Duration) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base_url)).timeout(limit)
    }

    /// Returns an error that quotes the answer for all but 2xx and 304.
    async fn send(
        &self,
        asked: &str,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, UpstreamError> {
        if let Some(cause) = &self.tls_error {
            return Err(UpstreamError::Untrusted { asked: asked.to_owned(), cause: cause.clone() });
        }
        let mut response =
            request.send().await.map_err(|error| UpstreamError::of(asked, &error, limit))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        // The first chunk is enough of an error page.
        let body = tokio::time::timeout(self.timeout, response.chunk()).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let answer = String::from_utf8_lossy(&body).chars().take(SHOWN_ANSWER_CHARS).collect();
        Err(UpstreamError::Refused { asked: asked.to_owned(), status, answer })
    }
}

/// The whole body of an answer that has no reason to be large.
async fn read(asked: &str, response: Response, limit: Duration) -> Result<Vec<u8>, UpstreamError> {
    read_up_to(asked, response, limit, MAX_ANSWER_BYTES).await
}

async fn read_up_to(
    asked: &str,
    mut response: Response,
    limit: Duration,
    max_bytes: usize,
) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        match chunk.map_err(|error| UpstreamError::of(asked, &error, limit))? {
            None => return Ok(body),
            Some(chunk) if body.len() + chunk.len() > max_bytes => {
                let cause = UnreadableAnswer(format!("the answer is over {max_bytes} bytes"));
                return Err(UpstreamError::Unreadable { asked: asked.to_owned(), cause });
            }
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

/// True if the main server says that it holds back answers (RFC 7240, 3).
fn holds_answers(response: &Response) -> bool {
    let applied = field(response, "preference-applied").unwrap_or_default();
    applied
        .split([',', ';'])
        .any(|applied| applied.split('=').next().map(str::trim) == Some("wait"))
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Divides digests that follow each other; None if one is cut off.
fn piece_digests(body: &[u8]) -> Option<Vec<Sha256>> {
    let pieces = body.chunks_exact(32);
    let digest = |piece: &[u8]| piece.try_into().ok().map(Sha256::new);
    pieces.remainder().is_empty().then(|| pieces.filter_map(digest).collect())
}
