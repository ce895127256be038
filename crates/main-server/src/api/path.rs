//! Parts of a path that are no meeting's id.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::server::Server;

/// The decoded text in the place of `{name}`; None if it is no UTF-8.
pub(crate) async fn path_text(
    parts: &mut Parts,
    server: &Arc<Server>,
    name: &str,
) -> Option<String> {
    let path = RawPathParams::from_request_parts(parts, server).await.ok()?;
    path.iter().find(|(found, _)| *found == name).map(|(_, text)| text.to_owned())
}
