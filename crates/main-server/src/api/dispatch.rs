//! Files for nodes, for operators: `/api/v1/dispatch`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `PUT …/uploads` | the bytes of a file | 201: its digest and size, for `files` of a task |
//! | `POST …` | a task | 201, once it is on disk: the task; 200 if one with its `key` is there already |
//! | `GET …` | | 200: the tasks, the newest first; `before`, `limit` |
//! | `GET …/{task}` | | 200: the task and its nodes; `state`, `after`, `limit` |
//! | `GET …/{task}/files` | | 200: the files |
//! | `DELETE …/{task}` | | 202: nobody gets it any more, and nodes remove what they have |
//! | `POST …/{task}/retry` | | 202: the task in which the nodes that failed try again |
//!
//! Times are seconds since 1970. Unknown task: 404.

pub(crate) mod uploads;
mod views;

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_mirror_http::{access::Operator, wire::ApiQuery};
use edge_mirror_protocol::dispatch::TaskId;
use serde::Deserialize;
use tracing::info;

use crate::{
    api::{
        json::{DeclaredJson, LargeJsonBody, WrittenJson},
        page_limit::checked_limit,
        path::PathTask,
    },
    refusal::RequestError,
    server::{RequestedTask, Server},
    state::dispatch::{DispatchRequest, DispatchTask},
};
pub(crate) use views::{NodeDispatchState, TaskDetails, TaskPage, TaskView};

type Shared = State<Arc<Server>>;

#[derive(Deserialize)]
pub(crate) struct TaskQuery {
    before: Option<TaskId>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(crate) struct NodeQuery {
    state: Option<NodeDispatchState>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn create(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    LargeJsonBody(fields): LargeJsonBody,
) -> Result<Response, RequestError> {
    let request = DispatchRequest::read(fields).map_err(RequestError::Invalid)?;
    let requested = server.create_task(request, &operator).await?;
    let task = requested.task();
    let status = match &requested {
        RequestedTask::Created(_) => {
            info!("task {} has {} files of {} bytes", task.id, task.files, task.bytes);
            StatusCode::CREATED
        }
        RequestedTask::Repeated(_) => StatusCode::OK,
    };
    Ok((status, written(&server, task)).into_response())
}

pub(crate) async fn list(
    State(server): Shared,
    ApiQuery(asked): ApiQuery<TaskQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = checked_limit(asked.limit)?;
    let table = server.dispatch.table();
    let is_asked = |task: &&Arc<DispatchTask>| asked.before.as_ref().is_none_or(|id| task.id < *id);
    let mut tasks: Vec<_> = table.iter().rev().filter(is_asked).take(limit + 1).collect();
    let has_more = tasks.len() > limit;
    tasks.truncate(limit);
    let next = tasks.last().filter(|_| has_more).map(|task| task.id.clone());
    let tasks = tasks.into_iter().map(|task| TaskView::new(task, &server)).collect();
    Ok(WrittenJson::new(&TaskPage { tasks, next }))
}

pub(crate) async fn show(
    State(server): Shared,
    PathTask(id): PathTask<TaskId>,
    ApiQuery(asked): ApiQuery<NodeQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = checked_limit(asked.limit)?;
    let table = server.dispatch.table();
    let details =
        TaskDetails::new(table.get(&id)?, &server, (asked.state, asked.after.as_deref()), limit);
    Ok(WrittenJson::new(&details))
}

pub(crate) async fn files(
    State(server): Shared,
    PathTask(id): PathTask<TaskId>,
) -> Result<WrittenJson, RequestError> {
    let table = server.dispatch.table();
    let files = table.files(&id).ok_or_else(|| RequestError::UnknownTask(id.to_string()))?;
    Ok(WrittenJson::new(&**files))
}

pub(crate) async fn cancel(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathTask(id): PathTask<TaskId>,
) -> Result<Response, RequestError> {
    let task = server.cancel_task(&id, &operator).await?;
    info!("task {id} was cancelled, or its files are taken back");
    Ok((StatusCode::ACCEPTED, written(&server, &task)).into_response())
}

pub(crate) async fn retry(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    PathTask(id): PathTask<TaskId>,
) -> Result<Response, RequestError> {
    let task = server.retry_task(&id, &operator).await?;
    info!("nodes that failed in task {id} try again in task {}", task.id);
    Ok((StatusCode::ACCEPTED, written(&server, &task)).into_response())
}

fn written(server: &Server, task: &DispatchTask) -> WrittenJson {
    WrittenJson::new(&TaskView::new(task, server))
}
