//! Packages and files at other nodes: asked for by the download routes, with the proof that
//! both sides know the fleet's key ([`auth`]).

use std::{sync::Arc, time::Duration};

use edge_mirror_http::{delivery::growing::LIVE_END, tls};
use edge_mirror_protocol::{
    object::ObjectKey,
    package::{Sha256, Validators},
    preference::{PREFER, PRIORITY, URGENT},
    relay::{
        RelayKey, Sibling,
        auth::{self, AnswerProof, PackageVersion, ParentState, RelayCredentials, RelayRequest},
    },
};
use edge_mirror_settings::scheme;
use reqwest::{Client, Method, Response, StatusCode, header, redirect, tls::TlsInfo};
use sha2::Digest;
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use super::{
    connector::IDLE_CONNECTION,
    field,
    package::{AnnouncedPackage, AnswerExtent, OriginAnswer, OriginBody},
    root_cause,
};

/// A sibling is on the same network, but may be short of processor time: two hundred
/// nodes on two cores took longer than two seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the head of an answer; a parent that has nothing yet answers before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);

/// The reason that a sibling does not give a package or file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SiblingError {
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// A stranger, a node of another fleet or version, or an older one.
    #[error("it does not prove that it belongs to this fleet: {0}")]
    Unproven(&'static str),
    #[error("it shows another certificate than the main server names")]
    WrongCertificate,
    /// It waits for the package itself.
    #[error("it has nothing of the package yet")]
    NotReady(ParentState),
    #[error("it answers {0}")]
    Refused(StatusCode),
    /// All versions of a package that are of this digest are of one length.
    #[error("it has another version, of {length} bytes instead of {expected}")]
    OtherLength { length: u64, expected: u64 },
    #[error("{0}")]
    Unusable(String),
}

/// The subject of all requests of one pull to one sibling.
#[derive(Clone, Debug)]
pub struct SiblingObject {
    pub key: ObjectKey,
    pub version: PackageVersion,
    pub secret: RelayKey,
    pub child_id: String,
    pub child_address: String,
    /// Announced with the version, if it was.
    pub validators: Validators,
    pub length: Option<u64>,
}

/// A conversation with one sibling about one package or file.
#[derive(Debug)]
pub struct SiblingSession {
    client: Client,
    pub sibling: Sibling,
    object: Arc<SiblingObject>,
    url: Url,
    nonce: Option<String>,
    certificate: Option<Sha256>,
    /// A client waits for the package, here or further down.
    pub is_urgent: bool,
}

/// Returns a client for requests to siblings. Whom it talks to is found out by the proof,
/// or by the digest of the certificate.
pub fn sibling_client() -> Client {
    tls::http(tls::unverified_client())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(redirect::Policy::none())
        .tls_info(true)
        .user_agent(concat!("edge-mirror/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("a client that is given its TLS has nothing to load that could fail")
}

impl SiblingSession {
    pub fn new(
        client: Client,
        sibling: Sibling,
        object: Arc<SiblingObject>,
    ) -> Result<Self, SiblingError> {
        let base = format!("{}://{}", scheme(sibling.https), sibling.address);
        let url = Url::parse(&base).ok().filter(|url| {
            // Nothing but a host and a port.
            url.has_host()
                && url.path() == "/"
                && url.query().is_none()
                && url.username().is_empty()
        });
        let mut url = url.ok_or_else(|| {
            SiblingError::Unusable(format!("its address is {:?}", sibling.address))
        })?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["api", "v1"]);
            match &object.key {
                ObjectKey::Package(id) => {
                    segments.extend(["meetings", id.as_str(), "download-package"])
                }
                ObjectKey::File(file) => segments.push("files").extend(file.as_str().split('/')),
            };
        }
        let (nonce, certificate, is_urgent) = (None, None, false);
        Ok(Self { client, sibling, object, url, nonce, certificate, is_urgent })
    }

    /// Finds out whether it is there, and asks for proofs.
    pub async fn connect(&mut self) -> Result<(), SiblingError> {
        self.nonce = Some(self.challenge().await?);
        Ok(())
    }

    /// Begins to get the bytes from `first` on.
    pub async fn get(&mut self, first: u64) -> Result<(ParentState, OriginAnswer), SiblingError> {
        let range = (first > 0).then(|| format!("bytes={first}-"));
        let (response, state) = self.ask(Method::GET, range, None).await?;
        let (length, extent) = extent(&response, first).ok_or_else(|| {
            SiblingError::Unusable("it sends another part than was asked for".to_owned())
        })?;
        let expected = self.object.length;
        if let (Some(length), Some(expected)) = (length, expected)
            && length != expected
        {
            return Err(SiblingError::OtherLength { length, expected });
        }
        let announced = AnnouncedPackage {
            length: length.or(expected),
            sha256: self.object.version.digest(),
            validators: self.object.validators.clone(),
            ranges: self.object.version.digest().is_some(),
        };
        let body = OriginBody::new(response);
        Ok((state, OriginAnswer { announced, extent, body }))
    }

    /// Asks for the state of its copy; with `wait`, only once the digest of the whole is
    /// known to be right, or after that time.
    pub async fn probe(&mut self, wait: Option<Duration>) -> Result<ParentState, SiblingError> {
        match self.ask(Method::HEAD, None, wait).await {
            Ok((_, state)) | Err(SiblingError::NotReady(state)) => Ok(state),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        range: Option<String>,
        wait: Option<Duration>,
    ) -> Result<(Response, ParentState), SiblingError> {
        // A nonce is good for one request, and not for long.
        for _ in 0..2 {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.challenge().await?,
            };
            let request = self.request(nonce)?;
            let mac = request.sign(&self.object.secret, &self.object.key);
            let credentials = RelayCredentials::Proof { request: request.clone(), mac };
            let mut asked = self.client.request(method.clone(), self.url.clone());
            asked = asked.header(header::AUTHORIZATION, credentials.to_string());
            asked = asked.header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = &range {
                asked = asked.header(header::RANGE, range);
            }
            if self.is_urgent {
                asked = asked.header(PRIORITY, URGENT);
            }
            if let Some(wait) = wait {
                asked = asked.header(PREFER, format!("wait={}", wait.as_secs()));
            }
            let limit = HEAD_TIMEOUT + wait.unwrap_or_default();
            let response = self.send(asked, limit).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                continue;
            }
            let state = self.verify(&request, &response)?;
            return match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok((response, state)),
                StatusCode::SERVICE_UNAVAILABLE => Err(SiblingError::NotReady(state)),
                other => Err(SiblingError::Refused(other)),
            };
        }
        Err(SiblingError::Unproven("it takes no proof"))
    }

    /// Asks for a nonce, with a method that an old node refuses without touching the
    /// package.
    async fn challenge(&mut self) -> Result<String, SiblingError> {
        let asked = self.client.head(self.url.clone()).header(header::AUTHORIZATION, auth::SCHEME);
        let response = self.send(asked, HEAD_TIMEOUT).await?;
        let nonce = field(&response, "www-authenticate").and_then(auth::nonce_of_challenge);
        match nonce.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
            Some(nonce) => Ok(nonce),
            None => Err(SiblingError::Unproven("it asks for no proof")),
        }
    }

    async fn send(
        &mut self,
        asked: reqwest::RequestBuilder,
        limit: Duration,
    ) -> Result<Response, SiblingError> {
        let sent = timeout(limit, asked.send()).await;
        let response = sent.map_err(|_| SiblingError::TimedOut(limit))?;
        let response = response.map_err(|error| SiblingError::Unreachable(root_cause(&error)))?;
        if self.sibling.https {
            let info = response.extensions().get::<TlsInfo>();
            let shown = info.and_then(TlsInfo::peer_certificate);
            let shown = shown.map(|der| Sha256::new(sha2::Sha256::digest(der).into()));
            let named = self.sibling.certificate;
            if shown.is_none() || named.is_some_and(|named| shown != Some(named)) {
                return Err(SiblingError::WrongCertificate);
            }
            self.certificate = shown;
        }
        Ok(response)
    }

    fn request(&self, nonce: String) -> Result<RelayRequest, SiblingError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| SiblingError::Unusable(format!("no random number: {error}")))?;
        Ok(RelayRequest {
            child_id: self.object.child_id.clone(),
            child_address: self.object.child_address.clone(),
            parent_address: self.sibling.address.clone(),
            version: self.object.version.clone(),
            nonce,
            cnonce: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn verify(
        &mut self,
        request: &RelayRequest,
        response: &Response,
    ) -> Result<ParentState, SiblingError> {
        let proof = field(response, "authentication-info").and_then(|info| info.parse().ok());
        let told = field(response, auth::STATE_HEADER).unwrap_or_default();
        let (Some(AnswerProof { mac, next_nonce }), Ok(state)) =
            (proof, told.parse::<ParentState>())
        else {
            return Err(SiblingError::Unproven("its answer has no proof"));
        };
        let SiblingObject { key, secret, .. } = &*self.object;
        let status = response.status().as_u16();
        let signed = request.sign_answer(secret, key, status, told, self.certificate);
        if !auth::is_same_mac(mac, signed) {
            return Err(SiblingError::Unproven("its proof is wrong: does it have the same key?"));
        }
        // The list of a main server is open to strangers: another name for a node would
        // give it a rank that it does not have.
        if state.node_id != self.sibling.node_id {
            return Err(SiblingError::Unproven("it is another node than the one that is listed"));
        }
        self.nonce = Some(next_nonce);
        Ok(state)
    }
}

/// Length of the whole, if it is known, and the part that an answer brings.
fn extent(response: &Response, first: u64) -> Option<(Option<u64>, AnswerExtent)> {
    let number = |text: &str| text.parse::<u64>().ok();
    if response.status() == StatusCode::OK {
        let length = field(response, "content-length").and_then(number);
        return (first == 0).then_some((length, AnswerExtent::Whole { is_page: false }));
    }
    let range = field(response, "content-range")?.strip_prefix("bytes ")?;
    let (part, length) = range.split_once('/')?;
    let (from, last) = part.split_once('-')?;
    let (from, last) = (number(from)?, number(last)?);
    let length = if length == "*" { None } else { Some(number(length)?) };
    let is_rest = match length {
        Some(length) => last.checked_add(1) == Some(length),
        None => last == LIVE_END,
    };
    (first > 0 && from == first && is_rest).then_some((length, AnswerExtent::Rest))
}

/// Asks whoever is at an address whether it would ask for the proof of a key, as nodes
/// that relay do: then whether it speaks HTTPS. Old nodes refuse the method, and nobody is
/// asked for a package.
pub async fn asks_for_proof(client: &Client, address: &str) -> Result<bool, SiblingError> {
    for https in [false, true] {
        let url = format!("{}://{address}/api/v1/meetings/-/download-package", scheme(https));
        let asked = client.head(url).header(header::AUTHORIZATION, auth::SCHEME);
        let limit = CONNECT_TIMEOUT * 2;
        let response = timeout(limit, asked.send()).await;
        let response = response
            .map_err(|_| SiblingError::TimedOut(limit))?
            .map_err(|error| SiblingError::Unreachable(root_cause(&error)))?;
        let nonce = field(&response, "www-authenticate");
        if nonce.and_then(auth::nonce_of_challenge).is_some() {
            return Ok(https);
        }
        // A node with a certificate sends plain HTTP there.
        if !field(&response, "location").is_some_and(|to| to.starts_with("https://")) {
            break;
        }
    }
    Err(SiblingError::Unproven("it asks for no proof"))
}
