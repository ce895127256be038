//! A stored package as an HTTP answer (RFC 9110): validators, conditions, one range, and
//! a body that never ends cleanly unless it is complete.
//!
//! Used by the node and by the embedded main server; who may have a package, and where a
//! missing one comes from, is their decision.

mod body;
mod chunks;
pub mod conditions;
mod ending;
mod following;
pub mod growing;
mod places;
pub mod range;
mod share;
#[cfg(test)]
#[path = "delivery/slow/tests.rs"]
mod slow_readers;
mod send_queue;

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use edge_mirror_base::{
    metrics::{Counter, CounterFamily, Exposition, Histogram, histogram::DOWNLOADS, labels},
    pacer::Pacer,
};
use edge_mirror_protocol::{
    DownloadTotals,
    extension::PROBE_HEADER,
    package::{LATEST_S, Manifest, percent_encoded},
};
use edge_mirror_store::{OpenedPackage, StoredPackage};

use crate::{listen::Transport, requests::RequestMetrics};
use body::DownloadBody;
use conditions::DeliveryVerdict;
use places::DownloadLimiter;
pub use places::{DownloadLimit, DownloadPermit};
use send_queue::SendQueue;
use share::BandwidthShare;

/// Counters and limits of the downloads.
#[derive(Debug)]
pub struct Traffic {
    served_bytes: Counter,
    /// Those of other nodes, which are no clients' downloads.
    is_for_nodes: bool,
    places: DownloadLimiter,
    pacer: Pacer,
    send_queue: SendQueue,
    ended: CounterFamily<DownloadEnd>,
    duration: Histogram,
    /// Requests to all routes, not only packages.
    pub requests: Arc<RequestMetrics>,
}

labels! {
    /// The result of a download.
    DownloadEnd {
        /// The last byte was handed to the network.
        Whole => "completed",
        /// The client left, or reading the package failed.
        BrokenOff => "aborted",
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            served_bytes: Counter::default(),
            is_for_nodes: false,
            places: DownloadLimiter::default(),
            pacer: Pacer::default(),
            send_queue: SendQueue::default(),
            ended: CounterFamily::default(),
            duration: Histogram::of(DOWNLOADS),
            requests: Arc::default(),
        }
    }
}

impl Traffic {
    /// Of other nodes: their downloads don't count for a package as clients' do.
    pub fn for_nodes() -> Self {
        Self { is_for_nodes: true, ..Self::default() }
    }

    fn note_served(&self, stored: &StoredPackage) {
        if !self.is_for_nodes {
            stored.note_served();
        }
    }

    pub fn served_bytes(&self) -> u64 {
        self.served_bytes.get()
    }

    /// Counts bytes that are sent otherwise than by [`respond`], and waits until they are
    /// within the limit.
    pub async fn throttle(&self, bytes: usize) {
        self.served_bytes.add(bytes as u64);
        self.pacer.throttle(bytes).await;
    }

    /// Returns how many clients' downloads have ended, and how.
    pub fn totals(&self) -> DownloadTotals {
        let [completed, broken_off] =
            [DownloadEnd::Whole, DownloadEnd::BrokenOff].map(|end| self.ended.counter(end).get());
        DownloadTotals { completed, broken_off }
    }

    /// Goes on counting where the process before this one stopped.
    pub fn continue_from(&self, served_bytes: u64) {
        self.served_bytes.add(served_bytes);
    }

    pub fn encode(&self, page: &mut Exposition) {
        self.requests.encode(page);
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

/// Returns the answer to a `GET` or `HEAD` of a package. `name_and_headers` gives the file name
/// and further headers, once for each open copy; `permit` is called only if there is a
/// body to send.
pub fn respond<E>(
    method: &Method,
    asked: &HeaderMap,
    (stored, opened): OpenedPackage,
    name_and_headers: impl FnOnce(&Manifest) -> (String, HeaderMap),
    permit: impl FnOnce() -> Result<DownloadPermit, E>,
    transport: &Transport,
) -> Result<Response<Body>, E> {
    let manifest = &stored.manifest;
    let whole = 0..manifest.size_bytes;
    let (status, part) = match conditions::evaluate(method, asked, manifest) {
        DeliveryVerdict::Whole => (StatusCode::OK, Some(whole)),
        DeliveryVerdict::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        DeliveryVerdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        DeliveryVerdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        DeliveryVerdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let described = opened.attachment(|| {
        let (file_name, headers) = name_and_headers(manifest);
        describe(manifest, &file_name, headers)
    });
    let mut headers = described.clone();
    adjust(&mut headers, status, part.as_ref(), manifest.size_bytes);
    let body = match part {
        Some(range) if method == Method::GET => {
            let is_probe =
                status == StatusCode::PARTIAL_CONTENT && asked.contains_key(PROBE_HEADER);
            let mut under_way = ActiveDownload::begin(permit()?, range.end - range.start);
            under_way.is_probe = is_probe;
            if !is_probe {
                under_way.permit.traffic.note_served(&stored);
            }
            Body::new(DownloadBody::new(opened, range, under_way, transport))
        }
        // For HEAD, only the length of this body is sent.
        None => Body::from(explanation(status)),
        Some(_) => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Returns the body if no part of the package is sent.
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

/// Returns the headers for the whole package.
fn describe(manifest: &Manifest, file_name: &str, mut headers: HeaderMap) -> HeaderMap {
    // Hex, numbers, dates and encoded ids are valid.
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, manifest.media_type.as_str());
    set(header::CONTENT_LENGTH, &manifest.size_bytes.to_string());
    set(header::CONTENT_DISPOSITION, &attachment(file_name));
    set(header::ETAG, &manifest.etag());
    set(header::LAST_MODIFIED, &http_date(manifest.modified_s));
    set(header::ACCEPT_RANGES, "bytes");
    // Caches may store a package but must revalidate it.
    set(header::CACHE_CONTROL, "no-cache");
    let digest = format!("sha-256=:{}:", manifest.sha256.base64());
    set(header::HeaderName::from_static("repr-digest"), &digest);
    headers
}

/// Formats `Content-Disposition` (RFC 6266, 4.3). A plain name is sent as it is; for
/// others, old clients get its plain characters, and new ones `filename*`.
fn attachment(file_name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if file_name.chars().all(plain) {
        return format!("attachment; filename=\"{file_name}\"");
    }
    let in_part: String = file_name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let whole = percent_encoded(file_name);
    format!("attachment; filename=\"{in_part}\"; filename*=UTF-8''{whole}")
}

/// Adjusts headers if the answer is not the whole.
fn adjust(headers: &mut HeaderMap, status: StatusCode, part: Option<&Range<u64>>, size: u64) {
    let range = |headers: &mut HeaderMap, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    };
    match part {
        Some(part) if status == StatusCode::PARTIAL_CONTENT => {
            // First: replacing in a full map would grow it.
            headers.insert(header::CONTENT_LENGTH, (part.end - part.start).into());
            range(headers, format!("bytes {}-{}/{size}", part.start, part.end - 1));
        }
        Some(_) => {}
        None => {
            if status == StatusCode::RANGE_NOT_SATISFIABLE {
                range(headers, format!("bytes */{size}"));
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

pub(crate) fn http_date(at_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at_s.min(LATEST_S)))
}

/// Counts a download from its beginning to its end, successful or not.
struct ActiveDownload {
    permit: DownloadPermit,
    began: Instant,
    left_bytes: u64,
    share: BandwidthShare,
    /// Of the main server, which compares a part of the package: no client's download.
    is_probe: bool,
}

impl ActiveDownload {
    fn begin(permit: DownloadPermit, bytes: u64) -> Self {
        Self {
            permit,
            began: Instant::now(),
            left_bytes: bytes,
            share: BandwidthShare::default(),
            is_probe: false,
        }
    }

    /// Returns how many of the `wanted` bytes `serve.bandwidth` allows now.
    fn poll_allowed(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<u64> {
        self.share.poll(cx, &self.permit.traffic, wanted)
    }

    /// Yields to other downloads until it is this one's turn.
    fn wait_for_turn(&self) -> impl Future<Output = ()> + Send + 'static {
        let traffic = self.permit.traffic.clone();
        async move { traffic.send_queue.next().await }
    }

    fn record_sent(&mut self, bytes: u64) {
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        self.share.sent(bytes);
        self.permit.traffic.served_bytes.add(bytes);
    }
}

impl Drop for ActiveDownload {
    fn drop(&mut self) {
        if self.is_probe {
            return;
        }
        let traffic = &self.permit.traffic;
        traffic.ended.inc(if self.left_bytes == 0 {
            DownloadEnd::Whole
        } else {
            DownloadEnd::BrokenOff
        });
        traffic.duration.observe(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_any_id_and_by_a_plain_one_as_ever() {
        for (name, told) in [
            ("meeting_a.B-1_.zip", "filename=\"meeting_a.B-1_.zip\""),
            (
                "meeting_会议 1.zip",
                "filename=\"meeting____1.zip\"; filename*=UTF-8''meeting_%E4%BC%9A%E8%AE%AE%201.zip",
            ),
            ("a\"b;c%.zip", "filename=\"a_b_c_.zip\"; filename*=UTF-8''a%22b%3Bc%25.zip"),
        ] {
            assert_eq!(attachment(name), format!("attachment; {told}"));
        }
    }
}
