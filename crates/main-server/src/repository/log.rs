//! Ordered logs: entries are numbered in the order of their transactions, without holes.

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection, Row, any::AnyRow};

use super::{
    document::{SavedDocument, WriteFault, millis},
    statements::{RowsStatement, chunks},
};

pub(super) const CREATE_LOG: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_log (topic TEXT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (topic, seq))";
pub(super) const CREATE_HEADS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_head (topic TEXT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL)";
/// The row is locked until the end of the transaction: the next one gets the next numbers.
const ADVANCE_HEAD: &str = "INSERT INTO edge_mirror_head (topic, seq) VALUES ($1, $2) ON CONFLICT (topic) DO UPDATE SET seq = edge_mirror_head.seq + $2 RETURNING seq";
static INSERT_ENTRIES: RowsStatement =
    RowsStatement::new("INSERT INTO edge_mirror_log (topic, seq, at, body) VALUES ", 4, "");
const DELETE_OLD: &str = "DELETE FROM edge_mirror_log WHERE topic = $1 AND seq <= $2";
const DELETE_LOG: &str = "DELETE FROM edge_mirror_log";
const DELETE_HEADS: &str = "DELETE FROM edge_mirror_head";
const SELECT_PAGE: &str = "SELECT seq, at, body FROM edge_mirror_log WHERE topic = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";

const SELECT_HEAD: &str = "SELECT seq FROM edge_mirror_head WHERE topic = $1";
const SELECT_AFTER: &str =
    "SELECT seq, at, body FROM edge_mirror_log WHERE topic = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// Name of a log's entries where they are among documents.
const DOCUMENT_PREFIX: &str = "log ";

/// The logs that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogTopic {
    /// The changes that operators made.
    Audit,
    /// The documents that each transaction wrote, for the other main servers.
    State,
}

impl LogTopic {
    const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::State => "state",
        }
    }

    /// Entries that are kept, the newest.
    const fn capacity(self) -> i64 {
        match self {
            Self::Audit => 10_000,
            // Whoever is further behind reads the whole state.
            Self::State => 1_000,
        }
    }
}

/// An entry that gets its number when it is saved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewEntry {
    pub(super) at: UnixMillis,
    pub(super) body: String,
}

/// An entry of a log, as it was saved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogEntry {
    pub(crate) seq: i64,
    pub(crate) at: UnixMillis,
    pub(crate) body: String,
}

/// Appends entries within a transaction; the oldest make room. Returns the number of the
/// last one.
pub(super) async fn append(
    connection: &mut AnyConnection,
    topic: LogTopic,
    entries: Vec<NewEntry>,
) -> Result<Option<i64>, WriteFault> {
    let Some(count) = i64::try_from(entries.len()).ok().filter(|count| *count > 0) else {
        return Ok(None);
    };
    let advance = sqlx::query::<Any>(ADVANCE_HEAD).bind(topic.name()).bind(count);
    let last: i64 = advance.fetch_one(&mut *connection).await?.try_get(0)?;
    let rows = (last - count + 1..).zip(entries);
    let rows = rows.map(|(seq, entry)| (topic.name(), seq, millis(entry.at), entry.body));
    insert(connection, &rows.collect::<Vec<_>>()).await?;
    let old = sqlx::query::<Any>(DELETE_OLD).bind(topic.name()).bind(last - topic.capacity());
    old.execute(connection).await?;
    Ok(Some(last))
}

/// The number of the last entry; 0 where there was none.
pub(super) async fn head(
    connection: &mut AnyConnection,
    topic: LogTopic,
) -> Result<i64, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_HEAD).bind(topic.name());
    let row = select.fetch_optional(connection).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// Inserts entries, each with its topic, number and time.
async fn insert(
    connection: &mut AnyConnection,
    entries: &[(&str, i64, i64, String)],
) -> Result<(), WriteFault> {
    for rows in chunks(entries) {
        let mut insert = sqlx::query::<Any>(INSERT_ENTRIES.of(rows.len()));
        for (topic, seq, at, body) in rows {
            insert = insert.bind((*topic).to_owned()).bind(*seq).bind(*at).bind(body.clone());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Replaces all logs by the entries among `documents`, and returns the others.
pub(super) async fn replace(
    connection: &mut AnyConnection,
    documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, WriteFault> {
    for delete in [DELETE_LOG, DELETE_HEADS] {
        sqlx::query::<Any>(delete).execute(&mut *connection).await?;
    }
    let mut others = Vec::with_capacity(documents.len());
    let mut heads = std::collections::BTreeMap::<String, i64>::new();
    for document in documents {
        let Some(topic) = topic_of(&document.kind) else {
            others.push(document);
            continue;
        };
        let seq: i64 = document.id.parse().map_err(|_| {
            WriteFault::Damaged(format!("'{}' numbers no entry of a log", document.id))
        })?;
        let head = heads.entry(topic.to_owned()).or_default();
        *head = seq.max(*head);
        let row = (topic, seq, document.revision, document.json.clone());
        insert(connection, &[row]).await?;
    }
    for (topic, seq) in heads {
        let advance = sqlx::query::<Any>(ADVANCE_HEAD).bind(topic).bind(seq);
        advance.fetch_one(&mut *connection).await?;
    }
    Ok(others)
}

/// The log that a document is an entry of, if it is one. The time is its revision then, and the
/// number its id.
pub(super) fn topic_of(kind: &str) -> Option<&str> {
    kind.strip_prefix(DOCUMENT_PREFIX)
}

/// Reads the newest entries before a number (None: the newest of all), the newest first.
pub(super) async fn read_page(
    connection: &mut AnyConnection,
    topic: LogTopic,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<LogEntry>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_PAGE).bind(topic.name());
    let select = select.bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    entries(&select.fetch_all(connection).await?)
}

/// Reads the first entries after a number, the oldest first.
pub(super) async fn read_after(
    connection: &mut AnyConnection,
    topic: LogTopic,
    after: i64,
    limit: i64,
) -> Result<Vec<LogEntry>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_AFTER).bind(topic.name()).bind(after).bind(limit);
    entries(&select.fetch_all(connection).await?)
}

fn entries(rows: &[AnyRow]) -> Result<Vec<LogEntry>, WriteFault> {
    let entries = rows.iter().map(|row| {
        let at = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default();
        let at = UnixMillis::from_millis(at);
        Ok(LogEntry { seq: row.try_get(0)?, at, body: row.try_get(2)? })
    });
    entries.collect()
}
