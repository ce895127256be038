//! Remote tasks, for operators: `/api/v1/tasks`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `POST …` | a task | 201, once it is on disk: the task; 200 if its `key` is known |
//! | `GET …` | | 200: the tasks, the newest first; `status`, `type`, `node`, `before`, `limit` |
//! | `GET …/types` | | 200: the types that nodes offer |
//! | `GET …/{task}` | | 200: the task with its parts and results; `after`, `limit` |
//! | `GET …/{task}/explain` | | 200: all nodes as they are weighed for it |
//! | `GET …/{task}/events` | | 200: the task each time that it changes, until it is finished |
//! | `POST …/{task}/cancel` | | 202: no more of it is begun, and what runs is stopped |
//! | `POST …/{task}/retry` | | 202: the task in which what failed is done again |
//!
//! Times are seconds since 1970. Unknown task: 404.

mod following;
mod views;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_mirror_base::tasks;
use edge_mirror_http::{access::Operator, wire::ApiQuery};
use edge_mirror_protocol::remote_tasks::{RemoteTaskId, TaskTypeName};
use serde::Deserialize;
use tracing::info;

use crate::{
    api::{
        json::{DeclaredJson, LargeJsonBody, WrittenJson},
        page_limit::checked_limit,
        path::PathTask,
    },
    refusal::RequestError,
    server::Server,
    state::remote_tasks::{
        RemoteTaskPhase, RemoteTaskRequest, TaskEntry, explain, offered_types, with_runs,
    },
};
pub(crate) use views::{
    NodeWeights, OfferedTypes, RemoteTaskDetails, RemoteTaskPage, RemoteTaskView,
};

type Shared = State<Arc<Server>>;

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/v1/tasks", get(list).post(create))
        .route("/api/v1/tasks/types", get(types))
        .route("/api/v1/tasks/{task}", get(show))
        .route("/api/v1/tasks/{task}/explain", get(weigh))
        .route("/api/v1/tasks/{task}/events", get(following::follow))
        .route("/api/v1/tasks/{task}/cancel", post(cancel))
        .route("/api/v1/tasks/{task}/retry", post(retry))
}

#[derive(Deserialize)]
pub(crate) struct RemoteTaskQuery {
    status: Option<RemoteTaskPhase>,
    #[serde(rename = "type")]
    task_type: Option<TaskTypeName>,
    node: Option<String>,
    before: Option<RemoteTaskId>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(crate) struct PartQuery {
    after: Option<u32>,
    limit: Option<usize>,
}

impl RemoteTaskQuery {
    fn matches(&self, entry: &TaskEntry) -> bool {
        let ran_on = |node: &String| entry.parts().any(|part| part.tried.contains(node));
        self.status.is_none_or(|status| entry.phase() == status)
            && self.task_type.as_ref().is_none_or(|name| entry.task.task_type == *name)
            && self.node.as_ref().is_none_or(ran_on)
    }
}

pub(crate) async fn create(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    LargeJsonBody(fields): LargeJsonBody,
) -> Result<Response, RequestError> {
    let request = RemoteTaskRequest::read(fields).map_err(RequestError::Invalid)?;
    let (entry, is_new) = server.create_remote_task(request, &operator).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, WrittenJson::new(&RemoteTaskView::new(&entry, &server))).into_response())
}

pub(crate) async fn list(
    State(server): Shared,
    ApiQuery(asked): ApiQuery<RemoteTaskQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = checked_limit(asked.limit)?;
    // Filters may look at thousands of tasks with thousands of parts.
    let page = tasks::blocking(move || {
        let table = server.remote_tasks.table();
        let found = table.newest(asked.before.as_ref()).filter(|entry| asked.matches(entry));
        let mut found: Vec<_> = found.take(limit + 1).collect();
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|entry| entry.task.id.clone());
        let tasks = found.into_iter().map(|entry| RemoteTaskView::new(entry, &server)).collect();
        WrittenJson::new(&RemoteTaskPage { tasks, next })
    });
    Ok(page.await)
}

pub(crate) async fn types(State(server): Shared) -> WrittenJson {
    let workers = with_runs(&server.remote_tasks.table(), server.worker_nodes());
    let nodes = workers.iter().map(Into::into).collect();
    WrittenJson::new(&OfferedTypes { types: offered_types(&workers), nodes })
}

pub(crate) async fn show(
    State(server): Shared,
    PathTask(id): PathTask<RemoteTaskId>,
    ApiQuery(asked): ApiQuery<PartQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = checked_limit(asked.limit)?;
    let entry = server.remote_tasks.table().get(&id)?.clone();
    // Results may be megabytes.
    let written = tasks::blocking(move || {
        WrittenJson::new(&RemoteTaskDetails::new(&entry, &server, asked.after, limit))
    });
    Ok(written.await)
}

pub(crate) async fn weigh(
    State(server): Shared,
    PathTask(id): PathTask<RemoteTaskId>,
) -> Result<WrittenJson, RequestError> {
    let table = server.remote_tasks.table();
    let entry = table.get(&id)?;
    let nodes = with_runs(&table, server.worker_nodes());
    let holds = |node: &str, package: &str| server.node_has(node, package);
    Ok(WrittenJson::new(&NodeWeights { nodes: explain(&entry.task, &nodes, &holds) }))
}

pub(crate) async fn cancel(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathTask(id): PathTask<RemoteTaskId>,
) -> Result<Response, RequestError> {
    let entry = server.cancel_remote_task(&id, &operator).await?;
    info!("remote task {id} is cancelled");
    Ok((StatusCode::ACCEPTED, WrittenJson::new(&RemoteTaskView::new(&entry, &server)))
        .into_response())
}

pub(crate) async fn retry(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathTask(id): PathTask<RemoteTaskId>,
) -> Result<Response, RequestError> {
    let entry = server.retry_remote_task(&id, &operator).await?;
    info!("what failed of remote task {id} is done again in {}", entry.task.id);
    Ok((StatusCode::ACCEPTED, WrittenJson::new(&RemoteTaskView::new(&entry, &server)))
        .into_response())
}
