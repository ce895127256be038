//! `PUT /api/v1/meetings/{id}/package`: a package streamed to disk, verified,
//! and put in place in one rename, or not at all.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json,
    body::{Body, BodyDataStream},
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use edge_mirror_base::tasks;
use edge_mirror_http::{
    access::Operator,
    wire::{self, PathId},
};
use edge_mirror_protocol::{
    object::ObjectKey,
    package::{PackageId, Sha256, VerifyLevel, sha256_of_field},
};
use edge_mirror_store::PendingPackage;
use futures_util::StreamExt;
use serde_json::Value;
use tracing::{info, warn};

use crate::{
    api::manage,
    counts::{IntakeResult, MasterCheckOccasion},
    refusal::RequestError,
    server::{Server, upload_provenance},
};

/// Bytes gathered for one write; the memory that an upload costs.
const BATCH_BYTES: usize = 128 << 10;
/// A sender that is silent for this long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// Each keeps a core busy.
const MAX_UPLOADS: usize = 8;

pub(crate) async fn put(
    State(server): State<Arc<Server>>,
    Extension(operator): Extension<Operator>,
    PathId(id): PathId,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut chunks = body.into_data_stream();
    let outcome = store_upload(&server, operator, &id, &headers, &mut chunks).await;
    server.counts.uploads.inc(IntakeResult::of(&outcome));
    let refusal = match outcome {
        Ok(view) => return view.into_response(),
        Err(refusal) => {
            if let RequestError::BadPackage(cause) = &refusal {
                server.counts.bad_package(MasterCheckOccasion::Uploaded, cause);
            }
            warn!("upload for meeting {id} refused: {refusal}");
            refusal.into_response()
        }
    };
    wire::body::drain_rest(&headers, chunks, refusal).await
}

async fn store_upload(
    server: &Arc<Server>,
    operator: Operator,
    id: &PackageId,
    headers: &HeaderMap,
    chunks: &mut BodyDataStream,
) -> Result<Json<Value>, RequestError> {
    let provenance = upload_provenance(server.book().get(id)?);
    let announced = announced_digest(headers)?;
    let permit = UploadPermit::take(&server.uploading, id)?;
    let pending = receive(server, id.into(), announced_length(headers), chunks).await?;
    let (finishing, meeting) = (server.clone(), id.clone());
    if let Some(shared) = server.shared.clone() {
        let verify = move || pending.verify(VerifyLevel::Full, announced);
        let verified = tasks::blocking(verify).await?;
        // As below: to its end, whoever leaves.
        tasks::blocking(move || {
            let _permit = permit;
            let sharing = finishing.share_upload(&shared, &meeting, &operator, verified);
            tasks::block_on_in_place(sharing)
        })
        .await?;
        return finish(server, id);
    }
    // In one piece and off the handler: a client that leaves now must not
    // leave a new package with an old token.
    tasks::blocking(move || {
        let _permit = permit;
        let commit = || pending.commit(VerifyLevel::Full, announced, provenance, || true);
        finishing.replace_package(&meeting, Some(&operator), commit)
    })
    .await?;
    finish(server, id)
}

fn finish(server: &Server, id: &PackageId) -> Result<Json<Value>, RequestError> {
    server.wake.announcer.notify_one();
    let view = manage::view(server, id)?;
    info!("meeting {id} has a package of {} bytes, SHA-256 {}", view["size"], view["sha256"]);
    Ok(view)
}

/// Receives the bytes of an object.
pub(super) async fn receive(
    server: &Server,
    key: ObjectKey,
    length: Option<u64>,
    chunks: &mut BodyDataStream,
) -> Result<PendingPackage, RequestError> {
    let (store, is_package) = (server.store.clone(), key.package().is_some());
    let mut pending = tasks::blocking(move || store.begin(key, length, u64::MAX)).await?;
    if is_package {
        pending.unpack_while_receiving();
    }
    pending.sync_while_receiving();
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    loop {
        let next = tokio::time::timeout(STALLED, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| RequestError::Stalled)? else { break };
        let chunk = chunk.map_err(|error| RequestError::Cut(error.to_string()))?;
        server.counts.uploaded_bytes.add(chunk.len() as u64);
        for piece in chunk.chunks(BATCH_BYTES) {
            if batch.len() + piece.len() > BATCH_BYTES {
                (pending, batch) = write_batch(pending, batch).await?;
            }
            batch.extend_from_slice(piece);
        }
    }
    Ok(write_batch(pending, batch).await?.0)
}

/// Returns the buffer, emptied.
async fn write_batch(
    mut pending: PendingPackage,
    mut batch: Vec<u8>,
) -> Result<(PendingPackage, Vec<u8>), RequestError> {
    tasks::blocking(move || {
        pending.write(&batch)?;
        batch.clear();
        Ok((pending, batch))
    })
    .await
}

pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A digest that can't be parsed was meant to be checked: refused rather than
/// ignored. Other algorithms are ignored.
pub(super) fn announced_digest(headers: &HeaderMap) -> Result<Option<Sha256>, RequestError> {
    for name in ["repr-digest", "content-digest"] {
        let Some(value) = headers.get(name) else { continue };
        let value = value.to_str().unwrap_or_default();
        match sha256_of_field(value) {
            Some(digest) => return Ok(Some(digest)),
            None if value.split(',').any(|item| item.trim_start().starts_with("sha-256=")) => {
                return Err(RequestError::Invalid(format!(
                    "{name} 无效 / {name} is not of the form sha-256=:base64:"
                )));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Permit to upload a meeting's package; one at a time, so that chance does not
/// decide which of two uploads stays.
#[derive(Debug)]
struct UploadPermit {
    taken: Arc<Mutex<HashSet<PackageId>>>,
    id: PackageId,
}

impl UploadPermit {
    fn take(taken: &Arc<Mutex<HashSet<PackageId>>>, id: &PackageId) -> Result<Self, RequestError> {
        let mut ids = locked(taken);
        if ids.contains(id) {
            return Err(RequestError::UploadUnderWay(id.clone()));
        }
        if ids.len() >= MAX_UPLOADS {
            return Err(RequestError::TooManyUploads);
        }
        ids.insert(id.clone());
        Ok(Self { taken: taken.clone(), id: id.clone() })
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        locked(&self.taken).remove(&self.id);
    }
}

fn locked(ids: &Mutex<HashSet<PackageId>>) -> MutexGuard<'_, HashSet<PackageId>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_upload_to_a_meeting_and_a_few_in_all() {
        let taken = Arc::default();
        let id = |n: usize| format!("m{n}").parse::<PackageId>().unwrap();
        let mut places: Vec<_> =
            (0..MAX_UPLOADS).map(|n| UploadPermit::take(&taken, &id(n)).unwrap()).collect();
        assert!(matches!(UploadPermit::take(&taken, &id(0)), Err(RequestError::UploadUnderWay(_))));
        assert!(matches!(UploadPermit::take(&taken, &id(99)), Err(RequestError::TooManyUploads)));
        places.pop();
        assert!(UploadPermit::take(&taken, &id(99)).is_ok());
    }

    #[test]
    fn a_digest_is_checked_or_refused_but_never_ignored() {
        let digest = Sha256::new([7; 32]);
        let field = format!("sha-256=:{}:", digest.base64());
        for (name, value, expected) in [
            ("repr-digest", &*field, Some(Some(digest))),
            ("content-digest", &*field, Some(Some(digest))),
            ("repr-digest", "sha-512=:AAAA:", Some(None)),
            ("repr-digest", "sha-256=:AAAA:", None),
            ("x-other", &*field, Some(None)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(announced_digest(&headers).ok(), expected, "{name}: {value}");
        }
    }
}
