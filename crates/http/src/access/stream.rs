//! A page's event stream, for as long as its reader's rights don't change: the feed, the
//! history, and a server's own further events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{body::Bytes, extract::Request, http::request::Parts, response::Response};
use futures_util::stream;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{AccessControl, login::Rights};
use crate::wire::{
    feed::{self, Feed, FeedWatcher, History, SILENCE},
    snapshot::Snapshot,
};

/// Interval between checks of the reader's rights.
const JUDGE_EVERY: Duration = Duration::from_secs(2);

/// The sources of a stream.
pub struct StreamSources<'a> {
    pub feed: &'a Feed,
    /// The current state.
    pub state: Snapshot,
    pub history: watch::Receiver<History>,
    /// Ends the stream.
    pub closing: CancellationToken,
}

/// Further events, with true for the last one. The future may be dropped half way, and
/// must lose nothing.
pub trait ExtraEvents: Send + 'static {
    fn next(&mut self) -> impl Future<Output = (Bytes, bool)> + Send;
}

pub struct NoExtraEvents;

impl ExtraEvents for NoExtraEvents {
    async fn next(&mut self) -> (Bytes, bool) {
        std::future::pending().await
    }
}

impl AccessControl {
    /// `more` is passed true for an operator.
    pub async fn stream<M: ExtraEvents>(
        &self,
        request: Request,
        sources: StreamSources<'_>,
        more: impl FnOnce(bool) -> M,
    ) -> Response {
        let (parts, _) = request.into_parts();
        let session = self.rights(&parts).await;
        let operator = session.operator;
        let StreamSources { feed, state, mut history, closing } = sources;
        let address = self.caller(&parts).address;
        let Some(watcher) = feed.watch(state, address, operator) else {
            return feed::too_many_streams();
        };
        let first = [watcher.first(), feed::event("traffic", &*history.borrow_and_update())];
        let mut judge = tokio::time::interval_at(Instant::now() + JUDGE_EVERY, JUDGE_EVERY);
        judge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = EventStream {
            ready: VecDeque::from(first),
            watcher,
            history,
            more: more(operator),
            session,
            judge,
            access: self.clone(),
            parts,
        };
        feed::response(stream::unfold(Some(stream), move |stream| {
            let closing = closing.clone();
            async move {
                let mut stream = stream?;
                let (event, last) = closing.run_until_cancelled(stream.next()).await?;
                Some((Ok::<_, Infallible>(event), (!last).then_some(stream)))
            }
        }))
    }
}

struct EventStream<M> {
    ready: VecDeque<Bytes>,
    watcher: FeedWatcher,
    history: watch::Receiver<History>,
    more: M,
    session: Rights,
    judge: Interval,
    access: AccessControl,
    parts: Parts,
}

impl<M: ExtraEvents> EventStream<M> {
    /// Returns the next event, with true for the last one.
    async fn next(&mut self) -> (Bytes, bool) {
        if let Some(event) = self.ready.pop_front() {
            return (event, false);
        }
        // Outlasts the loop's iterations: checking the rights is no event.
        let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
        loop {
            tokio::select! {
                // Rights first: nothing is sent to a reader that lost them.
                biased;
                _ = self.judge.tick() => {
                    let session = self.access.refresh_rights(&self.parts).await;
                    if session != self.session {
                        // The page reconnects with its current rights.
                        return (feed::event("session", &session), true);
                    }
                }
                change = self.watcher.next() => return (change, false),
                Ok(()) = self.history.changed() => {
                    let sample = self.history.borrow_and_update().last();
                    return (feed::event("sample", &sample), false);
                }
                event = self.more.next() => return event,
                () = &mut silence => return (feed::comment(), false),
            }
        }
    }
}
