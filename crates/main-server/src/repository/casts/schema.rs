//! The tables of casts, and their contents among a state's documents.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{Any, AnyConnection, Row};

use super::{
    following::{self, SavedPlace, SavedSkip},
    reads::{self, SavedRead},
    rows, streams,
};
use crate::{
    repository::document::{SavedDocument, WriteFault, json},
    state::casts::{CastTotals, KeptCast},
};

/// `change` numbers what became of casts after they were saved, for other main servers; a
/// zero in `cancelled_at` is none.
const CREATE_CASTS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast (seq BIGINT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, at BIGINT NOT NULL, expires_at BIGINT NOT NULL, cancelled_at BIGINT NOT NULL, change BIGINT NOT NULL, bytes BIGINT NOT NULL, topic TEXT NOT NULL, audience TEXT NOT NULL, key TEXT NOT NULL, details TEXT NOT NULL, body TEXT NOT NULL)";
const CREATE_KEYS: &str =
    "CREATE INDEX IF NOT EXISTS edge_mirror_cast_key ON edge_mirror_cast (key) WHERE key <> ''";
/// By the time from which nobody gets a cast any more.
const CREATE_SETTLED: &str = "CREATE INDEX IF NOT EXISTS edge_mirror_cast_settled ON edge_mirror_cast ((CASE WHEN cancelled_at > 0 THEN cancelled_at ELSE expires_at END))";
const CREATE_CHANGES: &str = "CREATE INDEX IF NOT EXISTS edge_mirror_cast_change ON edge_mirror_cast (change) WHERE change > 0";
const CREATE_BY_AUDIENCE: &str =
    "CREATE INDEX IF NOT EXISTS edge_mirror_cast_by_audience ON edge_mirror_cast (audience, seq)";
/// One row. `stream` is the name of the sequence.
const CREATE_HEAD: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_head (id BIGINT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, seq BIGINT NOT NULL, changes BIGINT NOT NULL, casts BIGINT NOT NULL, bytes BIGINT NOT NULL)";
/// The names that it had before, and the last number under each.
const CREATE_STREAMS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_stream (name TEXT NOT NULL PRIMARY KEY, ended BIGINT NOT NULL, at BIGINT NOT NULL)";
/// The nodes that casts are for, as a JSON list; named by its digest, so that casts to the
/// same nodes share it.
const CREATE_AUDIENCES: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_audience (name TEXT NOT NULL PRIMARY KEY, nodes TEXT NOT NULL)";
/// The same lists, by node.
const CREATE_MEMBERS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_member (node TEXT NOT NULL, audience TEXT NOT NULL, PRIMARY KEY (node, audience))";
const CREATE_BY_MEMBER: &str = "CREATE INDEX IF NOT EXISTS edge_mirror_cast_member_audience ON edge_mirror_cast_member (audience)";
/// Numbers of the last casts that went to a node, and that it has.
const CREATE_PLACES: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_place (node TEXT NOT NULL PRIMARY KEY, sent BIGINT NOT NULL, received BIGINT NOT NULL, at BIGINT NOT NULL)";
/// Parts of the sequence of which a node got only what could still be delivered then.
const CREATE_SKIPS: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_cast_skip (node TEXT NOT NULL, after_seq BIGINT NOT NULL, through BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (node, after_seq))";
const CREATE_BY_END: &str =
    "CREATE INDEX IF NOT EXISTS edge_mirror_cast_skip_through ON edge_mirror_cast_skip (through)";
const INSERT_HEAD: &str = "INSERT INTO edge_mirror_cast_head (id, stream, seq, changes, casts, bytes) VALUES (1, $1, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING";
const REPLACE_HEAD: &str =
    "UPDATE edge_mirror_cast_head SET stream = $1, seq = $2, changes = 0, casts = $3, bytes = $4";
const COUNT: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM edge_mirror_cast";
const SELECT_HEAD: &str = "SELECT stream, seq FROM edge_mirror_cast_head";
const SELECT_PLACES: &str = "SELECT node, sent, received, at FROM edge_mirror_cast_place";
const SELECT_SKIPS: &str = "SELECT node, after_seq, through, at FROM edge_mirror_cast_skip";
const DELETE_ALL: [&str; 7] = [
    "DELETE FROM edge_mirror_cast_read",
    "DELETE FROM edge_mirror_cast",
    "DELETE FROM edge_mirror_cast_audience",
    "DELETE FROM edge_mirror_cast_member",
    "DELETE FROM edge_mirror_cast_stream",
    "DELETE FROM edge_mirror_cast_place",
    "DELETE FROM edge_mirror_cast_skip",
];

/// Names of the tables' rows where they are among documents.
const CAST: &str = "cast";
const AUDIENCE: &str = "cast audience";
const HEAD: &str = "cast head";
const STREAM: &str = "cast stream";
const PLACE: &str = "cast place";
const SKIP: &str = "cast skip";
const READ: &str = "cast read";

#[derive(Deserialize, Serialize)]
struct HeadDocument {
    stream: String,
    seq: i64,
}

#[derive(Deserialize, Serialize)]
struct StreamDocument {
    ended: i64,
    at: i64,
}

/// Creates what is missing, and locks the head. That comes first: an index of a table can't be
/// looked at, even if it is there, while somebody writes to the table, and who does so has
/// locked the head.
pub(in crate::repository) async fn ensure(
    connection: &mut AnyConnection,
) -> Result<(), WriteFault> {
    sqlx::query::<Any>(CREATE_HEAD).execute(&mut *connection).await?;
    sqlx::query::<Any>(INSERT_HEAD).bind(streams::fresh_name()).execute(&mut *connection).await?;
    super::read_locked_head(connection).await?;
    for create in [
        CREATE_CASTS,
        CREATE_KEYS,
        CREATE_SETTLED,
        CREATE_CHANGES,
        CREATE_BY_AUDIENCE,
        CREATE_STREAMS,
        CREATE_AUDIENCES,
        CREATE_MEMBERS,
        CREATE_BY_MEMBER,
        CREATE_PLACES,
        CREATE_SKIPS,
        CREATE_BY_END,
        reads::CREATE,
        reads::CREATE_BY_TOPIC,
    ] {
        sqlx::query::<Any>(create).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds all casts and what belongs to them to documents, which are returned also after an error.
pub(in crate::repository) async fn with_casts(
    connection: &mut AnyConnection,
    mut documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, (Vec<SavedDocument>, WriteFault)> {
    // A version without casts has restored them as documents that it did not know.
    documents.retain(|found| !is_ours(&found.kind));
    match read_all(connection).await {
        Ok(casts) => {
            documents.extend(casts);
            Ok(documents)
        }
        Err(fault) => Err((documents, fault)),
    }
}

fn is_ours(kind: &str) -> bool {
    [CAST, AUDIENCE, HEAD, STREAM, PLACE, SKIP, READ].contains(&kind)
}

fn document(kind: &str, id: String, json: String) -> SavedDocument {
    SavedDocument { kind: kind.to_owned(), id, revision: 1, json }
}

async fn read_all(connection: &mut AnyConnection) -> Result<Vec<SavedDocument>, WriteFault> {
    let (mut documents, mut after) = (Vec::new(), 0);
    loop {
        let page = rows::read_after(connection, after, rows::PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let casts = page.iter();
        documents.extend(
            casts.map(|cast| document(CAST, cast.seq.to_string(), rows::to_document(cast))),
        );
    }
    let audiences = rows::read_audiences(connection).await?.into_iter();
    documents.extend(audiences.map(|(name, nodes)| document(AUDIENCE, name, nodes)));
    for row in sqlx::query::<Any>(SELECT_HEAD).fetch_all(&mut *connection).await? {
        let head = HeadDocument { stream: row.try_get(0)?, seq: row.try_get(1)? };
        documents.push(document(HEAD, String::new(), json(&head)));
    }
    for row in sqlx::query::<Any>(streams::SELECT).fetch_all(&mut *connection).await? {
        let stream = StreamDocument { ended: row.try_get(1)?, at: row.try_get(2)? };
        documents.push(document(STREAM, row.try_get(0)?, json(&stream)));
    }
    for row in sqlx::query::<Any>(SELECT_PLACES).fetch_all(&mut *connection).await? {
        let (sent, received, at) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let place = SavedPlace { node: row.try_get(0)?, sent, received, at };
        documents.push(document(PLACE, place.node.clone(), json(&place)));
    }
    for row in sqlx::query::<Any>(SELECT_SKIPS).fetch_all(&mut *connection).await? {
        let (after, through, at) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let skip = SavedSkip { node: row.try_get(0)?, after, through, at };
        documents.push(document(SKIP, format!("{after} {}", skip.node), json(&skip)));
    }
    for row in sqlx::query::<Any>(reads::SELECT_ALL).fetch_all(&mut *connection).await? {
        let (topic, seq, at) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let read = SavedRead { node: row.try_get(0)?, topic, seq, at };
        documents.push(document(READ, format!("{} {}", read.node, read.topic), json(&read)));
    }
    Ok(documents)
}

/// Rows that were among documents.
#[derive(Default)]
struct DocumentedCasts {
    casts: Vec<KeptCast>,
    audiences: Vec<(String, String)>,
    head: Option<HeadDocument>,
    streams: Vec<(String, StreamDocument)>,
    places: Vec<SavedPlace>,
    skips: Vec<SavedSkip>,
    read: Vec<SavedRead>,
}

impl DocumentedCasts {
    /// Takes them out; returns the other documents.
    fn take(documents: Vec<SavedDocument>) -> Result<(Self, Vec<SavedDocument>), WriteFault> {
        let (mut taken, mut others) = (Self::default(), Vec::with_capacity(documents.len()));
        for document in documents {
            let SavedDocument { kind, id, json, .. } = &document;
            match &**kind {
                CAST => taken.casts.push(rows::from_document(id, json)?),
                AUDIENCE => taken.audiences.push((document.id, document.json)),
                HEAD => taken.head = Some(parsed(&document)?),
                STREAM => taken.streams.push((id.clone(), parsed(&document)?)),
                PLACE => taken.places.push(parsed(&document)?),
                SKIP => taken.skips.push(parsed(&document)?),
                READ => taken.read.push(parsed(&document)?),
                _ => others.push(document),
            }
        }
        Ok((taken, others))
    }
}

fn parsed<T: DeserializeOwned>(document: &SavedDocument) -> Result<T, WriteFault> {
    let SavedDocument { kind, id, json, .. } = document;
    serde_json::from_str(json)
        .map_err(|error| WriteFault::Damaged(format!("{kind} '{id}' is malformed: {error}")))
}

/// Replaces all by what is among `documents`, and returns the others. The sequence goes on
/// from where it was then; who saves the next cast gives it another name.
pub(in crate::repository) async fn replace(
    connection: &mut AnyConnection,
    documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, WriteFault> {
    for delete in DELETE_ALL {
        sqlx::query::<Any>(delete).execute(&mut *connection).await?;
    }
    let (found, others) = DocumentedCasts::take(documents)?;
    rows::insert_audiences(connection, &found.audiences).await?;
    rows::insert_kept(connection, &found.casts).await?;
    for (name, StreamDocument { ended, at }) in found.streams {
        let insert = sqlx::query::<Any>(streams::INSERT).bind(name).bind(ended).bind(at);
        insert.execute(&mut *connection).await?;
    }
    following::insert_places(connection, &found.places).await?;
    following::insert_skips(connection, &found.skips).await?;
    reads::insert(connection, &found.read).await?;
    let last = found.casts.iter().map(|cast| cast.seq).max().unwrap_or_default();
    let head = found.head.unwrap_or_else(|| {
        // Of a version that kept none.
        HeadDocument { stream: streams::fresh_name(), seq: last }
    });
    let totals = count(connection).await?;
    let replace = sqlx::query::<Any>(REPLACE_HEAD).bind(head.stream).bind(head.seq.max(last));
    let replace = replace.bind(rows::signed(totals.count)).bind(rows::signed(totals.bytes));
    replace.execute(connection).await?;
    Ok(others)
}

async fn count(connection: &mut AnyConnection) -> Result<CastTotals, WriteFault> {
    let row = sqlx::query::<Any>(COUNT).fetch_one(connection).await?;
    let (count, bytes) = (rows::unsigned(row.try_get(0)?), rows::unsigned(row.try_get(1)?));
    Ok(CastTotals { seq: 0, count, bytes })
}
