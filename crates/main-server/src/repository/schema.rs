//! The tables, and the version of what is in them.

use sqlx::{Any, AnyConnection, Row, error::DatabaseError};

use super::{
    document::{SCHEMA, WriteFault},
    history, log, presence,
};

const CREATE_SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS edge_mirror_schema (version BIGINT NOT NULL)";
const CREATE_DOCUMENTS: &str = "CREATE TABLE edge_mirror_doc (kind TEXT NOT NULL, id TEXT NOT NULL, revision BIGINT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (kind, id))";
/// Tables that two main servers create at once collide, even where each creates only what is
/// missing. SQLite's transactions are one after the other anyway.
const LOCK_POSTGRES: &str = "SELECT pg_advisory_xact_lock(7161914902187401828)";
const SELECT_SCHEMA: &str = "SELECT version FROM edge_mirror_schema";
const INSERT_SCHEMA: &str = "INSERT INTO edge_mirror_schema (version) VALUES ($1)";

/// Makes sure that there is a state that this version can read.
pub(super) async fn check(connection: &mut AnyConnection) -> Result<(), WriteFault> {
    let version = match sqlx::query::<Any>(SELECT_SCHEMA).fetch_optional(connection).await {
        Ok(row) => row.map(|row| row.try_get::<i64, _>(0)).transpose()?,
        Err(sqlx::Error::Database(error)) if is_missing_table(&*error) => None,
        Err(error) => return Err(error.into()),
    };
    match version {
        Some(SCHEMA) => Ok(()),
        Some(found) => Err(WriteFault::Newer { found, known: SCHEMA }),
        None => Err(WriteFault::NoState),
    }
}

/// As PostgreSQL says it (undefined_table), and SQLite, which has no code of its own for it.
pub(super) fn is_missing_table(error: &dyn DatabaseError) -> bool {
    match error.code().as_deref() {
        Some("42P01") => true,
        Some("1") => error.message().contains("no such table"),
        _ => false,
    }
}

/// Creates what is missing, but for casts; a schema that this version does not know is left alone. Whoever
/// else opens the database waits for the end of the transaction.
pub(super) async fn ensure(connection: &mut AnyConnection) -> Result<(), WriteFault> {
    if connection.backend_name() == "PostgreSQL" {
        sqlx::query::<Any>(LOCK_POSTGRES).execute(&mut *connection).await?;
    }
    sqlx::query::<Any>(CREATE_SCHEMA).execute(&mut *connection).await?;
    let version = sqlx::query::<Any>(SELECT_SCHEMA).fetch_optional(&mut *connection).await?;
    match version.map(|row| row.try_get::<i64, _>(0)).transpose()? {
        Some(SCHEMA) => {}
        Some(found) => return Err(WriteFault::Newer { found, known: SCHEMA }),
        None => {
            sqlx::query::<Any>(CREATE_DOCUMENTS).execute(&mut *connection).await?;
            sqlx::query::<Any>(INSERT_SCHEMA).bind(SCHEMA).execute(&mut *connection).await?;
        }
    }
    // Versions that know none of these can use the database, too: they leave them alone.
    for create in [
        log::CREATE_LOG,
        log::CREATE_HEADS,
        history::CREATE_HISTORY,
        presence::CREATE_PRESENCE,
        presence::CREATE_LEASES,
    ] {
        sqlx::query::<Any>(create).execute(&mut *connection).await?;
    }
    Ok(())
}
