//! Reading and changing the configuration.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use edge_mirror_base::{atomic, log::AUDIT, tasks};
use edge_mirror_http::{
    access::Caller,
    listen::Listener,
    tls,
    wire::{self, body},
};
use edge_mirror_settings::{Config, SettingProblem, Settings, lenient, meaning};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracing::info;

use super::{ListenOptions, error::ApiError};
use crate::board::StatusBoard;

/// Enough for a megabyte on any line that a panel is used over.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn show(State(settings): State<Arc<Settings>>) -> Response {
    Json(settings.current().redacted()).into_response()
}

/// Describes the settings: their meanings and permitted values.
pub(super) async fn schema(State(settings): State<Arc<Settings>>) -> Response {
    Json(meaning::described(settings.environment())).into_response()
}

pub(super) async fn change(
    State(settings): State<Arc<Settings>>,
    State(board): State<Arc<StatusBoard>>,
    State(listening): State<ListenOptions>,
    request: Request,
) -> Result<Response, ApiError> {
    let (sender, body) = request.into_parts();
    // The guard has refused pages of other sites: only they could be meant.
    if !body::is_json_or_untyped(&sender.headers) {
        return Err(ApiError::NotJson);
    }
    let patch = patch(body).await?;
    apply(settings, board, listening, sender, patch).await?;
    Ok(wire::done("配置已更新").into_response())
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CheckedChange {
    problems: Vec<SettingProblem>,
}

/// Returns the problems of a change: the panel asks while the user types, so that
/// the rules are in one place.
pub(super) async fn check(
    State(settings): State<Arc<Settings>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (sender, body) = request.into_parts();
    if !body::is_json(&sender.headers) {
        return Err(ApiError::NotJson);
    }
    let patch = patch(body).await?;
    // It waits for a save that is under way.
    let problems = tasks::blocking(move || match settings.check(&patch) {
        Ok(config) => {
            let before = settings.current();
            let locked_out = check_access_kept(&before, &config, &sender).err();
            locked_out.into_iter().chain(tls::problem(Some(&before), &config)).collect()
        }
        Err(problems) => problems,
    });
    let problems = problems.await;
    Ok(Json(CheckedChange { problems }).into_response())
}

async fn patch(body: Body) -> Result<Map<String, Value>, ApiError> {
    let bytes = read(body).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(patch)) => Ok(patch),
        Ok(_) => {
            let text = "配置应为 JSON 对象 / the configuration is a JSON object {…}";
            Err(ApiError::Invalid(text.to_owned()))
        }
        Err(error) => Err(ApiError::Invalid(format!("不是有效的 JSON / not valid JSON: {error}"))),
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let whole = body::read(body, wire::MAX_JSON_BYTES, BODY_TIMEOUT).await;
    whole.map_err(ApiError::Body)
}

/// Old tools send a bare number, a string or an object, often without a
/// content type.
pub(super) async fn change_heartbeat(
    State(settings): State<Arc<Settings>>,
    State(board): State<Arc<StatusBoard>>,
    State(listening): State<ListenOptions>,
    request: Request,
) -> Result<Response, ApiError> {
    let (sender, body) = request.into_parts();
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
    // Setting only the interval moves the timeout with it.
    let interval = interval.unsigned_abs();
    let timeout = lenient::timeout_for(interval, settings.current().heartbeat.timeout);
    let patch = json!({"heartbeat": {"interval": interval, "timeout": timeout}});
    let patch = patch.as_object().cloned().unwrap_or_default();
    apply(settings, board, listening, sender, patch).await?;
    Ok(wire::done(format!("心跳间隔已更新为 {interval} 秒")).into_response())
}

async fn apply(
    settings: Arc<Settings>,
    board: Arc<StatusBoard>,
    listening: ListenOptions,
    sender: Parts,
    patch: Map<String, Value>,
) -> Result<(), ApiError> {
    let keys = patch.keys().cloned().collect::<Vec<_>>().join(", ");
    let agree = move |before: &Config, config: &Config| {
        check_access_kept(before, config, &sender)?;
        check_available(before, config, &board, listening)
    };
    let outcome = tasks::blocking(move || settings.patch(&patch, agree)).await;
    if outcome.map_err(ApiError::Config)? {
        info!(target: AUDIT, "configuration changed: {keys}");
    }
    Ok(())
}

/// Keeps an operator from locking himself out by mistake.
fn check_access_kept(
    before: &Config,
    config: &Config,
    sender: &Parts,
) -> Result<(), SettingProblem> {
    let (old, new) = (&before.security, &config.security);
    let changed =
        (&old.allow_from, &old.trusted_proxies) != (&new.allow_from, &new.trusted_proxies);
    // His address under the new configuration.
    let Caller { address, local, .. } = Caller::of(sender, &new.trusted_proxies);
    let listed = || new.allow_from.iter().any(|subnet| subnet.contains(address));
    if !changed || new.allow_from.is_empty() || local || listed() {
        return Ok(());
    }
    let value = json!(new.allow_from);
    let zh = format!("不包含您的地址 {address}，保存后您将无法管理");
    let en = format!("does not list your own address {address}: you could not manage any more");
    Err(SettingProblem::new("security.allowFrom", Some(&value), zh, en))
}

/// Checks what only a try can show: that the port and the folder are usable, so
/// that errors show before saving. Only for changed settings: other ones may be
/// wrong already, and are shown.
fn check_available(
    before: &Config,
    config: &Config,
    board: &StatusBoard,
    listening: ListenOptions,
) -> Result<(), SettingProblem> {
    let new_port = config.node_port != before.node_port && config.node_port != *board.port.borrow();
    if listening.fixed_port.is_none() && new_port {
        let address = SocketAddr::new(listening.host, config.node_port);
        if let Err(error) = Listener::bind(address) {
            let value = Value::from(config.node_port);
            let zh = format!("无法监听该端口（{}）", error.cause);
            return Err(SettingProblem::new("nodePort", Some(&value), zh, error.to_string()));
        }
    }
    let redirect = config.redirect_port();
    if let Some(port) = redirect.filter(|_| redirect != before.redirect_port())
        && let Err(error) = Listener::bind(SocketAddr::new(listening.host, port))
    {
        let zh = format!("无法监听该端口（{}）", error.cause);
        let port = Value::from(port);
        return Err(SettingProblem::new("tls.redirectPort", Some(&port), zh, error.to_string()));
    }
    if let Some(problem) = tls::problem(Some(before), config) {
        return Err(problem);
    }
    let log = |config: &Config| {
        let logging = &config.logging;
        (logging.file_enabled, config.log_path(), logging.backup_count)
    };
    if log(config) != log(before)
        && let Some(problem) = config.log_problem()
    {
        return Err(problem);
    }
    let folder = config.storage_path();
    let new_folder = folder != before.storage_path() && folder != board.store().root();
    if new_folder && let Err(error) = atomic::probe_folder(&folder) {
        let value = Value::from(config.storage.path.as_str());
        let zh = format!("无法使用该文件夹（{error}）");
        let en = format!("the folder can't be used: {error}");
        return Err(SettingProblem::new("storage.path", Some(&value), zh, en));
    }
    Ok(())
}
