//! The marks of consumers at nodes, by topic: up to where they have read.

use std::collections::HashMap;

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::percent_encoded;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, Row};

use crate::{
    repository::{
        document::{WriteFault, millis},
        statements::{RowsStatement, chunks},
    },
    state::casts::CastReadMark,
};

/// The last cast of a topic that a consumer at a node has read.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_read (node TEXT NOT NULL, topic TEXT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (node, topic))";
pub(super) const CREATE_BY_TOPIC: &str =
    "CREATE INDEX IF NOT EXISTS edge_mirror_cast_read_topic ON edge_mirror_cast_read (topic, seq)";
pub(super) const SELECT_ALL: &str = "SELECT node, topic, seq, at FROM edge_mirror_cast_read";
pub(super) const DELETE_OLD: &str = "DELETE FROM edge_mirror_cast_read WHERE at < $1";
const SELECT: &str = "SELECT node, seq FROM edge_mirror_cast_read WHERE topic = $1 AND seq >= $2";

static INSERT: RowsStatement = RowsStatement::new(
    "INSERT INTO edge_mirror_cast_read (node, topic, seq, at) VALUES ",
    4,
    " ON CONFLICT (node, topic) DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE edge_mirror_cast_read.seq < excluded.seq",
);

/// A row of the table.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedRead {
    pub(super) node: String,
    pub(super) topic: String,
    pub(super) seq: i64,
    pub(super) at: i64,
}

/// Saves marks; none is further than the last number is.
pub(super) async fn save(
    connection: &mut AnyConnection,
    read: &[CastReadMark],
    (head, now): (i64, UnixMillis),
) -> Result<(), WriteFault> {
    let saved = read.iter().map(|mark| SavedRead {
        node: percent_encoded(&mark.node_id).into_owned(),
        topic: mark.topic.clone(),
        seq: mark.seq.min(head),
        at: millis(now),
    });
    insert(connection, &saved.collect::<Vec<_>>()).await
}

pub(super) async fn insert(
    connection: &mut AnyConnection,
    read: &[SavedRead],
) -> Result<(), WriteFault> {
    for rows in chunks(read) {
        let mut insert = sqlx::query::<Any>(INSERT.of(rows.len()));
        for mark in rows {
            insert = insert.bind(mark.node.clone()).bind(mark.topic.clone());
            insert = insert.bind(mark.seq).bind(mark.at);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The nodes where a topic was read up to a number or further, and how far.
pub(super) async fn read(
    connection: &mut AnyConnection,
    topic: &str,
    seq: i64,
) -> Result<HashMap<String, i64>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT).bind(topic.to_owned()).bind(seq);
    let found = select.fetch_all(connection).await?;
    let node = |text: String| percent_decode_str(&text).decode_utf8_lossy().into_owned();
    found.iter().map(|row| Ok((node(row.try_get(0)?), row.try_get(1)?))).collect()
}
