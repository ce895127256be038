//! Asks the main server which version of its packages it has, without
//! getting them.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tracing::debug;

use crate::{
    package::{Manifest, PackageId, Route},
    store::Stored,
    upstream::{Announced, Place, Upstream},
};

/// A thousand meetings are asked about within seconds, a few at a time.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Same,
    Other,
    /// There is nothing to tell versions apart by: only the bytes can.
    Incomparable,
    /// The main server did not answer; it is asked again a little later.
    NotTold,
}

/// What a round of checks found.
pub(super) struct Checked {
    /// Under which the versions were asked for; by now it may be another.
    pub token: Arc<str>,
    pub versions: Vec<(PackageId, Version)>,
}

/// `wanted` is each package with the path that it is offered at.
pub(super) async fn versions(
    upstream: Upstream,
    token: Arc<str>,
    wanted: Vec<(Arc<Stored>, String)>,
) -> Checked {
    let upstream = &upstream;
    let versions = stream::iter(wanted)
        .map(|(stored, path)| async move {
            (stored.manifest.id.clone(), version(upstream, &stored.manifest, &path).await)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    Checked { token, versions }
}

async fn version(upstream: &Upstream, held: &Manifest, path: &str) -> Version {
    let Some(place) = Place::offered(upstream.origin(), path) else {
        return Version::Incomparable;
    };
    match upstream.head(&held.id, &place).await {
        Ok(announced) => compare(held, &announced),
        Err(error) => {
            debug!("version of meeting {} not told: {error}", held.id);
            Version::NotTold
        }
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
    // Validators speak of one place; those of another say nothing here.
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
    use super::*;
    use crate::package::{Sha256, Source, Validators, tests::manifest};

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
