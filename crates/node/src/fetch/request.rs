//! The request of one attempt: the whole package, the rest, or another version
//! only; and checks that the answer fits it.

use std::sync::Arc;

use bytes::Bytes;
use edge_mirror_protocol::package::Validators;
use edge_mirror_settings::Config;
use edge_mirror_store::{PendingPackage, Store, StoredPackage, growing::PartialWriter};
use reqwest::{Response, StatusCode, header};

use super::{Flight, PullError, PullReason};
use crate::upstream::{AnnouncedPackage, PackageLocation, Upstream, UpstreamError};

/// A package being pulled, and the state that a failed attempt leaves for the next
/// one: kept if the rest can be requested, or if it has readers.
pub(super) struct PartialPull {
    pub pending: PendingPackage,
    pub place: PackageLocation,
    pub announced: AnnouncedPackage,
    pub grower: Option<PartialWriter>,
    /// Bytes of it that an answer from the beginning has repeated.
    pub(crate) replayed_bytes: Option<u64>,
    /// Its first bytes look like an archive.
    pub(crate) is_archive: bool,
}

impl PartialPull {
    /// The validator for `If-Range`, if the main server has ranges.
    pub(super) fn resume_validator(&self) -> Option<&str> {
        strong_etag(&self.announced.validators).filter(|_| self.announced.ranges)
    }

    pub(super) fn is_worth_keeping(&self) -> bool {
        self.resume_validator().is_some()
            || self.grower.as_ref().is_some_and(|grower| grower.growing().has_readers())
    }

    /// Returns the new part of a chunk. The part that an answer from the beginning
    /// repeats must be the same, byte by byte: then readers have got a part of this
    /// version, whatever tags and dates say. Blocks for the read from disk.
    pub(super) fn skip_replayed(&mut self, mut chunk: Bytes) -> Result<Bytes, PullError> {
        let (Some(at), Some(grower)) = (self.replayed_bytes, &self.grower) else {
            return Ok(chunk);
        };
        let left = self.pending.received_bytes() - at;
        let told = chunk.split_to(chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        match grower.growing().has_bytes_at(at, &told) {
            Ok(true) => {}
            Ok(false) => {
                let cause = "it became another one while it was pulled".to_owned();
                return Err(PullError::Unusable(cause));
            }
            Err(error) => {
                let cause = format!("what is here of it can't be read back: {error}");
                return Err(PullError::Unusable(cause));
            }
        }
        self.replayed_bytes = Some(at + told.len() as u64).filter(|_| told.len() as u64 != left);
        Ok(chunk)
    }
}

/// The context of one attempt.
pub(super) struct AttemptContext<'a> {
    pub flight: &'a Flight,
    pub config: &'a Config,
    pub upstream: &'a Upstream,
    pub store: &'a Store,
    /// The stored version, if it is from this main server.
    pub held: Option<Arc<StoredPackage>>,
}

impl AttemptContext<'_> {
    pub(super) async fn ask(
        &self,
        place: &PackageLocation,
        resumed: Option<&PartialPull>,
    ) -> Result<(Response, AnnouncedPackage), UpstreamError> {
        let held = self.held.as_ref().map(|held| &held.manifest.source);
        let condition =
            held.filter(|held| held.route == place.route()).map(|held| &held.validators);
        self.upstream
            .get(self.flight.id(), place, |request| {
                if let Some(partial) = resumed
                    && let Some(etag) = partial.resume_validator()
                {
                    let from = format!("bytes={}-", partial.pending.received_bytes());
                    return request.header(header::RANGE, from).header(header::IF_RANGE, etag);
                }
                match condition {
                    Some(Validators { etag: Some(etag), .. }) => {
                        request.header(header::IF_NONE_MATCH, etag)
                    }
                    Some(Validators { last_modified: Some(date), .. }) => {
                        request.header(header::IF_MODIFIED_SINCE, date)
                    }
                    _ => request,
                }
            })
            .await
    }

    /// The stored version, if the main server says that it is current.
    pub(super) fn unchanged_version(
        &self,
        response: &Response,
        announced: &AnnouncedPackage,
        place: &PackageLocation,
    ) -> Option<Arc<StoredPackage>> {
        let held = self.held.clone()?;
        let source = &held.manifest.source;
        let same =
            source.route == place.route() && source.validators.same_version(&announced.validators);
        let not_modified = response.status() == StatusCode::NOT_MODIFIED;
        // If the validators could not be trusted, the bytes are compared.
        let trusting = self.flight.reason() != PullReason::Compare;
        (not_modified || (trusting && same && response.status() == StatusCode::OK)).then_some(held)
    }
}

/// A strong validator (RFC 9110, 8.8.1). Only a tag can be one: a date changes by
/// the second.
fn strong_etag(validators: &Validators) -> Option<&str> {
    validators.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
}

/// True if a 206 continues exactly where the partial one stopped, in the same
/// version. Anything else must start over: versions are never mixed.
pub(super) fn is_continuation(
    response: &Response,
    announced: &AnnouncedPackage,
    partial: &PartialPull,
) -> bool {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return false;
    }
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let from = partial.pending.received_bytes();
    let total = partial.announced.length.filter(|total| *total > 0);
    let expected = total.map(|total| format!("bytes {from}-{}/{total}", total - 1));
    range.is_some()
        && range == expected.as_deref()
        && announced.validators.etag == partial.announced.validators.etag
}

/// True if a 200 may be the same version from the beginning, for readers of the
/// partial package; [`PartialPull::skip_replayed`] finds out.
pub(super) fn is_replay(
    response: &Response,
    announced: &AnnouncedPackage,
    partial: &PartialPull,
) -> bool {
    response.status() == StatusCode::OK
        && partial.grower.as_ref().is_some_and(|grower| grower.growing().has_readers())
        && announced.length == partial.announced.length
        && announced.sha256 == partial.announced.sha256
        && announced.validators == partial.announced.validators
}

#[cfg(test)]
mod tests {
    use axum::http;
    use edge_mirror_protocol::package::PackageId;

    use super::*;

    #[test]
    fn only_the_very_rest_of_the_same_version_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let mut pending =
            store.begin("m".parse::<PackageId>().unwrap(), Some(10), u64::MAX).unwrap();
        pending.write(b"four").unwrap();
        let version = |etag: &str| {
            let validators = Validators { etag: Some(etag.to_owned()), ..Validators::default() };
            AnnouncedPackage { length: Some(10), validators, ranges: true, sha256: None }
        };
        let announced = version("\"a\"");
        let (place, grower, replayed_bytes) = (PackageLocation::Direct, None, None);
        let partial =
            PartialPull { pending, place, announced, grower, replayed_bytes, is_archive: false };
        for (status, range, etag, expected) in [
            (206, "bytes 4-9/10", "\"a\"", true),
            (206, "bytes 4-9/10", "\"b\"", false),
            (206, "bytes 3-9/10", "\"a\"", false),
            (206, "bytes 4-8/10", "\"a\"", false),
            (206, "bytes 4-9/11", "\"a\"", false),
            (200, "bytes 4-9/10", "\"a\"", false),
        ] {
            let answer = http::Response::builder().status(status);
            let answer = answer.header(header::CONTENT_RANGE, range).body("").unwrap();
            let goes_on = is_continuation(&answer.into(), &version(etag), &partial);
            assert_eq!(goes_on, expected, "{status} {range} {etag}");
        }
    }
}
