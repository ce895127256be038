//! A stored package as an HTTP answer (RFC 9110): validators, conditions,
//! one range, and a body that never ends politely unless it is whole.
//!
//! The node and the embedded main server both answer with it; who may have a
//! package, and where a missing one comes from, is theirs to decide.

mod body;
pub mod conditions;
mod following;
pub mod growing;
pub mod range;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};

use crate::{
    listen::Line,
    metrics::{Counter, Histogram, Page, Requests, Tally, histogram::DOWNLOADS, labels},
    package::{MEDIA_TYPE, Manifest, PackageId},
    store::Package,
};
use body::Download;
use conditions::Verdict;

/// What was sent so far and what is being sent.
#[derive(Debug)]
pub struct Traffic {
    served_bytes: Counter,
    under_way: AtomicU64,
    ended: Tally<Ended>,
    duration: Histogram,
    /// All that was asked for, not only packages.
    pub requests: Arc<Requests>,
}

labels! {
    /// How a download ended.
    Ended {
        /// Its last byte was given to the network.
        Whole => "completed",
        /// The client left, or the package could not be read on.
        BrokenOff => "aborted",
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            served_bytes: Counter::default(),
            under_way: AtomicU64::default(),
            ended: Tally::default(),
            duration: Histogram::of(DOWNLOADS),
            requests: Arc::default(),
        }
    }
}

impl Traffic {
    pub fn served_bytes(&self) -> u64 {
        self.served_bytes.get()
    }

    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub fn show(&self, page: &mut Page) {
        self.requests.show(page);
        page.tally(
            "edge_mirror_downloads_total",
            "Downloads of packages, whole or in part, that have ended.",
            "outcome",
            &self.ended,
        );
        page.gauge("edge_mirror_downloads_in_progress", "Downloads of packages under way.")
            .put(&[], self.under_way());
        let help = "Time from a download's beginning until its last byte was given to the network or it was broken off.";
        page.histogram("edge_mirror_download_duration_seconds", help)
            .put_histogram(&[], &self.duration);
        page.count(
            "edge_mirror_served_bytes_total",
            "Bytes of packages given to the network.",
            &self.served_bytes,
        );
    }
}

/// The answer to a `GET` or `HEAD` of a package. What `besides` it says of every
/// package, and under which name, is asked for only once for each open copy.
pub fn respond(
    method: &Method,
    asked: &HeaderMap,
    (stored, opened): Package,
    besides: impl FnOnce(&PackageId) -> (String, HeaderMap),
    traffic: &Arc<Traffic>,
    line: Line,
) -> Response<Body> {
    let manifest = &stored.manifest;
    let whole = 0..manifest.size_bytes;
    let (status, part) = match conditions::evaluate(method, asked, manifest) {
        Verdict::Whole => (StatusCode::OK, Some(whole)),
        Verdict::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        Verdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let described = opened.described.get_or_init(|| {
        let (file_name, headers) = besides(&manifest.id);
        describe(manifest, &file_name, headers)
    });
    let mut headers = described.clone();
    adjust(&mut headers, status, part.as_ref(), manifest.size_bytes);
    let body = match part {
        Some(range) if method == Method::GET => {
            stored.note_served();
            let under_way = UnderWay::begin(traffic, range.end - range.start);
            Body::new(Download::new(opened, range, under_way, line))
        }
        // Of a HEAD's answer, only the length of it is sent.
        None => Body::from(explanation(status)),
        Some(_) => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What the body says where there is no part of the package to send.
fn explanation(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PRECONDITION_FAILED => {
            r#"{"detail":"会议包已更新 / the package is another version than was asked for"}"#
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            r#"{"detail":"请求的范围超出会议包 / the range begins behind the end of the package"}"#
        }
        _ => "",
    }
}

/// What an answer with the whole package says of it.
fn describe(manifest: &Manifest, file_name: &str, mut headers: HeaderMap) -> HeaderMap {
    // Made of hex, numbers, dates and plain ids only.
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, MEDIA_TYPE);
    set(header::CONTENT_LENGTH, &manifest.size_bytes.to_string());
    set(header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{file_name}\""));
    set(header::ETAG, &manifest.etag());
    set(header::LAST_MODIFIED, &http_date(manifest.modified_s));
    set(header::ACCEPT_RANGES, "bytes");
    // Caches may keep a package but must ask whether it is still current.
    set(header::CACHE_CONTROL, "no-cache");
    let digest = format!("sha-256=:{}:", manifest.sha256.base64());
    set(header::HeaderName::from_static("repr-digest"), &digest);
    headers
}

/// What differs where the answer is not the whole.
fn adjust(headers: &mut HeaderMap, status: StatusCode, part: Option<&Range<u64>>, size: u64) {
    let mut range = |value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    };
    match part {
        Some(part) if status == StatusCode::PARTIAL_CONTENT => {
            range(format!("bytes {}-{}/{size}", part.start, part.end - 1));
            headers.insert(header::CONTENT_LENGTH, (part.end - part.start).into());
        }
        Some(_) => {}
        None => {
            if status == StatusCode::RANGE_NOT_SATISFIABLE {
                range(format!("bytes */{size}"));
            }
            headers.remove(header::CONTENT_DISPOSITION);
            headers.remove("repr-digest");
            headers.remove(header::CONTENT_TYPE);
            // A 304 keeps the length of what a 200 would have carried (RFC 9110, 8.6).
            if status != StatusCode::NOT_MODIFIED {
                headers.remove(header::CONTENT_LENGTH);
            }
            if !explanation(status).is_empty() {
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
            }
        }
    }
}

pub fn http_date(at_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at_s))
}

/// Counts a download from its beginning to its end, however it ends.
struct UnderWay {
    traffic: Arc<Traffic>,
    began: Instant,
    left_bytes: u64,
}

impl UnderWay {
    fn begin(traffic: &Arc<Traffic>, bytes: u64) -> Self {
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        Self { traffic: traffic.clone(), began: Instant::now(), left_bytes: bytes }
    }

    fn sent(&mut self, bytes: u64) {
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        self.traffic.served_bytes.add(bytes);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let traffic = &self.traffic;
        traffic.under_way.fetch_sub(1, Ordering::Relaxed);
        traffic.ended.one(if self.left_bytes == 0 { Ended::Whole } else { Ended::BrokenOff });
        traffic.duration.observe(self.began.elapsed());
    }
}
