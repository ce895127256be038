//! `/api/file-generator/files`: the files that lie here.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use chrono::{DateTime, Local};
use edge_mirror_base::{clock::UnixMillis, tasks};
use serde_json::{Value, json};

use super::{
    Gateway,
    body::CastRayRefusal,
    folder::{FileFolder, FolderError},
    sizes,
};

/// Begin the names of files that were made here.
const GENERATED: [&str; 3] = ["sample_", "preset_", "transfer_"];

impl From<FolderError> for CastRayRefusal {
    fn from(error: FolderError) -> Self {
        let text = error.to_string();
        match error {
            FolderError::Name(_) => Self::bad(text),
            FolderError::Unknown => Self::unknown(&text),
            FolderError::TooLarge(_) => Self::Text(StatusCode::PAYLOAD_TOO_LARGE, text),
            FolderError::Full(_) | FolderError::TooMany(_) => {
                Self::Text(StatusCode::INSUFFICIENT_STORAGE, text)
            }
            FolderError::Disk(_) => Self::unavailable(&text),
        }
    }
}

pub(super) async fn list(State(gateway): Gateway) -> Result<Json<Value>, CastRayRefusal> {
    let folder = gateway.folder.clone();
    let files = tasks::blocking_limited(move || folder.list()).await.map_err(FolderError::from)?;
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    let shown = files.iter().map(|file| {
        let time = local_time(file.modified_at);
        json!({
            "file_name": file.name,
            "file_size": file.bytes,
            "size_formatted": sizes::format(file.bytes),
            "created_time": time,
            "modified_time": time,
            "download_url": download_url(&file.name),
            "is_generated": GENERATED.iter().any(|prefix| file.name.starts_with(prefix)),
        })
    });
    Ok(Json(json!({
        "success": true,
        "files": shown.collect::<Vec<_>>(),
        "total_count": files.len(),
        "total_size": total,
        "total_size_formatted": sizes::format(total),
    })))
}

pub(super) async fn remove(
    State(gateway): Gateway,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, CastRayRefusal> {
    let Ok(Path(name)) = name else { return Err(FolderError::Unknown.into()) };
    let bytes = remove_from(gateway.folder.clone(), name.clone()).await?;
    Ok(Json(json!({
        "success": true,
        "message": format!("成功删除文件: {name}"),
        "deleted_size": bytes,
        "deleted_size_formatted": sizes::format(bytes),
    })))
}

async fn remove_from(folder: Arc<FileFolder>, name: String) -> Result<u64, FolderError> {
    tasks::blocking_limited(move || folder.remove(&name)).await
}

pub(super) fn download_url(name: &str) -> String {
    format!("/static/{}", edge_mirror_protocol::package::percent_encoded(name))
}

/// A time as the original shows it.
pub(super) fn local_time(at: UnixMillis) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or_default();
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}
