//! `POST /api/upload`: a file as browsers send it, in the field `file` of a form.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        FromRequest, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_mirror_base::{clock::now_s, tasks};
use edge_mirror_http::wire::body::drain_and_answer;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    CastRayGateway, Gateway,
    body::{CastRayRefusal, flaw},
    folder::{FolderError, NameClash, NewFile, PlacedFile},
};

/// A client that sends nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(30);
/// Time to read what follows a refusal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes in which no field begins and of which none is a field's that is wanted: the reader of
/// forms holds them all. Far more than a field's head, as they come in large pieces.
const MAX_BETWEEN: u64 = 2 << 20;
/// Bytes that are written together.
const BATCH_BYTES: usize = 256 << 10;

pub(super) async fn receive(State(gateway): Gateway, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(_permit) = gateway.uploading.try_acquire() else {
        let refusal = CastRayRefusal::unavailable(
            "同时上传的文件过多，请稍后再试（--castray-uploads） / too many files are being uploaded, try again in a moment (--castray-uploads)",
        );
        return drain_and_answer(&parts.headers, body, refusal.into_response()).await;
    };
    let between = UnusedBytes::default();
    let request = Request::from_parts(parts, between.bounded(body));
    let Ok(form) = Multipart::from_request(request, &()).await else {
        return missing().into_response();
    };
    gateway.receive(form, &between).await.into_response()
}

/// Bytes that have come and are of no use yet.
#[derive(Clone, Default)]
struct UnusedBytes(Arc<AtomicU64>);

impl UnusedBytes {
    /// The same body, which fails where too many of them come.
    fn bounded(&self, body: Body) -> Body {
        let unused = self.clone();
        let pieces = body.into_data_stream().map(move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            let bytes = piece.len() as u64;
            match unused.0.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_BETWEEN {
                true => Err(io::Error::other("too many bytes without a field")),
                false => Ok::<Bytes, io::Error>(piece),
            }
        });
        Body::from_stream(pieces)
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl CastRayGateway {
    async fn receive(
        &self,
        mut form: Multipart,
        between: &UnusedBytes,
    ) -> Result<Json<Value>, CastRayRefusal> {
        loop {
            let next = timeout(STALLED, form.next_field()).await.map_err(|_| stalled())?;
            let Some(mut field) = next.map_err(|error| cut(&error))? else { return Err(missing()) };
            between.reset();
            if field.name() != Some("file") {
                continue;
            }
            let Some(name) = field.file_name().map(str::to_owned) else {
                let text = "Value error, Expected UploadFile, received: <class 'str'>";
                let at = [json!("body"), json!("file")];
                let mut flaw = flaw("value_error", &at, text, &Value::Null);
                flaw["ctx"] = json!({"error": {}});
                return Err(CastRayRefusal::Flaws(vec![flaw]));
            };
            let outcome = self.keep((&mut field, between), name).await;
            if outcome.is_err() {
                // Who is still sending would not see the reason.
                let rest = async {
                    while let Ok(Some(_)) = field.chunk().await {
                        between.reset();
                    }
                };
                let _ = timeout(DRAIN_TIMEOUT, rest).await;
            }
            return outcome;
        }
    }

    async fn keep(
        &self,
        (field, between): (&mut Field<'_>, &UnusedBytes),
        name: String,
    ) -> Result<Json<Value>, CastRayRefusal> {
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
            between.reset();
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
async fn write(
    mut file: NewFile,
    mut batch: Vec<u8>,
) -> Result<(NewFile, Vec<u8>), CastRayRefusal> {
    let written = tasks::blocking(move || {
        file.write(&batch)?;
        batch.clear();
        Ok::<_, FolderError>((file, batch))
    });
    Ok(written.await?)
}

fn missing() -> CastRayRefusal {
    let at = [json!("body"), json!("file")];
    CastRayRefusal::Flaws(vec![flaw("missing", &at, "Field required", &Value::Null)])
}

fn stalled() -> CastRayRefusal {
    let text = "上传停滞 / the upload stalled".to_owned();
    CastRayRefusal::Text(StatusCode::REQUEST_TIMEOUT, text)
}

fn cut(error: &MultipartError) -> CastRayRefusal {
    CastRayRefusal::bad(format!("上传中断 / the upload was cut off: {}", error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_fails_where_nothing_of_use_comes() {
        let pieces = |count: usize| {
            let piece = Bytes::from_static(&[0; 64 << 10]);
            futures_util::stream::iter((0..count).map(move |_| Ok::<_, io::Error>(piece.clone())))
        };
        let between = UnusedBytes::default();
        let mut body = between.bounded(Body::from_stream(pieces(100))).into_data_stream();
        let mut count = 0;
        while let Some(Ok(_)) = body.next().await {
            count += 1;
        }
        assert_eq!(count, 32);
        let used = UnusedBytes::default();
        let mut body = used.bounded(Body::from_stream(pieces(100))).into_data_stream();
        while let Some(piece) = body.next().await {
            piece.unwrap();
            used.reset();
        }
    }
}
