//! Whether a request was made by a page of another site: CORS only keeps such
//! a page from reading the answer.

use axum::http::{HeaderMap, header};

/// Browsers say where a request comes from; programs don't, and are no danger.
/// What came over TLS (`secure`) is of our page only where that came over TLS,
/// too: into another, somebody on the way may have put something.
pub fn is_own(headers: &HeaderMap, secure: bool) -> bool {
    let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = field(header::HOST.as_str());
    let same_site =
        field("sec-fetch-site").is_none_or(|from| matches!(from, "same-origin" | "none"));
    let same_origin = field(header::ORIGIN.as_str()).is_none_or(|origin| {
        let (scheme, origin) = origin.split_once("://").unwrap_or_default();
        Some(origin) == host && (!secure || scheme == "https")
    });
    same_site && same_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(fields: &[(&'static str, &'static str)]) -> bool {
        let host = [("host", "node:8001")];
        let fields = host.iter().chain(fields);
        is_own(
            &fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            false,
        )
    }

    #[test]
    fn programs_and_our_own_page_may_and_other_pages_may_not() {
        assert!(own(&[]));
        assert!(own(&[("origin", "http://node:8001"), ("sec-fetch-site", "same-origin")]));
        assert!(own(&[("sec-fetch-site", "none")]));
        assert!(!own(&[("origin", "http://elsewhere")]));
        assert!(!own(&[("origin", "http://node:9000")]));
        assert!(!own(&[("origin", "null")]));
        assert!(!own(&[("sec-fetch-site", "cross-site")]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
    }
}
