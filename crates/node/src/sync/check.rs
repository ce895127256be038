//! Asks the main server for the current versions of packages, without getting them.
//!
//! A sweep asks for each version once: after each poll's answer and before each
//! heartbeat. A HEAD costs the real main server a third of a millisecond of its
//! only core, and there may be two hundred nodes. Up to [`UNPACED_CHECKS`] versions are
//! asked for without a pause, which takes milliseconds. The rest of a sweep follows
//! at intervals of [`CHECK_SPACING`]: 1,000 meetings take 48 s, a node costs the main
//! server less than a hundredth of its core, and a version checked in the sweep
//! before counts until this one ends.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::package::{Manifest, PackageId, PackageRoute, Sha256};
use edge_mirror_store::StoredPackage;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tracing::debug;

use crate::upstream::{AnnouncedPackage, PackageLocation, Upstream, UpstreamError};

/// So many HEADs are under way at a time.
const MAX_CONCURRENT: usize = 4;
/// Versions that a sweep asks for without any pause. With the intervals as they
/// come, that is ten a second at the most.
pub(crate) const UNPACED_CHECKS: usize = 50;
const CHECK_SPACING: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionComparison {
    Same,
    Other,
    /// No validators to compare: only the bytes can tell.
    Incomparable,
    /// The offered package is not there.
    Gone,
    /// The main server did not answer; the next sweep asks again.
    Unknown,
}

/// The result of asking for one package's version.
pub(crate) struct VersionCheck {
    pub id: PackageId,
    /// Digest of the stored bytes that it was compared with.
    pub sha256: Sha256,
    /// The token at the time of asking; it may have changed.
    pub token: Arc<str>,
    pub version: VersionComparison,
}

/// Returns one check for each of the packages, which come with the paths that they
/// are offered at.
pub(crate) fn versions(
    upstream: Upstream,
    token: Arc<str>,
    packages: Vec<(PackageId, Arc<StoredPackage>, String)>,
) -> BoxStream<'static, VersionCheck> {
    let paced = stream::iter(packages).enumerate().then(async |(before, package)| {
        if before >= UNPACED_CHECKS {
            tokio::time::sleep(CHECK_SPACING).await;
        }
        package
    });
    let check = move |(id, stored, path): (PackageId, Arc<StoredPackage>, String)| {
        let (upstream, token) = (upstream.clone(), token.clone());
        async move {
            let held = &stored.manifest;
            let version = version(&upstream, &id, held, &path).await;
            VersionCheck { id, sha256: held.sha256, token, version }
        }
    };
    paced.map(check).buffer_unordered(MAX_CONCURRENT).boxed()
}

async fn version(
    upstream: &Upstream,
    id: &PackageId,
    held: &Manifest,
    path: &str,
) -> VersionComparison {
    let Some(location) = PackageLocation::from_package_url(upstream.fleet(), path) else {
        return VersionComparison::Incomparable;
    };
    match upstream.head(id, &location).await {
        Ok(announced) => compare(held, &announced),
        Err(error) => {
            debug!("version of meeting {id} not told: {error}");
            version_of_error(held.source.route, &error)
        }
    }
}

fn version_of_error(route: PackageRoute, error: &UpstreamError) -> VersionComparison {
    match error {
        // It was pulled by another route; the offer may never have been there.
        error if error.is_not_found() && route != PackageRoute::PackageUrl => {
            VersionComparison::Incomparable
        }
        error if error.is_not_found() => VersionComparison::Gone,
        error if error.is_wrong_method() => VersionComparison::Incomparable,
        _ => VersionComparison::Unknown,
    }
}

fn compare(held: &Manifest, announced: &AnnouncedPackage) -> VersionComparison {
    if let Some(sha256) = announced.sha256 {
        return if sha256 == held.sha256 {
            VersionComparison::Same
        } else {
            VersionComparison::Other
        };
    }
    if announced.length.is_some_and(|length| length != held.size_bytes) {
        return VersionComparison::Other;
    }
    let source = &held.source;
    // Validators belong to one location; they say nothing of another.
    if source.route != PackageRoute::PackageUrl
        || source.validators.is_empty()
        || announced.validators.is_empty()
    {
        return VersionComparison::Incomparable;
    }
    if source.validators.same_version(&announced.validators) {
        VersionComparison::Same
    } else {
        VersionComparison::Other
    }
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{
        package::{PackageSource, Sha256, Validators},
        testing::manifest,
    };

    use super::*;

    fn held(route: PackageRoute, etag: Option<&str>) -> Manifest {
        let source = PackageSource { route, origin: None, validators: validators(etag) };
        Manifest { source, ..manifest() }
    }

    fn validators(etag: Option<&str>) -> Validators {
        Validators { etag: etag.map(Into::into), last_modified: None }
    }

    fn announced(length: Option<u64>, etag: Option<&str>) -> AnnouncedPackage {
        AnnouncedPackage { length, validators: validators(etag), ..AnnouncedPackage::default() }
    }

    #[test]
    fn versions_are_told_apart_by_whatever_there_is() {
        let url = held(PackageRoute::PackageUrl, Some("e"));
        assert_eq!(compare(&url, &announced(Some(10), Some("e"))), VersionComparison::Same);
        assert_eq!(compare(&url, &announced(Some(10), Some("f"))), VersionComparison::Other);
        assert_eq!(compare(&url, &announced(Some(11), Some("e"))), VersionComparison::Other);
        assert_eq!(compare(&url, &announced(Some(10), None)), VersionComparison::Incomparable);
        let adopted = held(PackageRoute::Adopted, None);
        assert_eq!(
            compare(&adopted, &announced(Some(10), Some("e"))),
            VersionComparison::Incomparable
        );
        assert_eq!(compare(&adopted, &announced(Some(11), Some("e"))), VersionComparison::Other);
        let direct = held(PackageRoute::Direct, Some("e"));
        assert_eq!(compare(&direct, &announced(None, Some("e"))), VersionComparison::Incomparable);
        let digest = |byte| AnnouncedPackage {
            sha256: Some(Sha256::new([byte; 32])),
            ..announced(None, None)
        };
        assert_eq!(compare(&direct, &digest(1)), VersionComparison::Same);
        assert_eq!(compare(&direct, &digest(2)), VersionComparison::Other);
    }
}
