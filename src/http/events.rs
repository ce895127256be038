//! `GET /api/events`: what the panel shows, as it changes. Open like the
//! status; log lines are for operators only.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, Interval},
};

use super::{Face, status};
use crate::{
    access::Access,
    board::Board,
    config::Config,
    telemetry::{Journal, Level},
    wire::feed::{self, History, SILENCE, Watcher},
};

/// How soon a stream notices that its reader is an operator no longer.
const JUDGE_EVERY: Duration = Duration::from_secs(2);
/// Enough for a burst; who needs more reads `/api/logs`.
const MAX_LINES: usize = 200;

/// Looks at the state for as long as pages follow it.
pub async fn run(face: Face) {
    let feed = face.feed.clone();
    feed.run(|| state(&face)).await;
}

/// The status without its second list of meetings, which is for others.
fn state(face: &Face) -> Value {
    let mut state = status::snapshot(&face.settings, &face.board, &face.fetch, &face.traffic);
    if let Value::Object(fields) = &mut state {
        fields.shift_remove("active_meetings");
    }
    state
}

pub(super) async fn traffic(State(board): State<Arc<Board>>) -> Response {
    Json(&*board.history.borrow()).into_response()
}

pub(super) async fn events(State(face): State<Face>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let session = face.access.described(&parts).await;
    let Some(watcher) = face.feed.watch(state(&face)) else { return feed::too_many() };
    let mut history = face.board.history.subscribe();
    let first = [watcher.first(), feed::event("traffic", &*history.borrow_and_update())];
    let journal = face.journal.clone();
    let mut judge = tokio::time::interval_at(Instant::now() + JUDGE_EVERY, JUDGE_EVERY);
    judge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let following = Following {
        ready: VecDeque::from(first),
        watcher,
        history,
        settings: face.settings.subscribe(),
        revision: 0,
        told: journal.last(),
        lines: journal.subscribe(),
        journal,
        session,
        judge,
        access: face.access.clone(),
        parts,
        ended: false,
    };
    let closing = face.closing.clone();
    let events = stream::unfold(following, move |mut following| {
        let closing = closing.clone();
        async move {
            let event = closing.run_until_cancelled(following.next()).await??;
            Some((Ok(event), following))
        }
    });
    feed::response(events)
}

struct Following {
    ready: VecDeque<axum::body::Bytes>,
    watcher: Watcher,
    history: watch::Receiver<History>,
    settings: watch::Receiver<Arc<Config>>,
    revision: u64,
    journal: Journal,
    lines: watch::Receiver<u64>,
    told: u64,
    session: Value,
    judge: Interval,
    access: Access,
    parts: Parts,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<axum::body::Bytes> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.ended {
            return None;
        }
        let operator = self.session["operator"] == true;
        loop {
            tokio::select! {
                change = self.watcher.next(&[("meetings", "id")]) => return Some(change),
                Ok(()) = self.history.changed() => {
                    let sample = self.history.borrow_and_update().last();
                    return Some(feed::event("sample", &sample));
                }
                Ok(()) = self.lines.changed(), if operator => {
                    let lines = self.journal.lines(Some(self.told), Level::TRACE, MAX_LINES);
                    let Some(last) = lines.last() else { continue };
                    self.told = last.n;
                    return Some(feed::event("log", &lines));
                }
                Ok(()) = self.settings.changed(), if operator => {
                    self.settings.mark_unchanged();
                    self.revision += 1;
                    return Some(feed::event("config", &json!({"revision": self.revision})));
                }
                _ = self.judge.tick() => {
                    let session = self.access.described(&self.parts).await;
                    if session != self.session {
                        // Rights have changed: the page comes again with what it has now.
                        self.ended = true;
                        return Some(feed::event("session", &session));
                    }
                }
                () = tokio::time::sleep(SILENCE) => return Some(feed::comment()),
            }
        }
    }
}
