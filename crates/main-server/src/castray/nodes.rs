//! `/api/nodes`: virtual nodes come and go; their messages.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::Uri,
};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_http::access::Operator;
use serde_json::{Value, json};
use tracing::{debug, info};

use super::{
    CastRayCaller, CastRayGateway, Gateway,
    body::{CastRayJson, CastRayRefusal, flaw},
};
use crate::{
    refusal::RequestError,
    state::virtual_nodes::{VirtualNode, VirtualNodeCommand, VirtualNodeProfile},
};

const DEFAULT_COUNT: usize = 50;
const MAX_COUNT: usize = 1000;

pub(super) async fn create(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let id = match body.0.get("node_id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(number)) if number.as_f64() != Some(0.0) => number.to_string(),
        None | Some(Value::Null | Value::String(_) | Value::Number(_)) => {
            return Err(CastRayRefusal::bad("节点ID不能为空"));
        }
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Ok(outcome(false, "节点创建失败"));
        }
    };
    let port = match body.0.get("port") {
        None => Some(0),
        Some(port) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    let is_free = port.is_some_and(|port| port == 0 || gateway.figures().take_port(&id, port));
    if !is_free {
        return Ok(outcome(false, "节点创建失败"));
    }
    let profile = match gateway.server.virtual_nodes().get(&id) {
        Ok(node) => node.profile.clone(),
        Err(_) => VirtualNodeProfile::default(),
    };
    let created_at = UnixMillis::now();
    let node = VirtualNode { id: id.clone(), profile, created_at };
    match gateway.server.put_virtual_node(node, Some(&operator)).await {
        Ok(()) => {
            info!("virtual node {id} was set by a CastRay client");
            gateway.reset_figures(&id, port.unwrap_or_default());
            Ok(outcome(true, "节点创建成功"))
        }
        Err(error @ (RequestError::StateUnavailable(_) | RequestError::NoRoom(_))) => {
            gateway.figures().remove(&id);
            Err(error.into())
        }
        Err(error) => {
            debug!("a CastRay client can't create node {id}: {error}");
            gateway.forget_unless_node(&id);
            Ok(outcome(false, "节点创建失败"))
        }
    }
}

impl CastRayGateway {
    /// Has a node that was created, or created once more, count from zero.
    fn reset_figures(&self, id: &str, port: u16) {
        let mut figures = self.figures();
        figures.remove(id);
        match port {
            0 => drop(figures.port(id)),
            port => drop(figures.take_port(id, port)),
        }
    }

    fn forget_unless_node(&self, id: &str) {
        if !self.has_node(id) {
            self.figures().remove(id);
        }
    }

    async fn remove_node(
        &self,
        operator: &Operator,
        id: String,
    ) -> Result<Json<Value>, CastRayRefusal> {
        match self.server.change_by(operator, VirtualNodeCommand::Remove(id.clone())).await {
            Ok(()) => {
                info!("virtual node {id} was removed by a CastRay client");
                self.figures().remove(&id);
                Ok(outcome(true, "节点删除成功"))
            }
            // A real node's operator removes it, and nobody who calls here.
            Err(RequestError::UnknownVirtualNode(_)) => Ok(outcome(false, "节点删除失败")),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) async fn remove(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, CastRayRefusal> {
    let Ok(Path(id)) = id else { return Ok(outcome(false, "节点删除失败")) };
    gateway.remove_node(&operator, id).await
}

/// A node may have the name of another route.
pub(super) async fn remove_external(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
) -> Result<Json<Value>, CastRayRefusal> {
    gateway.remove_node(&operator, "external".to_owned()).await
}

pub(super) async fn messages(
    State(gateway): Gateway,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<Value>, CastRayRefusal> {
    let count = count_in(uri.query().unwrap_or_default())?;
    let Ok(Path(id)) = id else { return Ok(Json(json!([]))) };
    if !gateway.has_node(&id) {
        return Ok(Json(json!([])));
    }
    let found = gateway.history().of(&id, count);
    let ports: Vec<_> = {
        let mut figures = gateway.figures();
        found.iter().map(|found| found.target().map_or(0, |to| figures.port(to))).collect()
    };
    let shown = tasks::blocking_limited(move || {
        found.iter().zip(ports).map(|(found, port)| found.shown(port)).collect::<Vec<_>>()
    });
    Ok(Json(Value::Array(shown.await)))
}

/// The last `count` of a query.
fn count_in(query: &str) -> Result<usize, CastRayRefusal> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.rfind(|(name, _)| *name == "count") else {
        return Ok(DEFAULT_COUNT);
    };
    let count = i64::from_str(text.trim_start_matches('+')).map_err(|_| {
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        let at = [json!("query"), json!("count")];
        CastRayRefusal::Flaws(vec![flaw("int_parsing", &at, msg, &json!(text))])
    })?;
    Ok(usize::try_from(count).unwrap_or(0).min(MAX_COUNT))
}

pub(super) fn outcome(success: bool, message: &str) -> Json<Value> {
    Json(json!({"success": success, "message": message}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_and_bounded() {
        for (query, count) in [
            ("", 50),
            ("count=7", 7),
            ("x=1&count=-3", 0),
            ("count=9999", 1000),
            ("count=1&count=2", 2),
        ] {
            assert!(count_in(query).is_ok_and(|found| found == count), "{query}");
        }
        let Err(CastRayRefusal::Flaws(flaws)) = count_in("count=x") else { panic!("no flaws") };
        assert_eq!(
            (&flaws[0]["type"], &flaws[0]["loc"]),
            (&json!("int_parsing"), &json!(["query", "count"]))
        );
    }
}
