//! The management port: what a GoFD server calls.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use edge_mirror_gofd::{AgentStart, AgentTask};
use edge_mirror_http::wire::body::{self, BodyError};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::agent::{GofdAgent, TaskRefusal};
use crate::board::AgentCallRefusal;

/// A task of a terabyte: 28 bytes for each of its pieces.
const MAX_BODY_BYTES: usize = 40 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies that are read at a time.
static READING: Semaphore = Semaphore::const_new(2);

type Shared = State<Arc<GofdAgent>>;

pub(super) fn router(agent: Arc<GofdAgent>) -> Router {
    Router::new()
        .route("/api/v1/agent/tasks", post(create))
        .route("/api/v1/agent/tasks/start", post(start))
        .route("/api/v1/agent/tasks/{id}", delete(cancel))
        .fallback(async || message(StatusCode::NOT_FOUND, "Not Found"))
        .method_not_allowed_fallback(async || {
            message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .layer(middleware::from_fn_with_state(agent.clone(), authenticate))
        .with_state(agent)
}

async fn authenticate(State(agent): Shared, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.is_some_and(|value| agent.options.credentials.are_in_basic(value)) {
        return next.run(request).await;
    }
    agent.board.gofd.calls.inc(AgentCallRefusal::Password);
    debug!("a call for the agent of GoFD was refused: wrong password");
    let mut answer = message(StatusCode::UNAUTHORIZED, "Unauthorized");
    let realm = HeaderValue::from_static("basic realm=Restricted");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    answer
}

async fn create(State(agent): Shared, request: Request) -> Response {
    let task: AgentTask = match read(&agent, request).await {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    let id: String = task.task_id.chars().take(128).collect();
    match agent.create(task) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => {
            agent.board.gofd.calls.inc(AgentCallRefusal::Tasks);
            warn!("task {id:?} of GoFD is not taken: {refusal}");
            let status = match refusal {
                TaskRefusal::TooMany => StatusCode::SERVICE_UNAVAILABLE,
                TaskRefusal::Id(_) | TaskRefusal::Meta(_) => StatusCode::BAD_REQUEST,
            };
            message(status, &refusal.to_string())
        }
    }
}

async fn start(State(agent): Shared, request: Request) -> Response {
    match read::<AgentStart>(&agent, request).await {
        Ok(start) => {
            agent.start(start);
            StatusCode::OK.into_response()
        }
        Err(refusal) => refusal,
    }
}

async fn cancel(State(agent): Shared, Path(id): Path<String>) -> StatusCode {
    agent.cancel(&id);
    StatusCode::OK
}

async fn read<T: DeserializeOwned>(agent: &GofdAgent, request: Request) -> Result<T, Response> {
    // Never closed.
    let _permit = READING.acquire().await.ok();
    let read = body::read(request.into_body(), MAX_BODY_BYTES, BODY_TIMEOUT).await;
    let parsed = read.map_err(|error| match error {
        BodyError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        BodyError::Slow => (StatusCode::REQUEST_TIMEOUT, error.to_string()),
        BodyError::Broken => (StatusCode::BAD_REQUEST, error.to_string()),
    });
    let parsed = parsed.and_then(|bytes: Bytes| {
        serde_json::from_slice(&bytes).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
    });
    parsed.map_err(|(status, text)| {
        agent.board.gofd.calls.inc(AgentCallRefusal::Body);
        warn!("a call of a GoFD server was refused: {text}");
        message(status, &text)
    })
}

fn message(status: StatusCode, text: &str) -> Response {
    let json = HeaderValue::from_static("application/json; charset=UTF-8");
    let body = format!("{}\n", json!({"message": text}));
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}
