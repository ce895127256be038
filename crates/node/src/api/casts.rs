//! `GET /api/casts`: the casts that come to this node, as server-sent events, for programs
//! that an operator lets listen.
//!
//! Each event's id is the cast's number here; a reader that reconnects with it
//! (`Last-Event-ID`, or `?after=`) misses nothing that is still kept. What a reader has not
//! read waits in the history and nowhere else, so that a slow one costs no memory.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

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
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::Instant,
};

use super::AppState;
use crate::casts::{CastHistory, NodeCast};

/// A stream ends after this time, and its reader connects again: with the rights that it
/// has then.
const LIFETIME: Duration = Duration::from_secs(600);

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
    let limits = &app.settings.current().casts;
    let news = app.casts.subscribe();
    if app.casts.followers() > limits.max_consumers as usize {
        let text =
            "订阅者过多，请稍后再试 / too many programs follow casts already, try again later";
        return wire::detail(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let place = last.or(asked.after).unwrap_or_else(|| app.casts.last());
    let stream = CastStream {
        history: app.casts.clone(),
        news,
        live: app.casts.subscribe_live(),
        place,
        topic: asked.topic,
        ready: VecDeque::from([feed::comment()]),
        ends: Instant::now() + LIFETIME,
    };
    let closing = app.closing.clone();
    feed::response(stream::unfold(stream, move |mut stream| {
        let closing = closing.clone();
        async move {
            let event = closing.run_until_cancelled(stream.next()).await??;
            Some((Ok::<_, Infallible>(event), stream))
        }
    }))
}

struct CastStream {
    history: Arc<CastHistory>,
    news: watch::Receiver<u64>,
    live: broadcast::Receiver<Arc<DeliveredCast>>,
    place: u64,
    topic: String,
    ready: VecDeque<Bytes>,
    ends: Instant,
}

impl CastStream {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.news.borrow_and_update();
            let before = self.place;
            let (found, place) = self.history.after(before, &self.topic);
            self.place = place;
            if let Some(before) = found.lost_before {
                self.ready.push_back(feed::event("lost", &LostCasts { before }));
            }
            self.ready.extend(found.casts.iter().map(|cast| event(cast)));
            if !self.ready.is_empty() || place != before {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                live = self.live.recv() => self.ready.extend(self.live_event(live)),
                () = tokio::time::sleep(feed::SILENCE) => return Some(feed::comment()),
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    fn live_event(&self, received: Result<Arc<DeliveredCast>, RecvError>) -> Option<Bytes> {
        match received {
            Ok(cast) => {
                let is_wanted = self.topic.is_empty() || cast.topic == self.topic;
                is_wanted.then(|| feed::event("live", &*cast))
            }
            Err(RecvError::Lagged(count)) => {
                Some(feed::event("dropped", &MissedLiveCasts { count }))
            }
            // The history is as long-lived as the node.
            Err(RecvError::Closed) => None,
        }
    }
}

fn event(cast: &NodeCast) -> Bytes {
    let event = feed::event("cast", &ConsumedCast { n: cast.n, cast: &cast.cast });
    [format!("id: {}\n", cast.n).as_bytes(), &event].concat().into()
}
