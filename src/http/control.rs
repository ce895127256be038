//! Starting and stopping the service. Both are idempotent and effective at
//! once: the workers follow the switch, nobody naps.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use tracing::info;

use super::config::success;
use crate::{board::Board, fetch::Fetch};

pub(super) async fn start(State(board): State<Arc<Board>>, State(fetch): State<Fetch>) -> Response {
    // Pulls are allowed before anybody can ask for one.
    fetch.start();
    if board.running.send_replace(true) {
        return success("服务已经在运行中");
    }
    info!("service started by request");
    success("服务已启动")
}

pub(super) async fn stop(State(board): State<Arc<Board>>, State(fetch): State<Fetch>) -> Response {
    let was_running = board.running.send_replace(false);
    fetch.stop();
    if !was_running {
        return success("服务已经停止");
    }
    info!("service stopped by request");
    success("服务已停止")
}
