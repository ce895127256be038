//! A PostgreSQL of a test's own.

#[path = "../../../../tests/it/support/postgres.rs"]
#[allow(dead_code, reason = "the whole program's tests need other parts of it")]
mod postgres;

use edge_mirror_base::tasks;

pub(crate) use postgres::{PASSWORD, TestPostgres};

use crate::repository::StateLocation;

impl TestPostgres {
    /// Creates an empty database.
    pub(crate) async fn database(&self, name: &str) -> StateLocation {
        let creating = self.creation(name);
        tasks::blocking(creating).await.parse().unwrap()
    }
}
