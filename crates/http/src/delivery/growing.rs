//! A package that is still being pulled as an HTTP answer: the same as of a stored one,
//! except for what can't be known or promised before it is verified.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};
use edge_mirror_protocol::object::MediaType;
use edge_mirror_store::growing::PartialPackage;

use super::{
    ActiveDownload, DownloadPermit, adjust, attachment,
    conditions::{self, DeliveryVerdict},
    explanation,
    following::CutThroughDownload,
};
use crate::listen::Transport;

/// Returns the answer to a `GET` or `HEAD`; None if the conditions can't be judged before
/// the package is verified. `permit` is called only if there is a body to send.
pub fn respond<E>(
    method: &Method,
    asked: &HeaderMap,
    partial: &Arc<PartialPackage>,
    file_name: &str,
    permit: impl FnOnce() -> Result<DownloadPermit, E>,
    transport: &Transport,
) -> Result<Option<Response<Body>>, E> {
    let Some(size) = partial.followable_bytes() else { return Ok(None) };
    let etag = partial.sha256().map(|sha256| format!("\"{sha256}\""));
    let Some(verdict) = conditions::evaluate_early(method, asked, etag.as_deref(), size) else {
        return Ok(None);
    };
    let (status, part) = match verdict {
        DeliveryVerdict::Whole => (StatusCode::OK, Some(0..size)),
        DeliveryVerdict::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        DeliveryVerdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        DeliveryVerdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        DeliveryVerdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let body = match &part {
        Some(range) if method == Method::GET => {
            let under_way = ActiveDownload::begin(permit()?, range.end - range.start);
            let reader = partial.reader();
            CutThroughDownload::new(partial, reader, range.clone(), under_way, transport)
                .into_body()
        }
        Some(_) => Body::empty(),
        None => Body::from(explanation(status)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut headers = describe(partial, size, file_name);
    adjust(&mut headers, status, part.as_ref(), size);
    *response.headers_mut() = headers;
    Ok(Some(response))
}

/// Returns the answer to another node, which verifies the bytes itself: all that come
/// from `first` on, to their end. `permit` is called only if there is a body to send.
pub fn respond_unverified<E>(
    method: &Method,
    partial: &Arc<PartialPackage>,
    first: u64,
    permit: impl FnOnce() -> Result<DownloadPermit, E>,
    transport: &Transport,
) -> Result<Response<Body>, E> {
    let total = partial.total_bytes();
    let end = total.unwrap_or(u64::MAX);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    if first >= end {
        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        return Ok(response);
    }
    if let Some(total) = total {
        headers.insert(header::CONTENT_LENGTH, (total - first).into());
    }
    if first > 0 {
        // Of unknown length: as of a live representation (RFC 8673, 2.2).
        let (last, length) = match total {
            Some(total) => (total - 1, total.to_string()),
            None => (LIVE_END, "*".to_owned()),
        };
        if let Ok(range) = HeaderValue::try_from(format!("bytes {first}-{last}/{length}")) {
            headers.insert(header::CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if method == Method::GET {
        let under_way = ActiveDownload::begin(permit()?, end - first);
        let reader = partial.unverified_reader();
        let body = CutThroughDownload::new(partial, reader, first..end, under_way, transport);
        *response.body_mut() = body.into_body();
    }
    Ok(response)
}

/// Last byte of a range that has no end yet: the largest that all can represent (RFC
/// 8673, 2.1).
pub const LIVE_END: u64 = (1 << 53) - 1;

/// Returns the headers for the whole package.
fn describe(partial: &PartialPackage, size: u64, file_name: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Hex, numbers and encoded ids are valid.
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    // Only packages are followed: HELD_BACK_BYTES suits archives alone.
    set(header::CONTENT_TYPE, MediaType::ZIP.as_str());
    set(header::CONTENT_LENGTH, &size.to_string());
    set(header::CONTENT_DISPOSITION, &attachment(file_name));
    set(header::ACCEPT_RANGES, "bytes");
    set(header::CACHE_CONTROL, "no-cache");
    // No date: if this version fails, another may get it. And a weak tag: with a strong
    // one, a client that was cut off, because the bytes were not those announced, could
    // complete them with good ones.
    if let Some(sha256) = partial.sha256() {
        set(header::ETAG, &format!("W/\"{sha256}\""));
        let digest = format!("sha-256=:{}:", sha256.base64());
        set(HeaderName::from_static("repr-digest"), &digest);
    }
    headers
}
