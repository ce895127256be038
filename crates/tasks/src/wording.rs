//! The same text in Chinese and in English.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Shows as `中文 / English`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BilingualText {
    pub zh: String,
    pub en: String,
}

impl BilingualText {
    pub fn new(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { zh: zh.into(), en: en.into() }
    }

    pub fn in_language(&self, chinese: bool) -> &str {
        if chinese { &self.zh } else { &self.en }
    }
}

impl fmt::Display for BilingualText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.zh, self.en)
    }
}
