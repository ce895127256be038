//! The transport of a connection, for handlers.

use axum::http::Extensions;

use super::socket::SendfileState;

/// The transport of a connection. With TLS, this process reads the bytes to encrypt them,
/// which must not be done with a mapping (see `store/mapping`). Over plain TCP, the
/// socket can send a file's bytes without that.
#[derive(Clone, Debug)]
pub enum Transport {
    Plain(SendfileState),
    Tls,
}

impl Transport {
    /// Returns a request's transport; plain if it has none.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Announces that the connection no longer speaks HTTP.
    pub(super) fn set_upgraded(&self) {
        match self {
            Self::Plain(sendfile_state) => sendfile_state.set_upgraded(),
            Self::Tls => {}
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls)
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self::Plain(SendfileState::default())
    }
}
