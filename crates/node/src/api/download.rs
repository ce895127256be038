//! Downloads: the node's whole purpose.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, header},
};
use edge_mirror_http::{
    access::AccessControl,
    delivery::{self, Traffic},
    listen::{FastPath, Transport},
    wire::{self, PathId},
};
use edge_mirror_protocol::{
    object::ObjectKey,
    package::{self, Manifest, PackageId},
};

use super::{AppState, error::ApiError, relay};
use crate::{
    board::StatusBoard,
    fetch::{Fetch, ServablePackage},
};

/// Fast path: packages that are stored and open, nearly all requests of a storm,
/// are answered without the router, which costs more than sending a small package.
pub(super) fn fast_path(state: &AppState) -> FastPath {
    let (board, fetch, traffic) = (state.board.clone(), state.fetch.clone(), state.traffic.clone());
    let routes = [DOWNLOAD_PATH, OLD_DOWNLOAD_PATH].map(|path| traffic.requests.route(path));
    Arc::new(move |method, uri, headers, transport| {
        if !matches!(*method, Method::GET | Method::HEAD) || !board.is_running() {
            return None;
        }
        // Another node's.
        if headers.contains_key(header::AUTHORIZATION) {
            return None;
        }
        let (route, id) = parse_download_path(uri.path())?;
        let package = fetch.get_if_open(&id)?;
        // Without a free permit, or if the client's address is needed, the router's
        // path does the waiting.
        let permit = || traffic.try_acquire(|| None);
        let mut answer =
            delivery::respond(method, headers, package, name_and_headers, permit, transport)
                .ok()?;
        if !answer.status().is_success() {
            wire::insert_security_headers(answer.headers_mut());
        }
        routes[route].record_immediate(answer.status());
        Some(answer)
    })
}

/// Download paths, as the router has them.
pub(super) const DOWNLOAD_PATH: &str = "/api/v1/meetings/{id}/download-package";
pub(super) const OLD_DOWNLOAD_PATH: &str = "/api/meetings/{id}/download";

/// Parses the id and the route of a download's path. A text that is no id is no key
/// of any package: the router refuses it.
fn parse_download_path(path: &str) -> Option<(usize, Cow<'_, str>)> {
    let (route, segment) = match path.strip_prefix("/api/v1/meetings/") {
        Some(rest) => (0, rest.strip_suffix("/download-package")?),
        None => (1, path.strip_prefix("/api/meetings/")?.strip_suffix("/download")?),
    };
    Some((route, package::percent_decoded(segment)?))
}

/// The file name of a package, and the headers that the router's layers add to each
/// download.
pub(super) fn name_and_headers(manifest: &Manifest) -> (String, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = wire::EXPOSED.map(|name| name.to_string()).join(",");
    if let Ok(exposed) = HeaderValue::try_from(exposed) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    if let Ok(media_type) = HeaderValue::try_from(manifest.media_type.as_str()) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    wire::insert_security_headers(&mut headers);
    (file_name(&manifest.key), headers)
}

fn file_name(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Package(id) => format!("meeting_{id}.zip"),
        ObjectKey::File(file) => file.file_name().to_owned(),
    }
}

type DownloadParts =
    (State<Arc<StatusBoard>>, State<Fetch>, State<Arc<Traffic>>, State<AccessControl>);

/// `/api/v1/meetings/{id}/download-package`: where main servers redirect to, and where
/// other nodes ask.
pub(super) async fn package(
    State(state): State<AppState>,
    shared: DownloadParts,
    PathId(id): PathId,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    if relay::credentials(request.headers()).is_none() {
        return deliver(shared, id, request, "Meeting package not found").await;
    }
    if !state.board.is_running() {
        return Err(ApiError::NotRunning);
    }
    let (asked, _) = request.into_parts();
    let transport = Transport::of(&asked.extensions);
    let (method, headers) = (&asked.method, &asked.headers);
    let key = id.into();
    let query = relay::SiblingQuery { key: &key, method, headers, transport: &transport };
    Ok(relay::answer(&state, query).await)
}

/// `/api/meetings/{id}/download`: the same, for front ends.
pub(super) async fn package_for_old_clients(
    shared: DownloadParts,
    PathId(id): PathId,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    deliver(shared, id, request, "会议包不存在").await
}

async fn deliver(
    (State(board), State(fetch), State(traffic), State(access)): DownloadParts,
    id: PackageId,
    request: Request,
    not_found: &'static str,
) -> Result<Response<Body>, ApiError> {
    let (asked, _) = request.into_parts();
    let transport = Transport::of(&asked.extensions);
    // The address, not its network as for wrong logins: a room's tablets share that.
    let client = || access.caller(&asked).address;
    let refused = |error| ApiError::from_pull(id.clone(), error, not_found);
    let mut waited_for = None;
    loop {
        if !board.is_running() {
            return Err(ApiError::NotRunning);
        }
        let mut permit = || match waited_for.take() {
            Some(permit) => Ok(permit),
            None => traffic.try_acquire(|| Some(client())),
        };
        let (method, headers) = (&asked.method, &asked.headers);
        let early = match fetch.open_or_follow(&id, &client).await.map_err(refused)? {
            ServablePackage::Here(package) => Err(package),
            ServablePackage::Growing(partial) => {
                let name = file_name(&id.clone().into());
                let early = delivery::growing::respond(
                    method,
                    headers,
                    &partial,
                    &name,
                    &mut permit,
                    &transport,
                );
                match early.transpose() {
                    Some(answer) => Ok(answer),
                    None => Err(fetch.obtain(&id, &client).await.map_err(refused)?),
                }
            }
        };
        let answer = early.unwrap_or_else(|package| {
            delivery::respond(method, headers, package, name_and_headers, permit, &transport)
        });
        match answer {
            Ok(answer) => return Ok(answer),
            // The stored package may be another version after the wait: it is
            // looked up again, with the permit held.
            Err(_) => {
                waited_for = Some(traffic.acquire(client()).await.map_err(ApiError::Full)?);
            }
        }
    }
}
