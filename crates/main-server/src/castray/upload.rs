//! `POST /api/upload`: a file as browsers send it, in the field `file` of a form.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Multipart, State,
        multipart::{Field, MultipartError, MultipartRejection},
    },
    http::StatusCode,
};
use edge_mirror_base::{clock::now_s, tasks};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    CastRayFace, Face,
    body::{FaceRefusal, flaw},
    folder::{FolderError, NameClash, NewFile, PlacedFile},
    sizes::MAX_FILE,
};

/// A client that sends nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(30);
/// Time to read what follows a refusal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are written together.
const BATCH_BYTES: usize = 256 << 10;

pub(super) async fn receive(
    State(face): Face,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<Value>, FaceRefusal> {
    let Ok(mut form) = form else { return Err(missing()) };
    let Ok(_permit) = face.uploading.try_acquire() else {
        // Who is still sending would not see the reason.
        let rest = async { while let Ok(Some(_)) = form.next_field().await {} };
        let _ = timeout(DRAIN_TIMEOUT, rest).await;
        return Err(FaceRefusal::unavailable(
            "同时上传的文件过多，请稍后再试 / too many files are being uploaded, try again in a moment",
        ));
    };
    loop {
        let next = timeout(STALLED, form.next_field()).await.map_err(|_| stalled())?;
        let Some(mut field) = next.map_err(|error| cut(&error))? else { return Err(missing()) };
        if field.name() != Some("file") {
            continue;
        }
        let Some(name) = field.file_name().map(str::to_owned) else {
            let text = "Value error, Expected UploadFile, received: <class 'str'>";
            let at = [json!("body"), json!("file")];
            let mut flaw = flaw("value_error", &at, text, &Value::Null);
            flaw["ctx"] = json!({"error": {}});
            return Err(FaceRefusal::Flaws(vec![flaw]));
        };
        let outcome = face.keep(&mut field, name).await;
        if outcome.is_err() {
            // Who is still sending would not see the reason.
            let rest = async { while let Ok(Some(_)) = field.chunk().await {} };
            let _ = timeout(DRAIN_TIMEOUT, rest).await;
        }
        return outcome;
    }
}

impl CastRayFace {
    async fn keep(&self, field: &mut Field<'_>, name: String) -> Result<Json<Value>, FaceRefusal> {
        let (name, clash) = match name.is_empty() {
            true => (format!("upload_{}", now_s()), NameClash::Rename),
            false => (name, NameClash::Replace),
        };
        // Before its bytes come.
        self.folder.path_of(&name)?;
        let folder = self.folder.clone();
        let mut file = tasks::blocking(move || folder.begin()).await?;
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        loop {
            let next = timeout(STALLED, field.chunk()).await.map_err(|_| stalled())?;
            let chunk = next.map_err(|error| cut(&error))?;
            let is_last = chunk.is_none();
            batch.extend_from_slice(chunk.as_deref().unwrap_or_default());
            if batch.len() >= BATCH_BYTES || is_last {
                (file, batch) = write(file, batch).await?;
            }
            if is_last {
                break;
            }
        }
        let placed = tasks::blocking(move || file.persist(&name, clash)).await?;
        let PlacedFile { path, digests, .. } = placed;
        Ok(Json(json!({
            "success": true,
            "message": "文件上传成功",
            "file_path": path,
            "file_size": digests.bytes,
        })))
    }
}

/// Returns the buffer, emptied.
async fn write(mut file: NewFile, mut batch: Vec<u8>) -> Result<(NewFile, Vec<u8>), FaceRefusal> {
    if file.bytes() + batch.len() as u64 > MAX_FILE {
        let text =
            format!("文件过大，上限 {MAX_FILE} 字节 / the file is larger than {MAX_FILE} bytes");
        return Err(FaceRefusal::Text(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let written = tasks::blocking(move || {
        file.write(&batch)?;
        batch.clear();
        Ok::<_, FolderError>((file, batch))
    });
    Ok(written.await?)
}

fn missing() -> FaceRefusal {
    let at = [json!("body"), json!("file")];
    FaceRefusal::Flaws(vec![flaw("missing", &at, "Field required", &Value::Null)])
}

fn stalled() -> FaceRefusal {
    let text = "上传停滞 / the upload stalled".to_owned();
    FaceRefusal::Text(StatusCode::REQUEST_TIMEOUT, text)
}

fn cut(error: &MultipartError) -> FaceRefusal {
    FaceRefusal::bad(format!("上传中断 / the upload was cut off: {}", error.body_text()))
}
