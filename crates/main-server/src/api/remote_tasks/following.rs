//! A task as it changes, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Bytes, extract::State, response::Response};
use edge_mirror_http::wire::feed;
use edge_mirror_protocol::remote_tasks::RemoteTaskId;
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::RemoteTaskView;
use crate::{
    api::path::PathTask, refusal::RequestError, server::Server, state::remote_tasks::TaskEntry,
};

/// A stream ends after this time, and its reader connects again: with the rights that it has
/// then.
const LIFETIME: Duration = Duration::from_secs(600);
/// Nobody reads faster.
const PAUSE: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn follow(
    State(server): State<Arc<Server>>,
    PathTask(id): PathTask<RemoteTaskId>,
) -> Result<Response, RequestError> {
    let permit = server.remote_tasks.following.clone().try_acquire_owned();
    let permit = permit.map_err(|_| RequestError::TooManyFollowers)?;
    server.remote_tasks.table().get(&id)?;
    let changes = server.remote_tasks.subscribe();
    let ends = Instant::now() + LIFETIME;
    let events = TaskEvents {
        server,
        id,
        changes,
        last: Bytes::new(),
        seen: None,
        is_over: false,
        ends,
        _permit: permit,
    };
    Ok(feed::response(stream::unfold(events, |mut events| async move {
        let closing = events.server.closing.clone();
        let event = closing.run_until_cancelled(events.next()).await??;
        Some((Ok::<_, Infallible>(event), events))
    })))
}

struct TaskEvents {
    server: Arc<Server>,
    id: RemoteTaskId,
    changes: watch::Receiver<()>,
    last: Bytes,
    seen: Option<Arc<TaskEntry>>,
    is_over: bool,
    ends: Instant,
    _permit: OwnedSemaphorePermit,
}

impl TaskEvents {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            self.changes.borrow_and_update();
            let table = self.server.remote_tasks.table();
            // One that was removed has nothing more to tell.
            let entry = table.find(&self.id)?.clone();
            let is_same = self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &entry));
            if is_same && entry.progress().running == 0 {
                self.wait().await?;
                continue;
            }
            let event = feed::event("task", &RemoteTaskView::new(&entry, &self.server));
            self.is_over = entry.task.finished.is_some();
            self.seen = Some(entry);
            if event != self.last {
                self.last = event.clone();
                return Some(event);
            }
            self.wait().await?;
        }
        None
    }

    /// Waits for a change; None at the end.
    async fn wait(&mut self) -> Option<()> {
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            _ = self.changes.changed() => Some(()),
            // Progress within a run is told by the node alone.
            () = tokio::time::sleep(LOOK_EVERY) => Some(()),
            () = tokio::time::sleep_until(self.ends) => None,
        }
    }
}
