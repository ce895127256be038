//! `/api/file-generator`: sample files.

use std::sync::Arc;

use axum::{Json, extract::State};
use edge_mirror_base::clock::{UnixMillis, now_s};
use serde_json::{Map, Value, json};

use super::{
    CastRayCaller, CastRayGateway, Gateway,
    body::{CastRayJson, CastRayRefusal},
    content::{SampleFile, SampleKind},
    files::{download_url, local_time},
    folder::{FolderError, NameClash, PlacedFile},
    nodes::outcome,
    sizes,
};

const PRESETS: [(&str, u64); 6] = [
    ("tiny", 1 << 10),
    ("small", 10 << 10),
    ("medium", 100 << 10),
    ("large", 1 << 20),
    ("huge", 10 << 20),
    ("massive", 100 << 20),
];
const ENDINGS: [&str; 3] = [".txt", ".bin", ".dat"];
/// Bytes of a name's first part, at most.
const MAX_NAME: usize = 150;

fn content_types() -> Value {
    let kinds = SampleKind::ALL.iter().map(|(_, name, text)| ((*name).to_owned(), json!(text)));
    Value::Object(kinds.collect())
}

pub(super) async fn presets() -> Json<Value> {
    let presets = PRESETS.iter().map(|(name, bytes)| {
        let description = format!("预设 {name} 文件");
        let preset = json!({
            "size_bytes": bytes, "size_formatted": sizes::format(*bytes), "description": description,
        });
        ((*name).to_owned(), preset)
    });
    let presets: Map<_, _> = presets.collect();
    Json(json!({"success": true, "presets": presets, "content_types": content_types()}))
}

pub(super) async fn show(State(gateway): Gateway) -> Json<Value> {
    let most = gateway.folder.limits.max_file_bytes;
    Json(json!({
        "success": true,
        "max_file_size": most,
        "max_file_size_formatted": sizes::format(most),
        "supported_units": ["B", "KB", "MB", "GB"],
        "content_types": content_types(),
        "examples": ["100B", "1KB", "1.5MB", "1GB"],
    }))
}

pub(super) async fn create(
    State(gateway): Gateway,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let (bytes, kind) = (gateway.size_of(&body, "1KB")?, kind_of(&body, "text")?);
    let has_head = body.flag("include_metadata", true);
    let named = body.text("file_name", "");
    let name = match named.is_empty() {
        true => generated_name("sample", bytes, kind),
        false => safe_name(&named),
    };
    let (name, info) = gateway.make_sample(SampleFile { name, bytes, kind, has_head }).await?;
    let message = format!("成功创建示例文件: {name}");
    Ok(Json(json!({"success": true, "message": message, "file_info": info})))
}

pub(super) async fn create_preset(
    State(gateway): Gateway,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let preset = body.text("preset", "medium");
    let Some((preset, bytes)) = PRESETS.into_iter().find(|(name, _)| *name == preset) else {
        let names = PRESETS.map(|(name, _)| name).join(", ");
        return Err(CastRayRefusal::bad(format!("无效的预设名称。可用选项: {names}")));
    };
    let (bytes, kind) = (gateway.allowed_size(bytes)?, kind_of(&body, "text")?);
    let named = body.text("file_name", "");
    let name = match named.is_empty() {
        true => generated_name(&format!("preset_{preset}"), bytes, kind),
        false => safe_name(&named),
    };
    let sample = SampleFile { name, bytes, kind, has_head: true };
    let (name, mut info) = gateway.make_sample(sample).await?;
    info["preset_name"] = json!(preset);
    let message = format!("成功创建预设文件: {name}");
    Ok(Json(json!({"success": true, "message": message, "file_info": info})))
}

pub(super) async fn create_and_send(
    State(gateway): Gateway,
    CastRayCaller(operator): CastRayCaller,
    body: CastRayJson,
) -> Result<Json<Value>, CastRayRefusal> {
    let (sender, recipients) = gateway.sender_and_recipients(&body)?;
    let (bytes, kind) = (gateway.size_of(&body, "1KB")?, kind_of(&body, "text")?);
    let name = generated_name("transfer", bytes, kind);
    let has_head = body.flag("include_metadata", true);
    let (name, info) = gateway.make_sample(SampleFile { name, bytes, kind, has_head }).await?;
    let results = gateway.transfer(&operator, (&sender, &name), &recipients, None).await;
    let successful = results.iter().filter(|result| result.success).count();
    let failed = results.len() - successful;
    let told = json!({
        "file_name": name,
        "file_size": info["size_formatted"],
        "sender_id": sender,
        "successful_transfers": successful,
        "failed_transfers": failed,
        "total_recipients": results.len(),
    });
    gateway.tell("file_generated_and_transferred", &told);
    let transfer_results = results.iter().map(|result| match result.success {
        true => {
            json!({"recipient_id": result.recipient, "success": true, "result": result.message})
        }
        false => {
            json!({"recipient_id": result.recipient, "success": false, "error": result.message})
        }
    });
    Ok(Json(json!({
        "success": successful > 0,
        "message": format!("成功创建并传输文件: {name}"),
        "file_info": info,
        "transfer_summary": {
            "total_recipients": results.len(),
            "successful_transfers": successful,
            "failed_transfers": failed,
            "transfer_results": transfer_results.collect::<Vec<_>>(),
        },
    })))
}

/// Its errors are answered with 200, as its clients expect.
pub(super) async fn create_demo(State(gateway): Gateway, body: CastRayJson) -> Json<Value> {
    let failed = |text: &str| outcome(false, &format!("创建演示文件失败: {text}"));
    let bytes = match gateway.size_of(&body, "1MB") {
        Ok(bytes) => bytes,
        Err(_) => return failed(&format!("无效的文件大小: {}", body.text("size", "1MB"))),
    };
    let Ok(kind) = kind_of(&body, "random") else { return failed("无效的内容类型") };
    let size = sizes::format(bytes).replace(' ', "_").to_lowercase();
    let name = format!("custom_test_{size}_{}.bin", now_s());
    let sample = SampleFile { name, bytes, kind, has_head: false };
    match gateway.write_sample(sample).await {
        Ok(PlacedFile { name, path, digests }) => Json(json!({
            "success": true,
            "filename": name,
            "actual_size": digests.bytes,
            "formatted_size": sizes::format(digests.bytes),
            "content_type": kind.name(),
            "path": path,
        })),
        Err(error) => failed(&error.to_string()),
    }
}

impl CastRayGateway {
    fn size_of(&self, body: &CastRayJson, default: &str) -> Result<u64, CastRayRefusal> {
        let text = body.text("size", default);
        let bytes = sizes::parse(&text).ok_or_else(|| {
            let text: String = text.chars().take(100).collect();
            CastRayRefusal::bad(format!("无效的文件大小格式: {text}"))
        })?;
        self.allowed_size(bytes)
    }

    /// The same size, unless it is too large.
    fn allowed_size(&self, bytes: u64) -> Result<u64, CastRayRefusal> {
        let most = self.folder.limits.max_file_bytes;
        match (1..=most).contains(&bytes) {
            true => Ok(bytes),
            false => {
                let most = sizes::format(most);
                Err(CastRayRefusal::bad(format!("文件大小超出限制。最大允许: {most}")))
            }
        }
    }

    /// Writes a sample file, which replaces no other one.
    pub(super) async fn write_sample(&self, sample: SampleFile) -> Result<PlacedFile, FolderError> {
        let folder = Arc::clone(&self.folder);
        self.work(move || {
            let mut file = folder.begin()?;
            let mut fault = None;
            let written = sample.write(|piece| {
                file.write(piece).map_err(|error| {
                    let text = error.to_string();
                    fault = Some(error);
                    std::io::Error::other(text)
                })
            });
            match (written, fault) {
                (Ok(()), _) => file.persist(&sample.name, NameClash::Rename),
                (Err(_), Some(fault)) => Err(fault),
                (Err(error), None) => Err(error.into()),
            }
        })
        .await
    }

    /// The same; its name, and what clients are told of it.
    async fn make_sample(&self, sample: SampleFile) -> Result<(String, Value), CastRayRefusal> {
        let SampleFile { bytes, kind, has_head, .. } = sample;
        let PlacedFile { name, path, digests } = self.write_sample(sample).await?;
        let mut info = json!({
            "file_path": path,
            "file_name": name,
            "requested_size": bytes,
            "actual_size": digests.bytes,
            "content_type": kind.name(),
            "md5_hash": digests.md5,
            "sha256": digests.sha256,
            "created": true,
            "download_url": download_url(&name),
            "size_formatted": sizes::format(digests.bytes),
            "created_time": local_time(UnixMillis::now()),
        });
        if has_head {
            info["includes_metadata"] = json!(true);
        }
        Ok((name, info))
    }
}

fn kind_of(body: &CastRayJson, default: &str) -> Result<SampleKind, CastRayRefusal> {
    let name = body.text("content_type", default);
    SampleKind::named(&name).ok_or_else(|| {
        let names = SampleKind::ALL.map(|(_, name, _)| name).join(", ");
        CastRayRefusal::bad(format!("无效的内容类型。可用选项: {names}"))
    })
}

fn generated_name(prefix: &str, bytes: u64, kind: SampleKind) -> String {
    format!("{prefix}_{}_{}_{}.txt", sizes::name_part(bytes), kind.name(), now_s())
}

/// Keeps letters, digits and `._-` of a name, which then has one of three endings.
fn safe_name(text: &str) -> String {
    let kept: String =
        text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
    let kept = kept.trim_start_matches('.');
    let mut name = kept[..kept.floor_char_boundary(MAX_NAME)].to_owned();
    if name.is_empty() {
        name.push_str("file");
    }
    if !ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        name.push_str(".txt");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_is_safe_and_have_an_ending() {
        for (text, name) in [
            ("a.bin", "a.bin"),
            ("会议 1?.dat", "会议1.dat"),
            ("../../etc/passwd", "etcpasswd.txt"),
            ("///", "file.txt"),
            ("..", "file.txt"),
        ] {
            assert_eq!(safe_name(text), name);
        }
        assert_eq!(safe_name(&"会".repeat(200)).len(), 154);
        assert_eq!(generated_name("sample", 1024, SampleKind::Text)[..18], *"sample_1_00KB_text");
    }
}
