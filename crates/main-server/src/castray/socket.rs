//! `/ws`: the status at once and every five seconds, and events. What clients say is not read.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use edge_mirror_http::wire::{
    self,
    websocket::{CloseReason, SocketEnd, SocketRefusal, WebSocket, accept_websocket},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{CastRayGateway, Gateway};
use crate::counts::DroppedCastReader;

const STATUS_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn connect(State(gateway): Gateway, request: Request) -> Response {
    let refusals = gateway.server.counts.castray_sockets.clone();
    let Ok(permit) = gateway.sockets.clone().try_acquire_owned() else {
        refusals.inc(SocketRefusal::Connections);
        let text = "连接过多，请稍后再试（--castray-sockets） / too many sockets are open already, try again later (--castray-sockets)";
        return wire::detail(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let events = gateway.events.subscribe();
    accept_websocket(
        request,
        gateway.socket_limits,
        refusals,
        async move |mut socket, shutdown: CancellationToken| {
            let serving = serve(&mut socket, &gateway, events);
            let end = tokio::select! {
                end = serving => end,
                () = shutdown.cancelled() => CloseReason::going_away("the main server stops").into(),
                () = gateway.server.closing.cancelled() => {
                    CloseReason::going_away("the main server stops").into()
                }
            };
            drop(permit);
            (socket, end)
        },
    )
}

async fn serve(
    socket: &mut WebSocket,
    gateway: &Arc<CastRayGateway>,
    mut events: broadcast::Receiver<Arc<str>>,
) -> SocketEnd {
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            said = socket.receive() => match said {
                Ok(_) => continue,
                Err(end) => return end,
            },
            _ = ticks.tick() => gateway.status_frame(),
            event = events.recv() => match event {
                Ok(event) => event,
                // The next status says how things are.
                Err(RecvError::Lagged(count)) => {
                    let dropped = &gateway.server.counts.dropped_casts;
                    dropped.counter(DroppedCastReader::CastRay).add(count);
                    continue;
                }
                Err(RecvError::Closed) => return SocketEnd::Gone,
            },
        };
        if let Err(end) = socket.send(&frame).await {
            return end;
        }
    }
}
