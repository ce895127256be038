//! What one attempt asks the main server for: the whole, the rest, or only
//! another version; and whether the answer is what was asked for.

use std::sync::Arc;

use reqwest::{Response, StatusCode, header};

use super::{Flight, Reason};
use crate::{
    config::Config,
    package::Validators,
    store::{Pending, Store, Stored},
    upstream::{Announced, Place, Upstream, UpstreamError},
};

/// What an attempt that broke off left for the next one: only kept when the
/// main server offers ranges and a validator to ask for the rest by.
pub(super) struct Partial {
    pub pending: Pending,
    pub place: Place,
    pub announced: Announced,
}

/// What one attempt has to know.
pub(super) struct Task<'a> {
    pub flight: &'a Flight,
    pub config: &'a Config,
    pub upstream: &'a Upstream,
    pub store: &'a Store,
    /// The version that is here already, if it is this main server's.
    pub held: Option<Arc<Stored>>,
}

impl Task<'_> {
    pub(super) async fn ask(
        &self,
        place: &Place,
        resumed: Option<&Partial>,
    ) -> Result<(Response, Announced), UpstreamError> {
        let held = self.held.as_ref().map(|held| &held.manifest.source);
        let condition =
            held.filter(|held| held.route == place.route()).map(|held| &held.validators);
        self.upstream
            .get(self.flight.id(), place, |request| {
                if let Some(partial) = resumed
                    && let Some(etag) = strong(&partial.announced.validators)
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

    /// The version that is here, if the main server says that it is current.
    pub(super) fn unchanged(
        &self,
        response: &Response,
        announced: &Announced,
        place: &Place,
    ) -> Option<Arc<Stored>> {
        let held = self.held.clone()?;
        let source = &held.manifest.source;
        let same =
            source.route == place.route() && source.validators.same_version(&announced.validators);
        let not_modified = response.status() == StatusCode::NOT_MODIFIED;
        // Somebody who asks because the validators could not be trusted gets
        // the bytes compared.
        let trusting = self.flight.reason() != Reason::Compare;
        (not_modified || (trusting && same && response.status() == StatusCode::OK)).then_some(held)
    }
}

/// A validator that stands for the very bytes (RFC 9110, 8.8.1). Only a tag
/// can: a date changes by the second.
pub(super) fn strong(validators: &Validators) -> Option<&str> {
    validators.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
}

/// Whether a 206 goes on exactly where the partial one stopped, in the same
/// version. Anything else must start over: bytes of two versions never meet.
pub(super) fn continues(response: &Response, announced: &Announced, partial: &Partial) -> bool {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return false;
    }
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let from = partial.pending.received_bytes();
    let expected =
        partial.announced.length.map(|total| format!("bytes {from}-{}/{total}", total - 1));
    range.is_some()
        && range == expected.as_deref()
        && announced.validators.etag == partial.announced.validators.etag
}
