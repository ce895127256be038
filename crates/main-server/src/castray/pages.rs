//! The page, and files for whoever downloads them.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_http::wire::{self, pages};
use edge_mirror_protocol::package::percent_encoded;
use tokio_util::io::ReaderStream;

use super::{CastRayGateway, Gateway, body::CastRayRefusal};

pub(super) async fn start() -> Html<&'static str> {
    Html(
        "<!doctype html>\n<html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"0; url=/ui\"><title>edge-mirror</title></head>\
         <body><a href=\"/ui\">/ui</a></body></html>\n",
    )
}

pub(super) async fn ui(asked: HeaderMap) -> Response {
    pages::page("castray.html", &asked)
}

/// A part of the page, or a file that a client may have put here.
pub(super) async fn file(
    State(gateway): Gateway,
    name: Result<Path<String>, PathRejection>,
    asked: HeaderMap,
) -> Response {
    let Ok(Path(name)) = name else { return unknown() };
    if pages::has(&name) {
        return pages::page(&name, &asked);
    }
    match download(&gateway, name).await {
        Ok(answer) => answer,
        Err(CastRayRefusal::Text(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, _)) => unknown(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn download(gateway: &Arc<CastRayGateway>, name: String) -> Result<Response, CastRayRefusal> {
    let (folder, of) = (gateway.folder.clone(), name.clone());
    let opened = tasks::blocking_limited(move || {
        let file = folder.open_file(&of)?;
        let bytes = file.metadata()?.len();
        Ok::<_, super::folder::FolderError>((file, bytes))
    });
    let (file, bytes) = opened.await?;
    // Nothing of it is shown as a page of ours.
    let disposition = format!("attachment; filename*=UTF-8''{}", percent_encoded(&name));
    let fields = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
    Ok((fields, Body::from_stream(stream)).into_response())
}

fn unknown() -> Response {
    wire::detail(StatusCode::NOT_FOUND, "Not Found")
}
