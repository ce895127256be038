//! What a connection is, for those who answer on it.

use axum::http::Extensions;

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
