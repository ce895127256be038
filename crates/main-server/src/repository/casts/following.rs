//! The casts as nodes get them: what other main servers have added, what lies behind what
//! is in memory, and how far each node is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use edge_mirror_base::clock::UnixMillis;
use edge_mirror_protocol::package::percent_encoded;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, Row};

use super::{reads, rows, streams};
use crate::{
    repository::{
        document::{WriteFault, millis},
        statements::{RowsStatement, chunks},
    },
    state::{
        casts::{CastGap, CastStreams, KeptCast, NodeCursor},
        destinations::Audience,
    },
};

const SELECT_HEAD: &str = "SELECT stream, seq, changes FROM edge_mirror_cast_head";
pub(super) const SELECT_CANCELLED: &str =
    "SELECT seq FROM edge_mirror_cast WHERE change > 0 AND change > $1";
const SELECT_AUDIENCE: &str = "SELECT nodes FROM edge_mirror_cast_audience WHERE name = $1";
/// For a node: what is for all, and what is for audiences that it is in.
pub(super) const SELECT_FOR_ALL: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast WHERE audience = 'all' AND seq > $1 AND seq < $2 AND expires_at > $3 AND cancelled_at = 0 ORDER BY seq LIMIT $4";
pub(super) const SELECT_FOR_NODE: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast WHERE audience IN (SELECT audience FROM edge_mirror_cast_member WHERE node = $5) AND seq > $1 AND seq < $2 AND expires_at > $3 AND cancelled_at = 0 ORDER BY seq LIMIT $4";
const SELECT_PLACE: &str = "SELECT sent, received FROM edge_mirror_cast_place WHERE node = $1";
const SELECT_PLACES: &str = "SELECT node, sent, received FROM edge_mirror_cast_place";
const SELECT_SKIPS: &str = "SELECT node, after_seq, through, at FROM edge_mirror_cast_skip WHERE after_seq < $1 AND through >= $1";
const PLACE_COLUMNS: usize = 4;
const SKIP_COLUMNS: usize = 4;

/// A node may be at another main server since: the furthest one counts.
const KEEP_FURTHEST: &str = " ON CONFLICT (node) DO UPDATE SET sent = excluded.sent, received = excluded.received, at = excluded.at WHERE edge_mirror_cast_place.received <= excluded.received";
const KEEP_LATEST: &str =
    " ON CONFLICT (node, after_seq) DO UPDATE SET through = excluded.through, at = excluded.at";

/// The casts that were added and cancelled since a look before.
#[derive(Debug)]
pub(crate) struct CastNews {
    /// None if the sequence has the name that is known.
    pub(crate) streams: Option<CastStreams>,
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
    /// Nodes where the cast was read.
    pub(crate) read: HashMap<String, i64>,
}

pub(super) async fn read_news(
    connection: &mut AnyConnection,
    known: Option<&(Arc<str>, i64)>,
    changes: i64,
) -> Result<CastNews, WriteFault> {
    let row = sqlx::query::<Any>(SELECT_HEAD).fetch_one(&mut *connection).await?;
    let stream: String = row.try_get(0)?;
    let (head, now): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let is_renamed = known.is_none_or(|(known, _)| **known != *stream);
    let streams = match is_renamed {
        true => Some(streams::read(&mut *connection, stream.into()).await?),
        false => None,
    };
    let mut casts = Vec::new();
    if let Some((_, after)) = known.filter(|(_, after)| *after < head) {
        let mut audiences = BTreeMap::<Arc<str>, Arc<Audience>>::new();
        for cast in rows::read_after(connection, *after, rows::PAGE).await? {
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
    Ok(CastNews { streams, head, changes: now, casts, cancelled })
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
    let select = |statement: &'static str| {
        let select = sqlx::query::<Any>(statement).bind(after).bind(before);
        select.bind(millis(now)).bind(limit)
    };
    let mut found = select(SELECT_FOR_ALL).fetch_all(&mut *connection).await?;
    let of_node = select(SELECT_FOR_NODE).bind(percent_encoded(node_id).into_owned());
    found.extend(of_node.fetch_all(connection).await?);
    let mut casts = found.iter().map(rows::kept).collect::<Result<Vec<_>, _>>()?;
    casts.sort_unstable_by_key(|cast| cast.seq);
    casts.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(casts)
}

/// The place of a node, if one was saved.
pub(in crate::repository) async fn read_cursor(
    connection: &mut AnyConnection,
    node_id: &str,
) -> Result<Option<NodeCursor>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_PLACE).bind(percent_encoded(node_id).into_owned());
    let row = select.fetch_optional(connection).await?;
    row.map(|row| Ok(NodeCursor { sent: row.try_get(0)?, received: row.try_get(1)? })).transpose()
}

pub(in crate::repository) async fn read_cursors(
    connection: &mut AnyConnection,
    (seq, topic): (i64, &str),
) -> Result<SavedCursors, WriteFault> {
    let mut found = SavedCursors::default();
    let node = |text: String| percent_decode_str(&text).decode_utf8_lossy().into_owned();
    for row in sqlx::query::<Any>(SELECT_PLACES).fetch_all(&mut *connection).await? {
        let cursor = NodeCursor { sent: row.try_get(1)?, received: row.try_get(2)? };
        found.cursors.insert(node(row.try_get(0)?), cursor);
    }
    let select = sqlx::query::<Any>(SELECT_SKIPS).bind(seq);
    for row in select.fetch_all(&mut *connection).await? {
        found.gaps.push(CastGap {
            node_id: node(row.try_get(0)?),
            after: row.try_get(1)?,
            through: row.try_get(2)?,
            at: UnixMillis::from_millis(rows::unsigned(row.try_get(3)?)),
        });
    }
    found.read = reads::read(connection, topic, seq).await?;
    Ok(found)
}

/// Saves places and gaps; nobody is further than the last number is.
pub(super) async fn save_cursors(
    connection: &mut AnyConnection,
    cursors: &[(String, NodeCursor)],
    gaps: &[CastGap],
    (head, now): (i64, UnixMillis),
) -> Result<(), WriteFault> {
    let places = cursors.iter().map(|(node, cursor)| {
        let NodeCursor { sent, received } = cursor.up_to(head);
        SavedPlace { node: percent_encoded(node).into_owned(), sent, received, at: millis(now) }
    });
    insert_places(connection, &places.collect::<Vec<_>>()).await?;
    // One row must not be written twice by a statement.
    let latest: BTreeMap<_, _> = gaps.iter().map(|gap| ((&gap.node_id, gap.after), gap)).collect();
    let skips = latest.into_values().map(|gap| SavedSkip {
        node: percent_encoded(&gap.node_id).into_owned(),
        after: gap.after,
        through: gap.through.min(head),
        at: millis(gap.at),
    });
    insert_skips(connection, &skips.collect::<Vec<_>>()).await
}

/// A row of `edge_mirror_cast_place`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedPlace {
    pub(super) node: String,
    pub(super) sent: i64,
    pub(super) received: i64,
    pub(super) at: i64,
}

/// A row of `edge_mirror_cast_skip`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedSkip {
    pub(super) node: String,
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) at: i64,
}

pub(super) async fn insert_places(
    connection: &mut AnyConnection,
    places: &[SavedPlace],
) -> Result<(), WriteFault> {
    static PLACES: RowsStatement = RowsStatement::new(
        "INSERT INTO edge_mirror_cast_place (node, sent, received, at) VALUES ",
        PLACE_COLUMNS,
        KEEP_FURTHEST,
    );
    for rows in chunks(places) {
        let mut insert = sqlx::query::<Any>(PLACES.of(rows.len()));
        for place in rows {
            insert = insert.bind(place.node.clone()).bind(place.sent);
            insert = insert.bind(place.received).bind(place.at);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn insert_skips(
    connection: &mut AnyConnection,
    skips: &[SavedSkip],
) -> Result<(), WriteFault> {
    static SKIPS: RowsStatement = RowsStatement::new(
        "INSERT INTO edge_mirror_cast_skip (node, after_seq, through, at) VALUES ",
        SKIP_COLUMNS,
        KEEP_LATEST,
    );
    for rows in chunks(skips) {
        let mut insert = sqlx::query::<Any>(SKIPS.of(rows.len()));
        for skip in rows {
            insert = insert.bind(skip.node.clone()).bind(skip.after);
            insert = insert.bind(skip.through).bind(skip.at);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}
