//! `GET /api/v1/events`: the overview as it changes, and what was asked for
//! over the last minutes. For operators, like the overview itself.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{overview, server::Server};
use crate::{
    access::Access,
    wire::feed::{self, History, SILENCE, Watcher},
};

type Shared = State<Arc<Server>>;

/// How soon a stream notices that its reader is an operator no longer.
const JUDGE_EVERY: Duration = Duration::from_secs(2);
const LISTS: &[(&str, &str)] = &[("meetings", "id"), ("nodes", "node_id")];

pub async fn traffic(State(server): Shared) -> Response {
    Json(&*server.history.borrow()).into_response()
}

pub async fn events(State(server): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let session = server.access.described(&parts).await;
    let Some(watcher) = server.feed.watch(overview::snapshot(&server)) else {
        return feed::too_many();
    };
    let mut history = server.history.subscribe();
    let first = [watcher.first(), feed::event("traffic", &*history.borrow_and_update())];
    let mut judge = tokio::time::interval_at(Instant::now() + JUDGE_EVERY, JUDGE_EVERY);
    judge.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let access = server.access.clone();
    let ready = VecDeque::from(first);
    let following = Following { ready, watcher, history, session, judge, access, parts };
    let closing = server.closing.clone();
    let events = stream::unfold(Some(following), move |following| {
        let closing = closing.clone();
        async move {
            let mut following = following?;
            let (event, last) = closing.run_until_cancelled(following.next()).await?;
            Some((Ok(event), (!last).then_some(following)))
        }
    });
    feed::response(events)
}

struct Following {
    ready: VecDeque<Bytes>,
    watcher: Watcher,
    history: watch::Receiver<History>,
    session: Value,
    judge: Interval,
    access: Access,
    parts: Parts,
}

impl Following {
    /// The next event, and whether it is the last one.
    async fn next(&mut self) -> (Bytes, bool) {
        if let Some(event) = self.ready.pop_front() {
            return (event, false);
        }
        // Outlasts the loop's turns: the judge's ticks are no news.
        let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
        loop {
            tokio::select! {
                change = self.watcher.next(LISTS) => return (change, false),
                Ok(()) = self.history.changed() => {
                    let sample = self.history.borrow_and_update().last();
                    return (feed::event("sample", &sample), false);
                }
                _ = self.judge.tick() => {
                    let session = self.access.described(&self.parts).await;
                    if session != self.session {
                        // The page comes again with the rights that it has now.
                        return (feed::event("session", &session), true);
                    }
                }
                () = &mut silence => return (feed::comment(), false),
            }
        }
    }
}
