//! What a connection is, for those who answer on it.

use axum::http::Extensions;

use super::socket::SendfileState;

/// Whether what is sent is encrypted on its way. Then somebody in this process
/// reads it, which must not be done with what is mapped (see `store/mapping`).
/// Over a plain line, the socket can send a file's bytes without them.
#[derive(Clone, Debug)]
pub enum Line {
    Plain(SendfileState),
    Tls,
}

impl Line {
    /// Of a request; one that says nothing came over a plain line.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls)
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::Plain(SendfileState::default())
    }
}
