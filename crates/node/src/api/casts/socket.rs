//! `GET /api/casts/ws`: the same casts as JSON texts over a WebSocket, on which programs say
//! what they have read, too.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::Response,
};
use edge_mirror_http::wire::{
    ApiQuery,
    websocket::{
        ClientMessage, CloseReason, SocketEnd, SocketLimits, SocketRefusal, WebSocket,
        accept_websocket,
    },
};
use edge_mirror_protocol::casts::DeliveredCast;
use edge_mirror_settings::CastConfig;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{ConsumedCast, ConsumerPlace, LostCasts, MissedLiveCasts, follower, too_many};
use crate::{
    api::AppState,
    casts::{CastFollower, CastHistory, ConsumerEvent},
};

/// An event as a text.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum SocketEvent<'a> {
    Cast(ConsumedCast<'a>),
    Live(&'a DeliveredCast),
    Lost(LostCasts),
    Dropped(MissedLiveCasts),
}

/// The only thing that a program may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadFrame {
    /// The number of the last cast that it has read of its topic.
    read: u64,
}

pub(in crate::api) async fn follow(
    State(app): State<AppState>,
    ApiQuery(place): ApiQuery<ConsumerPlace>,
    request: Request,
) -> Response {
    let refusals = app.board.counts.socket_refusals.clone();
    let Some(follower) = follower(&app, place) else {
        refusals.inc(SocketRefusal::Connections);
        return too_many();
    };
    let limits = socket_limits(&app.settings.current().casts);
    let (history, closing) = (app.casts, app.closing);
    accept_websocket(
        request,
        limits,
        refusals,
        async move |mut socket, shutdown: CancellationToken| {
            let stopped = async {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = shutdown.cancelled() => {}
                }
            };
            let end = serve(&mut socket, follower, &history, stopped).await;
            (socket, end)
        },
    )
}

fn socket_limits(casts: &CastConfig) -> SocketLimits {
    SocketLimits {
        ping_every: Duration::from_secs(casts.ping_interval),
        idle_timeout: Duration::from_secs(casts.idle_timeout),
        max_message: usize::try_from(casts.max_frame).unwrap_or(usize::MAX),
    }
}

/// Serves a program until it or the node goes.
async fn serve(
    socket: &mut WebSocket,
    mut follower: CastFollower,
    history: &Arc<CastHistory>,
    stopped: impl Future<Output = ()>,
) -> SocketEnd {
    let mut stopped = pin!(stopped);
    loop {
        let event = tokio::select! {
            () = &mut stopped => return stopping(),
            said = socket.receive() => match said.and_then(|said| note_read(history, &said)) {
                Ok(()) => continue,
                Err(end) => return end,
            },
            event = follower.next() => event,
        };
        let Some(event) = event else {
            return CloseReason::going_away("connect again").into();
        };
        let text = written(&event);
        let sent = tokio::select! {
            () = &mut stopped => return stopping(),
            sent = socket.send(&text) => sent,
        };
        if let Err(end) = sent {
            return end;
        }
    }
}

fn stopping() -> SocketEnd {
    CloseReason::going_away("the node stops").into()
}

fn note_read(history: &CastHistory, said: &ClientMessage) -> Result<(), SocketEnd> {
    let ClientMessage::Text(text) = said else {
        return Err(CloseReason::unsupported("only texts are understood").into());
    };
    let Ok(ReadFrame { read }) = serde_json::from_str(text) else {
        return Err(CloseReason::policy("a text is {\"read\": NUMBER}").into());
    };
    // One that is not kept any more was read all the same.
    match history.mark_read(read) || (1..=history.last()).contains(&read) {
        true => Ok(()),
        false => {
            let text = format!("there is no cast with number {read}");
            Err(CloseReason::policy(&text).into())
        }
    }
}

fn written(event: &ConsumerEvent) -> String {
    let event = match event {
        ConsumerEvent::Kept(cast) => SocketEvent::Cast(ConsumedCast::from(&**cast)),
        ConsumerEvent::Live(cast) => SocketEvent::Live(cast),
        ConsumerEvent::Dropped(count) => SocketEvent::Dropped(MissedLiveCasts { count: *count }),
        ConsumerEvent::Lost(before) => SocketEvent::Lost(LostCasts { before: *before }),
    };
    // Text keys alone: it can't fail.
    serde_json::to_string(&event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::casts::DeliveredCast;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn events_have_the_content_of_the_stream_and_their_names() {
        let cast = |id: &str| DeliveredCast {
            id: id.to_owned(),
            topic: "t".to_owned(),
            body: serde_json::value::to_raw_value(&json!({"text": "移到"})).unwrap(),
            priority: "normal".to_owned(),
            at: 1.5,
            expires_at: 2.5,
            from: None,
        };
        let read = |event| serde_json::from_str::<Value>(&written(&event)).unwrap();
        let live = json!({
            "event": "live", "id": "x-1", "topic": "t", "body": {"text": "移到"},
            "priority": "normal", "at": 1.5, "expires_at": 2.5,
        });
        assert_eq!(read(ConsumerEvent::Live(Arc::new(cast("x-1")))), live);
        assert_eq!(read(ConsumerEvent::Lost(7)), json!({"event": "lost", "before": 7}));
        assert_eq!(read(ConsumerEvent::Dropped(3)), json!({"event": "dropped", "count": 3}));
    }

    #[test]
    fn a_program_can_only_say_what_it_has_read() {
        let history = CastHistory::default();
        let code = |said| match note_read(&history, &said) {
            Err(SocketEnd::Close(reason)) => reason.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(ClientMessage::Binary), 1003);
        for text in ["", "hello", "{\"read\": -1}", "{\"read\": 1, \"x\": 2}", "{\"read\": 5}"] {
            assert_eq!(code(ClientMessage::Text(text.to_owned())), 1008, "{text}");
        }
    }
}
