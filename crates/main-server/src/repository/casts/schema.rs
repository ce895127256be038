//! The tables of casts, and their contents among a state's documents.

use sqlx::{Any, AnyConnection};

use super::{count, rows};
use crate::repository::document::{SavedDocument, WriteFault};

/// `change` numbers what became of casts after they were saved, for other main servers; a
/// zero in `cancelled_at` is none.
const CREATE_CASTS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast (seq BIGINT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, at BIGINT NOT NULL, expires_at BIGINT NOT NULL, cancelled_at BIGINT NOT NULL, change BIGINT NOT NULL, bytes BIGINT NOT NULL, topic TEXT NOT NULL, audience TEXT NOT NULL, key TEXT NOT NULL, details TEXT NOT NULL, body TEXT NOT NULL)";
const CREATE_KEYS: &str =
    "CREATE INDEX IF NOT EXISTS edge_mirror_cast_key ON edge_mirror_cast (key) WHERE key <> ''";
/// One row. `stream` is the name of the sequence: another one begins where a state is
/// restored, as numbers may then be given again.
const CREATE_HEAD: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_head (id BIGINT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, seq BIGINT NOT NULL, changes BIGINT NOT NULL, casts BIGINT NOT NULL, bytes BIGINT NOT NULL)";
/// The nodes that casts are for, as a JSON list; named by its digest, so that casts to the
/// same nodes share it.
const CREATE_AUDIENCES: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_audience (name TEXT NOT NULL PRIMARY KEY, nodes TEXT NOT NULL)";
/// Numbers of the last casts that went to a node, and that it has.
const CREATE_CURSORS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_cursor (node TEXT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, sent BIGINT NOT NULL, received BIGINT NOT NULL, at BIGINT NOT NULL)";
/// Parts of the sequence of which a node got only what could still be delivered then.
const CREATE_GAPS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_gap (node TEXT NOT NULL, stream TEXT NOT NULL, after_seq BIGINT NOT NULL, through BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (node, stream, after_seq))";
const INSERT_HEAD: &str = "INSERT INTO edge_mirror_cast_head (id, stream, seq, changes, casts, bytes) VALUES (1, $1, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING";
const REPLACE_HEAD: &str =
    "UPDATE edge_mirror_cast_head SET stream = $1, seq = $2, changes = 0, casts = $3, bytes = $4";
const DELETE_CASTS: &str = "DELETE FROM edge_mirror_cast";
const DELETE_AUDIENCES: &str = "DELETE FROM edge_mirror_cast_audience";
const DELETE_CURSORS: &str = "DELETE FROM edge_mirror_cast_cursor";
const DELETE_GAPS: &str = "DELETE FROM edge_mirror_cast_gap";

/// Names of casts and audiences where they are among documents.
const CAST: &str = "cast";
const AUDIENCE: &str = "cast audience";

/// Creates what is missing, and locks the head. That comes first: an index of a table can't be
/// looked at, even if it is there, while somebody writes to the table, and who does so has
/// locked the head.
pub(in crate::repository) async fn ensure(
    connection: &mut AnyConnection,
) -> Result<(), WriteFault> {
    sqlx::query::<Any>(CREATE_HEAD).execute(&mut *connection).await?;
    sqlx::query::<Any>(INSERT_HEAD).bind(fresh_stream()).execute(&mut *connection).await?;
    super::read_locked_head(connection).await?;
    for create in [CREATE_CASTS, CREATE_KEYS, CREATE_AUDIENCES, CREATE_CURSORS, CREATE_GAPS] {
        sqlx::query::<Any>(create).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds all casts and audiences to documents, which are returned also after an error.
pub(in crate::repository) async fn with_casts(
    connection: &mut AnyConnection,
    mut documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, (Vec<SavedDocument>, WriteFault)> {
    // A version without casts has restored them as documents that it did not know.
    documents.retain(|found| !matches!(&*found.kind, CAST | AUDIENCE));
    match read_all(connection).await {
        Ok(casts) => {
            documents.extend(casts);
            Ok(documents)
        }
        Err(fault) => Err((documents, fault)),
    }
}

async fn read_all(connection: &mut AnyConnection) -> Result<Vec<SavedDocument>, WriteFault> {
    let (mut documents, mut after) = (Vec::new(), 0);
    loop {
        let page = rows::read_after(connection, after, rows::PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        documents.extend(page.iter().map(|cast| SavedDocument {
            kind: CAST.to_owned(),
            id: cast.seq.to_string(),
            revision: 1,
            json: rows::to_document(cast),
        }));
    }
    let audiences = rows::read_audiences(connection).await?;
    documents.extend(audiences.into_iter().map(|(name, nodes)| SavedDocument {
        kind: AUDIENCE.to_owned(),
        id: name,
        revision: 1,
        json: nodes,
    }));
    Ok(documents)
}

/// Replaces all by what is among `documents`, and returns the others. The numbers stay, the
/// sequence is another one, in which no node is anywhere yet.
pub(in crate::repository) async fn replace(
    connection: &mut AnyConnection,
    documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, WriteFault> {
    for delete in [DELETE_CASTS, DELETE_AUDIENCES, DELETE_CURSORS, DELETE_GAPS] {
        sqlx::query::<Any>(delete).execute(&mut *connection).await?;
    }
    let (mut others, mut casts) = (Vec::with_capacity(documents.len()), Vec::new());
    for document in documents {
        match &*document.kind {
            CAST => casts.push(rows::from_document(&document.id, &document.json)?),
            AUDIENCE => rows::insert_audience(connection, document.id, document.json).await?,
            _ => others.push(document),
        }
    }
    rows::insert_kept(connection, &casts).await?;
    let seq = casts.iter().map(|cast| cast.seq).max().unwrap_or_default();
    let totals = count(connection, seq).await?;
    let replace = sqlx::query::<Any>(REPLACE_HEAD).bind(fresh_stream()).bind(seq);
    let replace = replace.bind(rows::signed(totals.count)).bind(rows::signed(totals.bytes));
    replace.execute(connection).await?;
    Ok(others)
}

/// Short, as it is the first part of each cast's id.
fn fresh_stream() -> String {
    format!("{:012x}", fastrand::u64(..1 << 48))
}
