//! Packages at a main server: where they lie, how they are asked for, and what an
//! answer means for a pull. No status code or header leaves this file.

use std::time::Duration;

use bytes::Bytes;
use edge_mirror_protocol::{
    fleet::FleetOrigins,
    package::{PackageId, PackageRoute, Sha256, Validators, sha256_of_field},
};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::{Upstream, UpstreamError, field, root_cause};

/// The folder that offered packages must lie in.
const UPLOADS: &str = "/uploads/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageLocation {
    /// A path as the main server wrote it, not percent-encoded.
    Uploads(String),
    Direct,
}

/// The headers of a package's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedPackage {
    pub length: Option<u64>,
    pub sha256: Option<Sha256>,
    pub validators: Validators,
    pub ranges: bool,
}

impl AnnouncedPackage {
    /// False if it is of another length for certain.
    pub(crate) fn fits_length(&self, other: Option<u64>) -> bool {
        self.length.zip(other).is_none_or(|(length, other)| length == other)
    }
}

/// The part of a package that a request asks for.
#[derive(Clone, Copy, Debug)]
pub enum PackageRequest<'a> {
    Whole,
    /// The bytes from `first` on, if the version is still that of the strong tag;
    /// `total` is the length that was announced with it.
    Rest {
        first: u64,
        total: Option<u64>,
        etag: &'a str,
    },
    /// The whole, if it is another version.
    IfChanged(&'a Validators),
}

/// The part of a package that an answer brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerExtent {
    /// The bytes from the first one on. `is_page`: a text, which no package is,
    /// though the status is a success.
    Whole { is_page: bool },
    /// Exactly the bytes that [`PackageRequest::Rest`] asks for.
    Rest,
    /// None: the version is still the same.
    Unchanged,
    /// Nothing that fits the request; the reason.
    Unusable(String),
}

/// An answer whose body has not been read yet.
pub struct OriginAnswer {
    pub announced: AnnouncedPackage,
    pub extent: AnswerExtent,
    pub body: OriginBody,
}

/// The bytes of an answer. They have no time limit before `start`.
pub struct OriginBody {
    response: Response,
    /// Before the start, there are none.
    limits: Option<TransferLimits>,
    /// All must have come by then, or enough have come lately.
    deadline: Instant,
    arrived_at: Instant,
    /// Bytes that came since then.
    lately: (Instant, u64),
}

/// Limits of the time that an answer takes.
#[derive(Clone, Copy, Debug)]
pub struct TransferLimits {
    /// All must have come by then, or come fast enough: a main server that many nodes ask
    /// is slow for all of them, and breaking off would not make it faster.
    pub total: Duration,
    /// Longest time without a byte.
    pub stall: Duration,
    /// So many bytes within `stall` are fast enough.
    pub least_bytes: u64,
}

/// The end of a wait for more bytes.
pub enum TransferEvent {
    Chunk(Bytes),
    End,
    /// Nothing came until the time that the caller named.
    Waited,
}

pub enum TransferError {
    /// The connection broke; the cause.
    Broken(String),
    /// No byte came for the longest time without one.
    Stalled,
    /// The deadline has passed.
    TooSlow,
}

impl PackageLocation {
    /// The location that a `package_url` names, if it may be requested: a path under
    /// `/uploads/`, or the same as a whole URL of one of the main servers.
    pub(crate) fn from_package_url(fleet: &FleetOrigins, package_url: &str) -> Option<Self> {
        let mut base_urls = fleet.base_urls().iter();
        let path = base_urls.find_map(|base_url| {
            package_url.strip_prefix(base_url.as_str()).filter(|path| path.starts_with(UPLOADS))
        });
        let path = path.unwrap_or(package_url);
        let inner = path.strip_prefix(UPLOADS)?;
        let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        let control = inner.chars().any(char::is_control);
        (!control && inner.split('/').all(plain)).then(|| Self::Uploads(path.to_owned()))
    }

    pub fn route(&self) -> PackageRoute {
        match self {
            Self::Uploads(_) => PackageRoute::PackageUrl,
            Self::Direct => PackageRoute::Direct,
        }
    }

    /// Every segment is encoded whole: a `#`, `?` or `%` in a title is a character
    /// there, not syntax.
    pub fn url(&self, origin: &str, id: &PackageId) -> Url {
        let mut url = Url::parse(origin).expect("made of a validated host and port");
        if let Ok(mut segments) = url.path_segments_mut() {
            match self {
                Self::Uploads(path) => segments.clear().extend(path.split('/').skip(1)),
                Self::Direct => segments.clear().extend([
                    "api",
                    "v1",
                    "meetings",
                    id.as_str(),
                    "download-package-direct",
                ]),
            };
        }
        url
    }
}

impl PackageRequest<'_> {
    pub(super) fn shape(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Rest { first, etag, .. } => request
                .header(header::RANGE, format!("bytes={first}-"))
                .header(header::IF_RANGE, *etag),
            Self::IfChanged(Validators { etag: Some(etag), .. }) => {
                request.header(header::IF_NONE_MATCH, etag)
            }
            Self::IfChanged(Validators { last_modified: Some(date), .. }) => {
                request.header(header::IF_MODIFIED_SINCE, date)
            }
            Self::Whole | Self::IfChanged(_) => request,
        }
    }
}

impl OriginBody {
    pub(super) fn new(response: Response) -> Self {
        let now = Instant::now();
        Self { response, limits: None, deadline: now, arrived_at: now, lately: (now, 0) }
    }

    /// Counts time from now on.
    pub(crate) fn start(&mut self, limits: TransferLimits) {
        let now = Instant::now();
        (self.limits, self.deadline) = (Some(limits), now + limits.total);
        (self.arrived_at, self.lately) = (now, (now, 0));
    }

    fn note_progress(&mut self, bytes: usize) {
        let (Some(limits), now) = (self.limits, Instant::now()) else { return };
        let (since, lately) = &mut self.lately;
        if now.duration_since(*since) > limits.stall {
            (*since, *lately) = (now, 0);
        }
        *lately += bytes as u64;
        if *lately >= limits.least_bytes {
            self.deadline = self.deadline.max(now + limits.stall);
            self.lately = (now, 0);
        }
    }

    /// The bytes that arrived last were held up here for `pause`, which counts as
    /// no delay of the main server.
    pub(crate) fn resume_after(&mut self, pause: Duration) {
        self.deadline += pause;
        self.lately.0 += pause;
        self.arrived_at = Instant::now();
    }

    /// Waits for more bytes, and for none of the limits longer than until `until`.
    pub(crate) async fn next(
        &mut self,
        until: Option<Instant>,
    ) -> Result<TransferEvent, TransferError> {
        let limit = self.limit();
        let wake_at = [limit, until].into_iter().flatten().min();
        let chunk = match wake_at {
            Some(wake_at) => timeout_at(wake_at, self.response.chunk()).await,
            None => Ok(self.response.chunk().await),
        };
        match chunk {
            Ok(Ok(Some(chunk))) => {
                self.note_progress(chunk.len());
                Ok(TransferEvent::Chunk(chunk))
            }
            Ok(Ok(None)) => Ok(TransferEvent::End),
            Ok(Err(error)) => Err(TransferError::Broken(root_cause(&error))),
            Err(_) if limit.is_none_or(|limit| Instant::now() < limit) => Ok(TransferEvent::Waited),
            Err(_) if Instant::now() >= self.deadline => Err(TransferError::TooSlow),
            Err(_) => Err(TransferError::Stalled),
        }
    }

    fn limit(&self) -> Option<Instant> {
        self.limits.map(|limits| self.deadline.min(self.arrived_at + limits.stall))
    }
}

impl Upstream {
    /// Asks about a package without getting it.
    pub async fn head(
        &self,
        id: &PackageId,
        location: &PackageLocation,
    ) -> Result<AnnouncedPackage, UpstreamError> {
        let url = location.url(&self.base_url, id);
        let asked = format!("HEAD {url}");
        let request = self.client.head(url).header(header::ACCEPT_ENCODING, "identity");
        let response = self.send(&asked, request.timeout(self.timeout), self.timeout).await?;
        Ok(announced(&response))
    }

    /// Begins to get a package.
    pub async fn get(
        &self,
        id: &PackageId,
        location: &PackageLocation,
        wanted: PackageRequest<'_>,
    ) -> Result<OriginAnswer, UpstreamError> {
        let url = location.url(&self.base_url, id);
        let asked = format!("GET {url}");
        let request = self.client.get(url).header(header::ACCEPT_ENCODING, "identity");
        let sent = timeout(self.timeout, self.send(&asked, wanted.shape(request), self.timeout));
        let late = UpstreamError::TimedOut { asked: asked.clone(), after: self.timeout };
        let response = sent.await.map_err(|_| late)??;
        Ok(answered(response, wanted))
    }
}

/// Reads the head of an answer.
pub(super) fn answered(response: Response, wanted: PackageRequest<'_>) -> OriginAnswer {
    let (mut announced, extent) = (announced(&response), extent(&response, wanted));
    if let (AnswerExtent::Rest, PackageRequest::Rest { total, .. }) = (&extent, wanted) {
        // Its length is that of the rest.
        announced.length = total;
    }
    OriginAnswer { announced, extent, body: OriginBody::new(response) }
}

/// Does not compare versions: that is the caller's part.
fn extent(response: &Response, wanted: PackageRequest<'_>) -> AnswerExtent {
    match response.status() {
        StatusCode::OK => whole(response),
        StatusCode::NOT_MODIFIED => AnswerExtent::Unchanged,
        StatusCode::PARTIAL_CONTENT if is_rest(response, wanted) => AnswerExtent::Rest,
        other => AnswerExtent::Unusable(format!("unexpected status {other}")),
    }
}

fn whole(response: &Response) -> AnswerExtent {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
        return AnswerExtent::Unusable(format!("it is encoded as {encoding:?}"));
    }
    let kind = field(response, "content-type").unwrap_or_default();
    AnswerExtent::Whole {
        is_page: kind.starts_with("text/") || kind.starts_with("application/json"),
    }
}

/// True if the range is exactly the rest. Anything else must start over.
fn is_rest(response: &Response, wanted: PackageRequest<'_>) -> bool {
    let PackageRequest::Rest { first, total: Some(total), .. } = wanted else { return false };
    let expected = total.checked_sub(1).map(|last| format!("bytes {first}-{last}/{total}"));
    expected.is_some() && field(response, "content-range") == expected.as_deref()
}

fn announced(response: &Response) -> AnnouncedPackage {
    let field = |name| field(response, name);
    AnnouncedPackage {
        // From the header, not the body: a HEAD has no body.
        length: field("content-length").and_then(|value| value.parse().ok()),
        sha256: field("repr-digest").and_then(sha256_of_field),
        validators: Validators {
            etag: field("etag").map(ToOwned::to_owned),
            last_modified: field("last-modified").map(ToOwned::to_owned),
        },
        ranges: field("accept-ranges").is_some_and(|units| units.eq_ignore_ascii_case("bytes")),
    }
}

#[cfg(test)]
impl OriginAnswer {
    pub(crate) fn for_test(announced: AnnouncedPackage, extent: AnswerExtent) -> Self {
        let body = OriginBody::new(axum::http::Response::new("").into());
        Self { announced, extent, body }
    }
}

#[cfg(test)]
mod tests {
    use axum::http;
    use futures_util::{StreamExt, stream};

    use super::*;

    const ORIGIN: &str = "http://10.0.0.1:80";

    fn url(package_url: &str) -> Option<String> {
        let place = PackageLocation::from_package_url(&ORIGIN.into(), package_url)?;
        Some(place.url(ORIGIN, &"7".parse().unwrap()).to_string())
    }

    #[test]
    fn titles_are_encoded_to_the_letter() {
        for (raw, encoded) in [
            ("/uploads/packages/T_7_pdfs.zip", "/uploads/packages/T_7_pdfs.zip"),
            ("/uploads/packages/a#b?c%d e_7.zip", "/uploads/packages/a%23b%3Fc%25d%20e_7.zip"),
            ("/uploads/packages/会议_7.zip", "/uploads/packages/%E4%BC%9A%E8%AE%AE_7.zip"),
            ("/uploads/packages/%2e%2e_7.zip", "/uploads/packages/%252e%252e_7.zip"),
            ("/uploads/a\\b.zip", "/uploads/a%5Cb.zip"),
        ] {
            assert_eq!(url(raw), Some(format!("http://10.0.0.1{encoded}")), "{raw}");
        }
        assert!(url("http://10.0.0.1:80/uploads/a.zip").is_some());
    }

    #[test]
    fn nothing_outside_the_uploads_of_this_server_is_asked() {
        for bad in [
            "http://10.0.0.2/uploads/a.zip",
            "//10.0.0.2/uploads/a.zip",
            "/etc/a.zip",
            "/uploads/../a.zip",
            "/uploads/./a.zip",
            "/uploads//a.zip",
            "/uploads/",
            "/uploads/a\n.zip",
            "uploads/a.zip",
            "",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_direct_place_is_named_by_the_id() {
        for (id, segment) in [
            ("a.b-c_1", "a.b-c_1"),
            ("会 1", "%E4%BC%9A%201"),
            (" a", "%20a"),
            ("m#1?x", "m%231%3Fx"),
            ("50%", "50%25"),
            ("%2e%2e", "%252e%252e"),
        ] {
            assert_eq!(
                PackageLocation::Direct.url("http://[::1]:8000", &id.parse().unwrap()).as_str(),
                format!("http://[::1]:8000/api/v1/meetings/{segment}/download-package-direct")
            );
        }
    }

    #[test]
    fn an_answer_is_the_whole_the_very_rest_nothing_new_or_unusable() {
        let rest = |total| PackageRequest::Rest { first: 4, total, etag: "\"a\"" };
        let whole = AnswerExtent::Whole { is_page: false };
        let page = AnswerExtent::Whole { is_page: true };
        let unusable = |reason: &str| AnswerExtent::Unusable(reason.to_owned());
        let unexpected = || unusable("unexpected status 206 Partial Content");
        for (wanted, status, name, value, expected) in [
            (rest(Some(10)), 206, "content-range", "bytes 4-9/10", AnswerExtent::Rest),
            (rest(Some(10)), 206, "content-range", "bytes 3-9/10", unexpected()),
            (rest(Some(10)), 206, "content-range", "bytes 4-8/10", unexpected()),
            (rest(Some(10)), 206, "content-range", "bytes 4-9/11", unexpected()),
            (rest(Some(10)), 206, "accept-ranges", "bytes", unexpected()),
            (rest(None), 206, "content-range", "bytes 4-9/10", unexpected()),
            (rest(Some(0)), 206, "content-range", "bytes 4-9/10", unexpected()),
            (PackageRequest::Whole, 206, "content-range", "bytes 4-9/10", unexpected()),
            (rest(Some(10)), 200, "content-range", "bytes 4-9/10", whole.clone()),
            (PackageRequest::Whole, 200, "content-type", "application/zip", whole.clone()),
            (PackageRequest::Whole, 200, "content-encoding", "identity", whole),
            (PackageRequest::Whole, 200, "content-type", "text/html; charset=utf-8", page.clone()),
            (PackageRequest::Whole, 200, "content-type", "application/json", page),
            (
                PackageRequest::Whole,
                200,
                "content-encoding",
                "gzip",
                unusable("it is encoded as \"gzip\""),
            ),
            (PackageRequest::Whole, 204, "etag", "x", unusable("unexpected status 204 No Content")),
            (PackageRequest::Whole, 304, "etag", "x", AnswerExtent::Unchanged),
        ] {
            let answer = http::Response::builder().status(status).header(name, value).body("");
            let found = extent(&answer.unwrap().into(), wanted);
            assert_eq!(found, expected, "{wanted:?} {status} {name}: {value}");
        }
    }

    #[test]
    fn a_request_names_the_rest_or_a_condition() {
        let client = edge_mirror_http::tls::http(edge_mirror_http::tls::client()).build().unwrap();
        let validators = |etag: Option<&str>, date: Option<&str>| Validators {
            etag: etag.map(Into::into),
            last_modified: date.map(Into::into),
        };
        let (both, date, none) =
            (validators(Some("a"), Some("d")), validators(None, Some("d")), validators(None, None));
        for (wanted, expected) in [
            (PackageRequest::Whole, &[][..]),
            (
                PackageRequest::Rest { first: 4, total: None, etag: "\"a\"" },
                &[("range", "bytes=4-"), ("if-range", "\"a\"")],
            ),
            (PackageRequest::IfChanged(&both), &[("if-none-match", "a")]),
            (PackageRequest::IfChanged(&date), &[("if-modified-since", "d")]),
            (PackageRequest::IfChanged(&none), &[]),
        ] {
            let request = wanted.shape(client.get(ORIGIN)).build().unwrap();
            let sent = request.headers().iter();
            let sent: Vec<_> = sent.map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
            assert_eq!(sent, expected, "{wanted:?}");
        }
    }

    /// So many seconds after the start, so many bytes each time, and whether they are all
    /// taken.
    async fn is_received(seconds: u64, bytes: usize, times: u32) -> bool {
        let sent = stream::iter(0..times).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, std::io::Error>(vec![0; bytes])
        });
        let response = http::Response::new(reqwest::Body::wrap_stream(sent));
        let mut body = OriginBody::new(response.into());
        let [total, stall] = [60, 10].map(Duration::from_secs);
        body.start(TransferLimits { total, stall, least_bytes: 1000 });
        loop {
            match body.next(None).await {
                Ok(TransferEvent::Chunk(_) | TransferEvent::Waited) => {
                    body.resume_after(Duration::ZERO);
                }
                Ok(TransferEvent::End) => return true,
                Err(TransferError::TooSlow) => return false,
                Err(TransferError::Stalled | TransferError::Broken(_)) => unreachable!("it comes"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_fast_enough_has_all_the_time_and_what_drips_has_not() {
        for (seconds, bytes, times, expected) in [
            // Within the time.
            (5, 1, 10, true),
            // Far beyond it, with a thousand bytes in less than ten seconds,
            (1, 200, 600, true),
            (9, 1000, 100, true),
            // and with fewer.
            (1, 50, 600, false),
            (9, 900, 100, false),
        ] {
            let received = is_received(seconds, bytes, times).await;
            assert_eq!(received, expected, "{bytes} bytes every {seconds} s");
        }
    }
}
