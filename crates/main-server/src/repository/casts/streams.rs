//! The names of the sequence of casts, the present one and those of before.

use std::{collections::HashMap, sync::Arc};

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection, Row};

use crate::{
    repository::document::{WriteFault, millis},
    state::casts::CastStreams,
};

/// Names of before that are kept. Whoever comes with another one gets what can still be
/// delivered after the last cast that it is known to have.
const MAX_NAMES: i64 = 1000;
const RENAME: &str = "UPDATE edge_mirror_cast_head SET stream = $1";
pub(super) const INSERT: &str = "INSERT INTO edge_mirror_cast_stream (name, ended, at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
const DELETE_OLD: &str = "DELETE FROM edge_mirror_cast_stream WHERE at < COALESCE((SELECT at FROM edge_mirror_cast_stream ORDER BY at DESC LIMIT 1 OFFSET $1), 0)";
pub(super) const SELECT: &str = "SELECT name, ended, at FROM edge_mirror_cast_stream";

/// Gives the sequence another name after a number, and returns it.
pub(super) async fn rename(
    connection: &mut AnyConnection,
    before: &str,
    seq: i64,
    now: UnixMillis,
) -> Result<Arc<str>, WriteFault> {
    let insert = sqlx::query::<Any>(INSERT).bind(before.to_owned()).bind(seq).bind(millis(now));
    insert.execute(&mut *connection).await?;
    sqlx::query::<Any>(DELETE_OLD).bind(MAX_NAMES).execute(&mut *connection).await?;
    let name = fresh_name();
    sqlx::query::<Any>(RENAME).bind(name.clone()).execute(connection).await?;
    Ok(name.into())
}

/// All names; `current` is the present one.
pub(super) async fn read(
    connection: &mut AnyConnection,
    current: Arc<str>,
) -> Result<CastStreams, WriteFault> {
    let mut ended = HashMap::new();
    for row in sqlx::query::<Any>(SELECT).fetch_all(connection).await? {
        ended.insert(row.try_get::<String, _>(0)?.into(), row.try_get(1)?);
    }
    Ok(CastStreams::new(current, ended))
}

/// Short, as it is the first part of each cast's id.
pub(super) fn fresh_name() -> String {
    format!("{:012x}", fastrand::u64(..1 << 48))
}
