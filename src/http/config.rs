//! Reading and changing the configuration.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{self, Body},
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tracing::info;

use super::{Listening, error::ApiError};
use crate::{
    atomic,
    board::Board,
    config::{Config, Problem, Settings},
    listen::Listener,
    tasks, wire,
};

/// A megabyte takes less than that on any line that a panel is used over.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn show(State(settings): State<Arc<Settings>>) -> Response {
    Json(&*settings.current()).into_response()
}

pub(super) async fn change(
    State(settings): State<Arc<Settings>>,
    State(board): State<Arc<Board>>,
    State(listening): State<Listening>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = declared.and_then(|value| value.split(';').next()).unwrap_or_default();
    // A page elsewhere can send other types without asking; JSON it can't.
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(ApiError::NotJson);
    }
    let bytes = read(body).await?;
    let patch = match serde_json::from_slice(&bytes) {
        Ok(Value::Object(patch)) => patch,
        Ok(_) => {
            let text = "配置应为 JSON 对象 / the configuration is a JSON object {…}";
            return Err(ApiError::Invalid(text.to_owned()));
        }
        Err(error) => {
            return Err(ApiError::Invalid(format!("不是有效的 JSON / not valid JSON: {error}")));
        }
    };
    apply(settings, board, listening, patch).await?;
    Ok(success("配置已更新"))
}

/// Old tools send a bare number, a string or an object, often without a
/// content type.
pub(super) async fn change_heartbeat(
    State(settings): State<Arc<Settings>>,
    State(board): State<Arc<Board>>,
    State(listening): State<Listening>,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = read(body).await?;
    let asked: Option<Value> = serde_json::from_slice(&bytes).ok();
    let asked = match asked {
        Some(Value::Object(mut object)) => object.remove("interval"),
        other => other,
    };
    let interval = match asked {
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let Some(interval) = interval else {
        return Err(ApiError::Invalid("无效的心跳间隔请求格式".to_owned()));
    };
    if !(10..=300).contains(&interval) {
        return Err(ApiError::Invalid("心跳间隔必须在10-300秒之间".to_owned()));
    }
    // Who sets the interval alone means the timeout to follow.
    let interval = interval.unsigned_abs();
    let timeout = settings.current().heartbeat.timeout;
    let timeout = if timeout > interval { timeout } else { 3 * interval };
    let patch = json!({"heartbeat": {"interval": interval, "timeout": timeout}});
    let patch = patch.as_object().cloned().unwrap_or_default();
    apply(settings, board, listening, patch).await?;
    Ok(success(&format!("心跳间隔已更新为 {interval} 秒")))
}

async fn apply(
    settings: Arc<Settings>,
    board: Arc<Board>,
    listening: Listening,
    patch: Map<String, Value>,
) -> Result<(), ApiError> {
    let keys = patch.keys().cloned().collect::<Vec<_>>().join(", ");
    let before = settings.current();
    let agree = move |config: &Config| agree(&before, config, &board, listening);
    let outcome = tasks::blocking(move || settings.patch(&patch, agree)).await;
    if outcome.map_err(ApiError::Config)? {
        info!("configuration changed: {keys}");
    }
    Ok(())
}

/// What can only be known by trying: whether the port and the folder are to
/// be had. Refusing them now beats finding out after they were saved.
/// Only of what changes: another thing may be wrong already, and is shown.
fn agree(
    before: &Config,
    config: &Config,
    board: &Board,
    listening: Listening,
) -> Result<(), Problem> {
    let new_port = config.node_port != before.node_port && config.node_port != *board.port.borrow();
    if listening.fixed_port.is_none() && new_port {
        let address = SocketAddr::new(listening.host, config.node_port);
        if let Err(error) = Listener::bind(address) {
            let value = Value::from(config.node_port);
            let zh = format!("无法监听该端口（{}）", error.cause);
            return Err(Problem::new("nodePort", Some(&value), zh, error.to_string()));
        }
    }
    let log = config.log_path();
    if config.logging.file_enabled
        && log != before.log_path()
        && let Err(error) = atomic::probe_file(&log)
    {
        let value = Value::from(config.logging.file_path.as_str());
        let zh = format!("无法写入该日志文件（{error}）");
        let en = format!("the log can't be written there: {error}");
        return Err(Problem::new("logging.filePath", Some(&value), zh, en));
    }
    let folder = config.storage_path();
    let new_folder = folder != before.storage_path() && folder != board.store().root();
    if new_folder && let Err(error) = atomic::probe_folder(&folder) {
        let value = Value::from(config.storage.path.as_str());
        let zh = format!("无法使用该文件夹（{error}）");
        let en = format!("the folder can't be used: {error}");
        return Err(Problem::new("storage.path", Some(&value), zh, en));
    }
    Ok(())
}

async fn read(body: Body) -> Result<body::Bytes, ApiError> {
    let whole = tokio::time::timeout(BODY_TIMEOUT, body::to_bytes(body, wire::MAX_JSON_BYTES));
    let whole = whole.await.map_err(|_| ApiError::SlowBody)?;
    whole.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) {
            true => ApiError::TooLarge,
            false => ApiError::BrokenBody,
        }
    })
}

pub(super) fn success(message: &str) -> Response {
    Json(json!({"status": "success", "message": message})).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let stalled = Body::from_stream(begun.chain(stream::pending()));
        assert!(matches!(read(stalled).await, Err(ApiError::SlowBody)));
        assert!(matches!(read(Body::from("{}")).await, Ok(whole) if whole == "{}"));
    }
}
