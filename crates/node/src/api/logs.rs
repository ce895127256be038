//! `GET /api/logs`: the last lines of the log, from memory.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use edge_mirror_base::log::{Journal, JournalEntry, parse_level};
use edge_mirror_http::wire::ApiQuery;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

const DEFAULT_LINES: usize = 200;
const MAX_LINES: usize = 1000;

/// Texts, so that a mistake gets a plain message, not a parser's.
#[derive(Debug, Deserialize)]
pub(super) struct LogQuery {
    level: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct LogLines {
    /// Oldest first.
    lines: Vec<JournalEntry>,
}

pub(super) async fn lines(
    State(journal): State<Journal>,
    ApiQuery(wish): ApiQuery<LogQuery>,
) -> Result<Response, ApiError> {
    let level = wish.level.as_deref().unwrap_or("TRACE");
    let Some(level) = parse_level(level) else {
        return Err(invalid(
            "level 应为 TRACE、DEBUG、INFO、WARNING 或 ERROR / level is TRACE, DEBUG, INFO, WARNING or ERROR",
        ));
    };
    let number = |text: &Option<String>| text.as_deref().map(str::parse::<u64>).transpose();
    let (Ok(after), Ok(limit)) = (number(&wish.after), number(&wish.limit)) else {
        return Err(invalid("after 和 limit 应为整数 / after and limit are whole numbers"));
    };
    let limit = limit.map_or(DEFAULT_LINES, |limit| limit.clamp(1, MAX_LINES as u64) as usize);
    Ok(Json(LogLines { lines: journal.lines(after, level, limit) }).into_response())
}

fn invalid(text: &str) -> ApiError {
    ApiError::Invalid(text.to_owned())
}
