//! The location of a package at a main server.

use edge_mirror_protocol::package::{PackageId, PackageRoute};
use url::Url;

/// The folder that offered packages must lie in.
const UPLOADS: &str = "/uploads/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageLocation {
    /// A path as the main server wrote it, not percent-encoded.
    Uploads(String),
    Direct,
}

impl PackageLocation {
    /// The location that a `package_url` names, if it may be requested: a path on
    /// the same server under `/uploads/`, or the same as a whole URL.
    pub(crate) fn from_package_url(origin: &str, package_url: &str) -> Option<Self> {
        let path = package_url.strip_prefix(origin).unwrap_or(package_url);
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

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "http://10.0.0.1:80";

    fn url(package_url: &str) -> Option<String> {
        let place = PackageLocation::from_package_url(ORIGIN, package_url)?;
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
}
