//! Starting and stopping the service. Both are idempotent and effective at
//! once: the workers follow the switch, nobody naps.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use tracing::info;

use super::config::success;
use crate::{board::Board, fetch::Fetch};

pub(super) async fn start(State(board): State<Arc<Board>>, State(fetch): State<Fetch>) -> Response {
    if !switch(&board, &fetch, true) {
        return success("服务已经在运行中");
    }
    info!("service started by request");
    success("服务已启动")
}

pub(super) async fn stop(State(board): State<Arc<Board>>, State(fetch): State<Fetch>) -> Response {
    if !switch(&board, &fetch, false) {
        return success("服务已经停止");
    }
    info!("service stopped by request");
    success("服务已停止")
}

/// True when that changed anything. Switch and pulls change together, whoever
/// else is switching at the same moment.
fn switch(board: &Board, fetch: &Fetch, on: bool) -> bool {
    board.switch(on, || if on { fetch.start() } else { fetch.stop() })
}
