//! The routes of GoFD's server, with its words and shapes.

mod answer;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use edge_mirror_gofd::GoBody;
use edge_mirror_http::{
    listen::PeerAddress,
    wire::body::{self, BodyError},
};
use tracing::{info, warn};

use self::answer::{message, refused, task, unauthorized, word};
use crate::{
    server::{GofdCallRefusal, GofdGateway, Server},
    state::gofd::{GofdRequest, PlaceReport},
};

/// Some 20,000 paths of 200 bytes.
const MAX_BODY_BYTES: usize = 4 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The server, and the gateway whose routes these are.
type Shared = State<(Arc<Server>, Arc<GofdGateway>)>;

pub(crate) fn router(server: Arc<Server>, gateway: Arc<GofdGateway>) -> Router {
    let guarded = gateway.clone();
    Router::new()
        .route("/api/v1/server/tasks", post(create))
        .route("/api/v1/server/tasks/status", post(report))
        .route("/api/v1/server/tasks/{id}", get(show).delete(cancel))
        .fallback(async || message(StatusCode::NOT_FOUND, "Not Found"))
        .method_not_allowed_fallback(async || {
            message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .layer(middleware::from_fn_with_state(guarded, authenticate))
        .with_state((server, gateway))
}

/// Lets nobody through without the password, whatever the path.
async fn authenticate(
    State(gateway): State<Arc<GofdGateway>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.is_some_and(|value| gateway.config.credentials.are_in_basic(value)) {
        return next.run(request).await;
    }
    if gateway.note_refusal(GofdCallRefusal::Password) {
        warn!("a call for GoFD from {} was refused: wrong password", peer(&request));
    }
    unauthorized()
}

fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get().map(|PeerAddress(peer)| peer.ip());
    peer.unwrap_or(IpAddr::from([0, 0, 0, 0]))
}

async fn create(State((server, gateway)): Shared, request: Request) -> Response {
    let by = peer(&request);
    let bytes = match read_json(&gateway, request).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let read = || {
        let body = GoBody::parse(&bytes, "server.CreateTask")?;
        Ok((body.text("id")?, body.texts("dispatchFiles")?, body.texts("destIPs")?))
    };
    let (id, files, ips) = match read() {
        Ok(read) => read,
        Err(error) => return refused_body(&gateway, by, &error),
    };
    let user = &gateway.config.credentials.user;
    let posted = match GofdRequest::check(id, files, ips, user) {
        Ok(request) => server.post_gofd_task(&gateway, request, by).await,
        Err(refusal) => Err(refusal),
    };
    match posted {
        Ok(()) => word(StatusCode::ACCEPTED, ""),
        Err(refusal) => {
            if gateway.note_refusal(GofdCallRefusal::Request) {
                info!("a task of a client of GoFD at {by} was refused: {refusal}");
            }
            refused(&refusal)
        }
    }
}

async fn report(State((_, gateway)): Shared, request: Request) -> Response {
    let by = peer(&request);
    let bytes = match read_json(&gateway, request).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let read = || {
        let body = GoBody::parse(&bytes, "p2p.StatusReport")?;
        Ok((body.text("taskId")?, body.text("ip")?, body.number("percentComplete")?))
    };
    let (id, ip, percent) = match read() {
        Ok(read) => read,
        Err(error) => return refused_body(&gateway, by, &error),
    };
    // As at GoFD, one that says nothing of interest is well received, too.
    if let Some(report) = PlaceReport::from_percent(percent) {
        gateway.change(|table, now| table.report(&id, &ip, report, now));
    }
    word(StatusCode::OK, "")
}

async fn show(
    State((_, gateway)): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let names = query.as_deref().unwrap_or_default().split('&');
    let mut names = names.map(|pair| pair.split('=').next().unwrap_or_default());
    match gateway.look(|table, now| table.shown(&id, now)) {
        Some(shown) => task(&shown, names.any(|name| name == "pretty")),
        None => word(StatusCode::BAD_REQUEST, "TASK_NOT_EXISTED"),
    }
}

async fn cancel(State((_, gateway)): Shared, Path(id): Path<String>) -> Response {
    if !gateway.change(|table, now| table.cancel(&id, now)) {
        return word(StatusCode::BAD_REQUEST, "TASK_NOT_EXISTED");
    }
    info!("task {id:?} of a client of GoFD was cancelled");
    answer::json(StatusCode::ACCEPTED, "\"\"\n".to_owned())
}

/// Reads a body that is JSON by its type.
async fn read_json(gateway: &GofdGateway, request: Request) -> Result<Bytes, Response> {
    let by = peer(&request);
    let (parts, body) = request.into_parts();
    let read = body::read(body, MAX_BODY_BYTES, BODY_TIMEOUT).await;
    let refusal = match read {
        Ok(bytes) if bytes.is_empty() => {
            message(StatusCode::BAD_REQUEST, "Request body can't be empty")
        }
        Ok(bytes) if is_json(&parts.headers) => return Ok(bytes),
        Ok(_) => message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"),
        Err(BodyError::TooLarge(_)) => {
            message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
        }
        Err(BodyError::Slow) => message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        Err(BodyError::Broken) => message(StatusCode::BAD_REQUEST, "unexpected EOF"),
    };
    if gateway.note_refusal(GofdCallRefusal::Body) {
        warn!("a call for GoFD from {by} was refused: status {}", refusal.status());
    }
    Err(refusal)
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    declared.is_some_and(|declared| declared.starts_with("application/json"))
}

fn refused_body(
    gateway: &GofdGateway,
    by: IpAddr,
    error: &edge_mirror_gofd::UnreadableBody,
) -> Response {
    if gateway.note_refusal(GofdCallRefusal::Body) {
        warn!("a call for GoFD from {by} was refused: {error}");
    }
    message(StatusCode::BAD_REQUEST, &error.to_string())
}
