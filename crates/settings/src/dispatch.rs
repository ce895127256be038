//! Settings of files that operators send.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DispatchConfig {
    pub enabled: bool,
    /// Most bytes of all files; none: half of what the storage may take.
    pub max_size: Option<u64>,
    /// Verified files are copied there, too.
    pub drop_folder: Option<String>,
    drop_mode: String,
}

impl DispatchConfig {
    /// The permissions of copied files.
    pub fn drop_mode(&self) -> u32 {
        // The table allows octal numbers alone.
        u32::from_str_radix(&self.drop_mode, 8).unwrap_or(0o600)
    }
}
