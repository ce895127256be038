//! `/api/casts`: the casts that come to this node, for programs that an operator lets listen,
//! and those that programs here send.
//!
//! `GET` has them as server-sent events, `socket` as a WebSocket. Each event's id is the
//! cast's number here; a reader that reconnects with it (`Last-Event-ID`, or `?after=`)
//! misses nothing that is still kept.

pub(super) mod send;
pub(super) mod socket;

use std::convert::Infallible;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::{self, ApiQuery, feed};
use edge_mirror_protocol::casts::DeliveredCast;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::AppState;
use crate::casts::{CastFollower, ConsumerEvent, NodeCast};

#[derive(Deserialize)]
pub(super) struct ConsumerPlace {
    after: Option<u64>,
    #[serde(default)]
    topic: String,
}

/// A cast as consumers get it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ConsumedCast<'a> {
    /// The number here, which is the event's id.
    n: u64,
    #[serde(flatten)]
    cast: &'a DeliveredCast,
}

impl<'a> From<&'a NodeCast> for ConsumedCast<'a> {
    fn from(cast: &'a NodeCast) -> Self {
        Self { n: cast.n, cast: &cast.cast }
    }
}

/// Live casts that a slow reader did not get.
#[derive(Serialize)]
struct MissedLiveCasts {
    count: u64,
}

/// Casts that were removed before the reader asked for them.
#[derive(Serialize)]
struct LostCasts {
    /// The number of the first one that is kept.
    before: u64,
}

#[derive(Deserialize)]
pub(super) struct ReadCast {
    n: u64,
}

/// Notes that a consumer has read a cast, and what came before it of its topic; the main
/// server is told.
pub(super) async fn mark_read(
    State(app): State<AppState>,
    ApiQuery(ReadCast { n }): ApiQuery<ReadCast>,
) -> Response {
    match app.casts.mark_read(n) {
        true => wire::done(format!("Cast {n} was read")).into_response(),
        false => {
            let text = format!("没有编号为 {n} 的消息 / there is no cast with number {n}");
            wire::detail(StatusCode::NOT_FOUND, text)
        }
    }
}

pub(super) async fn follow(
    State(app): State<AppState>,
    ApiQuery(asked): ApiQuery<ConsumerPlace>,
    headers: HeaderMap,
) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let place = ConsumerPlace { after: last.or(asked.after), ..asked };
    let Some(follower) = follower(&app, place) else { return too_many() };
    let stream = CastStream { follower, is_new: true };
    let closing = app.closing.clone();
    feed::response(stream::unfold(stream, move |mut stream| {
        let closing = closing.clone();
        async move {
            let event = closing.run_until_cancelled(stream.next()).await??;
            Some((Ok::<_, Infallible>(event), stream))
        }
    }))
}

/// None if as many follow as may.
fn follower(app: &AppState, ConsumerPlace { after, topic }: ConsumerPlace) -> Option<CastFollower> {
    app.casts.follow(after, topic, app.settings.current().casts.max_consumers)
}

fn too_many() -> Response {
    let text = "订阅者过多，请稍后再试 / too many programs follow casts already, try again later";
    wire::detail(StatusCode::SERVICE_UNAVAILABLE, text)
}

struct CastStream {
    follower: CastFollower,
    /// Nothing was sent yet.
    is_new: bool,
}

impl CastStream {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_new) {
            return Some(feed::comment());
        }
        match timeout(feed::SILENCE, self.follower.next()).await {
            Ok(event) => event.map(|event| written(&event)),
            Err(_) => Some(feed::comment()),
        }
    }
}

fn written(event: &ConsumerEvent) -> Bytes {
    match event {
        ConsumerEvent::Kept(cast) => {
            let event = feed::event("cast", &ConsumedCast::from(&**cast));
            [format!("id: {}\n", cast.n).as_bytes(), &event].concat().into()
        }
        ConsumerEvent::Live(cast) => feed::event("live", &**cast),
        ConsumerEvent::Dropped(count) => feed::event("dropped", &MissedLiveCasts { count: *count }),
        ConsumerEvent::Lost(before) => feed::event("lost", &LostCasts { before: *before }),
    }
}
