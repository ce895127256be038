//! `PUT /api/v1/dispatch/uploads`: the bytes of a file, streamed to disk and named by their
//! digest. The answer stands as it is, with a `name`, among the files of a task.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_http::wire;
use edge_mirror_protocol::package::Sha256;
use serde::Serialize;
use tracing::warn;

use crate::{
    api::upload::{announced_digest, announced_length, receive},
    refusal::RequestError,
    server::{Server, blob_key},
};

/// A file that is here.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UploadedFile {
    sha256: Sha256,
    size: u64,
}

pub(crate) async fn put(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut chunks = body.into_data_stream();
    match store_upload(&server, &headers, &mut chunks).await {
        Ok(file) => (StatusCode::CREATED, Json(file)).into_response(),
        Err(refusal) => {
            warn!("upload of a file refused: {refusal}");
            wire::body::drain_rest(&headers, chunks, refusal.into_response()).await
        }
    }
}

async fn store_upload(
    server: &Arc<Server>,
    headers: &HeaderMap,
    chunks: &mut BodyDataStream,
) -> Result<UploadedFile, RequestError> {
    let announced = announced_digest(headers)?;
    let uploading = server.dispatch.uploading.try_acquire();
    let _permit = uploading.map_err(|_| RequestError::TooManyUploads)?;
    let key = blob_key(announced.unwrap_or(Sha256::new([0; 32])));
    let pending = receive(server, key, announced_length(headers), chunks).await?;
    let verified = tasks::blocking(move || pending.verify_as(blob_key)).await?;
    let (sha256, size) = (verified.sha256(), verified.size_bytes());
    if let Some(announced) = announced.filter(|announced| *announced != sha256) {
        return Err(RequestError::WrongDigest(format!("{sha256}, not {announced}")));
    }
    server.keep_upload(verified).await?;
    Ok(UploadedFile { sha256, size })
}
