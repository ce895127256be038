//! Conditional requests (RFC 9110, 13). Pure.

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderName, Method, header};
use edge_mirror_protocol::package::Manifest;

use super::range::{self, RangeRequest};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryVerdict {
    Whole,
    Part(Range<u64>),
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

/// Validators and size of a package, as far as they are known.
struct SelectedRepresentation<'a> {
    etag: Option<&'a str>,
    modified_s: Option<u64>,
    size_bytes: u64,
}

pub fn evaluate(method: &Method, asked: &HeaderMap, manifest: &Manifest) -> DeliveryVerdict {
    let named = [
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::RANGE,
    ];
    // Most downloads have no conditions.
    if !named.iter().any(|name| asked.contains_key(name)) {
        return DeliveryVerdict::Whole;
    }
    // Formatted only if it is compared: it costs as much as the rest.
    let tags = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE];
    let etag = tags.iter().any(|name| asked.contains_key(name)).then(|| manifest.etag());
    let (etag, modified_s) = (etag.as_deref(), Some(manifest.modified_s));
    judge(
        method,
        asked,
        &SelectedRepresentation { etag, modified_s, size_bytes: manifest.size_bytes },
    )
}

/// Does the same as [`evaluate`] for a package that is not verified yet: its date is
/// unknown, and so is its tag unless its digest was announced. None if the verdict
/// depends on them.
pub(crate) fn evaluate_early(
    method: &Method,
    asked: &HeaderMap,
    etag: Option<&str>,
    size_bytes: u64,
) -> Option<DeliveryVerdict> {
    let has = |name: HeaderName| asked.contains_key(name);
    // A date counts only if there is no tag.
    let by_tag = has(header::IF_MATCH) || has(header::IF_NONE_MATCH);
    let by_date = has(header::IF_UNMODIFIED_SINCE) && !has(header::IF_MATCH)
        || has(header::IF_MODIFIED_SINCE) && !has(header::IF_NONE_MATCH);
    let judged = !by_date && (etag.is_some() || !by_tag);
    judged.then(|| {
        judge(method, asked, &SelectedRepresentation { etag, modified_s: None, size_bytes })
    })
}

/// Follows the precedence of RFC 9110, 13.2.2.
fn judge(
    method: &Method,
    asked: &HeaderMap,
    selected: &SelectedRepresentation<'_>,
) -> DeliveryVerdict {
    let SelectedRepresentation { etag, modified_s, size_bytes } = *selected;
    let since = |name| date(asked, name).zip(modified_s);
    if let Some(tags) = list(asked, &header::IF_MATCH) {
        if !matches_any(&tags, etag, EtagComparison::Strong) {
            return DeliveryVerdict::PreconditionFailed;
        }
    } else if since(&header::IF_UNMODIFIED_SINCE).is_some_and(|(since, at)| at > since) {
        return DeliveryVerdict::PreconditionFailed;
    }
    if let Some(tags) = list(asked, &header::IF_NONE_MATCH) {
        if matches_any(&tags, etag, EtagComparison::Weak) {
            return DeliveryVerdict::NotModified;
        }
    } else if since(&header::IF_MODIFIED_SINCE).is_some_and(|(since, at)| at <= since) {
        return DeliveryVerdict::NotModified;
    }
    // Range is defined for GET only (RFC 9110, 14.2). Repeated lines of a field that is
    // no list contradict each other: no range then.
    let once = |name| asked.get_all(name).iter().count() <= 1;
    let plain = method == Method::GET && once(header::RANGE) && once(header::IF_RANGE);
    let range = asked.get(header::RANGE).filter(|_| plain);
    let Some(range) = range.and_then(|value| value.to_str().ok()) else {
        return DeliveryVerdict::Whole;
    };
    if !may_have_range(asked, etag) {
        return DeliveryVerdict::Whole;
    }
    match range::parse(range, size_bytes) {
        RangeRequest::Whole => DeliveryVerdict::Whole,
        RangeRequest::Part(part) => DeliveryVerdict::Part(part),
        RangeRequest::Unsatisfiable => DeliveryVerdict::Unsatisfiable,
    }
}

/// A range only helps a client that has the rest of this version, which a tag proves. A
/// date proves nothing: a main server may give two versions the same one, and the date of
/// a removed package is not remembered. So it is no strong validator (RFC 9110, 8.8.2.2),
/// and the whole is sent. All our answers have a strong tag, which clients that have one
/// must send (13.1.5).
fn may_have_range(asked: &HeaderMap, etag: Option<&str>) -> bool {
    match asked.get(header::IF_RANGE) {
        Some(tag) => etag.is_some_and(|etag| tag.to_str().unwrap_or_default().trim() == etag),
        None => {
            !asked.contains_key(header::IF_UNMODIFIED_SINCE) || asked.contains_key(header::IF_MATCH)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EtagComparison {
    Strong,
    Weak,
}

fn matches_any(tags: &str, etag: Option<&str>, comparison: EtagComparison) -> bool {
    tags.trim() == "*"
        || tags.split(',').map(str::trim).any(|tag| match comparison {
            EtagComparison::Strong => etag == Some(tag),
            EtagComparison::Weak => etag == Some(tag.strip_prefix("W/").unwrap_or(tag)),
        })
}

/// Joins all lines of a header. Our tags hold no commas, so a comma inside another quoted
/// tag can't make it look like ours.
fn list(asked: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> =
        asked.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Parses a date; an invalid one is ignored (RFC 9110, 13.1.3 and 13.1.4).
fn date(asked: &HeaderMap, name: &HeaderName) -> Option<u64> {
    parse_date(asked.get(name)?.to_str().ok()?)
}

fn parse_date(text: &str) -> Option<u64> {
    let at: SystemTime = httpdate::parse_http_date(text).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use edge_mirror_protocol::{package::LATEST_S, testing::manifest};

    use super::*;
    use crate::delivery::http_date;

    const AT: u64 = 1_700_000_000;

    fn verdict_of(method: Method, lines: &[(HeaderName, &str)]) -> DeliveryVerdict {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        evaluate(&method, &headers, &manifest())
    }

    fn verdict(lines: &[(HeaderName, &str)]) -> DeliveryVerdict {
        verdict_of(Method::GET, lines)
    }

    #[test]
    fn tags_decide_before_dates() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        let etag = &*manifest().etag();
        let weak = &*format!("W/{etag}");
        let (before, at, after) = (&*http_date(AT - 1), &*http_date(AT), &*http_date(AT + 1));
        let other = "\"other\"";
        let listed = &*format!("{other}, {etag}");
        for (lines, expected) in [
            (vec![(IF_MATCH, etag)], DeliveryVerdict::Whole),
            (vec![(IF_MATCH, "*")], DeliveryVerdict::Whole),
            (vec![(IF_MATCH, listed)], DeliveryVerdict::Whole),
            (vec![(IF_MATCH, other), (IF_MATCH, etag)], DeliveryVerdict::Whole),
            (vec![(IF_MATCH, weak)], DeliveryVerdict::PreconditionFailed),
            (vec![(IF_MATCH, other)], DeliveryVerdict::PreconditionFailed),
            (vec![(IF_MATCH, etag), (IF_UNMODIFIED_SINCE, before)], DeliveryVerdict::Whole),
            (vec![(IF_UNMODIFIED_SINCE, before)], DeliveryVerdict::PreconditionFailed),
            (vec![(IF_UNMODIFIED_SINCE, at)], DeliveryVerdict::Whole),
            (vec![(IF_UNMODIFIED_SINCE, "nonsense")], DeliveryVerdict::Whole),
            (vec![(IF_NONE_MATCH, etag)], DeliveryVerdict::NotModified),
            (vec![(IF_NONE_MATCH, weak)], DeliveryVerdict::NotModified),
            (vec![(IF_NONE_MATCH, "*")], DeliveryVerdict::NotModified),
            (vec![(IF_NONE_MATCH, other)], DeliveryVerdict::Whole),
            (vec![(IF_NONE_MATCH, other), (IF_MODIFIED_SINCE, after)], DeliveryVerdict::Whole),
            (vec![(IF_MODIFIED_SINCE, before)], DeliveryVerdict::Whole),
            (vec![(IF_MODIFIED_SINCE, at)], DeliveryVerdict::NotModified),
            (vec![(IF_MODIFIED_SINCE, after)], DeliveryVerdict::NotModified),
            (vec![(IF_MODIFIED_SINCE, "nonsense")], DeliveryVerdict::Whole),
        ] {
            assert_eq!(verdict(&lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_range_counts_only_for_the_version_that_it_was_meant_for() {
        use header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
        let etag = &*manifest().etag();
        let weak = &*format!("W/{etag}");
        let at = &*http_date(AT);
        let range = (RANGE, "bytes=2-3");
        for (line, expected) in [
            ((IF_RANGE, etag), DeliveryVerdict::Part(2..4)),
            // The exact date of this version: another may have had it before.
            ((IF_RANGE, at), DeliveryVerdict::Whole),
            ((IF_RANGE, weak), DeliveryVerdict::Whole),
            ((IF_RANGE, "\"other\""), DeliveryVerdict::Whole),
            ((IF_RANGE, "nonsense"), DeliveryVerdict::Whole),
            ((IF_NONE_MATCH, etag), DeliveryVerdict::NotModified),
        ] {
            assert_eq!(verdict(&[range.clone(), line.clone()]), expected, "{line:?}");
        }
        assert_eq!(verdict(&[range.clone(), (RANGE, "bytes=4-5")]), DeliveryVerdict::Whole);
        let unmodified = [range.clone(), (IF_UNMODIFIED_SINCE, at)];
        assert_eq!(verdict(&unmodified), DeliveryVerdict::Whole);
        for tag in [(IF_RANGE, etag), (IF_MATCH, etag)] {
            let by_tag = [unmodified.as_slice(), &[tag]].concat();
            assert_eq!(verdict(&by_tag), DeliveryVerdict::Part(2..4), "{by_tag:?}");
        }
        let two = [range.clone(), (IF_RANGE, etag), (IF_RANGE, "\"other\"")];
        assert_eq!(verdict(&two), DeliveryVerdict::Whole);
        assert_eq!(verdict(&[(RANGE, "bytes=10-")]), DeliveryVerdict::Unsatisfiable);
        let old = &[(RANGE, "bytes=10-"), (IF_RANGE, "\"other\"")];
        assert_eq!(verdict(old), DeliveryVerdict::Whole);
    }

    /// Clients' dates are only compared; ours can be formatted, whatever they are.
    #[test]
    fn no_date_is_too_odd() {
        for at_s in [0, LATEST_S - 1, LATEST_S, LATEST_S + 1, u64::MAX] {
            let date = http_date(at_s);
            assert_eq!(parse_date(&date), Some(at_s.min(LATEST_S)), "{date}");
        }
        let ends = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(http_date(u64::MAX), ends);
        for (date, expected) in [
            (ends, DeliveryVerdict::NotModified),
            ("Thu, 01 Jan 1970 00:00:00 GMT", DeliveryVerdict::Whole),
            ("Sat, 01 Jan 10000 00:00:00 GMT", DeliveryVerdict::Whole),
            ("Wed, 31 Dec 1969 23:59:59 GMT", DeliveryVerdict::Whole),
            ("Sun, 99 Foo 2026 25:61:61 GMT", DeliveryVerdict::Whole),
            ("-1", DeliveryVerdict::Whole),
        ] {
            assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, date)]), expected, "{date}");
        }
    }

    #[test]
    fn a_head_request_has_no_range() {
        assert_eq!(
            verdict_of(Method::HEAD, &[(header::RANGE, "bytes=2-3")]),
            DeliveryVerdict::Whole
        );
    }

    #[test]
    fn what_is_not_known_yet_is_not_guessed() {
        use header::{
            IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
        };
        let (etag, other, at) = (&*manifest().etag(), "\"other\"", &*http_date(AT));
        let (whole, part) = (Some(DeliveryVerdict::Whole), Some(DeliveryVerdict::Part(2..4)));
        let range = (RANGE, "bytes=2-3");
        // Headers, the verdict with the tag known, and without.
        for (lines, with, without) in [
            (vec![], &whole, &whole),
            (vec![range.clone()], &part, &part),
            (vec![(RANGE, "bytes=0-1,4-5")], &whole, &whole),
            (
                vec![(RANGE, "bytes=10-")],
                &Some(DeliveryVerdict::Unsatisfiable),
                &Some(DeliveryVerdict::Unsatisfiable),
            ),
            (vec![range.clone(), (IF_RANGE, etag)], &part, &whole),
            (vec![range.clone(), (IF_RANGE, other)], &whole, &whole),
            (vec![range.clone(), (IF_RANGE, at)], &whole, &whole),
            (vec![(IF_NONE_MATCH, etag)], &Some(DeliveryVerdict::NotModified), &None),
            (vec![(IF_NONE_MATCH, other)], &whole, &None),
            (vec![(IF_NONE_MATCH, other), (IF_MODIFIED_SINCE, at)], &whole, &None),
            (vec![(IF_MATCH, etag)], &whole, &None),
            (vec![(IF_MATCH, other)], &Some(DeliveryVerdict::PreconditionFailed), &None),
            (vec![(IF_MATCH, etag), (IF_UNMODIFIED_SINCE, at)], &whole, &None),
            (vec![(IF_MODIFIED_SINCE, at)], &None, &None),
            (vec![(IF_UNMODIFIED_SINCE, at)], &None, &None),
            (vec![(IF_MATCH, etag), (IF_MODIFIED_SINCE, at)], &None, &None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            let early = |etag| evaluate_early(&Method::GET, &headers, etag, 10);
            assert_eq!((&early(Some(etag)), &early(None)), (with, without), "{lines:?}");
        }
    }
}
