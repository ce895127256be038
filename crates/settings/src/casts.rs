//! Settings of casts, messages from the main server.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CastConfig {
    pub enabled: bool,
    /// Casts that are kept.
    pub max_count: u64,
    /// Bytes of them.
    pub max_bytes: u64,
    pub max_age_days: u64,
    /// Programs that follow casts at a time.
    pub max_consumers: u64,
    /// Seconds of silence after which a program on a WebSocket is asked whether it is there.
    pub ping_interval: u64,
    /// Seconds of silence after which it is left.
    pub idle_timeout: u64,
    /// Bytes of a message from it.
    pub max_frame: u64,
    /// Programs here may send casts, too.
    pub allow_send: bool,
    /// The topic of the casts that the panel shows; none where it is empty.
    pub show_on_panel: String,
}

impl CastConfig {
    pub fn max_age_s(&self) -> u64 {
        self.max_age_days.saturating_mul(24 * 3600)
    }
}
