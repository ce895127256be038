//! Starting and stopping the service. Both are idempotent and take effect
//! immediately: the workers follow the switch.

use std::sync::Arc;

use axum::{Json, extract::State};
use edge_mirror_http::wire::{Done, done};
use tracing::info;

use crate::{board::StatusBoard, fetch::Fetch};

pub(super) async fn start(
    State(board): State<Arc<StatusBoard>>,
    State(fetch): State<Fetch>,
) -> Json<Done> {
    if !switch(&board, &fetch, true) {
        return done("服务已经在运行中");
    }
    info!("service started by request");
    done("服务已启动")
}

pub(super) async fn stop(
    State(board): State<Arc<StatusBoard>>,
    State(fetch): State<Fetch>,
) -> Json<Done> {
    if !switch(&board, &fetch, false) {
        return done("服务已经停止");
    }
    info!("service stopped by request");
    done("服务已停止")
}

/// Returns true if that changed anything. Switch and pulls change together, even if
/// another request switches at the same moment.
fn switch(board: &StatusBoard, fetch: &Fetch, on: bool) -> bool {
    board.switch(on, || if on { fetch.start() } else { fetch.stop() })
}
