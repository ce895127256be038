//! `GET /api/v1/audit`: who changed what, when, from which address.
//!
//! | Query | |
//! |---|---|
//! | `limit` | how many changes, 1 to 1,000; 100 if absent, all that are kept in a table |
//! | `before` | those before this number; the newest if absent |
//! | `format=csv` | a table for spreadsheets |

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use edge_mirror_http::wire::ApiQuery;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::csv::{CsvTable, TableFormat, local_time},
    refusal::RequestError,
    repository::{LogEntry, LogTopic},
    server::Server,
    state::audit::AuditRecord,
};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
/// Rows of a table: all that are kept.
const MAX_ROWS: u32 = 10_000;

#[derive(Deserialize)]
pub(crate) struct AuditQuery {
    before: Option<i64>,
    limit: Option<u32>,
    #[serde(default)]
    format: TableFormat,
}

/// Changes, the newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AuditPage {
    changes: Vec<NumberedChange>,
    /// For `before` of the next page; null if there are no earlier ones.
    next: Option<i64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NumberedChange {
    number: i64,
    #[serde(flatten)]
    record: AuditRecord,
}

pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    ApiQuery(asked): ApiQuery<AuditQuery>,
) -> Result<Response, RequestError> {
    let is_table = asked.format == TableFormat::Csv;
    let (default, most) = if is_table { (MAX_ROWS, MAX_ROWS) } else { (DEFAULT_LIMIT, MAX_LIMIT) };
    let limit = asked.limit.unwrap_or(default);
    if limit == 0 || limit > most {
        return Err(RequestError::Invalid(format!(
            "limit 应为 1 到 {most} / limit must be from 1 to {most}"
        )));
    }
    // One more tells whether there are more.
    let reading = server.records.log_page(LogTopic::Audit, asked.before, limit + 1);
    let mut entries =
        reading.await.map_err(|error| RequestError::RecordsUnavailable(error.to_string()))?;
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| has_more).map(|entry| entry.seq);
    let changes: Vec<_> = entries.into_iter().filter_map(parsed).collect();
    Ok(match is_table {
        true => table(&changes).into_response("edge-mirror-changes.csv"),
        false => Json(json!(AuditPage { changes, next })).into_response(),
    })
}

/// None of what a later version has written and this one does not know.
fn parsed(entry: LogEntry) -> Option<NumberedChange> {
    let record = serde_json::from_str(&entry.body).ok()?;
    Some(NumberedChange { number: entry.seq, record })
}

fn table(changes: &[NumberedChange]) -> CsvTable {
    let names = ["number", "time", "address", "how", "action", "subject", "details"];
    let mut table = CsvTable::new(&names);
    for NumberedChange { number, record } in changes {
        let details = match record.event.details.is_empty() {
            true => String::new(),
            false => json!(record.event.details).to_string(),
        };
        table.push(&[
            number.to_string(),
            local_time(record.at),
            record.by.address.to_string(),
            text(&json!(record.by.how)),
            text(&json!(record.event.action)),
            record.event.subject.clone().unwrap_or_default(),
            details,
        ]);
    }
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
