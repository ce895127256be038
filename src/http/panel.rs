//! The web panel: files of `web/`, embedded in the binary.

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use sha2::{Digest, Sha256};

use crate::wire;

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal as $media_type:literal),+ $(,)?) => {
        &[$(File {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!("../../web/", $name)),
        }),+]
    };
}

const FILES: &[File] = files! {
    "index.html" as "text/html; charset=utf-8",
    "style.css" as "text/css; charset=utf-8",
    "panel.js" as "text/javascript; charset=utf-8",
};

/// Nothing from elsewhere, no inline script, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

pub(super) async fn redirect() -> Redirect {
    Redirect::temporary("/static/index.html")
}

pub(super) async fn file(Path(path): Path<String>, asked: HeaderMap, uri: Uri) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == path) else {
        return wire::not_found(uri).await;
    };
    let digest = Sha256::digest(file.bytes);
    let etag = format!("\"{}\"", crate::package::Sha256::new(digest.into()));
    let headers = [
        (header::CONTENT_TYPE, file.media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::ETAG, etag.as_str()),
    ];
    let known = asked.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    match known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag)) {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, file.bytes).into_response(),
    }
}
