//! Request bodies: bounds of size and time, and handling those that are not read.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::StreamExt;
use thiserror::Error;

use super::detail;

/// Time to read what follows a refusal: a few hundred megabytes on a LAN.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason for a body not read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    #[error("请求体过大，上限 {0} 字节 / the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("请求体发送过慢 / the body came too slowly")]
    Slow,
    #[error("请求体不完整 / the body did not arrive whole")]
    Broken,
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        };
        with_close(detail(status, self.to_string()))
    }
}

/// Reads the whole body. Of one that is too large, the rest is read for a moment, too: a
/// client that is still sending when the connection closes would not see the answer.
pub async fn read(body: Body, max_bytes: usize, within: Duration) -> Result<Bytes, BodyError> {
    let mut rest = body.into_data_stream();
    let whole = tokio::time::timeout(within, read_up_to(&mut rest, max_bytes)).await;
    let whole = whole.map_err(|_| BodyError::Slow)?;
    if let Err(BodyError::TooLarge(_)) = whole {
        drain(rest).await;
    }
    whole
}

async fn read_up_to(rest: &mut BodyDataStream, max_bytes: usize) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = rest.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        if whole.len() + piece.len() > max_bytes {
            return Err(BodyError::TooLarge(max_bytes));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads for a moment what nobody wants; true if that was all.
async fn drain(mut rest: BodyDataStream) -> bool {
    let reading = async { while let Some(Ok(_)) = rest.next().await {} };
    tokio::time::timeout(DRAIN_TIMEOUT, reading).await.is_ok()
}

/// True if the body was announced as JSON. A page of another site can send other types
/// without a preflight, but not JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = declared.and_then(|value| value.split(';').next()).unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// True also if it was not announced as anything: old tools send no type. A page of
/// another site can omit it, too, so its origin has to be checked.
pub fn is_json_or_untyped(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_TYPE) || is_json(headers)
}

pub fn not_json() -> Response {
    let text =
        "请求需要 Content-Type: application/json / send it with Content-Type: application/json";
    detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

/// Answers a request without using its body. Many clients look for the answer only once
/// they have sent everything, and a connection closed before would lose it; so the body
/// is read for a moment.
pub async fn drain_and_answer(headers: &HeaderMap, body: Body, answer: Response) -> Response {
    if body.is_end_stream() {
        return answer;
    }
    drain_rest(headers, body.into_data_stream(), answer).await
}

/// Does the same as [`drain_and_answer`] for a body read in part.
pub async fn drain_rest(headers: &HeaderMap, rest: BodyDataStream, answer: Response) -> Response {
    // A client that waits for `100 Continue` (RFC 9110, 10.1.1) has sent nothing.
    if headers.contains_key(header::EXPECT) {
        return with_close(answer);
    }
    match drain(rest).await {
        true => answer,
        false => with_close(answer),
    }
}

/// Closes the connection with the answer: the rest of the body was not read, so no
/// request may follow on it.
fn with_close(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let stalled = Body::from_stream(begun.chain(stream::pending()));
        let within = Duration::from_secs(30);
        assert_eq!(read(stalled, 10, within).await, Err(BodyError::Slow));
        assert_eq!(read(Body::from("0123456789x"), 10, within).await, Err(BodyError::TooLarge(10)));
        assert!(read(Body::from("{}"), 10, within).await.is_ok_and(|whole| whole == "{}"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_that_is_too_large_is_read_before_the_answer() {
        let (seen, within) = (Arc::new(AtomicU32::new(0)), Duration::from_secs(30));
        let counted = seen.clone();
        let body = stream::iter(0..5).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"12345"))
        });
        assert_eq!(read(Body::from_stream(body), 7, within).await, Err(BodyError::TooLarge(7)));
        assert_eq!(seen.load(Ordering::Relaxed), 5);
        // Of one that goes on for ever, no more than a moment.
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"12345")));
        let slow = endless.then(|piece| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            piece
        });
        let begun = tokio::time::Instant::now();
        assert_eq!(read(Body::from_stream(slow), 7, within).await, Err(BodyError::TooLarge(7)));
        assert!(begun.elapsed() < 2 * DRAIN_TIMEOUT);
    }

    #[test]
    fn only_json_is_json() {
        for (value, expected) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/problem+json"), true),
            (None, false),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(is_json(&headers), expected, "{value:?}");
            assert_eq!(is_json_or_untyped(&headers), expected || value.is_none(), "{value:?}");
        }
    }
}
