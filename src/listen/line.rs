//! What a connection is, for those who answer on it.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, request::Parts},
};

/// Whether what is sent is encrypted on its way. Then somebody in this process
/// reads it, which must not be done with what is mapped (see `store/mapping`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Plain,
    Tls,
}

impl Line {
    /// Of a request; one that says nothing came over a plain line.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::Plain)
    }

    pub(super) fn note(self, extensions: &mut Extensions) {
        if self == Self::Tls {
            extensions.insert(self);
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Line {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
