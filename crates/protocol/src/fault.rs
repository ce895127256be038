//! Failures between a node and its main server, by kind.

use std::fmt;

use edge_mirror_base::metrics::Label;
use serde::{Deserialize, Serialize};

use crate::package::PackageId;

/// Most failed pulls in a heartbeat: an operator needs a few to see what is wrong.
pub const MAX_FAILED_PULLS: usize = 64;
/// Bytes of a failed pull's text.
const MAX_FAILED_PULL_TEXT: usize = 200;

/// A failure: its kind, which a page can put in any language, and a text with the
/// details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum Cause {
    /// Nothing listens there.
    Refused,
    Unreachable,
    Timeout,
    HttpStatus,
    /// The main server asks for a key that was not sent, or another one.
    Key,
    /// An answer that makes no sense: perhaps another server's.
    Unreadable,
    NotFound,
    /// The main server has the meeting, but no package for it.
    NoPackage,
    Interrupted,
    Stalled,
    TooSlow,
    /// Not a good archive, or not the announced one.
    Damaged,
    NoRoom,
    Disk,
    Busy,
    /// Also one that a newer node reports.
    #[serde(other)]
    Other,
}

/// A package that a node could not pull lately, in its heartbeats to our main server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct FailedPull {
    pub id: PackageId,
    pub cause: Cause,
    /// Details, for an operator.
    #[serde(default)]
    pub text: String,
}

impl FailedPull {
    /// Cuts the text to what is kept.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.text.truncate(self.text.floor_char_boundary(MAX_FAILED_PULL_TEXT));
        self.text.shrink_to_fit();
        self
    }
}

impl Label for Cause {
    const ALL: &'static [Self] = &[
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::HttpStatus,
        Self::Key,
        Self::Unreadable,
        Self::NotFound,
        Self::NoPackage,
        Self::Interrupted,
        Self::Stalled,
        Self::TooSlow,
        Self::Damaged,
        Self::NoRoom,
        Self::Disk,
        Self::Busy,
        Self::Other,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::HttpStatus => "http_status",
            Self::Key => "key",
            Self::Unreadable => "unreadable",
            Self::NotFound => "not_found",
            Self::NoPackage => "no_package",
            Self::Interrupted => "interrupted",
            Self::Stalled => "stalled",
            Self::TooSlow => "too_slow",
            Self::Damaged => "damaged",
            Self::NoRoom => "no_room",
            Self::Disk => "disk",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_in_their_places_under_the_names_that_pages_get() {
        for (place, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.index(), place);
            assert_eq!(serde_json::json!(cause), cause.text());
        }
        // The enum's last variant: none is missing from the list.
        assert_eq!(Cause::Other.index() + 1, Cause::ALL.len());
    }
}
