//! The main servers of a fleet, as base URLs.

use std::sync::Arc;

/// Base URLs of the main servers that share one fleet. The first one is its identity: what
/// is known of the fleet stays valid when another one of them answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetOrigins(Arc<[String]>);

impl FleetOrigins {
    pub fn new(base_urls: impl IntoIterator<Item = String>) -> Self {
        Self(base_urls.into_iter().collect())
    }

    /// Empty while no main server is known.
    pub fn identity(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    pub fn contains(&self, base_url: &str) -> bool {
        self.0.iter().any(|listed| listed == base_url)
    }

    pub fn position(&self, base_url: &str) -> Option<usize> {
        self.0.iter().position(|listed| listed == base_url)
    }

    pub fn base_urls(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for FleetOrigins {
    fn from(base_url: &str) -> Self {
        Self::new([base_url.to_owned()])
    }
}
