//! Package downloads: from a node that has it, else from here.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts, uri::Authority},
    response::{IntoResponse, Response},
};
use edge_mirror_http::{
    delivery,
    listen::Transport,
    wire::{self, PathId},
};
use edge_mirror_protocol::package::{Manifest, PackageId};
use edge_mirror_settings::scheme;
use serde::Serialize;

use crate::{
    refusal::RequestError,
    server::Server,
    state::{
        download_log::DownloadRecord,
        meetings::Meeting,
        package_name::{file_name, id_of_file},
        registry::RedirectCandidate,
    },
};

type Shared = State<Arc<Server>>;

/// Redirects clients to a node that has the running meeting's package.
pub(crate) async fn download(
    State(server): Shared,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, RequestError> {
    let (asked, _) = request.into_parts();
    let client = server.access.caller(&asked).address;
    let outcome = redirect_or_deliver(&server, &id, client, &asked).await;
    if let Err(refusal) = &outcome {
        server.note_refused(id, client, refusal);
    }
    outcome
}

async fn redirect_or_deliver(
    server: &Arc<Server>,
    id: &PackageId,
    client: IpAddr,
    asked: &Parts,
) -> Result<Response, RequestError> {
    check_running(server, id).map_err(|refusal| match refusal {
        RequestError::UnknownMeeting(_) => RequestError::NothingToDownload,
        other => other,
    })?;
    let (node, answer) = match chosen_node(server, id, client) {
        Some(chosen) => {
            let answer = redirect_to(&chosen, id)?;
            (Some(chosen.node_id), answer)
        }
        None => (None, deliver(server, id, asked).await?),
    };
    // Neither HEAD nor a revalidation (304) is counted.
    if asked.method == Method::GET && (node.is_some() || answer.status().is_success()) {
        let at = server.clock.now();
        server.download_log().note(DownloadRecord { at, meeting: id.clone(), node, client });
    }
    Ok(answer)
}

/// For nodes: always from here, also if the meeting is over. Those that distribute a package
/// before the start have been told where it lies; others would give it to clients.
pub(crate) async fn direct(
    State(server): Shared,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, RequestError> {
    let is_prestaged = server.book().get(&id)?.prestaged;
    if is_prestaged {
        return Err(RequestError::UnknownMeeting(id));
    }
    deliver(&server, &id, &request.into_parts().0).await
}

/// For nodes that pull from each other: the digests of the package's pieces.
pub(crate) async fn pieces(
    State(server): Shared,
    PathId(id): PathId,
) -> Result<Response, RequestError> {
    server.book().get(&id)?;
    let digests = server.piece_digests(&id).await.map_err(|refusal| match refusal {
        // No contract wants another answer here.
        RequestError::NoPackage => RequestError::NothingToDownload,
        other => other,
    });
    let (sha256, digests) = digests?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ETAG, format!("\"{sha256}\"")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    Ok((headers, digests).into_response())
}

/// The static file that `active/meetings` offers.
pub(crate) async fn offered_file(
    State(server): Shared,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (asked, _) = request.into_parts();
    let known = id_of_file(&name).filter(|id| server.book().find(id.as_str()).is_some());
    let Some(id) = known else { return wire::not_found(asked.uri).await };
    match deliver(&server, &id, &asked).await {
        // A plain file at the real main server: missing is 404.
        Err(RequestError::NoPackage) => wire::not_found(asked.uri).await,
        other => other.into_response(),
    }
}

/// A place to download from.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DownloadSource {
    /// `host:port`.
    ip: String,
    download_url: String,
}

/// The newer shape: main server first, then the nodes that have it.
pub(crate) async fn sources(
    State(server): Shared,
    PathId(id): PathId,
    request: Request,
) -> Result<Json<Vec<DownloadSource>>, RequestError> {
    check_running(&server, &id)?;
    let (asked, _) = request.into_parts();
    let caller = server.access.caller(&asked);
    // The name by which this client reaches us; only HTTP/1.0 may leave it out.
    let own: Option<Authority> =
        asked.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let mut hosts: Vec<_> = own.iter().map(|own| (caller.secure, own.to_string())).collect();
    if let Some(current) = server.digest(&id) {
        let now = server.clock.now();
        let candidates = server.registry().candidates(&id, current, caller.address, now);
        hosts.extend(candidates.into_iter().map(|node| (node.https, node.address)));
    }
    let sources = hosts.into_iter().map(|(https, ip)| {
        let download_url = download_url(https, &ip, &id);
        DownloadSource { ip, download_url }
    });
    Ok(Json(sources.collect()))
}

fn check_running(server: &Server, id: &PackageId) -> Result<(), RequestError> {
    let book = server.book();
    let meeting: &Meeting = book.get(id)?;
    if meeting.is_running() { Ok(()) } else { Err(RequestError::NotRunning(id.clone())) }
}

fn chosen_node(server: &Server, id: &PackageId, client: IpAddr) -> Option<RedirectCandidate> {
    let current = server.digest(id)?;
    let draw = |below| fastrand::usize(..below);
    server.registry().send_client(id, current, client, server.clock.now(), draw)
}

fn download_url(https: bool, host: &str, id: &PackageId) -> String {
    let (scheme, id) = (scheme(https), id.segment());
    format!("{scheme}://{host}/api/v1/meetings/{id}/download-package")
}

fn redirect_to(node: &RedirectCandidate, id: &PackageId) -> Result<Response, RequestError> {
    Response::builder()
        .status(StatusCode::FOUND)
        .header(header::LOCATION, download_url(node.https, &node.address, id))
        .header(header::CONTENT_LENGTH, 0)
        // Another client, or the same one later, may be sent elsewhere.
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::empty())
        .map_err(|error| RequestError::Storage(error.to_string()))
}

async fn deliver(server: &Server, id: &PackageId, asked: &Parts) -> Result<Response, RequestError> {
    let package = server.package(id).await?;
    let name_and_headers = |_: &Manifest| (file_name(id), HeaderMap::new());
    let permit = || Ok(server.traffic.acquire_unlimited());
    let transport = Transport::of(&asked.extensions);
    delivery::respond(&asked.method, &asked.headers, package, name_and_headers, permit, &transport)
}
