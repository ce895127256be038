//! The casts as nodes get them: what other main servers have added, what lies behind what
//! is in memory, and how far each node is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::percent_encoded;
use percent_encoding::percent_decode_str;
use sqlx::{Any, AnyConnection, Row};

use super::rows::{self, MANY};
use crate::{
    repository::document::{WriteFault, millis},
    state::{
        casts::{CastGap, KeptCast, NodeCursor},
        destinations::Audience,
    },
};

const SELECT_HEAD: &str = "SELECT stream, seq, changes FROM edge_mirror_cast_head";
const SELECT_CANCELLED: &str = "SELECT seq FROM edge_mirror_cast WHERE change > $1";
const SELECT_AUDIENCE: &str = "SELECT nodes FROM edge_mirror_cast_audience WHERE name = $1";
/// Of a node: those whose audience lists it.
const SELECT_FOR_NODE: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast LEFT JOIN edge_mirror_cast_audience ON name = audience WHERE seq > $1 AND seq < $2 AND expires_at > $3 AND cancelled_at = 0 AND (audience = 'all' OR REPLACE(nodes, $4, '') <> nodes) ORDER BY seq LIMIT $5";
const SELECT_CURSORS: &str =
    "SELECT node, sent, received FROM edge_mirror_cast_cursor WHERE stream = $1";
const SELECT_GAPS: &str = "SELECT node, after_seq, through, at FROM edge_mirror_cast_gap WHERE stream = $1 AND after_seq < $2 AND through >= $2";
const CURSOR_COLUMNS: usize = 5;
const GAP_COLUMNS: usize = 5;

/// A node may be at another main server since: the furthest one counts.
const KEEP_FURTHEST: &str = " ON CONFLICT (node) DO UPDATE SET stream = excluded.stream, sent = excluded.sent, received = excluded.received, at = excluded.at WHERE edge_mirror_cast_cursor.stream <> excluded.stream OR edge_mirror_cast_cursor.received <= excluded.received";
const KEEP_LATEST: &str = " ON CONFLICT (node, stream, after_seq) DO UPDATE SET through = excluded.through, at = excluded.at";

/// The casts that were added and cancelled since a look before.
#[derive(Debug)]
pub(crate) struct CastNews {
    pub(crate) stream: Arc<str>,
    /// The number of the last cast.
    pub(crate) head: i64,
    pub(crate) changes: i64,
    /// The first ones, the oldest first.
    pub(crate) casts: Vec<(KeptCast, Arc<Audience>)>,
    pub(crate) cancelled: Vec<i64>,
}

/// The places of nodes, and the gaps that hold a cast.
#[derive(Debug, Default)]
pub(crate) struct SavedCursors {
    pub(crate) cursors: HashMap<String, NodeCursor>,
    pub(crate) gaps: Vec<CastGap>,
}

pub(super) async fn read_news(
    connection: &mut AnyConnection,
    after: Option<i64>,
    changes: i64,
) -> Result<CastNews, WriteFault> {
    let row = sqlx::query::<Any>(SELECT_HEAD).fetch_one(&mut *connection).await?;
    let stream = row.try_get::<String, _>(0)?.into();
    let (head, now): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let mut casts = Vec::new();
    if let Some(after) = after.filter(|after| *after < head) {
        let mut audiences = BTreeMap::<Arc<str>, Arc<Audience>>::new();
        for cast in rows::read_after(connection, after, rows::PAGE).await? {
            let audience = match audiences.get(&cast.audience) {
                Some(audience) => audience.clone(),
                None => {
                    let audience = Arc::new(read_audience(connection, &cast.audience).await?);
                    audiences.insert(cast.audience.clone(), audience.clone());
                    audience
                }
            };
            casts.push((cast, audience));
        }
    }
    let mut cancelled = Vec::new();
    if now != changes {
        let select = sqlx::query::<Any>(SELECT_CANCELLED).bind(changes);
        for row in select.fetch_all(connection).await? {
            cancelled.push(row.try_get(0)?);
        }
    }
    Ok(CastNews { stream, head, changes: now, casts, cancelled })
}

pub(in crate::repository) async fn read_audience(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Audience, WriteFault> {
    if name == Audience::All.name() {
        return Ok(Audience::All);
    }
    let select = sqlx::query::<Any>(SELECT_AUDIENCE).bind(name.to_owned());
    let list: Option<String> =
        select.fetch_optional(connection).await?.map(|row| row.try_get(0)).transpose()?;
    Ok(Audience::of_json(&list.unwrap_or_default()))
}

/// The first casts that a node can still get, of those between two numbers.
pub(in crate::repository) async fn read_for_node(
    connection: &mut AnyConnection,
    node_id: &str,
    (after, before): (i64, i64),
    now: UnixMillis,
    limit: i64,
) -> Result<Vec<KeptCast>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_FOR_NODE).bind(after).bind(before).bind(millis(now));
    let select = select.bind(Audience::listed(node_id)).bind(limit);
    select.fetch_all(connection).await?.iter().map(rows::kept).collect()
}

pub(in crate::repository) async fn read_cursors(
    connection: &mut AnyConnection,
    cast: (&Arc<str>, i64),
) -> Result<SavedCursors, WriteFault> {
    let (stream, seq) = cast;
    let mut found = SavedCursors::default();
    let node = |text: String| percent_decode_str(&text).decode_utf8_lossy().into_owned();
    let select = sqlx::query::<Any>(SELECT_CURSORS).bind(stream.to_string());
    for row in select.fetch_all(&mut *connection).await? {
        let (sent, received) = (row.try_get(1)?, row.try_get(2)?);
        let cursor = NodeCursor { stream: stream.clone(), sent, received };
        found.cursors.insert(node(row.try_get(0)?), cursor);
    }
    let select = sqlx::query::<Any>(SELECT_GAPS).bind(stream.to_string()).bind(seq);
    for row in select.fetch_all(connection).await? {
        found.gaps.push(CastGap {
            node_id: node(row.try_get(0)?),
            stream: stream.clone(),
            after: row.try_get(1)?,
            through: row.try_get(2)?,
            at: UnixMillis::from_millis(rows::unsigned(row.try_get(3)?)),
        });
    }
    Ok(found)
}

pub(super) async fn save_cursors(
    connection: &mut AnyConnection,
    cursors: &[(String, NodeCursor)],
    gaps: &[CastGap],
    now: UnixMillis,
) -> Result<(), WriteFault> {
    static CURSORS: rows::Statements = rows::Statements::new(
        "INSERT INTO edge_mirror_cast_cursor (node, stream, sent, received, at) VALUES ",
        CURSOR_COLUMNS,
        KEEP_FURTHEST,
    );
    static GAPS: rows::Statements = rows::Statements::new(
        "INSERT INTO edge_mirror_cast_gap (node, stream, after_seq, through, at) VALUES ",
        GAP_COLUMNS,
        KEEP_LATEST,
    );
    for rows in chunks(cursors) {
        let mut insert = sqlx::query::<Any>(CURSORS.of(rows.len()));
        for (node, cursor) in rows {
            insert = insert.bind(percent_encoded(node).into_owned());
            insert = insert.bind(cursor.stream.to_string()).bind(cursor.sent);
            insert = insert.bind(cursor.received).bind(millis(now));
        }
        insert.execute(&mut *connection).await?;
    }
    // One row must not be written twice by a statement.
    let latest: BTreeMap<_, _> =
        gaps.iter().map(|gap| ((&gap.node_id, &gap.stream, gap.after), gap)).collect();
    for rows in chunks(&latest.into_values().collect::<Vec<_>>()) {
        let mut insert = sqlx::query::<Any>(GAPS.of(rows.len()));
        for gap in rows {
            insert = insert.bind(percent_encoded(&gap.node_id).into_owned());
            insert = insert.bind(gap.stream.to_string()).bind(gap.after);
            insert = insert.bind(gap.through).bind(millis(gap.at));
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Pieces for which there is a statement.
pub(super) fn chunks<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let (many, rest) = rows.split_at(rows.len() / MANY * MANY);
    many.chunks(MANY).chain(rest.chunks(1))
}
