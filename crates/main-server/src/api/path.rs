//! Parts of a path that are no meeting's id.

use std::{str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::{refusal::RequestError, server::Server};

/// The decoded text in the place of `{name}`; None if it is no UTF-8.
pub(crate) async fn path_text(
    parts: &mut Parts,
    server: &Arc<Server>,
    name: &str,
) -> Option<String> {
    let path = RawPathParams::from_request_parts(parts, server).await.ok()?;
    path.iter().find(|(found, _)| *found == name).map(|(_, text)| text.to_owned())
}

/// The task that a path names, by an id of this type.
pub(crate) struct PathTask<T>(pub(super) T);

impl<T: FromStr> FromRequestParts<Arc<Server>> for PathTask<T> {
    type Rejection = RequestError;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Self, RequestError> {
        let text = path_text(parts, server, "task").await.unwrap_or_default();
        let unknown = |_| RequestError::UnknownTask(text.chars().take(64).collect());
        text.parse().map(Self).map_err(unknown)
    }
}
