//! A node that knows the key of the fleet and misbehaves as it is told, written from the
//! wire; and a child that does so.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use edge_mirror_base::tasks::Tasks;
use edge_mirror_http::{
    listen::{Handlers, Listener},
    tls::LiveServerConfig,
};
use edge_mirror_protocol::{
    package::{PackageId, Sha256, percent_encoded},
    relay::{
        RelayKey,
        auth::{
            self, AnswerProof, PackageVersion, ParentState, RelayCredentials, RelayRequest, SCHEME,
        },
    },
};
use futures_util::stream;
use serde_json::json;
use sha2::Digest;
use tokio::sync::watch;

use super::{ScriptedMain, client};

/// What it does when it is asked for a package. It proves itself in good order before.
#[derive(Clone, Debug)]
pub(crate) enum Trick {
    /// Nothing out of order.
    None,
    /// Sends a page instead, with its length or without.
    Page {
        length: bool,
    },
    /// Says that there are so many bytes.
    Length(u64),
    /// The same, and the bytes go as far as they are let.
    LengthThrough(u64, watch::Receiver<usize>),
    /// Has another version.
    OtherVersion,
    /// One byte is another one.
    Flip(usize),
    /// The byte is another one, and the connection breaks after so many.
    FlipAndCut(usize, usize),
    /// One byte is another one, and the bytes go as far as they are let.
    FlipThrough(usize, watch::Receiver<usize>),
    /// Sends a little every now and then.
    Drip,
    /// After the package, the same again and again.
    Endless,
    Redirect(String),
    CutAfter(usize),
    /// Takes the question and says nothing.
    Silence,
    WrongProof,
    NoProof,
    /// The proof of an answer that was given before, and its state.
    OldProof,
    /// As if it showed another certificate.
    OtherCertificate,
    /// As nodes that know nothing of this: no `HEAD`, and a package for everybody.
    Old,
}

#[derive(Clone)]
pub(crate) struct ScriptedSibling {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    id: String,
    key: RelayKey,
    certificate: Option<Sha256>,
    package: Mutex<Bytes>,
    trick: Mutex<Trick>,
    issued: AtomicU64,
    old: Mutex<Option<(String, String)>>,
    /// Requests that said that somebody waits.
    urgent: AtomicU64,
    /// Method, id and whether there was a proof.
    asked: Mutex<Vec<(Method, String, bool)>>,
    tasks: Tasks,
}

impl ScriptedSibling {
    pub(crate) async fn start(
        main: &ScriptedMain,
        id: &str,
        key: &str,
        package: &[u8],
        trick: Trick,
    ) -> Self {
        Self::start_with(main, id, key, package, trick, None).await
    }

    /// One that speaks HTTPS with this certificate.
    pub(crate) async fn start_secure(
        main: &ScriptedMain,
        id: &str,
        key: &str,
        package: &[u8],
        trick: Trick,
        (tls, certificate): (Arc<rustls::ServerConfig>, Sha256),
    ) -> Self {
        Self::start_with(main, id, key, package, trick, Some((tls, certificate))).await
    }

    async fn start_with(
        main: &ScriptedMain,
        id: &str,
        key: &str,
        package: &[u8],
        trick: Trick,
        tls: Option<(Arc<rustls::ServerConfig>, Sha256)>,
    ) -> Self {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, tasks) = (listener.address(), Tasks::new());
        let shown = Arc::<LiveServerConfig>::default();
        let certificate = tls.as_ref().map(|(_, certificate)| *certificate);
        shown.set(tls.map(|(tls, _)| tls));
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            key: key.parse().unwrap(),
            certificate,
            package: Mutex::new(Bytes::copy_from_slice(package)),
            trick: Mutex::new(trick),
            issued: AtomicU64::new(0),
            old: Mutex::default(),
            urgent: AtomicU64::new(0),
            asked: Mutex::default(),
            tasks: tasks.clone(),
        });
        let router = Router::new()
            .route("/api/v1/meetings/{id}/download-package", any(answer))
            .with_state(shared.clone());
        let (stop, answers) = (tasks.token().clone(), Handlers { shown, ..router.into() });
        tasks.spawn("scripted sibling", listener.serve(answers, tasks.clone(), stop));
        register(main, id, &address.to_string()).await;
        Self { shared, address }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn play(&self, trick: Trick) {
        *self.shared.trick.lock().unwrap() = trick;
    }

    /// How often it was asked for this package with this method and, or not, a proof.
    pub(crate) fn count(&self, method: &Method, id: &str, proven: bool) -> usize {
        let asked = self.shared.asked.lock().unwrap();
        let fits = |(m, i, p): &&(Method, String, bool)| m == method && i == id && *p == proven;
        asked.iter().filter(fits).count()
    }

    /// Offers another package from now on.
    pub(crate) fn replace(&self, package: &[u8]) {
        *self.shared.package.lock().unwrap() = Bytes::copy_from_slice(package);
    }

    /// How often somebody waited for what it was asked for.
    pub(crate) fn urgent(&self) -> u64 {
        self.shared.urgent.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(&self) {
        self.shared.tasks.shut_down(Duration::from_secs(1)).await;
    }
}

/// Gets an address into the list of a main server.
pub(crate) async fn register(main: &ScriptedMain, id: &str, address: &str) {
    let url = format!("http://{}/api/v1/nodes/register", main.authority());
    let body = json!({"node_id": id, "address": address, "status": "online"});
    assert_eq!(client().post(url).json(&body).send().await.unwrap().status(), 200);
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // A question about no package: whether it is of the fleet.
    let trick = shared.trick.lock().unwrap().clone();
    let is_old = matches!(trick, Trick::Old);
    let trick = if id == "-" { Trick::None } else { trick };
    let credentials = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let parsed = credentials.and_then(RelayCredentials::parse);
    let proven = matches!(parsed, Some(Ok(RelayCredentials::Proof { .. })));
    shared.asked.lock().unwrap().push((method.clone(), id.clone(), proven));
    if headers.get("priority").is_some_and(|priority| priority == "u=1") {
        shared.urgent.fetch_add(1, Ordering::Relaxed);
    }
    let package = shared.package.lock().unwrap().clone();
    if is_old {
        return match method {
            Method::GET => package.into_response(),
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    let Some(Ok(RelayCredentials::Proof { request, mac })) = parsed else {
        let nonce = format!("n{}", shared.issued.fetch_add(1, Ordering::Relaxed));
        let challenge = [(header::WWW_AUTHENTICATE, auth::challenge(&nonce))];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let id: PackageId = id.parse().unwrap();
    assert!(
        auth::is_same_mac(mac, request.sign(&shared.key, &id.clone().into())),
        "a child with the key"
    );
    if matches!(trick, Trick::Silence) && method == Method::GET {
        return std::future::pending().await;
    }
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let first = first.map_or(0, |first| first.parse().unwrap());
    let response = body_of(&package, first, &trick, &method);
    shared.prove(&request, &id, &package, &trick, response)
}

/// The answer before it is proven.
fn body_of(package: &Bytes, first: usize, trick: &Trick, method: &Method) -> Response {
    let total = package.len();
    let flipped = |at: usize| {
        let mut bytes = package.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let page = "<html><body>a page</body></html>";
    let (length, body) = match trick {
        Trick::Redirect(to) => {
            return (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response();
        }
        Trick::OtherVersion => return StatusCode::PRECONDITION_FAILED.into_response(),
        Trick::Page { length } => {
            let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(page)]));
            (length.then_some(page.len() as u64), body)
        }
        Trick::Length(length) => (Some(*length), in_pieces(package.clone(), first, None, None)),
        Trick::LengthThrough(length, valve) => {
            (Some(*length), through(package.clone(), first, valve.clone()))
        }
        Trick::Flip(at) => (Some(total as u64), in_pieces(flipped(*at), first, None, None)),
        Trick::FlipAndCut(at, cut) => {
            (Some(total as u64), in_pieces(flipped(*at), first, Some(*cut), None))
        }
        Trick::FlipThrough(at, valve) => {
            (Some(total as u64), through(flipped(*at), first, valve.clone()))
        }
        Trick::Drip => {
            let pause = Duration::from_millis(100);
            (Some(total as u64), in_pieces(package.clone(), first, None, Some(pause)))
        }
        Trick::Endless => {
            let again = package.clone();
            let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(again.clone()));
            (None, Body::from_stream(endless))
        }
        Trick::CutAfter(cut) => {
            (Some(total as u64), in_pieces(package.clone(), first, Some(*cut), None))
        }
        Trick::None
        | Trick::Silence
        | Trick::WrongProof
        | Trick::NoProof
        | Trick::OldProof
        | Trick::OtherCertificate
        | Trick::Old => (Some(total as u64), in_pieces(package.clone(), first, None, None)),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/zip".parse().unwrap());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, (length - first as u64).into());
    }
    let status = if first > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if first > 0 {
        let range = format!("bytes {first}-{}/{total}", total - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    let body = if method == Method::HEAD { Body::empty() } else { body };
    (status, headers, body).into_response()
}

/// The bytes from `first` on, up to where they break off.
fn in_pieces(bytes: Bytes, first: usize, cut: Option<usize>, pause: Option<Duration>) -> Body {
    let length = if pause.is_some() { 1 << 10 } else { 64 << 10 };
    let pieces = stream::try_unfold(first, move |at| {
        let bytes = bytes.clone();
        async move {
            if cut.is_some_and(|cut| at >= cut) {
                // So that what was sent is on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Err(std::io::Error::other("scripted"));
            }
            if at >= bytes.len() {
                return Ok(None);
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let end = bytes.len().min(at + length).min(cut.unwrap_or(usize::MAX));
            Ok::<_, std::io::Error>(Some((bytes.slice(at..end), end)))
        }
    });
    Body::from_stream(pieces)
}

/// The bytes from `first` on, as far as they are let.
fn through(bytes: Bytes, first: usize, valve: watch::Receiver<usize>) -> Body {
    let pieces = stream::try_unfold((first, valve), move |(at, mut valve)| {
        let bytes = bytes.clone();
        async move {
            if at >= bytes.len() {
                return Ok(None);
            }
            let open = valve.wait_for(|open| at < *open).await.map(|open| *open);
            let end = bytes.len().min(at + (64 << 10)).min(open.map_err(std::io::Error::other)?);
            Ok::<_, std::io::Error>(Some((bytes.slice(at..end), (end, valve))))
        }
    });
    Body::from_stream(pieces)
}

impl Shared {
    fn prove(
        &self,
        request: &RelayRequest,
        id: &PackageId,
        package: &Bytes,
        trick: &Trick,
        mut response: Response,
    ) -> Response {
        let sha256 = Sha256::new(sha2::Sha256::digest(package).into());
        let state = ParentState {
            node_id: self.id.clone(),
            received_bytes: package.len() as u64,
            sha256: Some(sha256),
            ..ParentState::default()
        };
        let state = state.to_string();
        let certificate = match trick {
            Trick::OtherCertificate => Some(Sha256::new([7; 32])),
            _ => self.certificate,
        };
        let status = response.status().as_u16();
        let mut mac = request.sign_answer(&self.key, &id.into(), status, &state, certificate);
        if matches!(trick, Trick::WrongProof) {
            mac = request.sign(&self.key, &id.into());
        }
        let nonce = format!("n{}", self.issued.fetch_add(1, Ordering::Relaxed));
        let proof = AnswerProof { mac, next_nonce: nonce }.to_string();
        let before = self.old.lock().unwrap().replace((state.clone(), proof.clone()));
        let (state, proof) = match (trick, before) {
            (Trick::NoProof, _) => return response,
            (Trick::OldProof, Some(before)) => before,
            _ => (state, proof),
        };
        let headers = response.headers_mut();
        headers.insert(auth::STATE_HEADER, state.parse().unwrap());
        headers.insert("authentication-info", proof.parse().unwrap());
        response
    }
}

/// The rank of a node, as all nodes compute it.
fn rank(id: &str, version: &PackageVersion, node_id: &str) -> [u8; 32] {
    let mut hasher = sha2::Sha256::new();
    for field in [id, &version.to_string(), node_id] {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().into()
}

/// A name whose rank is below that of `than`.
pub(crate) fn lower_than(than: &str, id: &str, version: &PackageVersion, name: &str) -> String {
    let names = (0..).map(|n| format!("{name}-{n}"));
    let highest = rank(id, version, than);
    let mut names = names;
    names.find(|name| rank(id, version, name) < highest).unwrap()
}

/// A child, or whoever would be one.
pub(crate) struct ScriptedChild {
    client: reqwest::Client,
    key: RelayKey,
    /// Of the node that is asked.
    parent: String,
}

impl ScriptedChild {
    pub(crate) fn of(parent: &str, key: &str) -> Self {
        // One that keeps its connections.
        let client = edge_mirror_http::tls::http(edge_mirror_http::tls::client()).build().unwrap();
        Self { client, key: key.parse().unwrap(), parent: parent.to_owned() }
    }

    pub(crate) async fn nonce(&self) -> String {
        let answer = self.ask(Method::HEAD, "m", SCHEME.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        auth::nonce_of_challenge(challenge).unwrap()
    }

    pub(crate) async fn request(&self, version: &PackageVersion) -> RelayRequest {
        RelayRequest {
            child_id: "child".into(),
            child_address: "127.0.0.1:1".into(),
            parent_address: self.parent.clone(),
            version: version.clone(),
            nonce: self.nonce().await,
            cnonce: "c".into(),
        }
    }

    /// Proves `request` for `signed`, and asks for `id`.
    pub(crate) async fn get(
        &self,
        request: &RelayRequest,
        signed: &str,
        id: &str,
    ) -> reqwest::Response {
        let mac = request.sign(&self.key, &signed.parse().unwrap());
        let proof = RelayCredentials::Proof { request: request.clone(), mac };
        self.ask(Method::GET, id, proof.to_string()).await
    }

    /// Asks for `m` as somebody who waits for it.
    pub(crate) async fn get_urgently(&self, request: &RelayRequest) -> StatusCode {
        let mac = request.sign(&self.key, &"m".parse().unwrap());
        let proof = RelayCredentials::Proof { request: request.clone(), mac };
        let asked = self.request_to(Method::GET, "m", proof.to_string());
        asked.header("priority", "u=1").send().await.unwrap().status()
    }

    async fn ask(&self, method: Method, id: &str, credentials: String) -> reqwest::Response {
        self.request_to(method, id, credentials).send().await.unwrap()
    }

    fn request_to(&self, method: Method, id: &str, credentials: String) -> reqwest::RequestBuilder {
        let id = percent_encoded(id);
        let url = format!("http://{}/api/v1/meetings/{id}/download-package", self.parent);
        self.client.request(method, url).header(header::AUTHORIZATION, credentials)
    }
}
