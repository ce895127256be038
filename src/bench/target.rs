//! The URL that a client asks, and its redirects.

use edge_mirror_protocol::package::PackageId;
use url::Url;

use crate::cli::ServerUrl;

/// A server and a path to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BenchTarget {
    url: Url,
}

impl BenchTarget {
    /// Returns a meeting's package at a node or main server.
    pub(super) fn of_meeting(server: &ServerUrl, meeting: &PackageId) -> Self {
        let path = format!("/api/v1/meetings/{}/download-package", meeting.segment());
        Self { url: server.at(&path) }
    }

    /// Follows a `Location` from here; None if that is impossible.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        let url = self.url.join(location).ok()?;
        (is_http(&url) && url.has_host()).then_some(Self { url })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// For `connect`: an IPv6 address without its brackets.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        (host, self.url.port_or_known_default().unwrap_or(80))
    }

    /// Returns `host:port`, the server's name here and its `Host`.
    pub(super) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(super) fn path(&self) -> String {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.url.path())
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(server: &str) -> BenchTarget {
        BenchTarget::of_meeting(&server.parse().unwrap(), &"m1".parse().unwrap())
    }

    #[test]
    fn a_servers_address_is_all_that_is_needed() {
        const PATH: &str = "/api/v1/meetings/m1/download-package";
        for (url, authority, connect, path) in [
            ("http://10.0.0.1:8001", "10.0.0.1:8001", ("10.0.0.1", 8001), PATH.to_owned()),
            ("http://node/", "node", ("node", 80), PATH.to_owned()),
            ("http://[::1]:8001", "[::1]:8001", ("::1", 8001), PATH.to_owned()),
            ("http://a/edge/?x#y", "a", ("a", 80), format!("/edge{PATH}")),
        ] {
            let target = target(url);
            assert_eq!(target.authority(), authority, "{url}");
            assert_eq!(target.host_and_port(), connect, "{url}");
            assert_eq!(target.path(), path, "{url}");
        }
    }

    #[test]
    fn redirects_are_followed_over_http_and_https_alone() {
        let from = target("http://main:8000");
        let to = |location| from.redirected(location).map(|to| (to.authority(), to.path()));
        let found = |authority: &str, path: &str| Some((authority.to_owned(), path.to_owned()));
        assert_eq!(to("http://10.0.0.2:8001/a?b"), found("10.0.0.2:8001", "/a?b"));
        assert_eq!(to("/elsewhere"), found("main:8000", "/elsewhere"));
        let secure = from.redirected("https://10.0.0.2/a").unwrap();
        assert!(secure.is_https() && !from.is_https());
        assert_eq!(secure.host_and_port(), ("10.0.0.2", 443));
        for bad in ["ftp://a/b", "http://", "mailto:a"] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }
}
