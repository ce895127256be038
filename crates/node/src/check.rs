//! Asks the main server for the current versions of packages, without getting them.
//!
//! A sweep asks for each version once: after each poll's answer and before each
//! heartbeat. A HEAD costs the real main server a third of a millisecond of its
//! only core, and there may be two hundred nodes. Up to [`IN_ONE_GO`] versions are
//! asked for without a pause, which takes milliseconds. The rest of a sweep follows
//! at intervals of [`APART`]: 1,000 meetings take 48 s, a node costs the main
//! server less than a hundredth of its core, and a version checked in the sweep
//! before counts until this one ends.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::package::{Manifest, PackageId, Route, Sha256};
use edge_mirror_store::Stored;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use reqwest::StatusCode;
use tracing::debug;

use crate::upstream::{Announced, Place, Upstream, UpstreamError};

/// So many HEADs are under way at a time.
const AT_ONCE: usize = 4;
/// Versions that a sweep asks for without any pause. With the intervals as they
/// come, that is ten a second at the most.
pub(super) const IN_ONE_GO: usize = 50;
const APART: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Same,
    Other,
    /// No validators to compare: only the bytes can tell.
    Incomparable,
    /// The offered package is not there.
    Gone,
    /// The main server did not answer; the next sweep asks again.
    NotTold,
}

/// The result of asking for one package's version.
pub(super) struct VersionCheck {
    pub id: PackageId,
    /// Digest of the stored bytes that it was compared with.
    pub sha256: Sha256,
    /// The token at the time of asking; it may have changed.
    pub token: Arc<str>,
    pub version: Version,
}

/// Returns one check for each of the packages, which come with the paths that they
/// are offered at.
pub(super) fn versions(
    upstream: Upstream,
    token: Arc<str>,
    packages: Vec<(Arc<Stored>, String)>,
) -> BoxStream<'static, VersionCheck> {
    let paced = stream::iter(packages).enumerate().then(async |(before, package)| {
        if before >= IN_ONE_GO {
            tokio::time::sleep(APART).await;
        }
        package
    });
    let check = move |(stored, path): (Arc<Stored>, String)| {
        let (upstream, token) = (upstream.clone(), token.clone());
        async move {
            let held = &stored.manifest;
            let version = version(&upstream, held, &path).await;
            VersionCheck { id: held.id.clone(), sha256: held.sha256, token, version }
        }
    };
    paced.map(check).buffer_unordered(AT_ONCE).boxed()
}

async fn version(upstream: &Upstream, held: &Manifest, path: &str) -> Version {
    let Some(place) = Place::offered(upstream.origin(), path) else {
        return Version::Incomparable;
    };
    match upstream.head(&held.id, &place).await {
        Ok(announced) => compare(held, &announced),
        Err(error) => {
            debug!("version of meeting {} not told: {error}", held.id);
            untold(held.source.route, &error)
        }
    }
}

fn untold(route: Route, error: &UpstreamError) -> Version {
    match error {
        // It was pulled by another route; the offer may never have been there.
        error if error.is_not_found() && route != Route::PackageUrl => Version::Incomparable,
        error if error.is_not_found() => Version::Gone,
        UpstreamError::Refused {
            status: StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED,
            ..
        } => Version::Incomparable,
        _ => Version::NotTold,
    }
}

fn compare(held: &Manifest, announced: &Announced) -> Version {
    if let Some(sha256) = announced.sha256 {
        return if sha256 == held.sha256 { Version::Same } else { Version::Other };
    }
    if announced.length.is_some_and(|length| length != held.size_bytes) {
        return Version::Other;
    }
    let source = &held.source;
    // Validators belong to one location; they say nothing of another.
    if source.route != Route::PackageUrl
        || source.validators.is_empty()
        || announced.validators.is_empty()
    {
        return Version::Incomparable;
    }
    if source.validators.same_version(&announced.validators) {
        Version::Same
    } else {
        Version::Other
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{
        package::{Sha256, Source, Validators},
        testing::manifest,
    };

    use super::*;

    fn held(route: Route, etag: Option<&str>) -> Manifest {
        let source = Source { route, origin: None, validators: validators(etag) };
        Manifest { source, ..manifest() }
    }

    fn validators(etag: Option<&str>) -> Validators {
        Validators { etag: etag.map(Into::into), last_modified: None }
    }

    fn announced(length: Option<u64>, etag: Option<&str>) -> Announced {
        Announced { length, validators: validators(etag), ..Announced::default() }
    }

    #[test]
    fn versions_are_told_apart_by_whatever_there_is() {
        let url = held(Route::PackageUrl, Some("e"));
        assert_eq!(compare(&url, &announced(Some(10), Some("e"))), Version::Same);
        assert_eq!(compare(&url, &announced(Some(10), Some("f"))), Version::Other);
        assert_eq!(compare(&url, &announced(Some(11), Some("e"))), Version::Other);
        assert_eq!(compare(&url, &announced(Some(10), None)), Version::Incomparable);
        let adopted = held(Route::Adopted, None);
        assert_eq!(compare(&adopted, &announced(Some(10), Some("e"))), Version::Incomparable);
        assert_eq!(compare(&adopted, &announced(Some(11), Some("e"))), Version::Other);
        let direct = held(Route::Direct, Some("e"));
        assert_eq!(compare(&direct, &announced(None, Some("e"))), Version::Incomparable);
        let digest =
            |byte| Announced { sha256: Some(Sha256::new([byte; 32])), ..announced(None, None) };
        assert_eq!(compare(&direct, &digest(1)), Version::Same);
        assert_eq!(compare(&direct, &digest(2)), Version::Other);
    }
}
