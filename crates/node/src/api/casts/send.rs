//! `POST /api/casts`: casts of programs here, if this node's operator allows it. They go to
//! the main server, whose answer is the answer.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::{
    self, MAX_JSON_BYTES,
    body::{drain_and_answer, is_json, not_json, read},
};
use edge_mirror_settings::Settings;

use crate::casts::{CastSender, UnsentCast};

/// Enough for a megabyte on any line.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

pub(in crate::api) async fn send(
    State(settings): State<Arc<Settings>>,
    State(sender): State<Arc<CastSender>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !settings.current().casts.allow_send {
        let text = "本节点的 casts.allowSend 未开启，不能从这里发送消息 / casts.allowSend is off at this node, so no casts can be sent from here";
        let refusal = wire::detail(StatusCode::FORBIDDEN, text);
        return drain_and_answer(&headers, body, refusal).await;
    }
    if !is_json(&headers) {
        return drain_and_answer(&headers, body, not_json()).await;
    }
    let casts = match read(body, MAX_JSON_BYTES, BODY_TIMEOUT).await {
        Ok(casts) => casts,
        Err(error) => return error.into_response(),
    };
    match sender.send(casts).await {
        Ok(answer) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (answer.status, json, answer.body).into_response()
        }
        Err(unsent @ (UnsentCast::Busy | UnsentCast::NotTaken | UnsentCast::Unreachable(_))) => {
            let retry = [(header::RETRY_AFTER, "5")];
            let answer = wire::detail(StatusCode::SERVICE_UNAVAILABLE, unsent.to_string());
            (retry, answer).into_response()
        }
    }
}
