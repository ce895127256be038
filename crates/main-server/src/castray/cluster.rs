//! Other Ray clusters, of which an installation without Ray has none.

use axum::Json;
use serde_json::{Value, json};

use super::body::{CastRayJson, CastRayRefusal};

pub(super) async fn nodes() -> Json<Value> {
    Json(json!({"success": true, "external_nodes": [], "count": 0}))
}

pub(super) async fn discover() -> Json<Value> {
    Json(json!({
        "success": false, "message": "未发现外部集群", "discovered_clusters": [], "external_nodes": {},
    }))
}

pub(super) async fn connect(body: CastRayJson) -> Result<Json<Value>, CastRayRefusal> {
    let address = body.text("cluster_address", "");
    match address.is_empty() {
        true => Err(CastRayRefusal::bad("缺少cluster_address参数")),
        false => {
            let address: String = address.chars().take(200).collect();
            let message = format!("连接外部集群失败: {address}");
            Ok(Json(json!({"success": false, "message": message})))
        }
    }
}

pub(super) async fn disconnect() -> Json<Value> {
    Json(json!({"success": false, "message": "没有连接的外部集群"}))
}

pub(super) async fn show() -> Json<Value> {
    Json(json!({"is_connected": false, "external_nodes": {}, "connected_cluster": null}))
}
