//! Live casts, which go from memory to whoever is there, and the stream of all casts, for
//! operators: `POST /api/v1/casts/live` and `GET /api/v1/casts/stream`.
//!
//! A live cast is on no disk and in no database, and other main servers do not get it. Nodes
//! get it that wait for a cast, or ask for one within seconds.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::{
    access::Operator,
    wire::{self, ApiQuery, feed},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    api::json::{DeclaredJson, JsonItems, WrittenJson},
    counts::{DroppedCastReader, SentCastKind},
    refusal::RequestError,
    server::{Server, StreamedCast},
    state::{
        audit::AuditedOperator,
        casts::{self, CastOrigin},
    },
};

type Shared = State<Arc<Server>>;

/// A stream ends after this time, and its reader connects again: with the rights that it has
/// then.
const LIFETIME: Duration = Duration::from_secs(600);

/// A live cast that was sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SentLiveCast {
    id: String,
    /// Requests of nodes that waited for it; others that ask within seconds get it, too.
    nodes: usize,
    /// Programs that follow all casts here.
    subscribers: usize,
}

/// The live casts of a list, in its order.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SentLiveCasts {
    casts: Vec<SentLiveCast>,
}

pub(crate) async fn send(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    JsonItems { items, is_list }: JsonItems,
) -> Result<Response, RequestError> {
    let reading = server.clone();
    let new = tasks::blocking(move || {
        let (now, limits) = (UnixMillis::now(), &reading.casts.limits);
        let origin = CastOrigin::from(AuditedOperator::from(&operator));
        casts::read_live_casts(items, limits, &origin, now, |to| reading.resolve(to))
    });
    let new = new.await?;
    let subscribers = server.live_casts.subscribers().count();
    server.counts.casts.counter(SentCastKind::Live).add(new.len() as u64);
    let sent = server.live_casts.append(&new).into_iter();
    let mut sent: Vec<_> =
        sent.map(|(id, nodes)| SentLiveCast { id: id.to_string(), nodes, subscribers }).collect();
    let answer = match sent.pop() {
        Some(cast) if !is_list => WrittenJson::new(&cast),
        last => {
            sent.extend(last);
            WrittenJson::new(&SentLiveCasts { casts: sent })
        }
    };
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

#[derive(Deserialize)]
pub(crate) struct StreamQuery {
    #[serde(default)]
    topic: String,
}

/// Casts that a slow reader did not get.
#[derive(Serialize)]
struct DroppedCasts {
    count: u64,
}

pub(crate) async fn stream(
    State(server): Shared,
    ApiQuery(StreamQuery { topic }): ApiQuery<StreamQuery>,
) -> Response {
    let Some(casts) =
        server.live_casts.subscribers().subscribe(server.casts.limits.max_subscribers)
    else {
        let text =
            "订阅者过多，请稍后再试 / too many programs follow casts already, try again later";
        return wire::detail(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let ready = VecDeque::from([feed::comment()]);
    let events = CastEvents { server, casts, topic, ready, ends: Instant::now() + LIFETIME };
    feed::response(stream::unfold(events, |mut events| async move {
        let closing = events.server.closing.clone();
        let event = closing.run_until_cancelled(events.next()).await??;
        Some((Ok::<_, Infallible>(event), events))
    }))
}

struct CastEvents {
    server: Arc<Server>,
    casts: broadcast::Receiver<Arc<StreamedCast>>,
    /// Empty: any.
    topic: String,
    ready: VecDeque<Bytes>,
    ends: Instant,
}

impl CastEvents {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let received = tokio::select! {
                received = self.casts.recv() => received,
                () = tokio::time::sleep(feed::SILENCE) => return Some(feed::comment()),
                () = tokio::time::sleep_until(self.ends) => return None,
            };
            match received {
                Ok(cast) if self.topic.is_empty() || *cast.topic == *self.topic => {
                    return Some(cast.event.clone());
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    self.server
                        .counts
                        .dropped_casts
                        .counter(DroppedCastReader::Subscriber)
                        .add(count);
                    return Some(feed::event("dropped", &DroppedCasts { count }));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
