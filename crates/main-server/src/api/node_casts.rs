//! `GET /api/v1/nodes/casts`: the nodes' request for casts.
//!
//! A node that waits (`Prefer: wait`, RFC 7240) is answered as soon as there is a cast for
//! it. That it asks for what comes after a number says that it has everything before on
//! disk. It has to be an accepted node that names itself, as for whom to pull packages from.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::ApiQuery;
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use super::status::{accepted_node, preferred_wait};
use crate::{refusal::RequestError, server::Server, state::casts::CastSelection};

/// Longest wait for the first look into the database.
const START_PATIENCE: Duration = Duration::from_secs(5);

const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[derive(Deserialize)]
pub(crate) struct CastPosition {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    after: u64,
}

pub(crate) async fn for_node(
    State(server): State<Arc<Server>>,
    ApiQuery(position): ApiQuery<CastPosition>,
    request: Request,
) -> Result<Response, RequestError> {
    let (parts, _) = request.into_parts();
    let node_id = accepted_node(&server, &parts).await.ok_or(RequestError::NoNode)?;
    // The place of each is saved.
    if server.known().get(&node_id).is_none() {
        return Err(RequestError::NoNode);
    }
    let wait = preferred_wait(&parts.headers);
    // They keep hyper's buffer in memory.
    drop(parts);
    let ends = Instant::now() + wait.unwrap_or(Duration::ZERO);
    let mut news = server.cast_outbox.subscribe();
    let stream = known_stream(&server, &mut news).await?;
    let is_at_place = *position.stream == *stream;
    let begun = if is_at_place { i64::try_from(position.after).unwrap_or_default() } else { 0 };
    // One that is further than is known here may have been at another main server, or the
    // casts were set back: it gets again what it has, and passes by that.
    let begun = begun.min(server.cast_outbox.head().map_or(0, |(_, head)| head));
    if is_at_place {
        server.cast_outbox.cursors().note_received(&node_id, &stream, begun);
    }
    let permit = wait.and_then(|_| server.cast_outbox.waiting.try_acquire().ok());
    let mut after = begun;
    let found = loop {
        news.borrow_and_update();
        let found = server.casts_after(&node_id, &stream, after).await?;
        // One that was elsewhere learns at once where it is.
        if !found.texts.is_empty() || !is_at_place || permit.is_none() {
            break found;
        }
        after = found.after;
        // There may be more behind what the database had.
        if server.cast_outbox.head().is_some_and(|(_, head)| after < head) {
            continue;
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { break found },
            () = tokio::time::sleep_until(ends) => break found,
            () = server.closing.cancelled() => break found,
        }
    };
    if !found.texts.is_empty() {
        server.cast_outbox.cursors().note_sent(&node_id, &stream, found.after);
    }
    let mut answer = answer(&stream, &found);
    if permit.is_some() {
        answer.headers_mut().insert(APPLIED, HeaderValue::from_static("wait"));
    }
    Ok(answer)
}

/// The sequence of casts; after a start it takes a moment to be known.
async fn known_stream(
    server: &Server,
    news: &mut watch::Receiver<i64>,
) -> Result<Arc<str>, RequestError> {
    let waiting = async {
        loop {
            news.borrow_and_update();
            match server.cast_outbox.head() {
                Some((stream, _)) => return Some(stream),
                None => news.changed().await.ok()?,
            }
        }
    };
    let waited = tokio::time::timeout(START_PATIENCE, waiting).await.ok().flatten();
    waited.ok_or_else(|| RequestError::RecordsUnavailable("no casts were read yet".to_owned()))
}

/// A `CastAnswer` of texts that are JSON already.
fn answer(stream: &str, found: &CastSelection) -> Response {
    let mut body = format!("{{\"stream\":\"{stream}\",\"after\":{},\"casts\":[", found.after);
    for (place, text) in found.texts.iter().enumerate() {
        if place > 0 {
            body.push(',');
        }
        body.push_str(text);
    }
    body.push_str("]}");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
