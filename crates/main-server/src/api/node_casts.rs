//! `/api/v1/nodes/casts`: the nodes' requests for casts, and those that programs there send.
//!
//! A node that waits (`Prefer: wait`, RFC 7240) is answered as soon as there is a cast for
//! it. That it asks for what comes after a number says that it has everything before on
//! disk. It has to be an accepted node that names itself, as for whom to pull packages from,
//! and to ask from where it registered: casts to others are none of its business.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::{ApiQuery, Done, done};
use edge_mirror_protocol::casts::{CastReadReport, MAX_READ_TOPICS};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    node_key,
    status::{accepted_node, preferred_wait},
};
use crate::{
    api::{
        casts::keep,
        json::{DeclaredJson, JsonBody, JsonItems},
    },
    counts::DroppedCastReader,
    refusal::RequestError,
    server::{NamedPlace, Server},
    state::{
        audit::{AuditedLogin, AuditedOperator},
        casts::{CASTRAY_TOPIC, CastOrigin, CastSelection},
        fleet::NodePolicy,
    },
};

/// Longest wait for the first look into the database.
const START_PATIENCE: Duration = Duration::from_secs(5);

const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[derive(Deserialize)]
pub(crate) struct CastPosition {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    after: u64,
    /// The place among live casts, as the last answer named it.
    #[serde(default)]
    live: String,
}

impl CastPosition {
    /// The same place, in the present sequence if it names none.
    pub(super) fn in_current_stream(self, server: &Server) -> Self {
        match server.cast_outbox.head() {
            Some((stream, _)) if self.stream.is_empty() && self.after > 0 => {
                Self { stream: stream.to_string(), ..self }
            }
            _ => self,
        }
    }
}

/// The casts of an answer.
struct NodeCasts {
    kept: CastSelection,
    live: CastSelection,
}

pub(crate) async fn for_node(
    State(server): State<Arc<Server>>,
    ApiQuery(position): ApiQuery<CastPosition>,
    request: Request,
) -> Result<Response, RequestError> {
    let (parts, _) = request.into_parts();
    let node_id: Arc<str> = addressed_node(&server, &parts).await?.into();
    let wait = preferred_wait(&parts.headers);
    // They keep hyper's buffer in memory.
    drop(parts);
    answer_casts(&server, node_id, position, wait).await
}

/// Waits until it is known where the sequence is.
pub(super) async fn await_casts(server: &Server) -> Result<(), RequestError> {
    let ready = tokio::time::timeout(START_PATIENCE, server.cast_outbox.ready()).await;
    ready.map_err(|_| RequestError::RecordsUnavailable("no casts were read yet".to_owned()))
}

/// Answers with the next casts of a node, and waits for them if it may.
pub(super) async fn answer_casts(
    server: &Server,
    node_id: Arc<str>,
    position: CastPosition,
    wait: Option<Duration>,
) -> Result<Response, RequestError> {
    let ends = Instant::now() + wait.unwrap_or(Duration::ZERO);
    await_casts(server).await?;
    let after = i64::try_from(position.after).unwrap_or_default();
    let place = NamedPlace { stream: position.stream.into(), after };
    let live = live_place(&position.live);
    let permit = wait.and_then(|_| server.cast_outbox.waiting.try_acquire().ok());
    let found = next_casts(server, &node_id, (place, live), permit.as_ref().map(|_| ends)).await?;
    if !found.kept.texts.is_empty() {
        server.cast_outbox.cursors().note_sent(&node_id, found.kept.after);
    }
    let mut answer = answer(&found);
    if permit.is_some() {
        answer.headers_mut().insert(APPLIED, HeaderValue::from_static("wait"));
    }
    Ok(answer)
}

/// Keeps casts of programs at a node, whose operator allows that there.
pub(crate) async fn send(
    State(server): State<Arc<Server>>,
    _: DeclaredJson,
    request: Request,
) -> Result<Response, RequestError> {
    let (parts, body) = request.into_parts();
    let node_id = addressed_node(&server, &parts).await?;
    if !server.casts.limits.from_nodes {
        return Err(RequestError::NoCastsFromNodes);
    }
    let key = node_key::check_key(&server, &parts.headers).await;
    // Where anybody is a node, anybody could send to all.
    let is_proven = node_key::caller(&server, &parts, key).is_proven;
    if server.node_policy() == NodePolicy::Open && !is_proven {
        return Err(RequestError::NoCastsFromStrangers);
    }
    let address = server.access.caller(&parts).address;
    let by = AuditedOperator { address, how: AuditedLogin::Node };
    let request = Request::from_parts(parts, body);
    let JsonItems { items, is_list } = JsonItems::from_request(request, &server).await?;
    keep(server, (items, is_list), CastOrigin { by, from: Some(node_id) }).await
}

/// Notes what consumers at a node have read.
pub(crate) async fn note_read(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Json<Done>, RequestError> {
    let (parts, body) = request.into_parts();
    let node_id = addressed_node(&server, &parts).await?;
    let request = Request::from_parts(parts, body);
    let JsonBody(fields) = JsonBody::from_request(request, &server).await?;
    note_report(&server, &node_id, fields)
}

/// Notes what a report says.
pub(super) fn note_report(
    server: &Server,
    node_id: &str,
    fields: Map<String, Value>,
) -> Result<Json<Done>, RequestError> {
    let report = serde_json::from_value::<CastReadReport>(Value::Object(fields));
    let CastReadReport { read } = report.map_err(|error| {
        RequestError::Invalid(format!("报告格式错误 / the report is malformed: {error}"))
    })?;
    if read.len() > MAX_READ_TOPICS {
        return Err(RequestError::TooManyValues(MAX_READ_TOPICS));
    }
    for (topic, id) in read {
        server.note_read_cast(node_id, topic, &id);
    }
    Ok(done("Noted"))
}

/// The node that a request names, if it comes from there.
pub(super) async fn addressed_node(server: &Server, parts: &Parts) -> Result<String, RequestError> {
    let node_id = accepted_node(server, parts).await.ok_or(RequestError::NoNode)?;
    // The place of each is saved.
    let known = server.known().get(&node_id).map(|node| node.client);
    let known = known.ok_or(RequestError::NoNode)?;
    let here = server.registry().client_of(&node_id, server.clock.now());
    let caller = server.access.caller(parts).address.to_canonical();
    (here.unwrap_or(known) == caller).then_some(node_id).ok_or(RequestError::NoNode)
}

/// Reads a place among live casts; one that is none is unknown.
fn live_place(text: &str) -> NamedPlace {
    let (stream, after) = text.rsplit_once('-').unwrap_or_default();
    NamedPlace { stream: stream.into(), after: after.parse().unwrap_or_default() }
}

/// The next casts for a node, or none at the end of its wait.
async fn next_casts(
    server: &Server,
    node_id: &Arc<str>,
    (mut place, mut live_place): (NamedPlace, NamedPlace),
    ends: Option<Instant>,
) -> Result<NodeCasts, RequestError> {
    let (outbox, live_casts) = (&server.cast_outbox, &server.live_casts);
    // One that was elsewhere learns at once where it is.
    let mut waits_until = ends.filter(|_| outbox.has_name(&place.stream));
    loop {
        let after = server.cast_place(node_id, &place).await?;
        let mut kept = server.casts_after(node_id, after).await?;
        kept.texts.retain(|text| !is_own_castray_message(text, node_id));
        let (live, dropped) = live_casts.recent(node_id, &live_place);
        server.counts.dropped_casts.counter(DroppedCastReader::Node).add(dropped);
        let is_empty = kept.texts.is_empty() && live.texts.is_empty();
        let Some(ends) = waits_until.filter(|_| is_empty) else {
            return Ok(NodeCasts { kept, live });
        };
        place = NamedPlace { stream: kept.stream, after: kept.after };
        live_place = NamedPlace { stream: live.stream, after: live.after };
        // There may be more behind what the database had.
        let Some(waiter) = outbox.wait(node_id, place.after) else { continue };
        let Some(live_waiter) = live_casts.wait(node_id, live_place.after) else { continue };
        tokio::select! {
            () = waiter.woken() => {}
            () = live_waiter.woken() => {}
            () = tokio::time::sleep_until(ends) => waits_until = None,
            () = server.closing.cancelled() => waits_until = None,
        }
        place.after = waiter.place().unwrap_or(place.after);
        live_place.after = live_waiter.place().unwrap_or(live_place.after);
    }
}

/// True of what a CastRay node sent to all: they are the others.
fn is_own_castray_message(text: &str, node_id: &str) -> bool {
    // Most are not CastRay's, and needn't be parsed to know it.
    if !text.contains(&format!("\"topic\":\"{CASTRAY_TOPIC}\"")) {
        return false;
    }
    let Ok(cast) = serde_json::from_str::<Value>(text) else { return false };
    let is_theirs = cast["topic"] == *CASTRAY_TOPIC && cast["from"] == *node_id;
    let kind = cast["body"]["cast_type"].as_str();
    is_theirs && matches!(kind, Some("broadcast" | "multicast"))
}

/// A `CastAnswer` of texts that are JSON already.
fn answer(NodeCasts { kept, live }: &NodeCasts) -> Response {
    let mut body = format!("{{\"stream\":\"{}\",\"after\":{},\"casts\":", kept.stream, kept.after);
    push_list(&mut body, &kept.texts);
    body.push_str(&format!(",\"live\":\"{}-{}\"", live.stream, live.after));
    if !live.texts.is_empty() {
        body.push_str(",\"live_casts\":");
        push_list(&mut body, &live.texts);
    }
    body.push('}');
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

fn push_list(body: &mut String, texts: &[Arc<str>]) {
    for (place, text) in texts.iter().enumerate() {
        body.push(if place == 0 { '[' } else { ',' });
        body.push_str(text);
    }
    body.push_str(if texts.is_empty() { "[]" } else { "]" });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_sends_to_all_from_castray_gets_no_copy() {
        let is_own = |topic: &str, kind: &str, from: &str| {
            let body = json!({"cast_type": kind, "sender": from});
            let cast = json!({"id": "s-1", "topic": topic, "body": body, "from": from});
            is_own_castray_message(&cast.to_string(), "a")
        };
        assert!(is_own("castray", "broadcast", "a") && is_own("castray", "multicast", "a"));
        assert!(!is_own("castray", "unicast", "a") && !is_own("castray", "broadcast", "b"));
        assert!(!is_own("news", "broadcast", "a"));
        assert!(!is_own_castray_message("{\"topic\":\"castray\"", "a"));
    }
}
