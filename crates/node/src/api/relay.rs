//! Downloads by other nodes: the same routes, for those that prove that they know the
//! fleet's key. They have permits and a bandwidth of their own, and get the bytes as they
//! arrive, to the end: a node verifies for itself.

mod children;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};
use edge_mirror_base::pacer::Pacer;
use edge_mirror_http::{
    delivery::{self, DownloadPermit, Traffic},
    listen::Transport,
    wire,
};
use edge_mirror_protocol::{
    object::ObjectKey,
    package::Sha256,
    preference::{PREFER, PRIORITY, is_urgent, preferred_wait},
    relay::{
        RelayKey,
        auth::{
            self, AnswerProof, PackageVersion, ParentState, RelayCredentials, RelayRequest,
            STATE_HEADER,
        },
    },
};
use edge_mirror_settings::{Config, RelayConfig, ScheduledLimit};
use edge_mirror_store::StoreError;
use tracing::{debug, info};

mod schedule;

use super::{AppState, download::name_and_headers};
use crate::{board::RelayRefusal, fetch::SiblingCopy, siblings::SiblingDirectory};
use children::ChildDownloads;

/// A child's question for a package that is about to be pulled is kept so long: less than
/// it waits for the head of an answer.
const FIRST_BYTES_WAIT: Duration = Duration::from_secs(2);
/// Longest time that the question for a digest is kept.
const LONGEST_DIGEST_WAIT: Duration = Duration::from_secs(10);

/// The traffic with other nodes, counted and limited apart from tablets'.
#[derive(Clone, Debug)]
pub struct RelayTraffic {
    traffic: Arc<Traffic>,
    children: ChildDownloads,
    /// `relay.schedule`, for files and for packages of meetings that have not been started.
    prestage_pacer: Arc<Pacer>,
}

impl Default for RelayTraffic {
    fn default() -> Self {
        Self {
            traffic: Arc::new(Traffic::for_nodes()),
            children: ChildDownloads::default(),
            prestage_pacer: Arc::default(),
        }
    }
}

impl RelayTraffic {
    /// Applies a changed configuration, also to what is under way: a node that is to relay
    /// less has a reason.
    pub(crate) fn apply(&self, relay: &RelayConfig) {
        self.traffic.apply_limits(relay.max_children.into(), relay.upload_limit);
        self.end_surplus(relay);
    }

    /// Ends the youngest downloads beyond what is allowed.
    fn end_surplus(&self, relay: &RelayConfig) {
        let most = if relay.enabled { relay.max_children } else { 0 };
        let ended = self.children.keep_oldest(usize::try_from(most).unwrap_or(usize::MAX));
        if ended > 0 {
            let cause = match relay.enabled {
                true => format!("relay.maxChildren is {most}"),
                false => "relaying is off".to_owned(),
            };
            info!("{cause}: ended what {ended} other nodes were being sent");
        }
    }
}

impl Deref for RelayTraffic {
    type Target = Arc<Traffic>;

    fn deref(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

/// The parts of a request that count.
pub(super) struct SiblingQuery<'a> {
    pub key: &'a ObjectKey,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub transport: &'a Transport,
}

/// The credentials of another node, if the request has any.
pub(super) fn credentials(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let scheme = value.get(..auth::SCHEME.len())?;
    scheme.eq_ignore_ascii_case(auth::SCHEME).then_some(value)
}

/// Answers another node.
pub(super) async fn answer(state: &AppState, query: SiblingQuery<'_>) -> Response<Body> {
    let refusals = &state.board.counts.relay_refusals;
    let config = state.settings.current();
    let siblings = state.fetch.siblings();
    let Some(secret) = siblings.key(&config) else {
        refusals.inc(RelayRefusal::Off);
        return wire::detail(StatusCode::FORBIDDEN, "节点互传未启用 / relaying is off");
    };
    let parsed = credentials(query.headers).and_then(RelayCredentials::parse);
    let (request, mac) = match parsed {
        Some(Ok(RelayCredentials::Proof { request, mac })) => (request, mac),
        Some(Ok(RelayCredentials::Challenge)) => return challenge(siblings),
        Some(Err(_)) | None => {
            refusals.inc(RelayRefusal::Proof);
            return challenge(siblings);
        }
    };
    if !siblings.is_valid_nonce(&request.nonce) {
        refusals.inc(RelayRefusal::Nonce);
        return challenge(siblings);
    }
    if !auth::is_same_mac(mac, request.sign(&secret, query.key))
        || !siblings.is_own_address(&request.parent_address)
    {
        debug!("{} can't prove that it is a node of this fleet", request.child_address);
        refusals.inc(RelayRefusal::Proof);
        return challenge(siblings);
    }
    // Only now: whoever knows no key can use none up.
    if !siblings.use_up_nonce(&request.nonce) {
        refusals.inc(RelayRefusal::Nonce);
        return challenge(siblings);
    }
    let wait = digest_wait(query.headers);
    let copy = match wait {
        Some(_) => Ok(SiblingCopy::NotYet),
        None => copy(state, &config, &query, &request.version).await,
    };
    let mut told = match query.key {
        ObjectKey::Package(id) => state.fetch.state_for_sibling(id, &request.version, wait).await,
        ObjectKey::File(file) => state.fetch.file_state_for_sibling(file, &request.version),
    };
    told.node_id.clone_from(&config.node_id);
    told.site.clone_from(&config.site);
    told.children = u32::try_from(state.relay_traffic.under_way()).unwrap_or(u32::MAX);
    let response = match copy {
        // The state is all that was asked for.
        Ok(_) if wait.is_some() => bare(StatusCode::OK),
        Ok(copy) => respond_on_schedule(state, &config, &query, copy),
        Err(error) => {
            debug!("no copy for another node: {error}");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    if response.status() == StatusCode::PRECONDITION_FAILED {
        refusals.inc(RelayRefusal::Version);
    }
    prove(state, &secret, &request, query.key, &told, response)
}

/// Looks for what is asked for, and waits for its first bytes if it may be sent now.
async fn copy(
    state: &AppState,
    config: &Config,
    SiblingQuery { key, headers, .. }: &SiblingQuery<'_>,
    version: &PackageVersion,
) -> Result<SiblingCopy, StoreError> {
    let (fetch, is_urgent) = (&state.fetch, is_urgent(lines(headers, PRIORITY)));
    let may_send = schedule::limit(fetch, config, key) != ScheduledLimit::Off;
    let wait = if may_send { FIRST_BYTES_WAIT } else { Duration::ZERO };
    match key {
        ObjectKey::Package(id) => fetch.copy_for_sibling(id, version, wait, is_urgent).await,
        ObjectKey::File(file) => fetch.file_for_sibling(file, version, wait).await,
    }
}

/// Sends what `relay.schedule` allows of it now.
fn respond_on_schedule(
    state: &AppState,
    config: &Config,
    query: &SiblingQuery<'_>,
    copy: SiblingCopy,
) -> Response<Body> {
    let answered = match schedule::limit(&state.fetch, config, query.key) {
        ScheduledLimit::Off => Err(RelayRefusal::Schedule),
        _ => respond(state, config, query, copy),
    };
    let response = answered.unwrap_or_else(|refusal| {
        state.board.counts.relay_refusals.inc(refusal);
        bare(StatusCode::TOO_MANY_REQUESTS)
    });
    match schedule::is_deferrable(&state.fetch, query.key) {
        true => response.map(|body| schedule::limited(state, query.key.clone(), body)),
        false => response,
    }
}

fn respond(
    state: &AppState,
    config: &Config,
    query: &SiblingQuery<'_>,
    copy: SiblingCopy,
) -> Result<Response<Body>, RelayRefusal> {
    let permit = || -> Result<DownloadPermit, RelayRefusal> {
        // Files leave half of the places to packages, which tablets wait for.
        let most = u64::from(config.relay.max_children.div_ceil(2));
        let is_file = matches!(query.key, ObjectKey::File(_));
        match config.relay.max_children {
            0 => Err(RelayRefusal::Busy),
            _ if is_file && state.relay_traffic.under_way() >= most => Err(RelayRefusal::Busy),
            _ => state.relay_traffic.try_acquire(|| None).map_err(|_| RelayRefusal::Busy),
        }
    };
    let SiblingQuery { method, headers, transport, .. } = *query;
    let response = match copy {
        SiblingCopy::Stored(opened) => {
            // Whatever else it asks for: the bytes from there on.
            let mut asked = HeaderMap::new();
            if let Some(range) = headers.get(header::RANGE) {
                asked.insert(header::RANGE, range.clone());
            }
            delivery::respond(method, &asked, opened, name_and_headers, permit, transport)
        }
        SiblingCopy::Partial(partial) => {
            let first = first_byte(headers);
            delivery::growing::respond_unverified(method, &partial, first, permit, transport)
        }
        SiblingCopy::NotYet => Ok(bare(StatusCode::SERVICE_UNAVAILABLE)),
        SiblingCopy::OtherVersion => Ok(bare(StatusCode::PRECONDITION_FAILED)),
        SiblingCopy::Absent => Ok(bare(StatusCode::NOT_FOUND)),
    }?;
    if method != Method::GET || !response.status().is_success() {
        return Ok(response);
    }
    let response = response.map(|body| state.relay_traffic.children.begin(body));
    // The settings may have changed before it was listed.
    state.relay_traffic.end_surplus(&state.settings.current().relay);
    Ok(response)
}

/// The first byte that is asked for; nodes ask for all that follow.
fn first_byte(headers: &HeaderMap) -> u64 {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    first.and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Time that the child would wait for the digest of the whole.
fn digest_wait(headers: &HeaderMap) -> Option<Duration> {
    preferred_wait(lines(headers, PREFER)).map(|wait| wait.min(LONGEST_DIGEST_WAIT))
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn challenge(siblings: &SiblingDirectory) -> Response<Body> {
    let mut response = bare(StatusCode::UNAUTHORIZED);
    let value = auth::challenge(&siblings.issue_nonce());
    insert(response.headers_mut(), header::WWW_AUTHENTICATE, &value);
    response
}

fn prove(
    state: &AppState,
    secret: &RelayKey,
    request: &RelayRequest,
    key: &ObjectKey,
    told: &ParentState,
    mut response: Response<Body>,
) -> Response<Body> {
    let certificate: Option<Sha256> = *state.board.certificate.borrow();
    let told = told.to_string();
    let mac = request.sign_answer(secret, key, response.status().as_u16(), &told, certificate);
    let proof = AnswerProof { mac, next_nonce: state.fetch.siblings().issue_nonce() };
    let headers = response.headers_mut();
    insert(headers, HeaderName::from_static(STATE_HEADER), &told);
    insert(headers, HeaderName::from_static("authentication-info"), &proof.to_string());
    insert(headers, header::CACHE_CONTROL, "no-store");
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Hex, numbers and encoded texts are valid.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
