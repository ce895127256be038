//! `GET /api/v1/history`: downloads and nodes over the last day or thirty days.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use edge_mirror_base::clock::UnixMillis;
use edge_mirror_http::wire::ApiQuery;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api::csv::{CsvTable, TableFormat, local_time},
    refusal::RequestError,
    server::Server,
    state::history::{HistoryPeriod, HistoryStep},
};

#[derive(Deserialize)]
pub(crate) struct HistoryQuery {
    #[serde(default)]
    step: QueriedStep,
    #[serde(default)]
    format: TableFormat,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum QueriedStep {
    Minute,
    #[default]
    Hour,
}

/// Periods, the oldest first. Those in which the main server did not run are missing.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PeriodList {
    /// Seconds of a period.
    step: u64,
    periods: Vec<HistoryPeriod>,
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    ApiQuery(asked): ApiQuery<HistoryQuery>,
) -> Result<Response, RequestError> {
    let step = match asked.step {
        QueriedStep::Minute => HistoryStep::Minute,
        QueriedStep::Hour => HistoryStep::Hour,
    };
    let kept_s = server.clock.now().as_secs().saturating_sub(step.kept_for().as_secs());
    let reading = server.records.history(step, UnixMillis::from_secs(kept_s)).await;
    let periods = reading.map_err(|error| RequestError::RecordsUnavailable(error.to_string()))?;
    Ok(match asked.format {
        TableFormat::Csv => table(&periods).into_response("edge-mirror-history.csv"),
        TableFormat::Json => {
            Json(json!(PeriodList { step: step.length().as_secs(), periods })).into_response()
        }
    })
}

fn table(periods: &[HistoryPeriod]) -> CsvTable {
    let names = [
        "time",
        "redirects",
        "own_downloads",
        "refused_downloads",
        "bytes_served",
        "nodes",
        "silent_nodes",
        "running_meetings",
    ];
    let mut table = CsvTable::new(&names);
    for HistoryPeriod { at, figures } in periods {
        let figures = [
            figures.redirects,
            figures.own_downloads,
            figures.refused_downloads,
            figures.bytes_served,
            figures.nodes,
            figures.silent_nodes,
            figures.running_meetings,
        ];
        let row: Vec<_> =
            [local_time(*at)].into_iter().chain(figures.map(|n| n.to_string())).collect();
        table.push(&row);
    }
    table
}
