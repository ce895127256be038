//! The main server's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 that never jump: the machine's clock may be set while
/// the server runs, and that must neither drop every node nor keep dead ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    began_s: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_s: since.as_secs_f64() }
    }

    /// Rounded to milliseconds, so that what is saved reads back the same.
    pub(crate) fn now_s(&self) -> f64 {
        ((self.began_s + self.began.elapsed().as_secs_f64()) * 1000.0).round() / 1000.0
    }
}
