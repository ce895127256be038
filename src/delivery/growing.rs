//! A package that is still being pulled as an HTTP answer: the same as of a
//! stored one, but for what can't be known or promised before it is verified.

use std::{ops::Range, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};

use super::{
    Traffic,
    conditions::{self, Verdict},
    explanation,
    following::Following,
};
use crate::store::growing::Growing;

/// The answer to a `GET` or `HEAD`; none where the conditions can't be judged
/// before the package is verified.
pub fn respond(
    method: &Method,
    asked: &HeaderMap,
    growing: &Arc<Growing>,
    file_name: &str,
    traffic: &Arc<Traffic>,
) -> Option<Response<Body>> {
    let size = growing.total_bytes();
    let etag = growing.sha256().map(|sha256| format!("\"{sha256}\""));
    let verdict = conditions::evaluate_early(method, asked, etag.as_deref(), size)?;
    let (status, part) = match verdict {
        Verdict::Whole => (StatusCode::OK, Some(0..size)),
        Verdict::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        Verdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let body = match &part {
        Some(range) if method == Method::GET => {
            Following::new(growing.clone(), range.clone(), traffic.clone()).into_body()
        }
        Some(_) => Body::empty(),
        None => Body::from(explanation(status)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    describe(response.headers_mut(), status, part, growing, file_name);
    Some(response)
}

fn describe(
    headers: &mut HeaderMap,
    status: StatusCode,
    part: Option<Range<u64>>,
    growing: &Growing,
    file_name: &str,
) {
    let size = growing.total_bytes();
    let mut set = |name, value: String| {
        // Made of hex, numbers and plain ids only.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    // No date: another version may come to have it, should this one fail. And
    // a weak tag: a strong one would let a client that was cut off, because
    // the bytes were not those announced, complete them with good ones.
    if let Some(sha256) = growing.sha256() {
        set(header::ETAG, format!("W/\"{sha256}\""));
    }
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::CACHE_CONTROL, "no-cache".to_owned());
    match part {
        Some(range) => {
            set(header::CONTENT_TYPE, "application/zip".to_owned());
            set(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\""));
            set(header::CONTENT_LENGTH, (range.end - range.start).to_string());
            if let Some(sha256) = growing.sha256() {
                let digest = format!("sha-256=:{}:", sha256.base64());
                set(HeaderName::from_static("repr-digest"), digest);
            }
            if status == StatusCode::PARTIAL_CONTENT {
                let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                set(header::CONTENT_RANGE, value);
            }
        }
        None if status == StatusCode::NOT_MODIFIED => set(header::CONTENT_LENGTH, size.to_string()),
        None => {
            if status == StatusCode::RANGE_NOT_SATISFIABLE {
                set(header::CONTENT_RANGE, format!("bytes */{size}"));
            }
            set(header::CONTENT_TYPE, "application/json".to_owned());
        }
    }
}
