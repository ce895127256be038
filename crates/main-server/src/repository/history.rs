//! The figures of periods in the database: a row for each, written again where a period
//! goes on. Of several main servers, each has rows of its own.

use edge_mirror_base::clock::UnixMillis;
use sqlx::{Any, AnyConnection, Row};

use super::document::{SavedDocument, WriteFault, json, millis};
use crate::state::history::{HistoryChange, HistoryPeriod, HistoryStep, together};

pub(super) const CREATE_HISTORY: &str = "CREATE TABLE IF NOT EXISTS edge_mirror_history (step TEXT NOT NULL, at BIGINT NOT NULL, figures TEXT NOT NULL, PRIMARY KEY (step, at))";
const PUT: &str = "INSERT INTO edge_mirror_history (step, at, figures) VALUES ($1, $2, $3) ON CONFLICT (step, at) DO UPDATE SET figures = $3";
const DELETE_OLD: &str = "DELETE FROM edge_mirror_history WHERE step = $1 AND at < $2";
const DELETE_ALL: &str = "DELETE FROM edge_mirror_history";
const SELECT: &str = "SELECT at, figures FROM edge_mirror_history WHERE (step = $1 OR step LIKE $2) AND at >= $3 ORDER BY at";

/// Name of periods where they are among documents.
const DOCUMENT_PREFIX: &str = "history ";

pub(super) async fn save(
    connection: &mut AnyConnection,
    server: &str,
    change: &HistoryChange,
) -> Result<(), WriteFault> {
    let HistoryChange { step, periods, kept_from } = change;
    for HistoryPeriod { at, figures } in periods {
        let put = sqlx::query::<Any>(PUT).bind(row_name(*step, server)).bind(millis(*at));
        put.bind(json(figures)).execute(&mut *connection).await?;
    }
    let delete = sqlx::query::<Any>(DELETE_OLD).bind(row_name(*step, server));
    delete.bind(millis(*kept_from)).execute(connection).await?;
    Ok(())
}

/// Replaces all periods by those among `documents`, and returns the others.
pub(super) async fn replace(
    connection: &mut AnyConnection,
    documents: Vec<SavedDocument>,
) -> Result<Vec<SavedDocument>, WriteFault> {
    sqlx::query::<Any>(DELETE_ALL).execute(&mut *connection).await?;
    let mut others = Vec::with_capacity(documents.len());
    for document in documents {
        let Some(step) = document.kind.strip_prefix(DOCUMENT_PREFIX) else {
            others.push(document);
            continue;
        };
        let at: i64 = document.id.parse().map_err(|_| {
            WriteFault::Damaged(format!("'{}' is no start of a period", document.id))
        })?;
        let put = sqlx::query::<Any>(PUT).bind(step.to_owned()).bind(at).bind(document.json);
        put.execute(&mut *connection).await?;
    }
    Ok(others)
}

/// The periods from a time on, the oldest first: of one main server, or of all together.
pub(super) async fn read(
    connection: &mut AnyConnection,
    step: HistoryStep,
    from: UnixMillis,
    server: Option<String>,
) -> Result<Vec<HistoryPeriod>, WriteFault> {
    let (own, others) = match server {
        Some(server) => (row_name(step, &server), row_name(step, &server)),
        None => (name(step).to_owned(), of_others(step)),
    };
    let select = sqlx::query::<Any>(SELECT).bind(own).bind(others).bind(millis(from));
    let rows = select.fetch_all(connection).await?;
    let periods = rows.iter().map(|row| {
        let at = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        // What a later version writes may be unknown; the period was there all the same.
        let figures = serde_json::from_str(row.try_get::<&str, _>(1)?).unwrap_or_default();
        Ok(HistoryPeriod { at: UnixMillis::from_millis(at), figures })
    });
    Ok(together(periods.collect::<Result<_, WriteFault>>()?))
}

fn row_name(step: HistoryStep, server: &str) -> String {
    match server {
        "" => name(step).to_owned(),
        server => format!("{} {server}", name(step)),
    }
}

/// A pattern of the rows of main servers that share a database.
fn of_others(step: HistoryStep) -> String {
    format!("{} %", name(step))
}

const fn name(step: HistoryStep) -> &'static str {
    match step {
        HistoryStep::Minute => "minute",
        HistoryStep::Hour => "hour",
    }
}
