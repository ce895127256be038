//! Casts, for operators: `/api/v1/casts`.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `POST …` | a cast, or a list of them | 201, once it is on disk: the cast; of a list, all or none, their ids |
//! | `GET …` | | 200, the newest first; `topic`, `search`, `before`, `limit` |
//! | `GET …/{cast}` | | 200, the cast, and how far it is on its way to each node |
//! | `DELETE …/{cast}` | | 200, the cast: nobody gets it any more who does not have it |
//!
//! Times are seconds since 1970. Unknown cast: 404. Malformed JSON: 422.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::{access::Operator, wire::ApiQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use tracing::info;

use crate::{
    api::{
        json::{DeclaredJson, JsonItems, WrittenJson},
        path::path_text,
    },
    refusal::RequestError,
    repository::CastFilter,
    server::{AddedCasts, Server},
    state::{
        audit::AuditedOperator,
        casts::{CastId, CastOrigin, CastPriority, CastStatus, DeliveryState, KeptCast, shown_key},
        destinations::Destinations,
    },
};

type Shared = State<Arc<Server>>;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

impl FromRequestParts<Arc<Server>> for CastId {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        let text = path_text(parts, server, "cast").await.unwrap_or_default();
        Self::parse(&text).ok_or_else(|| RequestError::UnknownCast(text.chars().take(64).collect()))
    }
}

/// A cast as operators see it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CastView<'a> {
    id: String,
    topic: &'a str,
    /// As it was sent: a text, or any JSON.
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    body: &'a RawValue,
    to: &'a Destinations,
    priority: CastPriority,
    status: CastStatus,
    at: f64,
    expires_at: f64,
    cancelled_at: Option<f64>,
    key: Option<&'a str>,
    by: &'a AuditedOperator,
    /// The node that it comes from; absent if an operator sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    /// In lists and answers to changes, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<CastDelivery>,
}

/// The progress of a cast to the nodes that it is for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CastDelivery {
    pending: usize,
    sent: usize,
    /// Nodes that have it on disk, those where it was read among them.
    received: usize,
    read: usize,
    missed: usize,
    nodes: Vec<NodeDelivery>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NodeDelivery {
    node_id: String,
    state: DeliveryState,
}

impl CastDelivery {
    /// Lists at most so many nodes of each state.
    fn new(states: Vec<(String, DeliveryState)>, most: usize) -> Self {
        let count = |wanted| states.iter().filter(|(_, state)| *state == wanted).count();
        let mut seen = [0; DeliveryState::COUNT];
        let listed = states.iter().filter(|(_, state)| {
            let seen = &mut seen[*state as usize];
            *seen += 1;
            *seen <= most
        });
        let listed =
            listed.map(|(node_id, state)| NodeDelivery { node_id: node_id.clone(), state: *state });
        let listed = listed.collect();
        Self {
            pending: count(DeliveryState::Pending),
            sent: count(DeliveryState::Sent),
            received: count(DeliveryState::Received) + count(DeliveryState::Read),
            read: count(DeliveryState::Read),
            missed: count(DeliveryState::Missed),
            nodes: listed,
        }
    }
}

impl<'a> CastView<'a> {
    fn new(cast: &'a KeptCast, now: UnixMillis) -> Self {
        let details = &cast.details;
        Self {
            id: cast.id().to_string(),
            topic: &cast.topic,
            // It was written by this program.
            body: serde_json::from_str(&cast.body).unwrap_or(RawValue::NULL),
            to: &details.to,
            priority: details.priority,
            status: cast.status(now),
            at: cast.at.as_secs_f64(),
            expires_at: cast.expires_at.as_secs_f64(),
            cancelled_at: cast.cancelled_at.map(UnixMillis::as_secs_f64),
            key: Some(shown_key(&cast.key)).filter(|key| !key.is_empty()),
            by: &details.by,
            from: details.from.as_deref(),
            delivery: None,
        }
    }
}

/// Casts, the newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CastPage<'a> {
    casts: Vec<CastView<'a>>,
    /// For `before` of the next page; null if there are no earlier ones.
    next: Option<String>,
}

/// The casts of a list, in its order.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SentCasts {
    casts: Vec<SentCast>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SentCast {
    id: String,
    /// One with the same key was sent before: this is its id, and it is not sent again.
    repeated: bool,
}

#[derive(Deserialize)]
pub(crate) struct CastQuery {
    before: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    search: String,
}

pub(crate) async fn create(
    State(server): Shared,
    Extension(operator): Extension<Operator>,
    _: DeclaredJson,
    JsonItems { items, is_list }: JsonItems,
) -> Result<Response, RequestError> {
    let origin = CastOrigin::from(AuditedOperator::from(&operator));
    keep(server, (items, is_list), origin).await
}

/// Keeps casts, one or a list of them, and answers with what became of them.
pub(super) async fn keep(
    server: Arc<Server>,
    (items, is_list): (Vec<Map<String, Value>>, bool),
    origin: CastOrigin,
) -> Result<Response, RequestError> {
    let reading = server.clone();
    let casts = tasks::blocking(move || reading.read_casts(items, &origin)).await?;
    let added = server.add_casts(casts).await?;
    if is_list {
        return Ok((StatusCode::CREATED, WrittenJson::new(&sent(added))).into_response());
    }
    let cast = match (added.first(), added.receipts.first()) {
        (None, Some(receipt)) => server.cast(&receipt.id).await?,
        (cast, _) => cast.ok_or_else(RequestError::stopping)?,
    };
    let view = WrittenJson::new(&CastView::new(&cast, UnixMillis::now()));
    Ok((StatusCode::CREATED, view).into_response())
}

fn sent(AddedCasts { receipts, .. }: AddedCasts) -> SentCasts {
    let casts = receipts
        .into_iter()
        .map(|receipt| SentCast { id: receipt.id.to_string(), repeated: receipt.repeated });
    SentCasts { casts: casts.collect() }
}

pub(crate) async fn list(
    State(server): Shared,
    ApiQuery(asked): ApiQuery<CastQuery>,
) -> Result<WrittenJson, RequestError> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(RequestError::Invalid(format!(
            "limit 应为 1 到 {MAX_LIMIT} / limit must be from 1 to {MAX_LIMIT}"
        )));
    }
    if [&asked.topic, &asked.search].iter().any(|text| text.contains('\0')) {
        return Err(RequestError::invalid("不能含有 NUL / NUL is not allowed"));
    }
    let before = asked.before.map(|text| {
        CastId::parse(&text)
            .map(|id| id.seq)
            .ok_or_else(|| RequestError::invalid("before 应为消息 ID / before must be a cast's id"))
    });
    let (topic, text) = (asked.topic, asked.search);
    // One more tells whether there are more.
    let filter = CastFilter { before: before.transpose()?, topic, text, limit: limit + 1 };
    let mut casts = server.casts(&filter).await?;
    let has_more = casts.len() > limit as usize;
    casts.truncate(limit as usize);
    let next = casts.last().filter(|_| has_more).map(|cast| cast.id().to_string());
    let now = UnixMillis::now();
    let casts = casts.iter().map(|cast| CastView::new(cast, now)).collect();
    Ok(WrittenJson::new(&CastPage { casts, next }))
}

#[derive(Deserialize)]
pub(crate) struct DeliveryQuery {
    nodes: Option<usize>,
}

pub(crate) async fn show(
    State(server): Shared,
    ApiQuery(asked): ApiQuery<DeliveryQuery>,
    id: CastId,
) -> Result<WrittenJson, RequestError> {
    let cast = server.cast(&id).await?;
    let states = server.cast_deliveries(&cast).await?;
    let view = CastView::new(&cast, UnixMillis::now());
    let delivery = CastDelivery::new(states, asked.nodes.unwrap_or(usize::MAX));
    Ok(WrittenJson::new(&CastView { delivery: Some(delivery), ..view }))
}

pub(crate) async fn cancel(State(server): Shared, id: CastId) -> Result<WrittenJson, RequestError> {
    let cast = server.cancel_cast(id).await?;
    info!("cast {} was cancelled", cast.id());
    Ok(WrittenJson::new(&CastView::new(&cast, UnixMillis::now())))
}
