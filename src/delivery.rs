//! A stored package as an HTTP answer (RFC 9110): validators, conditions,
//! one range, and a body that never ends politely unless it is whole.
//!
//! The node and the embedded main server both answer with it; who may have a
//! package, and where a missing one comes from, is theirs to decide.

pub mod conditions;
mod following;
pub mod growing;
pub mod range;

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::{package::Manifest, store::Stored};
use conditions::Verdict;

/// Large enough that reading costs few switches to the blocking pool, small
/// enough that a thousand slow readers stay affordable.
const CHUNK_BYTES: usize = 128 << 10;

/// What was sent so far and what is being sent.
#[derive(Debug, Default)]
pub struct Traffic {
    served_bytes: AtomicU64,
    under_way: AtomicU64,
}

impl Traffic {
    pub fn served_bytes(&self) -> u64 {
        self.served_bytes.load(Ordering::Relaxed)
    }

    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// The answer to a `GET` or `HEAD` of a package.
pub fn respond(
    method: &Method,
    asked: &HeaderMap,
    (stored, file): (Arc<Stored>, File),
    file_name: &str,
    traffic: &Arc<Traffic>,
) -> std::io::Result<Response<Body>> {
    let manifest = &stored.manifest;
    let whole = 0..manifest.size_bytes;
    let (status, part) = match conditions::evaluate(method, asked, manifest) {
        Verdict::Whole => (StatusCode::OK, Some(whole)),
        Verdict::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        Verdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let body = match &part {
        Some(range) if method == Method::GET => {
            stored.note_served();
            Body::from_stream(Download::new(file, range, traffic.clone())?)
        }
        // Of a HEAD's answer, only the length of it is sent.
        None => Body::from(explanation(status)),
        Some(_) => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    describe(response.headers_mut(), status, part, manifest, file_name);
    Ok(response)
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

fn describe(
    headers: &mut HeaderMap,
    status: StatusCode,
    part: Option<Range<u64>>,
    manifest: &Manifest,
    file_name: &str,
) {
    let size = manifest.size_bytes;
    let mut set = |name, value: String| {
        // Made of hex, numbers, dates and plain ids only.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, manifest.etag());
    set(header::LAST_MODIFIED, http_date(manifest.modified_s));
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    // Caches may keep a package but must ask whether it is still current.
    set(header::CACHE_CONTROL, "no-cache".to_owned());
    match part {
        Some(range) => {
            set(header::CONTENT_TYPE, "application/zip".to_owned());
            set(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\""));
            set(header::CONTENT_LENGTH, (range.end - range.start).to_string());
            let digest = format!("sha-256=:{}:", manifest.sha256.base64());
            set(header::HeaderName::from_static("repr-digest"), digest);
            if status == StatusCode::PARTIAL_CONTENT {
                let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                set(header::CONTENT_RANGE, value);
            }
        }
        None => {
            if status == StatusCode::RANGE_NOT_SATISFIABLE {
                set(header::CONTENT_RANGE, format!("bytes */{size}"));
            }
            if status == StatusCode::NOT_MODIFIED {
                // The length of what a 200 would have carried (RFC 9110, 8.6).
                set(header::CONTENT_LENGTH, size.to_string());
            }
            if !explanation(status).is_empty() {
                set(header::CONTENT_TYPE, "application/json".to_owned());
            }
        }
    }
}

pub fn http_date(at_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at_s))
}

/// Bytes of an open file on their way to one client. Ends early only by an
/// error or when dropped; hyper then breaks the connection, because the
/// announced length was not reached.
struct Download {
    bytes: ReaderStream<tokio::io::Take<tokio::fs::File>>,
    _under_way: UnderWay,
}

/// Counts a download from its first byte to its end, however it ends.
struct UnderWay(Arc<Traffic>);

impl Download {
    fn new(mut file: File, range: &Range<u64>, traffic: Arc<Traffic>) -> std::io::Result<Self> {
        file.seek(SeekFrom::Start(range.start))?;
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(CHUNK_BYTES);
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        let part = file.take(range.end - range.start);
        Ok(Self {
            bytes: ReaderStream::with_capacity(part, CHUNK_BYTES),
            _under_way: UnderWay(traffic),
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream for Download {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.bytes).poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            self._under_way.0.served_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        next
    }
}
