//! Rows of casts, in and out.

use std::collections::{BTreeMap, HashMap};

use edge_mirror_base::clock::{UnixMillis, fractional_seconds};
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, Row, any::AnyRow};

use crate::{
    repository::{
        document::{WriteFault, json, millis},
        statements::{ListStatement, MANY, RowsStatement, chunks},
    },
    state::casts::{CastDetails, CastId, KeptCast, KeyedCast, NewCast},
};

/// Rows that are read at once.
pub(super) const PAGE: i64 = 500;

static INSERT: RowsStatement = RowsStatement::new(
    "INSERT INTO edge_mirror_cast (seq, stream, at, expires_at, cancelled_at, change, bytes, topic, audience, key, details, body) VALUES ",
    12,
    "",
);
static SELECT_KEYS: ListStatement = ListStatement::new(
    "SELECT key, stream, seq, details FROM edge_mirror_cast WHERE key <> '' AND key IN (",
    ")",
);
static INSERT_AUDIENCES: RowsStatement = RowsStatement::new(
    "INSERT INTO edge_mirror_cast_audience (name, nodes) VALUES ",
    2,
    " ON CONFLICT (name) DO NOTHING RETURNING name, nodes",
);
static INSERT_MEMBERS: RowsStatement = RowsStatement::new(
    "INSERT INTO edge_mirror_cast_member (node, audience) VALUES ",
    2,
    " ON CONFLICT (node, audience) DO NOTHING",
);
const SELECT_AUDIENCES: &str = "SELECT name, nodes FROM edge_mirror_cast_audience";
const SELECT_ONE: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast WHERE seq = $1 AND stream = $2";
const SELECT_AFTER: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast WHERE seq > $1 ORDER BY seq LIMIT $2";
const SELECT_PAGE: &str = "SELECT seq, stream, at, expires_at, cancelled_at, bytes, topic, audience, key, details, body FROM edge_mirror_cast WHERE seq < $1 AND ($2 = '' OR topic = $2) AND ($3 = '' OR LOWER(body) LIKE LOWER($3) ESCAPE '\\') ORDER BY seq DESC LIMIT $4";

/// Casts that are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CastFilter {
    /// None: the newest of all.
    pub(crate) before: Option<i64>,
    /// Empty: any.
    pub(crate) topic: String,
    /// In the body; empty: any.
    pub(crate) text: String,
    pub(crate) limit: u32,
}

/// A cast among documents.
#[derive(Serialize, Deserialize)]
struct CastDocument {
    stream: String,
    topic: String,
    #[serde(with = "fractional_seconds")]
    at: UnixMillis,
    #[serde(with = "fractional_seconds")]
    expires_at: UnixMillis,
    #[serde(default, with = "fractional_seconds::option")]
    cancelled_at: Option<UnixMillis>,
    bytes: u64,
    audience: String,
    key: String,
    details: CastDetails,
    body: String,
}

pub(super) fn to_document(cast: &KeptCast) -> String {
    let cast = cast.clone();
    json(&CastDocument {
        stream: cast.stream.to_string(),
        topic: cast.topic,
        at: cast.at,
        expires_at: cast.expires_at,
        cancelled_at: cast.cancelled_at,
        bytes: cast.bytes,
        audience: cast.audience.to_string(),
        key: cast.key,
        details: cast.details,
        body: cast.body,
    })
}

pub(super) fn from_document(id: &str, text: &str) -> Result<KeptCast, WriteFault> {
    let damaged = |cause: String| WriteFault::Damaged(format!("cast '{id}' is malformed: {cause}"));
    let seq = id.parse().map_err(|_| damaged("it has no number".to_owned()))?;
    let found: CastDocument =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    Ok(KeptCast {
        seq,
        stream: found.stream.into(),
        topic: found.topic,
        at: found.at,
        expires_at: found.expires_at,
        cancelled_at: found.cancelled_at,
        bytes: found.bytes,
        audience: found.audience.into(),
        key: found.key,
        details: found.details,
        body: found.body,
    })
}

/// Adds casts, and the audiences that they are the first ones for.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    casts: &[(&CastId, &NewCast)],
) -> Result<(), WriteFault> {
    let audiences: BTreeMap<_, _> =
        casts.iter().map(|(_, cast)| (&*cast.audience_name, &cast.audience)).collect();
    let audiences = audiences.into_iter();
    let listed = audiences.filter_map(|(name, to)| Some((name.to_owned(), to.to_json()?)));
    insert_audiences(connection, &listed.collect::<Vec<_>>()).await?;
    let kept = casts.iter().map(|(id, cast)| cast.kept(id));
    insert_kept(connection, &kept.collect::<Vec<_>>()).await
}

pub(super) async fn insert_kept(
    connection: &mut AnyConnection,
    casts: &[KeptCast],
) -> Result<(), WriteFault> {
    for rows in chunks(casts) {
        let mut insert = sqlx::query::<Any>(INSERT.of(rows.len()));
        for cast in rows {
            insert = insert.bind(cast.seq).bind(cast.stream.to_string());
            insert = insert.bind(millis(cast.at)).bind(millis(cast.expires_at));
            insert = insert.bind(cast.cancelled_at.map_or(0, millis)).bind(0_i64);
            insert = insert.bind(signed(cast.bytes)).bind(cast.topic.clone());
            insert = insert.bind(cast.audience.to_string()).bind(cast.key.clone());
            insert = insert.bind(json(&cast.details)).bind(cast.body.clone());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds those that are not there yet, each a name and a list, and who is in them.
pub(super) async fn insert_audiences(
    connection: &mut AnyConnection,
    audiences: &[(String, String)],
) -> Result<(), WriteFault> {
    let mut members = Vec::new();
    for rows in chunks(audiences) {
        let mut insert = sqlx::query::<Any>(INSERT_AUDIENCES.of(rows.len()));
        for (name, nodes) in rows {
            insert = insert.bind(name.clone()).bind(nodes.clone());
        }
        for row in insert.fetch_all(&mut *connection).await? {
            let (name, nodes): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let nodes: Vec<String> = serde_json::from_str(&nodes).map_err(|error| {
                WriteFault::Damaged(format!("cast audience '{name}' is malformed: {error}"))
            })?;
            members.extend(nodes.into_iter().map(|node| (node, name.clone())));
        }
    }
    for rows in chunks(&members) {
        let mut insert = sqlx::query::<Any>(INSERT_MEMBERS.of(rows.len()));
        for (node, audience) in rows {
            insert = insert.bind(node.clone()).bind(audience.clone());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn read_audiences(
    connection: &mut AnyConnection,
) -> Result<Vec<(String, String)>, WriteFault> {
    let rows = sqlx::query::<Any>(SELECT_AUDIENCES).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The kept casts that have one of these keys.
pub(super) async fn find_keys(
    connection: &mut AnyConnection,
    keys: &[&str],
) -> Result<HashMap<String, KeyedCast>, WriteFault> {
    let mut found = HashMap::new();
    for chunk in keys.chunks(MANY) {
        for row in SELECT_KEYS.bind(chunk).fetch_all(&mut *connection).await? {
            let id = CastId { stream: row.try_get::<String, _>(1)?.into(), seq: row.try_get(2)? };
            let fingerprint = details(row.try_get(3)?)?.fingerprint;
            found.insert(row.try_get(0)?, KeyedCast { id, fingerprint });
        }
    }
    Ok(found)
}

pub(in crate::repository) async fn read_one(
    connection: &mut AnyConnection,
    id: &CastId,
) -> Result<Option<KeptCast>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_ONE).bind(id.seq).bind(id.stream.to_string());
    select.fetch_optional(connection).await?.as_ref().map(kept).transpose()
}

/// The first casts after a number, the oldest first.
pub(super) async fn read_after(
    connection: &mut AnyConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<KeptCast>, WriteFault> {
    let select = sqlx::query::<Any>(SELECT_AFTER).bind(after).bind(limit);
    select.fetch_all(connection).await?.iter().map(kept).collect()
}

/// The newest casts of those that are looked for, the newest first.
pub(in crate::repository) async fn read_page(
    connection: &mut AnyConnection,
    filter: &CastFilter,
) -> Result<Vec<KeptCast>, WriteFault> {
    let CastFilter { before, topic, text, limit } = filter;
    let select = sqlx::query::<Any>(SELECT_PAGE).bind(before.unwrap_or(i64::MAX));
    let select = select.bind(topic.clone()).bind(pattern(text)).bind(i64::from(*limit));
    select.fetch_all(connection).await?.iter().map(kept).collect()
}

/// A pattern of bodies that contain a text, which is JSON there.
fn pattern(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let quoted = json(&text);
    let mut pattern = "%".to_owned();
    for c in quoted[1..quoted.len() - 1].chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}

pub(super) fn kept(row: &AnyRow) -> Result<KeptCast, WriteFault> {
    let at = |column| Ok::<_, WriteFault>(UnixMillis::from_millis(unsigned(row.try_get(column)?)));
    let cancelled_at: i64 = row.try_get(4)?;
    Ok(KeptCast {
        seq: row.try_get(0)?,
        stream: row.try_get::<String, _>(1)?.into(),
        at: at(2)?,
        expires_at: at(3)?,
        cancelled_at: (cancelled_at > 0).then(|| UnixMillis::from_millis(unsigned(cancelled_at))),
        bytes: unsigned(row.try_get(5)?),
        topic: row.try_get(6)?,
        audience: row.try_get::<String, _>(7)?.into(),
        key: row.try_get(8)?,
        details: details(row.try_get(9)?)?,
        body: row.try_get(10)?,
    })
}

fn details(text: &str) -> Result<CastDetails, WriteFault> {
    serde_json::from_str(text)
        .map_err(|error| WriteFault::Damaged(format!("a cast's details are malformed: {error}")))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
