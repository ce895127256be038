//! Settings of remote tasks.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteTaskConfig {
    pub enabled: bool,
    /// Of the declarations.
    pub folder: String,
    /// Runs at a time.
    pub places: u32,
}
