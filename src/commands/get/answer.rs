//! Headers of an answer with a package, and the ways a server fails to give it.

use std::{fmt, time::Duration};

use edge_mirror_node::upstream::root_cause;
use edge_mirror_protocol::package::{Sha256, sha256_of_field};
use reqwest::{Response, StatusCode, header};
use url::Url;

use crate::{
    commands::client,
    terminal::{say, words},
};

/// Complete, but not the package.
#[derive(Clone, Debug)]
pub(super) struct ContentMismatch {
    pub what: String,
    /// The wrong bytes may be from another server than the end.
    pub has_mixed_versions: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PackageAnswer {
    pub from: String,
    pub sha256: Option<Sha256>,
    /// A strong validator (RFC 9110, 8.8.1).
    pub strong_tag: Option<String>,
    /// Size of the whole package, even if the answer is a part.
    pub total_bytes: Option<u64>,
    /// First and last byte, of a part.
    pub part: Option<(u64, u64)>,
}

impl PackageAnswer {
    pub(super) fn of(response: &Response) -> Self {
        let field = |name: &str| response.headers().get(name)?.to_str().ok();
        let range = field(header::CONTENT_RANGE.as_str()).and_then(content_range);
        let whole = response.status() == StatusCode::OK;
        Self {
            from: client::authority(response.url()),
            sha256: field("repr-digest").and_then(sha256_of_field),
            strong_tag: field(header::ETAG.as_str())
                .filter(|tag| tag.starts_with('"'))
                .map(Into::into),
            total_bytes: match range {
                Some((_, total)) => Some(total),
                None => response.content_length().filter(|_| whole),
            },
            part: range.and_then(|(part, _)| part),
        }
    }
}

/// Parses `bytes 5-9/10`, or `bytes */10` of an answer without any.
fn content_range(text: &str) -> Option<(Option<(u64, u64)>, u64)> {
    let (part, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let total = total.parse().ok()?;
    if part == "*" {
        return Some((None, total));
    }
    let (first, last) = part.split_once('-')?;
    Some((Some((first.parse().ok()?, last.parse().ok()?)), total))
}

/// A server did not give the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptError {
    /// The server after all redirects.
    pub from: String,
    what: String,
    /// Asking it again later may help.
    pub passing: bool,
    /// The server's own `Retry-After`.
    pub again_after: Option<Duration>,
}

/// The longest wait for a busy server; it is asked then in any case.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Parses seconds; a date, which our servers never send, is ignored.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    Some(Duration::from_secs(seconds.parse().ok()?).min(LONGEST_WAIT))
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl AttemptError {
    pub(super) fn unanswered(source: &Url, error: &reqwest::Error) -> Self {
        let from = client::authority(error.url().unwrap_or(source));
        if error.is_redirect() {
            let cause = root_cause(error);
            let what = say(
                format!("{from} 的重定向无法跟随：{cause}"),
                format!("{from} redirects to where it can't be followed: {cause}"),
            );
            return Self { from, what, passing: false, again_after: None };
        }
        let why = match error.is_timeout() {
            true => say("没有及时响应", "no answer in time"),
            false => client::why(error),
        };
        let what = say(
            format!("连接不上 {from}：{}", client::translate_os_error(&why)),
            format!("cannot reach {from}: {why}"),
        );
        Self { from, what, passing: true, again_after: None }
    }

    pub(super) fn broken(from: String, received: u64, error: &reqwest::Error) -> Self {
        let why = match error.is_timeout() {
            true => say("不再有数据", "nothing more arrived"),
            false => client::why(error),
        };
        let received = words::format_bytes(received as f64);
        let what = say(
            format!("与 {from} 的连接在收到 {received} 后中断：{why}"),
            format!("the connection to {from} broke after {received}: {why}"),
        );
        Self { from, what, passing: true, again_after: None }
    }

    pub(super) async fn refused(from: String, response: Response) -> Self {
        let (status, again_after) = (response.status(), retry_after(&response));
        let said = client::detail(response).await;
        let passing = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let code = status.as_u16();
        let what =
            say(format!("{from} 返回 {code}：{said}"), format!("{from} answered {code}: {said}"));
        Self { from, what, passing, again_after: again_after.filter(|_| passing) }
    }

    pub(super) fn another_version(from: String) -> Self {
        let what = say(
            format!("{from} 上是另一个版本，重新下载"),
            format!("{from} has another version; the download starts over"),
        );
        Self { from, what, passing: true, again_after: None }
    }

    /// Complete, but not the right bytes.
    pub(super) fn wrong(from: String, wrong: &ContentMismatch) -> Self {
        let what = say(format!("{from}：{}", wrong.what), format!("{from}: {}", wrong.what));
        Self { from, what, passing: wrong.has_mixed_versions, again_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_makes_it_wait_for_ever() {
        let after = |text: &str| {
            let answer = axum::http::Response::builder().header(header::RETRY_AFTER, text);
            retry_after(&answer.body("").unwrap().into())
        };
        assert_eq!(after(" 5 "), Some(Duration::from_secs(5)));
        assert_eq!(after("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(after("-1"), None);
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn ranges_are_read_to_the_letter() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((Some((5, 9)), 10))),
            ("bytes */10", Some((None, 10))),
            ("bytes 5-9/*", None),
            ("items 5-9/10", None),
            ("bytes 5/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
