//! Detects requests of other sites' pages: CORS only keeps such a page from reading the
//! answer.

use axum::http::{HeaderMap, HeaderValue, header};

/// Media types that a page can send to another site without a preflight.
const FORM_TYPES: [&str; 3] =
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];

/// True unless a page of another site sent it. Browsers name the origin; programs don't,
/// and are no danger. Over TLS (`secure`) a page is ours only if it came over TLS, too:
/// on a plain connection it could have been changed.
pub(super) fn is_same_origin(headers: &HeaderMap, secure: bool) -> bool {
    let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = field(header::HOST.as_str());
    let is_ours = |origin: &str| {
        let (scheme, authority) = origin.split_once("://").unwrap_or_default();
        Some(authority) == host && (!secure || scheme == "https")
    };
    let same_site =
        field("sec-fetch-site").is_none_or(|from| matches!(from, "same-origin" | "none"));
    match field(header::ORIGIN.as_str()) {
        Some(origin) => same_site && is_ours(origin),
        None if field("sec-fetch-site").is_some() => same_site,
        // Old browsers send neither.
        None => field(header::REFERER.as_str()).is_none_or(|page| is_ours(origin_of(page))),
    }
}

/// True if a form may have sent it: with `no-referrer` in an old browser, nothing else
/// tells that a page of another site did.
pub(super) fn is_form_post(headers: &HeaderMap) -> bool {
    let origin_fields = ["sec-fetch-site", "origin"];
    let mut types = headers.get_all(header::CONTENT_TYPE).into_iter();
    let is_form_type = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        FORM_TYPES.iter().any(|form| essence.eq_ignore_ascii_case(form.as_bytes()))
    };
    !origin_fields.iter().any(|name| headers.contains_key(*name)) && types.any(is_form_type)
}

/// Returns `http://node:8001` for `http://node:8001/a?b`.
fn origin_of(page: &str) -> &str {
    let authority = page.find("://").map_or(0, |at| at + 3);
    let end = page[authority..].find(['/', '?', '#']).map_or(page.len(), |at| authority + at);
    &page[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let host = [("host", "node:8001")];
        let fields = host.iter().chain(fields);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn own(fields: &[(&'static str, &'static str)]) -> bool {
        is_same_origin(&headers(fields), false)
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

    #[test]
    fn browsers_of_old_are_known_by_the_page_that_they_name() {
        for page in [
            "http://node:8001/",
            "http://node:8001",
            "http://node:8001?a",
            "http://node:8001/static/index.html#x",
        ] {
            assert!(own(&[("referer", page)]), "{page}");
        }
        for page in [
            "http://elsewhere/",
            "http://elsewhere/http://node:8001/",
            "http://node:8001.elsewhere/",
            "http://node:8001@elsewhere/",
            "http://node:9000/",
            "node:8001",
            "about:blank",
            "",
        ] {
            assert!(!own(&[("referer", page)]), "{page}");
        }
        // Newer headers, if present, count alone.
        assert!(own(&[("origin", "http://node:8001"), ("referer", "http://elsewhere/")]));
        assert!(own(&[("sec-fetch-site", "same-origin"), ("referer", "http://elsewhere/")]));
        let secure = |page| is_same_origin(&headers(&[("referer", page)]), true);
        assert!(secure("https://node:8001/") && !secure("http://node:8001/"));
    }

    #[test]
    fn a_form_is_known_by_its_content_type_where_nothing_else_tells() {
        let form = |fields: &[(&'static str, &'static str)]| is_form_post(&headers(fields));
        for kind in [
            "text/plain",
            "Text/Plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ] {
            assert!(form(&[("content-type", kind)]), "{kind}");
            assert!(!form(&[("content-type", kind), ("origin", "http://node:8001")]), "{kind}");
            assert!(!form(&[("content-type", kind), ("sec-fetch-site", "none")]), "{kind}");
        }
        assert!(!form(&[]) && !form(&[("content-type", "application/json")]));
        assert!(form(&[("content-type", "application/json"), ("content-type", "text/plain")]));
    }
}
